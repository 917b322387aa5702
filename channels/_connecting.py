"""Whether a client may connect, whatever it connects with: origin, version of the protocol, the application's word."""

from __future__ import annotations

from typing import Any

import trio
from attrs import frozen

from actors.runtime import current_runtime
from channels._mounts import MountedSocket, Services
from channels.serializers.base import Serializer, negotiate
from channels.serializers.versions import DEFAULT_VSN
from channels.sockets import ConnectInfo, ConnectRefused, Socket
from channels.telemetry import SOCKET_CONNECT_FAILED, SOCKET_CONNECTED, SOCKET_ORIGIN_REFUSED
from channels.transports.origin import origin_allowed

__all__ = ["Connected", "connect", "may_come_from"]


@frozen(kw_only=True)
class Connected:
    """A client that may connect."""

    mount: MountedSocket
    socket: Socket
    id: str | None
    serializer: Serializer


def may_come_from(
    services: Services, mount: MountedSocket, origin: str | None, *, scheme: str, host: str | None
) -> bool:
    """Tell whether a request may come from a page of that origin; if not, it is counted and told."""
    if origin_allowed(mount.origin, origin, scheme=scheme, host=host):
        return True
    services.count(SOCKET_ORIGIN_REFUSED)
    current_runtime().telemetry.execute(
        SOCKET_ORIGIN_REFUSED,
        {},
        {"endpoint": services.endpoint, "socket": mount.socket, "origin": origin},
    )
    return False


async def connect(
    services: Services, mount: MountedSocket, params: dict[str, Any], info: ConnectInfo
) -> Connected | int:
    """Find the serializer and ask the application.

    Returns the HTTP status of the refusal where there is one: 403, or 500 for a mistake of the application's.
    """
    serializer = negotiate(params.get("vsn", DEFAULT_VSN), mount.serializers)
    if serializer is None:
        return 403
    started = trio.current_time()
    socket = mount.socket.__new__(mount.socket)
    socket.assigns, socket.endpoint = {}, services.endpoint
    try:
        socket.__init__()  # type: ignore[misc]
        await socket.connect(params, info)
        identity = _identity(socket)
    except ConnectRefused as refusal:
        _measure(started, socket, params, "error", refusal.reason)
        return 403
    except (
        Exception
    ) as error:  # the application's bug: 500 for the client, the traceback for the log
        current_runtime().telemetry.execute(
            SOCKET_CONNECT_FAILED,
            {},
            {"endpoint": services.endpoint, "socket": mount.socket, "exception": error},
        )
        return 500
    _measure(started, socket, params, "ok", None)
    return Connected(mount=mount, socket=socket, id=identity, serializer=serializer)


def _identity(socket: Socket) -> str | None:
    identity = socket.id()
    if identity is not None and not isinstance(identity, str):
        raise TypeError(
            f"{type(socket).__name__}.id returned {identity!r}; return a topic, such as 'user:7', or None"
        )
    return identity


def _measure(
    started: float, socket: Socket, params: dict[str, Any], result: str, reason: Any
) -> None:
    telemetry = current_runtime().telemetry
    if telemetry.handlers(SOCKET_CONNECTED):
        telemetry.execute(
            SOCKET_CONNECTED,
            {"duration": trio.current_time() - started},
            {
                "endpoint": socket.endpoint,
                "socket": socket,
                "params": params,
                "result": result,
                "reason": reason,
            },
        )
