"""Log lines for the events of channels, under the logger `channels`.

An endpoint attaches these handlers when it starts. You can attach your own handlers to the events of
`channels.telemetry`.
"""

from __future__ import annotations

import logging
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, TypeAlias

import trio

from actors.errors import add_advice
from actors.instrumentation.telemetry import Event, Handler, Telemetry
from actors.instrumentation.text import bounded, log_exception, printable
from actors.refs import Pid
from channels.channel import Channel, LogLevelName
from channels.errors import InvalidResult
from channels.filters import SECRETS, FilterRule, filter_parameters
from channels.socket import Socket
from channels.telemetry import (
    CHANNEL_HANDLED_IN,
    CHANNEL_JOIN_SLOW,
    CHANNEL_JOINED,
    CHANNEL_UNHANDLED_INFO,
    CONNECTION_REFUSED,
    ENDPOINT_DRAIN,
    LONGPOLL_ANSWER_LOST,
    LONGPOLL_LEFT_OUT,
    LONGPOLL_NOT_FORWARDED,
    LONGPOLL_UNSENDABLE,
    PAYLOAD_REFUSED,
    POLLER_OUT_OF_MEMORY,
    SOCKET_CONNECT_FAILED,
    SOCKET_CONNECTED,
    SOCKET_EXPIRED,
    SOCKET_HELD_BACK,
    SOCKET_INCOMING_SHED,
    SOCKET_MALFORMED,
    SOCKET_ORIGIN_REFUSED,
    SOCKET_OVERFLOW,
    SOCKET_RATE_LIMITED,
    SOCKET_SESSION_REFUSED,
    SOCKET_SHED,
    SOCKET_UNMATCHED_PATH,
    SOCKET_UNMATCHED_TOPIC,
    SOCKET_UNSUPPORTED,
    SOCKET_WITHOUT_CHANNELS,
)
from supervision.errors import describe_reason
from supervision.events import CHILD_RESTARTED, CHILD_START_FAILED, GAVE_UP

__all__ = ["attach"]

_Data: TypeAlias = Mapping[str, Any]

_log = logging.getLogger("channels")
# A logger of its own, because `ashtree serve --reload` drains the clients after each change of a file, and hides this.
_drain_log = logging.getLogger("channels.drain")
_shorten = reprlib.Repr()
_shorten.maxstring = 120
_shorten.maxdict = _shorten.maxlist = 20
# The maximum number of values that go into one log line, including nested values.
_MAX_SHOWN = 500
# The maximum number of log lines about topics without a route, and about paths without a socket.
_MAX_UNMATCHED = 10
# Seconds between two lines about a lack of memory.
_SELDOM = 10.0


def attach(
    telemetry: Telemetry,
    *,
    endpoint: object = None,
    supervisor: Pid | None = None,
    filter_parameters: FilterRule = SECRETS,
    sockets: Iterable[type[Socket]] = (Socket,),
    channels: Iterable[type[Channel]] = (Channel,),
) -> Callable[[], None]:
    """Log the events of channels. Return a function that detaches the handlers.

    Args:
        telemetry: the telemetry of the runtime.
        endpoint: the endpoint to log; None logs all endpoints.
        supervisor: the supervisor of that endpoint, to log restarts of its children, such as the flusher. None logs
            no restarts.
        filter_parameters: the rule that masks parameters of clients, see `channels.filters`.
        sockets: the socket classes in use. Each class sets the level of log lines about its connections.
        channels: the channel classes in use. Each class sets the levels of log lines about its joins and pushes.

    This attaches only handlers whose level is enabled now, so disabled levels cost nothing.
    """
    lines = _Lines(filter_parameters)
    classes = tuple(channels)
    handlers = (
        (SOCKET_CONNECTED, [_level(each.log) for each in sockets], lines.connected),
        (SOCKET_CONNECT_FAILED, (logging.ERROR,), _connect_failed),
        (SOCKET_ORIGIN_REFUSED, (logging.WARNING,), _origin_refused),
        (SOCKET_UNSUPPORTED, (logging.WARNING,), _unsupported),
        (SOCKET_SESSION_REFUSED, (logging.WARNING,), _session_refused),
        (SOCKET_WITHOUT_CHANNELS, (logging.WARNING,), _without_channels),
        (SOCKET_UNMATCHED_PATH, (logging.WARNING,), _UnmatchedPaths()),
        (SOCKET_UNMATCHED_TOPIC, (logging.WARNING,), _UnmatchedTopics()),
        (CHANNEL_JOINED, [_level(each.log_join) for each in classes], lines.joined),
        (CHANNEL_JOIN_SLOW, (logging.WARNING,), _join_slow),
        (CHANNEL_HANDLED_IN, [_level(each.log_handle_in) for each in classes], lines.handled),
        (CHANNEL_UNHANDLED_INFO, (logging.WARNING,), _unhandled_info),
        (PAYLOAD_REFUSED, (logging.DEBUG,), _payload_refused),
        (CONNECTION_REFUSED, (logging.INFO,), _connection_refused),
        (SOCKET_MALFORMED, (logging.WARNING,), _malformed),
        (SOCKET_EXPIRED, (logging.DEBUG,), _expired),
        (SOCKET_OVERFLOW, (logging.WARNING,), _overflow),
        (SOCKET_SHED, (logging.WARNING,), _overflow),
        (SOCKET_INCOMING_SHED, (logging.WARNING,), _Seldom(_incoming_shed)),
        (SOCKET_HELD_BACK, (logging.INFO,), _held_back),
        (SOCKET_RATE_LIMITED, (logging.INFO,), _rate_limited),
        (ENDPOINT_DRAIN, (logging.INFO,), _drain),
        (LONGPOLL_LEFT_OUT, (logging.WARNING,), _left_out),
        (LONGPOLL_UNSENDABLE, (logging.WARNING,), _unsendable),
        (LONGPOLL_NOT_FORWARDED, (logging.INFO,), _not_forwarded),
        (LONGPOLL_ANSWER_LOST, (logging.INFO,), _answer_lost),
        (POLLER_OUT_OF_MEMORY, (logging.ERROR,), _Seldom(_out_of_memory)),
    )
    detaches = [
        telemetry.attach(event, _only(endpoint, handler))
        for event, levels, handler in handlers
        if any(level is not None and _log.isEnabledFor(level) for level in levels)
    ]
    if supervisor is not None and _log.isEnabledFor(logging.ERROR):
        detaches += [
            telemetry.attach(event, _of(supervisor, handler))
            for event, handler in (
                (CHILD_RESTARTED, _restarted),
                (CHILD_START_FAILED, _not_restarted),
                (GAVE_UP, _gave_up),
            )
        ]

    def detach() -> None:
        for each in detaches:
            each()

    return detach


def _level(name: LogLevelName | None) -> int | None:
    return None if name is None else logging.getLevelNamesMapping()[name.upper()]


def _only(endpoint: object, handler: Handler) -> Handler:
    def handle(event: Event, measurements: _Data, metadata: _Data) -> None:
        if endpoint is None or metadata["endpoint"] is endpoint:
            handler(event, measurements, metadata)

    return handle


def _of(supervisor: Pid, handler: Handler) -> Handler:
    def handle(event: Event, measurements: _Data, metadata: _Data) -> None:
        if metadata["supervisor"] is supervisor:
            handler(event, measurements, metadata)

    return handle


class _Seldom:
    """A handler that logs an event at most once in ten seconds, because a lack of memory lasts.

    Args:
        log: the handler that writes the line. It gets the sums of the measurements since the last line, and `events`,
            the number of these events.
    """

    def __init__(self, log: Handler) -> None:
        self._log = log
        self._next_at = -math.inf
        self._sums: dict[str, float] = {}

    def __call__(self, event: Event, measurements: _Data, metadata: _Data) -> None:
        for name, value in {"events": 1, **measurements}.items():
            self._sums[name] = self._sums.get(name, 0) + value
        now = trio.current_time()
        if now >= self._next_at:
            self._next_at = now + _SELDOM
            sums, self._sums = self._sums, {}
            self._log(event, sums, metadata)


class _Lines:
    """Log lines that show parameters of clients."""

    def __init__(self, rule: FilterRule) -> None:
        self._rule = rule

    def connected(self, event: Event, measurements: _Data, metadata: _Data) -> None:
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

    def joined(self, event: Event, measurements: _Data, metadata: _Data) -> None:
        channel = metadata["channel"]
        level = _level(channel.log_join)
        # As in Phoenix, topics that begin with `phoenix` are internal.
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

    def handled(self, event: Event, measurements: _Data, metadata: _Data) -> None:
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
        # The only exceptions here are `TokenError`s. The text of a `TokenError` contains no part of the token.
        return printable(str(reason)) if isinstance(reason, Exception) else self._shown(reason)

    def _shown(self, params: Any) -> str:
        return printable(_shorten.repr(filter_parameters(_cut(params), self._rule)))


def _cut(params: Any) -> Any:
    """Shorten parameters for a log line before the filter runs. A client may send a hundred thousand parameters."""
    left = _MAX_SHOWN

    def cut(value: Any, level: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or level > _shorten.maxlevel:
            return "..."
        if isinstance(value, Mapping):
            # Keep one more item than the line shows, so that reprlib writes "..." in its place.
            first = islice(value.items(), _shorten.maxdict + 1)
            return {key: cut(each, level + 1) for key, each in first}
        if isinstance(value, list):
            return [cut(each, level + 1) for each in value[: _shorten.maxlist + 1]]
        return value

    return cut(params, 0)


def _topic(text: object) -> str:
    # Escaped and shortened, because the client chooses this text. It must not forge log lines or fill the log.
    shown = _shorten.repr(text)
    return shown[1:-1] if isinstance(text, str) else shown


def _origin_refused(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.warning(
        "Refused a page from %s that tried to connect to %s; to allow the page, add its origin to check_origin of the "
        "socket's Mount",
        _shorten.repr(metadata["origin"]),
        metadata["socket"].__name__,
    )


def _unsupported(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.warning(
        "%s refused a client: %s", metadata["socket"].__name__, printable(metadata["problem"])
    )


def _session_refused(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.warning(
        "%s ignored the session of a client: %s",
        metadata["socket"].__name__,
        printable(metadata["problem"]),
    )


def _without_channels(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.warning(
        '%s (%s) has no channels, so every join gets "unmatched topic"; '
        'write channels = {"room:*": RoomChannel} in the class',
        metadata["socket"].__name__,
        metadata["place"] or metadata["socket"].__module__,
    )


class _UnmatchedPaths:
    """A handler that logs WebSockets at paths without a socket: each path once, and at most `_MAX_UNMATCHED` paths."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, event: Event, measurements: _Data, metadata: _Data) -> None:
        path, paths = _shorten.repr(metadata["path"]), metadata["paths"]
        if not paths or path in self._seen or len(self._seen) >= _MAX_UNMATCHED:
            return
        self._seen.add(path)
        _log.warning(
            "A client asked for a WebSocket at %s, where the endpoint has no socket, and was refused. The sockets are "
            "at %s, and their WebSockets at this path with /websocket at its end, which phoenix.js adds%s",
            path,
            ", ".join(map(repr, paths[: _shorten.maxlist])),
            ""
            if len(self._seen) < _MAX_UNMATCHED
            else ". The log does not show further paths without a socket",
        )


class _UnmatchedTopics:
    """A handler that logs topics without a route: once for each socket and each beginning of a topic.

    Clients try again, and can send any topic. So the handler logs at most `_MAX_UNMATCHED` lines.
    """

    def __init__(self) -> None:
        self._seen: set[tuple[type, str]] = set()

    def __call__(self, event: Event, measurements: _Data, metadata: _Data) -> None:
        socket, topic, routes = metadata["socket"], metadata["topic"], metadata["routes"]
        beginning = _topic(topic).partition(":")[0]
        # A socket without routes has its own warning at the start.
        if not routes or (socket, beginning) in self._seen or len(self._seen) >= _MAX_UNMATCHED:
            return
        self._seen.add((socket, beginning))
        patterns = ", ".join(repr(route.pattern) for route in routes[: _shorten.maxlist])
        _log.warning(
            'A client asked for the topic %s, but no route of %s matches it, so the client got "unmatched topic". The '
            "routes are %s%s; correct the topic in the client, or add a route to %s.channels%s",
            _shorten.repr(topic),
            socket.__name__,
            patterns,
            ""
            if len(routes) <= _shorten.maxlist
            else f" and {len(routes) - _shorten.maxlist} more",
            socket.__name__,
            ""
            if len(self._seen) < _MAX_UNMATCHED
            else ". The log does not show further topics without a route",
        )


def _connect_failed(event: Event, measurements: _Data, metadata: _Data) -> None:
    error, status = metadata["exception"], metadata["status"]
    if isinstance(error, InvalidResult):
        # No traceback, because it would show only Ashtree's check. The text contains the correction.
        _log.error("%s; the client got HTTP %d", printable(str(error), lines=True), status)
        return
    add_advice(error)
    log_exception(
        _log,
        "%s.%s raised; the client got HTTP %d",
        metadata["socket"].__name__,
        metadata["callback"],
        status,
        exception=error,
    )


def _join_slow(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.warning(
        "%s.join for %s has not returned after %g s. phoenix.js gives up after 10 s and joins again. Put a time limit "
        "such as trio.fail_after around its waits, or set slow_join. The join waits at:\n%s",
        type(metadata["channel"]).__name__,
        _topic(metadata["channel"].topic),
        measurements["duration"],
        "".join(metadata["stack"]),
    )


def _restarted(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.error(
        "The endpoint %r restarted its child %r, which ended: %s",
        metadata["supervisor"],
        metadata["id"],
        printable(bounded(describe_reason(metadata["reason"]))),
    )


def _not_restarted(event: Event, measurements: _Data, metadata: _Data) -> None:
    if metadata["restart"]:
        _log.error(
            "The endpoint %r could not restart its child %r and tries again: %s",
            metadata["supervisor"],
            metadata["id"],
            printable(bounded(describe_reason(metadata["reason"]))),
        )


def _gave_up(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.error(
        "The endpoint %r stops after more than %g restarts within %g s, the last of its child %r: %s",
        metadata["supervisor"],
        metadata["max_restarts"],
        metadata["max_seconds"],
        metadata["id"],
        printable(bounded(describe_reason(metadata["reason"]))),
    )


def _unhandled_info(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.warning(
        "%s for %s got the message %s but has no handle_info",
        type(metadata["channel"]).__name__,
        _topic(metadata["channel"].topic),
        _shorten.repr(metadata["message"]),
    )


def _payload_refused(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.debug(
        "%s refused the payload of %s ON %s: %s",
        type(metadata["channel"]).__name__,
        _topic(metadata["event"]),
        _topic(metadata["channel"].topic),
        _shorten.repr(str(metadata["error"]))[1:-1],
    )


def _malformed(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.warning(
        "Closing %r with %d: %s",
        metadata["pid"],
        metadata["code"],
        printable(bounded(metadata["cause"])),
    )


def _held_back(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.info(
        "The client of %r sent a large batch; the server handles it in more than %d turns of the scheduler",
        metadata["pid"],
        measurements["turns"],
    )


def _connection_refused(event: Event, measurements: _Data, metadata: _Data) -> None:
    address = metadata["address"]
    _log.info(
        "Refused a client%s with HTTP status %d, because %s allows no more clients",
        "" if address is None else f" of {_shorten.repr(address)}",
        metadata["status"],
        metadata["limit"],
    )


def _rate_limited(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.info(
        "The client of %r sends more than %s allows; the server refuses some of its messages",
        metadata["pid"],
        metadata["limit"],
    )


def _expired(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.debug(
        "Closing %r with %d: %s", metadata["pid"], metadata["code"], printable(metadata["cause"])
    )


def _overflow(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.warning(
        "Closing %r with %d: %s; the server discarded %d frames",
        metadata["pid"],
        metadata["code"],
        printable(metadata["cause"]),
        measurements["dropped"],
    )


def _incoming_shed(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.warning(
        "Closing %s with %d: %s; %d such clients since the last line about this, and the server discarded %d bytes",
        "a post" if metadata["pid"] is None else repr(metadata["pid"]),
        metadata["code"],
        metadata["cause"],
        measurements["events"],
        measurements["bytes"],
    )


def _left_out(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.warning(
        "The client of %r posted a batch of more than 100 messages; the server discarded the last %d",
        metadata["pid"],
        measurements["messages"],
    )


def _unsendable(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.warning(
        "%r got a binary message for a polling client, which cannot receive one; the server discarded %d messages",
        metadata["pid"],
        measurements["messages"],
    )


def _not_forwarded(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.info(
        "A request of a polling client did not get through between this node and node %s: %s",
        _shorten.repr(metadata["node"]),
        printable(metadata["problem"]),
    )


def _answer_lost(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.info(
        "Closing %r: another node did not confirm the last messages (%d) in time, and its client must not miss any",
        metadata["pid"],
        measurements["messages"],
    )


def _drain(event: Event, measurements: _Data, metadata: _Data) -> None:
    _drain_log.info(
        "Draining %d of %d clients (round %d of %d)",
        measurements["count"],
        measurements["total"],
        measurements["index"],
        measurements["rounds"],
    )


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.0f}µs" if seconds < 0.001 else f"{seconds * 1e3:.0f}ms"


def _out_of_memory(event: Event, measurements: _Data, metadata: _Data) -> None:
    _log.error(
        "Not enough memory to read from clients: %d reads failed since the last line about this; the server closes the "
        "clients with the largest incomplete messages, and reads again",
        measurements["reads"],
    )
