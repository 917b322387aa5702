"""Run a scenario with many seeds, on all cores.

    for result in sweep(scenario, range(1, 1001)):
        if result.failure is not None:
            print(result.seed, result.problem)

The results come in the order of the seeds, so a repeated sweep has the same report.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from attrs import evolve, field, frozen

from actors.arguments import check_number
from supervision.laboratory.chaos.faults.kinds import branch_of
from supervision.laboratory.chaos.faults.plan import FaultPlan
from supervision.laboratory.chaos.faults.report import InertPlan
from supervision.laboratory.entropy import derive
from supervision.laboratory.simulation.errors import Diverged, RunFileError
from supervision.laboratory.simulation.forks import Fork, ForkedSeed
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.outcome import Outcome, identify, problem_of
from supervision.laboratory.simulation.replaying.run_file import (
    RunFile,
    describe_run,
    find_scenario,
)
from supervision.laboratory.simulation.replaying.self_check import check_determinism
from supervision.laboratory.simulation.scenario import Scenario, scenario_name, settings_of
from supervision.laboratory.simulation.scheduling.schedule import Policy
from supervision.laboratory.simulation.search.exhaustive import choices_after
from supervision.laboratory.simulation.search.workers import Lost, cores, in_workers
from supervision.laboratory.simulation.simulate import simulate

__all__ = ["BARE", "SeedResult", "is_bare", "knobs_of", "sweep"]

Measure = Callable[[Outcome], Mapping[str, float]]

BARE = 0.125
"""The share of the runs of a sweep that have no instruments."""

_PARTS = 1_000_000


@frozen(kw_only=True)
class SeedResult:
    """The result of one seed of a sweep.

    Attributes:
        seed: the seed.
        forks: the forks of the run.
        bare: True if the run had no instruments; see `Knobs.bare`. The sweep repeats a failed bare run with
            instruments. If the repetition fails alike, this result describes the repetition.
        failure: the kind of failure, equal for runs that fail alike; None if the run passed.
        problem: the whole text of the failure.
        inert: True if no fault of the plan was applied. `simulate` reports such runs as failures. A sweep does not,
            because some random plans find no target. If the runs of all seeds are inert, the plan is wrong.
        run: the run file of a failure; None if the run passed or was lost.
        lost: True if the process of the run died or reached the time limit.
        diverged: the difference between the run and its repetition in a fresh process; None if there was no difference
            or no repetition.
        checked: True if a fresh process repeated the run.
        seconds: the virtual seconds of the run.
        took: the real seconds of the run. The comparison of two results ignores this field.
        steps: the number of steps of its tasks.
        events: the number of events in the trace.
        steps_digest: the digest of the order in which the tasks ran. A digest of the trace would take much longer to
            compute.
        faults: the number of planned faults with each status: "applied", "not_applicable", "masked".
        branches: the same numbers for each branch of the fault plan, such as `kill` or `crash on init`.
        sometimes: for each name that the scenario passed to `world.sometimes`, True if the condition was ever true.
        measures: the result of the `measure` argument of `sweep`.
        strategy: the policy of the run, with "random" for "seeded"; or "forks" for a run that forks.
        choices: the rounds with a choice after the last deviation of the item, each with its number of tasks; empty
            for an item without deviations.
    """

    seed: int
    forks: tuple[Fork, ...] = ()
    bare: bool = False
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
    steps_digest: str = ""
    faults: dict[str, int] = field(factory=dict)
    branches: Mapping[str, Mapping[str, int]] = field(factory=dict)
    sometimes: dict[str, bool] = field(factory=dict)
    measures: dict[str, float] = field(factory=dict)
    strategy: str = ""
    choices: list[int] = field(factory=list)

    @property
    def passed(self) -> bool:
        """True if the run ended without a failure."""
        return self.failure is None


def sweep(
    scenario: Scenario,
    seeds: Sequence[int | ForkedSeed],
    *,
    jobs: int | None = None,
    knobs: Knobs | None = None,
    swarm: bool = True,
    params: Mapping[str, Any] | None = None,
    faults: FaultPlan = None,
    bare: float = BARE,
    check: float = 0.01,
    check_failures: bool = True,
    real_seconds: float = 60.0,
    cpu_seconds: float | None = None,
    renew: int = 200,
    measure: Measure | None = None,
    policy: Policy | None = None,
) -> Generator[SeedResult, None, None]:
    """Run a scenario with each seed, in forked processes, and yield the results in the order of the seeds.

        failures = [result for result in sweep(scenario, range(1, 201)) if not result.passed]

    If a worker dies, the result of its seed has `lost` set, and a new worker takes its place. When memory is short, the
    system may kill a worker although its run did not use the memory. If the caller leaves the loop, all workers end
    immediately.

    Args:
        scenario: as for `simulate`. The sweep hides its output.
        seeds: whole numbers, and runs that fork.
        jobs: the number of processes; None takes one per core. 0 runs everything in this process, without the time
            limit; use it for debuggers and coverage.
        knobs: the settings of the worlds; None takes the scenario's own.
        swarm: draw the knobs anew for each seed, from `knobs` (see `Knobs.drawn`).
        params: parameters of the scenario, of types that JSON has.
        faults: a plan that replaces the scenario's own in each run; `()` for no faults.
        bare: the share of seeds that run without instruments; 0.125 is every eighth seed. Bare runs show failures that
            the instruments hide. With `measure`, no run is bare, because `measure` may read the trace.
        check: the share of passing runs that a fresh process repeats. Unless this is 0, it also repeats all failures.
        check_failures: False repeats no failures in a fresh process.
        real_seconds: the real seconds that a run may take, including its check.
        cpu_seconds: the CPU seconds that a run may take; None is no limit.
        renew: replace a worker after this many runs, so that memory stays bounded in long sweeps.
        measure: called with each outcome, for `SeedResult.measures`.
        policy: the order of tasks in all runs. None draws it from the seed, if `swarm` is set.

    Returns:
        A generator of the results. It runs the seeds while the caller iterates.

    Raises:
        InvalidOption: a number is out of its range, or a parameter is out of the bounds that its scenario declares.
        RunFileError: the parameters have types that JSON does not have.
    """
    if jobs is not None:
        expected = "the number of processes, 0 for this process, or None for one per core"
        check_number("sweep", "jobs", jobs, expected, least=0)
    check_number(
        "sweep", "real_seconds", real_seconds, "a number of seconds greater than 0", above=0
    )
    check_number("sweep", "check", check, "a share from 0 to 1", least=0, most=1)
    check_number("sweep", "bare", bare, "a share from 0 to 1", least=0, most=1)
    check_number("sweep", "renew", renew, "a number of runs, 1 or more", least=1)
    plan = _Plan(
        scenario=scenario,
        knobs=knobs,
        swarm=swarm,
        params=dict(params or {}),
        faults=faults,
        bare=bare if measure is None else 0.0,
        check=check if _can_be_found(scenario) else 0.0,
        check_failures=check_failures,
        measure=measure,
        policy=policy,
    )
    plan.try_to_write()
    answers = in_workers(
        plan.run,
        seeds,
        SeedResult,
        jobs=cores() if jobs is None else jobs,
        real_seconds=real_seconds,
        cpu_seconds=cpu_seconds,
        renew=renew,
    )
    return _results(plan, seeds, answers)


def _results(
    plan: _Plan, seeds: Sequence[int | ForkedSeed], answers: Iterable[SeedResult | Lost]
) -> Generator[SeedResult, None, None]:
    for item, answer in zip(seeds, answers, strict=True):
        if isinstance(answer, Lost):
            start = _start_of(item)
            yield SeedResult(
                seed=start.seed,
                forks=start.forks,
                failure=answer.kind,
                problem=f"{answer.why}\n{answer.said}".rstrip(),
                lost=True,
                strategy=_strategy_of(start.forks, plan.knobs_of(start)),
            )
        else:
            yield answer


@frozen(kw_only=True)
class _Plan:
    """The part of a sweep that is the same for all seeds."""

    scenario: Scenario
    knobs: Knobs | None
    swarm: bool
    params: dict[str, Any]
    faults: FaultPlan
    bare: float
    check: float
    check_failures: bool
    measure: Measure | None
    policy: Policy | None

    def try_to_write(self) -> None:
        """Fail here, and not in a worker, if the parameters are out of bounds or JSON cannot express them."""
        settings_of(self.scenario).check_params("sweep", self.params)
        try:
            msgspec.json.encode(self.params)
        except TypeError as error:
            raise RunFileError(
                f"{scenario_name(self.scenario)} cannot be swept: {error}; use params of types that JSON has"
            ) from error

    def run(self, item: int | ForkedSeed) -> SeedResult:
        began = time.perf_counter()
        start = _start_of(item)
        knobs = self.knobs_of(start)
        if is_bare(start.seed, self.bare):
            outcome = self._bare(start, knobs)
        else:
            outcome = self._simulate(start, knobs)
        result = _result_of(outcome)
        if start.deviations is not None:
            result = evolve(result, choices=choices_after(outcome.ran, start.deviations))
        if self.measure is not None:
            result = evolve(result, measures=dict(self.measure(outcome)))
        if self._to_check(outcome):
            result = _checked(result, outcome)
        return evolve(result, took=time.perf_counter() - began)

    def knobs_of(self, start: ForkedSeed) -> Knobs:
        knobs = knobs_of(self.scenario, start.seed, self.knobs, swarm=self.swarm)
        policy = self.policy if start.deviations is None else "canonical"
        return knobs if policy is None else evolve(knobs, policy=policy)

    def _bare(self, start: ForkedSeed, knobs: Knobs) -> Outcome:
        """Run a seed without instruments. If the run fails, repeat it with instruments.

        If the repetition fails alike, return the repetition, because its story is better.
        """
        outcome = self._simulate(start, evolve(knobs, bare=True))
        if outcome.passed:
            return outcome
        seen = self._simulate(start, knobs)
        return seen if identify(seen.error) == identify(outcome.error) else outcome

    def _simulate(self, start: ForkedSeed, knobs: Knobs) -> Outcome:
        return simulate(
            self.scenario,
            start.seed,
            knobs=knobs,
            params=self.params,
            faults=self.faults,
            forks=start.forks,
            deviations=start.deviations,
        )

    def _to_check(self, outcome: Outcome) -> bool:
        if not outcome.passed:
            return self.check_failures and self.check > 0
        return derive(outcome.seed, "self-check") % _PARTS < self.check * _PARTS


def _start_of(item: int | ForkedSeed) -> ForkedSeed:
    return item if isinstance(item, ForkedSeed) else ForkedSeed(item)


def is_bare(seed: int, share: float) -> bool:
    """Return True if a seed runs without instruments. With the share 1/8, these are the multiples of 8."""
    return math.floor(seed * share) > math.floor((seed - 1) * share)


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
    branches: dict[str, Counter[str]] = {}
    for report in outcome.fault_reports:
        branches.setdefault(branch_of(report.fault), Counter())[report.status] += 1
    return SeedResult(
        seed=outcome.seed,
        forks=outcome.forks,
        bare=outcome.bare,
        failure=identify(error) if failed else None,
        problem=None if error is None else problem_of(error),
        inert=isinstance(error, InertPlan),
        run=describe_run(outcome) if failed else None,
        seconds=outcome.seconds,
        steps=outcome.steps,
        events=outcome.events,
        steps_digest=outcome.steps_digest,
        faults=Counter(report.status for report in outcome.fault_reports),
        branches=branches,
        sometimes=dict(outcome.sometimes),
        strategy=_strategy_of(outcome.forks, outcome.knobs),
    )


def _strategy_of(forks: Sequence[Fork], knobs: Knobs) -> str:
    if forks:
        return "forks"
    return "random" if knobs.policy == "seeded" else knobs.policy


def _checked(result: SeedResult, outcome: Outcome) -> SeedResult:
    try:
        check_determinism(outcome, hash_seed=outcome.seed % 4_000_000_000 + 1, junk=997)
    except (Diverged, RunFileError) as error:
        return evolve(result, checked=True, diverged=str(error))
    return evolve(result, checked=True)
