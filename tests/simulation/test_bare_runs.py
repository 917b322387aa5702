"""Bare runs have no instruments. Each process still has a path and the same random numbers as with instruments."""

from collections.abc import Iterator
from io import StringIO

import msgspec
import pytest
import trio
from rich.console import Console

from actors import GenServer, Reply, call, current_runtime
from supervision import Supervisor, child_spec
from supervision.laboratory.chaos.faults.kinds import Fault, Kill, Raise
from supervision.laboratory.chaos.faults.moments import At, On
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.replaying.run_file import (
    RunFile,
    describe_run,
    encode_run,
    run_again,
)
from supervision.laboratory.simulation.search.findings import Finding
from supervision.laboratory.simulation.search.report import SweepReport
from supervision.laboratory.simulation.search.sweep import SeedResult, is_bare, sweep
from supervision.laboratory.simulation.search.terminal import print_finding
from supervision.laboratory.simulation.shrinking.shrink import shrink
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate
from tests.simulation.scenarios import crashing_tree

BARE = Knobs(bare=True)
SMALL = {"groups": 2, "workers": 4, "rounds": 5}


class Counter(GenServer[int]):
    async def init(self) -> None:
        self.state = 0

    async def handle_call(self, request: object, sender: object) -> Reply:
        self.state += 1
        return Reply((self.state, current_runtime().random.random()))


async def counts(world: World) -> None:
    """Count with two servers. Record the instruments, the path of a process, and a random number."""
    specs = [child_spec(Counter, id="one", kwargs={"name": "one"}), child_spec(Counter, id="two")]
    await Supervisor.start_link(specs, label="top")
    await trio.sleep(1)
    two = world.find("/top/two")
    assert two is not None
    world.note(
        "seen",
        instruments=len(world.runtime.instruments),
        path=world.path_of(two),
        number=(await call(two, "count"))[1],
    )


def notes(trace: list[bytes]) -> Iterator[dict[str, object]]:
    for event in map(msgspec.json.decode, trace):
        if event["kind"] == "note":
            yield event


def test_a_bare_run_has_no_instruments_and_knows_the_places_of_processes() -> None:
    outcome = simulate(counts, 7, knobs=BARE).check()
    (seen,) = notes(outcome.trace)
    assert seen["instruments"] == "0"
    assert seen["path"] == "'/top/two'"
    assert outcome.bare
    assert not simulate(counts, 7).bare


def test_a_bare_run_draws_the_random_numbers_of_the_same_run_with_instruments() -> None:
    (bare,), (watched,) = (
        notes(simulate(counts, 7, knobs=knobs).trace) for knobs in (BARE, Knobs())
    )
    assert bare["number"] == watched["number"]


def test_a_bare_run_takes_the_same_steps_as_the_run_with_instruments() -> None:
    bare, watched = (
        simulate(crashing_tree, 3, knobs=knobs, params=SMALL, faults=())
        for knobs in (BARE, Knobs())
    )
    assert bare.steps_digest == watched.steps_digest
    assert bare.events < watched.events


def test_a_bare_run_replays_from_its_run_file() -> None:
    outcome = simulate(crashing_tree, 3, knobs=BARE, params=SMALL)
    file = encode_run(describe_run(outcome))
    again = run_again(msgspec.json.decode(file, type=RunFile))
    assert again.bare
    assert (again.digest, again.steps_digest) == (outcome.digest, outcome.steps_digest)


def test_a_bare_run_has_only_the_faults_that_need_no_instrument() -> None:
    timed = Kill(target="/top/one", when=At(0.5))
    waiting: list[Fault] = [
        Kill(target="/top/two", when=On("init")),
        Raise(target="/top/two", when=At(0.5)),
    ]
    plan: list[Fault] = [timed, *waiting]
    outcome = simulate(counts, 7, knobs=BARE, faults=plan)
    assert outcome.faults == (timed,)
    assert [report.status for report in outcome.fault_reports] == ["applied"]


def test_a_bare_run_whose_whole_plan_is_left_out_passes() -> None:
    assert simulate(counts, 7, knobs=BARE, faults=[Kill(target="/x", when=On("init"))]).passed
    assert simulate(counts, 7, knobs=BARE, faults=[Kill(target="/x", when=At(0.1))]).passed


@pytest.mark.parametrize(
    ("share", "seeds"), [(0.125, [8, 16, 24]), (0.0, []), (0.25, [4, 8, 12, 16, 20, 24])]
)
def test_the_share_of_bare_seeds_is_exact(share: float, seeds: list[int]) -> None:
    assert [seed for seed in range(1, 25) if is_bare(seed, share)] == seeds


async def hidden(world: World) -> None:
    """Fail only in a run without instruments."""
    world.check(world.runtime.instruments, "an instrument hides the bug")


async def visible(world: World) -> None:
    world.check(False, "nothing hides the bug")


def results(scenario: object) -> list[SeedResult]:
    return list(sweep(scenario, [7, 8], jobs=0, check=0))  # type: ignore[arg-type]


def test_a_sweep_finds_a_failure_that_instruments_hide_and_says_so() -> None:
    report = SweepReport(scenario="hidden")
    for result in results(hidden):
        report.add(result)
    assert (report.bare, report.failed) == (1, 1)
    (alike,) = report.failures.values()
    assert (alike.count, alike.bare, alike.seeds) == (1, 1, [8])
    assert alike.first.run is not None
    shrunk = shrink(alike.first.run, scenario=hidden)
    assert shrunk.outcome.bare


def test_a_failure_that_instruments_do_not_hide_is_reported_with_its_trace() -> None:
    watched, bare = results(visible)
    assert watched.failure == bare.failure
    assert not bare.bare


def test_a_report_shows_a_run_with_instruments_if_one_failed_alike() -> None:
    report = SweepReport(scenario="racy")
    for seed, bare in ((7, True), (8, True), (9, False), (10, False)):
        report.add(SeedResult(seed=seed, bare=bare, failure="check"))
    alike = report.failures["check"]
    assert (alike.first.seed, alike.seeds, alike.bare) == (9, [7, 8, 9, 10], 2)
    text = StringIO()
    print_finding(Console(file=text), report, Finding(failures=alike), {})
    assert text.getvalue().startswith("\ncheck, with seed 9\n")


def test_the_trace_of_a_bare_run_has_no_process() -> None:
    outcome = simulate(crashing_tree, 3, knobs=BARE, params=SMALL, faults=())
    kinds = {msgspec.json.decode(line)["kind"] for line in outcome.trace}
    assert kinds <= {"note", "measure", "heal", "fault"}


def test_a_share_outside_of_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bare=1.5; write a share from 0 to 1"):
        sweep(visible, [1], bare=1.5)
