"""What calls and casts travel in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.servers.gen_server import Sender

__all__ = ["CallRequest", "Cast"]


class CallRequest:
    """A call in the mailbox of its server."""

    __slots__ = ("request", "sender")

    def __init__(self, request: Any, sender: Sender) -> None:
        self.request = request
        self.sender = sender

    def __repr__(self) -> str:
        return f"call {self.request!r} from {self.sender.pid!r}"


class Cast:
    """A cast in the mailbox of its server."""

    __slots__ = ("message",)

    def __init__(self, message: Any) -> None:
        self.message = message

    def __repr__(self) -> str:
        return f"cast {self.message!r}"
