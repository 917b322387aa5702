"""Results of server callbacks, as small classes instead of OTP's tuples.

A callback may return None. Only `handle_call` must return a result, which answers or postpones the answer:

    async def handle_call(self, request, sender):
        return Reply(self.state)

OTP puts a timeout or a continue into a fixed position of a tuple. Here a `Within` or `Continue` is the argument `then`.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias, final

import msgspec

from actors.exits import NORMAL, ExitReason

__all__ = ["Continue", "Fail", "Ignore", "NoReply", "Reply", "Stop", "Then", "Within"]


@final
class _Missing:
    def __repr__(self) -> str:
        return "no reply"


MISSING: Final = _Missing()


class Continue(msgspec.Struct, frozen=True):
    """Run `handle_continue(argument)` next, before any waiting message."""

    argument: Any = None


class Within(msgspec.Struct, frozen=True):
    """Expect a message within `seconds`. If none arrives, `handle_info` gets a `Timeout`.

    Any message ends the wait, and only another `Within` starts a new wait. Even with 0 seconds, a waiting message comes
    first and ends the wait. To run a callback before all waiting messages, use `Continue`.
    """

    seconds: float


Then: TypeAlias = Continue | Within | None


class _Continuing(msgspec.Struct, frozen=True, kw_only=True):
    then: Then = None


class Reply(_Continuing, frozen=True):
    """Answer the caller with `value`, then continue."""

    value: Any = None


class NoReply(_Continuing, frozen=True):
    """Continue without an answer. After a `NoReply` from `handle_call`, answer later with `reply`."""


class _Answering(msgspec.Struct, frozen=True, kw_only=True):
    reply: Any = MISSING


class Stop(_Answering, frozen=True):
    """Stop with `reason`. The server sends a `reply` after `terminate` has run."""

    reason: ExitReason = NORMAL


class Ignore(msgspec.Struct, frozen=True):
    """A result of `init`: do not run. The starter gets StartIgnored, which is not a failure."""


class Fail(msgspec.Struct, frozen=True):
    """A result of `init`: the start failed because of `reason`. It causes no crash report and no exit signal.

    Use this to make a start fail. `Stop(reason)` from init also works, but sends an exit signal to a linked starter. As
    in OTP, the signal ends a starter that does not trap exits.
    """

    reason: ExitReason
