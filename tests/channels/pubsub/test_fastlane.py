"""The fastlane of broadcasts: in order, encoded once for each wire format, and only past intercepting channels."""

from __future__ import annotations

from functools import partial
from threading import get_ident
from typing import Any

import msgspec
import pytest
import trio
from attrs import define

from actors import Runtime, send, spawn
from channels import Broadcast, Channel, EncodeError, Endpoint, Mount, PubSub, handle_in, handle_out
from channels.pubsub import adapter
from channels.pubsub.local import Fastlane, dispatch
from channels.serializers.serializer import Codec, Requirement
from channels.serializers.v1 import V1
from channels.serializers.v2 import V2
from channels.transports.out_buffer import Flusher, OutBuffer
from tests.channels.conftest import Serve
from tests.channels.rooms import Room, UserSocket
from tests.channels.support import Mailbox, Server, settle

NOTHING: frozenset[str] = frozenset()


class CountingV2(V2):
    """Counts the broadcasts that it writes."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self.payloads: list[type] = []

    def encode_broadcast(self, topic: str, event: str, payload: Any) -> bytes:
        self.events.append(event)
        self.payloads.append(type(payload))
        return super().encode_broadcast(topic, event, payload)


def buffer() -> OutBuffer:
    return OutBuffer(Flusher(spawn=spawn), tell=lambda _: None)


def serialized_by(serializer: V2, sockets: type[UserSocket] = UserSocket) -> Mount:
    return Mount(sockets, serializers=[(serializer, Requirement("~> 2.0.0"))])


async def clients_of(server: Server, paths: list[str]) -> list[Any]:
    clients = [await server.connect(path) for path in paths]
    for client in clients:
        await client.join()
    return clients


async def test_a_broadcast_is_encoded_once_for_all_clients_of_a_format(serve: Serve) -> None:
    one, other = CountingV2(), CountingV2()
    mounts = {path: serialized_by(one) for path in ("/a", "/b")} | {"/c": serialized_by(other)}
    server = await serve(Endpoint(sockets=mounts))
    clients = await clients_of(server, ["/a", "/c", "/b", "/a", "/c", "/b"])
    for n in range(3):
        server.endpoint.broadcast("room:a", "shouted", {"n": n})
    await settle()
    for client in clients:
        assert client.frames() == [[None, None, "room:a", "shouted", {"n": n}] for n in range(3)]
    assert (one.events, other.events) == (["shouted"] * 3, ["shouted"] * 3)


async def test_a_broadcast_without_subscribers_is_not_encoded(serve: Serve) -> None:
    serializer = CountingV2()
    server = await serve(Endpoint(sockets={"/socket": serialized_by(serializer)}))
    await clients_of(server, ["/socket"])
    server.endpoint.broadcast("room:b", "shouted", {})
    server.endpoint.broadcast_from(server.channel("room:a"), "room:a", "shouted", {})
    # A channel that intercepts an event pushes it, so the fastlane does not encode it.
    server.endpoint.broadcast("room:a", "secret", {})
    await settle()
    assert serializer.events == []


async def test_broadcasts_do_not_pass_through_channel_processes(serve: Serve) -> None:
    got: list[Any] = []

    class Nosy(Room):
        async def handle_info(self, message: Any) -> None:
            got.append(message)

    class NosySocket(UserSocket):
        channels = {"room:*": Nosy}

    server = await serve(Endpoint(sockets={"/socket": NosySocket}))
    (client,) = await clients_of(server, ["/socket"])
    server.endpoint.broadcast("room:a", "shouted", {})
    server.endpoint.pubsub.broadcast("room:a", "plain", dispatcher=dispatch)
    await settle()
    assert got == ["plain"]
    assert client.frames() == [[None, None, "room:a", "shouted", {}]]


async def test_an_intercepted_event_reaches_the_client_only_through_its_channel(
    serve: Serve,
) -> None:
    class Picky(Room):
        @handle_out("odd", "even")
        async def numbers(self, payload: Any) -> None:
            if payload["n"] % 2:
                self.push("odd", {"mine": payload["n"]})

        @handle_in("all")
        async def all(self, payload: Any) -> None:
            for n in range(4):
                self.broadcast("odd", {"n": n})
            self.broadcast("plain", {})

    class PickySocket(UserSocket):
        channels = {"room:*": Picky}

    server = await serve(Endpoint(sockets={"/socket": PickySocket, "/plain": UserSocket}))
    picky, plain = await clients_of(server, ["/socket", "/plain"])
    picky.send(("1", "2", "room:a", "all"))
    await settle()
    # The fastlane is faster than the mailbox that intercepted events go through.
    assert picky.frames() == [
        [None, None, "room:a", "plain", {}],
        ["1", None, "room:a", "odd", {"mine": 1}],
        ["1", None, "room:a", "odd", {"mine": 3}],
    ]
    assert plain.frames() == [
        *([None, None, "room:a", "odd", {"n": n}] for n in range(4)),
        [None, None, "room:a", "plain", {}],
    ]


async def test_a_handle_out_that_raises_crashes_only_its_own_channel(serve: Serve) -> None:
    class Fragile(Room):
        @handle_out("fragile")
        async def fragile(self, payload: Any) -> None:
            raise RuntimeError("out")

    class FragileSocket(UserSocket):
        channels = {"room:*": Fragile}

    server = await serve(Endpoint(sockets={"/socket": FragileSocket, "/plain": UserSocket}))
    fragile, plain = await clients_of(server, ["/socket", "/plain"])
    server.endpoint.broadcast("room:a", "fragile", {})
    await settle()
    assert fragile.frames() == [["1", "1", "room:a", "phx_error", {"reason": "channel_crash"}]]
    assert plain.frames() == [[None, None, "room:a", "fragile", {}]]


async def test_a_payload_that_cannot_be_encoded_raises_for_the_broadcaster(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    (client,) = await clients_of(server, ["/socket"])
    for payload in (["a list"], "text", None, {"odd": object()}):
        with pytest.raises(EncodeError):
            server.endpoint.broadcast("room:a", "shouted", payload)
    await settle()
    assert client.frames() == []
    await client.exchange(("1", "2", "room:a", "echo"))


async def test_a_record_is_a_valid_payload(serve: Serve) -> None:
    @define
    class Point:
        x: int

    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    (client,) = await clients_of(server, ["/socket"])
    server.endpoint.broadcast("room:a", "shouted", Point(3))
    await settle()
    assert client.frames() == [[None, None, "room:a", "shouted", {"x": 3}]]


async def test_a_client_that_has_left_gets_no_broadcasts(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    one, other = await clients_of(server, ["/socket", "/socket"])
    await one.exchange(("1", "2", "room:a", "phx_leave"))
    server.endpoint.broadcast("room:a", "shouted", {})
    await settle()
    assert one.frames() == []
    assert other.frames() == [[None, None, "room:a", "shouted", {}]]


async def test_a_plain_subscriber_of_a_topic_gets_the_broadcast_itself(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    mailbox = Mailbox()
    await mailbox.start(lambda: server.endpoint.pubsub.subscribe("room:a"))
    (client,) = await clients_of(server, ["/socket"])
    await client.exchange(("1", "2", "room:a", "shout", {"n": 1}))
    assert mailbox.messages == [Broadcast("room:a", "shouted", {"n": 1})]


async def test_a_channel_that_subscribes_to_another_topic_gets_its_broadcasts_as_messages(
    serve: Serve,
) -> None:
    class Curious(Channel):
        async def join(self, topic: str, payload: Any) -> None:
            self.endpoint.pubsub.subscribe("news")

        async def handle_info(self, message: Any) -> None:
            self.push("news", {"from": message.topic, **message.payload})

    class CuriousSocket(UserSocket):
        channels = {"room:*": Curious}

    server = await serve(Endpoint(sockets={"/socket": CuriousSocket}))
    (client,) = await clients_of(server, ["/socket"])
    server.endpoint.broadcast("news", "shouted", {"n": 1})
    await settle()
    assert client.frames() == [["1", None, "room:a", "news", {"from": "news", "n": 1}]]


async def test_a_channel_that_crashes_leaves_its_second_topic_and_nobody_else_does(
    serve: Serve,
) -> None:
    class Curious(Channel):
        async def join(self, topic: str, payload: Any) -> None:
            self.endpoint.pubsub.subscribe("news")

        async def handle_info(self, message: Any) -> None:
            self.push("news", message.payload)

    class CuriousSocket(UserSocket):
        channels = {"room:*": Curious}

    server = await serve(Endpoint(sockets={"/socket": CuriousSocket}))
    pubsub = server.endpoint.pubsub
    crashing, staying = await clients_of(server, ["/socket", "/socket"])
    first, second = pubsub.subscribers("news")
    # The channel has no handler for this event, so it crashes.
    answers = await crashing.exchange(("1", "2", "room:a", "unknown", {}))
    assert answers == [["1", "1", "room:a", "phx_error", {"reason": "channel_crash"}]]
    assert pubsub.subscribers("news") == pubsub.subscribers("room:a") == (second,)
    assert pubsub.statistics()["subscriptions"] == 2
    server.endpoint.broadcast("news", "shouted", {"n": 1})
    await settle()
    assert crashing.frames() == []
    assert staying.frames() == [["1", None, "room:a", "news", {"n": 1}]]
    assert first is not second


async def test_two_endpoints_may_share_one_pubsub(serve: Serve) -> None:
    pubsub = PubSub()
    one = await serve(Endpoint(sockets={"/socket": UserSocket}, pubsub=pubsub))
    other = await serve(Endpoint(sockets={"/socket": UserSocket}, pubsub=pubsub))
    (here,), (there,) = await clients_of(one, ["/socket"]), await clients_of(other, ["/socket"])
    one.endpoint.broadcast("room:a", "shouted", {})
    await settle()
    assert here.frames() == there.frames() == [[None, None, "room:a", "shouted", {}]]


async def test_the_sender_is_left_out_with_and_without_a_fastlane(runtime: Runtime) -> None:
    pubsub, out = PubSub(), buffer()
    codec = Codec(V2(), bytes)
    plain, fast, nosy = Mailbox(), Mailbox(), Mailbox()
    await plain.start(lambda: pubsub.subscribe("a"))
    await fast.start(lambda: pubsub.subscribe("a", metadata=Fastlane(out, codec, NOTHING)))
    intercepts = Fastlane(buffer(), codec, frozenset({"e"}))
    await nosy.start(lambda: pubsub.subscribe("a", metadata=intercepts))
    message = Broadcast("a", "e", {})
    for sender in (plain.pid, fast.pid, nosy.pid):
        pubsub.broadcast("a", message, sender=sender, dispatcher=dispatch)
    await settle()
    assert plain.messages == nosy.messages == [message, message]
    assert out.take() == b'[null,null,"a","e",{}]' * 2
    assert fast.messages == []


async def test_every_client_gets_its_wire_format_if_clients_of_two_formats_joined_in_turn(
    runtime: Runtime,
) -> None:
    pubsub = PubSub()
    codecs: list[Codec] = [Codec(V1(), bytes), Codec(V2(), bytes)]
    outs = [buffer() for _ in range(4)]
    for number, out in enumerate(outs):
        lane = Fastlane(out, codecs[number % 2], NOTHING)
        await Mailbox().start(partial(pubsub.subscribe, "a", metadata=lane))
    pubsub.broadcast("a", Broadcast("a", "e", {}), dispatcher=dispatch)
    old, new = codecs[0].broadcast("a", "e", {}), codecs[1].broadcast("a", "e", {})
    assert [out.take() for out in outs] == [old, new, old, new]


class Encodings:
    """The threads in which PubSub has encoded payloads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: list[int] = []
        self._encode = adapter._json
        monkeypatch.setattr(adapter, "_json", self._count)

    def _count(self, payload: Any) -> bytes:
        self.threads.append(get_ident())
        return self._encode(payload)


@pytest.mark.parametrize("plain_first", [True, False])
async def test_a_broadcast_to_a_process_and_to_a_client_is_encoded_once(
    plain_first: bool, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    encodings, v2, out = Encodings(monkeypatch), CountingV2(), buffer()
    pubsub, plain = PubSub(), Mailbox()
    lane = Fastlane(out, Codec(v2, bytes), NOTHING)
    starts = [
        partial(plain.start, lambda: pubsub.subscribe("a")),
        partial(Mailbox().start, lambda: pubsub.subscribe("a", metadata=lane)),
    ]
    for start in starts if plain_first else reversed(starts):
        await start()
    pubsub.broadcast("a", Broadcast("a", "e", {"n": 1}))
    await settle()
    assert out.take() == b'[null,null,"a","e",{"n":1}]'
    assert plain.messages == [Broadcast("a", "e", {"n": 1})]
    # The frame copies the JSON if there is one already.
    assert v2.payloads == [msgspec.Raw if plain_first else dict]
    assert len(encodings.threads) == (1 if plain_first else 0)


async def test_a_broadcast_from_another_thread_is_encoded_once_in_that_thread(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    encodings, v2, out = Encodings(monkeypatch), CountingV2(), buffer()
    pubsub, plain = PubSub(), Mailbox()
    lane = Fastlane(out, Codec(v2, bytes), NOTHING)
    await Mailbox().start(lambda: pubsub.subscribe("a", metadata=lane))
    await plain.start(lambda: pubsub.subscribe("a"))
    await trio.to_thread.run_sync(pubsub.broadcast, "a", Broadcast("a", "e", {"n": 1}))
    await settle()
    assert out.take() == b'[null,null,"a","e",{"n":1}]'
    assert plain.messages == [Broadcast("a", "e", {"n": 1})]
    assert v2.payloads == [msgspec.Raw]
    assert len(encodings.threads) == 1
    assert encodings.threads != [get_ident()]


async def test_a_message_that_is_not_a_broadcast_goes_to_every_subscriber(runtime: Runtime) -> None:
    pubsub, out = PubSub(), buffer()
    fast, plain = Mailbox(), Mailbox()
    lane = Fastlane(out, Codec(V2(), bytes), NOTHING)
    await fast.start(lambda: pubsub.subscribe("a", metadata=lane))
    await plain.start(lambda: pubsub.subscribe("a"))
    pubsub.broadcast("a", "hello", dispatcher=dispatch, sender=plain.pid)
    pubsub.broadcast("a", ("a", "e", {}), dispatcher=dispatch)
    await settle()
    assert fast.messages == ["hello", ("a", "e", {})]
    assert plain.messages == [("a", "e", {})]
    assert out.take() == b""


async def test_a_client_with_a_full_buffer_does_not_affect_others(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}, max_buffered_messages=2))
    clients = await clients_of(server, ["/socket"] * 3)
    slow = server.channels("room:a")[1]
    # One step sends more than any buffer accepts, so every buffer overflows.
    for n in range(4):
        server.endpoint.broadcast_from(slow, "room:a", "shouted", {"n": n})
    await settle()
    first, middle, last = [client.frames() for client in clients]
    assert middle == []
    for frames in (first, last):
        assert [frame[4]["n"] for frame in frames[:2]] == [0, 1]
        assert frames[2].code == 1013
    send(slow, lambda room: None)
    assert await clients[1].exchange(("1", "2", "room:a", "count")) == [
        ["1", "2", "room:a", "phx_reply", {"status": "ok", "response": {"count": 1}}]
    ]
