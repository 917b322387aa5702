"""Forks of a run: runs that are the same up to a rare state, and make other choices after it.

    simulate(scenario, seed=7, forks=[Fork(at="a join found the room closing", seed=1)])

The fork comes when the scenario first passes a true condition with this name to `world.sometimes`. Up to that moment,
the run is the same as the run of seed 7. Then all random streams begin anew from the seed of the fork. The plan of
faults stays the same. So a sweep that has found a rare state once can start many runs there.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen

from supervision.laboratory.simulation.scheduling.deviations import Deviations

__all__ = ["Fork", "ForkedSeed", "described"]


@frozen
class Fork:
    """A moment at which a run begins to use other random numbers.

    Args:
        at: the name of a `world.sometimes` condition. The run forks when the condition is true for the first time.
        seed: a whole number. Each number gives another continuation of the run.
    """

    at: str
    seed: int

    def __str__(self) -> str:
        return f"other random numbers ({self.seed}) from the first `{self.at}` on"


@frozen
class ForkedSeed:
    """A run that forks, or that has another schedule. `sweep` accepts it in place of a seed.

        sweep(scenario, [ForkedSeed(7, [Fork("a join found the room closing", n)]) for n in range(10)])

    Args:
        seed: the seed of the run.
        forks: the forks.
        deviations: the orders of rounds, by round number. All other rounds have the canonical order. None for the
            policy of the knobs.
    """

    seed: int
    forks: tuple[Fork, ...] = field(default=(), converter=tuple[Fork, ...])
    deviations: Deviations | None = None

    def then(self, at: str, number: int) -> ForkedSeed:
        """Return this run with a further fork.

        Args:
            at: the name of a `world.sometimes` condition, at which the run forks.
            number: the seed of the fork. Each number gives another continuation of the run.
        """
        return ForkedSeed(self.seed, (*self.forks, Fork(at, number)))


def described(forks: Iterable[Fork]) -> str:
    """Describe the forks of a run for a report. The text is empty without forks."""
    return ", then ".join(map(str, forks))
