"""Sweeps: the same results in any number of processes, and no lost results."""

import pytest
import trio

from supervision.laboratory.chaos.faults.kinds import Kill
from supervision.laboratory.chaos.faults.moments import At
from supervision.laboratory.simulation.errors import RunFileError
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.outcome import Outcome
from supervision.laboratory.simulation.replaying.run_file import run_again
from supervision.laboratory.simulation.scenario import Scenario
from supervision.laboratory.simulation.search.report import ENOUGH_SEEDS, SweepReport
from supervision.laboratory.simulation.search.sweep import SeedResult, sweep
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario, simulate
from tests.simulation.scenarios import crashing_tree, iterates_over_a_set
from tests.simulation.sweep_scenarios import (
    FAILURES,
    checks_at_every_seed,
    ends_its_process,
    rarely_fails,
)

SMALL = {"groups": 2, "workers": 4, "rounds": 5}


def test_a_sweep_gives_the_same_results_in_any_number_of_processes() -> None:
    one, two, none = (
        list(sweep(crashing_tree, range(1, 9), jobs=jobs, params=SMALL, check=0))
        for jobs in (1, 2, 0)
    )
    assert one == two == none
    assert [result.seed for result in one] == list(range(1, 9))
    assert len({result.steps_digest for result in one}) == 8
    assert all(result.passed and result.steps and result.took > 0 for result in one)


def test_a_result_of_a_sweep_equals_the_outcome_of_simulate() -> None:
    (result,) = sweep(crashing_tree, [5], jobs=1, params=SMALL, swarm=False, check=0)
    outcome = simulate(crashing_tree, 5, params=SMALL)
    assert (result.steps_digest, result.steps, result.seconds) == (
        outcome.steps_digest,
        outcome.steps,
        outcome.seconds,
    )


def test_a_failure_comes_with_a_run_file_that_fails_in_the_same_way() -> None:
    failed = [
        each for each in sweep(rarely_fails, range(1, 41), jobs=2, check=0) if not each.passed
    ]
    assert {result.failure for result in failed} == FAILURES
    for result in failed:
        assert result.run is not None
        again = run_again(result.run)
        assert (again.digest, again.steps_digest) == (result.run.digest, result.steps_digest)
        assert f"{type(again.error).__name__}: {again.error}" == result.problem


def test_knobs_are_drawn_for_each_seed_unless_swarm_is_false() -> None:
    def quanta(*, swarm: bool) -> set[float]:
        results = sweep(
            checks_at_every_seed,
            range(1, 21),
            jobs=0,
            knobs=Knobs(quantum=0.3),
            check=0,
            swarm=swarm,
        )
        return {result.run.knobs.quantum for result in results if result.run is not None}

    assert len(quanta(swarm=True)) > 2
    assert quanta(swarm=False) == {0.3}


def test_runs_that_end_their_process_or_hang_are_reported_with_their_seeds() -> None:
    results = list(sweep(ends_its_process, range(1, 10), jobs=2, real_seconds=3.0, check=0))
    assert [result.seed for result in results] == list(range(1, 10))
    lost = {result.seed: result.failure for result in results if result.lost}
    assert lost == {3: "SIGSEGV", 5: "time limit", 7: "exit"}
    assert all(result.passed for result in results if not result.lost)
    assert "sweep_scenarios.py" in str(results[4].problem)


def test_a_fresh_process_repeats_every_failure_and_a_share_of_passing_runs() -> None:
    results = list(sweep(rarely_fails, range(1, 16), jobs=2, check=1e-9))
    assert [result.checked for result in results] == [not result.passed for result in results]
    assert sum(result.checked for result in results) >= 2
    assert not any(result.diverged for result in results)


def test_a_passing_run_that_the_seed_does_not_decide_is_found() -> None:
    (result,) = sweep(iterates_over_a_set, [1], jobs=1, check=1)
    assert result.passed
    assert result.checked
    assert "a set" in str(result.diverged)


def test_the_results_have_the_measures() -> None:
    def measure(outcome: Outcome) -> dict[str, float]:
        return {"twice": outcome.seconds * 2}

    results = list(sweep(rarely_fails, range(1, 4), jobs=2, measure=measure, check=0))
    assert [result.measures["twice"] for result in results] == [2 * r.seconds for r in results]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"jobs": -1}, "jobs=-1"),
        ({"real_seconds": 0}, "real_seconds=0"),
        ({"check": 1.5}, "check=1.5"),
        ({"renew": 0}, "renew=0"),
    ],
)
def test_a_number_out_of_its_range_is_refused_at_once(
    options: dict[str, int], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        sweep(rarely_fails, [1], **options)  # type: ignore[arg-type]


def test_parameters_without_a_json_form_are_refused_at_once() -> None:
    with pytest.raises(RunFileError, match="types that JSON has"):
        sweep(rarely_fails, [1], params={"most": object()})


# The report


def report_of(scenario: Scenario, seeds: range) -> SweepReport:
    report = SweepReport(scenario="a:b")
    for result in sweep(scenario, seeds, jobs=0, check=0):
        report.add(result)
    return report


def test_a_report_counts_failures_by_their_kind() -> None:
    report = report_of(rarely_fails, range(1, 41))
    assert report.runs == 40
    assert set(report.failures) == FAILURES
    assert report.failed == sum(len(alike.seeds) for alike in report.failures.values())
    for alike in report.failures.values():
        assert alike.first.seed == alike.seeds[0] == min(alike.seeds)
    assert not report.passed
    assert report.as_data()["failed"] == report.failed


def seen(seed: int, **sometimes: bool) -> SeedResult:
    return SeedResult(seed=seed, sometimes=sometimes)


def test_a_condition_that_is_never_true_fails_a_sweep_of_enough_seeds() -> None:
    report = SweepReport(scenario="a:b")
    for seed in range(ENOUGH_SEEDS - 1):
        report.add(seen(seed, restart=seed == 3, refusal=False))
    assert report.unseen == ["refusal"]
    assert report.passed
    report.add(seen(ENOUGH_SEEDS, restart=False, refusal=False))
    assert not report.passed
    report.add(seen(ENOUGH_SEEDS + 1, refusal=True))
    assert report.passed
    assert report.sometimes == {"restart": 1, "refusal": 1}


def test_a_report_counts_the_faults_by_status() -> None:
    report = SweepReport(scenario="a:b")
    report.add(SeedResult(seed=1, faults={"applied": 3, "masked": 1}))
    report.add(SeedResult(seed=2, faults={"applied": 2, "not_applicable": 1}))
    assert report.faults == {"applied": 5, "masked": 1, "not_applicable": 1}


@scenario(faults=[Kill(target="/nobody", when=At(1))])
async def aims_at_nobody(world: World) -> None:
    """A scenario whose plan has no target."""
    await trio.sleep(2)


def test_a_plan_without_an_applied_fault_in_any_run_fails_a_sweep() -> None:
    results = list(sweep(aims_at_nobody, [1, 2], jobs=0, check=0))
    assert all(result.passed and result.inert for result in results)
    assert "none of the 1 planned faults was applied" in str(results[0].problem)
    report = SweepReport(scenario="a:b")
    for result in results:
        report.add(result)
    assert not report.passed
    report.add(SeedResult(seed=3, faults={"applied": 1}))
    assert report.passed
    assert (report.inert, report.inert_runs) == (results[0], 2)


def test_a_passing_run_that_differs_in_a_fresh_process_fails_a_sweep() -> None:
    report = SweepReport(scenario="a:b")
    report.add(SeedResult(seed=1, checked=True, diverged="at event 3"))
    assert not report.passed
    assert report.as_data()["diverged"] == [{"seed": 1, "difference": "at event 3"}]
