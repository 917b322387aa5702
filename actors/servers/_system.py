"""The requests of `actors.sys`, and how a server's loop answers them.

A request is a function that runs in the server with its loop; what it returns is the answer, and what it raises is
raised at whoever asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from attrs import define, field

from actors.exits import ExitReason
from actors.refs import Pid

if TYPE_CHECKING:
    from actors.servers._loop import Loop, StopRequest
    from actors.servers.gen_server import Sender

__all__ = ["ServerStatus", "SystemCall", "SystemFailure", "SystemRequest", "redacted"]

T = TypeVar("T")

SystemCall: TypeAlias = "Callable[[Loop], Any] | StopRequest"


class SystemRequest:
    """A call that the loop itself answers, before any callback could see it."""

    __slots__ = ("request", "sender")

    def __init__(self, request: SystemCall, sender: Sender) -> None:
        self.request = request
        self.sender = sender

    def __repr__(self) -> str:
        return f"system request {getattr(self.request, '__name__', self.request)!r}"


@define
class SystemFailure(Generic[T]):
    """The answer to a request that raised."""

    error: Exception


@define(kw_only=True)
class ServerStatus:
    """What is known of a server, as `actors.sys.get_status` and crash reports show it.

    A server redacts it by overriding `format_status`.

    - `state`: its state; `message`: the last one that it handled; `reason`: why it ended, in crash reports;
    - `log`: the events that `actors.sys.log` has kept;
    - `pid`, `server`, `dictionary`, `suspended`: which server this is;
    - `parent`: the process whose end stops it. That is the one it was started linked to, the runtime if no process
      started it, and otherwise the server itself.
    """

    pid: Pid
    server: str
    parent: Pid
    dictionary: dict[Any, Any] = field(factory=dict)
    suspended: bool = False
    state: Any = None
    message: Any = None
    reason: ExitReason = None
    log: list[Any] = field(factory=list)


def redacted(
    format_status: Callable[[ServerStatus], ServerStatus], status: ServerStatus
) -> ServerStatus:
    """What a server wants to be known of it. If it fails to say, nothing of its own is shown."""
    try:
        shown = format_status(status)
        if isinstance(shown, ServerStatus):
            return shown
        problem = f"format_status returned {type(shown).__name__}, not the status"
    except Exception as error:  # a report about a crash must not be stopped by another bug
        problem = f"format_status raised {type(error).__name__}"
    marker = f"<hidden: {problem}>"
    status.state = status.message = marker
    status.log = []
    return status
