"""The trace of a run: every event in order, one JSON object per line.

    {"n":12,"t":0.5,"round":40,"task":9,"kind":"exited","pid":4,"path":"/top/store","inc":1,"exit":"crash",...}

`supervision.recording.schema` lists the kinds of events and their fields. Two simulated runs of one seed have the same
trace, so it is enough to compare their digests. A trace file begins with a header line with the version of the format.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, TypeAlias, cast
from warnings import warn

import msgspec

from actors.declared import declared
from supervision.errors import SupervisionError
from supervision.recording.schema import SCHEMA_VERSION, problem_of

__all__ = [
    "BoundedTrace",
    "DamagedTrace",
    "Events",
    "InvalidTraceFile",
    "Trace",
    "file_lines",
    "read_lines",
    "read_recording",
    "write_lines",
]

_encode = msgspec.json.Encoder().encode
# The time, the round and the number of the running task.
Moment: TypeAlias = tuple[float, int, int]
# An event that is not text yet: its number, its moment, its kind, and a function and arguments. The function makes the
# text of the event's fields from the arguments.
Later: TypeAlias = tuple[int, Moment, str, Callable[..., str], tuple[Any, ...]]
_MESSAGES = frozenset(("sent", "received", "call_ended", "frame"))


@declared()
class InvalidTraceFile(SupervisionError, ValueError):
    """A file is not a trace that this version of Ashtree reads.

    Attributes:
        path: the file.
        schema: the version of its format; None if the file has no header.
    """

    path: Path
    schema: object

    def __str__(self) -> str:
        if self.schema is None:
            found = 'does not begin with a trace header such as {"trace_schema":1}'
        else:
            found = f"has trace schema {self.schema!r}"
        return f"{self.path} {found}; this version of Ashtree reads schema {SCHEMA_VERSION}, so record the run again"


class Trace:
    """The events of one run.

    Args:
        moment: a function that returns the time, the round and the number of the running task.
        keep: False discards the lines. The digest is still available.

    Attributes:
        count: the number of events.
        keep: False if the trace discards the lines.
        events: the events so far. Many events become text only when a caller reads `lines` or calls `digest`.
    """

    __slots__ = ("_hash", "_moment", "count", "events", "keep")

    def __init__(self, moment: Callable[[], Moment], *, keep: bool = True) -> None:
        self.events = Events()
        self.count = 0
        self._moment = moment
        self.keep = keep
        self._hash = sha256()

    @property
    def lines(self) -> list[bytes]:
        """The events, each a JSON object without a line end."""
        return self.events.lines

    def add(self, kind: str, fields: dict[str, Any]) -> int:
        """Add an event and return its number, for the `cause` of later events."""
        number = self.count
        self.count = number + 1
        time, round_number, task = self._moment()
        head = {"n": number, "t": time, "round": round_number, "task": task, "kind": kind}
        self._append(_encode(head | fields))
        return number

    def add_text(self, kind: str, fields: str) -> int:
        """Add an event with fields that are already JSON, such as `"pid":4,"to":5`.

        This takes half the time of `add`. It is for messages, because most events are messages.
        """
        number = self.count
        self.count = number + 1
        self._append(_line(number, self._moment(), kind, fields))
        return number

    def add_later(self, kind: str, write: Callable[..., str], *values: Any) -> int:
        """Add an event that becomes text when a caller reads the trace. Return its number.

        `write(*values)` returns the fields as text, as for `add_text`. It must return the same text at any time, so
        pass no value that may change. This saves time in a sweep: most runs pass, and no caller reads their traces.
        """
        number = self.count
        self.count = number + 1
        moment = self._moment()
        if self.keep:
            self.events.add((number, moment, kind, write, values))
        else:
            self._append(_line(number, moment, kind, write(*values)))
        return number

    def digest(self) -> str:
        """Return the SHA-256 of all lines so far."""
        if self.keep:
            return self.events.digest()
        return self._hash.hexdigest()

    def drop(self) -> None:
        """Forget the events so far. An `Events` object that a caller already has keeps them."""
        self.events = Events()

    def _append(self, line: bytes) -> None:
        if self.keep:
            self.events.add(line)
        else:
            self._hash.update(line)


class Events:
    """The events of a trace, in order. Some events are not text yet.

    Attributes:
        add: a function that adds an event. The event is a line of text, or a `Later`.
    """

    __slots__ = ("_events", "_written", "add")

    def __init__(self) -> None:
        self._events: list[bytes | Later] = []
        # All events before this index are text.
        self._written = 0
        self.add: Callable[[bytes | Later], None] = self._events.append

    @property
    def lines(self) -> list[bytes]:
        """The events, each a JSON object without a line end."""
        events = self._events
        for index in range(self._written, len(events)):
            event = events[index]
            if type(event) is tuple:
                number, moment, kind, write, values = event
                events[index] = _line(number, moment, kind, write(*values))
        self._written = len(events)
        return cast(list[bytes], events)

    def digest(self) -> str:
        """Return the SHA-256 of all lines."""
        return sha256(b"".join(self.lines)).hexdigest()

    def __len__(self) -> int:
        return len(self._events)


def _line(number: int, moment: Moment, kind: str, fields: str) -> bytes:
    time, round_number, task = moment
    return f'{{"n":{number},"t":{time!r},"round":{round_number},"task":{task},"kind":"{kind}",{fields}}}'.encode()


class BoundedTrace(Trace):
    """A trace with a bound on its memory, for live runs.

    Most events are messages, so the trace omits messages first. An omitted event still takes a number, so that the
    causes of other events stay correct. The last event of the trace has the kind `omitted`, and counts omitted events.

    Args:
        now: returns the seconds since the start of the run.
        max_messages: the number of events about messages to keep.
        max_events: the number of events to keep.

    Attributes:
        omitted: the number of omitted events.
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
        return super().add(kind, fields) if self._has_room(kind) else self._omit()

    def add_text(self, kind: str, fields: str) -> int:
        return super().add_text(kind, fields) if self._has_room(kind) else self._omit()

    def add_later(self, kind: str, write: Callable[..., str], *values: Any) -> int:
        return super().add_later(kind, write, *values) if self._has_room(kind) else self._omit()

    def _has_room(self, kind: str) -> bool:
        if kind in _MESSAGES:
            self._messages += 1
            if self._messages > self._max_messages:
                return False
        return len(self.events) < self._max_events

    def _omit(self) -> int:
        number = self.count
        self.count = number + 1
        self.omitted += 1
        return number

    def finish(self) -> None:
        """Add the number of omitted events, if there are any."""
        if self.omitted:
            super().add("omitted", {"pid": None, "omitted": self.omitted})


def file_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a trace file: a header with the version of the format, then the events."""
    yield _encode({"trace_schema": SCHEMA_VERSION})
    yield from lines


def write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Write the header and the events of a trace to a file that only its owner may read."""
    with open_private(path) as file:
        file.write(b"".join(line + b"\n" for line in file_lines(lines)))


def open_private(path: Path) -> IO[bytes]:
    """Open a file for writing that only its owner may read, because a recording contains data of clients.

    This empties an existing file, and takes the rights of all others to it.
    """
    return open(path, "wb", opener=_open_private)


def _open_private(path: str, flags: int) -> int:
    # Empty the file only after the step that can fail, so that a refused recording costs no earlier one.
    number = os.open(path, flags & ~os.O_TRUNC, 0o600)
    try:
        # Of a device or a pipe, such as /dev/null, the mode belongs to the system.
        if stat.S_ISREG(os.fstat(number).st_mode):
            os.fchmod(number, 0o600)
            os.ftruncate(number, 0)
    except BaseException:
        os.close(number)
        raise
    return number


def read_lines(path: Path) -> list[bytes]:
    """Read the events of a file from `write_lines`.

    Raises:
        InvalidTraceFile: the file has no header, or its header has another version of the format.
        OSError: the file cannot be read.
    """
    header, *lines = path.read_bytes().splitlines() or [b""]
    schema = _schema_of(header)
    if schema != SCHEMA_VERSION:
        raise InvalidTraceFile(path, schema)
    return lines


class DamagedTrace(UserWarning):
    """A trace file is damaged, so only its beginning was read."""


def read_recording(path: Path) -> tuple[list[bytes], bool]:
    """Read the events of a trace file up to its first damage, such as the last line of a killed program.

        lines, damaged = read_recording(Path("run.jsonl"))

    Args:
        path: the file.

    Returns:
        The lines of the events, and True if the file is damaged. The function warns about a damaged file with
        `DamagedTrace`.

    Raises:
        InvalidTraceFile: the file has no header, or its header has another version of the format.
        OSError: the file cannot be read.
    """
    lines = read_lines(path)
    last = -1
    for number, line in enumerate(lines):
        event, problem = _decoded(line)
        problem = problem or problem_of(event, after=last)
        if problem is None:
            last = event["n"]
        else:
            warn(
                f"{path} is damaged in line {number + 2}: {problem}. The {number} events before it were read, and "
                f"{len(lines) - number} lines were not.",
                DamagedTrace,
                stacklevel=2,
            )
            return lines[:number], True
    return lines, False


def _decoded(line: bytes) -> tuple[Any, str | None]:
    """Decode a line. Return its value, or the problem."""
    try:
        return msgspec.json.decode(line), None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return None, str(error)
    except RecursionError:
        return None, "its JSON is nested too deeply"


def _schema_of(header: bytes) -> object:
    found, _ = _decoded(header)
    return found.get("trace_schema") if isinstance(found, dict) else None
