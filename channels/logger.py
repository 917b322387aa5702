"""Turns the events of channels into log lines, under the logger `channels`.

Attached by an endpoint when it starts. Replace it with handlers of your own: the events are in `channels.telemetry`.
"""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from actors.telemetry import Event, Handler, Telemetry
from channels.telemetry import (
    CHANNEL_JOINED,
    ENDPOINT_DRAIN,
    SOCKET_CONNECT_FAILED,
    SOCKET_CONNECTED,
    SOCKET_MALFORMED,
    SOCKET_ORIGIN_REFUSED,
    SOCKET_OVERFLOW,
)

__all__ = ["attach"]

_log = logging.getLogger("channels")
_shorten = reprlib.Repr()
_shorten.maxstring = 120


def attach(telemetry: Telemetry, *, endpoint: object = None) -> Callable[[], None]:
    """Log what happens, until the returned function is called.

    Args:
        telemetry: of the runtime.
        endpoint: whose events are logged; None logs those of all.

    Only events whose level is enabled at this moment are listened to: what nobody would read costs nothing.
    """
    handlers = (
        (SOCKET_CONNECTED, logging.INFO, _connected),
        (SOCKET_CONNECT_FAILED, logging.ERROR, _connect_failed),
        (SOCKET_ORIGIN_REFUSED, logging.WARNING, _origin_refused),
        (CHANNEL_JOINED, logging.INFO, _joined),
        (SOCKET_MALFORMED, logging.WARNING, _malformed),
        (SOCKET_OVERFLOW, logging.WARNING, _overflow),
        (ENDPOINT_DRAIN, logging.INFO, _drain),
    )
    detaches = [
        telemetry.attach(event, _only(endpoint, handler))
        for event, level, handler in handlers
        if _log.isEnabledFor(level)
    ]

    def detach() -> None:
        for each in detaches:
            each()

    return detach


def _only(endpoint: object, handler: Handler) -> Handler:
    def handle(event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        if endpoint is None or metadata["endpoint"] is endpoint:
            handler(event, measurements, metadata)

    return handle


def _connected(event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    what = "CONNECTED TO" if metadata["result"] == "ok" else "REFUSED CONNECTION TO"
    _log.info(
        "%s %s in %s", what, type(metadata["socket"]).__name__, _time(measurements["duration"])
    )


def _origin_refused(
    event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    _log.warning(
        "A page from %s may not connect to %s; if it should, add its origin to check_origin of the socket's Mount",
        _shorten.repr(metadata["origin"]),
        metadata["socket"].__name__,
    )


def _connect_failed(
    event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    _log.error(
        "%s.connect raised; the client got HTTP 500",
        metadata["socket"].__name__,
        exc_info=metadata["exception"],
    )


def _joined(event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    what = "JOINED" if metadata["result"] == "ok" else "REFUSED JOIN"
    # The topic is the client's choice: it must not look like another line, nor fill the log.
    topic = _shorten.repr(metadata["channel"].topic)[1:-1]
    _log.info("%s %s in %s", what, topic, _time(measurements["duration"]))


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
