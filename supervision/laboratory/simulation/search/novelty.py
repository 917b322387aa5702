"""Novelty: the features of runs, and the runs from which a search continues.

A *feature* is something that happened in a run, such as two kinds of events one after the other in one process. A run
with a feature that no earlier run had is *novel*. The search keeps novel runs and forks them at the round of the new
feature, because a bug behind a rare state is near runs that reach the state. Features name processes by their role in
the tree. They contain no times, pids or payloads, because otherwise every run would be novel.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec
from attrs import define, field

from supervision.laboratory.simulation.forks import ForkedSeed

__all__ = ["Features", "Novelty", "features_of"]

_SLOTS = 65_536
_BUCKETS = frozenset((1, 2, 3, 4, 8, 16))
_DIGITS = re.compile(r"\d+")
_DEPTH = 3  # the most forks in one run
_BATCH = 4  # runs of the first turn
_MOST = 32  # the most runs of one turn
_KEPT = 2_000  # the most novel runs to keep; their features together are at most the slots

_STEADY_SEEDS = 200  # the fewest fresh seeds of a plateau
_STEADY_RUNS = 100  # the fewest runs without a new feature before a plateau
_RATE = 0.02  # new features per further seed at a plateau


class _Event(msgspec.Struct, gc=False):
    """The fields of an event of which features consist."""

    n: int
    round: int
    kind: str
    pid: object = None
    to: object = None
    cause: int | None = None
    role: str = ""
    inc: int = 0
    exit: str = ""
    message_kind: str = ""
    fault: str = ""
    status: str = ""
    how: str = ""
    node: int | str = 0


_decode = msgspec.json.Decoder(_Event).decode


Features: TypeAlias = Mapping[int, int | str]
"""The features of a run: numbers of slots, each with the moment for a fork just after its first appearance."""


def features_of(trace: Sequence[bytes], sometimes: Mapping[str, bool]) -> Features:
    """Return the features of a run. The moment of a feature is a round, or the name of a condition; see `Fork`.

    Args:
        trace: the events of the run.
        sometimes: the conditions of `world.sometimes`.
    """
    reader, counts = _Reader(), Counter[_Name]()
    found: dict[int, int | str] = {
        _slot((name,), 1): name for name, happened in sometimes.items() if happened
    }
    for line in trace:
        event = _decode(line)
        for name in reader.names(event):
            count = counts[name] = counts[name] + 1
            # A feature has several slots, for the counts from 1, 2, 3, 4, 8 and 16 on.
            if count in _BUCKETS:
                found.setdefault(_slot(name, count), event.round + 1)
    return found


_Name: TypeAlias = tuple[object, ...]
_Process: TypeAlias = tuple[object, object]
_Message: TypeAlias = tuple[str, object]


@define(eq=False)
class _Reader:
    """The processes of a trace: their roles, their last events, and the messages that they have handled."""

    _roles: dict[_Process, str] = field(factory=dict)
    _last: dict[_Process, str] = field(factory=dict)
    _handled: dict[_Process, _Message] = field(factory=dict)
    _sent: dict[int, _Message] = field(factory=dict)

    def names(self, event: _Event) -> Iterator[_Name]:
        """Yield the names of the features of an event."""
        kind, process = event.kind, (event.node, event.pid)
        if kind == "sent":
            self._sent[event.n] = event.message_kind, event.pid
            return
        if kind == "spawned":
            # Numbers tell processes of one role apart, and there may be any number of them.
            self._roles[process] = _DIGITS.sub("#", event.role)
        role = self._roles.get(process, "")
        yield role, self._last.get(process, ""), kind
        self._last[process] = kind
        if kind == "received":
            cause = -1 if event.cause is None else event.cause
            message, sender = self._sent.pop(cause, (event.message_kind, None))
            before, other = self._handled.get(process, ("", None))
            self._handled[process] = message, sender
            yield role, before, message, sender == other
        elif kind == "exited":
            yield role, event.exit, min(event.inc, 4)
        elif kind == "fault":
            yield role, event.fault, event.status
        elif kind == "call_ended":
            yield self._roles.get((event.node, event.to), ""), event.how


def _slot(name: _Name, bucket: int) -> int:
    # Not `hash`, which differs between processes.
    return zlib.crc32(repr((name, bucket)).encode()) % _SLOTS


@define(eq=False)
class _Kept:
    """A novel run, its new features, and the number of its turns."""

    start: ForkedSeed
    new: Features
    turns: int = 0


@define(eq=False)
class Novelty:
    """The features of the runs of a search, and the novel runs from which it continues."""

    _runs: Counter[int] = field(factory=Counter, init=False)
    _seeds: Counter[int] = field(factory=Counter, init=False)
    _count: int = field(default=0, init=False)
    _runs_without: int = field(default=0, init=False)
    _kept: list[_Kept] = field(factory=list, init=False)
    _forks: int = field(default=0, init=False)

    def add(self, start: ForkedSeed, features: Features, *, passed: bool) -> int:
        """Count the features of a run. Return the number of its new features."""
        new = {slot: moment for slot, moment in features.items() if slot not in self._runs}
        self._runs.update(features.keys())
        self._runs_without = 0 if new else self._runs_without + 1
        if not start.forks:
            self._count += 1
            self._seeds.update(features.keys())
        if new and passed and len(start.forks) < _DEPTH and len(self._kept) < _KEPT:
            self._kept.append(_Kept(start, new))
        return len(new)

    @property
    def has_kept(self) -> bool:
        """True if there is a run to continue from."""
        return bool(self._kept)

    def forks(self) -> list[ForkedSeed]:
        """Return forks of the novel run with the rarest feature, just after its first appearance."""
        # The rarity of a run is the smallest number of runs that share one of its new features.
        kept = min(self._kept, key=lambda each: min(map(self._runs.__getitem__, each.new)))
        slot = min(kept.new, key=self._runs.__getitem__)
        kept.turns += 1
        energy = min(_MOST, max(1, _BATCH * 2**kept.turns // self._runs[slot]))
        self._forks += energy
        return [
            kept.start.then(kept.new[slot], number)
            for number in range(self._forks - energy, self._forks)
        ]

    @property
    def plateau(self) -> float | None:
        """The new features per further seed if the search has reached a plateau; None if it has not.

        By Good and Turing, this rate is about the share of the seeds whose run has a feature that no other seed has.
        """
        seeds = self._count
        if seeds < _STEADY_SEEDS or self._runs_without < max(_STEADY_RUNS, seeds / 4):
            return None
        rate = sum(count == 1 for count in self._seeds.values()) / seeds
        return rate if rate < _RATE else None
