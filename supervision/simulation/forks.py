"""Forks: runs that are equal up to a rare state, and make other choices from there.

    simulate(scenario, seed=7, forks=[Fork(at="a join found the room closing", seed=1)])

This run is the run of seed 7 up to the moment when the scenario first passes a true condition of that name to
`world.sometimes`. At that moment, all random streams begin anew from the seed of the fork. The plan of faults stays the
same. So a sweep that has found a rare state once can start many runs there.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import field, frozen

__all__ = ["Fork", "ForkedSeed", "described"]


@frozen
class Fork:
    """A moment at which a run gets other random numbers.

    Args:
        at: the name of the `world.sometimes` condition. Its first true value is the moment.
        seed: a whole number. Each number gives another continuation.
    """

    at: str
    seed: int

    def __str__(self) -> str:
        return f"other random numbers ({self.seed}) from the first `{self.at}` on"


@frozen
class ForkedSeed:
    """A run that forks, as an item of `sweep`.

        sweep(scenario, [ForkedSeed(7, [Fork("a join found the room closing", n)]) for n in range(10)])

    Args:
        seed: the seed of the run.
        forks: the forks.
    """

    seed: int
    forks: tuple[Fork, ...] = field(converter=tuple[Fork, ...])

    def then(self, name: str, number: int) -> ForkedSeed:
        """Return this run with a further fork."""
        return ForkedSeed(self.seed, (*self.forks, Fork(name, number)))


def described(forks: Iterable[Fork]) -> str:
    """Describe the forks of a run for a report; empty without forks."""
    return ", then ".join(map(str, forks))
