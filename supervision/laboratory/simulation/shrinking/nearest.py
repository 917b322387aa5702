"""The run that passes and is nearest to a shrunk failure."""

from __future__ import annotations

from collections.abc import Iterator

from supervision.laboratory.chaos.faults.kinds import describe_fault
from supervision.laboratory.simulation.outcome import Outcome
from supervision.laboratory.simulation.replaying.parting import agreement, parting
from supervision.laboratory.simulation.shrinking.candidates import Candidate, Trials

__all__ = ["nearest_pass"]

_SEEDS = 5  # the number of seeds to try if no candidate has passed


def nearest_pass(trials: Trials, failed: Outcome) -> str:
    """Describe the run that passes and agrees longest with a failed run; empty if no run passed.

    Args:
        trials: the trials of the failure. If no candidate has passed, a few seeds are tried with the same input.
        failed: the outcome of the best candidate.
    """
    found = trials.passing or list(_other_seeds(trials))
    if not found:
        return ""
    candidate, outcome = max(found, key=lambda pair: agreement(failed, pair[1]))
    what = _changes(
        trials.best, candidate, seed=None if outcome.seed == trials.seed else outcome.seed
    )
    return f"the nearest run that passes has {what}: {parting(failed, outcome)}"


def _other_seeds(trials: Trials) -> Iterator[tuple[Candidate, Outcome]]:
    candidate = trials.best.with_schedule(None)
    for seed in range(trials.seed, trials.seed + _SEEDS):
        if trials.budget.spent:
            return
        trials.budget.used += 1
        outcome = trials.outcome(candidate, seed=seed)
        if outcome.passed:
            yield candidate, outcome


def _changes(best: Candidate, other: Candidate, *, seed: int | None) -> str:
    """Describe the input of a run by its differences from the best candidate."""
    found = [] if seed is None else [f"seed {seed}"]
    removed = [each for each in best.faults or () if each not in (other.faults or ())]
    added = [each for each in other.faults or () if each not in (best.faults or ())]
    found += [f"no {describe_fault(fault)}" for fault in removed]
    found += [f"{describe_fault(fault)} instead" for fault in added]
    found += [
        f"{name}={value!r}" for name, value in other.params.items() if best.params[name] != value
    ]
    if other.deviations is None:
        found.append("the schedule of its seed")
    elif other.deviations != best.deviations:
        found.append("another order of tasks")
    if other.draws != best.draws:
        found.append("other draws")
    return " and ".join(found) or "the same input"
