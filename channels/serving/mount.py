"""Mounts, which are sockets with their options in an endpoint."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

from attrs import field, frozen
from attrs.validators import optional

from actors.arguments import positive, whole
from actors.errors import InvalidOption
from channels.connect_info import REQUEST_KEYS
from channels.protocol.longpoll import LongPoll
from channels.serializers.json_values import DEFAULT_MAX_VALUES
from channels.serializers.serializer import DEFAULT_SERIALIZERS, Requirement, Serializer
from channels.socket import ErrorHandler, Socket
from channels.wire.cross_site import CsrfRule, OriginRule, SessionHook
from channels.wire.websocket import DEFAULT_MAX_MESSAGE_SIZE

__all__ = ["Mount"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _check_path(mount: Mount, attribute: Any, value: Any) -> None:
    if not isinstance(value, str) or not value.startswith("/"):
        raise InvalidOption("Mount", "path", value, 'a path that begins with a slash: "/websocket"')


def _check_subprotocols(mount: Mount, attribute: Any, value: Any) -> None:
    if value is not None and (
        isinstance(value, str)
        or not isinstance(value, Sequence)
        or not all(isinstance(each, str) and _TOKEN.fullmatch(each) for each in value)
    ):
        raise InvalidOption(
            "Mount", "subprotocols", value, "a list of names such as ['chat.v1'], or None"
        )


def _check_connect_info(mount: Mount, attribute: Any, value: Any) -> None:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    for each in value if is_list else [value]:
        if is_list and isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], str):
            continue
        if not is_list or each not in REQUEST_KEYS:
            known = ", ".join(REQUEST_KEYS)
            raise InvalidOption(
                "Mount",
                "connect_info",
                each,
                f"a list of {known}, and your own (name, value) pairs",
            )


def _check_serializers(mount: Mount, attribute: Any, value: Any) -> None:
    pairs = value if isinstance(value, (list, tuple)) else ()
    for pair in pairs or (None,):
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Requirement)):
            expected = "a list with at least one pair: [(V2(), Requirement('~> 2.0.0'))]"
            raise InvalidOption("Mount", "serializers", value, expected)


def _check_function(mount: Mount, attribute: Any, value: Any) -> None:
    if value is not None and not callable(value):
        raise InvalidOption("Mount", attribute.name, value, "a function, or None")


def _check_plain(value: Any, option: str, instead: str) -> None:
    # A coroutine object is truthy, so an async permission check would permit everything.
    if inspect.iscoroutinefunction(value):
        raise InvalidOption("Mount", option, value, f"a plain function, `{instead}`, without async")


def _check_error_handler(mount: Mount, attribute: Any, value: Any) -> None:
    _check_function(mount, attribute, value)
    _check_plain(value, "error_handler", "def handler(reason, connect_info)")


def _check_origin(mount: Mount, attribute: Any, value: Any) -> None:
    _check_plain(value, "check_origin", "def check(origin)")


def _check_flag(mount: Mount, attribute: Any, value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidOption("Mount", attribute.name, value, "True or False")


def _check_csrf(mount: Mount, attribute: Any, value: Any) -> None:
    if not isinstance(value, bool) and not callable(value):
        raise InvalidOption(
            "Mount", "check_csrf", value, "True, False, or a function check(session, token)"
        )
    _check_plain(value, "check_csrf", "def check(session, token)")
    if value is False and mount.check_origin is False:
        raise InvalidOption(
            "Mount",
            "check_csrf",
            value,
            "check_csrf=True or a rule for check_origin; without both, any page can use its visitor's session",
        )


def _check_longpoll(mount: Mount, attribute: Any, value: Any) -> None:
    if not isinstance(value, bool | LongPoll):
        raise InvalidOption(
            "Mount", "longpoll", value, "True, False, or LongPoll(...) with options"
        )
    if value is False and not mount.websocket:
        raise InvalidOption(
            "Mount",
            "websocket",
            False,
            "longpoll=True too, or leave websocket out; without both, no client can reach the socket",
        )


@frozen
class Mount:
    """A socket with options, for `Endpoint(sockets={"/socket": Mount(UserSocket, timeout=30.0)})`.

    Args:
        socket: the socket class.
        timeout: seconds that a client can be silent. After that, the server closes its connection with 1002. phoenix.js
            sends a heartbeat every 30 seconds.
        max_frame_size: the maximum bytes of a message. A larger message closes the connection with 1009.
        max_json_values: the maximum number of strings, numbers, lists and objects in a message. A message with more
            values closes the connection with 1009. The limit does not apply to messages up to 64 KiB. While the server
            decodes a message, all other clients wait. The default limits this wait to about 10 milliseconds. A number
            with an exponent, or with more than a hundred digits, counts several times. Phoenix has no such limit.
        serializers: the supported wire formats, each with its protocol versions, in order of preference.
        check_origin: the rule for pages that can connect. Other pages get HTTP 403. Clients that are not browsers can
            always connect. `True` allows pages from the host that they connect to. `"conn"` also requires the same
            scheme and port. `False` allows all pages. A list such as `["https://example.org", "//*.example.org"]`
            names origins. A function gets the parsed origin and returns True or False.
        partitions: the number of supervisors for the channels of this socket. If an endpoint mounts a socket class
            several times, the mounts share one pool of supervisors. The pool's size is the largest of their numbers.
        path: the suffix of the mount's path for WebSockets. It can contain variables.
        compress: compress messages for clients that offer permessage-deflate (RFC 7692). Most applications lose more in
            processor time than they gain in network traffic. An ASGI server ignores this option and decides itself.
        subprotocols: the supported WebSocket subprotocols, in order of preference. A client gets 403 if it offers only
            other subprotocols. None accepts all subprotocols.
        auth_token: read phoenix.js's `authToken` into `connect_info.auth_token`.
        connect_info: names (`"peer_data"`, `"x_headers"`, ...) and your own pairs (`("region", "eu")`). In `connect`,
            read them as keys: `connect_info["region"]`.
        session: a function that builds `connect_info.session`. `session(cookies)` returns a mapping or None, and may be
            async.
        check_csrf: give the socket its session only if the parameters contain the right `_csrf_token`. True compares it
            with the session's own `_csrf_token`, with or without Plug's mask. A function `check(session, token)`
            returns True or False.
        error_handler: a function that builds the response if `connect` refuses a client with a reason.
            `handler(reason, connect_info)` returns a `Refusal`. Without a handler, the client gets 403.
        max_channels: the number of topics that one connection can join. None uses `max_channels` of the socket class.
        max_joining: the number of joins of one connection that can wait for their answers. None uses `max_joining` of
            the socket class.
        max_messages_per_second: the number of messages to channels that one connection can send per second, on average.
            None uses the value of the socket class. `math.inf` sets no limit.
        max_joins_per_second: the number of joins that one connection can send per second, on average. None uses the
            value of the socket class. `math.inf` sets no limit.
        websocket: serve WebSockets.
        longpoll: serve polling clients at the mount's path plus `/longpoll`: `True`, or a `LongPoll` with options.

    An option of Phoenix has the same default here as in Phoenix.

    Raises:
        InvalidArgument: an origin is malformed. The endpoint raises this when it starts.
        InvalidOption: an option has the wrong type, or a number is not above 0; `connect_info` has an unknown name;
            `check_origin` and `check_csrf` are both False, so any page could use the session of its visitor;
            `websocket` and `longpoll` are both False, so no client could reach the socket.
    """

    socket: type[Socket]
    timeout: float = field(default=60.0, validator=positive)
    max_frame_size: int = field(default=DEFAULT_MAX_MESSAGE_SIZE, validator=whole)
    serializers: Sequence[tuple[Serializer, Requirement]] = field(
        default=DEFAULT_SERIALIZERS, validator=_check_serializers
    )
    check_origin: OriginRule = field(default=True, validator=_check_origin)
    partitions: int = field(default=2, validator=whole)
    max_json_values: int = field(default=DEFAULT_MAX_VALUES, validator=whole, kw_only=True)
    path: str = field(default="/websocket", validator=_check_path, kw_only=True)
    compress: bool = field(default=False, validator=_check_flag, kw_only=True)
    subprotocols: Sequence[str] | None = field(
        default=None, validator=_check_subprotocols, kw_only=True
    )
    auth_token: bool = field(default=False, validator=_check_flag, kw_only=True)
    connect_info: Sequence[str | tuple[str, Any]] = field(
        default=(), validator=_check_connect_info, kw_only=True
    )
    session: SessionHook | None = field(default=None, validator=_check_function, kw_only=True)
    check_csrf: CsrfRule = field(default=True, validator=_check_csrf, kw_only=True)
    error_handler: ErrorHandler | None = field(
        default=None, validator=_check_error_handler, kw_only=True
    )
    max_channels: int | None = field(default=None, validator=optional(whole), kw_only=True)
    max_joining: int | None = field(default=None, validator=optional(whole), kw_only=True)
    max_messages_per_second: float | None = field(
        default=None, validator=optional(positive), kw_only=True
    )
    max_joins_per_second: float | None = field(
        default=None, validator=optional(positive), kw_only=True
    )
    websocket: bool = field(default=True, validator=_check_flag, kw_only=True)
    longpoll: bool | LongPoll = field(default=False, validator=_check_longpoll, kw_only=True)
