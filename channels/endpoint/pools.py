"""The pools of an endpoint, whose supervisors run the channels, and the ids of its children with user processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from actors.servers.gen_server import Request
from channels.channel import Channel, server_of
from channels.connection.channel_server import ChannelServer
from channels.protocol.link import Link
from channels.protocol.session import Membership
from channels.serving.mount import Mount
from channels.socket import Socket
from supervision.child_spec import ChildSpec
from supervision.dynamic_supervisor import DynamicSupervisor
from supervision.supervisor import Supervisor

__all__ = ["CHILDREN", "ChannelPool", "ids_of_application", "pools_of"]

CHILDREN: Final = "children"
"""The id of the supervisor of the application's own children, below the endpoint."""
_CHANNELS: Final = " channels"


def _spec_of(channel: type[Channel]) -> ChildSpec:
    """Return the child spec of the servers of one class of channels."""
    # spawn_link, because the init of a channel server cannot fail. The supervisor does not wait for the join.
    start = server_of(channel) or ChannelServer.spawn_link
    # From its start on, the process has the name of the user's class in paths.
    return ChildSpec("channel", start, kwargs={"label": channel.__name__}, restart="temporary")


class ChannelPool:
    """The supervisors of all channels of one socket class.

    The supervisors do not restart a crashed channel, because its client rejoins. When the endpoint stops, they stop all
    channels at the same time.
    """

    def __init__(self, owner: object, name: str, partitions: int) -> None:
        self.name = name
        self.names: list[object] = [
            (owner, "channels", name, number) for number in range(partitions)
        ]
        self._next = 0
        self._specs: dict[type[Channel], ChildSpec] = {}

    def child_spec(self) -> ChildSpec:
        """Return the child spec of the pool, for the endpoint."""
        supervisors = [
            ChildSpec(
                number,
                DynamicSupervisor.start_link,
                kwargs={"name": name, "label": f"{self.name} channels {number}"},
                type="supervisor",
            )
            for number, name in enumerate(self.names)
        ]
        id = f"{self.name}{_CHANNELS}"
        return Supervisor.child_spec(supervisors, id=id, label=id)

    def start(self, link: Link, membership: Membership, payload: Any) -> Request:
        """Ask for the start of the channel server of a membership. The supervisors of the pool take turns.

        If the supervisor is idle, the request is done when this returns. See `DynamicSupervisor.request_start`.
        """
        channel = membership.route.channel
        spec = self._specs.get(channel)
        if spec is None:
            spec = self._specs[channel] = _spec_of(channel)
        self._next = (self._next + 1) % len(self.names)
        return DynamicSupervisor.request_start(
            self.names[self._next], spec, link, membership, payload
        )


def ids_of_application(sockets: Mapping[str, type[Socket] | Mount]) -> frozenset[str]:
    """Return the ids of an endpoint's children that run code of the application: its children, and its channels."""
    classes = (each.socket if isinstance(each, Mount) else each for each in sockets.values())
    return frozenset((CHILDREN, *(f"{each.__name__}{_CHANNELS}" for each in classes)))


def pools_of(owner: object, mounts: Mapping[str, Mount]) -> dict[type[Socket], ChannelPool]:
    """Return a pool for each socket class, with the largest number of partitions of its mounts."""
    partitions: dict[type[Socket], int] = {}
    for mount in mounts.values():
        partitions[mount.socket] = max(partitions.get(mount.socket, 0), mount.partitions)
    return {
        socket: ChannelPool(owner, socket.__name__, number) for socket, number in partitions.items()
    }
