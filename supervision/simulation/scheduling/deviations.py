"""Deviations from the canonical schedule, as data that still means something when other things change.

    Deviation(round=212, order=(1, 0), seconds=0.5, turn=3, tasks=("/top#1", "/registry#1"))

says that in the third round of the moment 0.5 s the supervisor ran before the registry. The number of that round in
the whole run, and the positions of the tasks in it, are other ones as soon as a fault or a client is taken away; the
moment, the turn in it and the names of the tasks mostly are not. So the names count, and positions are what is left
without them.

Nothing in here knows Trio: labels are given, orders are answered.
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
    "numbered",
]

Deviations: TypeAlias = Mapping[int, tuple[int, ...]]
"""For numbers of rounds, the order in that round: positions in the order of spawning."""


@frozen(kw_only=True)
class Deviation:
    """One round of the scheduler whose order was not the canonical one.

    Attributes:
        round: its number in the run in which it was recorded, from 1.
        order: all tasks of that round in the order in which they ran, as positions in the order of spawning.
        seconds: the moment, on the virtual clock; None for any.
        turn: which round of that moment it was, from 1; None for the first in which all its tasks are ready.
        tasks: the tasks that did not run at their place, in the order in which they ran: `/top/room:lobby#2` for the
            second process at that path, the name of the function for a task that is no process.
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
    """A whole schedule as a list of numbers, which something else can search through.

        Tape((0, 0, 2))             # the third time that there is a choice, the third task runs first

    Args:
        choices: for each round in which there is a choice, in turn, which task runs first: a position in the order of
            spawning, modulo the number of tasks. 0, and whatever is past the end, is the canonical order.
    """

    choices: tuple[int, ...]


Schedule: TypeAlias = Deviations | Iterable[Deviation] | Tape | None
"""All the ways to say how a run is to deviate from the policy of its knobs."""


class SchedulePlan:
    """The deviations that a run is to have, and which of them are still to come.

    Args:
        deviations: by number of round, or with the names of tasks, or a tape.
    """

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
        """Whether tasks have to be named to know who is meant."""
        return bool(self._by_moment)

    def order(self, number: int, count: int) -> list[int] | None:
        """The order that a round of so many tasks has by its number; None if nothing is said of it.

        To be asked once for each round in which there is a choice.
        """
        if self._tape is not None:
            first = next(self._tape, 0) % count
            return [first, *(position for position in range(count) if position != first)]
        wanted = self._orders.get(number)
        if wanted is None:
            return None
        # What was recorded of a round that is of another size now still says whom to prefer.
        known = [position for position in wanted if position < count]
        return known + [position for position in range(count) if position not in known]

    def wants(self, seconds: float) -> bool:
        """Whether tasks that are ready at this moment have to be named."""
        return _moment(seconds) in self._by_moment or None in self._by_moment

    def exchanged(self, seconds: float, turn: int, labels: Sequence[str]) -> list[int] | None:
        """The order that a round has by the names of its tasks; None if nothing is said of them.

        Args:
            seconds: the moment.
            turn: which round of it, from 1.
            labels: the tasks, in the order of spawning.
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
    """Moments are sums of numbers that no float is equal to; a nanosecond is the same moment."""
    return None if seconds is None else round(seconds, 9)


def _due(waiting: list[Deviation], turn: int, labels: Sequence[str]) -> Deviation | None:
    """Which of the deviations of a moment this round is meant by."""
    for deviation in waiting:
        if deviation.turn == turn and _arranged(deviation, labels) is not None:
            return deviation
    present = set(labels)
    for deviation in waiting:
        # Of any turn, or of one that has passed without its tasks, because something before it is gone.
        late = deviation.turn is None or deviation.turn < turn
        if late and present.issuperset(deviation.tasks):
            return deviation
    return None


def _arranged(deviation: Deviation, labels: Sequence[str]) -> list[int] | None:
    order = exchange(labels, deviation.tasks)
    if order is None:
        # The same processes, but of other incarnations by now.
        paths = [_path(label) for label in labels]
        wanted = [_path(label) for label in deviation.tasks]
        order = exchange(paths, wanted) if len(set(paths)) == len(paths) else None
    if order is None and len(deviation.order) == len(labels):
        order = list(deviation.order)
    return order


def _path(label: str) -> str:
    return label.rpartition("#")[0] or label


def exchange(labels: Sequence[str], tasks: Sequence[str]) -> list[int] | None:
    """Positions in `labels`, such that those of `tasks` that are there share out their own places in that order.

        exchange(["a", "b", "c"], ["c", "a"])       # [2, 1, 0]

    None if fewer than two of them are there.
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
    """The names of those who do not run at their own place, in the order in which they run."""
    return tuple(labels[position] for place, position in enumerate(order) if place != position)


def distinct(labels: Iterable[str]) -> list[str]:
    """The same names, with a number behind those that stand there twice."""
    seen: dict[str, int] = {}
    found = []
    for label in labels:
        count = seen[label] = seen.get(label, 0) + 1
        found.append(label if count == 1 else f"{label} ({count})")
    return found


def numbered(deviations: Iterable[Deviation]) -> dict[int, tuple[int, ...]]:
    """The same deviations as positions by number of round, which is enough to repeat the very same run."""
    return {deviation.round: deviation.order for deviation in deviations}
