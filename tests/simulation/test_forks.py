"""Forks: runs that repeat another run up to a rare state, and then make other random choices."""

from pathlib import Path

import msgspec
import pytest
import trio

from supervision.laboratory.chaos.faults.kinds import Kill
from supervision.laboratory.chaos.faults.moments import At
from supervision.laboratory.simulation.forks import Fork, ForkedSeed
from supervision.laboratory.simulation.replaying.run_file import (
    load_run,
    replay,
    run_again,
    save_run,
)
from supervision.laboratory.simulation.replaying.self_check import check_determinism
from supervision.laboratory.simulation.search.corpus import Corpus
from supervision.laboratory.simulation.search.report import Forking, SweepReport
from supervision.laboratory.simulation.search.sweep import SeedResult, sweep
from supervision.laboratory.simulation.search.terminal import Sweeping
from supervision.laboratory.simulation.shrinking.shrink import shrink
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario, simulate

DEEP = "the second door is open"


async def doors(world: World) -> None:
    """Reach a rare state, and from there a second rare state. Fail in the second state with about 1 seed in 230."""
    chance = world.random("doors")
    for number in range(3):
        await trio.sleep(chance.random())
        world.note(f"draw {number}")
    is_open = chance.random() < 0.12
    world.sometimes("the first door is open", is_open)
    if not is_open:
        return
    await trio.sleep(1)
    is_open = chance.random() < 0.12
    world.sometimes(DEEP, is_open)
    if is_open:
        await trio.sleep(1)
        world.check(chance.random() > 0.3, "a trap is behind the second door")


FIRST = "the first door is open"


def opened() -> int:
    """Return a seed with which only the first door opens."""
    for seed in range(1, 100):
        outcome = simulate(doors, seed)
        if outcome.sometimes == {FIRST: True, DEEP: False}:
            return seed
    raise AssertionError("no seed opens the first door")


def notes(trace: list[bytes]) -> list[str]:
    events = map(msgspec.json.decode, trace)
    return [event["text"] for event in events if event["kind"] == "note"]


def test_a_fork_is_the_same_run_up_to_its_moment_and_another_one_after_it() -> None:
    seed = opened()
    plain = simulate(doors, seed)
    forks = [simulate(doors, seed, forks=[Fork(FIRST, number)]) for number in range(1, 6)]
    for fork in forks:
        forked_at = notes(fork.trace).index("the run forks here")
        assert forked_at == 3
        common = next(n for n, line in enumerate(fork.trace) if b"forks here" in line)
        assert fork.trace[:common] == plain.trace[:common]
    assert len({fork.digest for fork in forks}) == 5


def test_a_fork_is_deterministic() -> None:
    seed = opened()
    one, two = (simulate(doors, seed, forks=[Fork(FIRST, 3)]) for _ in range(2))
    assert (one.digest, one.steps_digest) == (two.digest, two.steps_digest)
    check_determinism(one)


def test_a_fork_at_a_state_that_the_run_does_not_reach_changes_nothing() -> None:
    seed = opened()
    assert simulate(doors, seed).digest == simulate(doors, seed, forks=[Fork(DEEP, 1)]).digest


def test_streams_that_the_program_holds_and_the_functions_of_random_fork_too() -> None:
    async def draws(world: World) -> None:
        import random

        held = world.random("held")
        held.random()
        world.sometimes("now")
        world.note(f"{held.random()} {random.random()} {world.runtime.uuid()}")

    texts = {
        tuple(notes(simulate(draws, 1, forks=forks).trace)[-1].split())
        for forks in ((), [Fork("now", 1)], [Fork("now", 2)])
    }
    assert all(len(set(column)) == 3 for column in zip(*texts, strict=True))


def forked_results(first: int = 8) -> tuple[SweepReport, list[SeedResult]]:
    report, forking, found = SweepReport(scenario="doors"), Forking(10), []
    seeds: list[int | ForkedSeed] = [*range(first, first + 40)]
    while seeds:
        for result in sweep(doors, seeds, jobs=0, check=0, bare=0):
            report.add(result)
            found.append(result)
        seeds = [*forking.of(report)]
    return report, found


def test_a_sweep_forks_at_rare_states_and_reaches_deeper_ones() -> None:
    report, results = forked_results()
    assert report.forked > 0
    assert report.sometimes == {FIRST: 3, DEEP: 0}
    assert report.forked_sometimes[DEEP] > 0
    # A run that forked at the first door forks again at the second door.
    assert any([fork.at for fork in each.forks] == [FIRST, DEEP] for each in results)
    assert report.failures, "the trap behind the second door"


def test_common_states_do_not_fork() -> None:
    report = SweepReport(scenario="any")
    for seed in range(10):
        report.add(SeedResult(seed=seed, sometimes={"common": True, "rare": seed == 4}))
    forks = Forking(2).of(report)
    assert forks == [ForkedSeed(4, [Fork("rare", 1)]), ForkedSeed(4, [Fork("rare", 2)])]


def test_each_state_forks_once_and_failing_runs_do_not_fork() -> None:
    report, forking = SweepReport(scenario="any"), Forking(1)
    report.add(SeedResult(seed=1, failure="fails", sometimes={"rare": True}))
    assert forking.of(report) == []
    report.add(SeedResult(seed=2, sometimes={"rare": False}))
    for seed in range(3, 20):
        report.add(SeedResult(seed=seed, sometimes={"rare": seed == 7}))
    assert forking.of(report) == [ForkedSeed(7, [Fork("rare", 1)])]
    assert forking.of(report) == []


def test_a_failed_fork_replays_from_its_file_and_shrinks(tmp_path: Path) -> None:
    _, results = forked_results()
    failed = next(each for each in results if each.failure is not None)
    assert failed.run is not None
    assert failed.run.forks == failed.forks != ()
    again = run_again(failed.run, scenario=doors)
    assert (again.digest, again.steps_digest) == (failed.run.digest, failed.run.steps_digest)
    path = tmp_path / "run.json"
    save_run(again, path)
    assert load_run(path).forks == failed.forks
    assert not replay(path).passed
    shrunk = shrink(failed.run, scenario=doors)
    assert shrunk.run.failure == failed.failure
    assert run_again(shrunk.run, scenario=doors).digest == shrunk.run.digest


def test_shrinking_removes_a_fork_that_the_failure_does_not_need() -> None:
    @scenario(faults=[Kill(target="/nobody", when=At(9.0))])
    async def always(world: World) -> None:
        world.sometimes("begun")
        await trio.sleep(1)
        world.check(False, "it never holds")

    outcome = simulate(always, 1, forks=[Fork("begun", 5)])
    assert shrink(outcome, scenario=always).run.forks == ()


def test_the_command_forks_and_shows_the_forks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweeping = Sweeping(
        scenario=doors,
        seeds=range(8, 48),
        jobs=0,
        swarm=True,
        shrink=False,
        corpus=Corpus(tmp_path),
        params={},
        stop_after=1,
        forks=10,
        strategy="auto",
        deviations=1,
        limit=1,
        bare=0.0,
        check=0.0,
        real_seconds=60.0,
        json_file=None,
    )
    assert not sweeping.run()
    shown = capsys.readouterr()
    assert f"from the first `{FIRST}` on" in shown.out
    assert "of them forked at rare states" in shown.out
