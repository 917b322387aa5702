"""The checks of the options of `open_socket`."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from typing import Any, Final, get_args

from actors.arguments import check_positive, check_whole
from actors.errors import InvalidOption
from channels.client.backoff import RetryTable
from channels.client.records import ClientSettings
from channels.client.transports.contract import Options
from channels.client.wire import TransportName, address_of

__all__ = ["check", "close_codes"]

_OWNER: Final = "open_socket"
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def check(settings: ClientSettings, options: Options) -> None:
    """Check the options of `open_socket`.

    Raises:
        InvalidOption: an option has an invalid value.
    """
    address_of(options.url)
    # Check functions later: each attempt to connect calls them.
    if not callable(options.params) and not callable(options.auth_token):
        options.opening("websocket")
    for each in options.headers:
        if not _is_header(each):
            raise InvalidOption(
                _OWNER, "headers", each, 'pairs such as ("origin", "https://a.org")'
            )
    for name in ("reconnect", "rejoin"):
        table = getattr(settings, name)
        if not isinstance(table, RetryTable):
            raise InvalidOption(_OWNER, name, table, "a RetryTable, such as RetryTable(jitter=0.5)")
    for name in ("timeout", "heartbeat_interval"):
        check_positive(_OWNER, name, getattr(settings, name))
    for name in ("connect_timeout", "poll_timeout"):
        check_positive(_OWNER, name, getattr(options, name))
    if settings.longpoll_fallback_after is not None:
        check_positive(_OWNER, "longpoll_fallback_after", settings.longpoll_fallback_after)
    check_whole(_OWNER, "max_buffered", settings.max_buffered)
    check_whole(_OWNER, "max_message_bytes", options.max_message_bytes)
    if not callable(options.connect):
        expected = "a function that opens a stream to a host and a port"
        raise InvalidOption(_OWNER, "connect", options.connect, expected)
    if not isinstance(options.ssl_context, ssl.SSLContext | None):
        raise InvalidOption(_OWNER, "ssl_context", options.ssl_context, "an ssl.SSLContext")
    if settings.transport not in get_args(TransportName):
        raise InvalidOption(_OWNER, "transport", settings.transport, '"websocket" or "longpoll"')


def close_codes(codes: Any) -> tuple[int, ...]:
    """Return the option `final_close_codes` as a tuple.

    Raises:
        InvalidOption: `codes` is not a collection of whole numbers.
    """
    if isinstance(codes, Iterable) and not isinstance(codes, str):
        numbers = tuple(codes)
        if all(isinstance(each, int) for each in numbers):
            return numbers
    raise InvalidOption(_OWNER, "final_close_codes", codes, "a collection, such as {1000}")


def _is_header(pair: Any) -> bool:
    match pair:
        case (str() as name, str() as value):
            return bool(_HEADER_NAME.fullmatch(name)) and value.isascii() and value.isprintable()
    return False
