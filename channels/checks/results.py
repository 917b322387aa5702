"""What the callbacks of sockets, channels and mounts may return, and what is said of everything else.

Questions of permission are answered by one documented value. Every other value is a mistake and lets nobody in.
"""

from __future__ import annotations

import dataclasses
from types import CoroutineType
from typing import Any

import attrs
import msgspec

from actors.servers import results
from channels.checks.places import place_of, place_of_method
from channels.errors import InvalidResult
from channels.messages import Binary, Broadcast, Message
from channels.replies import JoinRefused, Reply
from channels.topics import Route

__all__ = ["AFTER_CALL", "AFTER_MESSAGE", "AFTER_PUSH", "invalid", "join_response"]

AFTER_MESSAGE = ("None", "NoReply()", "Continue(argument)", "Within(seconds)", "Stop(reason)")
AFTER_PUSH = ("None", "Reply(payload)", *AFTER_MESSAGE[1:])
AFTER_CALL = ("actors.Reply(value)", "NoReply()", "Stop(reason)")

_AFTER_JOIN = ("None", "a dict", "a record that is encoded as a JSON object", "Binary(data)")

# Records that mean something to this package or to `actors`, and nothing to a client.
_OURS = (
    Reply,
    Route,
    Message,
    Broadcast,
    results.Reply,
    results.NoReply,
    results.Continue,
    results.Within,
    results.Stop,
    results.Ignore,
    results.Fail,
)


def invalid(
    owner: type,
    callback: str,
    got: Any,
    expected: tuple[str, ...],
    *,
    event: str | None = None,
    method: str | None = None,
    advice: str | None = None,
) -> InvalidResult:
    """Make the error for a callback that returned something that it may not.

    Args:
        owner: the class of the channel or the socket.
        callback: the name of the callback, `join` or `handle_in`.
        got: what it returned. A coroutine is closed.
        expected: what it may return.
        event: of a push or a broadcast, which event it was.
        method: the method, where its name is not that of the callback.
        advice: what to write instead, where more can be said than what is expected.
    """
    name = method or callback
    if name == callback:
        place = place_of(getattr(owner, name, None))
    else:
        place = place_of_method(owner, name)
    return InvalidResult(
        f"{owner.__name__}.{callback}",
        got,
        expected,
        event=event,
        place=place,
        advice=advice or _advice(callback, got),
    )


def _advice(callback: str, got: Any) -> str | None:
    kind = type(got)
    if isinstance(got, BaseException):
        return f"write `raise {kind.__name__}(...)` in place of `return`"
    if isinstance(got, type) and issubclass(got, BaseException):
        return f"write `raise {got.__name__}` in place of `return`"
    if kind is Reply:
        if callback == "handle_call":
            return (
                "channels.Reply answers a client's push; write actors.Reply(value) to answer a call"
            )
        return (
            "there is no push to answer here; write self.push(event, payload), or reply_to(socket_ref, Reply(...)) to "
            "answer an earlier push"
        )
    if kind is results.Reply:
        if callback == "handle_in":
            return "actors.Reply answers a call; write channels.Reply(payload) to answer a client's push"
        return "actors.Reply answers a call, and this is none; write self.push(event, payload)"
    if callback == "handle_in" and not isinstance(got, CoroutineType):
        return f"write Reply(...) around it to answer the push; the callback may return {', '.join(AFTER_PUSH)}"
    return None


def join_response(channel: type, response: Any) -> Any:
    """Return what goes to the client with the ok to its join.

    Raises:
        InvalidResult: `join` returned something else than None, a JSON object or a `Binary`. The client is refused.
    """
    if response is None:
        return {}
    if isinstance(response, dict | Binary) or _is_record(response):
        return response
    if isinstance(response, BaseException) or (
        isinstance(response, type) and issubclass(response, BaseException)
    ):
        advice = _advice("join", response)
    elif type(response) is Reply:
        advice = "return the payload itself, without a Reply around it"
    elif isinstance(response, CoroutineType):
        advice = None
    else:
        refusal = f"raise {JoinRefused.__name__}({{...}})"
        advice = f"return None or a dict to let the client in, and write `{refusal}` to refuse it"
    raise invalid(channel, "join", response, _AFTER_JOIN, advice=advice)


def _is_record(value: Any) -> bool:
    if isinstance(value, (type, BaseException, *_OURS)):
        return False
    if isinstance(value, msgspec.Struct):
        return not value.__struct_config__.array_like
    return attrs.has(type(value)) or dataclasses.is_dataclass(value)
