"""A running endpoint for one test, without a port.

    async def test_what_is_said_is_heard(autojump_clock):
        async with open_channel_test(endpoint) as case:
            client = await case.connect("/socket", {"token": "..."})
            response, room = await client.subscribe_and_join("room:lobby", {"name": "ann"})
            ref = room.push("new_msg", {"body": "hello"})
            await room.assert_reply(ref, "ok")
            await room.assert_push("new_msg", {"body": "hello"})

After Phoenix.ChannelTest. There the test's process is the transport of one socket, and what it gets are the terms that
a channel sent; here a test has as many clients as it likes, each with a session of its own, and gets what a client
would read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from actors.errors import RuntimeClosed
from actors.exits import SHUTDOWN
from actors.links import wait_exit
from actors.refs import Pid
from actors.runtime import current_runtime, open_runtime
from actors.servers.gen_server import GenServer, call, stop
from actors.servers.results import Reply
from channels.connect_info import ConnectInfo
from channels.endpoint._wiring import MountedSocket
from channels.endpoint.endpoint import Endpoint
from channels.messages import Broadcast
from channels.serializers.v2 import V2
from channels.socket import Refusal, Socket
from channels.testing.client import ConnectionRefused, TestClient, Wanted
from channels.testing.inbox import ANYTHING, Inbox, fits
from channels.testing.threads import waiting_for_threads
from channels.testing.transport import NoListener, TestSession
from channels.upgrade.connecting import Connected, connect
from channels.upgrade.urls import PathTable, join_paths
from supervision.child_spec import ChildSpec
from supervision.dynamic_supervisor import DynamicSupervisor

__all__ = ["ChannelTest", "open_channel_test"]

_SESSION = ChildSpec("test client", TestSession.start_link, restart="temporary")


@asynccontextmanager
async def open_channel_test(
    endpoint: Endpoint, *, timeout: float = 0.1
) -> AsyncIterator[ChannelTest]:
    """Run an endpoint for a test, without listening on a port, and stop it in order at the end.

        async with open_channel_test(endpoint) as case:
            client = await case.connect("/socket")

    Args:
        endpoint: of your program. Its `http` application is started with it, as always.
        timeout: seconds that assertions wait, unless they say otherwise. On Trio's autojump clock they take no time.

    Raises:
        ChannelsError: a mistake in what is mounted.

    A virtual clock stands still while a handler is in a thread (`run_in_thread`, `trio.to_thread`), for
    `THREAD_PATIENCE` seconds of real time at most.

    Opens a runtime, unless there is one already. An endpoint can run once at a time, so tests in one process follow
    one another.
    """
    try:
        current_runtime()
    except RuntimeClosed:
        async with open_runtime(), open_channel_test(endpoint, timeout=timeout) as case:
            yield case
        return
    listen = endpoint.listen
    endpoint.listen = NoListener.open
    try:
        pid = await endpoint.start_link(port=0)
        listener = await _Subscriber.start()
        try:
            with waiting_for_threads():
                yield ChannelTest(endpoint, pid, listener, timeout)
        finally:
            # Shielded, and bounded by the shutdown limits of the endpoint's children: the next test starts it again.
            with trio.CancelScope(shield=True):
                await stop(listener)
                await stop(pid, SHUTDOWN)
    finally:
        endpoint.listen = listen


class ChannelTest:
    """A running endpoint, and what a test can do with it. Made by `open_channel_test`.

    Attributes:
        endpoint: the endpoint.
        pid: its supervisor, to draw the tree with `supervision.render`.
        timeout: seconds that assertions wait.
    """

    __test__ = False  # for pytest: this is no class of tests

    def __init__(self, endpoint: Endpoint, pid: Pid, subscriber: Pid, timeout: float) -> None:
        self.endpoint = endpoint
        self.pid = pid
        self.timeout = timeout
        self._subscriber = subscriber
        self._broadcasts: Inbox[Broadcast] = Inbox()
        self._subscribed: set[str] = set()

    # Clients

    async def connect(
        self,
        mount: str | type[Socket] = "/socket",
        params: Mapping[str, Any] | None = None,
        *,
        connect_info: ConnectInfo | None = None,
    ) -> TestClient:
        """Connect a client: the socket's `connect` decides, and its `id` is subscribed to.

            client = await case.connect("/socket", {"token": sign(secret, "user", 7)})

        Args:
            mount: the path that the socket is mounted at, without `/websocket`; or the socket class.
            params: of the query. `vsn` is added.
            connect_info: what the socket is told of the request.

        Raises:
            ConnectionRefused: `connect` refused, or raised.
        """
        mounted, variables = self._find(mount)
        connected = await connect(
            self._services(),
            mounted,
            {"vsn": V2.vsn, **(params or {}), **variables},
            connect_info or ConnectInfo(),
            transport="websocket",
        )
        if isinstance(connected, Refusal):
            raise ConnectionRefused(connected)
        return await self._begin(connected)

    async def socket(
        self,
        mount: str | type[Socket] = "/socket",
        *,
        id: str | None = None,
        assigns: Mapping[str, Any] | None = None,
    ) -> TestClient:
        """Connect a client without asking the socket's `connect`: with these assigns, and this id.

            client = await case.socket(UserSocket, assigns={"user_id": 7})

        For tests of channels that should not depend on how their clients are authenticated.
        """
        mounted, _ = self._find(mount)
        socket = mounted.socket.__new__(mounted.socket)
        socket.assigns, socket.endpoint = dict(assigns or {}), self.endpoint
        socket.__init__()  # type: ignore[misc]
        return await self._begin(
            Connected(mount=mounted, socket=socket, id=id, serializer=mounted.serializers[0][0])
        )

    async def _begin(self, connected: Connected) -> TestClient:
        client = TestClient(self, connected.socket, Inbox())
        client.pid = await DynamicSupervisor.start_child(
            (self.endpoint, "connections"),
            _SESSION,
            self._services(),
            connected,
            client.inbox.put,
        )
        return client

    def _find(self, mount: str | type[Socket]) -> tuple[MountedSocket, dict[str, str]]:
        services = self._services()
        # Whatever the transport would be: a test's client has none of them.
        for each in (*services.mounts.values(), *services.longpolls.values()):
            if not isinstance(mount, str):
                if each.socket is mount:
                    return each, {}
                continue
            table: PathTable[MountedSocket] = PathTable()
            table.add(join_paths(each.path, "/"), each)
            found = table.match(join_paths(mount, "/"))
            if found is not None:
                return found
        raise LookupError(
            f"no socket is mounted at {mount!r}; {self.endpoint!r} has {', '.join(self.endpoint.sockets)}"
            if isinstance(mount, str)
            else f"{mount.__name__} is not mounted in {self.endpoint!r}"
        )

    def _services(self) -> Any:
        services = self.endpoint._services
        assert services is not None
        return services

    # Broadcasts

    async def subscribe(self, topic: str) -> None:
        """Have the test hear what is broadcast to a topic. Twice is once."""
        if topic not in self._subscribed:
            self._subscribed.add(topic)
            await call(self._subscriber, (self.endpoint.pubsub, topic, self._broadcasts))

    def broadcast_from(self, topic: str, event: str, payload: Any) -> None:
        """Broadcast an event that the test itself does not hear. Every channel and client of the topic does."""
        self.endpoint.broadcast_from(self._subscriber, topic, event, payload)

    async def assert_broadcast(
        self, topic: str, event: str, payload: Wanted = ANYTHING, *, timeout: float | None = None
    ) -> Any:
        """Assert that an event is broadcast to a topic that the test has subscribed to; returns its payload.

            await case.subscribe("user:7")
            await case.assert_broadcast("user:7", "disconnect")

        Raises:
            Expected: it was not, or not so, in time.
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
        """Assert that no such event is broadcast to a topic within `timeout` seconds."""
        self._require(topic)
        await self._broadcasts.refuse(
            f"broadcast {event!r} with {payload!r} to {topic!r}",
            lambda each: _is_broadcast(each, topic, event, payload),
            timeout=self.seconds(timeout),
        )

    def _require(self, topic: str) -> None:
        if topic not in self._subscribed:
            raise LookupError(
                f"the test has not subscribed to {topic!r}, so it would hear nothing; use subscribe_and_join, or "
                f"`await case.subscribe({topic!r})` before"
            )

    # For clients

    def seconds(self, timeout: float | None) -> float:
        """A time limit, or that of the test."""
        return self.timeout if timeout is None else timeout

    async def ended(self, pid: Pid, *, timeout: float) -> None:
        """Wait until a process has ended, `timeout` seconds at most."""
        with trio.move_on_after(timeout):
            await wait_exit(pid)


class _Subscriber(GenServer[None]):
    """Subscribes for the test, and hears for it. Subscriptions belong to processes, and a test is none."""

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
