"""Deviations from the canonical schedule, as data that stays valid when a run changes. *pure*.

    Deviation(round=212, order=(1, 0), seconds=0.5, turn=3, tasks=("/top#1", "/registry#1"))

This deviation means: in the third round of the moment 0.5 s, the supervisor ran before the registry. If you remove a
fault or a client from the run, the number of the round and the positions of its tasks change. The moment, the
turn and the names of the tasks mostly stay the same. So a schedule uses the names, and positions only for tasks without
names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from attrs import frozen

__all__ = [
    "Deviation",
    "Deviations",
    "Schedule",
    "SchedulePlan",
    "Tape",
    "distinct",
    "exchange",
    "moved",
]

Deviations: TypeAlias = Mapping[int, tuple[int, ...]]
"""The orders of rounds, by round number. An order lists tasks as positions in the order of spawning."""


@frozen(kw_only=True)
class Deviation:
    """One round of the scheduler that was not in the canonical order.

    Attributes:
        round: the number of the round in the recorded run, from 1.
        order: the order in which the tasks of the round ran, as positions in the order of spawning.
        seconds: the moment, on the virtual clock; None for any moment.
        turn: the number of the round within its moment, from 1; None for the first round in which all `tasks` are
            ready.
        tasks: the tasks that changed places, in the order in which they ran. `/top/room:lobby#2` is the second process
            at that path. A task that is not a process has the name of its function.
    """

    round: int
    order: tuple[int, ...]
    seconds: float | None = None
    turn: int | None = None
    tasks: tuple[str, ...] = ()

    def __str__(self) -> str:
        when = "" if self.seconds is None else f" at {self.seconds:g} s"
        if not self.tasks:
            return f"round {self.round}{when}: positions {', '.join(map(str, self.order))}"
        if len(self.tasks) == 2:
            return f"{self.tasks[0]} ran before {self.tasks[1]}{when}"
        return f"{', then '.join(self.tasks)} ran in this order{when}"


@frozen
class Tape:
    """A whole schedule as a list of numbers, for tools that search through schedules.

        Tape((0, 0, 2))             # at the third choice, the third task runs first

    Args:
        choices: for each round with a choice, the task that runs first, as a position in the order of spawning, modulo
            the number of tasks. 0 is the canonical order. Rounds after the end of the tape also have the canonical
            order.
    """

    choices: tuple[int, ...]


Schedule: TypeAlias = Deviations | Iterable[Deviation] | Tape | None
"""The deviations of a run from the policy of its knobs, in any form."""


class SchedulePlan:
    """The deviations that a run should have. The plan forgets a deviation with names once it has happened."""

    def __init__(self, deviations: Schedule = None) -> None:
        self._orders: dict[int, tuple[int, ...]] = {}
        self._by_moment: dict[float | None, list[Deviation]] = {}
        self._tape: Iterator[int] | None = None
        if isinstance(deviations, Tape):
            self._tape = iter(deviations.choices)
            return
        if isinstance(deviations, Mapping):
            self._orders.update(deviations)
            return
        for deviation in deviations or ():
            if deviation.tasks:
                self._by_moment.setdefault(_moment(deviation.seconds), []).append(deviation)
            else:
                self._orders[deviation.round] = deviation.order

    @property
    def named(self) -> bool:
        """True if the plan refers to tasks by their names."""
        return bool(self._by_moment)

    def order(self, number: int, count: int) -> list[int] | None:
        """Return the planned order for round `number` with `count` tasks; None if the plan has none.

        Call this once for each round with a choice.
        """
        if self._tape is not None:
            first = next(self._tape, 0) % count
            return [first, *(position for position in range(count) if position != first)]
        wanted = self._orders.get(number)
        if wanted is None:
            return None
        # The round may have another size now. The recorded order still decides which tasks come first.
        known = [position for position in wanted if position < count]
        return known + [position for position in range(count) if position not in known]

    def wants(self, seconds: float) -> bool:
        """Return True if the plan needs the names of the tasks at this moment."""
        return _moment(seconds) in self._by_moment or None in self._by_moment

    def exchanged(self, seconds: float, turn: int, labels: Sequence[str]) -> list[int] | None:
        """Return the planned order for a round, found by the names of its tasks; None if the plan has none.

        Args:
            seconds: the moment.
            turn: the number of the round within the moment, from 1.
            labels: the names of the tasks in the round, in the order of spawning.
        """
        for key in (_moment(seconds), None):
            waiting = self._by_moment.get(key)
            if not waiting:
                continue
            found = _due(waiting, turn, labels)
            if found is not None:
                waiting.remove(found)
                return _arranged(found, labels)
        return None


def _moment(seconds: float | None) -> float | None:
    """Round a moment to nanoseconds, because sums of floats are not exact."""
    return None if seconds is None else round(seconds, 9)


def _due(waiting: list[Deviation], turn: int, labels: Sequence[str]) -> Deviation | None:
    """Return the waiting deviation that applies to this round; None if there is none."""
    for deviation in waiting:
        if deviation.turn == turn and _arranged(deviation, labels) is not None:
            return deviation
    present = set(labels)
    for deviation in waiting:
        # The deviation fits any turn, or its own turn passed without its tasks.
        late = deviation.turn is None or deviation.turn < turn
        if late and present.issuperset(deviation.tasks):
            return deviation
    return None


def _arranged(deviation: Deviation, labels: Sequence[str]) -> list[int] | None:
    order = exchange(labels, deviation.tasks)
    if order is None:
        # The same paths may have other incarnations in this run.
        paths = [_path(label) for label in labels]
        wanted = [_path(label) for label in deviation.tasks]
        order = exchange(paths, wanted) if len(set(paths)) == len(paths) else None
    if order is None and len(deviation.order) == len(labels):
        order = list(deviation.order)
    return order


def _path(label: str) -> str:
    return label.rpartition("#")[0] or label


def exchange(labels: Sequence[str], tasks: Sequence[str]) -> list[int] | None:
    """Return the positions of `labels`, with the members of `tasks` rearranged in the order of `tasks`.

        exchange(["a", "b", "c"], ["c", "a"])       # [2, 1, 0]

    Returns:
        The positions; None if `labels` has fewer than two of the tasks.
    """
    where = {label: position for position, label in enumerate(labels)}
    wanted = [where[task] for task in tasks if task in where]
    if len(wanted) < 2:
        return None
    order = list(range(len(labels)))
    for place, position in zip(sorted(wanted), wanted, strict=True):
        order[place] = position
    return order


def moved(labels: Sequence[str], order: Sequence[int]) -> tuple[str, ...]:
    """Return the names of the tasks that changed places, in the order in which they run."""
    return tuple(labels[position] for place, position in enumerate(order) if place != position)


def distinct(labels: Iterable[str]) -> list[str]:
    """Return the names with a number after each repeated name."""
    seen: dict[str, int] = {}
    found = []
    for label in labels:
        count = seen[label] = seen.get(label, 0) + 1
        found.append(label if count == 1 else f"{label} ({count})")
    return found
