"""A mount that is ready to serve, and what all connections of an endpoint share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import trio
from attrs import frozen

from actors.refs import Pid
from actors.runtime import current_runtime
from channels.checks.places import place_of
from channels.connection.channel_server import ChannelServer, Link
from channels.connection.effects import Membership
from channels.connection.work_budget import WorkBudget
from channels.endpoint.mount import Mount
from channels.longpoll.options import LongPoll
from channels.pubsub.pubsub import PubSub
from channels.serializers.serializer import Codec, Serializer
from channels.socket import Socket, router_of
from channels.telemetry import POLLER_OUT_OF_MEMORY, SOCKET_WITHOUT_CHANNELS
from channels.tokens.token import Secret
from channels.upgrade.cross_site import parse_rule
from channels.upgrade.urls import InvalidPath, PathTable, join_paths
from channels.wire.deflate import Deflate
from channels.wire.websocket import deflated_frames, frame
from supervision.child_spec import ChildSpec
from supervision.dynamic_supervisor import DynamicSupervisor
from supervision.supervisor import Supervisor

if TYPE_CHECKING:
    from channels.http.handover import HttpHandover
    from channels.transports.listener import Listen, Listening
    from channels.transports.transports import Transports

__all__ = ["ChannelPool", "Mounted", "MountedSocket", "Services", "mount_all"]


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

    def __init__(self, path: str, mount: Mount, pool: ChannelPool) -> None:
        # Without what its transports add.
        self.path = path
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
        self.longpoll = LongPoll() if mount.longpoll is True else mount.longpoll or None
        self.compress = mount.compress
        self.max_json_values = mount.max_json_values
        self.codecs: dict[Serializer, Codec] = {}
        # For clients with whom compression was agreed on, by the size of their window.
        self.deflating_codecs: dict[tuple[Serializer, int], Codec] = {}
        # For transports that take whole messages: long polling, and servers that frame them themselves.
        self.message_codecs: dict[Serializer, Codec] = {}
        self._pool = pool

    def use_codecs(
        self,
        codecs: dict[Serializer, Codec],
        message_codecs: dict[Serializer, Codec],
        deflating_codecs: dict[tuple[Serializer, int], Codec],
    ) -> None:
        """Share codecs with the other mounts: broadcasts are encoded once for each codec."""
        self.deflating_codecs = deflating_codecs
        for serializer, _ in self.serializers:
            self.codecs[serializer] = codecs.setdefault(serializer, Codec(serializer, frame))
            self.message_codecs[serializer] = message_codecs.setdefault(
                serializer, Codec(serializer, _as_it_is)
            )

    def codec(self, serializer: Serializer, deflate: Deflate | None) -> Codec:
        """The codec for a WebSocket."""
        if deflate is None:
            return self.codecs[serializer]
        key = (serializer, deflate.window_bits)
        codec = self.deflating_codecs.get(key)
        if codec is None:
            codec = Codec(serializer, deflated_frames(deflate.window_bits))
            self.deflating_codecs[key] = codec
        return codec

    async def start_channel(
        self, link: Link, membership: Membership, payload: Any, replaced: tuple[Pid, ...]
    ) -> Pid:
        """Start the channel of a membership, under the pool of this socket."""
        return await self._pool.start(link, membership, payload, replaced)


@frozen(kw_only=True)
class Mounted:
    """The sockets of an endpoint: the supervisors of their channels, and where they are for which transport."""

    pools: list[ChannelPool]
    websockets: PathTable[MountedSocket]
    longpolls: PathTable[MountedSocket]


def mount_all(owner: object, mounts: Mapping[str, Mount]) -> Mounted:
    """Mount sockets at their paths.

    Raises:
        InvalidPath: a path cannot be one, or is taken.
        ChannelsError: another mistake in what is mounted.
    """
    pools: dict[type[Socket], ChannelPool] = {}
    codecs: dict[Serializer, Codec] = {}
    message_codecs: dict[Serializer, Codec] = {}
    deflating_codecs: dict[tuple[Serializer, int], Codec] = {}
    websockets: PathTable[MountedSocket] = PathTable()
    longpolls: PathTable[MountedSocket] = PathTable()
    polling: list[tuple[str, MountedSocket]] = []
    for path, mount in mounts.items():
        socket = mount.socket
        if socket not in pools:
            partitions = max(each.partitions for each in mounts.values() if each.socket is socket)
            pools[socket] = ChannelPool(owner, socket.__name__, partitions)
        mounted = MountedSocket(path, mount, pools[socket])
        mounted.use_codecs(codecs, message_codecs, deflating_codecs)
        if mount.websocket:
            websockets.add(join_paths(path, mount.path), mounted)
        if mounted.longpoll is not None:
            polling.append((join_paths(path, mounted.longpoll.path), mounted))
    # When all WebSockets are known, those of the mounts that come later too.
    for full, mounted in polling:
        if full in websockets:
            raise InvalidPath(
                f"a WebSocket is mounted at {full!r}, and long polling too; give each a path of its own",
                path=full,
            )
        longpolls.add(full, mounted)
    return Mounted(pools=list(pools.values()), websockets=websockets, longpolls=longpolls)


def _as_it_is(data: bytes) -> bytes:
    return data


class Services:
    """What the connections of one running endpoint share."""

    def __init__(
        self,
        *,
        endpoint: Any,
        pubsub: PubSub,
        mounts: PathTable[MountedSocket],
        longpolls: PathTable[MountedSocket],
        secret_key_base: Secret,
        transports: Transports,
        http: HttpHandover,
        head_timeout: float,
        listen: Listen,
    ) -> None:
        self.endpoint = endpoint
        self.pubsub = pubsub
        # By the paths of their WebSockets, and by those of their long polling.
        self.mounts = mounts
        self.longpolls = longpolls
        self.secret_key_base = secret_key_base
        # The sessions of clients that poll, by what their tokens say.
        self.polling: dict[str, Pid] = {}
        self.transports = transports
        self.http = http
        self.head_timeout = head_timeout
        self.listen = listen
        self.runtime = current_runtime()
        self.supervisor: Pid | None = None
        self.closed = False
        self.counts: dict[tuple[str, ...], int] = {}
        self.draining = False
        self.listener: Listening | None = None
        # Bytes of messages that have not arrived whole, of all WebSockets.
        self.held = 0
        # What all connections together may do in one turn of the scheduler.
        self.budget = WorkBudget()
        # Of connections that have not sent the head of their first request.
        self.heads: dict[trio.CancelScope, None] = {}
        # Handed over to be served, and by nobody yet: what is to be closed if nobody comes.
        self.unserved: dict[object, Any] = {}
        if transports.poller is not None:
            transports.poller.on_out_of_memory = self._out_of_memory

    def tell_of_empty_sockets(self) -> None:
        """Tell of each socket class that has no channels: its clients connect, and join nothing."""
        mounts = (*self.mounts.values(), *self.longpolls.values())
        for socket in dict.fromkeys(mount.socket for mount in mounts):
            if not socket.channels:
                self.runtime.telemetry.execute(
                    SOCKET_WITHOUT_CHANNELS,
                    {},
                    {"endpoint": self.endpoint, "socket": socket, "place": place_of(socket)},
                )

    def listening(self, listener: Listening) -> None:
        """Note where clients come in: a listener that was restarted replaces the one before."""
        self.listener = listener

    def drain(self) -> None:
        """Take no new WebSockets from now on, and wait no longer for first requests that are not whole."""
        self.draining = True
        for scope in list(self.heads):
            scope.cancel()

    def close(self) -> None:
        """Give back what no process owns. To be called when all processes of the endpoint have ended."""
        self.listener = None
        self.closed = True
        for carrier in self.unserved.values():
            carrier.close()
        self.unserved.clear()
        self.transports.close()

    def _out_of_memory(self, reads: int) -> None:
        self.count(POLLER_OUT_OF_MEMORY)
        self.runtime.telemetry.execute(
            POLLER_OUT_OF_MEMORY, {"reads": reads}, {"endpoint": self.endpoint}
        )

    def count(self, what: tuple[str, ...]) -> None:
        """Count an event for `Endpoint.statistics()`."""
        self.counts[what] = self.counts.get(what, 0) + 1
