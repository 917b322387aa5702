"""Turns the events of channels into log lines, under the logger `channels`.

Attached by an endpoint when it starts. Replace it with handlers of your own: the events are in `channels.telemetry`.
"""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from actors.telemetry import Event, Handler, Telemetry
from channels.channel import Channel, LogLevelName
from channels.filters import SECRETS, FilterRule, filter_parameters
from channels.sockets import Socket
from channels.telemetry import (
    CHANNEL_HANDLED_IN,
    CHANNEL_JOINED,
    CHANNEL_UNHANDLED_INFO,
    ENDPOINT_DRAIN,
    LONGPOLL_LEFT_OUT,
    LONGPOLL_UNSENDABLE,
    PAYLOAD_REFUSED,
    POLLER_OUT_OF_MEMORY,
    SOCKET_CONNECT_FAILED,
    SOCKET_CONNECTED,
    SOCKET_MALFORMED,
    SOCKET_ORIGIN_REFUSED,
    SOCKET_OVERFLOW,
    SOCKET_UNSUPPORTED,
)

__all__ = ["attach"]

_log = logging.getLogger("channels")
_shorten = reprlib.Repr()
_shorten.maxstring = 120
_shorten.maxdict = _shorten.maxlist = 20


def attach(
    telemetry: Telemetry,
    *,
    endpoint: object = None,
    filter_parameters: FilterRule = SECRETS,
    sockets: Iterable[type[Socket]] = (Socket,),
    channels: Iterable[type[Channel]] = (Channel,),
) -> Callable[[], None]:
    """Log what happens, until the returned function is called.

    Args:
        telemetry: of the runtime.
        endpoint: whose events are logged; None logs those of all.
        filter_parameters: which parameters of clients are shown, see `channels.filters`.
        sockets: the classes whose events there will be, each with a level of its own for connections.
        channels: the classes whose events there will be, each with a level of its own for joins and pushes.

    Only events whose level is enabled at this moment are listened to: what nobody would read costs nothing.
    """
    lines = _Lines(filter_parameters)
    classes = tuple(channels)
    handlers = (
        (SOCKET_CONNECTED, [_level(each.log) for each in sockets], lines.connected),
        (SOCKET_CONNECT_FAILED, (logging.ERROR,), _connect_failed),
        (SOCKET_ORIGIN_REFUSED, (logging.WARNING,), _origin_refused),
        (SOCKET_UNSUPPORTED, (logging.WARNING,), _unsupported),
        (CHANNEL_JOINED, [_level(each.log_join) for each in classes], lines.joined),
        (CHANNEL_HANDLED_IN, [_level(each.log_handle_in) for each in classes], lines.handled),
        (CHANNEL_UNHANDLED_INFO, (logging.WARNING,), _unhandled_info),
        (PAYLOAD_REFUSED, (logging.DEBUG,), _payload_refused),
        (SOCKET_MALFORMED, (logging.WARNING,), _malformed),
        (SOCKET_OVERFLOW, (logging.WARNING,), _overflow),
        (ENDPOINT_DRAIN, (logging.INFO,), _drain),
        (LONGPOLL_LEFT_OUT, (logging.WARNING,), _left_out),
        (LONGPOLL_UNSENDABLE, (logging.WARNING,), _unsendable),
        (POLLER_OUT_OF_MEMORY, (logging.ERROR,), _out_of_memory),
    )
    detaches = [
        telemetry.attach(event, _only(endpoint, handler))
        for event, levels, handler in handlers
        if any(level is not None and _log.isEnabledFor(level) for level in levels)
    ]

    def detach() -> None:
        for each in detaches:
            each()

    return detach


def _level(name: LogLevelName | None) -> int | None:
    return None if name is None else logging.getLevelNamesMapping()[name.upper()]


def _only(endpoint: object, handler: Handler) -> Handler:
    def handle(event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        if endpoint is None or metadata["endpoint"] is endpoint:
            handler(event, measurements, metadata)

    return handle


class _Lines:
    """The lines that show parameters of clients."""

    def __init__(self, rule: FilterRule) -> None:
        self._rule = rule

    def connected(
        self, event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        level = _level(metadata["socket"].log)
        if level is None:
            return
        what = "CONNECTED TO" if metadata["result"] == "ok" else "REFUSED CONNECTION TO"
        reason = metadata["reason"]
        _log.log(
            level,
            "%s %s in %s, %sparameters %s",
            what,
            type(metadata["socket"]).__name__,
            _time(measurements["duration"]),
            "" if reason is None else f"because {self._reason(reason)}, ",
            self._shown(metadata["params"]),
        )

    def joined(
        self, event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        channel = metadata["channel"]
        level = _level(channel.log_join)
        # Phoenix's own topics are no news to anybody.
        if level is None or channel.topic.startswith("phoenix") or not _log.isEnabledFor(level):
            return
        what = "JOINED" if metadata["result"] == "ok" else "REFUSED JOIN"
        _log.log(
            level,
            "%s %s in %s, parameters %s",
            what,
            _topic(channel.topic),
            _time(measurements["duration"]),
            self._shown(metadata["params"]),
        )

    def handled(
        self, event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        channel = metadata["channel"]
        level = _level(channel.log_handle_in)
        if level is None or channel.topic.startswith("phoenix") or not _log.isEnabledFor(level):
            return
        _log.log(
            level,
            "HANDLED %s INCOMING ON %s (%s) in %s, parameters %s",
            _topic(metadata["event"]),
            _topic(channel.topic),
            type(channel).__name__,
            _time(measurements["duration"]),
            self._shown(metadata["params"]),
        )

    def _reason(self, reason: Any) -> str:
        # The client is told nothing of it, so this is where it can be found out. An exception is one of ours, about a
        # token, and its text holds nothing of that.
        return str(reason) if isinstance(reason, Exception) else self._shown(reason)

    def _shown(self, params: Any) -> str:
        return _shorten.repr(filter_parameters(params, self._rule))


def _topic(text: object) -> str:
    # The client's choice: it must not look like another line, nor fill the log.
    shown = _shorten.repr(text)
    return shown[1:-1] if isinstance(text, str) else shown


def _origin_refused(
    event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    _log.warning(
        "A page from %s may not connect to %s; if it should, add its origin to check_origin of the socket's Mount",
        _shorten.repr(metadata["origin"]),
        metadata["socket"].__name__,
    )


def _unsupported(
    event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    _log.warning("%s refused a client: %s", metadata["socket"].__name__, metadata["problem"])


def _connect_failed(
    event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    _log.error(
        "%s.connect raised; the client got HTTP 500",
        metadata["socket"].__name__,
        exc_info=metadata["exception"],
    )


def _unhandled_info(
    event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    _log.warning(
        "%s for %s has no handle_info, and got the message %s",
        type(metadata["channel"]).__name__,
        _topic(metadata["channel"].topic),
        _shorten.repr(metadata["message"]),
    )


def _payload_refused(
    event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    _log.debug(
        "%s refused the payload of %s ON %s: %s",
        type(metadata["channel"]).__name__,
        _topic(metadata["event"]),
        _topic(metadata["channel"].topic),
        _shorten.repr(str(metadata["error"]))[1:-1],
    )


def _malformed(event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    _log.warning("Closing %r with %d: %s", metadata["pid"], metadata["code"], metadata["cause"])


def _overflow(event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    _log.warning(
        "Closing %r with %d: %s, %d frames were dropped",
        metadata["pid"],
        metadata["code"],
        metadata["cause"],
        measurements["dropped"],
    )


def _left_out(event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    _log.warning(
        "The client of %r posted more than 100 messages at once; the last %d are lost",
        metadata["pid"],
        measurements["messages"],
    )


def _unsendable(event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    _log.warning(
        "A binary message was for %r, whose client polls and cannot take one; %d messages are lost",
        metadata["pid"],
        measurements["messages"],
    )


def _drain(event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    _log.info(
        "Draining %d of %d connections (round %d of %d)",
        measurements["count"],
        measurements["total"],
        measurements["index"],
        measurements["rounds"],
    )


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.0f}µs" if seconds < 0.001 else f"{seconds * 1e3:.0f}ms"


def _out_of_memory(
    event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    _log.error(
        "There was no memory to read from %d sockets; all sockets are read again in 0.1 s",
        measurements["reads"],
    )
