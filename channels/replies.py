"""What a channel's handlers answer with, and how they refuse."""

from __future__ import annotations

from typing import Any

from attrs import define, field

from channels.errors import ChannelsError, InvalidOption

__all__ = ["JoinRefused", "Reply"]


@define
class Reply:
    """Answer the push that is being handled.

        return Reply({"total": 3})
        return Reply({"reason": "too long"}, status="error")

    Args:
        payload: any JSON value or a `Binary`; the client finds it as `response`. An empty object by default.
        status: the client's `receive(status, ...)` is called; `"ok"` and `"error"` by convention, any string works.

    Raises:
        InvalidOption: the status is no string.
    """

    payload: Any = field(factory=dict)
    status: str = "ok"

    def __attrs_post_init__(self) -> None:
        # Here, because the handler that wrote it is still on the stack then.
        if not isinstance(self.status, str):
            raise InvalidOption(
                "Reply", "status", self.status, 'text, such as "ok" or "error", behind the payload'
            )


class JoinRefused(ChannelsError):
    """Raise it in `join` to refuse: the client's join is answered with status `error` and this payload.

    raise JoinRefused({"reason": "unauthorized"})
    """

    def __init__(self, payload: Any = None) -> None:
        super().__init__(payload)
        self.payload: Any = {} if payload is None else payload
