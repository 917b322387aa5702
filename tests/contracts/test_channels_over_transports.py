"""A client sees the same of channels over every transport and in every version of the protocol."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio

from actors import kill, open_runtime
from channels import Binary, Draining, Endpoint, LongPoll, Mount, PubSub
from channels.protocol.session import BURST
from channels.telemetry import SOCKET_SHED
from channels.testing import JoinedNodes
from tests.channels.rooms import UserSocket
from tests.channels.support import UPGRADE, Gate, Server, settle
from tests.contracts.peers import KINDS, VERSIONS, LongPollPeer, Peer, TwoNodesPeer

VIRTUAL_CLOCK = True

MAX_FRAME = 20_000
MAX_MESSAGES = 20
MAX_TOTAL_BYTES = 350_000
RATE = 2.0
RATES: dict[str, Any] = {
    "max_messages_per_second": RATE,
    "max_joins_per_second": RATE,
    "max_joining": 3,
}

Open = Callable[..., Awaitable[Peer]]


@pytest.fixture(params=[(kind, vsn) for kind in KINDS for vsn in VERSIONS], ids=" ".join)
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A transport, and a version of the protocol."""
    chosen: tuple[str, str] = request.param
    return chosen


def endpoint(pubsub: PubSub | None = None) -> Endpoint:
    return Endpoint(
        sockets={
            "/socket": Mount(
                UserSocket,
                max_frame_size=MAX_FRAME,
                longpoll=LongPoll(max_body_bytes=MAX_FRAME),
                **RATES,
            ),
            "/packed": Mount(UserSocket, max_frame_size=MAX_FRAME, compress=True, **RATES),
        },
        max_buffered_messages=MAX_MESSAGES,
        max_total_buffered_bytes=MAX_TOTAL_BYTES,
        draining=Draining(timeout=20.0),
        pubsub=pubsub,
        secret_key_base="the secret of all nodes",
    )


@pytest.fixture
async def server(kind: tuple[str, str]) -> AsyncIterator[Server]:
    async with open_runtime(log=False) as runtime:

        async def start(pubsub: PubSub | None = None) -> Server:
            started = endpoint(pubsub)
            return Server(started, runtime, await started.start_link(port=None))

        if KINDS[kind[0]] is not TwoNodesPeer:
            yield await start()
            return
        nodes = JoinedNodes()
        server = await start(PubSub(nodes.adapter("a")))
        server.other_node = await start(PubSub(nodes.adapter("b")))
        yield server


@pytest.fixture
async def make(server: Server, kind: tuple[str, str]) -> AsyncIterator[Callable[..., Peer]]:
    """Make a client of one kind, which has not sent anything yet."""
    name, vsn = kind
    async with trio.open_nursery() as nursery:

        def make(gate: Any = None) -> Peer:
            return KINDS[name](server, nursery, vsn, gate)

        yield make
        nursery.cancel_scope.cancel()


@pytest.fixture
def connect(make: Callable[..., Peer]) -> Open:
    """Open a connection of one kind."""

    async def connect(query: str = "", gate: Any = None) -> Peer:
        peer = make(gate)
        await peer.connect(query)
        return peer

    return connect


async def test_a_join_is_answered_and_a_push_gets_its_reply(connect: Open) -> None:
    peer = await connect()
    await peer.join()
    assert await peer.exchange("1", "2", "room:a", "echo", {"text": "ä"}) == [
        peer.reply("1", "2", "room:a", {"text": "ä"})
    ]


async def test_a_refused_join_and_an_unmatched_topic_are_answered_with_errors(
    connect: Open,
) -> None:
    peer = await connect()
    refusal = {"reason": "no"}
    assert await peer.exchange("1", "1", "room:a", "phx_join", {"refuse": refusal}) == [
        peer.reply("1", "1", "room:a", refusal, "error")
    ]
    assert await peer.exchange("2", "2", "elsewhere", "phx_join") == [
        peer.reply(None, "2", "elsewhere", {"reason": "unmatched topic"}, "error")
    ]


async def test_frames_of_one_handler_arrive_in_order(connect: Open) -> None:
    peer = await connect()
    await peer.join()
    assert await peer.exchange("1", "2", "room:a", "in_order") == [
        peer.message("1", None, "room:a", "pushed", {"n": 1}),
        peer.message(None, None, "room:a", "shouted", {"n": 2}),
        peer.message("1", None, "room:a", "pushed", {"n": 3}),
        peer.reply("1", "2", "room:a", {"n": 4}),
    ]


async def test_messages_behind_a_join_come_after_the_message_that_join_sent_to_itself(
    connect: Open,
) -> None:
    peer = await connect()
    await peer.send("1", "1", "room:a", "phx_join", {"after": True, "sleep": 1})
    await peer.send("1", "2", "room:a", "echo", {"n": 1})
    await peer.send("1", "3", "room:a", "phx_leave", {})
    await trio.sleep(2)
    assert await peer.received() == [
        peer.reply("1", "1", "room:a"),
        peer.message("1", None, "room:a", "ready", {}),
        peer.reply("1", "2", "room:a", {"n": 1}),
        peer.reply("1", "3", "room:a"),
        peer.message("1", "1", "room:a", "phx_close", {}),
    ]


async def test_a_broadcast_reaches_all_clients_and_broadcast_from_all_except_the_sender(
    connect: Open,
) -> None:
    one, other = await connect(), await connect()
    await one.join()
    await other.join(ref="7")
    shouted = one.message(None, None, "room:a", "shouted", {"text": "x" * 300})
    assert await one.exchange("1", "2", "room:a", "shout", {"text": "x" * 300}) == [shouted]
    assert await other.received() == [shouted]
    assert await one.exchange("1", "3", "room:a", "shout_from", {"text": "x" * 300}) == []
    assert await other.received() == [shouted]


async def test_large_messages_travel_whole_both_ways(connect: Open) -> None:
    peer = await connect()
    await peer.join()
    for size in (100, 125, 126, 10_000):
        payload = {"text": "x" * size}
        assert await peer.exchange("1", "2", "room:a", "echo", payload) == [
            peer.reply("1", "2", "room:a", payload)
        ]
    large = {"text": "x" * 200_000}
    peer.server.endpoint.broadcast("room:a", "shouted", large)
    await settle()
    assert await peer.received() == [peer.message(None, None, "room:a", "shouted", large)]


async def test_binary_messages_travel_both_ways(connect: Open) -> None:
    peer = await connect()
    if not (peer.has_binary and peer.vsn.startswith("2")):
        # The first version of the protocol has no binary form; a text message is all that it takes.
        await peer.send_binary(b"\xff")
        await peer.received()
        assert peer.was_closed(1011) or not peer.has_binary
        return
    await peer.join()
    await peer.send_binary(b"\x00\x01\x01\x06\x0412room:aecho\x00\xff")
    assert await peer.received() == [b"\x01\x01\x01\x06\x0212room:aok\x00\xff"]
    peer.server.endpoint.broadcast("room:a", "blob", Binary(b"\x00\x01" * 200))
    await settle()
    assert await peer.received() == [b"\x02\x06\x04room:ablob" + b"\x00\x01" * 200]


async def test_a_crash_is_phx_error_and_the_topic_can_be_joined_again(connect: Open) -> None:
    peer, friend = await connect(), await connect()
    await peer.join()
    await friend.join()
    assert await peer.exchange("1", "2", "room:a", "boom") == [
        peer.message("1", "1", "room:a", "phx_error", {"reason": "channel_crash"})
    ]
    await peer.join(ref="3")
    assert await friend.received() == []


async def test_a_leave_is_answered_and_then_phx_close(connect: Open) -> None:
    peer = await connect()
    await peer.join()
    assert await peer.exchange("1", "2", "room:a", "phx_leave") == [
        peer.reply("1", "2", "room:a"),
        peer.message("1", "1", "room:a", "phx_close", {}),
    ]


async def test_a_stop_with_a_reply_sends_the_reply_and_then_phx_close(connect: Open) -> None:
    peer = await connect()
    await peer.join()
    stop = {"reason": "shutdown", "reply": {"bye": 1}}
    assert await peer.exchange("1", "2", "room:a", "stop", stop) == [
        peer.reply("1", "2", "room:a", {"bye": 1}),
        peer.message("1", "1", "room:a", "phx_close", {}),
    ]


async def test_a_push_beyond_the_rate_limit_gets_an_error_and_a_later_one_its_reply(
    connect: Open,
) -> None:
    peer = await connect()
    await peer.join()
    for _ in range(int(RATE * BURST)):
        await peer.exchange("1", "2", "room:a", "echo")
    limited = {"reason": "rate limited", "retry_after_ms": 500}
    assert await peer.exchange("1", "3", "room:a", "echo") == [
        peer.reply("1", "3", "room:a", limited, "error")
    ]
    assert await peer.exchange("1", None, "room:a", "push") == []
    assert peer.server.endpoint.statistics()["counts"]["socket", "max_messages_per_second"] == 2
    assert await peer.exchange(None, "4", "phoenix", "heartbeat") == [
        peer.reply(None, "4", "phoenix")
    ]
    await trio.sleep(0.5)
    assert await peer.exchange("1", "5", "room:a", "echo") == [peer.reply("1", "5", "room:a")]


async def test_a_join_beyond_the_joins_in_progress_gets_an_error(connect: Open) -> None:
    peer = await connect()
    for topic in "abc":
        assert await peer.exchange("1", "1", f"room:{topic}", "phx_join", {"sleep": 1}) == []
    assert await peer.exchange("1", "1", "room:d", "phx_join") == [
        peer.reply("1", "1", "room:d", {"reason": "too many joins in progress"}, "error")
    ]
    await trio.sleep(1)
    await settle()
    assert len(await peer.received()) == 3
    await peer.join("room:d")


async def test_a_second_join_replaces_the_first(connect: Open) -> None:
    peer = await connect()
    await peer.join()
    assert await peer.exchange("2", "2", "room:a", "phx_join") == [
        peer.reply("2", "2", "room:a"),
        peer.message("1", "1", "room:a", "phx_close", {}),
    ]
    assert await peer.exchange("1", "3", "room:a", "echo") == [], "that join_ref is stale"


async def test_a_heartbeat_is_answered(connect: Open) -> None:
    peer = await connect()
    assert await peer.exchange(None, "5", "phoenix", "heartbeat") == [
        peer.reply(None, "5", "phoenix")
    ]


async def ended(peer: Peer, code: int | str) -> None:
    """Wait until the connection ends with a code, and until the server has no process of it."""
    await settle()
    await peer.received()
    assert peer.was_closed(code)
    await peer.go()
    await trio.sleep(6)
    assert peer.server.channels("room:a") == []


async def test_a_message_that_is_too_big_is_1009(connect: Open) -> None:
    peer = await connect()
    await peer.join()
    await peer.send("1", "2", "room:a", "echo", {"text": "x" * MAX_FRAME})
    if isinstance(peer, LongPollPeer):
        assert peer.posted.status == 400
        assert await peer.exchange("1", "3", "room:a", "count") == [
            peer.reply("1", "3", "room:a", {"count": 1})
        ]
        return
    await ended(peer, 1009)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"7"])
async def test_an_invalid_message_closes_with_1011(connect: Open, data: bytes) -> None:
    peer = await connect()
    await peer.join()
    await peer.send_text(data)
    await ended(peer, 1011)


async def test_text_that_is_not_utf8_is_1007(connect: Open) -> None:
    peer = await connect()
    await peer.join()
    await peer.send_text(b'["1","1","room:a","echo","\xff"]')
    await ended(peer, 1007)


async def test_disconnect_closes_with_1001(connect: Open) -> None:
    peer = await connect("&user=ann")
    await peer.join()
    peer.server.endpoint.broadcast("user:ann", "disconnect", {})
    await ended(peer, 1001)


async def test_a_connection_closes_with_3000_at_its_deadline_which_a_push_can_move(
    connect: Open,
) -> None:
    peer = await connect("&expire=3")
    await peer.join()
    await trio.sleep(2)
    assert await peer.exchange("1", "2", "room:a", "expire", {"seconds": 5}) == [
        peer.reply("1", "2", "room:a")
    ]
    await trio.sleep(4.9)
    assert await peer.exchange("1", "3", "room:a", "echo") == [peer.reply("1", "3", "room:a")]
    await trio.sleep(0.2)
    await ended(peer, 3000)


async def test_a_client_that_reads_too_slowly_is_closed_with_1013_without_delay(
    connect: Open,
) -> None:
    gate = Gate()
    slow, friend = await connect(gate=gate), await connect()
    await slow.join()
    await friend.join()
    gate.shut()
    for number in range(3 * MAX_MESSAGES):
        payload = {"n": number}
        slow.server.endpoint.broadcast("room:a", "shouted", payload)
        await settle()
        shouted = friend.message(None, None, "room:a", "shouted", payload)
        assert await friend.received() == [shouted]
    gate.opened.set()
    await settle()
    await slow.received()
    assert slow.was_closed(1013)
    assert len(slow.server.channels("room:a")) == 1


async def test_a_client_that_reads_too_slowly_gets_the_newest_of_values_that_may_be_dropped(
    connect: Open,
) -> None:
    gate = Gate()
    slow, friend = await connect(gate=gate), await connect()
    await slow.join()
    await friend.join()
    endpoint = slow.server.endpoint
    gate.shut()
    sent = []
    for number in range(3 * MAX_MESSAGES):
        key = "bus" if number % 3 else "tram"
        payload = {"key": key, "n": number}
        event = "secret" if number % 2 else "shouted"
        endpoint.broadcast_latest("room:a", event, payload, key=key)
        await settle()
        sent.append(
            friend.message("1", None, "room:a", "heard", payload)
            if number % 2
            else friend.message(None, None, "room:a", "shouted", payload)
        )
        assert await friend.received() == [sent[-1]], "a client that keeps up gets every value"
        if number == MAX_MESSAGES:
            endpoint.broadcast("room:a", "shouted", {"n": "middle"})
            sent.append(friend.message(None, None, "room:a", "shouted", {"n": "middle"}))
            await settle()
            assert await friend.received() == [sent[-1]], "a client that keeps up gets every value"
    gate.opened.set()
    await settle()
    received = await slow.received()
    everything = iter(sent)
    assert all(each in everything for each in received), "in the order of sending"
    newest = {(each[3], each[4].get("key")): each for each in sent}
    assert {(each[3], each[4].get("key")): each for each in received} == newest
    # One that was on its way, one that waited before, and two keys of two events.
    assert len(received) <= len(newest) + 4
    assert slow.closed is None
    assert await slow.exchange("1", "2", "room:a", "echo", {"n": 1}) == [
        slow.reply("1", "2", "room:a", {"n": 1})
    ]
    counters = endpoint.statistics()["latest"]
    assert counters.replaced == len(sent) - len(received)
    assert counters.dropped == 0


async def test_the_channel_sends_values_to_its_client_to_all_and_to_all_others(
    connect: Open,
) -> None:
    peer, friend = await connect(), await connect()
    await peer.join()
    await friend.join()
    payload = {"key": "bus"}
    shouted = peer.message(None, None, "room:a", "shouted", payload)
    assert await peer.exchange("1", None, "room:a", "push_latest", payload) == [
        peer.message("1", None, "room:a", "pushed", payload)
    ]
    assert await peer.exchange("1", None, "room:a", "shout_latest", payload) == [shouted]
    assert await friend.received() == [shouted]
    assert await peer.exchange("1", None, "room:a", "shout_latest_from", payload) == []
    assert await friend.received() == [shouted]


async def test_after_a_rejoin_no_value_of_the_old_membership_follows(connect: Open) -> None:
    gate = Gate()
    peer = await connect(gate=gate)
    await peer.join()
    gate.shut()
    for number in range(5):
        await peer.send("1", None, "room:a", "push_latest", {"key": "bus", "n": number})
        await settle()
    await peer.send("2", "2", "room:a", "phx_join", {})
    await settle()
    for number in range(5, 10):
        await peer.send("2", None, "room:a", "push_latest", {"key": "bus", "n": number})
        await settle()
    gate.opened.set()
    await settle()
    received = await peer.received()
    answer = received.index(peer.reply("2", "2", "room:a"))
    assert all(each[4]["n"] < 5 for each in received[:answer])
    values = [each[4]["n"] for each in received[answer:] if each[3] == "pushed"]
    assert values[-1] == 9
    assert min(values) >= 5
    assert values == sorted(values)


async def test_too_many_bytes_for_all_clients_close_only_the_client_with_the_most(
    connect: Open,
) -> None:
    gate = Gate()
    slow, slower = await connect(gate=gate), await connect(gate=gate)
    endpoint = slow.server.endpoint
    await slow.join()
    await slower.join("room:a")
    await slower.join("room:b", "2")
    gate.shut()
    # Random, because compression would shrink a regular text.
    payload = {"text": random.Random(1).randbytes(30_000).hex()}
    endpoint.broadcast("room:a", "shouted", payload)
    for _ in range(MAX_MESSAGES - 1):
        await settle()
        if not slow.server.channels("room:b"):
            break
        endpoint.broadcast("room:b", "shouted", payload)
    assert endpoint.statistics()["backlog"].shed == 1
    assert endpoint.statistics()["counts"][SOCKET_SHED] == 1
    gate.opened.set()
    await settle()
    await slower.received()
    assert slower.was_closed(1013)
    assert await slow.received() == [slow.message(None, None, "room:a", "shouted", payload)]
    assert len(slow.server.channels("room:a")) == 1


async def test_a_server_that_stops_closes_with_1012(connect: Open) -> None:
    peer = await connect()
    await peer.join()
    if isinstance(peer, LongPollPeer):
        poll = await peer.poller.begin("GET")
        await peer.server.stop()
        assert (poll.said() or {})["status"] == 204, (
            "the next one would find nobody, or another server"
        )
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.server.stop)
        await settle()
        await peer.received()
        assert peer.closed == 1012
        await peer.go()


async def test_silence_closes_with_1002(connect: Open) -> None:
    peer = await connect()
    await peer.join()
    await trio.sleep(61)
    await ended(peer, 1002)


async def test_a_client_that_closes_leaks_nothing(connect: Open) -> None:
    peer = await connect()
    await peer.join()
    assert len(peer.server.channels("room:a")) == 1
    await peer.go()
    await settle()
    assert peer.server.channels("room:a") == []


async def test_a_client_that_disconnects_without_a_close_leaks_nothing(connect: Open) -> None:
    peer = await connect()
    await peer.join()
    await peer.leave()
    assert peer.server.channels("room:a") == []


async def test_a_page_of_another_site_gets_403(make: Callable[..., Peer]) -> None:
    answer = await make().ask(headers=UPGRADE + "origin: https://evil.example\r\n")
    assert answer.status == 403


async def test_a_client_that_connect_refuses_gets_403(make: Callable[..., Peer]) -> None:
    answer = await make().ask(query="&token=deny")
    assert (answer.status, answer.body) == (403, b"")


async def test_a_connect_that_raises_answers_500(make: Callable[..., Peer]) -> None:
    assert (await make().ask(query="&token=crash")).status == 500


async def test_a_path_that_does_not_exist_gets_404(make: Callable[..., Peer]) -> None:
    peer = make()
    assert (await peer.ask(f"{peer.path}/nowhere")).status == 404


async def test_a_killed_connection_affects_only_its_own_client(
    connect: Open,
) -> None:
    peer, friend = await connect(), await connect()
    await peer.join()
    await friend.join()
    kill(peer.process())
    await settle()
    await peer.received()
    assert peer.closed is not None
    assert await friend.exchange("1", "2", "room:a", "echo") == [friend.reply("1", "2", "room:a")]
    assert len(peer.server.channels("room:a")) == 1
