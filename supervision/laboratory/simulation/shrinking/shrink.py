"""Shrink a failure: find fewer faults, fewer reordered rounds and a smaller workload that still fail in the same way.

    outcome = simulate(scenario, seed=7)
    shrunk = shrink(outcome)
    print(shrunk.story)
    save_run(shrunk.outcome, Path("failure.json"))

A failed random run has many faults and a shuffled schedule, but the failure needs few faults and few reordered rounds.
So shrinking repeats the run with fewer faults. Then it tries more rounds in the canonical order, smaller parameters,
simpler draws, and rounder numbers. Two runs fail alike if `reason_of` returns the same reason for both failures.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

import attrs
from attrs import field, frozen

from supervision.laboratory.chaos.faults.kinds import Fault, describe_fault
from supervision.laboratory.chaos.faults.report import FaultReport
from supervision.laboratory.chaos.settings import settings_of
from supervision.laboratory.simulation.draws import Draw, Value
from supervision.laboratory.simulation.errors import BudgetSpent, RunFileError
from supervision.laboratory.simulation.forks import Fork
from supervision.laboratory.simulation.outcome import Outcome, failures_in, identify, reason_of
from supervision.laboratory.simulation.replaying.parting import agreement, parting
from supervision.laboratory.simulation.replaying.run_file import (
    RunFile,
    describe_run,
    find_scenario,
)
from supervision.laboratory.simulation.replaying.story import Story, fault_text, tell
from supervision.laboratory.simulation.scheduling.deviations import Deviation
from supervision.laboratory.simulation.shrinking.ddmin import ddmin, least
from supervision.laboratory.simulation.shrinking.simpler import (
    Field,
    aimed,
    fields_of,
    replaced,
    rounder,
    value_of,
)
from supervision.laboratory.simulation.simulate import Scenario, simulate

__all__ = ["Budget", "Candidate", "Shrunk", "Trials", "shrink"]


_RESTARTS = 4
_FEW = 3
_DRAW_TRIALS = 300  # the most trials of simpler draws, because a run may have very many draws
_KEPT = 8  # the most passing runs to keep
_SEEDS = 5  # the number of seeds to try if no candidate has passed


@frozen(kw_only=True)
class Shrunk:
    """The smallest failure that shrinking found.

    Attributes:
        run: the run file.
        story: the story, in a few lines.
        difference: the difference between this run and the nearest run that passes, in a few lines; empty if none of
            the runs passed.
        runs: the number of runs that shrinking made.
        seconds: the real seconds that shrinking took.
        complete: False if shrinking ran out of its budget.
        faults: the remaining faults.
        deviations: the remaining deviations from the canonical order.
        params: the remaining parameters.
        outcome: the outcome of the run, with the trace.
    """

    run: RunFile
    story: str
    difference: str
    runs: int
    seconds: float
    complete: bool
    faults: tuple[Fault, ...]
    deviations: tuple[Deviation, ...]
    params: dict[str, Any]
    outcome: Outcome = field(repr=False)


def shrink(
    failure: Outcome | RunFile,
    *,
    scenario: Scenario | None = None,
    max_runs: int = 1000,
    max_seconds: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
    progress: Progress | None = None,
) -> Shrunk:
    """Make a failure as small as possible.

        shrunk = shrink(simulate(scenario, seed=7))

    Args:
        failure: the outcome of `simulate`, or its run file.
        scenario: the scenario, if it is not a function of a module that can be imported.
        max_runs: the most runs.
        max_seconds: the most real seconds. Shrinking finishes a run that has begun.
        clock: returns the real seconds.
        progress: called after each run with the numbers of runs, of remaining faults and of remaining deviations.

    Returns:
        The smallest failure. It is the given failure if nothing smaller fails.

    Raises:
        RuntimeError: the caller is within Trio.
        RunFileError: the run now passes or fails in another way, or its scenario does not exist.

    Unless the budget ran out, the run passes if you remove any single remaining fault or deviation. It may still fail
    if you remove two.
    """
    run = failure if isinstance(failure, RunFile) else describe_run(failure)
    budget = Budget(max_runs, max_seconds, clock)
    trials = Trials(scenario or find_scenario(run.scenario), run, budget, progress)
    _Shrinking(trials, run.knobs.quantum).all()
    best = trials.best
    outcome = trials.outcome(best, whole=True)
    difference = _nearest_pass(trials, outcome)
    return Shrunk(
        run=describe_run(outcome),
        story=tell(outcome),
        difference=difference,
        runs=budget.used,
        seconds=budget.took,
        complete=not trials.cut_short,
        faults=best.faults or (),
        deviations=best.deviations or (),
        params=dict(best.params),
        outcome=outcome,
    )


class _Shrinking:
    """The steps of shrinking, in their order."""

    def __init__(self, trials: Trials, quantum: float) -> None:
        self.trials = trials
        self.quantum = quantum
        self._draw_trials = _DRAW_TRIALS

    @property
    def best(self) -> Candidate:
        """The smallest failure so far."""
        return self.trials.best

    def all(self) -> None:
        """Take all steps, and repeat them as long as they help."""
        trials = self.trials
        # Most failures also happen in the canonical order.
        if self.best.forks:
            trials.fails(attrs.evolve(self.best, forks=()))
        trials.fails(self.best.with_schedule(()))
        begin = self.best
        self.faults(begin.faults or ())
        self._rest()
        self._other_faults(begin)

    def _other_faults(self, begin: Candidate) -> None:
        """Try to remove faults in other orders, because the first order may have missed a smaller set."""
        trials, faults = self.trials, begin.faults or ()
        stream = Random(trials.seed)
        for attempt in range(_RESTARTS):
            found = self.best
            left = len(found.faults or ())
            if left < 2 or (left <= _FEW and attempt >= _RESTARTS // 2) or trials.budget.spent:
                return
            trials.best = begin
            self.faults(stream.sample(faults, k=len(faults)))
            if len(self.best.faults or ()) < left:
                self._rest()
            else:
                trials.best = found

    def _rest(self) -> None:
        while True:
            before = self.best
            self.schedule()
            self.workload()
            self.targets()
            self.numbers()
            self.draws()
            if self.best == before or self.trials.budget.spent:
                return
            self.faults(self.best.faults or ())

    # Faults

    def faults(self, faults: Sequence[Fault]) -> None:
        """Remove faults. Try the faults at the end of `faults` first."""
        order = {id(fault): number for number, fault in enumerate(self.best.faults or ())}

        def fails(some: list[Fault]) -> bool:
            # The faults of a run keep the order of the plan, although the trials may use another order.
            return self._fails(faults=tuple(sorted(some, key=lambda fault: order[id(fault)])))

        ddmin(faults, fails)

    def _fails(self, **changes: Any) -> bool:
        """Return True if the best candidate fails with these changes, in its own schedule or in the seed's schedule."""
        changed = attrs.evolve(self.best, **changes)
        if not changed.deviations:
            return self.trials.fails(changed)
        return self.trials.fails(changed, changed.with_schedule(None))

    # Schedule

    def schedule(self) -> None:
        """Remove the deviations that the failure does not need."""
        trials, all_of_it = self.trials, self.best.deviations or ()
        if not all_of_it:
            return
        best = self.best
        self._deviations(all_of_it)
        self._tasks()
        if len(self.best.deviations or ()) < 2:
            return
        # Try other orders too: `ddmin` may have removed a deviation that alone is enough for the failure.
        found, stream = self.best, Random(trials.seed)
        for _ in range(_RESTARTS):
            trials.best = best
            self._deviations(stream.sample(all_of_it, k=len(all_of_it)))
            self._tasks()
            if len(self.best.deviations or ()) < len(found.deviations or ()):
                found = self.best
            if len(found.deviations or ()) < 2 or trials.budget.spent:
                break
        trials.best = found

    def _deviations(self, some: Sequence[Deviation]) -> None:
        best = self.best
        ddmin(some, lambda part: self.trials.fails(best.with_schedule(part)))

    def _tasks(self) -> None:
        """Reorder fewer tasks in each remaining deviation."""
        for index in range(len(self.best.deviations or ())):
            deviations = self.best.deviations or ()
            if index < len(deviations) and len(deviations[index].tasks) > 2:
                self._tasks_of(index, deviations[index])

    def _tasks_of(self, index: int, deviation: Deviation) -> None:
        best = self.best
        rest = best.deviations or ()

        def fails(tasks: list[str]) -> bool:
            if len(tasks) < 2:
                return False
            smaller = attrs.evolve(deviation, tasks=tuple(tasks))
            return self.trials.fails(
                best.with_schedule((*rest[:index], smaller, *rest[index + 1 :]))
            )

        ddmin(deviation.tasks, fails)

    # Workload

    def workload(self) -> None:
        """Lower the integers among the parameters of the scenario, within the bounds that it declares."""
        for name, value in self.best.params.items():
            if isinstance(value, int) and not isinstance(value, bool):
                bound, _ = self.trials.bounds.get(name, (0, 0))
                least(value, partial(self._fails_with, name), lowest=math.ceil(max(bound, 0)))

    def _fails_with(self, name: str, number: int) -> bool:
        failed = self._fails(params={**self.best.params, name: number})
        if failed:
            self.schedule()
        return failed

    # Draws

    def draws(self) -> None:
        """Make the values simpler that the scenario draws from `world.random`, unless the run becomes longer."""
        begun = self.best
        some = [each for each in self.trials.drawn if not each.is_simple]

        def fails(kept: list[Draw]) -> bool:
            own = set(map(id, kept))
            changed = [each for each in some if id(each) not in own]
            return self._draws_fail(
                begun, [attrs.evolve(each, value=each.simplest) for each in changed]
            )

        ddmin(some, fails)
        for draw in [each for each in self.trials.drawn if not each.is_simple]:
            # An earlier draw may have changed the calls after it.
            if draw in self.trials.drawn:
                self._draw(draw)
        if len(self.best.deviations or ()) > len(begun.deviations or ()):
            self.schedule()

    def _draw(self, draw: Draw) -> None:
        """Lower one value that cannot be replaced by its simplest value."""
        best = self.best

        def fails(value: Value) -> bool:
            return self._draws_fail(best, [attrs.evolve(draw, value=value)])

        if isinstance(draw.value, int):
            least(draw.value, fails)
        else:
            nearer = rounder(draw.value) if isinstance(draw.value, float) else draw.simpler_orders()
            any(map(fails, nearer))

    def _draws_fail(self, base: Candidate, changes: Sequence[Draw]) -> bool:
        if not self._draw_trials:
            return False
        self._draw_trials -= 1
        draws = {(each.purpose, each.number): each for each in (*base.draws, *changes)}
        other = attrs.evolve(base, draws=tuple(draws.values()))
        candidates = [other]
        if other.deviations:
            candidates += [_loose(other), other.with_schedule(None)]
        return self.trials.fails(*candidates, most=self.trials.steps)

    # The rest of the faults

    def targets(self) -> None:
        """Replace the pattern or the count in each fault with the process that the fault affected."""
        for index, fault in enumerate(self.best.faults or ()):
            report = next((each for each in self.trials.reports if each.fault == fault), None)
            if report is not None:
                nearby = aimed(fault, report.target, report.incarnation)
                any(self._fault_fails(index, near) for near in nearby)
        # Faults that need each other must change together.
        reports = {report.fault: report for report in self.trials.reports}
        known = [(fault, reports.get(fault)) for fault in self.best.faults or ()]
        simpler = [
            [] if report is None else list(aimed(fault, report.target, report.incarnation))
            for fault, report in known
        ]
        for number in range(2 if sum(map(bool, simpler)) > 1 else 0):
            faults = zip(self.best.faults or (), simpler, strict=True)
            if self._fails(
                faults=tuple(near[number] if near[number:] else fault for fault, near in faults)
            ):
                return

    def _fault_fails(self, index: int, fault: Fault) -> bool:
        faults = list(self.best.faults or ())
        faults[index] = fault
        return self._fails(faults=tuple(faults))

    def numbers(self) -> None:
        """Round the times of faults, and lower their counts.

        First change all equal numbers together, and then each number alone.
        """
        alike: dict[tuple[Field, float], list[int]] = {}
        for index, fault in enumerate(self.best.faults or ()):
            for where in fields_of(fault):
                alike.setdefault((where, value_of(fault, where)), []).append(index)
        for (where, value), indices in alike.items():
            if len(indices) > 1:
                self._lower(tuple(indices), where, value)
        for index, fault in enumerate(self.best.faults or ()):
            for where in fields_of(fault):
                self._lower((index,), where, value_of(fault, where))

    def _lower(self, indices: tuple[int, ...], where: Field, value: float) -> None:
        if isinstance(value, int):
            least(value, lambda near: self._number_fails(indices, where, near), lowest=1)
        else:
            any(self._number_fails(indices, where, near) for near in rounder(value))

    def _number_fails(self, indices: tuple[int, ...], where: Field, number: float) -> bool:
        best = self.best
        faults = list(best.faults or ())
        before = value_of(faults[indices[0]], where)
        try:
            for index in indices:
                faults[index] = replaced(faults[index], where, number)
        except (ValueError, TypeError):
            # The number is invalid for this fault.
            return False
        changed = attrs.evolve(best, faults=tuple(faults))
        deviations = best.deviations or ()
        if not deviations:
            return self.trials.fails(changed)
        moved = [self._later(each, before, number) for each in deviations]
        return self.trials.fails(changed, changed.with_schedule(moved), _loose(changed))

    def _later(self, deviation: Deviation, before: float, now: float) -> Deviation:
        """Return the deviation. If it comes after a fault whose time changes, move it by the same amount."""
        if deviation.seconds is None or deviation.seconds < before:
            return deviation
        step = self._moment(now) - self._moment(before)
        return attrs.evolve(deviation, seconds=deviation.seconds + step)

    def _moment(self, seconds: float) -> float:
        quantum = self.quantum
        return math.ceil(seconds / quantum - 1e-6) * quantum if quantum else seconds


def _loose(candidate: Candidate) -> Candidate:
    """Return a candidate whose deviations apply at any time."""
    return candidate.with_schedule(
        attrs.evolve(each, seconds=None, turn=None) for each in candidate.deviations or ()
    )


Progress = Callable[[int, int, int], None]


@frozen(kw_only=True)
class Candidate:
    """The parts of a run that shrinking makes smaller.

    Attributes:
        faults: the plan; None lets the scenario draw its own.
        params: the parameters of the scenario.
        deviations: the deviations from the canonical schedule; None for the schedule of the seed.
        forks: the moments at which the run begins to use other random numbers.
        draws: the values that replace values drawn from `world.random`.
    """

    faults: tuple[Fault, ...] | None
    params: Mapping[str, Any]
    deviations: tuple[Deviation, ...] | None
    forks: tuple[Fork, ...] = ()
    draws: tuple[Draw, ...] = ()

    def with_schedule(self, deviations: Iterable[Deviation] | None) -> Candidate:
        """Return the same candidate with another schedule."""
        return attrs.evolve(self, deviations=None if deviations is None else tuple(deviations))


class Budget:
    """The limits of shrinking: the most runs, and the most seconds of a clock."""

    def __init__(self, runs: int, seconds: float, clock: Callable[[], float]) -> None:
        self.used = 0
        self._runs = runs
        self._clock = clock
        self._begun = clock()
        self._ends = self._begun + seconds

    @property
    def spent(self) -> bool:
        """True if no runs or no seconds are left."""
        return self.used >= self._runs or self._clock() >= self._ends

    @property
    def took(self) -> float:
        """The real seconds so far."""
        return self._clock() - self._begun


class Trials:
    """The trials of candidates, and the last candidate that failed in the same way as the first run.

    Attributes:
        best: the candidate that failed last, with the deviations of its run.
        reports: the fault reports of the best candidate.
        drawn: the calls of `world.random` of the best candidate.
        steps: the number of steps of the best candidate.
        bounds: the bounds of the scenario's parameters.
        passing: the last candidates that passed, with their outcomes.
        cut_short: True if the budget ran out.
    """

    def __init__(
        self, scenario: Scenario, run: RunFile, budget: Budget, progress: Progress | None
    ) -> None:
        self.budget = budget
        self.seed = run.seed
        self.knobs = run.knobs
        self.failure = run.failure
        self.cut_short = False
        self._passed: set[str] = set()
        self.reports: tuple[FaultReport, ...] = ()
        self.drawn: tuple[Draw, ...] = ()
        self.steps = 0
        self.passing = deque[tuple[Candidate, Outcome]](maxlen=_KEPT)
        self.bounds = settings_of(scenario).bounds
        self._scenario = scenario
        self._progress = progress
        self._max_steps = run.knobs.max_steps
        schedule = run.schedule() if run.knobs.policy == "canonical" else None
        self.best = Candidate(
            faults=run.faults,
            params=dict(run.params),
            deviations=schedule,
            forks=run.forks,
            draws=run.draws,
        )
        self._begin()

    def _begin(self) -> None:
        outcome = self.outcome(self.best)
        failure = identify(outcome.error)
        if failure != self.failure or failure is None:
            raise RunFileError(
                f"there is nothing to shrink: with seed {self.seed} the run of {outcome.scenario} "
                f"{'passes' if failure is None else f'fails with {failure}'} now, and failed with {self.failure} "
                "before; shrink an outcome of simulate(), with the same program"
            )
        assert outcome.error is not None  # only an error has a kind of failure
        self._reason = reason_of(outcome.error)
        if not any(isinstance(each, BudgetSpent) for each in failures_in(outcome.error)):
            # Give up candidates that run much longer than the failure.
            self._max_steps = min(self._max_steps, 10 * outcome.steps + 10_000)
        self._accept(self.best, outcome)

    def outcome(
        self, candidate: Candidate, *, whole: bool = False, seed: int | None = None
    ) -> Outcome:
        """Run a candidate and return the outcome. With `whole`, the knobs set the limit of steps."""
        # A schedule of the seed needs a policy that draws from the seed.
        drawn = "seeded" if self.knobs.policy == "canonical" else self.knobs.policy
        knobs = attrs.evolve(
            self.knobs,
            policy=drawn if candidate.deviations is None else "canonical",
            max_steps=self.knobs.max_steps if whole else self._max_steps,
        )
        return simulate(
            self._scenario,
            self.seed if seed is None else seed,
            knobs=knobs,
            params=candidate.params,
            faults=candidate.faults,
            deviations=candidate.deviations,
            forks=candidate.forks,
            draws=candidate.draws,
            label_tasks=True,
        )

    def fails(self, *candidates: Candidate, most: float = math.inf) -> bool:
        """Return True if a candidate fails in the same way as the first run. That candidate becomes the best.

        Args:
            *candidates: the candidates to try, in order.
            most: the most steps of a run that fails.
        """
        for candidate in candidates:
            if self.budget.spent:
                self.cut_short = True
                return False
            # A run that passed once passes again.
            key = repr(candidate)
            if key in self._passed:
                continue
            self.budget.used += 1
            outcome = self.outcome(candidate)
            alike = outcome.error is not None and reason_of(outcome.error) == self._reason
            failed = alike and outcome.steps <= most
            if failed:
                self._accept(candidate, outcome)
            else:
                self._passed.add(key)
                if outcome.passed:
                    self.passing.append((candidate, outcome))
            if self._progress is not None:
                best = self.best
                self._progress(self.budget.used, len(best.faults or ()), len(best.deviations or ()))
            if failed:
                return True
        return False

    def _accept(self, candidate: Candidate, outcome: Outcome) -> None:
        self.reports = outcome.fault_reports
        self.drawn = outcome.drawn
        self.steps = outcome.steps
        self.best = attrs.evolve(
            candidate,
            faults=outcome.faults,
            params=dict(outcome.params),
            deviations=tuple(outcome.named),
            draws=outcome.draws,
        )


# The nearest run that passes


def _nearest_pass(trials: Trials, failed: Outcome) -> str:
    """Describe the run that passes and agrees longest with a failed run; empty if no run passed.

    Args:
        trials: the trials of the failure. If no candidate has passed, a few seeds are tried with the same input.
        failed: the outcome of the best candidate.
    """
    # The draws of the failure would have the same values with every seed.
    other = attrs.evolve(trials.best, deviations=None, draws=())
    found = list(reversed(trials.passing))
    for seed in range(trials.seed, trials.seed + _SEEDS):
        if not trials.passing and not trials.budget.spent:
            trials.budget.used += 1
            outcome = trials.outcome(other, seed=seed)
            found += [(other, outcome)] if outcome.passed else []
    story = Story(failed.trace, failed.failed_at, failed.tasks)
    told = [(_changes(failed, trials.best, candidate, story), run) for candidate, run in found]
    if not told:
        return ""
    # Of runs that agree equally long, take the one with the fewest changes.
    what, passed = max(told, key=lambda pair: (agreement(failed, pair[1]), -len(pair[0])))
    if passed.seed != trials.seed:
        what = [f"has seed {passed.seed}"]
    return f"the nearest run that passes {' and '.join(what)}: {parting(failed, passed)}"


def _changes(failed: Outcome, best: Candidate, other: Candidate, story: Story) -> list[str]:
    """Describe the input of a run by its differences from the best candidate."""
    faults, params = other.faults or (), other.params.items()
    removed = [each for each in failed.fault_reports if each.fault not in faults]
    added = [fault for fault in faults if fault not in (best.faults or ())]
    what = [f"lacks the fault {fault_text(each, story)!r}" for each in removed]
    what += [f"has the fault {describe_fault(fault)!r}" for fault in added]
    what += [f"has {name}={value!r}" for name, value in params if best.params[name] != value]
    what += ["has another order of tasks"] if other.deviations != best.deviations else []
    return what + (["has other draws"] if other.draws != best.draws else [])
