"""The trace of a live run: real time, and a bound on what is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supervision.recording.trace import Trace

__all__ = ["LiveTrace"]

_MESSAGES = frozenset(("sent", "received"))


class LiveTrace(Trace):
    """A trace that cannot fill the memory.

    Messages are by far the most of what happens, and the first that is left out: their numbers are counted on, so that
    causes stay true, and an event of the kind `omitted` says at the end how many are missing.

    Args:
        now: answers the seconds since the beginning of the run.
        max_messages: events about messages that are kept.
        max_events: events of any kind that are kept.

    Attributes:
        omitted: events that were left out.
    """

    __slots__ = ("_max_events", "_max_messages", "_messages", "omitted")

    def __init__(
        self, now: Callable[[], float], *, max_messages: int = 200_000, max_events: int = 500_000
    ) -> None:
        super().__init__(lambda: (round(now(), 6), 0, 0))
        self.omitted = 0
        self._messages = 0
        self._max_messages = max_messages
        self._max_events = max_events

    def add(self, kind: str, fields: dict[str, Any]) -> int:
        """Add an event, or only count it; returns its number."""
        return super().add(kind, fields) if self._has_room(kind) else self._omit()

    def add_text(self, kind: str, fields: str) -> int:
        """The same, of fields that are encoded already."""
        return super().add_text(kind, fields) if self._has_room(kind) else self._omit()

    def _has_room(self, kind: str) -> bool:
        if kind in _MESSAGES:
            self._messages += 1
            if self._messages > self._max_messages:
                return False
        return len(self.lines) < self._max_events

    def _omit(self) -> int:
        number = self.count
        self.count = number + 1
        self.omitted += 1
        return number

    def finish(self) -> None:
        """Say at the end what is missing, if anything is."""
        if self.omitted:
            super().add("omitted", {"pid": None, "omitted": self.omitted})
