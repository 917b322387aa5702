"""Broadcasts, pushes and replies from other threads: once each, in order, or refused before anything has changed."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio

from actors import (
    SHUTDOWN,
    RuntimeClosed,
    WrongThread,
    open_runtime,
    run_in_thread,
    spawn,
    stop,
    wait_exit,
)
from channels import (
    Binary,
    Broadcast,
    Channel,
    EncodeError,
    Endpoint,
    PubSub,
    PushReply,
    Socket,
    handle_in,
    handle_out,
    reply_to,
)
from channels.pubsub.adapter import Encoded, LocalAdapter
from tests.channels.conftest import Serve
from tests.channels.rooms import Room, UserSocket
from tests.channels.support import Client, Close, Mailbox, Server, TcpClient, reply, settle

# A virtual clock would jump over the time that a thread takes.
REAL_CLOCK = True


class ThreadedRoom(Room):
    """Does its work in threads."""

    @handle_in("work")
    async def work(self, payload: Any) -> None:
        await run_in_thread(self._work)

    @handle_in("work_outside")
    async def work_outside(self, payload: Any) -> None:
        await in_a_plain_thread(self._work)

    def _work(self) -> None:
        self.push("progress", {"percent": 50})
        self.broadcast("shouted", {"n": 1})
        self.broadcast_from("shouted", {"n": 2})
        self.push("progress", {"percent": 100})

    @handle_in("latest")
    async def latest(self, payload: Any) -> None:
        await run_in_thread(self._latest)

    def _latest(self) -> None:
        self.push_latest("progress", {"n": 1}, key="a")
        self.broadcast_latest("shouted", {"n": 2}, key="a")
        self.broadcast_latest_from("shouted", {"n": 3}, key="a")
        self.endpoint.broadcast_latest(self.topic, "shouted", {"n": 4}, key="a")

    @handle_in("answer")
    async def answer(self, payload: Any) -> None:
        await in_a_plain_thread(partial(reply_to, self.socket_ref(), PushReply({"n": 1})))

    @handle_out("secret")
    async def secret(self, payload: Any) -> None:
        self.push("intercepted", payload)


class ThreadedSocket(UserSocket):
    channels = {"room:*": ThreadedRoom}


async def in_a_plain_thread(work: Callable[[], object]) -> None:
    """Run a function in a thread that neither Trio nor a process has started. Raise its exception here."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    await trio.to_thread.run_sync(thread.join)
    await settle()
    if errors:
        raise errors[0]


async def in_a_thread_of_trio(work: Callable[[], object]) -> None:
    try:
        await trio.to_thread.run_sync(work)
    finally:
        await settle()


ANY_THREAD = pytest.mark.parametrize("run", [in_a_plain_thread, in_a_thread_of_trio])


def endpoint(**options: Any) -> Endpoint:
    return Endpoint(sockets={"/socket": ThreadedSocket}, **options)


def push(join_ref: Any, topic: str, event: str, payload: Any) -> list[Any]:
    return [join_ref, None, topic, event, payload]


Connect = Callable[[Server], Awaitable[Client]]


@pytest.fixture
async def connect(serve: Serve) -> AsyncIterator[Connect]:
    """Have clients join, which go before the server does: it would wait for them, in real time."""
    clients: list[Client] = []

    async def join(server: Server) -> Client:
        client = await server.connect()
        clients.append(client)
        await client.join()
        return client

    yield join
    for client in clients:
        client.close()
    await settle()


def shouted(payload: Any) -> list[Any]:
    return [None, None, "room:a", "shouted", payload]


async def test_values_of_another_thread_arrive_in_order(serve: Serve, connect: Connect) -> None:
    server = await serve(endpoint())
    client, friend = await connect(server), await connect(server)
    client.send(("1", "2", "room:a", "latest"))
    assert await next_frames(friend, 3) == [shouted({"n": n}) for n in (2, 3, 4)]
    progress = push("1", "room:a", "progress", {"n": 1})
    assert client.frames() == [progress, shouted({"n": 2}), shouted({"n": 4})]


@ANY_THREAD
async def test_a_broadcast_of_another_thread_reaches_every_client(
    serve: Serve, connect: Connect, run: Any
) -> None:
    server = await serve(endpoint())
    clients = [await connect(server) for _ in range(3)]

    def work() -> None:
        server.endpoint.broadcast("room:a", "shouted", {"n": 1})
        server.endpoint.broadcast_from(channel, "room:a", "shouted", {"n": 2})
        server.endpoint.broadcast("room:a", "secret", {"n": 3})

    channel = server.channels("room:a")[0]
    await run(work)
    intercepted = push("1", "room:a", "intercepted", {"n": 3})
    assert clients[0].frames() == [shouted({"n": 1}), intercepted]
    for client in clients[1:]:
        assert client.frames() == [shouted({"n": 1}), shouted({"n": 2}), intercepted]
    late = await connect(server)
    server.endpoint.broadcast("room:a", "shouted", {"n": 4})
    await settle()
    assert [client.frames() for client in [*clients, late]] == [[shouted({"n": 4})]] * 4


async def test_broadcasts_of_eight_threads_arrive_once_and_in_the_order_of_each_thread(
    serve: Serve,
    connect: Connect,
) -> None:
    server = await serve(endpoint())
    clients = [await connect(server) for _ in range(3)]

    def work(thread: int) -> None:
        for number in range(1250):
            server.endpoint.broadcast("room:a", "shouted", {"thread": thread, "n": number})

    async with trio.open_nursery() as nursery:
        for thread in range(8):
            nursery.start_soon(trio.to_thread.run_sync, work, thread)
    await settle()
    for client in clients:
        payloads = [frame[4] for frame in client.frames()]
        assert len(payloads) == 10_000
        for thread in range(8):
            numbers = [each["n"] for each in payloads if each["thread"] == thread]
            assert numbers == list(range(1250))


@pytest.mark.parametrize("event", ["work", "work_outside"])
async def test_a_channel_pushes_and_broadcasts_from_its_threads(
    serve: Serve, connect: Connect, event: str
) -> None:
    server = await serve(endpoint())
    one, other = await connect(server), await connect(server)
    one.send(("1", "2", "room:a", event))
    assert await next_frames(one, 3) == [
        push("1", "room:a", "progress", {"percent": 50}),
        shouted({"n": 1}),
        push("1", "room:a", "progress", {"percent": 100}),
    ]
    assert other.frames() == [shouted({"n": 1}), shouted({"n": 2})]


async def next_frames(client: Client, count: int) -> list[Any]:
    """Wait until a client has got this many frames, while a thread may still work."""
    got: list[Any] = []
    with trio.fail_after(10):
        while len(got) < count:
            await settle()
            got += client.frames()
    return got


async def test_a_push_is_answered_from_a_thread(serve: Serve, connect: Connect) -> None:
    client = await connect(await serve(endpoint()))
    client.send(("1", "2", "room:a", "answer"))
    assert await next_frames(client, 1) == [reply("1", "2", "room:a", {"n": 1})]


@ANY_THREAD
@pytest.mark.parametrize("payload", [{"n": object()}, ["no", "object"]])
async def test_a_payload_that_cannot_be_encoded_raises_in_the_thread(
    serve: Serve, connect: Connect, run: Any, payload: Any
) -> None:
    server = await serve(endpoint())
    client = await connect(server)
    with pytest.raises(EncodeError):
        await run(partial(server.endpoint.broadcast, "room:a", "shouted", payload))
    assert client.frames() == []


async def test_a_thread_can_broadcast_raw_bytes_if_all_clients_support_them(
    serve: Serve,
    connect: Connect,
) -> None:
    server = await serve(endpoint())
    client = await connect(server)
    await in_a_plain_thread(
        partial(server.endpoint.broadcast, "room:a", "shouted", Binary(b"\x00\x01"))
    )
    (frame,) = client.frames()
    assert frame.payload.endswith(b"\x00\x01")


async def test_a_disconnect_from_a_thread_closes_the_connections_of_a_user(serve: Serve) -> None:
    class User(Socket):
        channels = {"room:*": Channel}

        def id(self) -> str:
            return "user:7"

    server = await serve(Endpoint(sockets={"/socket": User}))
    client = await server.connect()
    await in_a_plain_thread(partial(server.endpoint.broadcast, "user:7", "disconnect", {}))
    assert client.frames()[0] == Close(1001)
    client.end()


async def test_a_thread_can_move_the_deadline_of_a_connection(serve: Serve) -> None:
    sockets = []

    class User(Socket):
        channels = {"room:*": Channel}

        async def connect(self, params: Any, connect_info: Any) -> None:
            sockets.append(self)

    server = await serve(Endpoint(sockets={"/socket": User}))
    client = await server.connect()
    await in_a_plain_thread(partial(sockets[0].expire_connection_after, 0.0))
    await settle()
    assert client.frames()[0] == Close(3000)
    client.end()


async def test_connect_can_set_the_deadline_in_a_thread(serve: Serve) -> None:
    class User(Socket):
        async def connect(self, params: Any, connect_info: Any) -> None:
            await run_in_thread(self.expire_connection_after, 0.0)

    server = await serve(Endpoint(sockets={"/socket": User}))
    client = await TcpClient.connect(server.endpoint)
    assert await client.frames() == [Close(3000)]
    await client.close()


# PubSub


@ANY_THREAD
async def test_messages_of_another_thread_reach_plain_subscribers(run: Any) -> None:
    async with open_runtime():
        pubsub, mailbox = PubSub(), Mailbox()
        await mailbox.start(lambda: pubsub.subscribe("news"))

        def work() -> None:
            pubsub.broadcast("news", 1)
            pubsub.local_broadcast("news", 2)
            pubsub.broadcast("news", 3, sender=mailbox.pid)
            pubsub.broadcast("elsewhere", 4)

        await run(work)
        assert mailbox.messages == [1, 2]


async def test_broadcasts_to_other_nodes_run_in_the_thread_of_the_runtime() -> None:
    class Cable(LocalAdapter):
        def broadcast(self, encoded: Encoded) -> None:
            called.append((encoded.message(), threading.get_ident()))

    called: list[Any] = []
    async with open_runtime():
        pubsub, mailbox = PubSub(Cable()), Mailbox()
        await pubsub.start_link()
        await mailbox.start(lambda: pubsub.subscribe("news"))
        await in_a_plain_thread(partial(pubsub.broadcast, "news", 1))
    assert called == [(1, threading.get_ident())]


@pytest.mark.parametrize("verb", ["subscribe", "unsubscribe"])
async def test_a_subscription_from_another_thread_raises_without_an_effect(verb: str) -> None:
    pubsub = PubSub()

    async def process() -> None:
        pubsub.subscribe("kept")
        with pytest.raises(WrongThread):
            await run_in_thread(getattr(pubsub, verb), "kept" if verb == "unsubscribe" else "news")
        statistics = pubsub.statistics()
        assert (statistics["topics"], statistics["subscriptions"]) == (1, 1)

    async with open_runtime():
        await wait_exit(spawn(process))


async def test_subscribers_of_two_threads_cannot_share_a_pubsub() -> None:
    pubsub = PubSub()

    async def elsewhere() -> None:
        async with open_runtime(log=False):
            with pytest.raises(WrongThread):
                pubsub.attach(runtime)
            mailbox = Mailbox()
            with pytest.raises(Exception, match=r"PubSub\.attach"):
                await mailbox.start(lambda: pubsub.subscribe("news"))

    async with open_runtime() as runtime:
        await Mailbox().start(lambda: pubsub.subscribe("news"))
        await trio.to_thread.run_sync(trio.run, elsewhere)
        assert pubsub.statistics()["subscriptions"] == 1


async def test_a_pubsub_belongs_to_the_runtime_of_its_subscribers() -> None:
    pubsub = PubSub()

    async def program() -> None:
        async with open_runtime():
            mailbox = Mailbox()
            await mailbox.start(lambda: pubsub.subscribe("news"))
            await in_a_plain_thread(partial(pubsub.broadcast, "news", "hello"))
            assert mailbox.messages == ["hello"]

    await program()
    # Another thread runs Trio now.
    await trio.to_thread.run_sync(trio.run, program)


# Without a server


async def test_a_broadcast_of_an_endpoint_that_does_not_run_does_nothing() -> None:
    one = endpoint()
    with pytest.warns(UserWarning, match="has not started"):
        await in_a_plain_thread(partial(one.broadcast, "room:a", "shouted", {}))
    async with open_runtime() as runtime:
        await one.start_link(port=None)
        (pid,) = [pid for pid in runtime.processes() if pid.number == 1]
        await stop(pid, SHUTDOWN)
        await in_a_plain_thread(partial(one.broadcast, "room:a", "shouted", {}))


@ANY_THREAD
async def test_a_broadcast_after_the_end_of_the_runtime_is_refused(run: Any) -> None:
    one = endpoint()
    async with open_runtime():
        await one.start_link(port=None)
    with pytest.raises(RuntimeClosed):
        await run(partial(one.broadcast, "room:a", "shouted", {}))
    # In its own thread, the broadcast has no subscribers either.
    one.broadcast("room:a", "shouted", {})


async def test_threads_that_broadcast_too_fast_wait() -> None:
    async with open_runtime(max_thread_calls=4) as runtime:
        pubsub, mailbox = PubSub(), Mailbox()
        await mailbox.start(lambda: pubsub.subscribe("news"))

        def work() -> None:
            for number in range(500):
                pubsub.broadcast("news", Broadcast("news", "n", {"number": number}))

        await in_a_plain_thread(work)
        assert [message.payload["number"] for message in mailbox.messages] == list(range(500))
        assert runtime.statistics()["thread_calls"] == 500
