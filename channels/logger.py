"""The log lines of channels, under the logger `channels`.

An endpoint attaches these lines when it starts. You can attach your own handlers to the events of
`channels.telemetry`.
"""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from logging import DEBUG, ERROR, INFO, WARNING
from typing import Any

from actors.errors import add_advice
from actors.instrumentation.logger import Facts, Line, attach_lines
from actors.instrumentation.telemetry import Telemetry
from actors.masking import SECRETS
from actors.refs import Pid
from actors.text import printable
from channels.channel import Channel, LogLevelName
from channels.filters import FilterRule, filter_parameters
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
    PUBLISH_REFUSED,
    SOCKET_CONNECT_FAILED,
    SOCKET_CONNECTED,
    SOCKET_EXPIRED,
    SOCKET_HELD_BACK,
    SOCKET_IGNORED,
    SOCKET_INCOMING_SHED,
    SOCKET_LATEST_DROPPED,
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
from supervision.events import CHILD_RESTARTED, CHILD_START_FAILED, GAVE_UP
from supervision.logger import reason_in_words

__all__ = ["attach"]

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
# Seconds between two lines about a lack of memory, because such a lack lasts.
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
    """Log the events of channels. Return a function that ends the logging.

    Args:
        telemetry: the telemetry of the runtime.
        endpoint: the endpoint to log; None logs all endpoints.
        supervisor: the supervisor of that endpoint, to log restarts of its children, such as the flusher. None logs
            no restarts.
        filter_parameters: the rule that masks parameters of clients, see `channels.filters`.
        sockets: the socket classes in use. Each class sets the level of log lines about its connections.
        channels: the channel classes in use. Each class sets the levels of log lines about its joins and pushes.

    This attaches only lines whose level is enabled now, so disabled levels cost nothing.
    """
    only = None if endpoint is None else ("endpoint", endpoint)
    lines = [
        *_lines_with_parameters(_Parameters(filter_parameters), tuple(sockets), tuple(channels)),
        *_first_of_each_kind(),
        *(line for line in _LINES if _is_enabled(line.level)),
    ]
    detaches = [
        attach_lines(telemetry, _log, lines, only=only),
        attach_lines(telemetry, _drain_log, _DRAIN_LINES if _is_enabled(INFO) else (), only=only),
    ]
    if supervisor is not None and _is_enabled(ERROR):
        detaches.append(
            attach_lines(telemetry, _log, _SUPERVISOR_LINES, only=("supervisor", supervisor))
        )

    def detach() -> None:
        for each in detaches:
            each()

    return detach


def _is_enabled(level: object) -> bool:
    return isinstance(level, int) and _log.isEnabledFor(level)


def _level(name: LogLevelName | None) -> int | None:
    return None if name is None else logging.getLevelNamesMapping()[name.upper()]


# Lines that show parameters of clients


def _lines_with_parameters(
    parameters: _Parameters,
    sockets: tuple[type[Socket], ...],
    channels: tuple[type[Channel], ...],
) -> Iterator[Line]:
    """Yield the lines whose levels the classes of the application choose, if one of these levels is enabled."""
    if any(_is_enabled(_level(each.log)) for each in sockets):
        yield Line(
            SOCKET_CONNECTED,
            lambda facts: _level(facts["socket"].log),
            "%(what)s %(socket)s in %(time)s, %(because)sparameters %(parameters)s",
            fields=parameters.of_connection,
        )
    if any(_is_enabled(_level(each.log_join)) for each in channels):
        yield Line(
            CHANNEL_JOINED,
            lambda facts: _unless_internal(facts, facts["channel"].log_join),
            "%(what)s %(topic)s in %(time)s, parameters %(parameters)s",
            fields=parameters.of_join,
        )
    if any(_is_enabled(_level(each.log_handle_in)) for each in channels):
        yield Line(
            CHANNEL_HANDLED_IN,
            lambda facts: _unless_internal(facts, facts["channel"].log_handle_in),
            "HANDLED %(event)s INCOMING ON %(topic)s (%(channel)s) in %(time)s, parameters %(parameters)s",
            fields=parameters.of_push,
        )


def _unless_internal(facts: Facts, name: LogLevelName | None) -> int | None:
    # As in Phoenix, topics that begin with `phoenix` are internal.
    return None if facts["channel"].topic.startswith("phoenix") else _level(name)


class _Parameters:
    """The fields of lines that show parameters of clients."""

    def __init__(self, rule: FilterRule) -> None:
        self._rule = rule

    def of_connection(self, facts: Facts) -> Facts:
        reason = facts["reason"]
        return {
            **self._common(facts),
            "what": "CONNECTED TO" if facts["result"] == "ok" else "REFUSED CONNECTION TO",
            "socket": type(facts["socket"]).__name__,
            "because": "" if reason is None else f"because {self._reason(reason)}, ",
        }

    def of_join(self, facts: Facts) -> Facts:
        return {
            **self._common(facts),
            "what": "JOINED" if facts["result"] == "ok" else "REFUSED JOIN",
            "topic": _topic(facts["channel"].topic),
        }

    def of_push(self, facts: Facts) -> Facts:
        return {**self._common(facts), **_of_channel(facts), "event": _topic(facts["event"])}

    def _common(self, facts: Facts) -> Facts:
        return {"time": _time(facts["duration"]), "parameters": self.shown(facts["params"])}

    def _reason(self, reason: Any) -> str:
        # The only exceptions here are `TokenError`s. The text of a `TokenError` contains no part of the token.
        return printable(str(reason)) if isinstance(reason, Exception) else self.shown(reason)

    def shown(self, params: Any) -> str:
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


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.0f}µs" if seconds < 0.001 else f"{seconds * 1e3:.0f}ms"


# Lines about clients that ask for what the application does not have


def _first_of_each_kind() -> Iterator[Line]:
    """Yield the lines that remember what they have logged, so each endpoint needs its own."""
    if not _is_enabled(WARNING):
        return
    yield Line(
        SOCKET_UNMATCHED_PATH,
        WARNING,
        (
            "A client asked for a WebSocket at %(path)s, where the endpoint has no socket, and was refused. The "
            "sockets are at %(paths)s, and their WebSockets at this path with /websocket at its end, which phoenix.js "
            "adds%(end)s"
        ),
        fields=_UnmatchedPaths(),
    )
    yield Line(
        SOCKET_UNMATCHED_TOPIC,
        WARNING,
        (
            "A client asked for the topic %(topic)s, but no route of %(socket)s matches it, so the client got "
            '"unmatched topic". The routes are %(routes)s; correct the topic in the client, or add a route to '
            "%(socket)s.channels%(end)s"
        ),
        fields=_UnmatchedTopics(),
    )


class _UnmatchedPaths:
    """The fields for a WebSocket at a path without a socket: each path once, and at most `_MAX_UNMATCHED` paths."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, facts: Facts) -> Facts | None:
        path, paths = _shorten.repr(facts["path"]), facts["paths"]
        if not paths or path in self._seen or len(self._seen) >= _MAX_UNMATCHED:
            return None
        self._seen.add(path)
        is_last = len(self._seen) == _MAX_UNMATCHED
        return {
            "path": path,
            "paths": ", ".join(map(repr, paths[: _shorten.maxlist])),
            "end": ". The log does not show further paths without a socket" if is_last else "",
        }


class _UnmatchedTopics:
    """The fields for a topic without a route: once for each socket and each beginning of a topic.

    Clients try again, and can send any topic. So there are at most `_MAX_UNMATCHED` lines.
    """

    def __init__(self) -> None:
        self._seen: set[tuple[type, str]] = set()

    def __call__(self, facts: Facts) -> Facts | None:
        socket, topic, routes = facts["socket"], facts["topic"], facts["routes"]
        beginning = _topic(topic).partition(":")[0]
        # A socket without routes has its own warning at the start.
        if not routes or (socket, beginning) in self._seen or len(self._seen) >= _MAX_UNMATCHED:
            return None
        self._seen.add((socket, beginning))
        is_last = len(self._seen) == _MAX_UNMATCHED
        patterns = ", ".join(repr(route.pattern) for route in routes[: _shorten.maxlist])
        more = len(routes) - _shorten.maxlist
        return {
            "topic": _shorten.repr(topic),
            "socket": socket.__name__,
            "routes": patterns if more <= 0 else f"{patterns} and {more} more",
            "end": ". The log does not show further topics without a route" if is_last else "",
        }


# Fields of the other lines


def _of_channel(facts: Facts) -> Facts:
    channel = facts["channel"]
    return {"channel": type(channel).__name__, "topic": _topic(channel.topic)}


def _with_advice(facts: Facts) -> Facts:
    add_advice(facts["exception"])
    return {}


_LINES = (
    Line(
        SOCKET_CONNECT_FAILED,
        ERROR,
        "%(socket)s.%(callback)s raised; the client got HTTP %(status)d",
        fields=_with_advice,
        with_exception=True,
        invalid_return="%(exception)s; the client got HTTP %(status)d",
    ),
    Line(
        SOCKET_ORIGIN_REFUSED,
        WARNING,
        (
            "Refused a page from %(origin)r that tried to connect to %(socket)s; to allow the page, add its origin to "
            "check_origin of the socket's Mount"
        ),
    ),
    Line(SOCKET_UNSUPPORTED, WARNING, "%(socket)s refused a client: %(problem)s"),
    Line(
        SOCKET_SESSION_REFUSED, WARNING, "%(socket)s ignored the session of a client: %(problem)s"
    ),
    Line(
        SOCKET_WITHOUT_CHANNELS,
        WARNING,
        (
            '%(socket)s (%(place)s) has no channels, so every join gets "unmatched topic"; '
            'write channels = {"room:*": RoomChannel} in the class'
        ),
        fields=lambda facts: {"place": facts["place"] or facts["socket"].__module__},
    ),
    Line(
        CHANNEL_JOIN_SLOW,
        WARNING,
        (
            "%(channel)s.join for %(topic)s has not returned after %(duration)g s. phoenix.js gives up after 10 s and "
            "joins again. Put a time limit such as trio.fail_after around its waits, or set slow_join. The join waits "
            "at:\n%(stack)s"
        ),
        fields=lambda facts: {**_of_channel(facts), "stack": "".join(facts["stack"])},
    ),
    Line(
        CHANNEL_UNHANDLED_INFO,
        WARNING,
        "%(channel)s for %(topic)s got the message %(message)r but has no handle_info",
        fields=_of_channel,
    ),
    Line(
        PAYLOAD_REFUSED,
        DEBUG,
        "%(channel)s refused the payload of %(event)s ON %(topic)s: %(error)s",
        fields=lambda facts: {
            **_of_channel(facts),
            "event": _topic(facts["event"]),
            "error": _topic(str(facts["error"])),
        },
    ),
    Line(
        CONNECTION_REFUSED,
        INFO,
        "Refused a client with HTTP status %(status)d, because %(limit)s allows no more clients",
    ),
    Line(
        PUBLISH_REFUSED,
        INFO,
        (
            "Refused to publish with HTTP status %(status)d: %(problem)s; %(events)d such requests since the last "
            "line about this"
        ),
        fields=lambda facts: {
            "problem": ": ".join(filter(None, (facts["field"], facts["problem"])))
        },
        every=_SELDOM,
    ),
    Line(SOCKET_MALFORMED, WARNING, "Closing %(pid)r with %(code)d: %(cause)s"),
    Line(SOCKET_IGNORED, WARNING, "Ignoring malformed messages of %(pid)r: %(cause)s"),
    Line(SOCKET_EXPIRED, DEBUG, "Closing %(pid)r with %(code)d: %(cause)s"),
    Line(
        SOCKET_OVERFLOW,
        WARNING,
        "Closing %(pid)r with %(code)d: %(cause)s; the server discarded %(dropped)d frames",
    ),
    Line(
        SOCKET_SHED,
        WARNING,
        "Closing %(pid)r with %(code)d: %(cause)s; the server discarded %(dropped)d frames",
    ),
    Line(
        SOCKET_LATEST_DROPPED,
        WARNING,
        (
            "Dropped values of broadcast_latest or push_latest for %(pid)r, because %(values)d values with %(bytes)d "
            "bytes wait for it; %(events)d such clients since the last line about this. To keep more, raise "
            "Endpoint(max_latest_values=) or Endpoint(max_latest_bytes=)"
        ),
        every=_SELDOM,
    ),
    Line(
        SOCKET_INCOMING_SHED,
        WARNING,
        (
            "Closing %(client)s with %(code)d: %(cause)s; %(events)d such clients since the last line about this, and "
            "the server discarded %(bytes)d bytes"
        ),
        fields=lambda facts: {"client": "a post" if facts["pid"] is None else repr(facts["pid"])},
        every=_SELDOM,
        summed=("bytes",),
    ),
    Line(
        SOCKET_HELD_BACK,
        INFO,
        (
            "The client of %(pid)r sent a large batch; the server handles it in more than %(turns)d turns of the "
            "scheduler"
        ),
    ),
    Line(
        SOCKET_RATE_LIMITED,
        INFO,
        "The client of %(pid)r sends more than %(limit)s allows; the server refuses some of its messages",
    ),
    Line(
        LONGPOLL_LEFT_OUT,
        WARNING,
        (
            "The client of %(pid)r posted a batch of more than 100 messages; the server discarded the last "
            "%(messages)d"
        ),
    ),
    Line(
        LONGPOLL_UNSENDABLE,
        WARNING,
        (
            "%(pid)r got a binary message for a polling client, which cannot receive one; the server discarded "
            "%(messages)d messages"
        ),
    ),
    Line(
        LONGPOLL_NOT_FORWARDED,
        INFO,
        "A request of a polling client did not get through between this node and node %(node)r: %(problem)s",
    ),
    Line(
        LONGPOLL_ANSWER_LOST,
        INFO,
        (
            "Closing %(pid)r: another node did not confirm the last messages (%(messages)d) in time, and its client "
            "must not miss any"
        ),
    ),
    Line(
        POLLER_OUT_OF_MEMORY,
        ERROR,
        (
            "Not enough memory to read from clients: %(reads)d reads failed since the last line about this; the "
            "server closes the clients with the largest incomplete messages, and reads again"
        ),
        every=_SELDOM,
        summed=("reads",),
    ),
)

_DRAIN_LINES = (
    Line(
        ENDPOINT_DRAIN,
        INFO,
        "Draining %(count)d of %(total)d clients (round %(index)d of %(rounds)d)",
    ),
)

_SUPERVISOR_LINES = (
    Line(
        CHILD_RESTARTED,
        ERROR,
        "The endpoint %(supervisor)r restarted its child %(id)r, which ended: %(reason)s",
        fields=reason_in_words,
    ),
    Line(
        CHILD_START_FAILED,
        ERROR,
        "The endpoint %(supervisor)r could not restart its child %(id)r and tries again: %(reason)s",
        fields=reason_in_words,
        when=lambda facts: bool(facts["restart"]),
    ),
    Line(
        GAVE_UP,
        ERROR,
        (
            "The endpoint %(supervisor)r stops after more than %(max_restarts)g restarts within %(max_seconds)g s, "
            "the last of its child %(id)r: %(reason)s"
        ),
        fields=reason_in_words,
    ),
)
