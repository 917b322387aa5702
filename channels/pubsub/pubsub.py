"""PubSub: messages to a topic, for every process that has subscribed to it.

    pubsub = PubSub()
    pubsub.subscribe("news")                   # in a process: messages come to its mailbox
    pubsub.broadcast("news", {"title": "..."})

Any thread can broadcast. Only processes can subscribe.

It has three parts, as in Phoenix.PubSub: the table of this node's subscribers, a dispatcher that delivers to them, and
an adapter for other nodes. Delivery is at most once. Messages of one sender reach one subscriber in order. Messages of
different senders have no order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from threading import get_ident
from typing import Any, Protocol, TypeAlias

from actors.process import current_pid, on_exit, send
from actors.refs import Pid
from actors.runtime import Runtime, current_runtime
from actors.threads import run_threadsafe
from channels.pubsub.table import Subscription, SubscriptionTable

__all__ = ["Adapter", "Dispatcher", "LocalAdapter", "PubSub"]

Dispatcher: TypeAlias = Callable[[Iterable[Subscription], Pid | None, Any], None]
"""A function that delivers a message to all subscriptions except those of the given sender."""


def _plain(subscriptions: Iterable[Subscription], sender: Pid | None, message: Any) -> None:
    for subscription in subscriptions:
        if subscription.pid is not sender:
            send(subscription.pid, message)


class Adapter(Protocol):
    """The transport to the *other* nodes. It does not deliver on this node."""

    @property
    def node_name(self) -> str:
        """The name of this node among the others."""
        ...

    def broadcast(self, topic: str, message: Any) -> None:
        """Send to every other node, without blocking. Raise if that fails.

        PubSub calls this in the runtime's thread, once an endpoint has started or a process has subscribed.
        """
        ...


class LocalAdapter:
    """The adapter of a single node."""

    node_name = "local"

    def broadcast(self, topic: str, message: Any) -> None:
        """Do nothing."""


class PubSub:
    """Topics and their subscribers.

    Args:
        adapter: the transport to other nodes; by default there are none.

    The end of a process removes its subscriptions: after its `Down` it gets nothing more.

    Broadcasts work in every thread. In the runtime's own thread they never block, and deliver before they return.
    Another thread hands the message to the runtime's thread, in order. If too many such messages wait, the thread
    waits: see `open_runtime(max_thread_calls=)`.
    """

    __slots__ = ("_adapter", "_runtime", "_table")

    def __init__(self, adapter: Adapter | None = None) -> None:
        self._adapter = adapter or LocalAdapter()
        self._table = SubscriptionTable()
        # The runtime whose thread delivers messages. None before the first subscription or endpoint.
        self._runtime: Runtime | None = None

    @property
    def node_name(self) -> str:
        """The name of this node."""
        return self._adapter.node_name

    def attach(self, runtime: Runtime) -> None:
        """Deliver messages of other threads in this runtime's thread from now on. An endpoint calls this at its start.

        Before that, and before the first subscription, a broadcast reaches no one on this node.

        Raises:
            WrongThread: this is not the runtime's thread, or another running runtime delivers the messages.
        """
        runtime.require_thread("PubSub.attach")
        before = self._runtime
        if before is None or before.closed:
            self._runtime = runtime
        else:
            before.require_thread("PubSub.attach")

    @property
    def is_here(self) -> bool:
        """True in the thread that delivers messages."""
        runtime = self._runtime
        return runtime is None or get_ident() == runtime.thread

    def subscribe(self, topic: str, *, metadata: Any = None) -> Subscription:
        """Subscribe the current process. A process that subscribes twice gets everything twice.

        Args:
            topic: any string.
            metadata: data for the dispatcher of a broadcast; None for plain messages.

        Raises:
            NotAProcess: the caller is not a process.
            WrongThread: the caller or the present subscribers run in another thread than this runtime.
        """
        pid = current_pid()
        self.attach(current_runtime())
        subscription, first = self._table.add(pid, topic, metadata)
        if first:
            table = self._table
            on_exit(lambda: table.remove_process(pid))
        return subscription

    def unsubscribe(self, topic: str) -> None:
        """Remove all subscriptions of the current process to a topic, if there are any."""
        current_runtime().require_thread("PubSub.unsubscribe")
        self._table.remove(current_pid(), topic)

    def broadcast(
        self,
        topic: str,
        message: Any,
        *,
        sender: Pid | None = None,
        dispatcher: Dispatcher = _plain,
    ) -> None:
        """Send a message to the subscribers of a topic, on all nodes of the adapter.

        Args:
            topic: the topic.
            message: the message. Do not change it afterwards.
            sender: a process of this node to leave out, or None.
            dispatcher: delivers on this node, in the thread of the runtime. This call raises its errors in that
                thread. In another thread, the runtime logs them.

        Raises:
            RuntimeClosed: in another thread: the runtime of the subscribers has ended.
            ThreadQueueFull: in another thread: the queue of the runtime was full for 30 seconds.
        """
        runtime = self._runtime
        if runtime is not None and get_ident() != runtime.thread:
            _later(runtime, self.broadcast, topic, message, sender, dispatcher)
            return
        self._adapter.broadcast(topic, message)
        subscribers = self._table.subscribers(topic)
        if subscribers:
            dispatcher(subscribers, sender, message)

    def local_broadcast(
        self,
        topic: str,
        message: Any,
        *,
        sender: Pid | None = None,
        dispatcher: Dispatcher = _plain,
    ) -> None:
        """Send to the subscribers on this node only. See `broadcast`."""
        runtime = self._runtime
        if runtime is not None and get_ident() != runtime.thread:
            _later(runtime, self.local_broadcast, topic, message, sender, dispatcher)
            return
        subscribers = self._table.subscribers(topic)
        if subscribers:
            dispatcher(subscribers, sender, message)

    def subscriptions(self, topic: str) -> tuple[Subscription, ...]:
        """Return the present subscriptions of a topic, oldest first. Works in any thread."""
        return tuple(self._table.subscribers(topic))

    def subscribers(self, topic: str) -> tuple[Pid, ...]:
        """Return the processes that would get a message now, one entry for each subscription."""
        return tuple(subscription.pid for subscription in self.subscriptions(topic))

    def statistics(self) -> dict[str, int]:
        """Return the numbers of topics and subscriptions on this node."""
        return {"topics": len(self._table.topics()), "subscriptions": len(self._table)}


def _later(  # noqa: PLR0917 - the arguments of `broadcast`
    runtime: Runtime,
    broadcast: Callable[..., None],
    topic: str,
    message: Any,
    sender: Pid | None,
    dispatcher: Dispatcher,
) -> None:
    """Broadcast in the runtime's thread."""
    run_threadsafe(
        runtime, partial(broadcast, topic, message, sender=sender, dispatcher=dispatcher)
    )
