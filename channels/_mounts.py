"""A mount that is ready to serve, and what all connections of an endpoint share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from actors.refs import Pid
from channels._channel_server import ChannelServer, Link
from channels.effects import Membership
from channels.mounts import Mount
from channels.paths import PathTable
from channels.pubsub.pubsub import PubSub
from channels.serializers.base import Codec, Serializer
from channels.sockets import router_of
from channels.transports.origin import parse_rule
from channels.transports.websocket import frame
from supervision.child_spec import ChildSpec
from supervision.dynamic_supervisor import DynamicSupervisor
from supervision.supervisor import Supervisor

if TYPE_CHECKING:
    from channels.transports.attach import Transports
    from channels.transports.http import HttpHandover
    from channels.transports.listener import Listen, Listening

__all__ = ["ChannelPool", "MountedSocket", "Services"]


class ChannelPool:
    """The supervisors of all channels of one socket class.

    A channel that crashes is not restarted by them: its client rejoins. They keep it from outliving the endpoint,
    and stop all their channels at once when the endpoint stops.
    """

    def __init__(self, owner: object, name: str, partitions: int) -> None:
        self.name = name
        self._names = [(owner, "channels", name, number) for number in range(partitions)]
        self._next = 0

    def child_spec(self) -> ChildSpec:
        """The pool as a child of the endpoint."""
        supervisors = [
            ChildSpec(
                number,
                DynamicSupervisor.start_link,
                kwargs={"name": name, "label": f"{self.name} channels {number}"},
                type="supervisor",
            )
            for number, name in enumerate(self._names)
        ]
        return Supervisor.child_spec(
            supervisors, id=f"{self.name} channels", label=f"{self.name} channels"
        )

    async def start(self, *args: Any) -> Pid:
        """Start a channel server with these arguments, in the next supervisor by turns."""
        self._next = turn = (self._next + 1) % len(self._names)
        return await DynamicSupervisor.start_child(self._names[turn], _CHANNEL, *args)


# Not start_link: the init of a channel server cannot fail, and what may take its time, the join, comes after it.
_CHANNEL = ChildSpec("channel", ChannelServer.spawn_link, restart="temporary")


class MountedSocket:
    """One socket at one path, checked, with everything made once that all its connections need."""

    def __init__(self, mount: Mount, pool: ChannelPool) -> None:
        self.socket = mount.socket
        self.timeout = mount.timeout
        self.max_frame_size = mount.max_frame_size
        self.serializers = tuple(mount.serializers)
        self.origin = parse_rule(mount.check_origin)
        self.router = router_of(mount.socket)
        self.max_channels = (
            mount.socket.max_channels if mount.max_channels is None else mount.max_channels
        )
        self.subprotocols = None if mount.subprotocols is None else tuple(mount.subprotocols)
        self.auth_token = mount.auth_token
        self.session = mount.session
        self.check_csrf = mount.check_csrf
        self.error_handler = mount.error_handler
        self.declared = tuple(each for each in mount.connect_info if isinstance(each, str))
        self.own = dict(each for each in mount.connect_info if not isinstance(each, str))
        self.codecs: dict[Serializer, Codec] = {}
        self._pool = pool

    def use_codecs(self, codecs: dict[Serializer, Codec]) -> None:
        """Share codecs with the other mounts: broadcasts are encoded once for each codec."""
        for serializer, _ in self.serializers:
            self.codecs[serializer] = codecs.setdefault(serializer, Codec(serializer, frame))

    async def start_channel(
        self, link: Link, membership: Membership, payload: Any, replaced: tuple[Pid, ...]
    ) -> Pid:
        """Start the channel of a membership, under the pool of this socket."""
        return await self._pool.start(link, membership, payload, replaced)


class Services:
    """What the connections of one running endpoint share."""

    def __init__(
        self,
        *,
        endpoint: Any,
        pubsub: PubSub,
        mounts: PathTable[MountedSocket],
        transports: Transports,
        http: HttpHandover,
        head_timeout: float,
        listen: Listen,
    ) -> None:
        self.endpoint = endpoint
        self.pubsub = pubsub
        self.mounts = mounts
        self.transports = transports
        self.http = http
        self.head_timeout = head_timeout
        self.listen = listen
        self.counts: dict[tuple[str, ...], int] = {}
        self.draining = False
        self.listener: Listening | None = None
        # Of connections that have not sent the head of their first request.
        self.heads: dict[trio.CancelScope, None] = {}

    def listening(self, listener: Listening) -> None:
        """Note where clients come in: a listener that was restarted replaces the one before."""
        self.listener = listener

    def drain(self) -> None:
        """Take no new WebSockets from now on, and let go of clients that have not asked for anything yet."""
        self.draining = True
        for scope in list(self.heads):
            scope.cancel()

    def close(self) -> None:
        """Give back what no process owns. To be called when all processes of the endpoint have ended."""
        self.listener = None
        self.transports.close()

    def count(self, what: tuple[str, ...]) -> None:
        """Count an event for `Endpoint.statistics()`."""
        self.counts[what] = self.counts.get(what, 0) + 1
