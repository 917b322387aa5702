"""The mounted sockets of an endpoint, by path."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from actors.servers.gen_server import Request
from channels.protocol.link import Link
from channels.protocol.longpoll import LongPoll
from channels.protocol.session import Membership
from channels.serializers.serializer import Codec, Serializer
from channels.serving.mount import Mount
from channels.socket import Socket
from channels.topics import Router
from channels.wire.cross_site import parse_rule
from channels.wire.deflate import Deflate
from channels.wire.urls import InvalidPath, PathTable, join_paths
from channels.wire.websocket import deflated_frames, frame

__all__ = ["Mounted", "MountedSocket", "Pool", "mount_all"]


class Pool(Protocol):
    """The supervisors of all channels of one socket class. `channels.endpoint.pools` implements it."""

    names: list[object]

    def start(self, link: Link, membership: Membership, payload: Any) -> Request:
        """Ask for the start of the channel of a membership. If no process has to wait, the request is done."""


def _option(mount: Mount, name: str) -> Any:
    """Return the mount's value of an option. If it is None, return the value of the socket class."""
    value = getattr(mount, name)
    return getattr(mount.socket, name) if value is None else value


class MountedSocket:
    """A socket at a path, with checked options and with codecs that all its connections share."""

    def __init__(self, path: str, mount: Mount, pool: Pool, router: Router) -> None:
        # The path without the suffix of the transport, such as "/websocket".
        self.path = path
        self.socket = mount.socket
        self.timeout = mount.timeout
        self.max_frame_size = mount.max_frame_size
        self.serializers = tuple(mount.serializers)
        self.origin = parse_rule(mount.check_origin)
        self.router = router
        # All connections share this bound method, because a bound method takes 80 bytes.
        self.match = self.router.match
        self.max_channels: int = _option(mount, "max_channels")
        self.max_joining: int = _option(mount, "max_joining") or max(100, self.max_channels)
        self.max_messages_per_second: float = _option(mount, "max_messages_per_second")
        self.max_joins_per_second: float = _option(mount, "max_joins_per_second")
        self.has_rates = min(self.max_messages_per_second, self.max_joins_per_second) < math.inf
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
        # The codecs for clients with compression, by serializer and size of the window in bits.
        self.deflating_codecs: dict[tuple[Serializer, int], Codec] = {}
        # The codecs for transports that take whole messages, such as long polling.
        self.message_codecs: dict[Serializer, Codec] = {}
        # The names of the supervisors that run the channels of this socket, and the function that starts a channel.
        self.pool_names: Sequence[object] = pool.names
        self.start_channel = pool.start

    def use_codecs(
        self,
        codecs: dict[Serializer, Codec],
        message_codecs: dict[Serializer, Codec],
        deflating_codecs: dict[tuple[Serializer, int], Codec],
    ) -> None:
        """Use the same codecs as the other mounts, because the fastlane encodes a broadcast once for each codec."""
        self.deflating_codecs = deflating_codecs
        for serializer, _ in self.serializers:
            self.codecs[serializer] = codecs.setdefault(serializer, Codec(serializer, frame))
            self.message_codecs[serializer] = message_codecs.setdefault(
                serializer, Codec(serializer, _as_it_is)
            )

    def codec(self, serializer: Serializer, deflate: Deflate | None) -> Codec:
        """Return the codec for a WebSocket."""
        if deflate is None:
            return self.codecs[serializer]
        key = (serializer, deflate.window_bits)
        codec = self.deflating_codecs.get(key)
        if codec is None:
            codec = Codec(serializer, deflated_frames(deflate.window_bits))
            self.deflating_codecs[key] = codec
        return codec


class Mounted(msgspec.Struct, frozen=True, kw_only=True):
    """The mounted sockets of an endpoint, by path for each transport."""

    websockets: PathTable[MountedSocket]
    longpolls: PathTable[MountedSocket]


def mount_all(
    mounts: Mapping[str, Mount],
    pools: Mapping[type[Socket], Pool],
    route: Callable[[type[Socket]], Router],
) -> Mounted:
    """Mount sockets at their paths.

    Args:
        mounts: the mounts, by path.
        pools: the pools of the channels, by socket class.
        route: the function that returns the routing table of a socket class.

    Raises:
        InvalidPath: a path is malformed, or two sockets have the same path.
        ChannelsError: a mount has another mistake.
    """
    codecs: dict[Serializer, Codec] = {}
    message_codecs: dict[Serializer, Codec] = {}
    deflating_codecs: dict[tuple[Serializer, int], Codec] = {}
    websockets: PathTable[MountedSocket] = PathTable()
    longpolls: PathTable[MountedSocket] = PathTable()
    polling: list[tuple[str, MountedSocket]] = []
    for path, mount in mounts.items():
        mount.socket.check()
        mounted = MountedSocket(path, mount, pools[mount.socket], route(mount.socket))
        mounted.use_codecs(codecs, message_codecs, deflating_codecs)
        if mount.websocket:
            websockets.add(join_paths(path, mount.path), mounted)
        if mounted.longpoll is not None:
            polling.append((join_paths(path, mounted.longpoll.path), mounted))
    # Checked after the loop, because a path may clash with the WebSocket path of a later mount.
    for full, mounted in polling:
        if full in websockets:
            raise InvalidPath(
                f"a WebSocket and long polling are both mounted at {full!r}; write different paths",
                path=full,
            )
        longpolls.add(full, mounted)
    return Mounted(websockets=websockets, longpolls=longpolls)


def _as_it_is(data: bytes) -> bytes:
    return data
