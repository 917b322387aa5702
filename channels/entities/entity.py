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

    All callbacks of a `GenServer` exist. `terminate` runs before a stop, an idle stop and a move to another node. As in
    every GenServer, it does not run if the process is killed. A node kills its entities if it loses its lease. A
    callback that shields itself from cancellation for longer than the margin of the lease can then run beside the next
    owner, and only the fence stops its writes.

    Timers, monitors, links and registered names end with the process, also at a move. So make them in `init`.

    Attributes:
        key: the key of this entity.
        fence: the number of this start. Each later start of the key, on any node, has a greater fence. Pass it to
            `History.claim` and `History.append`, or compare it in your own database.
    """

    requests: ClassVar[Any] = Any
    """The types of calls, casts and messages to this entity: a msgspec type, or a union. By default JSON values."""

    answers: ClassVar[Any] = Any
    """The types of the answers, and of all messages between pids of different nodes. By default JSON values.

    A message to a pid of the same node does not travel, so Ashtree does not check its type.
    """

    handoff: ClassVar[Any] = Any
    """The type of the result of `handle_handoff`. By default a JSON value."""

    key: str
    fence: int

    async def init(
        self, key: str, state: Any = None, /
    ) -> Continue | Within | Ignore | Fail | Stop | None:
        """Set up the state. Requests wait until this has returned.

        If this calls `History.claim`, call it first. If the claim raises `FenceRefused`, the entity gets a greater
        fence and runs `init` again, at most three times in all.

        Args:
            key: the key of this entity, as `self.key`.
            state: the result of `handle_handoff` in the previous process, after a handover. Otherwise None.

        Returns:
            As for `GenServer.init`. After `Ignore()` or `Fail(reason)`, callers get `EntityStartFailed`.
        """
        return None

    async def handle_alarm(self, at: float, /) -> NoReply | Continue | Within | Stop | None:
        """Handle the alarm that `set_alarm` has set. It may come twice, and on different nodes.

        Args:
            at: the time for which the alarm was set, in seconds since the epoch.

        Returns:
            As from `handle_cast`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} got an alarm but has no handle_alarm; write `async def handle_alarm(self, at)`"
        )

    async def handle_handoff(self) -> Any:
        """Return a state for the next owner of this key, whose `init` gets it. With None, `init` must load the state.

        The entity calls this before its key moves to another node, and ends afterwards. If the state does not arrive,
        or the next node runs another version that cannot read it, the next `init` gets None.

        A move waits for the calls that the entity has begun and not answered, up to the `handover_timeout`. After that,
        they end with `EntityLost`.
        """
        return None

    async def set_alarm(self, at: float | None) -> None:
        """Set the time of day of the next `handle_alarm`. The alarm outlives the process and its node.

        The arbiter keeps the alarm: the program, the parent of the workers, or Redis. If the arbiter loses its data,
        the alarm is lost too.

        Args:
            at: the time in seconds since 1970, such as `current_runtime().now() + 120`. It replaces an earlier alarm.
                None cancels the alarm.

        Raises:
            ArbiterUnavailable: the arbiter did not answer. The alarm may be set or not.
            InvalidOption: `at` is not a number of seconds, or lies more than a year in the past, as a number of seconds
                from now would.
        """
        raise NotImplementedError(
            f"{type(self).__name__} runs outside of an EntitySupervisor, which keeps the alarms"
        )
