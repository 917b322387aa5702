"""Who runs first: the order of the tasks in each round of the scheduler, from a seed or as recorded.

Trio gives every task that is ready one step per round, and leaves the order open. So exactly these
orders are what a simulation may choose from: no task can be held back for two rounds.

A schedule is a policy and *deviations*. The policy "seeded" shuffles every round; "canonical" lets
tasks run in the order in which they were spawned. A deviation says, for one round, the order as
positions in the canonical one; a seeded run is the canonical run with the deviations it reports.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import trio

__all__ = ["Deviations", "Policy", "Scheduler"]

Policy: TypeAlias = Literal["seeded", "canonical"]
Deviations: TypeAlias = Mapping[int, tuple[int, ...]]
"""For numbers of rounds, the order in that round: positions in the order of spawning."""


class Scheduler(trio.abc.Instrument):
    """Orders every round, and writes down who ran. An `Order` and a Trio instrument.

    Args:
        policy: "seeded" or "canonical".
        stream: decides, if the policy is "seeded".
        deviations: orders that are to be taken as they are.
        between: called with the tasks of each round before any of them runs. Must not raise.

    Attributes:
        round: the number of the present round, from 1.
        choices: rounds in which there was more than one task to choose from.
        steps: numbers of the tasks that ran, in order; 0 ends a round.
        taken: the deviations from the canonical order so far.
    """

    def __init__(
        self,
        policy: Policy,
        stream: random.Random,
        *,
        deviations: Deviations | None = None,
        between: Callable[[list[trio.lowlevel.Task]], None] | None = None,
    ) -> None:
        self.policy = policy
        self.round = 0
        self.choices = 0
        self.steps = array("I")
        self.taken: dict[int, tuple[int, ...]] = {}
        self._shuffle = stream.shuffle
        self._deviations = dict(deviations or {})
        self._between = between
        self._numbers: dict[trio.lowlevel.Task, int] = {}
        self._spawned = 0

    # Trio's instrument

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Number a task."""
        self._spawned = self._numbers[task] = self._spawned + 1

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Forget a task."""
        del self._numbers[task]

    def number_of(self, task: trio.lowlevel.Task) -> int:
        """The position of a task in the order of spawning, from 1; 0 for one of another run."""
        return self._numbers.get(task, 0)

    def tasks(self) -> list[trio.lowlevel.Task]:
        """The tasks that have not ended, in the order of spawning."""
        return list(self._numbers)

    # Order

    def shuffle(self, batch: list[trio.lowlevel.Task], /) -> None:
        """Put a round in order; Trio takes tasks from the end of the list."""
        self.round = number = self.round + 1
        if len(batch) > 1:
            self.choices += 1
            self._arrange(number, batch)
            self.steps.extend(map(self._numbers.__getitem__, reversed(batch)))
        elif batch:
            self.steps.append(self._numbers[batch[0]])
        self.steps.append(0)
        if self._between is not None:
            self._between(batch)

    def _arrange(self, number: int, batch: list[trio.lowlevel.Task]) -> None:
        count = len(batch)
        order = list(range(count))
        wanted = self._deviations.get(number)
        if wanted is not None:
            # What was recorded of a round that is of another size now still says whom to prefer.
            first = [position for position in wanted if position < count]
            order = first + [position for position in order if position not in first]
        elif self.policy == "seeded":
            self._shuffle(order)
        spawned = batch.copy()
        batch[:] = [spawned[position] for position in reversed(order)]
        if order != sorted(order):
            self.taken[number] = tuple(order)

    def random(self) -> float:
        """Part of the interface; not asked while rounds are sorted first."""
        return 0.0

    def uniform(self, low: float, high: float, /) -> float:
        """Part of the interface: the offset of a clock that is not used."""
        return low
