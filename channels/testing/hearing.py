"""The subscriptions of a test to broadcasts."""

from __future__ import annotations

from typing import Any

import trio

from actors.links import wait_exit
from actors.refs import Pid
from actors.servers.gen_server import GenServer, call
from actors.servers.results import Reply
from channels.endpoint.endpoint import Endpoint
from channels.messages import Broadcast
from channels.testing.inbox import ANYTHING, Inbox, Wanted, fits

__all__ = ["Hearing", "Subscriber"]


class Hearing:
    """The subscriptions of a test, which its clients share.

    Attributes:
        endpoint: the endpoint.
        timeout: seconds that assertions wait.
    """

    def __init__(self, endpoint: Endpoint, subscriber: Pid, timeout: float) -> None:
        self.endpoint = endpoint
        self.timeout = timeout
        self._subscriber = subscriber
        self._broadcasts: Inbox[Broadcast] = Inbox()
        self._subscribed: set[str] = set()

    async def subscribe(self, topic: str) -> None:
        """Subscribe the test to a topic. A second call has no effect."""
        if topic not in self._subscribed:
            self._subscribed.add(topic)
            await call(self._subscriber, (self.endpoint.pubsub, topic, self._broadcasts))

    def broadcast_from(self, topic: str, event: str, payload: Any) -> None:
        """Broadcast an event to all clients of a topic, but not to the test itself."""
        self.endpoint.broadcast_from(self._subscriber, topic, event, payload)

    async def assert_broadcast(
        self, topic: str, event: str, payload: Wanted = ANYTHING, *, timeout: float | None = None
    ) -> Any:
        """Assert that someone broadcasts an event to a subscribed topic. Return its payload.

            await case.subscribe("user:7")
            await case.assert_broadcast("user:7", "disconnect")

        Raises:
            Expected: no such broadcast came in time.
            LookupError: the test has not subscribed to the topic.
        """
        self._require(topic)
        found = await self._broadcasts.take(
            f"the broadcast {event!r} with {payload!r} to {topic!r}",
            lambda each: _is_broadcast(each, topic, event, payload),
            timeout=self.seconds(timeout),
        )
        return found.payload

    async def refute_broadcast(
        self, topic: str, event: str, payload: Wanted = ANYTHING, *, timeout: float | None = None
    ) -> None:
        """Assert that nobody broadcasts such an event to a topic within `timeout` seconds."""
        self._require(topic)
        await self._broadcasts.refuse(
            f"broadcast {event!r} with {payload!r} to {topic!r}",
            lambda each: _is_broadcast(each, topic, event, payload),
            timeout=self.seconds(timeout),
        )

    def _require(self, topic: str) -> None:
        if topic not in self._subscribed:
            raise LookupError(
                f"the test has not subscribed to {topic!r}, so it receives no broadcasts; "
                f"first call subscribe_and_join, or `await case.subscribe({topic!r})`"
            )

    def seconds(self, timeout: float | None) -> float:
        """Return `timeout`, or the `timeout` of the test if it is None."""
        return self.timeout if timeout is None else timeout

    async def ended(self, pid: Pid, *, timeout: float) -> None:
        """Wait until a process has ended, at most `timeout` seconds."""
        with trio.move_on_after(timeout):
            await wait_exit(pid)


class Subscriber(GenServer[None]):
    """The process that subscribes for the test, because only processes can subscribe."""

    async def init(self) -> None:
        self.inboxes: dict[str, Inbox[Broadcast]] = {}

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        pubsub, topic, inbox = request
        self.inboxes[topic] = inbox
        pubsub.subscribe(topic)
        return Reply(None)

    async def handle_info(self, message: Any) -> None:
        if isinstance(message, Broadcast):
            self.inboxes[message.topic].put(message)


def _is_broadcast(broadcast: Broadcast, topic: str, event: str, payload: Wanted) -> bool:
    return (
        broadcast.topic == topic and broadcast.event == event and fits(broadcast.payload, payload)
    )
