"""PubSub: send a message to a topic, and it reaches every process that has subscribed to it.

    pubsub = PubSub()
    pubsub.subscribe("news")                   # in a process: messages come to its mailbox
    pubsub.broadcast("news", {"title": "..."})

Three parts, as in Phoenix.PubSub: the table of this node's subscribers, a dispatcher that delivers to them, and an
adapter that carries messages to other nodes. Delivery is at most once; messages of one sender reach one subscriber in
the order in which they were sent; nothing is promised across senders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from actors.process import current_pid, on_exit, send
from actors.refs import Pid
from channels.pubsub.adapter import Adapter, LocalAdapter
from channels.pubsub.subscription import Subscription
from channels.pubsub.table import SubscriptionTable

__all__ = ["Dispatcher", "PubSub"]

Dispatcher: TypeAlias = Callable[[Iterable[Subscription], Pid | None, Any], None]
"""Delivers a message to subscriptions, all but those of the given sender."""


def _plain(subscriptions: Iterable[Subscription], sender: Pid | None, message: Any) -> None:
    for subscription in subscriptions:
        if subscription.pid is not sender:
            send(subscription.pid, message)


class PubSub:
    """Topics and who listens to them.

    Args:
        adapter: the way to other nodes; by default there are none.

    The table is cleaned inside the end of a process, so a process whose `Down` has been seen gets nothing more.
    Broadcasting never blocks.
    """

    __slots__ = ("_adapter", "_table")

    def __init__(self, adapter: Adapter | None = None) -> None:
        self._adapter = adapter or LocalAdapter()
        self._table = SubscriptionTable()

    @property
    def node_name(self) -> str:
        """The name of this node."""
        return self._adapter.node_name

    def subscribe(self, topic: str, *, metadata: Any = None) -> Subscription:
        """Subscribe the current process. Twice means that it gets everything twice.

        Args:
            topic: any string.
            metadata: for the dispatcher of whoever broadcasts; None to get plain messages.
        """
        pid = current_pid()
        subscription, first = self._table.add(pid, topic, metadata)
        if first:
            table = self._table
            on_exit(lambda: table.remove_process(pid))
        return subscription

    def unsubscribe(self, topic: str) -> None:
        """Drop all subscriptions of the current process to a topic; none is no error."""
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
            dispatcher: delivers on this node. What it raises is raised here.
        """
        self._adapter.broadcast(topic, message)
        self.local_broadcast(topic, message, sender=sender, dispatcher=dispatcher)

    def local_broadcast(
        self,
        topic: str,
        message: Any,
        *,
        sender: Pid | None = None,
        dispatcher: Dispatcher = _plain,
    ) -> None:
        """Send to the subscribers on this node only."""
        subscribers = self._table.subscribers(topic)
        if subscribers:
            dispatcher(subscribers, sender, message)

    def subscribers(self, topic: str) -> tuple[Pid, ...]:
        """Who would get a message now, once for each subscription."""
        return tuple(subscription.pid for subscription in self._table.subscribers(topic))

    def statistics(self) -> dict[str, int]:
        """How many topics and subscriptions there are on this node."""
        return {"topics": len(self._table.topics()), "subscriptions": len(self._table)}
