"""Inspection of a running endpoint: its connected clients, and the topics that each client has joined.

    for client in await list_sockets(endpoint):
        print(client.pid, client.id, client.socket.assigns)
        for channel in await list_channels(client.pid):
            print("  ", channel.topic, channel.status)

Use these functions in a console, a test, or a protected admin page. Do not call them often, because a call sends a
message to each process that it asks. Source: Phoenix.Debug.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio
from attrs import field, frozen

from actors.errors import CallExit, InvalidArgument
from actors.refs import Pid
from actors.runtime import current_runtime
from actors.servers.gen_server import system_call
from channels.channel import Channel
from channels.connection.channel_server import ChannelServer
from channels.connection.session_server import SessionServer
from channels.endpoint.endpoint import Endpoint
from channels.protocol.session import Status
from channels.socket import Socket
from supervision.dynamic_supervisor import DynamicSupervisor

__all__ = [
    "ChannelInfo",
    "SocketInfo",
    "get_channel",
    "is_channel",
    "is_socket",
    "list_channels",
    "list_sockets",
]


@frozen(kw_only=True)
class SocketInfo:
    """One connected client.

    Attributes:
        pid: the process that serves the client.
        socket: the live instance of the socket class. Read it, and do not change it.
        id: the return value of the socket's `id`.
    """

    pid: Pid
    socket: Socket = field(repr=lambda socket: type(socket).__name__)
    id: str | None


@frozen(kw_only=True)
class ChannelInfo:
    """One topic that a client has joined or is joining.

    Attributes:
        pid: the channel's process; None if it did not start.
        topic: the topic.
        channel: the channel class.
        status: `joining`, `joined` or `leaving`.
    """

    pid: Pid | None
    topic: str
    channel: type[Channel]
    status: Status


async def list_sockets(endpoint: Endpoint) -> list[SocketInfo]:
    """Return the connected clients of an endpoint: first the polling clients, then the WebSocket clients.

    Both groups are in the order of their arrival. The call asks all processes at the same time, and waits at most five
    seconds for their answers. The list leaves out connections that serve pages, connections without a request yet, and
    clients that leave during the call.

    Args:
        endpoint: a running endpoint of this program.
    """
    pids: list[Pid] = []
    for supervisor in ((endpoint, "sessions"), (endpoint, "connections")):
        try:
            children = await DynamicSupervisor.which_children(supervisor)
        except CallExit:
            # The endpoint is not running, or none of its mounts has long polling.
            continue
        pids += [child.pid for child in reversed(children) if isinstance(child.pid, Pid)]
    answers: dict[Pid, SocketInfo | None] = {}

    async def ask(pid: Pid) -> None:
        answers[pid] = await _ask(pid, _socket_info)

    async with trio.open_nursery() as nursery:
        for pid in pids:
            nursery.start_soon(ask, pid)
    return [info for pid in pids if (info := answers[pid]) is not None]


async def list_channels(socket: Pid) -> list[ChannelInfo]:
    """Return the topics that a client has joined, in the order of the joins.

    Args:
        socket: the process that serves the client, `SocketInfo.pid`.

    Raises:
        InvalidArgument: the process `socket` does not serve a client, or it has ended.
    """
    channels = await _ask(socket, _channel_infos) if is_socket(socket) else None
    if channels is None:
        problem = (
            f"{socket!r} is not the process of a connected client; take a pid from list_sockets()"
        )
        raise InvalidArgument(None, socket, problem)
    return list(channels)


async def get_channel(pid: Pid) -> Channel:
    """Return the channel of a process, with its `topic`, its `assigns` and its attributes.

    This is the live object, and its state can change at any time. Read it, and do not change it.

    Raises:
        InvalidArgument: the process `pid` does not run a channel, or it has ended.
    """
    channel = await _ask(pid, _channel) if is_channel(pid) else None
    if channel is None:
        problem = f"{pid!r} is not the process of a channel; take a pid from list_channels()"
        raise InvalidArgument(None, pid, problem)
    found: Channel = channel
    return found


def is_socket(pid: Pid) -> bool:
    """Return True if a process serves a connection of an endpoint, or a session of a polling client.

    Args:
        pid: the process.
    """
    return _kind_of(pid) in ("connections", "sessions")


def is_channel(pid: Pid) -> bool:
    """Return True if a process runs a channel.

    Args:
        pid: the process.
    """
    return _kind_of(pid) == "channels"


def _kind_of(pid: Pid) -> str | None:
    """Return the role of the supervisor of a process; None if the supervisor does not belong to an endpoint."""
    runtime = current_runtime()
    info = runtime.process_info(pid)
    parent = None if info is None else runtime.process_info(info["parent"])
    name = None if parent is None else parent["name"]
    if isinstance(name, tuple) and len(name) > 1 and isinstance(name[0], Endpoint):
        return str(name[1])
    return None


async def _ask(pid: Pid, question: Callable[[Any], Any]) -> Any:
    try:
        return await system_call(pid, lambda loop: question(loop.server))
    except CallExit:
        # The process has ended, or did not answer in time.
        return None


def _socket_info(server: object) -> SocketInfo | None:
    if not isinstance(server, SessionServer) or getattr(server, "session", None) is None:
        return None
    return SocketInfo(pid=server.pid, socket=server.socket, id=server.socket.id())


def _channel_infos(server: object) -> list[ChannelInfo] | None:
    if not isinstance(server, SessionServer) or getattr(server, "session", None) is None:
        return None
    return [
        ChannelInfo(
            pid=each.process, topic=each.topic, channel=each.route.channel, status=each.status
        )
        for each in server.session.memberships
    ]


def _channel(server: object) -> Channel | None:
    return server.channel if isinstance(server, ChannelServer) else None
