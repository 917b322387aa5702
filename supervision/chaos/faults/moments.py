"""When a fault happens: at a time, or when a process is about to do something for the nth time. *pure*.

At(0.5)                                            # half a second after the plan was started
On("handle_cast", nth=3, kind="join")              # before the third cast that says "join" is handled
On("init", incarnation=2)                          # in the init of the process that was started in its place
"""

from __future__ import annotations

import math
from typing import Any, Final, TypeAlias

import msgspec

from actors.instrumentation.instrument import payload_of
from supervision.chaos.errors import BadFault

__all__ = ["CALLBACKS", "At", "Moment", "On", "check_at_least", "describe_moment", "kind_of"]

MESSAGES: Final = frozenset(("handle_call", "handle_cast", "handle_info"))
"""What "message" stands for."""

CALLBACKS: Final = (
    *("init", "handle_call", "handle_cast", "handle_info", "handle_continue", "terminate"),
    *("message", "run", "receive"),
)
"""What `On` may name."""


class At(msgspec.Struct, frozen=True, tag="at", forbid_unknown_fields=True):
    """At a time.

        At(0.5)

    Args:
        seconds: after the plan was started; in a simulation, after the beginning of the run.

    Raises:
        BadFault: `seconds` is negative, or no number.
    """

    seconds: float

    def __post_init__(self) -> None:
        check_at_least("At", "seconds", self.seconds, 0.0)


class On(msgspec.Struct, frozen=True, tag="on", forbid_unknown_fields=True, omit_defaults=True):
    """When a callback of the target is about to run.

        On("message", nth=5)

    Args:
        callback: of a server "init", "handle_call", "handle_cast", "handle_info", "handle_continue", "terminate", or
            "message" for any of the three that handle one; of a plain process "run", before its function, or
            "receive", when it takes a message. Supervisors and channels are servers.
        nth: which of them, from 1, counted over all processes that match.
        kind: only messages of such a kind count; a pattern of `fnmatch`, see `kind_of`.
        incarnation: only processes count that are the so-many-th at their path.

    Raises:
        BadFault: there is no such callback, or a number is below 1.
    """

    callback: str
    nth: int = 1
    kind: str | None = None
    incarnation: int | None = None

    def __post_init__(self) -> None:
        if self.callback not in CALLBACKS:
            raise BadFault("On", "callback", self.callback, f"write one of {', '.join(CALLBACKS)}")
        check_at_least("On", "nth", self.nth, 1)
        if self.kind is not None and not self.kind:
            raise BadFault("On", "kind", self.kind, "write a pattern, or None for any kind")
        if self.incarnation is not None:
            check_at_least("On", "incarnation", self.incarnation, 1)

    def is_about(self, callback: str) -> bool:
        """Whether it may be this callback."""
        return self.callback == callback or (self.callback == "message" and callback in MESSAGES)


Moment: TypeAlias = At | On
"""When a fault happens."""


def kind_of(message: Any) -> str:
    """What kind of message it is, for patterns: what it says, if it is text, and otherwise its tag.

        kind_of("stop")                       # "stop"
        kind_of(("join", "lobby"))            # "join"

    Text is its own kind; a tuple has the kind of its first item; anything with an `event` that is text has that; what
    is left has the name of its class. Of calls and casts it is what they carry that counts.
    """
    said = payload_of(message)
    while type(said) is tuple and said:
        said = said[0]
    if isinstance(said, str):
        return said
    event = getattr(said, "event", None)
    return event if isinstance(event, str) else type(said).__name__


def describe_moment(moment: Moment) -> str:
    """A moment in words: "at 0.5 s", "before its 3rd handle_cast of join"."""
    if isinstance(moment, At):
        return f"at {moment.seconds:g} s"
    what = "message" if moment.callback == "message" else moment.callback
    of = "" if moment.kind is None else f" of {moment.kind}"
    which = "" if moment.nth == 1 else f" {_ordinal(moment.nth)}"
    whose = "" if moment.incarnation is None else f" as incarnation {moment.incarnation}"
    return f"before its{which or ' first'} {what}{of}{whose}"


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


def check_at_least(kind: str, field: str, value: float, least: float) -> None:
    """Raise BadFault unless a value is a finite number from `least`."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not least <= value < math.inf
    ):
        raise BadFault(kind, field, value, f"write a finite number from {least:g}")
