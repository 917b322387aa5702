"""Operations, and histories of them.

*pure*. An operation is one request of one client to the system under test, from its start to its end. A history is a
list of operations. Starts and ends are positions in one order of events, because many events of a simulated run share
one moment of time.

    history = [
        Operation(client="a", name="write", arguments=(1,), start=1, end=2),
        Operation(client="b", name="read", result=1, start=3, end=4),
    ]
    check_linearizable(history, Register())
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Generator, Hashable, Iterable
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import msgspec

from actors.errors import InvalidArgument
from actors.text import brief

__all__ = ["Fate", "Operation", "about", "by_key", "checked"]


class Fate(StrEnum):
    """The knowledge of the client about an operation at the end of the history."""

    DONE = "done"
    """The client got an answer, so the operation took effect between its start and its end."""

    FAILED = "failed"
    """The operation certainly had no effect."""

    OPEN = "open"
    """The client got no answer. The operation may take effect at any time after its start, or never."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One request of one client.

    Attributes:
        client: the client. The operations of one client do not overlap, except with its open ones.
        name: the name of the operation in the model, such as `"write"`.
        arguments: the arguments of the operation.
        result: the answer that the client got; None if the operation is open.
        key: the object on which the operation acts. Operations on different keys do not affect each other.
        start: the position of the request in the order of events.
        end: the position of the answer; infinite if the operation is open.
        fate: the knowledge of the client about the operation.
    """

    client: Hashable
    name: str
    arguments: tuple[Any, ...] = ()
    result: Any = None
    key: Hashable = None
    start: float
    end: float = math.inf
    fate: Fate = Fate.DONE

    def __str__(self) -> str:
        arguments = ", ".join(map(brief, self.arguments))
        where = "" if self.key is None else f"[{brief(self.key)}]"
        answer = {
            Fate.DONE: f" -> {brief(self.result)}",
            Fate.FAILED: " failed",
            Fate.OPEN: " got no answer",
        }[self.fate]
        return f"{self.client}: {self.name}{where}({arguments}){answer}"


def checked(history: Iterable[Operation]) -> list[Operation]:
    """Return the operations that may have had an effect, in the order of their starts.

    Raises:
        InvalidArgument: an operation ends before its start, or has no end and is not open, or two operations of one
            client overlap.
    """
    operations = sorted(
        (each for each in history if each.fate is not Fate.FAILED),
        key=lambda each: (each.start, each.end),
    )
    last: dict[Hashable, Operation] = {}
    for each in operations:
        with about(f"`{each}` needs a client and a key that are hashable, such as texts"):
            hash((each.client, each.key))
        if not each.start <= each.end:
            raise InvalidArgument(
                None,
                each,
                f"the operation `{each}` ends at {each.end}, before its start {each.start}",
            )
        if each.fate is Fate.DONE and each.end == math.inf:
            raise InvalidArgument(
                None,
                each,
                f"the operation `{each}` has no end; write fate=Fate.OPEN if it got no answer",
            )
        before = last.get(each.client)
        if before is not None and before.end > each.start and before.fate is Fate.DONE:
            raise InvalidArgument(
                None,
                each,
                f"the operations `{before}` and `{each}` of one client overlap; give each of its tasks a client name "
                "of its own",
            )
        last[each.client] = each
    return operations


@contextmanager
def about(text: str) -> Generator[None]:
    """Add a note to the exceptions of the block."""
    try:
        yield
    except Exception as error:
        error.add_note(text)
        raise


def by_key(operations: Iterable[Operation]) -> dict[Hashable, list[Operation]]:
    """Return the operations of each key, in their order."""
    parts: defaultdict[Hashable, list[Operation]] = defaultdict(list)
    for each in operations:
        parts[each.key].append(each)
    return dict(parts)
