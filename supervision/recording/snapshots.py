"""Copies of a flight recorder's records, for conversion to lines of a trace.

*pure*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from supervision.recording.conversion import Birth, Conversion, Record, further_events

__all__ = ["Snapshot"]


class Snapshot(NamedTuple):
    """A copy of the records, which another thread may convert.

    Attributes:
        records: the records, oldest first.
        births: the processes that live now.
        omitted: the number of records that the rings have dropped.
        following: the number of the next record.
        now: the time of the copy on the recorder's clock.
        began: the reading of the recorder's clock at second 0 of the trace.
        about: the fields of the `recording` event.
        connections: the numbers of the processes that serve a client.
        crash: the number of the record of the selected crash; None without one.
    """

    records: list[Record]
    births: list[Birth]
    omitted: int
    following: int
    now: float
    began: float
    about: dict[str, Any]
    connections: frozenset[int] = frozenset()
    crash: int | None = None

    def begin(
        self, source: Callable[[str, int], str] | None = None
    ) -> tuple[Conversion, list[bytes]]:
        """Return a conversion for the records, and the lines that come before the records.

        Args:
            source: returns a line of a source file, such as `linecache.getline`. It may read files.
        """
        first = self.records[0][0] if self.records else self.following
        start = self.records[0][1] if self.records else self.now
        before = _born_before(first, self.births, self.records)
        offset = 1 + len(before) + bool(self.omitted) - first
        conversion = Conversion(
            began=self.began,
            offset=offset,
            receives=self.about["receives"],
            connections=self.connections,
            source=source,
        )
        about = {"pid": None, **self.about}
        if self.crash is not None:
            before_crash = (record for record in self.records if record[0] < self.crash)
            about["crash"] = self.crash + offset + sum(map(further_events, before_crash))
        lines = [conversion.line(0, start - self.began, "recording", about)]
        lines += conversion.baseline(before, 1)
        if self.omitted:
            lines.append(conversion.omitted(1 + len(before), start, self.omitted))
        return conversion, lines

    def without_records(self, births: list[Birth], following: int) -> Snapshot:
        """Return a snapshot without records, for a file that begins at record `following` with these processes."""
        return self._replace(records=[], births=births, omitted=0, following=following)

    def lines(self, source: Callable[[str, int], str] | None = None) -> list[bytes]:
        """Return the records as lines of a trace. `source` is the same as for `begin`."""
        conversion, lines = self.begin(source)
        lines += conversion.convert(self.records)
        return lines


def _born_before(first: int, births: list[Birth], records: Sequence[Record]) -> list[Birth]:
    """Return the processes that started before record `first`, and that live or whose exit is among the records."""
    ended = [record[5] for record in records if record[2] == "exited"]
    found = [birth for birth in (*births, *ended) if birth.n < first]
    return sorted(found, key=lambda birth: (birth.n, birth.pid))
