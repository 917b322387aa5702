"""Adapters: the transport of PubSub between nodes, and the adapter of a single node.

An adapter carries envelopes from this node to other nodes. It does not deliver on this node: PubSub does that itself.
Ashtree has three adapters: `LocalAdapter`, `WorkersAdapter` for the processes of one machine, and `RedisAdapter`. To
write your own adapter, see the how-to "Write an adapter"; the class `channels.pubsub.exchange.Exchange` does most of
the work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from actors.instrumentation.telemetry import Event
from actors.runtime import Runtime
from actors.text import brief
from channels.errors import EncodeError
from channels.messages import MAX_KEY, Binary, Broadcast
from channels.serializers.json_values import NOT_ENCODABLE, explain
from supervision.child_spec import ChildSpec

__all__ = [
    "WORKER",
    "WORKERS_COUNT",
    "WORKERS_FOLDER",
    "Adapter",
    "Encoded",
    "LocalAdapter",
    "LostEnvelopes",
    "Node",
    "Receiver",
    "encode",
    "new_incarnation",
    "worker_name",
]

_json = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Node(msgspec.Struct, frozen=True):
    """One start of a node.

    Attributes:
        name: the name, which stays the same when the node restarts. Names are unique among nodes that run at the same
            time.
        incarnation: text that identifies this start. A later start has a greater text, unless the clock of the machine
            was set back.
    """

    name: str
    incarnation: str


class LostEnvelopes(msgspec.Struct, frozen=True):
    """Envelopes from another node that did not reach this node.

    Attributes:
        lane: the lane.
        node: the name of the sender.
        incarnation: the start of the sender that sent them.
        first: the number of the first lost envelope.
        last: the number of the last lost envelope.
    """

    lane: str
    node: str
    incarnation: str
    first: int
    last: int

    @property
    def count(self) -> int:
        """The number of lost envelopes."""
        return self.last - self.first + 1


class Encoded(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A message, encoded once, in the form in which it travels between nodes.

    Attributes:
        topic: the topic.
        event: the name of the event; None for a message to processes.
        body: the payload: JSON, or raw bytes if `binary`.
        binary: True if the payload is a `Binary`.
        key: the key of a value that a newer one replaces; None for any other message.
    """

    topic: str
    event: str | None
    body: bytes
    binary: bool = False
    key: str | None = None

    def __repr__(self) -> str:
        return f"<{len(self.body)} bytes of {self.event!r} for {self.topic!r}>"

    def payload(self) -> msgspec.Raw | Binary:
        """Return the payload for an encoder of frames. The encoder copies JSON unchanged."""
        return Binary(self.body) if self.binary else msgspec.Raw(self.body)

    def message(self) -> Any:
        """Return the decoded message: a `Broadcast`, or a JSON value if the message is for processes.

        Raises:
            EncodeError: the JSON contains a value that Python cannot represent, such as the number `1e999`.
        """
        if self.event is not None and self.binary:
            return Broadcast(self.topic, self.event, Binary(self.body), self.key)
        try:
            value = _decode(self.body)
        except NOT_ENCODABLE as fault:
            # Valid JSON: `unpack` has checked it. But its numbers may be larger, or its nesting deeper, than Python
            # allows.
            problem = f"its JSON contains a value that Python cannot represent: {fault}"
            raise EncodeError(
                problem, kind="broadcast", topic=self.topic, event=self.event
            ) from fault
        return value if self.event is None else Broadcast(self.topic, self.event, value, self.key)


def encode(topic: str, message: Any) -> Encoded:
    """Encode a message for other nodes.

        >>> encode("room:lobby", Broadcast("room:lobby", "new_msg", {"body": "hello"})).body
        b'{"body":"hello"}'

    Args:
        topic: the topic.
        message: a `Broadcast` of a JSON object or a `Binary`, or any JSON value for processes.

    Raises:
        EncodeError: JSON cannot express the message, the topic or the event.
    """
    if type(message) is not Broadcast:
        _check_names(topic, "")
        try:
            return Encoded(topic, None, _json(message))
        except NOT_ENCODABLE as fault:
            problem = f"nodes exchange JSON values and Broadcasts, and {explain(message, fault)}"
            raise EncodeError(problem, kind="broadcast", topic=topic, event=None) from fault
    payload = message.payload
    event, key = message.event, message.key
    # This runs for every broadcast, so text of ASCII characters needs no call.
    if not (type(topic) is type(event) is str and topic.isascii() and event.isascii()):
        _check_names(topic, event)
    if key is not None:
        _check_names(topic, event, key)
        if len(key) > MAX_KEY:
            problem = (
                f"its key has {len(key)} characters, and the limit is {MAX_KEY}; send a short id"
            )
            raise EncodeError(problem, kind="broadcast", topic=topic, event=event)
    if type(payload) is Binary:
        return Encoded(topic, event, payload.data, binary=True, key=key)
    try:
        body = _json(payload)
    except NOT_ENCODABLE as fault:
        problem = explain(payload, fault)
        raise EncodeError(problem, kind="broadcast", topic=topic, event=message.event) from fault
    if type(payload) is not dict and not body.startswith(b"{"):
        raise EncodeError(
            f"the payload is of type {type(payload).__name__}, not a JSON object; "
            "put it into a dict under a name, or into Binary if it is raw bytes",
            kind="broadcast",
            topic=topic,
            event=message.event,
        )
    return Encoded(topic, event, body, key=key)


def _check_names(topic: Any, event: Any, key: Any = "") -> None:
    for kind, name in (("topic", topic), ("event", event), ("key", key)):
        try:
            str.isascii(name) or name.encode()
        except (TypeError, UnicodeEncodeError) as fault:
            raise EncodeError(
                f"its {kind} is {brief(name)}, which cannot travel to other nodes; write text",
                kind="broadcast",
                topic=topic,
                event=event,
            ) from fault


class Receiver(Protocol):
    """The methods of PubSub that an adapter calls."""

    def deliver(self, encoded: Encoded) -> None:
        """Deliver a message from another node to the subscribers on this node. Never blocks, never raises.

        Args:
            encoded: the message.
        """
        ...

    def lost(self, lost: LostEnvelopes) -> None:
        """Report that messages from another node did not arrive.

        Args:
            lost: the node, and the range of its lost envelopes.
        """
        ...

    def execute(
        self, event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        """Execute a telemetry event of `channels.telemetry`. Adds `pubsub` and `adapter` to its metadata.

        Args:
            event: the name of the event, such as `PUBSUB_DROPPED`.
            measurements: the numbers of the event, by name.
            metadata: the circumstances of the event, by name.
        """
        ...


class Adapter(Protocol):
    """The transport to the *other* nodes.

    PubSub calls `start`, `stop`, `broadcast` and `direct_broadcast` in the thread of the runtime, and broadcasts only
    between `start` and `stop`. The other methods and properties must work in any thread.
    """

    @property
    def name(self) -> str:
        """The kind of adapter, for logs and statistics: `"redis"`."""
        ...

    @property
    def node(self) -> Node:
        """This node. Each `start` makes a new incarnation."""
        ...

    def start(self, receiver: Receiver) -> Sequence[ChildSpec]:
        """Begin a new incarnation, and return the child specs of the processes that carry its messages.

        PubSub supervises the processes. The supervisor starts them in this order and stops them in reverse. If they
        restart, the incarnation stays the same. Without processes, PubSub starts no supervisor.

        Args:
            receiver: gets the messages of other nodes.
        """
        ...

    def stop(self) -> None:
        """Take note that the processes have ended."""
        ...

    def broadcast(self, encoded: Encoded) -> None:
        """Send a message to every other node, at most once, without blocking.

        If the adapter cannot send the message now, it drops, counts and reports it.

        Args:
            encoded: the message.

        Raises:
            MessageTooLarge: the message exceeds the limit of the adapter. No node gets it.
        """
        ...

    def direct_broadcast(self, node: str, encoded: Encoded) -> None:
        """Send a message to one other node, as `broadcast` does. If no node has that name, no node gets the message."""
        ...

    def nodes(self) -> tuple[Node, ...]:
        """Return the other nodes that sent a heartbeat recently."""
        ...

    def statistics(self) -> dict[str, int]:
        """Return counters, such as the numbers of sent, received and lost messages."""
        ...


class LocalAdapter:
    """The adapter of a single node without other nodes."""

    name = "local"
    node = Node("local", "")

    def start(self, receiver: Receiver) -> Sequence[ChildSpec]:
        """Return no child specs, because this adapter has no process."""
        return ()

    def stop(self) -> None:
        """Do nothing."""

    def broadcast(self, encoded: Encoded) -> None:
        """Do nothing."""

    def direct_broadcast(self, node: str, encoded: Encoded) -> None:
        """Do nothing."""

    def nodes(self) -> tuple[Node, ...]:
        """Return no nodes."""
        return ()

    def statistics(self) -> dict[str, int]:
        """Return no counters."""
        return {}


def new_incarnation(runtime: Runtime) -> str:
    """Return the incarnation of a node that starts now: the time of day and 32 random bits, in hexadecimal digits."""
    milliseconds = int(runtime.now() * 1000)
    return f"{milliseconds:012x}{runtime.random.getrandbits(32):08x}"


WORKER = "ASHTREE_WORKER"
"""The environment variable with the id of a worker."""

WORKERS_FOLDER = "ASHTREE_WORKERS_FOLDER"
"""The environment variable with a folder for the sockets between the workers of one server."""


WORKERS_COUNT = "ASHTREE_WORKERS_COUNT"
"""The environment variable with the number of workers of the server."""


def worker_name(node: str, *, environment: Callable[[str], str | None] = os.environ.get) -> str:
    """Return the name of a node. In a worker of `ashtree serve --workers`, the name ends with the id of the worker.

    All workers of a machine load the same application, and get the same name from it. But each worker is its own node:
    `worker_name("web-1")` is `"web-1.3"` in worker 3.
    """
    worker = environment(WORKER)
    return f"{node}.{worker}" if worker else node
