"""PubSub: send a message to a topic, and it reaches every process that has subscribed to it.

    pubsub = PubSub()
    pubsub.subscribe("news")                   # in a process: messages come to its mailbox
    pubsub.broadcast("news", {"title": "..."})

Messages are sent from any thread; subscribing belongs to processes.

Three parts, as in Phoenix.PubSub: the table of this node's subscribers, a dispatcher that delivers to them, and an
adapter that carries messages to other nodes. Delivery is at most once; messages of one sender reach one subscriber in
the order in which they were sent; nothing is promised across senders.
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
"""Delivers a message to subscriptions, all but those of the given sender."""


def _plain(subscriptions: Iterable[Subscription], sender: Pid | None, message: Any) -> None:
    for subscription in subscriptions:
        if subscription.pid is not sender:
            send(subscription.pid, message)


class Adapter(Protocol):
    """Carries messages to the *other* nodes. Delivery on this node is not its business."""

    @property
    def node_name(self) -> str:
        """The name of this node among the others."""
        ...

    def broadcast(self, topic: str, message: Any) -> None:
        """Send to every other node. Never blocks; raises if the message cannot be sent at all.

        Called in the runtime's thread, once an endpoint has started or a process has subscribed.
        """
        ...


class LocalAdapter:
    """There are no other nodes."""

    node_name = "local"

    def broadcast(self, topic: str, message: Any) -> None:
        """Nobody else to tell."""


class PubSub:
    """Topics and who listens to them.

    Args:
        adapter: the way to other nodes; by default there are none.

    The table is cleaned inside the end of a process, so a process whose `Down` has been seen gets nothing more.

    Broadcasting works in every thread. In the runtime's own thread it never blocks, and has been done when it returns.
    Another thread hands the message to the runtime's thread: it is on its way when the broadcast returns, behind
    what that thread has sent before. If too many such messages wait, the thread waits: see
    `open_runtime(max_thread_calls=)`.
    """

    __slots__ = ("_adapter", "_runtime", "_table")

    def __init__(self, adapter: Adapter | None = None) -> None:
        self._adapter = adapter or LocalAdapter()
        self._table = SubscriptionTable()
        # In whose thread messages are delivered. None as long as nobody can have subscribed.
        self._runtime: Runtime | None = None

    @property
    def node_name(self) -> str:
        """The name of this node."""
        return self._adapter.node_name

    def attach(self, runtime: Runtime) -> None:
        """Have messages of other threads delivered in this runtime's thread. An endpoint does this when it starts.

        Before that, and before the first subscription, a broadcast from any thread reaches nobody here.

        Raises:
            WrongThread: this is not the runtime's thread, or another one that still runs delivers them.
        """
        runtime.require_thread("PubSub.attach")
        before = self._runtime
        if before is None or before.closed:
            self._runtime = runtime
        else:
            before.require_thread("PubSub.attach")

    @property
    def is_here(self) -> bool:
        """Whether messages are delivered in the calling thread."""
        runtime = self._runtime
        return runtime is None or get_ident() == runtime.thread

    def subscribe(self, topic: str, *, metadata: Any = None) -> Subscription:
        """Subscribe the current process. Twice means that it gets everything twice.

        Args:
            topic: any string.
            metadata: for the dispatcher of whoever broadcasts; None to get plain messages.

        Raises:
            NotAProcess: the caller is no process.
            WrongThread: the caller runs in another thread than its runtime, or the subscribers that there are do.
        """
        pid = current_pid()
        self.attach(current_runtime())
        subscription, first = self._table.add(pid, topic, metadata)
        if first:
            table = self._table
            on_exit(lambda: table.remove_process(pid))
        return subscription

    def unsubscribe(self, topic: str) -> None:
        """Drop all subscriptions of the current process to a topic; none is no error."""
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
        """Send to the subscribers on every node.

        Args:
            topic: to whose subscribers.
            message: what they get. It must not be changed any more.
            sender: a process to leave out, on this node; None leaves nobody out.
            dispatcher: delivers on this node, in the thread of the runtime. What it raises is raised here, or in
                another thread logged.

        Raises:
            RuntimeClosed: this is another thread, and the runtime of the subscribers has ended.
            ThreadQueueFull: this is another thread; too many messages wait, and have waited for 30 seconds.
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
        """Send to the subscribers on this node only. The rest is as for `broadcast`."""
        runtime = self._runtime
        if runtime is not None and get_ident() != runtime.thread:
            _later(runtime, self.local_broadcast, topic, message, sender, dispatcher)
            return
        subscribers = self._table.subscribers(topic)
        if subscribers:
            dispatcher(subscribers, sender, message)

    def subscriptions(self, topic: str) -> tuple[Subscription, ...]:
        """The subscriptions of a topic at this moment, oldest first. For any thread."""
        return tuple(self._table.subscribers(topic))

    def subscribers(self, topic: str) -> tuple[Pid, ...]:
        """Who would get a message now, once for each subscription."""
        return tuple(subscription.pid for subscription in self.subscriptions(topic))

    def statistics(self) -> dict[str, int]:
        """How many topics and subscriptions there are on this node."""
        return {"topics": len(self._table.topics()), "subscriptions": len(self._table)}


def _later(  # noqa: PLR0917 - the arguments of `broadcast`
    runtime: Runtime,
    broadcast: Callable[..., None],
    topic: str,
    message: Any,
    sender: Pid | None,
    dispatcher: Dispatcher,
) -> None:
    """Have the runtime's thread do what was asked of another one."""
    run_threadsafe(
        runtime, partial(broadcast, topic, message, sender=sender, dispatcher=dispatcher)
    )
