"""The order of the tasks in each round of the scheduler, from a seed or as recorded.

In each round, Trio runs every ready task for one step, in any order. A simulation chooses among these orders. So it
cannot delay a ready task to a later round.

A schedule is a policy and *deviations*. The policy "seeded" shuffles every round. "pct" and "reshuffle" give each task
a random priority, so that two tasks keep their order for many rounds: "pct" now and then makes one task the last, and
"reshuffle" now and then draws all priorities anew. The policy "canonical" runs tasks in the order of their spawning. A
deviation changes the order of one round. It contains positions in the canonical order, or the names of the tasks that
it reorders. A run of any policy is the canonical run with the deviations that it reports.

Naming a task is slow, so the scheduler names tasks only on request, and only in the rounds that need names.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterable
from threading import get_ident
from typing import Literal, TypeAlias

import trio

from supervision.laboratory.simulation.scheduling.deviations import (
    Deviation,
    Schedule,
    SchedulePlan,
    distinct,
    moved,
)
from supervision.laboratory.simulation.scheduling.trio_internals import make_ready

__all__ = ["Policy", "Scheduler"]

Policy: TypeAlias = Literal["seeded", "pct", "reshuffle", "canonical"]


class Scheduler(trio.abc.Instrument):
    """The object that orders the tasks of every round for Trio, and records the tasks that ran.

    Args:
        policy: the policy.
        stream: the random numbers of the policy.
        change: for "pct" and "reshuffle", the chance that priorities change in a round with a choice.
        deviations: orders that replace the policy in some rounds.
        between: called with the tasks of each round before any of them runs. It must not raise.
        now: returns the virtual time, for named deviations.
        label: returns the name of a task.
        naming: record deviations with names too.

    Attributes:
        round: the number of the current round, from 1.
        choices: the number of rounds with more than one task.
        steps: the numbers of the tasks that ran, in order; 0 ends a round.
        taken: the deviations from the canonical order so far.
        named: the deviations with names, if `naming` is set.
        numbers: the position of each living task in the order of spawning, from 1.
        dead: the tasks that never run again, such as the tasks of a killed node. Do not iterate over this set.
    """

    def __init__(
        self,
        policy: Policy,
        stream: random.Random,
        *,
        change: float = 0.1,
        deviations: Schedule = None,
        between: Callable[[list[trio.lowlevel.Task]], None] | None = None,
        now: Callable[[], float] | None = None,
        label: Callable[[trio.lowlevel.Task], str] | None = None,
        naming: bool = False,
    ) -> None:
        self.policy = policy
        self._thread = get_ident()
        self.round = 0
        self.choices = 0
        self.steps = array("I")
        self.taken: dict[int, tuple[int, ...]] = {}
        self.dead: set[trio.lowlevel.Task] = set()
        self._paused: set[trio.lowlevel.Task] = set()
        # The paused tasks that could run, in the order in which they could.
        self._held: list[trio.lowlevel.Task] = []
        self._batch: list[trio.lowlevel.Task] = []
        self._chance = stream.random
        self._change = change
        # The tasks with small numbers run first.
        self._priorities: dict[trio.lowlevel.Task, float] = {}
        self.named: list[Deviation] = []
        self._plan = SchedulePlan(deviations)
        self._between = between
        self._now = now or (lambda: 0.0)
        self._label = label or (lambda task: task.name)
        self._naming = naming
        self._unplanned = policy == "seeded" and not deviations and not naming
        # Count moments and turns only if something needs them.
        self._timed = naming or self._plan.named
        self._moment = -1.0
        self._turn = 0
        self.numbers: dict[trio.lowlevel.Task, int] = {}
        self._spawned = 0

    # Trio's instrument

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Number a task."""
        self._spawned = self.numbers[task] = self._spawned + 1

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Forget a task."""
        del self.numbers[task]
        self._priorities.pop(task, None)

    def tasks(self) -> list[trio.lowlevel.Task]:
        """Return the tasks that have not ended, in the order of spawning."""
        return list(self.numbers)

    def living(self) -> list[trio.lowlevel.Task]:
        """Return the tasks that have not ended and may run again, in the order of spawning."""
        return [task for task in self.numbers if task not in self.dead]

    def kill(self, tasks: Iterable[trio.lowlevel.Task]) -> None:
        """Never run these tasks again, not even in the current round."""
        self.dead.update(tasks)
        self._paused.difference_update(self.dead)
        self._held = [task for task in self._held if task not in self.dead]
        self._batch[:] = [task for task in self._batch if task not in self.dead]

    def pause(self, tasks: Iterable[trio.lowlevel.Task]) -> None:
        """Do not run these tasks until `resume`, not even in the current round."""
        self._paused.update(tasks)
        self._hold(self._batch)

    def resume(self, tasks: Iterable[trio.lowlevel.Task]) -> None:
        """Run these tasks again, from the next round on."""
        self._paused.difference_update(tasks)
        held, self._held = self._held, []
        make_ready([task for task in held if task not in self._paused])
        self._held = [task for task in held if task in self._paused]

    def _hold(self, batch: list[trio.lowlevel.Task]) -> None:
        self._held += [task for task in batch if task in self._paused]
        batch[:] = [task for task in batch if task not in self._paused]

    # Order

    def shuffle(self, batch: list[trio.lowlevel.Task], /) -> None:
        """Put the tasks of a round in order. Trio takes tasks from the end of the list."""
        if get_ident() != self._thread:
            # A run of Trio in another thread asks the same object. Its rounds are not part of the simulation, and they
            # may fall into the middle of a step of the simulation. Trio allows any order for them.
            return
        self.round = number = self.round + 1
        self._batch = batch
        if self.dead:
            batch[:] = [task for task in batch if task not in self.dead]
        if self._paused:
            self._hold(batch)
        if self._timed:
            self._count_turn()
        steps, numbers = self.steps, self.numbers
        if len(batch) == 1:
            # The fast path for most rounds.
            steps.append(numbers[batch[0]])
        elif len(batch) == 2 and self._unplanned:
            # The fast path for most other rounds.
            self.choices += 1
            if self._chance() < 0.5:
                self.taken[number] = (1, 0)
            else:
                batch.reverse()
            steps.append(numbers[batch[1]])
            steps.append(numbers[batch[0]])
        elif batch:
            self.choices += 1
            self._arrange(number, batch)
            steps.extend([numbers[task] for task in reversed(batch)])
        steps.append(0)
        if self._between is not None:
            self._between(batch)

    def _count_turn(self) -> None:
        now = self._now()
        if now != self._moment:
            self._moment, self._turn = now, 0
        self._turn += 1

    def _arrange(self, number: int, batch: list[trio.lowlevel.Task]) -> None:
        count = len(batch)
        order = self._plan.order(number, count)
        if order is None and self._timed and self._plan.wants(self._moment):
            order = self._plan.exchanged(self._moment, self._turn, self._labels(batch))
        if order is None:
            order = list(range(count))
            if self.policy == "seeded":
                # The algorithm of random.shuffle, in half its time.
                for last in range(count - 1, 0, -1):
                    chosen = int(self._chance() * (last + 1))
                    order[last], order[chosen] = order[chosen], order[last]
            elif self.policy != "canonical":
                order = self._by_priority(batch)
        spawned = batch.copy()
        batch[:] = [spawned[position] for position in reversed(order)]
        if order != list(range(count)):
            self.taken[number] = tuple(order)
            if self._naming:
                self._name(number, order, spawned)

    def _by_priority(self, batch: list[trio.lowlevel.Task]) -> list[int]:
        priorities, chance = self._priorities, self._chance
        changes = chance() < self._change
        if changes and self.policy == "reshuffle":
            priorities.clear()
        for task in batch:
            if task not in priorities:
                priorities[task] = chance()
        if changes and self.policy == "pct":
            # The number of the round is greater than all earlier priorities.
            priorities[min(batch, key=priorities.__getitem__)] = float(self.round)
        return sorted(range(len(batch)), key=lambda position: priorities[batch[position]])

    def _name(self, number: int, order: list[int], spawned: list[trio.lowlevel.Task]) -> None:
        self.named.append(
            Deviation(
                round=number,
                order=tuple(order),
                seconds=self._moment,
                turn=self._turn,
                tasks=moved(self._labels(spawned), order),
            )
        )

    def _labels(self, batch: list[trio.lowlevel.Task]) -> list[str]:
        return distinct(map(self._label, batch))

    # The rest of Trio's interface

    def random(self) -> float:
        """Return any number. Trio does not call this in its deterministic mode."""
        return 0.0

    def uniform(self, low: float, high: float, /) -> float:
        """Return the offset of Trio's own clock, which a simulation does not use."""
        return low
