"""The moment of a fault: a time, or the nth call of a callback. *pure*.

    At(0.5)                                            # half a second after the start of the plan
    On("handle_cast", nth=3, kind="join")              # before the third cast of the kind "join"
    On("init", incarnation=2)                          # before the init of the first restarted process

The field `when` of a fault holds its moment.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from actors.arguments import is_number
from supervision.laboratory.chaos.errors import InvalidFault
from supervision.recording.reader.words import ordinal

__all__ = [
    "CALLBACKS",
    "OPERATIONS",
    "At",
    "Moment",
    "On",
    "check_at_least",
    "describe_moment",
]

MESSAGES: Final = frozenset(("handle_call", "handle_cast", "handle_info"))
"""The callbacks that "message" stands for."""

CALLBACKS: Final = (
    *("init", "handle_call", "handle_cast", "handle_info", "handle_continue", "terminate"),
    *("message", "run", "receive"),
)
"""The callbacks of processes that `On` accepts."""

OPERATIONS: Final = (
    *("open", "read", "write", "truncate", "fsync", "rename", "unlink", "sync_directory"),
    "operation",
)
"""The operations of disks that `On` accepts. "operation" stands for all others, except for `open` and `read`."""


class At(msgspec.Struct, frozen=True, tag="at", forbid_unknown_fields=True):
    """A moment at a time.

        At(0.5)

    Args:
        seconds: time after the start of the plan; in a simulation, after the start of the run.

    Raises:
        InvalidFault: `seconds` is negative or not a number.
    """

    seconds: float

    def __post_init__(self) -> None:
        check_at_least("At", "seconds", self.seconds, 0.0)


class On(msgspec.Struct, frozen=True, tag="on", forbid_unknown_fields=True, omit_defaults=True):
    """The moment before a callback of the target runs.

        On("message", nth=5)

    Args:
        callback: the callback. Servers, supervisors and channels have "init", "handle_call", "handle_cast",
            "handle_info", "handle_continue" and "terminate". "message" stands for `handle_call`, `handle_cast` and
            `handle_info`. A plain process has "run", before its function, and "receive", when it receives a message.
            A disk has `OPERATIONS`.
        nth: the number of the call, from 1, counted over all matching processes.
        kind: an `fnmatch` pattern. Only messages of a matching kind count; see `kind_of`. For an operation of a disk,
            only files with a matching path count.
        incarnation: only this incarnation of a path counts.

    Raises:
        InvalidFault: the callback does not exist, or a number is below 1.
    """

    callback: str
    nth: int = 1
    kind: str | None = None
    incarnation: int | None = None

    def __post_init__(self) -> None:
        if self.callback not in (*CALLBACKS, *OPERATIONS):
            known = ", ".join((*CALLBACKS, *OPERATIONS))
            raise InvalidFault("On", "callback", self.callback, f"write one of {known}")
        check_at_least("On", "nth", self.nth, 1)
        if self.kind is not None and not self.kind:
            raise InvalidFault("On", "kind", self.kind, "write a pattern, or None for any kind")
        if self.incarnation is not None:
            check_at_least("On", "incarnation", self.incarnation, 1)

    def is_about(self, callback: str) -> bool:
        """Return True if this moment waits for that callback. The moment "message" waits for all of `MESSAGES`.

        Args:
            callback: the name of a callback, such as `handle_call`.
        """
        return self.callback == callback or (self.callback == "message" and callback in MESSAGES)


Moment: TypeAlias = At | On
"""The moment of a fault."""


def describe_moment(moment: Moment) -> str:
    """Describe a moment in words: "at 0.5 s", "before its 3rd handle_cast of join"."""
    if isinstance(moment, At):
        return f"at {moment.seconds:g} s"
    of = "" if moment.kind is None else f" of {moment.kind}"
    which = "" if moment.nth == 1 else f" {ordinal(moment.nth)}"
    whose = "" if moment.incarnation is None else f" as incarnation {moment.incarnation}"
    return f"before its{which or ' first'} {moment.callback}{of}{whose}"


def check_at_least(kind: str, field: str, value: float, least: float) -> None:
    """Raise InvalidFault unless a value is a finite number and at least `least`."""
    if not is_number(value, least=least, finite=True):
        raise InvalidFault(kind, field, value, f"write a finite number, {least:g} or more")
