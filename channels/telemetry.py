"""The telemetry events of channels, for `runtime.telemetry.attach`.

If Phoenix has an event, its name is the same here. Durations are in seconds on Trio's clock. The metadata of every
event contains `endpoint`. Events of PubSub contain instead `pubsub`, the `PubSub`, and `adapter`, the name of its
adapter. Events of presence contain instead `presence`, the `Presence`. Events of durable topics contain instead
`history`, the `History`.
"""

from __future__ import annotations

from actors.instrumentation.telemetry import Event

__all__ = [
    "CHANNEL_CRASHED",
    "CHANNEL_HANDLED_IN",
    "CHANNEL_JOINED",
    "CHANNEL_JOIN_SLOW",
    "CHANNEL_UNHANDLED_INFO",
    "CONNECTION_CLOSED",
    "ENDPOINT_DRAIN",
    "HISTORY_ANSWERS_FORGOTTEN",
    "HISTORY_ANSWER_REFUSED",
    "HISTORY_APPEND_FAILED",
    "HISTORY_CHECK_FAILED",
    "HISTORY_CONNECTED",
    "HISTORY_DISCONNECTED",
    "HISTORY_EVICTED",
    "HISTORY_FULL",
    "HISTORY_GAP",
    "HISTORY_LOST",
    "HISTORY_NOT_SENT",
    "LONGPOLL_ANSWER_LOST",
    "LONGPOLL_LEFT_OUT",
    "LONGPOLL_NOT_FORWARDED",
    "LONGPOLL_UNSENDABLE",
    "PAYLOAD_REFUSED",
    "POLLER_OUT_OF_MEMORY",
    "PRESENCE_CALLBACK_FAILED",
    "PRESENCE_CALLS_REFUSED",
    "PRESENCE_GOSSIP_REFUSED",
    "PRESENCE_NODE_DOWN",
    "PRESENCE_NODE_UP",
    "PRESENCE_NOT_SENT",
    "PRESENCE_STARTED",
    "PUBSUB_CONNECTED",
    "PUBSUB_DISCONNECTED",
    "PUBSUB_DROPPED",
    "PUBSUB_LOST",
    "PUBSUB_MALFORMED",
    "PUBSUB_NAME_TAKEN",
    "PUBSUB_NODE_DOWN",
    "PUBSUB_NODE_UP",
    "PUBSUB_SHARDS_DIFFER",
    "PUBSUB_STARTED",
    "PUBSUB_UNDELIVERABLE",
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
error), and `connection`, the process of the client."""

CHANNEL_CRASHED: Event = ("phoenix", "channel_crashed")
"""A channel ended with an error, and its client gets `phx_error`. Metadata: `channel`, the class; `topic`;
`connection`, the process of the client; and `reason`. The exception is in `("actors", "process", "crash")`."""

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
"""A client sent so much data that its messages waited for a hundred turns of the scheduler. No message is lost. Emitted
once for each connection. Measurements: `turns`. Metadata: `pid`."""

SESSION_STARTED: Event = ("phoenix", "session_started")
"""The session of a client begins, before the server reads its first message. Metadata: `pid`; `id`, the id of the
socket, or None; and `server`, the `SessionServer`. A tool that checks or records sessions may replace its `session`,
its `out`, and the codec of its `link` with wrappers."""

CONNECTION_CLOSED: Event = ("phoenix", "connection_closed")
"""A connection has ended. Metadata: `pid`, `code`, `cause`, `topics`."""

ENDPOINT_DRAIN: Event = ("phoenix", "socket_drain")
"""The drainer closes a batch of connections. Measurements: `count`, `total`, `index`, `rounds`. Metadata: `interval`,
the seconds until the next batch. All sockets of the endpoint drain together, so there is no `socket`."""

LONGPOLL_LEFT_OUT: Event = ("phoenix", "longpoll_left_out")
"""A polling client posted a batch of more than 100 messages. As in Phoenix, the server drops the rest, and the client
does not learn of this. Measurements: `messages`, the number of dropped messages. Metadata: `pid`."""

LONGPOLL_UNSENDABLE: Event = ("phoenix", "longpoll_unsendable")
"""A channel sent a binary message to a polling client, which cannot receive one. The client's poll got 500, and all
waiting messages are lost. Measurements: `messages`. Metadata: `pid`."""

LONGPOLL_NOT_FORWARDED: Event = ("phoenix", "longpoll_not_forwarded")
"""A request of a polling client reached another node than its session, and this node could not forward or answer it.
Metadata: `node`, the name of the other node, and `problem`, a text. The client starts again or polls again."""

LONGPOLL_ANSWER_LOST: Event = ("phoenix", "longpoll_answer_lost")
"""Another node did not confirm in time that it got the messages of a session, so the session ends: its client must not
miss any. Measures `messages`; about `pid`."""

POLLER_OUT_OF_MEMORY: Event = ("phoenix", "poller_out_of_memory")
"""The server lacked memory to read from clients. The poller tries again a tenth of a second later. Measurements:
`reads`, the number of postponed reads."""

PUBSUB_STARTED: Event = ("phoenix", "pubsub_started")
"""An adapter begins an incarnation, before it sends or receives anything. Metadata: `exchange`, its `Exchange`. A tool
that checks messages may replace its `receiver`, and its functions `message`, `message_to` and `receive`."""

PUBSUB_CONNECTED: Event = ("phoenix", "pubsub_connected")
"""An adapter has connected to its server, for the first time or again. Measurements: `attempts`. Metadata:
`connection`, which names the connection, and `server`, its address without a password."""

PUBSUB_DISCONNECTED: Event = ("phoenix", "pubsub_disconnected")
"""An adapter has lost its server, or could not connect. Broadcasts reach only this node until PUBSUB_CONNECTED.
Measurements: `delay`, the seconds until the next attempt. Metadata: `connection`, `server`, and `problem`, a text."""

PUBSUB_DROPPED: Event = ("phoenix", "pubsub_dropped")
"""An adapter dropped messages of this node for others, because too much was waiting to be sent. Measurements: `count`;
about `problem`, a text. Other nodes count the same messages as lost."""

PUBSUB_LOST: Event = ("phoenix", "pubsub_lost")
"""Messages of another node did not arrive. Measurements: `count`. Metadata: `lost`, a `Lost` with the sender, its
incarnation, the lane, and the first and last number."""

PUBSUB_MALFORMED: Event = ("phoenix", "pubsub_malformed")
"""A message from outside was not an envelope, and was dropped. Measurements: `bytes`. Metadata: `lane`, and `problem`,
a text."""

PUBSUB_NODE_UP: Event = ("phoenix", "pubsub_node_up")
"""Another node was heard of for the first time since it started or went silent. Metadata: `node`, a `Node`."""

PUBSUB_NODE_DOWN: Event = ("phoenix", "pubsub_node_down")
"""Another node has stopped or went silent. Metadata: `node`, a `Node`, and `reason`, which is goodbye or silent."""

PUBSUB_NAME_TAKEN: Event = ("phoenix", "pubsub_name_taken")
"""Another node that started later has the name of this node, and repeats this event with each heartbeat. Metadata:
`node`, that other node."""

PUBSUB_SHARDS_DIFFER: Event = ("phoenix", "pubsub_shards_differ")
"""Another node spreads its topics over another number of lanes, so the two miss messages of each other. It repeats this
event with each heartbeat. Measurements: `shards` and `other_shards`. Metadata: `node`."""

PUBSUB_UNDELIVERABLE: Event = ("phoenix", "pubsub_undeliverable")
"""Some subscribers could not get a message of another node. Either the wire format of their clients cannot express it:
raw bytes for a V1 client. Or they need it decoded, and it contains a value that Python cannot represent, such as the
number `1e999`. The others have got it. Metadata: `topic`, `event`, and `error`: an `EncodeError`, or the error of a
serializer of the application. After such an error, others may miss the message too."""

PRESENCE_STARTED: Event = ("phoenix", "presence_started")
"""A presence starts on this node, or its supervisor has started it again. Metadata: `tracking`, its `Tracking`, which
is the same after a restart, and `limits`, its `Limits`. A tool that checks presences may replace the functions of its
`roster` by which this node tracks."""

PRESENCE_NODE_UP: Event = ("phoenix", "presence_node_up")
"""Another node runs: a new one, a new incarnation, or one that was down. Metadata: `node`, its name, and
`incarnation`."""

PRESENCE_NODE_DOWN: Event = ("phoenix", "presence_node_down")
"""Another node has gone. Metadata: `node`, its name; `incarnation`; and `reason`, which is goodbye, silent or
forgotten."""

PRESENCE_GOSSIP_REFUSED: Event = ("phoenix", "presence_gossip_refused")
"""A message of another node about presence was dropped. Metadata: `node`, its name, and `problem`, a text."""

PRESENCE_NOT_SENT: Event = ("phoenix", "presence_not_sent")
"""The adapter did not take a message about presence for other nodes. Measurements: `bytes`. Metadata: `error`, a
`MessageTooLarge`."""

PRESENCE_CALLS_REFUSED: Event = ("phoenix", "presence_calls_refused")
"""A client, or another process, makes more calls than `max_calls_per_second`. Metadata: `error`, a `TooManyCalls`."""

PRESENCE_CALLBACK_FAILED: Event = ("phoenix", "presence_callback_failed")
"""`fetch`, `handle_metas` or `counted` raised, took too long, or returned an invalid result. After `fetch`, clients do
not get the diff. Metadata: `callback`, `topic`, and `exception`."""

HISTORY_ANSWERS_FORGOTTEN: Event = ("phoenix", "history_answers_forgotten")
"""A storage forgot keys of pushes before their time, to stay within `max_answers` or `max_answer_bytes`. Measurements:
`keys`, their number."""

HISTORY_ANSWER_REFUSED: Event = ("phoenix", "history_answer_refused")
"""An answer to a push with a key is too large to be remembered. The client has got it. Measurements: `bytes` and
`limit`. Metadata: `topic` and `event`."""

HISTORY_APPEND_FAILED: Event = ("phoenix", "history_append_failed")
"""The storage of a history failed, so a message for a durable topic is not kept, or perhaps not. The same for the
answer to a push. Metadata: `topic`, and `error`, an `AppendFailed` or an `AnswerNotKept`."""

HISTORY_CHECK_FAILED: Event = ("phoenix", "history_check_failed")
"""The storage of a history failed when it was asked for the ends of the joined topics. The history asks again after its
`check_interval`. Metadata: `error`, a `StorageError`."""

HISTORY_CONNECTED: Event = ("phoenix", "history_connected")
"""The storage of a history has connected to its server, for the first time or again. Measurements: `attempts`.
Metadata: `connection`, which names the connection, and `server`, its address without a password."""

HISTORY_DISCONNECTED: Event = ("phoenix", "history_disconnected")
"""The storage of a history has lost its server, or could not connect. Measurements: `delay`, the seconds until the next
attempt. Metadata: `connection`, `server`, and `problem`, a text."""

HISTORY_FULL: Event = ("phoenix", "history_full")
"""A history refused a message, because too many wait for its storage. Measurements: `waiting`. Metadata: `topic`."""

HISTORY_EVICTED: Event = ("phoenix", "history_evicted")
"""A storage forgot the messages of some topics, to stay within `max_topics` or `max_total_bytes`. Measurements:
`topics`, their number."""

HISTORY_NOT_SENT: Event = ("phoenix", "history_not_sent")
"""The adapter did not take a kept message for other nodes. They find it in the storage at their next check. Metadata:
`topic`, and `error`."""

HISTORY_GAP: Event = ("phoenix", "history_gap")
"""A channel of a durable topic noticed that messages did not arrive, and reads them from the storage. Metadata:
`topic`, `position`, `end`, and `pid`, the channel."""

HISTORY_LOST: Event = ("phoenix", "history_lost")
"""A channel of a durable topic missed messages that the storage has dropped. It crashes with `HistoryLost`, so that its
client rejoins and gets the reason. Metadata: `topic`, `position`, `reason` and `pid`."""
