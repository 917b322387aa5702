"""The table of this node's subscribers.

*pure*. It maps topics to subscriptions, in the order of subscribing, and processes to their own subscriptions.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, final

from actors.refs import Pid

__all__ = ["Subscription", "SubscriptionTable"]


@final
class Subscription:
    """The subscription of a process to a topic. Compared by identity: subscribing twice makes two.

    Attributes:
        pid: the subscribed process.
        topic: the topic.
        metadata: data for the dispatcher; None for plain messages.
    """

    __slots__ = ("metadata", "pid", "topic")

    def __init__(self, pid: Pid, topic: str, metadata: Any) -> None:
        self.pid = pid
        self.topic = topic
        self.metadata = metadata

    def __repr__(self) -> str:
        return f"<subscription of {self.pid!r} to {self.topic!r}>"


class SubscriptionTable:
    """The table of subscriptions. The cost of a method does not depend on other topics or subscribers."""

    __slots__ = ("_by_pid", "_by_topic")

    def __init__(self) -> None:
        self._by_topic: dict[str, dict[Subscription, None]] = {}
        self._by_pid: dict[Pid, dict[Subscription, None]] = {}

    def add(self, pid: Pid, topic: str, metadata: Any) -> tuple[Subscription, bool]:
        """Subscribe a process. Return the subscription, and True if it is the process's first ever."""
        subscription = Subscription(pid, topic, metadata)
        self._by_topic.setdefault(topic, {})[subscription] = None
        own = self._by_pid.get(pid)
        if own is None:
            self._by_pid[pid] = {subscription: None}
            return subscription, True
        own[subscription] = None
        return subscription, False

    def remove(self, pid: Pid, topic: str) -> None:
        """Remove every subscription of a process to a topic."""
        own = self._by_pid.get(pid)
        if own is None:
            return
        for subscription in [each for each in own if each.topic == topic]:
            del own[subscription]
            self._drop(subscription)
        # The entry stays without subscriptions, so that only one `on_exit` watches the process.

    def remove_process(self, pid: Pid) -> None:
        """Drop every subscription of a process, and forget it."""
        for subscription in self._by_pid.pop(pid, ()):
            self._drop(subscription)

    def subscribers(self, topic: str) -> Collection[Subscription]:
        """Return the subscriptions of a topic, oldest first. A live view: do not change the table while iterating."""
        return self._by_topic.get(topic, ())

    def topics(self) -> tuple[str, ...]:
        """Return the topics that have a subscriber."""
        return tuple(self._by_topic)

    def __len__(self) -> int:
        return sum(map(len, self._by_topic.values()))

    def _drop(self, subscription: Subscription) -> None:
        subscribers = self._by_topic[subscription.topic]
        del subscribers[subscription]
        if not subscribers:
            del self._by_topic[subscription.topic]
