"""The decision to accept or refuse a client of any transport, from its origin, version and session, and `connect`."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Mapping
from typing import Any

import msgspec

from actors.instrumentation.telemetry import Event
from actors.places import place_of
from channels.checks import invalid
from channels.connect_info import ConnectInfo
from channels.errors import InvalidResult
from channels.messages import ConnectRefused
from channels.protocol.link import Trace
from channels.serializers.serializer import DEFAULT_VSN, Serializer, negotiate
from channels.serving.mounted import MountedSocket
from channels.serving.services import Services
from channels.socket import Refusal, Socket
from channels.telemetry import (
    SOCKET_CONNECT_FAILED,
    SOCKET_CONNECTED,
    SOCKET_ORIGIN_REFUSED,
    SOCKET_SESSION_REFUSED,
    SOCKET_UNSUPPORTED,
)
from channels.tokens.token import TokenError
from channels.wire import handshake
from channels.wire.cross_site import csrf_problem, origin_allowed, parse_cookies

__all__ = [
    "SERVER_FULL",
    "Connected",
    "connect",
    "may_come_from",
    "unsupported",
]

SERVER_FULL = Refusal(503, headers=(("retry-after", "5"),))
"""The answer to a client for which the server cannot start a process now."""


class Connected(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted client."""

    mount: MountedSocket
    socket: Socket
    id: str | None
    serializer: Serializer
    trace: Trace | None = None


def may_come_from(
    services: Services, mount: MountedSocket, origin: str | None, *, scheme: str, host: str | None
) -> bool:
    """Return True if pages of an origin may connect. If not, count and report a refusal.

    If a `check_origin` function raises, or returns anything except True or False, the result is False.
    """
    try:
        if origin_allowed(mount.origin, origin, scheme=scheme, host=host):
            return True
    except Exception as error:  # broad, because a bug of the application must refuse the client
        _failed(services, mount, error, 403, callback="check_origin")
        return False
    _tell(services, mount, SOCKET_ORIGIN_REFUSED, origin=origin)
    return False


def unsupported(services: Services, mount: MountedSocket, problem: str) -> Refusal:
    """Return the refusal of a client that asks for an unsupported protocol. Count and report it with `problem`."""
    _tell(services, mount, SOCKET_UNSUPPORTED, problem=problem)
    return Refusal()


def _tell(services: Services, mount: MountedSocket, event: Event, **about: Any) -> None:
    services.count(event)
    services.runtime.telemetry.execute(
        event, {}, {"endpoint": services.endpoint, "socket": mount.socket, **about}
    )


async def connect(
    services: Services,
    mount: MountedSocket,
    params: dict[str, Any],
    info: ConnectInfo,
    *,
    transport: str,
    problem: str | None = None,
) -> Connected | Refusal:
    """Choose the serializer and call the `connect` of the application.

    Args:
        services: the services of the endpoint.
        mount: the socket for the client.
        params: the parameters of the query and the path.
        info: the facts of the request. This function adds the session and the fields of the mount.
        transport: `"websocket"` or `"longpoll"`. Only WebSockets use the `error_handler` of the mount.
        problem: the problem with the upgrade request, or None. If the application accepts the client, the client gets
            400 with this text. Phoenix also calls the application first.
    """
    serializer = negotiate(params.get("vsn", DEFAULT_VSN), mount.serializers)
    if serializer is None:
        spoken = ", ".join(requirement.text for _, requirement in mount.serializers)
        asked = reprlib.repr(params.get("vsn"))
        return unsupported(
            services,
            mount,
            f"it asked for version {asked} of the protocol; this socket supports {spoken}",
        )
    deciding = _decide(services, mount, params, info, transport, problem, serializer)
    if services.tracer is None:
        return await deciding
    decision, trace = await services.tracer.connect(mount.socket, params, info, transport, deciding)
    return (
        msgspec.structs.replace(decision, trace=trace)
        if isinstance(decision, Connected)
        else decision
    )


async def _decide(  # noqa: PLR0917 - the arguments of `connect`, and what it found
    services: Services,
    mount: MountedSocket,
    params: dict[str, Any],
    info: ConnectInfo,
    transport: str,
    problem: str | None,
    serializer: Serializer,
) -> Connected | Refusal:
    """Call the `connect` of the application."""
    started = services.runtime.current_time()
    socket = mount.socket.__new__(mount.socket)
    socket.assigns, socket.endpoint = {}, services.endpoint
    about = {"transport": transport, "params": params, "serializer": serializer}
    try:
        if mount.session is not None or mount.own or mount.declared:
            info = await _complete(services, mount, params, info)
        try:
            socket.__init__()  # type: ignore[misc]
            # Check the result, because the application may be untyped.
            answer = await socket.connect(params, info)  # type: ignore[func-returns-value]
            if answer is not None:
                raise _no_answer(type(socket), answer)
        except (ConnectRefused, TokenError) as error:
            reason = error.reason if isinstance(error, ConnectRefused) else error
            services.count(("socket", "refused"))
            _measure(services, started, socket, info, about, result="error", reason=reason)
            return _refusal(mount, reason, info) if transport == "websocket" else Refusal()
        identity = _identity(socket)
    except Exception as error:
        # Broad, because a bug of the application must refuse the client. If `connect` returned anything except None,
        # the application probably meant to refuse the client. Then answer 403, as Phoenix does, else 500.
        is_answer = isinstance(error, InvalidResult) and error.callback.endswith(".connect")
        refusal = Refusal(403 if is_answer else 500)
        _failed(services, mount, error, refusal.status)
        return refusal
    if problem is not None:
        _measure(services, started, socket, info, about, result="error", reason=problem)
        return Refusal(400, problem, (("sec-websocket-version", handshake.VERSION),))
    _measure(services, started, socket, info, about, result="ok", reason=None)
    return Connected(mount=mount, socket=socket, id=identity, serializer=serializer)


def _failed(
    services: Services,
    mount: MountedSocket,
    error: Exception,
    status: int,
    *,
    callback: str = "connect",
) -> None:
    """Count and report a failed callback of the application."""
    services.count(SOCKET_CONNECT_FAILED)
    services.runtime.telemetry.execute(
        SOCKET_CONNECT_FAILED,
        {},
        {
            "endpoint": services.endpoint,
            "socket": mount.socket,
            "callback": callback,
            "exception": error,
            "status": status,
        },
    )


def _no_answer(socket: type[Socket], answer: Any) -> InvalidResult:
    """Return the error for a `connect` that returned anything except None."""
    advice = None
    if not isinstance(answer, BaseException | type) and not inspect.iscoroutine(answer):
        advice = "return None to accept the client, and write `raise ConnectRefused(reason)` to refuse it"
    return invalid(socket, "connect", answer, ("None",), advice=advice)


async def _complete(
    services: Services, mount: MountedSocket, params: dict[str, Any], info: ConnectInfo
) -> ConnectInfo:
    """Add the session and the fields of the mount to the facts of a request."""
    session = None
    if mount.session is not None:
        session = mount.session(parse_cookies(info.headers))
        if inspect.isawaitable(session):
            session = await session
        if session is not None and not isinstance(session, Mapping):
            raise _wrong(mount, "session", session, ("None", "a mapping"))
        if session is not None:
            problem = csrf_problem(mount.check_csrf, session, params.get("_csrf_token"))
            if problem is not None:
                session = None
                _tell(services, mount, SOCKET_SESSION_REFUSED, problem=problem)
    return msgspec.structs.replace(info, session=session, own=mount.own, declared=mount.declared)


def _refusal(mount: MountedSocket, reason: Any, info: ConnectInfo) -> Refusal:
    if mount.error_handler is None or reason is None:
        return Refusal()
    refusal = mount.error_handler(reason, info)
    if not isinstance(refusal, Refusal):
        raise _wrong(
            mount,
            "error_handler",
            refusal,
            ("Refusal(status, body)",),
            advice="return a Refusal, such as Refusal(401)",
        )
    return refusal


def _identity(socket: Socket) -> str | None:
    identity = socket.id()
    if identity is not None and not isinstance(identity, str):
        raise invalid(
            type(socket),
            "id",
            identity,
            ("None", "a topic"),
            advice="return a topic, such as 'user:7', or None",
        )
    return identity


def _wrong(
    mount: MountedSocket,
    option: str,
    got: Any,
    expected: tuple[str, ...],
    *,
    advice: str | None = None,
) -> InvalidResult:
    """Return the error for a function of a mount that returned an invalid value."""
    return InvalidResult(
        f"the {option} of {mount.socket.__name__}",
        got,
        expected,
        place=place_of(getattr(mount, option)),
        advice=advice,
    )


def _measure(
    services: Services,
    started: float,
    socket: Socket,
    info: ConnectInfo,
    about: dict[str, Any],
    *,
    result: str,
    reason: Any,
) -> None:
    runtime = services.runtime
    if runtime.telemetry.handlers(SOCKET_CONNECTED):
        runtime.telemetry.execute(
            SOCKET_CONNECTED,
            {"duration": runtime.current_time() - started},
            {
                **about,
                "endpoint": socket.endpoint,
                "socket": socket,
                "user_socket": type(socket),
                "connect_info": info,
                "vsn": about["params"].get("vsn", DEFAULT_VSN),
                "log": socket.log,
                "result": result,
                "reason": reason,
            },
        )
