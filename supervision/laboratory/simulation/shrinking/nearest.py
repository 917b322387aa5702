"""The run that passes and is nearest to a shrunk failure."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from supervision.laboratory.chaos.faults.kinds import describe_fault
from supervision.laboratory.simulation.outcome import Outcome
from supervision.laboratory.simulation.replaying.parting import agreement, parting
from supervision.laboratory.simulation.replaying.story import Story, fault_text
from supervision.laboratory.simulation.shrinking.candidates import Candidate, Trials

__all__ = ["nearest_pass"]

_SEEDS = 5  # the number of seeds to try if no candidate has passed


def nearest_pass(trials: Trials, failed: Outcome) -> str:
    """Describe the run that passes and agrees longest with a failed run; empty if no run passed.

    Args:
        trials: the trials of the failure. If no candidate has passed, a few seeds are tried with the same input.
        failed: the outcome of the best candidate.
    """
    kept = sorted(trials.passing, key=lambda pair: trials.best.distance(pair[0]))
    found = kept or list(_other_seeds(trials))
    if not found:
        return ""
    candidate, outcome = max(found, key=lambda pair: agreement(failed, pair[1]))
    if outcome.seed == trials.seed:
        what = list(_changes(failed, trials.best, candidate))
    else:
        what = [f"has seed {outcome.seed}"]
    return f"the nearest run that passes {' and '.join(what)}: {parting(failed, outcome)}"


def _other_seeds(trials: Trials) -> Iterator[tuple[Candidate, Outcome]]:
    # The draws of the failure would have the same values with every seed.
    candidate = attrs.evolve(trials.best, deviations=None, draws=())
    for seed in range(trials.seed, trials.seed + _SEEDS):
        if trials.budget.spent:
            return
        trials.budget.used += 1
        outcome = trials.outcome(candidate, seed=seed)
        if outcome.passed:
            yield candidate, outcome


def _changes(failed: Outcome, best: Candidate, other: Candidate) -> Iterator[str]:
    """Describe the input of a run by its differences from the best candidate."""
    story = Story(failed.trace, failed.failed_at, failed.tasks)
    for report in failed.fault_reports:
        if report.fault not in (other.faults or ()):
            yield f"lacks the fault {fault_text(report, story)!r}"
    for fault in other.faults or ():
        if fault not in (best.faults or ()):
            yield f"has the fault {describe_fault(fault)!r}"
    for name, value in other.params.items():
        if best.params[name] != value:
            yield f"has {name}={value!r}"
    if other.deviations is None:
        yield "has the schedule of its seed"
    elif other.deviations != best.deviations:
        yield "has another order of tasks"
    if other.draws != best.draws:
        yield "has other draws"
