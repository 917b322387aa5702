"""Run a scenario with many seeds, on all cores.

    for result in sweep(scenario, range(1, 1001)):
        if result.failure is not None:
            print(result.seed, result.problem)

The results come in the order of the seeds, so a repeated sweep has the same report.
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
from supervision.simulation.outcome import Outcome, identify, problem_of
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
    """The result of one seed of a sweep.

    Attributes:
        seed: the seed.
        failure: the kind of failure, equal for runs that fail alike; None if the run passed.
        problem: the whole text of the failure.
        inert: True if no fault of the plan was applied. `simulate` reports such runs as failures. A sweep does not,
            because some random plans find no target. If the runs of all seeds are inert, the plan is wrong.
        run: the run file of a failure; None if the run passed or was lost.
        lost: True if the process of the run died or reached the time limit.
        diverged: the difference in a fresh process; None without a difference or without a check.
        checked: True if a fresh process repeated the run.
        seconds: the virtual seconds of the run.
        took: the real seconds of the run. The comparison of two results ignores this field.
        steps: the number of steps of its tasks.
        events: the number of events in the trace.
        digest: the digest of the trace.
        faults: the number of planned faults with each status: "applied", "not_applicable", "masked".
        sometimes: for each name that the scenario passed to `world.sometimes`, True if the condition was ever true.
        measures: the result of the `measure` argument of `sweep`.
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
        """True if the run ended without a failure."""
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
    """Run a scenario with each seed, in forked processes, and yield the results in the order of the seeds.

        failures = [result for result in sweep(scenario, range(1, 201)) if not result.passed]

    If a worker dies, the result of its seed has `lost` set, and a new worker takes its place. When memory is short, the
    system may kill a worker although its run did not use the memory. If the caller leaves the loop, all workers end
    immediately.

    Args:
        scenario: as for `simulate`. The sweep hides its output.
        seeds: whole numbers.
        jobs: the number of processes; None takes one per core. 0 runs everything in this process, without the time
            limit; use it for debuggers and coverage.
        knobs: the settings of the worlds; None takes the scenario's own.
        swarm: draw the knobs anew for each seed, from `knobs` (see `Knobs.drawn`).
        params: parameters of the scenario, of types that JSON has.
        faults: a plan that replaces the scenario's own in each run; `()` for no faults.
        check: the share of passing runs that a fresh process repeats. Unless this is 0, it also repeats all failures.
        limit: the real seconds that a run may take, including its check.
        renew: replace a worker after this many runs, so that memory stays bounded in long sweeps.
        measure: called with each outcome, for `SeedResult.measures`.

    Raises:
        ValueError: a number is out of its range.
        RunFileError: the parameters have types that JSON does not have.
    """
    if jobs is not None and jobs < 0:
        raise ValueError(
            f"jobs is {jobs}; write the number of processes, 0 for this process, or None for one per core"
        )
    if not limit > 0:
        raise ValueError(f"limit is {limit}; write a number of seconds greater than 0")
    if not 0 <= check <= 1:
        raise ValueError(f"check is {check}; write a share from 0 to 1")
    if renew < 1:
        raise ValueError(f"renew is {renew}; write a number of runs, 1 or more")
    plan = _Plan(
        scenario=scenario,
        knobs=knobs,
        swarm=swarm,
        params=dict(params or {}),
        faults=faults,
        check=check if _can_be_found(scenario) else 0.0,
        measure=measure,
    )
    plan.try_to_write()
    if jobs == 0:
        return (plan.run(seed) for seed in seeds)
    return _forked(plan, seeds, cores() if jobs is None else jobs, limit, renew)


def _forked(
    plan: _Plan, seeds: Sequence[int], jobs: int, limit: float, renew: int
) -> Generator[SeedResult, None, None]:
    answers = in_workers(plan.encoded, seeds, jobs=jobs, limit=limit, renew=renew)
    for seed, answer in zip(seeds, answers, strict=True):
        if isinstance(answer, Lost):
            problem = f"{answer.why}\n{answer.said}".rstrip()
            yield SeedResult(seed=seed, failure=answer.kind, problem=problem, lost=True)
        else:
            yield msgspec.json.decode(answer, type=SeedResult)


@frozen(kw_only=True)
class _Plan:
    """The part of a sweep that is the same for all seeds."""

    scenario: Scenario
    knobs: Knobs | None
    swarm: bool
    params: dict[str, Any]
    faults: FaultPlan
    check: float
    measure: Measure | None

    def try_to_write(self) -> None:
        """Fail here, and not in a worker, if JSON cannot express the parameters."""
        try:
            msgspec.json.encode(self.params)
        except TypeError as error:
            raise RunFileError(
                f"{scenario_name(self.scenario)} cannot be swept: {error}; use params of types that JSON has"
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
    """Return the knobs for a seed: `knobs` or the scenario's own. With `swarm`, draw some of them from the seed."""
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
        problem=None if error is None else problem_of(error),
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
