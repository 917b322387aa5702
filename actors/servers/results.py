"""What the callbacks of a server may return: small values with names, never tuples.

A callback that has nothing to say returns None. `handle_call` alone must say whether it answers.

    async def handle_call(self, request, sender):
        return Reply(self.state)

Where OTP puts a timeout or a continue in a fixed position of a tuple, these take it as `then`.
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
    """Run `handle_continue(argument)` next, before any message that is waiting."""

    argument: Any = None


@define
class Within:
    """Expect a message within `seconds`; if none comes, `handle_info` gets a `Timeout`.

    A lull detector: any message ends it, and a result that does not ask again does not renew it. With 0 seconds a
    message that is already waiting still wins. For "do this next, whatever happens" use `Continue`.
    """

    seconds: float


Then: TypeAlias = Continue | Within | None


@define
class Reply:
    """Answer the caller with `value`, then go on."""

    value: Any = None
    then: Then = field(default=None, kw_only=True)


@define
class NoReply:
    """Go on without an answer; from `handle_call` it means that `reply` will be used later."""

    then: Then = field(default=None, kw_only=True)


@define
class Stop:
    """Stop with `reason`; a `reply` is sent after `terminate` has run."""

    reason: ExitReason = NORMAL
    reply: Any = field(default=MISSING, kw_only=True)


@define
class Ignore:
    """From `init`: do not run, and say so without an error."""


@define
class Fail:
    """From `init`: could not start because of `reason`. Quiet: no crash report, and the starter lives.

    The documented way to fail. `Stop(reason)` from init also works, but its exit signal reaches the starter over the
    link and takes a starter that does not trap exits with it, as in OTP.
    """

    reason: ExitReason
