"""The choice of the rare states from which a sweep starts further runs. *pure*."""

from __future__ import annotations

from attrs import define, field

from supervision.laboratory.simulation.forks import ForkedSeed
from supervision.laboratory.simulation.search.report import SweepReport

__all__ = ["FORKS", "Forking"]

FORKS = 10
"""The number of runs from each rare state."""

_RARE = 0.25  # a condition is rare if a smaller share of the runs reaches it
_DEPTH = 3  # the most forks in one run


@define(eq=False)
class Forking:
    """The forks of one sweep.

        forking = Forking(10)
        for fork in forking.of(report): ...

    Args:
        number: the number of runs from each rare state.
    """

    number: int = FORKS
    _done: set[str] = field(factory=set, init=False)

    def of(self, report: SweepReport) -> list[ForkedSeed]:
        """Return forks at the rare `sometimes` conditions that the sweep has first reached since the last call.

        Each fork starts from the first passing run that reached the condition. This run may have forks itself.
        """
        seeds = report.runs - report.forked
        found = []
        for name, first in report.reached.items():
            if name in self._done:
                continue
            self._done.add(name)
            if report.sometimes.get(name, 0) < _RARE * seeds and len(first.forks) < _DEPTH:
                found += [first.then(name, number) for number in range(1, self.number + 1)]
        return found
