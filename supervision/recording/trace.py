"""Everything that happened in a run, in order, one JSON object a line.

    {"n":12,"t":0.5,"round":40,"task":9,"kind":"exited","pid":4,"path":"/top/store","inc":1,"reason":...,"cause":11}

`n` counts events from 0; `t` is the virtual time; `round` the scheduler's; `task` the number of the task that did it
(0 outside of tasks); `cause` the event without which it would not have happened, where that is known. No line has
anything in it that differs between two runs of one seed: that is what the digest is good for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["Trace", "read_lines", "write_lines"]

_encode = msgspec.json.Encoder().encode


class Trace:
    """The events of one run, as they happen.

    Args:
        moment: answers time, round and number of the running task.
        keep: whether lines are kept; the digest is there in any case.

    Attributes:
        lines: the events, each a JSON object without a line end.
        count: how many there were.
    """

    __slots__ = ("_hash", "_keep", "_moment", "count", "lines")

    def __init__(self, moment: Callable[[], tuple[float, int, int]], *, keep: bool = True) -> None:
        self.lines: list[bytes] = []
        self.count = 0
        self._moment = moment
        self._keep = keep
        self._hash = sha256()

    def add(self, kind: str, fields: dict[str, Any]) -> int:
        """Add an event; returns its number, for the `cause` of others."""
        number = self.count
        self.count = number + 1
        time, round_number, task = self._moment()
        line = _encode(
            {"n": number, "t": time, "round": round_number, "task": task, "kind": kind, **fields}
        )
        if self._keep:
            self.lines.append(line)
        else:
            self._hash.update(line)
        return number

    def add_text(self, kind: str, fields: str) -> int:
        """The same for those who add most of the events: `fields` is what `add` would make of them, `"pid":4,"to":5`.

        Building a dict, merging it and encoding it costs twice as much.
        """
        number = self.count
        self.count = number + 1
        time, round_number, task = self._moment()
        line = (
            f'{{"n":{number},"t":{time!r},"round":{round_number},"task":{task},"kind":"{kind}",{fields}}}'
        ).encode()
        if self._keep:
            self.lines.append(line)
        else:
            self._hash.update(line)
        return number

    def digest(self) -> str:
        """SHA-256 of all lines so far."""
        whole = self._hash.copy()
        whole.update(b"".join(self.lines))
        return whole.hexdigest()


def write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Write a trace to a file, one event a line."""
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def read_lines(path: Path) -> list[bytes]:
    """Read what `write_lines` has written."""
    return path.read_bytes().splitlines()
