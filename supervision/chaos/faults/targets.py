"""What a fault is done to: a process, a message, a connection, or something else. *pure*: what all faults share."""

from __future__ import annotations

import msgspec

from supervision.chaos.errors import BadFault
from supervision.chaos.faults.moments import MESSAGES, At, Moment, On, check_at_least

__all__ = ["BaseFault", "ConnectionFault", "MessageFault", "ProcessFault"]


def _tag(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class BaseFault(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag=_tag,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """What all faults have."""

    def check(self, field: str, least: float) -> None:
        """Raise BadFault unless a field is a number from `least`."""
        check_at_least(type(self).__name__, field, getattr(self, field), least)

    def check_text(self, field: str, what: str) -> None:
        """Raise BadFault unless a field is text that says something."""
        value = getattr(self, field)
        if not isinstance(value, str) or not value:
            raise BadFault(type(self).__name__, field, value, f"write {what}")


class ProcessFault(BaseFault, frozen=True, kw_only=True):
    """Done to one process.

    - `target`: its path, or a pattern;
    - `when`: `At(seconds)`, or `On(callback)` of any process that matches. What can only be done to a callback is, with
      `At`, done to the first one that begins after that time, `terminate` excepted;
    - `pick`: which one of several that match at a time: 0.0 is the oldest, anything up to 1.0 a later one; None is the
      newest. With `On`, and where a callback is waited for, it says nothing.
    """

    target: str
    when: Moment
    pick: float | None = None

    def __post_init__(self) -> None:
        self.check_text("target", "the path of a process, or a pattern such as /top/room:*")
        _check_pick(type(self).__name__, self.pick)


class MessageFault(BaseFault, frozen=True, kw_only=True):
    """Done to one message on its way to a process: what was sent to it, called or cast.

    Never to signals, to what the runtime itself tells (`Down`, `Exit`), to answers of calls, nor to what a process
    sends itself.

    - `target`: the path of the receiver, or a pattern;
    - `kind`: which messages, a pattern of `fnmatch`, see `kind_of`;
    - `when`: `At` is the first such message from then on; `On` the nth one of the calls ("handle_call"), the casts
      ("handle_cast"), what is neither ("handle_info" or "receive"), or of all ("message").
    """

    target: str
    when: Moment
    kind: str = "*"

    def __post_init__(self) -> None:
        self.check_text("target", "the path of a process, or a pattern such as /top/room:*")
        self.check_text("kind", "a pattern of kinds of messages, * for any")
        when = self.when
        if isinstance(when, On) and when.callback not in {*MESSAGES, "message", "receive"}:
            advice = f"write one of {', '.join(sorted(MESSAGES))}, message, receive in its On"
            raise BadFault(type(self).__name__, "when", when, advice)


class ConnectionFault(BaseFault, frozen=True, kw_only=True):
    """Done to one connection.

    - `target`: the name of a connection, or a pattern: `phone->server#2` is the second that the host `phone` has made
      to the host `server`;
    - `when`: a time;
    - `pick`: which of several, as in `ProcessFault`.
    """

    target: str = "*"
    when: At
    pick: float | None = None

    def __post_init__(self) -> None:
        self.check_text("target", "the name of a connection, or a pattern such as phone->*")
        _check_pick(type(self).__name__, self.pick)


def _check_pick(kind: str, pick: float | None) -> None:
    if pick is not None and not 0.0 <= pick <= 1.0:
        raise BadFault(kind, "pick", pick, "write a number from 0.0 (the oldest) to 1.0, or None")
