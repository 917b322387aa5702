"""The telemetry events of channels, for `runtime.telemetry.attach`.

An event that Phoenix also has keeps its Phoenix name. Durations are in seconds on Trio's clock. The metadata of most
events contains `endpoint`. Three kinds of events contain other objects instead:

- Events of PubSub contain `pubsub`, the `PubSub`, and `adapter`, the name of its adapter.
- Events of presence contain `presence`, the `Presence`.
- Events of durable topics contain `history`, the `History`.
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
    "CONNECTION_REFUSED",
    "ENDPOINT_DRAIN",
    "ENTITY_ALARM",
    "ENTITY_ARBITER_CONNECTED",
    "ENTITY_ARBITER_DISCONNECTED",
    "ENTITY_BEGAN",
    "ENTITY_CRASHED",
    "ENTITY_DROPPED",
    "ENTITY_ENDED",
    "ENTITY_FINISHED",
    "ENTITY_HANDED_OVER",
    "ENTITY_HANDOVER_LOST",
    "ENTITY_LEASE_LOST",
    "ENTITY_MESSAGE_REFUSED",
    "ENTITY_MOVING",
    "ENTITY_NODE_DOWN",
    "ENTITY_NODE_UP",
    "ENTITY_REFUSED",
    "ENTITY_REQUEST_ACCEPTED",
    "ENTITY_REQUEST_ENDED",
    "ENTITY_SESSION_OPENED",
    "ENTITY_STARTED",
    "ENTITY_START_FAILED",
    "ENTITY_TAKEN_OVER",
    "HISTORY_ANSWERS_FORGOTTEN",
    "HISTORY_ANSWER_REFUSED",
    "HISTORY_APPEND_FAILED",
    "HISTORY_CHECK_FAILED",
    "HISTORY_CONNECTED",
    "HISTORY_DISCONNECTED",
    "HISTORY_EVICTED",
    "HISTORY_FENCES_FORGOTTEN",
    "HISTORY_FENCE_REFUSED",
    "HISTORY_FULL",
    "HISTORY_GAP",
    "HISTORY_LOST",
    "HISTORY_NOT_SENT",
    "HISTORY_STARTED",
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
    "PUBLISH_ACCEPTED",
    "PUBLISH_REFUSED",
    "PUBSUB_CONNECTED",
    "PUBSUB_DISCONNECTED",
    "PUBSUB_DROPPED",
    "PUBSUB_LOST",
    "PUBSUB_MALFORMED",
    "PUBSUB_NAME_TAKEN",
    "PUBSUB_NODE_DOWN",
    "PUBSUB_NODE_UP",
    "PUBSUB_STARTED",
    "PUBSUB_SUBSCRIBED",
    "PUBSUB_UNDELIVERABLE",
    "PUBSUB_UNSUBSCRIBED",
    "SESSION_STARTED",
    "SOCKET_CONNECTED",
    "SOCKET_CONNECT_FAILED",
    "SOCKET_EXPIRED",
    "SOCKET_HELD_BACK",
    "SOCKET_IGNORED",
    "SOCKET_INCOMING_SHED",
    "SOCKET_LATEST_DROPPED",
    "SOCKET_MALFORMED",
    "SOCKET_ORIGIN_REFUSED",
    "SOCKET_OVERFLOW",
    "SOCKET_RATE_LIMITED",
    "SOCKET_SESSION_REFUSED",
    "SOCKET_SHED",
    "SOCKET_UNMATCHED_PATH",
    "SOCKET_UNMATCHED_TOPIC",
    "SOCKET_UNSUPPORTED",
    "SOCKET_WITHOUT_CHANNELS",
]

SOCKET_CONNECTED: Event = ("phoenix", "socket_connected")
"""A socket's `connect` accepted or refused a client. Measurements: `duration`. Metadata: `transport` (websocket or
longpoll), `params`, `connect_info`, `vsn`, `serializer`, `user_socket` (the class), `socket` (an instance of it), `log`
(its level), `result` (ok or error), and the `reason` of a refusal. The reason is the argument of `ConnectRefused`, or
the `TokenError`. For an invalid upgrade request, which got 400, the reason is a text."""

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
such as `connect` or `check_origin`; `exception`, the exception of the callback or an `InvalidResult`; and `status`, the
status of the HTTP response."""

SOCKET_WITHOUT_CHANNELS: Event = ("phoenix", "socket_without_channels")
"""An endpoint started with a socket that has no channels, so the server refuses every join. Metadata: `socket`, the
class, and `place`, its file and line, or None if they are unknown."""

SOCKET_UNMATCHED_PATH: Event = ("phoenix", "socket_unmatched_path")
"""A client asked for a WebSocket at a path where there is no socket, and the application of the endpoint refused it.
Metadata: `path`, and `paths`, the paths of the endpoint's sockets."""

SOCKET_UNMATCHED_TOPIC: Event = ("phoenix", "socket_unmatched_topic")
"""A client tried to join a topic that no route of its socket matches, so it got the error `unmatched topic`. Metadata:
`socket`, the class; `topic`, which may be any JSON value; `routes`, the routes of the socket; and `pid`, the process of
the client."""

CHANNEL_JOINED: Event = ("phoenix", "channel_joined")
"""A channel accepted or refused a join. Measurements: `duration`. Metadata: `channel`, `params`, `result` (ok or
error), and `connection`, the process of the client."""

CHANNEL_CRASHED: Event = ("phoenix", "channel_crashed")
"""A channel ended with an error, and its client gets `phx_error`. Metadata: `channel`, the class; `topic`;
`connection`, the process of the client; and `reason`, the exit reason. The event `("actors", "process", "crash")`
contains the exception."""

CHANNEL_JOIN_SLOW: Event = ("phoenix", "channel_join_slow")
"""A join takes longer than the channel's `slow_join`. Emitted at most once for each join. Measurements: `duration` so
far. Metadata: `channel`, and `stack`, the stack of the waiting `join` as lines."""

CHANNEL_HANDLED_IN: Event = ("phoenix", "channel_handled_in")
"""A channel handled a push without a crash. Measurements: `duration`. Metadata: `channel`, `event`, `ref`, `params`."""

CHANNEL_UNHANDLED_INFO: Event = ("phoenix", "channel_unhandled_info")
"""A channel without `handle_info` dropped a message of another process. Metadata: `channel`, `message`."""

PAYLOAD_REFUSED: Event = ("phoenix", "payload_refused")
"""A payload did not match the type of its handler, and the client got an error. Metadata: `channel`, `event`, and
`error`, an `InvalidPayload`."""

SOCKET_MALFORMED: Event = ("phoenix", "socket_malformed")
"""A client sent a malformed message, so the server closes the connection. Emitted at most once for each connection.
Measurements: `dropped` frames. Metadata: `pid`, `cause`, `code`."""

SOCKET_IGNORED: Event = ("phoenix", "socket_ignored")
"""A client sent a malformed message, and the server dropped it, because the serializer has `drops_malformed`. Emitted
at most once for each connection. The counters count every dropped message. Metadata: `pid`, `cause`."""

SOCKET_EXPIRED: Event = ("phoenix", "socket_expired")
"""A connection reached its deadline from `expire_connection_after`, so the server closes it with 3000.
Measurements: `dropped` frames. Metadata: `pid`, `cause`, `code`."""

SOCKET_OVERFLOW: Event = ("phoenix", "socket_overflow")
"""A client reads too slowly, so the server closes the connection with 1013. Measurements: `dropped` frames. Metadata:
`pid`, `cause`, `code`."""

SOCKET_SHED: Event = ("phoenix", "socket_shed")
"""Too many bytes wait for all clients together. The server closes this client with 1013, because more bytes wait for it
than for the clients that stay. Measurements: `dropped` frames. Metadata: `pid`, `cause`, `code`."""

SOCKET_LATEST_DROPPED: Event = ("phoenix", "socket_latest_dropped")
"""A value of `broadcast_latest` or `push_latest` did not fit into the bounds of the waiting values of a client, and was
dropped. The client stays connected. The server emits the event once until the client has all waiting frames.
Measurements: the waiting `values` and their `bytes`. Metadata: `pid`."""

SOCKET_INCOMING_SHED: Event = ("phoenix", "socket_incoming_shed")
"""The incomplete messages of all clients together are too large, or the memory has run out. The server closes this
client with 1013, or answers its post with 503, because its message is larger than the messages of the clients that
stay. Measurements: `bytes`, the size of the discarded message so far. Metadata: `pid`, or None for a post; `cause`; and
`code`, the close code or the HTTP status."""

SOCKET_RATE_LIMITED: Event = ("phoenix", "socket_rate_limited")
"""A client sent more messages or joins than a limit of its socket allows, so the server refuses some of them. Emitted
at most once for each connection and limit. The counters count every refused message. Metadata: `pid`, and `limit`, the
name of the option: `max_messages_per_second`, `max_joins_per_second` or `max_joining`. A `SupabaseChannel` emits it
once for itself, also with the limit `max_payload_bytes`."""

SOCKET_HELD_BACK: Event = ("phoenix", "socket_held_back")
"""A client sent so much data that its messages waited for a hundred turns of the scheduler. No message is lost. Emitted
at most once for each connection. Measurements: `turns`. Metadata: `pid`."""

SESSION_STARTED: Event = ("phoenix", "session_started")
"""The session of a client begins. The server has not read a message of the client yet. Metadata: `pid`; `id`, the id of
the socket, or None; and `server`, the `SessionServer`. A tool that checks or records sessions may put wrappers around
the `session` and the `out` of this server, and around the codec of its `link`."""

CONNECTION_CLOSED: Event = ("phoenix", "connection_closed")
"""A connection has ended. Metadata: `pid`, `code`, `cause`, `topics`."""

CONNECTION_REFUSED: Event = ("phoenix", "connection_refused")
"""The server refused a client before `connect`, because there are too many clients. Metadata: `limit`, which is
`max_connections`, `max_internal_connections` or `max_sessions`; and `status`, the HTTP status, which is 503."""

PUBLISH_ACCEPTED: Event = ("phoenix", "publish_accepted")
"""`HttpPublish` has sent the messages of a request, or the first messages of a batch that failed. Measurements:
`messages`. Metadata: `nodes`, the number of nodes that they were sent to."""

PUBLISH_REFUSED: Event = ("phoenix", "publish_refused")
"""`HttpPublish` refused a request. Metadata: `status`, the HTTP status; `problem`, a text; and `field`, the field of
the request that is wrong, or None."""

ENDPOINT_DRAIN: Event = ("phoenix", "socket_drain")
"""The drainer closes a batch of clients, which are WebSockets and polling sessions. Measurements: `count`, `total`,
`index`, `rounds`. Metadata: `interval`, the seconds until the next batch. All sockets of the endpoint drain together,
so there is no `socket`."""

LONGPOLL_LEFT_OUT: Event = ("phoenix", "longpoll_left_out")
"""A polling client posted a batch of more than 100 messages. As in Phoenix, the server drops the messages after the
100th, and does not tell the client. Measurements: `messages`, the number of dropped messages. Metadata: `pid`."""

LONGPOLL_UNSENDABLE: Event = ("phoenix", "longpoll_unsendable")
"""A channel sent a binary message to a polling client, which cannot receive binary messages. The client's poll got 500,
and all waiting messages are lost. Measurements: `messages`, their number. Metadata: `pid`."""

LONGPOLL_NOT_FORWARDED: Event = ("phoenix", "longpoll_not_forwarded")
"""A request of a polling client reached a node that does not hold the client's session, and one of the two nodes could
not forward or answer it. Then the client starts a new session, or polls again. Metadata: `node`, the name of the other
node, and `problem`, a text."""

LONGPOLL_ANSWER_LOST: Event = ("phoenix", "longpoll_answer_lost")
"""Another node did not confirm in time that it got the messages of a session. So the session ends, because its client
must not miss a message. Measurements: `messages`, their number. Metadata: `pid`."""

POLLER_OUT_OF_MEMORY: Event = ("phoenix", "poller_out_of_memory")
"""The server had too little memory to read from clients. The poller reads again a tenth of a second later.
Measurements: `reads`, the number of postponed reads."""

PUBSUB_STARTED: Event = ("phoenix", "pubsub_started")
"""An adapter begins an incarnation. It has not sent or received anything yet. Metadata: `exchange`, its `Exchange`. A
tool that checks messages may replace the `receiver` of the exchange, and its functions `message`, `message_to` and
`receive`."""

PUBSUB_SUBSCRIBED: Event = ("phoenix", "pubsub_subscribed")
"""A process subscribed to a topic. The join of a channel to its own topic does not emit this event. Measurements:
`count`, the number of subscriptions that the process now has to the topic. Metadata: `pid` and `topic`."""

PUBSUB_UNSUBSCRIBED: Event = ("phoenix", "pubsub_unsubscribed")
"""A process removed all its subscriptions to a topic. Metadata: `pid` and `topic`."""

PUBSUB_CONNECTED: Event = ("phoenix", "pubsub_connected")
"""An adapter has connected to its server, for the first time or again. Measurements: `attempts`. Metadata:
`connection`, which names the connection, and `server`, its address without a password."""

PUBSUB_DISCONNECTED: Event = ("phoenix", "pubsub_disconnected")
"""An adapter has lost its server, or could not connect. Broadcasts reach only this node until PUBSUB_CONNECTED.
Measurements: `delay`, the seconds until the next attempt. Metadata: `connection`, `server`, and `problem`, a text."""

PUBSUB_DROPPED: Event = ("phoenix", "pubsub_dropped")
"""An adapter dropped messages of this node for other nodes, because too many were waiting. The other nodes count these
messages as lost. Measurements: `count`. Metadata: `problem`, a text."""

PUBSUB_LOST: Event = ("phoenix", "pubsub_lost")
"""Messages of another node did not arrive. Measurements: `count`. Metadata: `lost`, a `LostEnvelopes` with the sender,
its incarnation, the lane, and the first and last number."""

PUBSUB_MALFORMED: Event = ("phoenix", "pubsub_malformed")
"""An adapter received a message that is not an envelope, and dropped it. Measurements: `bytes`. Metadata: `lane`, and
`problem`, a text."""

PUBSUB_NODE_UP: Event = ("phoenix", "pubsub_node_up")
"""This node got the first message of another node since that node started or went silent. Metadata: `node`, a
`Node`."""

PUBSUB_NODE_DOWN: Event = ("phoenix", "pubsub_node_down")
"""Another node has stopped or gone silent. Metadata: `node`, a `Node`, and `reason`, which is goodbye, silent, or
replaced, if a later start of the node runs already."""

PUBSUB_NAME_TAKEN: Event = ("phoenix", "pubsub_name_taken")
"""Another node, which started later, has the same name as this node. Emitted again for each heartbeat of that node.
Metadata: `node`, that node."""

PUBSUB_UNDELIVERABLE: Event = ("phoenix", "pubsub_undeliverable")
"""Some subscribers could not get a message of another node. There are two causes. The wire format of a client cannot
express the message, such as raw bytes for a V1 client. Or a subscriber needs the decoded message, and the message
contains a value that Python cannot represent, such as the number `1e999`. All other subscribers got the message.

Metadata: `topic`, `event`, and `error`. The error is an `EncodeError`, or an exception that a serializer of the
application raised. After an exception of a serializer, other subscribers may miss the message too."""

PRESENCE_STARTED: Event = ("phoenix", "presence_started")
"""A presence starts or restarts on this node. Metadata: `tracking`, its `Tracking`, which stays the same after a
restart, and `limits`, its `Limits`. A tool that checks presences may replace the functions of the `roster` that track
entries of this node."""

PRESENCE_NODE_UP: Event = ("phoenix", "presence_node_up")
"""Another node is up. It is new, has started again, or was down before. Metadata: `node`, its name, and
`incarnation`."""

PRESENCE_NODE_DOWN: Event = ("phoenix", "presence_node_down")
"""Another node is down. Metadata: `node`, its name; `incarnation`; and `reason`, which is goodbye, silent or
forgotten."""

PRESENCE_GOSSIP_REFUSED: Event = ("phoenix", "presence_gossip_refused")
"""This node dropped a message of another node about presence. Metadata: `node`, the name of the other node, and
`problem`, a text."""

PRESENCE_NOT_SENT: Event = ("phoenix", "presence_not_sent")
"""The adapter did not take a message about presence for other nodes. Measurements: `bytes`. Metadata: `error`, a
`MessageTooLarge`."""

PRESENCE_CALLS_REFUSED: Event = ("phoenix", "presence_calls_refused")
"""A client, or another process, makes more calls per second than `max_calls_per_second`. Metadata: `error`, a
`TooManyCalls`."""

PRESENCE_CALLBACK_FAILED: Event = ("phoenix", "presence_callback_failed")
"""`fetch`, `handle_metas` or `counted` raised, took too long, or returned an invalid result. If `fetch` failed, clients
do not get the diff. Metadata: `callback`, `topic`, and `exception`."""

ENTITY_ARBITER_CONNECTED: Event = ("channels", "entity", "arbiter_connected")
"""The arbiter of an `EntitySupervisor` has connected to its server, for the first time or again. Measurements:
`attempts`. Metadata: `supervisor`, its name; `connection`; and `server`, its address without a password."""

ENTITY_ARBITER_DISCONNECTED: Event = ("channels", "entity", "arbiter_disconnected")
"""The arbiter of an `EntitySupervisor` has lost its server, or could not connect. The entities of this node stop when
their lease ends, unless the arbiter connects again before. Measurements: `delay`, the seconds until the next attempt.
Metadata: `supervisor`, `connection`, `server`, and `problem`, a text."""

ENTITY_SESSION_OPENED: Event = ("channels", "entity", "session_opened")
"""This node has a session at the arbiter, so it may own keys. Metadata: `supervisor` and `router`, as all events of
entities have: the name of the `EntitySupervisor`, and its `Router` on this node."""

ENTITY_LEASE_LOST: Event = ("channels", "entity", "lease_lost")
"""The lease of this node's session is lost, so all its entities stop. Metadata: `problem`, a text."""

ENTITY_STARTED: Event = ("channels", "entity", "started")
"""An entity runs on this node, after its `init`. Metadata: `key`, `fence` and `pid`."""

ENTITY_ENDED: Event = ("channels", "entity", "ended")
"""The process of an entity has ended, for any reason. Metadata: `key`; `fence`, which is 0 if the process never owned
the key; `pid`; and `reason`, its exit reason."""

ENTITY_CRASHED: Event = ("channels", "entity", "crashed")
"""An entity crashed. Measurements: `delay`, the seconds until it may start again; 0 if it starts at once. Metadata:
`key`, `fence` and `reason`."""

ENTITY_START_FAILED: Event = ("channels", "entity", "start_failed")
"""The `init` of an entity failed, so the requests that waited for it fail with `EntityStartFailed`. Measurements:
`delay`, the seconds until a request may start it again. Metadata: `key`, `reason`, and `problem`, a text."""

ENTITY_BEGAN: Event = ("channels", "entity", "began")
"""An entity begins to run a callback. Metadata: `key`; `fence`; and `request`, an `EntityRequest`, or None if the
callback has another cause, such as a timer."""

ENTITY_FINISHED: Event = ("channels", "entity", "finished")
"""The callback of an `ENTITY_BEGAN` has ended, with or without an exception. The metadata is the same."""

ENTITY_REQUEST_ACCEPTED: Event = ("channels", "entity", "request_accepted")
"""The node that owns a key has put a request into the mailbox of the entity. Metadata: `request` and `fence`."""

ENTITY_REQUEST_ENDED: Event = ("channels", "entity", "request_ended")
"""A request has ended on this node: with an answer, or with a `Failure`. For a request of another node, that node emits
this event too. Metadata: `request`, and `failure`, which is None after an answer."""

ENTITY_DROPPED: Event = ("channels", "entity", "dropped")
"""A cast, a message or an alarm did not reach its entity, or may not have. Metadata: `key`, `verb`, and `problem`, a
text."""

ENTITY_REFUSED: Event = ("channels", "entity", "refused")
"""A limit of an `EntitySupervisor` was reached. Measurements: `limit`. Metadata: `key`, and `option`, the name of the
limit."""

ENTITY_ALARM: Event = ("channels", "entity", "alarm")
"""The alarm of an entity is due, and this node wakes the entity. Metadata: `key`, and `at`, the time of the alarm."""

ENTITY_MOVING: Event = ("channels", "entity", "moving")
"""This node begins to move a key. Metadata: `key`, `fence`, and `to`, the name of the next node."""

ENTITY_HANDED_OVER: Event = ("channels", "entity", "handed_over")
"""A key now belongs to another node, which gets its state and its waiting requests. Measurements: `requests` and
`bytes`. Metadata: `key`; `fence`, that of the next owner; and `to`, the name of its node."""

ENTITY_TAKEN_OVER: Event = ("channels", "entity", "taken_over")
"""This node got the state and the waiting requests of a key. Measurements: `requests` and `bytes`. Metadata: `key`;
`fence`, that of this node; and `sender`, the name of the earlier node."""

ENTITY_HANDOVER_LOST: Event = ("channels", "entity", "handover_lost")
"""The next owner of a key has not confirmed a handover, has started without it, or could not read the state. Metadata:
`key`, and `problem`, a text."""

ENTITY_NODE_UP: Event = ("channels", "entity", "node_up")
"""Another node can own keys. Metadata: `node`, a `Node`."""

ENTITY_NODE_DOWN: Event = ("channels", "entity", "node_down")
"""Another node has stopped or gone silent. Its keys stay with it until the arbiter says otherwise. Metadata: `node`."""

ENTITY_MESSAGE_REFUSED: Event = ("channels", "entity", "message_refused")
"""A message between nodes about entities was malformed, or too large for the adapter. Metadata: `problem`, a text."""

HISTORY_ANSWERS_FORGOTTEN: Event = ("phoenix", "history_answers_forgotten")
"""A storage forgot keys of pushes before they expired, to stay within `max_answers` or `max_answer_bytes`.
Measurements: `keys`, their number."""

HISTORY_ANSWER_REFUSED: Event = ("phoenix", "history_answer_refused")
"""The answer to a push with a key is too large, so the storage does not remember it. The client has got the answer.
Measurements: `bytes` and `limit`. Metadata: `topic` and `event`."""

HISTORY_APPEND_FAILED: Event = ("phoenix", "history_append_failed")
"""The storage of a history failed, so it may not have kept a message of a durable topic, or the answer to a push.
Metadata: `topic`, and `error`, an `AppendFailed` or an `AnswerNotKept`."""

HISTORY_CHECK_FAILED: Event = ("phoenix", "history_check_failed")
"""The storage of a history failed when the history asked for the latest positions of the joined topics. The history
asks again after its `check_interval`. Metadata: `error`, a `StorageError`."""

HISTORY_CONNECTED: Event = ("phoenix", "history_connected")
"""The storage of a history has connected to its server, for the first time or again. Measurements: `attempts`.
Metadata: `connection`, which names the connection, and `server`, its address without a password."""

HISTORY_DISCONNECTED: Event = ("phoenix", "history_disconnected")
"""The storage of a history has lost its server, or could not connect. Measurements: `delay`, the seconds until the next
attempt. Metadata: `connection`, `server`, and `problem`, a text."""

HISTORY_FULL: Event = ("phoenix", "history_full")
"""A history refused a message, because too many messages wait for its storage. Measurements: `waiting`. Metadata:
`topic`."""

HISTORY_STARTED: Event = ("phoenix", "history_started")
"""A history has opened its storage, and starts. Metadata: `history`, the `History`."""

HISTORY_EVICTED: Event = ("phoenix", "history_evicted")
"""A storage forgot the messages of some topics, to stay within `max_topics` or `max_total_bytes`. Measurements:
`topics`, the number of these topics."""

HISTORY_FENCE_REFUSED: Event = ("phoenix", "history_fence_refused")
"""A storage refused a claim with an old fence, or an append with another fence than the claimed one. Metadata: `topic`,
and `error`, a `FenceRefused`."""

HISTORY_FENCES_FORGOTTEN: Event = ("phoenix", "history_fences_forgotten")
"""A storage forgot the claimed fences of some topics, to stay within `max_fences`. Measurements: `topics`, the number
of these topics."""

HISTORY_NOT_SENT: Event = ("phoenix", "history_not_sent")
"""The adapter did not accept a stored message for other nodes. The other nodes find the message in the storage at their
next check. Metadata: `topic`, and `error`."""

HISTORY_GAP: Event = ("phoenix", "history_gap")
"""A channel of a durable topic noticed that messages did not arrive, and reads them from the storage. Metadata:
`topic`, `position`, `end`, and `pid`, the process of the channel."""

HISTORY_LOST: Event = ("phoenix", "history_lost")
"""A channel of a durable topic missed messages that the storage no longer has. The channel crashes with `HistoryLost`.
Then its client rejoins and gets the reason. Metadata: `topic`, `position`, `reason` and `pid`."""
