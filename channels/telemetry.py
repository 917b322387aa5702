"""The telemetry events of channels, for `runtime.telemetry.attach`.

If Phoenix has an event, its name is the same here. The metadata of every event contains `endpoint`. Durations are in
seconds on Trio's clock.
"""

from __future__ import annotations

from actors.instrumentation.telemetry import Event

__all__ = [
    "CHANNEL_HANDLED_IN",
    "CHANNEL_JOINED",
    "CHANNEL_JOIN_SLOW",
    "CHANNEL_UNHANDLED_INFO",
    "CONNECTION_CLOSED",
    "ENDPOINT_DRAIN",
    "LONGPOLL_LEFT_OUT",
    "LONGPOLL_UNSENDABLE",
    "PAYLOAD_REFUSED",
    "POLLER_OUT_OF_MEMORY",
    "SESSION_STARTED",
    "SOCKET_CONNECTED",
    "SOCKET_CONNECT_FAILED",
    "SOCKET_HELD_BACK",
    "SOCKET_MALFORMED",
    "SOCKET_ORIGIN_REFUSED",
    "SOCKET_OVERFLOW",
    "SOCKET_SESSION_REFUSED",
    "SOCKET_UNSUPPORTED",
    "SOCKET_WITHOUT_CHANNELS",
]

SOCKET_CONNECTED: Event = ("phoenix", "socket_connected")
"""A socket's `connect` accepted or refused a client. Measurements: `duration`. Metadata: `transport` (websocket or
longpoll), `params`, `connect_info`, `vsn`, `serializer`, `user_socket` (the class), `socket` (an instance of it), `log`
(its level), `result` (ok or error), and the `reason` of a refusal. The reason is the argument of `ConnectRefused`, the
`TokenError`, or a text. The text is for an invalid upgrade request, which got 400."""

SOCKET_ORIGIN_REFUSED: Event = ("phoenix", "socket_origin_refused")
"""A web page of a forbidden origin tried to connect, and got 403. Metadata: `socket`, the class, and `origin`, as the
browser sent it."""

SOCKET_UNSUPPORTED: Event = ("phoenix", "socket_unsupported")
"""A client asked for an unknown version or subprotocol, or sent an unreadable token. It got 403. The server did not
call `connect`. Metadata: `socket`, the class, and `problem`, a text."""

SOCKET_SESSION_REFUSED: Event = ("phoenix", "socket_session_refused")
"""A client sent a session cookie without the right CSRF token, so `connect_info.session` is None. `connect` may still
accept the client. Metadata: `socket`, the class, and `problem`, a text."""

SOCKET_CONNECT_FAILED: Event = ("phoenix", "socket_connect_failed")
"""A callback of the application failed, so the server refused the client. Metadata: `socket`, the class; `callback`,
such as `connect` or `check_origin`; `exception`, which the callback raised, or an `InvalidResult`; `status`, of the
HTTP response."""

SOCKET_WITHOUT_CHANNELS: Event = ("phoenix", "socket_without_channels")
"""An endpoint started with a socket that has no channels, so the server refuses every join. Metadata: `socket`, the
class, and `place`, its file and line, or None if they are unknown."""

CHANNEL_JOINED: Event = ("phoenix", "channel_joined")
"""A channel accepted or refused a join. Measurements: `duration`. Metadata: `channel`, `params`, `result` (ok or
error)."""

CHANNEL_JOIN_SLOW: Event = ("phoenix", "channel_join_slow")
"""A join takes longer than the channel's `slow_join`. Emitted once for each join. Measurements: `duration` so far.
Metadata: `channel`, and `stack`, the lines of the stack of the waiting `join`."""

CHANNEL_HANDLED_IN: Event = ("phoenix", "channel_handled_in")
"""A channel handled a push without a crash. Measurements: `duration`. Metadata: `channel`, `event`, `ref`, `params`."""

CHANNEL_UNHANDLED_INFO: Event = ("phoenix", "channel_unhandled_info")
"""A channel without `handle_info` dropped a message of another process. Metadata: `channel`, `message`."""

PAYLOAD_REFUSED: Event = ("phoenix", "payload_refused")
"""A payload did not match the type of its handler, and the client got an error. Metadata: `channel`, `event`, and
`error`, an `InvalidPayload`."""

SOCKET_MALFORMED: Event = ("phoenix", "socket_malformed")
"""A client sent a malformed message, so the server closes the connection. Emitted once for each connection. Metadata:
`pid`, `cause`, `code`."""

SOCKET_OVERFLOW: Event = ("phoenix", "socket_overflow")
"""A client reads too slowly, so the server closes the connection with 1013. Measurements: `dropped` frames. Metadata:
`pid`, `cause`, `code`."""

SOCKET_HELD_BACK: Event = ("phoenix", "socket_held_back")
"""A client sent so much at once that its messages waited for a hundred turns of the scheduler. No message is lost.
Emitted once for each connection. Measurements: `turns`. Metadata: `pid`."""

SESSION_STARTED: Event = ("phoenix", "session_started")
"""The session of a client begins, before the server reads its first message. Metadata: `pid`, and `server`, the
`SessionServer`. A tool that checks sessions may replace its `session`, its `out`, and the codec of its `link` with
wrappers."""

CONNECTION_CLOSED: Event = ("phoenix", "connection_closed")
"""A connection has ended. Metadata: `pid`, `code`, `cause`, `topics`."""

ENDPOINT_DRAIN: Event = ("phoenix", "socket_drain")
"""The drainer closes a batch of connections. Measurements: `count`, `total`, `index`, `rounds`. Metadata: `interval`,
the seconds until the next batch. All sockets of the endpoint drain together, so there is no `socket`."""

LONGPOLL_LEFT_OUT: Event = ("phoenix", "longpoll_left_out")
"""A polling client posted more than 100 messages at once. As in Phoenix, the server drops the rest and tells the client
nothing. Measurements: `messages`, the number of dropped messages. Metadata: `pid`."""

LONGPOLL_UNSENDABLE: Event = ("phoenix", "longpoll_unsendable")
"""A channel sent a binary message to a polling client, which cannot receive one. The client's poll got 500, and all
waiting messages are lost. Measurements: `messages`. Metadata: `pid`."""

POLLER_OUT_OF_MEMORY: Event = ("phoenix", "poller_out_of_memory")
"""The server lacked memory to read from clients. The poller tries again a tenth of a second later. Measurements:
`reads`, the number of postponed reads."""
