"""The class of an entity: a GenServer that runs once for each key in the whole cluster.

    class Bid(msgspec.Struct, tag=True):
        amount: int

    class Auction(Entity):
        requests = Bid | Look

        async def init(self, key, state=None):
            self.state = state or await load(key)

        async def handle_call(self, request, sender):
            ...

    auctions = EntitySupervisor("auctions", Auction)

An `EntitySupervisor` starts the processes, one for each key.
"""

from __future__ import annotations

from typing import Any, ClassVar

from actors.servers.gen_server import GenServer
from actors.servers.results import Continue, Fail, Ignore, NoReply, Stop, Within

__all__ = ["Entity"]


class Entity(GenServer[Any]):
    """A process that runs once for each key in the whole cluster. Subclass it, and pass it to an `EntitySupervisor`.

    All callbacks of a `GenServer` exist. An entity must not trap exits for ever: if the lease of its node is lost, the
    process is killed, and `terminate` does not run.

    Attributes:
        key: the key of this entity.
        fence: the number of this start. Each later start of the key, on any node, has a greater fence. Pass it to
            `History.append(fence=)`, or compare it in your own database.
    """

    requests: ClassVar[Any] = Any
    """The types of calls, casts and messages to this entity: a msgspec type, or a union. By default JSON values."""

    answers: ClassVar[Any] = Any
    """The types of the answers of this entity. By default JSON values."""

    key: str
    fence: int

    async def init(  # type: ignore[override] # a supervisor's arguments are known
        self, key: str, state: Any = None, /
    ) -> Continue | Within | Ignore | Fail | Stop | None:
        """Set up the state. Requests wait until this has returned.

        Args:
            key: the key of this entity, as `self.key`.
            state: the result of `handle_handoff` in the previous process, after a handover. Otherwise None.

        Returns:
            As for `GenServer.init`. After `Ignore()` or `Fail(reason)`, callers get `EntityStartFailed`.
        """
        return None

    async def handle_alarm(self, at: float, /) -> NoReply | Continue | Within | Stop | None:
        """Handle the alarm that `set_alarm` has set. It may come twice, on any node.

        Args:
            at: the time for which the alarm was set, in seconds since the epoch.

        Returns:
            As from `handle_cast`.
        """
        raise NotImplementedError

    async def handle_handoff(self) -> Any:
        """Return a state for the next owner of this key, whose `init` gets it. None loads the state again.

        This is called before the key moves to another node. The process ends afterwards. The state travels like an
        answer, as JSON values or declared structs, so `handoff` may declare its type.
        """
        return None

    async def set_alarm(self, at: float | None) -> None:
        """Let this entity get `handle_alarm` at a time of day, even if its process or its node ends before.

        Args:
            at: the time in seconds since the epoch, as `Runtime.now` returns it. It replaces an earlier alarm. None
                cancels the alarm.
        """
        raise NotImplementedError
