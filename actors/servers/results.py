"""Results of server callbacks: small values with names, never tuples.

A callback without a result returns None. Only `handle_call` must say whether it answers:

    async def handle_call(self, request, sender):
        return Reply(self.state)

OTP puts a timeout or a continue in a fixed position of a tuple. Here they are the argument `then`.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias, final

from attrs import define, field

from actors.exits import NORMAL, ExitReason

__all__ = ["Continue", "Fail", "Ignore", "NoReply", "Reply", "Stop", "Then", "Within"]


@final
class _Missing:
    def __repr__(self) -> str:
        return "no reply"


MISSING: Final = _Missing()


@define
class Continue:
    """Run `handle_continue(argument)` next, before any waiting message."""

    argument: Any = None


@define
class Within:
    """Expect a message within `seconds`. If none arrives, `handle_info` gets a `Timeout`.

    Any message ends the wait, and only another `Within` renews it. With 0 seconds a waiting message still comes
    first. To run a callback before all waiting messages, use `Continue`.
    """

    seconds: float


Then: TypeAlias = Continue | Within | None


@define
class Reply:
    """Answer the caller with `value`, then continue."""

    value: Any = None
    then: Then = field(default=None, kw_only=True)


@define
class NoReply:
    """Continue without an answer. From `handle_call` it means that `reply` comes later."""

    then: Then = field(default=None, kw_only=True)


@define
class Stop:
    """Stop with `reason`. The server sends a `reply` after `terminate` has run."""

    reason: ExitReason = NORMAL
    reply: Any = field(default=MISSING, kw_only=True)


@define
class Ignore:
    """From `init`: do not run. The starter gets StartIgnored, which is not a failure."""


@define
class Fail:
    """From `init`: the start failed because of `reason`. There is no crash report, and the starter lives.

    This is the documented way to fail. `Stop(reason)` from init also works, but its exit signal reaches the starter
    over the link. As in OTP, it ends a starter that does not trap exits.
    """

    reason: ExitReason
