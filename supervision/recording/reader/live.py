"""The data for the page of a running program, in parts. Each part has only what has changed.

*pure*: the input is the trace of the run so far.

    run = LiveRun(began=1_700_000_000.0)
    run.take(lines)
    run.part(seconds=12.5)            # {"processes": [[0, [...]], ...], "messages": [...], ...}
    run.part(seconds=13.0)            # {"seconds": 13.0, ...}: nothing has changed

The parts together give the same rows as `supervision.recording.reader.page.page_data` gives for the whole trace.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from supervision.recording.reader.history import HistoryReader
from supervision.recording.reader.measures import measure_fault
from supervision.recording.reader.records import Event, ProcessRecord
from supervision.recording.reader.rows import Texts, fault_row, mark_row, message_rows, process_row

__all__ = ["LiveRun"]

PART: Final = 400
"""The largest number of rows of one kind in a part."""

MAX_MORE: Final = 20_000
"""The number of processes, marks and texts that a run may add after its first parts. Above it, the run is full."""


class LiveRun:
    """The data of a run for one page.

    Args:
        began: the time of day of second 0, in seconds since the epoch.
        contents: show the contents of messages, if the trace has them.

    The parts never change a message. If a process receives a message only after `take` has read that it was sent, the
    page shows no time of receipt.
    """

    def __init__(self, *, began: float, contents: bool = True) -> None:
        self._began = began
        self._reader = HistoryReader(contents=contents)
        self._texts = Texts()
        self._sent_texts = 0
        self._messages: deque[list[Any]] = deque()
        self._marks: deque[list[Any]] = deque()
        self._taken_marks = 0
        # The number of processes that the parts contain so far, and the rows that name a later process. A row names
        # the process that came in its place only when that process has arrived too.
        self._arrived = 0
        self._waiting: dict[int, list[ProcessRecord]] = {}
        self._start: float | None = None
        self._is_first = True
        self._limit: int | None = None

    @property
    def is_full(self) -> bool:
        """True if the run has become too large. The owner then begins a new run with the newest records."""
        return self._limit is not None and self._size > self._limit

    @property
    def _size(self) -> int:
        return len(self._reader.history.processes) + self._taken_marks + len(self._texts.texts)

    def take(self, lines: Iterable[bytes], *, messages: int = PART) -> None:
        """Take the next lines of the trace.

        Args:
            lines: the lines.
            messages: the largest number of messages in these lines that the page shows.
        """
        reader, decode = self._reader, msgspec.json.Decoder().decode
        history = reader.history
        for line in lines:
            event: Event = decode(line)
            if self._start is None:
                self._start = event["t"]
            reader.take(event)
            mark = mark_row(event, self._texts)
            if mark is not None:
                self._marks.append(mark)
                self._taken_marks += 1
        self._messages.extend(message_rows(history, messages, self._texts))
        reader.forget_messages()

    def part(self, *, seconds: float) -> dict[str, Any]:
        """Return the next part, in JSON types.

        Args:
            seconds: the present time of the run.

        Returns:
            The changed `processes` and `faults` with their positions, new `messages` and `marks`, and the `texts` to
            append to the table. `more` is True if further changes wait. The first part has `first`, `began`, and
            `start`, the time of the first event.
        """
        reader, texts = self._reader, self._texts
        processes = self._next_processes()
        faults = []
        if not reader.changed:
            # The processes come first, because faults refer to them.
            for index in sorted(reader.changed_faults)[:PART]:
                fault = reader.changed_faults.pop(index)
                row = fault_row(fault, texts)
                faults.append([index, row, msgspec.to_builtins(measure_fault(fault))])
        messages = [] if reader.changed else _pop(self._messages)
        part: dict[str, Any] = {
            "seconds": round(seconds, 3),
            "processes": processes,
            "faults": faults,
            "messages": messages,
            "marks": _pop(self._marks),
            "texts": texts.texts[self._sent_texts :],
        }
        self._sent_texts = len(texts.texts)
        if reader.changed or reader.changed_faults or self._messages or self._marks:
            part["more"] = True
        elif self._limit is None:
            self._limit = self._size + MAX_MORE
        if self._is_first:
            part["first"] = True
            part["began"] = self._began
            part["start"] = seconds if self._start is None else self._start
            self._is_first = False
        return part

    def _next_processes(self) -> list[list[Any]]:
        """Return the next rows of processes. A row names only processes in this part and in earlier parts."""
        changed = self._reader.changed
        first = self._arrived
        rows = []
        for index in sorted(changed)[:PART]:
            process = changed.pop(index)
            # The indices of new processes are consecutive, and a parent is older than its children.
            self._arrived = max(self._arrived, index + 1)
            rows.append(process)
        for index in range(first, self._arrived):
            # The rows that wait for these processes can name them now.
            changed.update((process.index, process) for process in self._waiting.pop(index, ()))
        return [[process.index, self._row(process)] for process in rows]

    def _row(self, process: ProcessRecord) -> list[Any]:
        has_arrived = process.back is None or process.back.index < self._arrived
        if process.back is not None and not has_arrived:
            self._waiting.setdefault(process.back.index, []).append(process)
        return process_row(process, self._texts, names_back=has_arrived)


def _pop(rows: deque[list[Any]]) -> list[list[Any]]:
    return [rows.popleft() for _ in range(min(PART, len(rows)))]
