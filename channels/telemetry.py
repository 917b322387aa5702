"""The events of channels, for `runtime.telemetry.attach`. Durations are seconds on Trio's clock.

After the `phoenix.*` events of Phoenix, whose names they carry. All are also about the `endpoint`.
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
"""A client asked to connect, and the socket has answered. Measures `duration`; about `transport` (websocket or
longpoll), `params`, `connect_info`, `vsn`, `serializer`, `user_socket` (the class), `socket` (an instance of it), `log`
(its level), `result` (ok or error), and the `reason` of a refusal: what `ConnectRefused` was given, the `TokenError`,
or a text that says why the request could not become a WebSocket (it was answered 400)."""

SOCKET_ORIGIN_REFUSED: Event = ("phoenix", "socket_origin_refused")
"""A page from elsewhere asked to connect and got 403. About `socket`, the class, and `origin`, as the page's browser
said it."""

SOCKET_UNSUPPORTED: Event = ("phoenix", "socket_unsupported")
"""A client asked for a version or a subprotocol that the socket does not speak, or sent a token that cannot be read; it
got 403 before `connect` was asked. About `socket`, the class, and `problem`, a text."""

SOCKET_SESSION_REFUSED: Event = ("phoenix", "socket_session_refused")
"""A client sent the cookies of a session without the right CSRF token, so `connect_info.session` is None. About
`socket`, the class, and `problem`, a text. The client may connect all the same if `connect` lets it."""

SOCKET_CONNECT_FAILED: Event = ("phoenix", "socket_connect_failed")
"""The application could not decide about a client, which was refused. About `socket`, the class; `callback`, which is
`connect` or `check_origin`; `exception`, what it raised, or an `InvalidResult` for what it returned; `status`, of the
HTTP answer."""

SOCKET_WITHOUT_CHANNELS: Event = ("phoenix", "socket_without_channels")
"""An endpoint started with a socket that has no channels, so that every join is refused. About `socket`, the class, and
`place`, its file and line, None if they are not known."""

CHANNEL_JOINED: Event = ("phoenix", "channel_joined")
"""A join was answered. Measures `duration`; about `channel`, `params`, `result` (ok or error)."""

CHANNEL_JOIN_SLOW: Event = ("phoenix", "channel_join_slow")
"""A join is still under way after the channel's `slow_join` seconds; once for each join. Measures `duration`, so far;
about `channel` and `stack`, a list of lines: where it waits."""

CHANNEL_HANDLED_IN: Event = ("phoenix", "channel_handled_in")
"""A push was handled and did not crash. Measures `duration`; about `channel`, `event`, `ref`, `params`."""

CHANNEL_UNHANDLED_INFO: Event = ("phoenix", "channel_unhandled_info")
"""A channel without `handle_info` got a message of another process, and forgot it. About `channel`, `message`."""

PAYLOAD_REFUSED: Event = ("phoenix", "payload_refused")
"""A payload did not fit what its handler declares, and was answered with an error. About `channel`, `event`, and the
`error`, an `InvalidPayload`."""

SOCKET_MALFORMED: Event = ("phoenix", "socket_malformed")
"""A client sent what is no message, and is disconnected. About `pid`, `cause`, `code`. Once for each connection."""

SOCKET_OVERFLOW: Event = ("phoenix", "socket_overflow")
"""A client reads too slowly, and is disconnected with 1013. Measures `dropped` frames; about `pid`."""

SOCKET_HELD_BACK: Event = ("phoenix", "socket_held_back")
"""A client sent so much at once that it was dealt with in more than a hundred turns of the scheduler, with other tasks
in between. Nothing is lost. Measures `turns`; about `pid`. Once for each connection."""

SESSION_STARTED: Event = ("phoenix", "session_started")
"""The session of a client begins; nothing was read from the client yet. About `pid`, and `server`, the `SessionServer`.
A tool that checks sessions may replace its `session`, its `out`, and the codec of its `link` with wrappers."""

CONNECTION_CLOSED: Event = ("phoenix", "connection_closed")
"""A connection has ended. About `pid`, `code`, `cause`, `topics`."""

ENDPOINT_DRAIN: Event = ("phoenix", "socket_drain")
"""A batch of connections is told to go elsewhere. Measures `count`, `total`, `index`, `rounds`; about `interval`, the
seconds until the next one. All sockets of the endpoint are drained together, so it names none."""

LONGPOLL_LEFT_OUT: Event = ("phoenix", "longpoll_left_out")
"""A client that polls posted more than 100 messages at once; those beyond are lost, and it is not told, as in Phoenix.
Measures `messages`, how many were left out; about `pid`."""

LONGPOLL_UNSENDABLE: Event = ("phoenix", "longpoll_unsendable")
"""A binary message was for a client that polls, which cannot take one: its poll is answered 500, and what waited too is
lost. Measures `messages`; about `pid`."""

POLLER_OUT_OF_MEMORY: Event = ("phoenix", "poller_out_of_memory")
"""There was no memory to read what clients sent; they are read again a tenth of a second later. Measures `reads`, how
many were left out."""
