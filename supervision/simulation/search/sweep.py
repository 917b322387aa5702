"""Running a scenario with many seeds, in all the processes that the machine has cores for.

    for result in sweep(scenario, range(1, 1001)):
        if result.failure is not None:
            print(result.seed, result.problem)

The results come in the order of the seeds, whichever was done first, so that a report of a sweep is the same each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import msgspec
from attrs import evolve, field, frozen

from supervision.chaos.faults.plan import FaultPlan
from supervision.chaos.faults.report import InertPlan
from supervision.recording.entropy import derive
from supervision.simulation.errors import Diverged, RunFileError
from supervision.simulation.knobs import Knobs
from supervision.simulation.outcome import Outcome, identify
from supervision.simulation.replaying.run_file import RunFile, describe_run, find_scenario
from supervision.simulation.replaying.self_check import check_determinism
from supervision.simulation.scenario import Scenario, scenario_name, settings_of
from supervision.simulation.search.workers import Lost, cores, in_workers
from supervision.simulation.simulate import simulate

__all__ = ["SeedResult", "knobs_of", "sweep"]

Measure = Callable[[Outcome], Mapping[str, float]]

_PARTS = 1_000_000


@frozen(kw_only=True)
class SeedResult:
    """What came of one seed of a sweep.

    Attributes:
        seed: which.
        failure: what kind of failure it was, alike for all that fail alike; None if the run passed.
        problem: what went wrong, in full.
        inert: whether nothing of its plan of faults was applied. That is no failure here, as it is for `simulate`: of
            plans that chance draws, some find nothing to be done to. If it is so with all seeds, the plan is wrong.
        run: the run file of a failure. None if it passed, and if there was no end of the run to write down.
        lost: whether the run never came to an end: its process died, or its time was up.
        diverged: how the run differed when it was repeated in a fresh process; None if it did not, or was not.
        checked: whether it was repeated.
        seconds: virtual seconds that it took.
        took: real seconds. Not part of what makes two results equal.
        steps: steps of tasks.
        events: events of the trace.
        digest: of the trace.
        faults: how many of the planned faults came to what: "applied", "not_applicable", "masked".
        sometimes: what the scenario has declared to happen sometimes, and whether it did.
        measures: what was measured, where a measure was asked for.
    """

    seed: int
    failure: str | None = None
    problem: str | None = None
    inert: bool = False
    run: RunFile | None = None
    lost: bool = False
    diverged: str | None = None
    checked: bool = False
    seconds: float = 0.0
    took: float = field(default=0.0, eq=False)
    steps: int = 0
    events: int = 0
    digest: str = ""
    faults: dict[str, int] = field(factory=dict)
    sometimes: dict[str, bool] = field(factory=dict)
    measures: dict[str, float] = field(factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the run came to its end, and nothing was found."""
        return self.failure is None


def sweep(
    scenario: Scenario,
    seeds: Sequence[int],
    *,
    jobs: int | None = None,
    knobs: Knobs | None = None,
    swarm: bool = True,
    params: Mapping[str, Any] | None = None,
    faults: FaultPlan = None,
    check: float = 0.01,
    limit: float = 60.0,
    renew: int = 200,
    measure: Measure | None = None,
) -> Generator[SeedResult, None, None]:
    """Run a scenario with each of the seeds, in forked processes, and yield the results in the order of the seeds.

        failures = [result for result in sweep(scenario, range(1, 201)) if not result.passed]

    A worker that dies is reported with its seed, and replaced. Leaving the loop ends all workers at once.

    Args:
        scenario: as for `simulate`. What it prints is not shown.
        seeds: whole numbers.
        jobs: how many processes; as many as there are cores, if None. 0 runs everything in this process: for
            debuggers and coverage, and without a limit of real time.
        knobs: settings of the worlds; the scenario's own, if None.
        swarm: whether the knobs are drawn anew for each seed, from `knobs` (see `Knobs.drawn`).
        params: for the scenario; of types that JSON has.
        faults: a plan for each run, in place of the scenario's own; `()` is none.
        check: the share of the runs that pass that is repeated in a fresh process; each failure is, unless this is 0.
        limit: real seconds that a run may take, its check included.
        renew: runs after which a worker is replaced, so that memory stays bounded in long sweeps.
        measure: asked about each outcome, for `SeedResult.measures`.

    Raises:
        ValueError: a number is out of its range.
        RunFileError: the parameters are of types that JSON does not have.

    Not guaranteed: that a process that was killed for memory was the one that used it.
    """
    if jobs is not None and jobs < 0:
        raise ValueError(
            f"jobs is {jobs}; write how many processes, 0 for this one, None for one per core"
        )
    if not limit > 0:
        raise ValueError(f"limit is {limit}; write the real seconds that a run may take")
    if not 0 <= check <= 1:
        raise ValueError(f"check is {check}; write a share from 0 to 1")
    if renew < 1:
        raise ValueError(f"renew is {renew}; write after how many runs a worker is replaced")
    plan = _Plan(
        scenario=scenario,
        knobs=knobs,
        swarm=swarm,
        params=dict(params or {}),
        faults=faults,
        check=check if _can_be_found(scenario) else 0.0,
        measure=measure,
    )
    plan.try_to_write(seeds)
    if jobs == 0:
        return (plan.run(seed) for seed in seeds)
    return _forked(plan, seeds, cores() if jobs is None else jobs, limit, renew)


def _forked(
    plan: _Plan, seeds: Sequence[int], jobs: int, limit: float, renew: int
) -> Generator[SeedResult, None, None]:
    answers = in_workers(plan.encoded, seeds, jobs=jobs, limit=limit, renew=renew)
    for seed, answer in zip(seeds, answers, strict=True):
        if isinstance(answer, Lost):
            said = f"\n{answer.said.rstrip()}" if answer.said else ""
            problem = f"{answer.why}{said}"
            yield SeedResult(seed=seed, failure=answer.kind, problem=problem, lost=True)
        else:
            yield msgspec.json.decode(answer, type=SeedResult)


@frozen(kw_only=True)
class _Plan:
    """What is the same for all seeds of a sweep."""

    scenario: Scenario
    knobs: Knobs | None
    swarm: bool
    params: dict[str, Any]
    faults: FaultPlan
    check: float
    measure: Measure | None

    def try_to_write(self, seeds: Sequence[int]) -> None:
        """Find out now, and not in a worker, whether runs can be written down."""
        try:
            msgspec.json.encode(self.params)
        except TypeError as error:
            raise RunFileError(
                f"{scenario_name(self.scenario)} cannot be swept: {error}; give the scenario params of types that "
                "JSON has"
            ) from error

    def encoded(self, seed: int) -> bytes:
        return msgspec.json.encode(self.run(seed))

    def run(self, seed: int) -> SeedResult:
        began = time.perf_counter()
        outcome = simulate(
            self.scenario,
            seed,
            knobs=knobs_of(self.scenario, seed, self.knobs, swarm=self.swarm),
            params=self.params,
            faults=self.faults,
        )
        result = _result_of(outcome)
        if self.measure is not None:
            result = evolve(result, measures=dict(self.measure(outcome)))
        if self._to_check(outcome):
            result = _checked(result, outcome)
        return evolve(result, took=time.perf_counter() - began)

    def _to_check(self, outcome: Outcome) -> bool:
        if not outcome.passed:
            return self.check > 0
        return derive(outcome.seed, "self-check") % _PARTS < self.check * _PARTS


def knobs_of(scenario: Scenario, seed: int, knobs: Knobs | None, *, swarm: bool) -> Knobs:
    """The knobs with which a seed is run: those that are given or the scenario's own, drawn anew if it is a swarm."""
    settled: Knobs = knobs or settings_of(scenario).knobs or Knobs()
    return settled.drawn(seed) if swarm else settled


def _can_be_found(scenario: Scenario) -> bool:
    try:
        return find_scenario(scenario_name(scenario)) is scenario
    except RunFileError:
        return False


def _result_of(outcome: Outcome) -> SeedResult:
    error = outcome.error
    failed = error is not None and not isinstance(error, InertPlan)
    statuses = [report.status for report in outcome.fault_reports]
    return SeedResult(
        seed=outcome.seed,
        failure=identify(error) if failed else None,
        problem=None if error is None else f"{type(error).__name__}: {error}",
        inert=isinstance(error, InertPlan),
        run=describe_run(outcome) if failed else None,
        seconds=outcome.seconds,
        steps=outcome.steps,
        events=outcome.events,
        digest=outcome.digest,
        faults={status: statuses.count(status) for status in dict.fromkeys(statuses)},
        sometimes=dict(outcome.sometimes),
    )


def _checked(result: SeedResult, outcome: Outcome) -> SeedResult:
    try:
        check_determinism(outcome, hash_seed=outcome.seed % 4_000_000_000 + 1, junk=997)
    except (Diverged, RunFileError) as error:
        return evolve(result, checked=True, diverged=str(error))
    return evolve(result, checked=True)
