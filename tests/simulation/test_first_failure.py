"""The search for a first failure, and the small bounds of the sweeps."""

from random import Random

import pytest

from actors._kernel import thread_queue, timer_queue
from supervision.laboratory.simulation.world.world import World
from tests.simulation.campaign import Sweep
from tests.simulation.sweeps.__main__ import main
from tests.simulation.sweeps.bounds import BOUNDS, bounds_without_a_constant, scaled_down
from tests.simulation.sweeps.first_failure import first_failure, run_once

HERE = "tests.simulation.test_first_failure"


async def passes(world: World) -> None:
    pass


async def fails_at_three(world: World) -> None:
    world.check(world.seed != 3, "the seed is 3")


async def fails_at_a_param(world: World) -> None:
    world.check(not world.params.get("fails"), "the param is set")


PASSES = Sweep("passes", f"{HERE}:passes")
FAILS = Sweep("fails", f"{HERE}:fails_at_three")


def test_the_search_ends_at_the_first_failure_and_names_its_sweep_and_seed() -> None:
    found = first_failure([PASSES, FAILS], seconds=30.0)
    assert found.sweep is FAILS
    assert found.result is not None
    assert (found.result.seed, found.seconds < 30.0) == (3, True)
    assert "the seed is 3" in str(found.result.problem)


def test_a_search_without_a_failure_ends_with_its_time() -> None:
    found = first_failure([PASSES], seconds=0.1)
    assert (found.sweep, found.result) == (None, None)
    assert found.runs > 0
    assert 0.1 <= found.seconds < 2.0


def test_the_search_goes_on_after_a_false_alarm_and_passes_the_params_of_a_sweep() -> None:
    param = Sweep("param", f"{HERE}:fails_at_a_param", params={"fails": True})
    found = first_failure([param], seconds=30.0, is_false=lambda sweep, result: result.seed < 4)
    assert found.result is not None
    assert found.result.seed == 4


def test_sweeps_share_the_time_by_their_weights() -> None:
    ran: list[str] = []
    heavy = Sweep("heavy", f"{HERE}:passes", weight=9.0)
    first_failure([PASSES, heavy], seconds=0.5, before=lambda sweep, seed: ran.append(sweep.name))
    assert ran.count("heavy") > 3 * ran.count("passes")


def test_the_command_is_a_search_with_a_limit_of_cpu_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--cpu-seconds", "0.2", "--stop-at-first", "streams of tasks"])
    assert capsys.readouterr().out.startswith("passed after ")


def test_every_bound_that_a_sweep_scales_down_exists() -> None:
    assert bounds_without_a_constant() == []


def test_bounds_are_small_in_some_runs_and_restored_after_each_run() -> None:
    before = timer_queue._REBUILD_FLOOR
    seen = set()
    for seed in range(40):
        with scaled_down(Random(seed)):
            seen.add(timer_queue._REBUILD_FLOOR)
        assert before == timer_queue._REBUILD_FLOOR
    (bound,) = (each for each in BOUNDS if each.name == "_REBUILD_FLOOR")
    assert seen == {before, *bound.small}


def test_a_kept_bound_is_never_small_and_changes_no_other_bound() -> None:
    def sizes(seed: int, kept: tuple[str, ...] = ()) -> tuple[int, int]:
        with scaled_down(Random(seed), kept):
            return timer_queue._REBUILD_FLOOR, thread_queue._BATCH

    before = timer_queue._REBUILD_FLOOR
    for seed in range(40):
        assert sizes(seed, kept=("_REBUILD_FLOOR",)) == (before, sizes(seed)[1])


def test_a_run_repeats_with_its_small_bounds() -> None:
    lockstep = Sweep("lockstep", "tests.simulation.sweeps.channels.lockstep:lockstep")
    one, other = (run_once(lockstep, 5) for _ in range(2))
    assert one.steps_digest == other.steps_digest
