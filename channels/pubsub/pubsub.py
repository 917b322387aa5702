"""PubSub: messages to a topic, for every process that has subscribed to it.

    pubsub = PubSub()
    pubsub.subscribe("news")                   # in a process: messages come to its mailbox
    pubsub.broadcast("news", {"title": "..."})

Any thread can broadcast. Only processes can subscribe.

A PubSub has three parts, as in Phoenix.PubSub: the table of this node's subscribers, a dispatcher that delivers to
them, and an adapter for other nodes. Delivery is at most once. Messages of one sender reach one subscriber in order.
Messages of different senders have no order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from threading import get_ident
from typing import Any, TypeAlias

import trio

from actors.errors import InvalidArgument, InvalidOperation, StartIgnored
from actors.instrumentation.telemetry import Event
from actors.process import current_pid, on_exit
from actors.refs import Pid
from actors.runtime import Runtime, current_runtime
from actors.threads import run_threadsafe
from channels.messages import Broadcast
from channels.pubsub.adapter import Adapter, Encoded, LocalAdapter, LostEnvelopes, Node, encode
from channels.pubsub.local import (
    Leaving,
    Subscription,
    SubscriptionTable,
    dispatch,
    dispatch_encoded,
    frames_of,
)
from channels.telemetry import (
    PUBSUB_LOST,
    PUBSUB_SUBSCRIBED,
    PUBSUB_UNDELIVERABLE,
    PUBSUB_UNSUBSCRIBED,
)
from supervision.child_spec import ChildSpec
from supervision.supervisor import Supervisor

__all__ = ["Dispatcher", "PubSub"]

Dispatcher: TypeAlias = Callable[[Iterable[Subscription], Pid | None, Any], None]
"""A function that delivers a message to all subscriptions except those of the given sender."""


class PubSub:
    """Topics and their subscribers.

        PubSub()                                        # this process alone
        PubSub(RedisAdapter("redis://127.0.0.1"))       # every node that uses the same server

    Args:
        adapter: the adapter that connects this node to others. Without one, messages stay on this node.

    Raises:
        InvalidArgument: `adapter` is not an adapter.

    An endpoint starts the processes of the adapter, unless they run already. Without an endpoint, start them yourself:
    put `pubsub.child_spec()` under your supervisor, before all children that use the PubSub.

    When a process ends, PubSub removes its subscriptions. After its `Down`, the process gets nothing more.

    Broadcasts work in every thread. In the runtime's own thread they never block, and deliver before they return.
    Another thread hands the message to the runtime's thread, in order. If too many of these messages wait, the
    other thread waits: see `open_runtime(max_thread_calls=)`.
    """

    __slots__ = (
        "_adapter",
        "_is_local",
        "_lost",
        "_running",
        "_runtime",
        "_table",
        "_undeliverable",
    )

    def __init__(self, adapter: Adapter | None = None) -> None:
        self._table = SubscriptionTable()
        # The runtime whose thread delivers messages. None before the first subscription or endpoint.
        self._runtime: Runtime | None = None
        self._running = False
        self._lost = self._undeliverable = 0
        self._set_adapter(_checked(LocalAdapter() if adapter is None else adapter))

    def __repr__(self) -> str:
        return f"<PubSub {self._adapter.name} on node {self.node_name!r}>"

    def _set_adapter(self, adapter: Adapter) -> None:
        self._adapter = adapter
        # With other nodes, a broadcast is encoded even if nobody on this node hears it.
        self._is_local = type(adapter) is LocalAdapter

    # Starting

    @property
    def adapter(self) -> Adapter:
        """The transport to other nodes."""
        return self._adapter

    @property
    def is_local(self) -> bool:
        """True if there are no other nodes."""
        return self._is_local

    @property
    def has_begun(self) -> bool:
        """True if an endpoint that uses this PubSub has started, or a process has subscribed. It stays True."""
        return self._runtime is not None

    @property
    def is_running(self) -> bool:
        """True while the processes of the adapter run."""
        return self._running

    def use(self, adapter: Adapter) -> None:
        """Replace the adapter before the start.

        Args:
            adapter: the new adapter.

        Raises:
            InvalidOperation: the present adapter is running.
            InvalidArgument: `adapter` is not an adapter.
        """
        if self._running:
            raise InvalidOperation(
                "PubSub.use",
                f"the {self._adapter.name} adapter is running already; call use() before the endpoint starts",
            )
        self._set_adapter(_checked(adapter))

    async def start_link(self) -> Pid:
        """Start the processes of the adapter under a supervisor.

        Returns:
            The pid of the supervisor.

        Raises:
            InvalidOperation: the processes run already.
            StartError: a process did not start.
        """
        if self._running:
            problem = "this PubSub is running already; make another PubSub"
            raise InvalidOperation("PubSub.start_link", problem)
        runtime = current_runtime()
        self.attach(runtime)
        begun = trio.Event()
        hold = ChildSpec("pubsub", self._hold, (begun,), restart="temporary")
        children = self._adapter.start(self)
        try:
            return await Supervisor.start_link([hold, *children], label="pubsub")
        except BaseException:
            if not begun.is_set():
                # No process ran that would call this at its end.
                self._adapter.stop()
            raise

    def child_spec(self) -> ChildSpec:
        """Return a child spec for a supervisor: the adapter's processes and their supervisor."""
        return ChildSpec("pubsub", self.start_link, type="supervisor")

    async def _hold(self, begun: trio.Event) -> Pid:
        """Mark the adapter as running until the supervisor ends.

        This runs in the supervisor's process, and starts none.
        """
        begun.set()
        self._running = True

        def stopped() -> None:
            self._running = False
            self._adapter.stop()

        on_exit(stopped)
        raise StartIgnored

    def attach(self, runtime: Runtime) -> None:
        """Deliver messages from other threads in this runtime's thread from now on.

        An endpoint calls this when it starts.

        Before this call and before the first subscription, a broadcast reaches no one on this node.

        Args:
            runtime: the runtime of the subscribers.

        Raises:
            WrongThread: this is not the runtime's thread, or another running runtime delivers the messages.
        """
        runtime.require_thread("PubSub.attach")
        before = self._runtime
        if before is None or before.closed:
            self._runtime = runtime
        else:
            before.require_thread("PubSub.attach")

    # Nodes

    @property
    def node(self) -> Node:
        """This node."""
        return self._adapter.node

    @property
    def node_name(self) -> str:
        """The name of this node."""
        return self._adapter.node.name

    def nodes(self) -> tuple[Node, ...]:
        """Return the other nodes that sent a heartbeat recently."""
        return self._adapter.nodes()

    # Subscribing

    def subscribe(self, topic: str, *, metadata: Any = None) -> Subscription:
        """Subscribe the current process. A process that subscribes twice gets everything twice.

        Args:
            topic: any string.
            metadata: data for the dispatcher of a broadcast; None for plain messages.

        Returns:
            The subscription.

        Raises:
            NotAProcess: the caller is not a process.
            WrongThread: the caller or the present subscribers run in another thread than this runtime.
        """
        pid = current_pid()
        runtime = pid.runtime
        if runtime is not self._runtime or get_ident() != runtime.thread:
            self.attach(current_runtime())
        subscription, first = self._table.add(pid, topic, metadata)
        if first:
            on_exit(Leaving(self._table, pid))
        if metadata is None and runtime.telemetry.handlers(PUBSUB_SUBSCRIBED):
            count = self.subscribers(topic).count(pid)
            about = {"pid": pid, "topic": topic}
            runtime.telemetry.execute(PUBSUB_SUBSCRIBED, {"count": count}, about)
        return subscription

    def unsubscribe(self, topic: str) -> None:
        """Remove all subscriptions of the current process to a topic, if there are any.

        Args:
            topic: any string.
        """
        runtime, pid = current_runtime(), current_pid()
        runtime.require_thread("PubSub.unsubscribe")
        self._table.remove(pid, topic)
        if runtime.telemetry.handlers(PUBSUB_UNSUBSCRIBED):
            runtime.telemetry.execute(PUBSUB_UNSUBSCRIBED, {}, {"pid": pid, "topic": topic})

    def subscriptions(self, topic: str) -> tuple[Subscription, ...]:
        """Return the present subscriptions of a topic, oldest first. Works in any thread.

        Args:
            topic: any string.
        """
        return tuple(self._table.subscribers(topic))

    def subscribers(self, topic: str) -> tuple[Pid, ...]:
        """Return the processes that would get a message now, one entry for each subscription.

        Args:
            topic: any string.
        """
        return tuple(subscription.pid for subscription in self.subscriptions(topic))

    def topics(self) -> tuple[str, ...]:
        """Return the topics that have a subscriber on this node. Works in any thread."""
        return self._table.topics()

    # Broadcasting

    def broadcast(
        self,
        topic: str,
        message: Any,
        *,
        sender: Pid | None = None,
        dispatcher: Dispatcher = dispatch,
    ) -> None:
        """Send a message to the subscribers of a topic, on all nodes of the adapter.

        Args:
            topic: the topic.
            message: a `Broadcast` of a JSON object or a `Binary`, or any value for processes. Do not change it
                afterwards. A `Broadcast` with a `key` is a value that may be dropped: see `Channel.broadcast_latest`.
                If there are other nodes, a value for processes must be a JSON value. Other nodes get a tuple as a list.
            sender: a process of this node to leave out, or None.
            dispatcher: a function that delivers the message on this node, in the thread of the runtime. In that thread,
                this call raises the errors of the function. In another thread, the runtime logs the errors. Other nodes
                use the default dispatcher. The default dispatcher sends a `Broadcast` through the fastlane if the
                subscriber has one, and any other message to the subscriber's process.

        Raises:
            EncodeError: the payload of a `Broadcast` is not a JSON object or a `Binary`; or there are other nodes, and
                JSON cannot express the message. Nobody gets the message. Or the wire format of some clients on this
                node cannot express it. All other subscribers get the message.
            MessageTooLarge: the message exceeds the limit of the adapter. Nobody gets it.
            RuntimeClosed: the caller is in another thread, and the runtime of the subscribers has ended.
            ThreadQueueFull: the caller is in another thread, and the queue of the runtime was full for 30 seconds.

        Other nodes get the message at most once. If it is lost on the way, this call raises no error. See
        `PUBSUB_LOST`.
        """
        # A node without others need not encode a value for processes, which may be any value.
        encoded = None
        if not self._is_local or _is_unchecked(message, dispatcher):
            encoded = encode(topic, message)
        self._in_thread(topic, message, sender, dispatcher, encoded, not self._is_local)

    def local_broadcast(
        self,
        topic: str,
        message: Any,
        *,
        sender: Pid | None = None,
        dispatcher: Dispatcher = dispatch,
    ) -> None:
        """Send to the subscribers on this node only. See `broadcast`."""
        encoded = encode(topic, message) if _is_unchecked(message, dispatcher) else None
        self._in_thread(topic, message, sender, dispatcher, encoded, False)

    def direct_broadcast(self, node: str, topic: str, message: Any) -> None:
        """Send to the subscribers of a topic on one node only.

        Args:
            node: the name of the node, which may be this one. If no node has that name, nobody gets the message.
            topic: the topic.
            message: as for `broadcast`.

        Raises:
            EncodeError, MessageTooLarge, RuntimeClosed, ThreadQueueFull: as `broadcast` does.
        """
        if node == self.node_name:
            self.local_broadcast(topic, message)
            return
        encoded = encode(topic, message)
        runtime = self._runtime
        if runtime is not None and get_ident() != runtime.thread:
            run_threadsafe(runtime, self._send_to, node, encoded)
        else:
            self._send_to(node, encoded)

    def _send_to(self, node: str, encoded: Encoded) -> None:
        if self._running:
            self._adapter.direct_broadcast(node, encoded)

    def _in_thread(  # noqa: PLR0917 - by position, for speed
        self,
        topic: str,
        message: Any,
        sender: Pid | None,
        dispatcher: Dispatcher,
        encoded: Encoded | None,
        travels: bool,
    ) -> None:
        runtime = self._runtime
        if runtime is None or get_ident() == runtime.thread:
            self._carry_out(topic, message, sender, dispatcher, encoded, travels)
            return
        if type(message) is Broadcast and dispatcher is dispatch:
            # Encode here, so that this thread gets an error in the payload. The runtime's thread then only appends.
            encoded = encoded or encode(topic, message)
            frames = frames_of(self.subscriptions(topic), sender, message, encoded)
            dispatcher = partial(dispatch, frames=frames, encoded=encoded)
        run_threadsafe(
            runtime, self._carry_out, topic, message, sender, dispatcher, encoded, travels
        )

    def _carry_out(  # noqa: PLR0917 - by position, for speed
        self,
        topic: str,
        message: Any,
        sender: Pid | None,
        dispatcher: Dispatcher,
        encoded: Encoded | None,
        travels: bool,
    ) -> None:
        if travels and encoded is not None and self._running:
            self._adapter.broadcast(encoded)
        subscribers = self._table.subscribers(topic)
        if not subscribers:
            if encoded is None and type(message) is Broadcast:
                # The mistake must not depend on the subscribers.
                encode(topic, message)
            return
        if encoded is not None and dispatcher is dispatch:
            dispatch(subscribers, sender, message, encoded=encoded)
        else:
            dispatcher(subscribers, sender, message)

    def deliver(self, encoded: Encoded) -> None:
        """Deliver a message from another node.

        Args:
            encoded: the message, as the adapter received it.
        """
        subscribers = self._table.subscribers(encoded.topic)
        if not subscribers:
            return
        try:
            dispatch_encoded(subscribers, encoded)
        except Exception as error:
            # The sender is on another node, and cannot get the error. The error is an EncodeError, or any error that a
            # serializer of the application raised. It must not end the process of the adapter, and after some restarts
            # this node.
            self._undeliverable += 1
            about = {"topic": encoded.topic, "event": encoded.event, "error": error}
            self.execute(PUBSUB_UNDELIVERABLE, {}, about)

    def lost(self, lost: LostEnvelopes) -> None:
        self._lost += lost.count
        self.execute(PUBSUB_LOST, {"count": lost.count}, {"lost": lost})

    def execute(
        self, event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        if self._runtime is not None:
            about = {"pubsub": self, "adapter": self._adapter.name, **metadata}
            self._runtime.telemetry.execute(event, measurements, about)

    def statistics(self) -> dict[str, Any]:
        """Return the numbers of topics and subscriptions on this node.

        With other nodes, the result also has the counters of the adapter, and two numbers over all starts of the
        adapter: messages from other nodes that were lost, and messages that the wire format of some clients could not
        express.
        """
        here = {"topics": len(self._table.topics()), "subscriptions": len(self._table)}
        if self._is_local:
            return here
        return {
            **here,
            "lost": self._lost,
            "undeliverable": self._undeliverable,
            "adapter": {"name": self._adapter.name, **self._adapter.statistics()},
        }


def _is_unchecked(message: Any, dispatcher: Dispatcher) -> bool:
    """Return True for a `Broadcast` that nobody checks later. `dispatch` checks a dict when it encodes it."""
    return type(message) is Broadcast and (
        dispatcher is not dispatch or type(message.payload) is not dict or message.key is not None
    )


_METHODS = ("start", "stop", "broadcast", "direct_broadcast", "nodes", "statistics")


def _checked(adapter: Adapter) -> Adapter:
    """Return the argument. Raises InvalidArgument if it is not an adapter."""
    if isinstance(adapter, type):
        raise InvalidArgument(
            None,
            adapter,
            f"a PubSub got the class {adapter.__name__} as its adapter; write {adapter.__name__}(...)",
        )
    missing = [each for each in _METHODS if not callable(getattr(adapter, each, None))]
    if missing:
        # Do not show the value: it may be a URL with a password.
        raise InvalidArgument(
            None,
            type(adapter),
            f"a PubSub got a value of type {type(adapter).__name__} as its adapter, which has no {missing[0]}(); "
            'write an adapter such as RedisAdapter("redis://127.0.0.1:6379"), or None',
        )
    return adapter
