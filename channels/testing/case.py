"""A running endpoint for one test, without a port.

    async def test_a_message_reaches_the_client(autojump_clock):
        async with open_channel_test(endpoint) as case:
            client = await case.connect("/socket", {"token": "..."})
            response, room = await client.subscribe_and_join("room:lobby", {"name": "ann"})
            ref = room.push("new_msg", {"body": "hello"})
            await room.assert_reply(ref, "ok")
            await room.assert_push("new_msg", {"body": "hello"})

Source: Phoenix.ChannelTest. There, the test process is the transport of one socket, and gets the terms that a channel
sends. Here, a test can have many clients, each with its own session. The test gets the decoded frames of each client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from actors.errors import RuntimeClosed
from actors.exits import SHUTDOWN
from actors.refs import Pid
from actors.runtime import current_runtime, open_runtime
from actors.servers.gen_server import stop
from channels.connect_info import ConnectInfo
from channels.endpoint.endpoint import Endpoint, services_of
from channels.serializers.v2 import V2
from channels.serving.mounted import MountedSocket
from channels.socket import Refusal, Socket
from channels.testing.client import ConnectionRefused, TestClient
from channels.testing.hearing import Hearing, Subscriber
from channels.testing.inbox import Inbox
from channels.testing.threads import waiting_for_threads
from channels.testing.transport import NoListener, TestSession
from channels.upgrade.connecting import Connected, connect
from channels.wire.urls import PathTable, join_paths
from supervision.child_spec import ChildSpec
from supervision.dynamic_supervisor import DynamicSupervisor

__all__ = ["ChannelTest", "open_channel_test"]

_SESSION = ChildSpec("test client", TestSession.start_link, restart="temporary")


@asynccontextmanager
async def open_channel_test(
    endpoint: Endpoint, *, timeout: float = 0.1
) -> AsyncIterator[ChannelTest]:
    """Run an endpoint for a test, without a port, and stop it in order at the end.

        async with open_channel_test(endpoint) as case:
            client = await case.connect("/socket")

    In the test, a channel crashes with a `DeclarationMismatch` if it sends a payload that its `pushes` or `replies` do
    not declare.

    A virtual clock stops while a handler waits for a thread (`run_in_thread`, `trio.to_thread`), for at most
    `THREAD_PATIENCE` seconds of real time.

    The function opens a runtime, unless there is one. In one process, run the tests one after the other, because an
    endpoint cannot run twice at a time.

    Args:
        endpoint: the endpoint of your program. Its `http` application also starts.
        timeout: seconds that assertions wait by default. On Trio's autojump clock they take no real time.

    Yields:
        The running endpoint with its clients and assertions.

    Raises:
        ChannelsError: a mount has a mistake.
    """
    try:
        current_runtime()
    except RuntimeClosed:
        async with open_runtime(), open_channel_test(endpoint, timeout=timeout) as case:
            yield case
        return
    listen, checks = endpoint.listen, endpoint.checks_declarations
    endpoint.listen, endpoint.checks_declarations = NoListener.open, True
    try:
        pid = await endpoint.start_link(port=0)
        listener = await Subscriber.start()
        with waiting_for_threads():
            try:
                yield ChannelTest(endpoint, pid, listener, timeout)
            finally:
                # Shield the stop, because the next test starts the endpoint again. The shutdown limits of the children
                # bound the wait.
                with trio.CancelScope(shield=True):
                    await stop(listener)
                    await stop(pid, SHUTDOWN)
    finally:
        endpoint.listen, endpoint.checks_declarations = listen, checks


class ChannelTest(Hearing):
    """A running endpoint in a test. `open_channel_test` makes it.

    Attributes:
        endpoint: the endpoint.
        pid: the supervisor of the endpoint, for `supervision.render`.
        timeout: seconds that assertions wait.
    """

    __test__ = False  # for pytest: this is not a test class

    def __init__(self, endpoint: Endpoint, pid: Pid, subscriber: Pid, timeout: float) -> None:
        super().__init__(endpoint, subscriber, timeout)
        self.pid = pid

    # Clients

    async def connect(
        self,
        mount: str | type[Socket] = "/socket",
        params: Mapping[str, Any] | None = None,
        *,
        connect_info: ConnectInfo | None = None,
    ) -> TestClient:
        """Connect a client. This calls the socket's `connect`, and subscribes the session to the socket's `id`.

            client = await case.connect("/socket", {"token": sign(secret, "user", 7)})

        Args:
            mount: the socket's path, without `/websocket`; or the socket class.
            params: the parameters of the query. The test adds `vsn`.
            connect_info: facts about the request, for the socket.

        Returns:
            The connected client.

        Raises:
            ConnectionRefused: `connect` refused the client, or raised.
            LookupError: no socket is mounted there.
        """
        mounted, variables = self._find(mount)
        connected = await connect(
            services_of(self.endpoint),
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
        """Connect a client with these assigns and this id. This does not call the socket's `connect`.

            client = await case.socket(UserSocket, assigns={"user_id": 7})

        A test of a channel that uses this method does not depend on authentication.

        Args:
            mount: the socket's path, without `/websocket`; or the socket class.
            id: the `id` of the socket.
            assigns: the assigns of the socket.

        Returns:
            The connected client.

        Raises:
            LookupError: no socket is mounted there.
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
            services_of(self.endpoint),
            connected,
            client.inbox.put,
        )
        return client

    def _find(self, mount: str | type[Socket]) -> tuple[MountedSocket, dict[str, str]]:
        services = services_of(self.endpoint)
        # Search all mounts, because a client of a test has no transport.
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
