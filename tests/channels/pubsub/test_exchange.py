"""Exchanges over a network in memory: losses are counted exactly, and nodes come and go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest
import trio

from actors import InvalidOperation, Pid, Runtime, open_runtime, stop
from channels import Broadcast, Endpoint, PubSub
from channels.pubsub.adapter import Node, Receiver
from channels.pubsub.local import Fastlane
from channels.telemetry import (
    PUBSUB_LOST,
    PUBSUB_MALFORMED,
    PUBSUB_NAME_TAKEN,
    PUBSUB_NODE_DOWN,
    PUBSUB_NODE_UP,
)
from channels.testing import JoinedNodes
from supervision import ChildSpec, Supervisor
from tests.channels.conftest import Serve
from tests.channels.rooms import UserSocket
from tests.channels.support import Mailbox, settle


class Events:
    """The events of one runtime, as they happen."""

    def __init__(self, runtime: Runtime, *events: tuple[str, ...]) -> None:
        self.seen: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = []
        for event in events:
            runtime.telemetry.attach(event, self._note)

    def _note(self, event: Any, measurements: Any, metadata: Any) -> None:
        self.seen.append((event[-1], measurements, metadata))


async def start(nodes: JoinedNodes, name: str, **options: Any) -> PubSub:
    pubsub = PubSub(nodes.adapter(name, **options))
    await pubsub.start_link()
    return pubsub


async def hearing(pubsub: PubSub, topic: str = "t") -> Mailbox:
    mailbox = Mailbox()
    await mailbox.start(lambda: pubsub.subscribe(topic))
    return mailbox


async def test_lost_messages_are_counted_exactly_at_the_next_message(runtime: Runtime) -> None:
    events = Events(runtime, PUBSUB_LOST)
    nodes = JoinedNodes()
    a, b = await start(nodes, "a"), await start(nodes, "b")
    there = await hearing(b)
    await settle()
    a.broadcast("t", 1)
    nodes.cut("a", "b")
    for n in (2, 3, 4):
        a.broadcast("t", n)
    nodes.heal()
    a.broadcast("t", 5)
    await settle()
    assert there.messages == [1, 5]
    ((_, measurements, metadata),) = events.seen
    lost = metadata["lost"]
    assert measurements == {"count": 3}
    assert (lost.node, lost.incarnation) == ("a", a.node.incarnation)
    assert (lost.lane, lost.first, lost.last) == ("0", 2, 4)
    assert b.statistics()["lost"] == b.statistics()["adapter"]["lost"] == 3


async def test_a_loss_at_the_tail_is_counted_at_the_next_heartbeat(runtime: Runtime) -> None:
    nodes = JoinedNodes(heartbeat=2.0)
    a, b = await start(nodes, "a"), await start(nodes, "b")
    # Each has heard of the other after the first heartbeat of both.
    await trio.sleep(2.5)
    nodes.cut("a", "b")
    a.broadcast("t", 1)
    nodes.heal()
    await trio.sleep(1.4)
    assert b.statistics()["lost"] == 0
    await trio.sleep(0.2)
    assert b.statistics()["lost"] == 1


async def test_a_repeated_message_is_delivered_once(runtime: Runtime) -> None:
    nodes = JoinedNodes()
    a, b = await start(nodes, "a"), await start(nodes, "b")
    there = await hearing(b)
    for _ in range(2):
        nodes._carry(a.adapter, "0", b'[1,"a","i",7,"t",null]\n1')  # type: ignore[arg-type]
    await settle()
    assert there.messages == [1]
    assert b.statistics()["adapter"]["repeated"] == 1


async def test_a_publisher_that_is_not_a_node_is_heard_without_numbers(runtime: Runtime) -> None:
    nodes = JoinedNodes()
    a, b = await start(nodes, "a"), await start(nodes, "b")
    there = await hearing(b)
    for n in range(2):
        data = b'[1,"cron","",0,"t","tick"]\n{"n":%d}' % n
        nodes._carry(a.adapter, "0", data)  # type: ignore[arg-type]
    await settle()
    assert there.messages == [Broadcast("t", "tick", {"n": n}) for n in range(2)]
    assert b.nodes() == (a.node,)


async def test_foreign_messages_are_counted_and_dropped(runtime: Runtime) -> None:
    events = Events(runtime, PUBSUB_MALFORMED)
    nodes = JoinedNodes()
    a, b = await start(nodes, "a"), await start(nodes, "b")
    for data in (b"hello", b'[1,"x","i",1,"t","e"]\n[]'):
        nodes._carry(a.adapter, "0", data)  # type: ignore[arg-type]
    await settle()
    assert b.statistics()["adapter"]["malformed"] == 2
    assert [metadata["problem"][:10] for _, _, metadata in events.seen] == [
        "its header",
        "its body i",
    ]


async def test_a_silent_node_is_down_after_the_timeout_and_up_when_it_is_heard_again(
    runtime: Runtime,
) -> None:
    events = Events(runtime, PUBSUB_NODE_UP, PUBSUB_NODE_DOWN)
    nodes = JoinedNodes(heartbeat=2.0, node_timeout=10.0)
    a, b = await start(nodes, "a"), await start(nodes, "b")
    await settle()
    assert a.nodes() == (b.node,)
    events.seen.clear()
    nodes.cut("a", "b")
    await trio.sleep(9.0)
    assert a.nodes() == (b.node,)
    await trio.sleep(4.0)
    assert a.nodes() == b.nodes() == ()
    assert [(event, metadata["reason"]) for event, _, metadata in events.seen] == [
        ("pubsub_node_down", "silent")
    ] * 2
    nodes.heal()
    await trio.sleep(2.0)
    assert (a.nodes(), b.nodes()) == ((b.node,), (a.node,))
    assert a.statistics()["lost"] == b.statistics()["lost"] == 0


async def test_a_killed_node_whose_successor_runs_is_replaced_and_no_warning_is_logged(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "channels.pubsub")
    events = Events(runtime, PUBSUB_NODE_DOWN)
    nodes = JoinedNodes(heartbeat=2.0, node_timeout=10.0)
    await start(nodes, "a")
    first = PubSub(nodes.adapter("b"))
    pid = await first.start_link()
    node = first.node
    await settle()
    # The goodbye of the first start does not arrive.
    nodes.cut("a", "b")
    await stop(pid)
    nodes.heal()
    await start(nodes, "b")
    await trio.sleep(13.0)
    assert [about["reason"] for _, _, about in events.seen if about["node"] == node] == ["replaced"]
    assert "heartbeat" not in caplog.text
    assert "The earlier start of node 'b' has ended, and a later one runs" in caplog.text


async def test_what_was_lost_while_a_node_was_silent_is_counted(runtime: Runtime) -> None:
    nodes = JoinedNodes(heartbeat=2.0, node_timeout=10.0)
    a, b = await start(nodes, "a"), await start(nodes, "b")
    await settle()
    nodes.cut("a", "b")
    for n in range(7):
        a.broadcast("t", n)
        await trio.sleep(10.0)
    assert b.nodes() == ()
    nodes.heal()
    await trio.sleep(3.0)
    assert (a.statistics()["lost"], b.statistics()["lost"]) == (0, 7)


async def test_each_start_is_a_new_and_later_incarnation(runtime: Runtime) -> None:
    nodes = JoinedNodes()
    b = await start(nodes, "b")
    incarnations: list[str] = []
    a = PubSub(nodes.adapter("a"))
    for _ in range(3):
        pid: Pid = await Supervisor.start_link([a.child_spec()])
        await settle()
        incarnations.append(a.node.incarnation)
        assert b.nodes() == (Node("a", a.node.incarnation),)
        await stop(pid)
        await trio.sleep(0.01)
        assert b.nodes() == ()
    assert len(set(incarnations)) == 3


async def test_two_nodes_with_one_name_are_reported_by_the_older_one(runtime: Runtime) -> None:
    events = Events(runtime, PUBSUB_NAME_TAKEN)
    nodes = JoinedNodes(heartbeat=2.0)
    one = await start(nodes, "a")
    await trio.sleep(1.0)
    other = await start(nodes, "a")
    await trio.sleep(2.0)
    older, younger = sorted([one, other], key=lambda each: each.node.incarnation)
    assert {metadata["pubsub"] for _, _, metadata in events.seen} == {older}
    assert events.seen[0][2]["node"] == younger.node


async def test_latency_keeps_the_order_of_a_sender(runtime: Runtime) -> None:
    nodes = JoinedNodes(latency=0.5)
    a, b = await start(nodes, "a"), await start(nodes, "b")
    there = await hearing(b)
    for n in range(3):
        a.broadcast("t", n)
        await trio.sleep(0.1)
    assert there.messages == []
    await trio.sleep(0.45)
    assert there.messages == [0, 1, 2]


async def test_an_adapter_is_not_replaced_or_started_twice_while_it_runs(runtime: Runtime) -> None:
    nodes = JoinedNodes()
    a = await start(nodes, "a")
    with pytest.raises(InvalidOperation, match="running already"):
        a.use(nodes.adapter("b"))
    with pytest.raises(InvalidOperation, match="running already"):
        await a.start_link()


async def test_an_endpoint_starts_and_stops_the_adapter_of_its_pubsub(serve: Serve) -> None:
    nodes = JoinedNodes()
    servers = [
        await serve(Endpoint(sockets={"/socket": UserSocket}, pubsub=PubSub(nodes.adapter(name))))
        for name in "ab"
    ]
    clients = [await server.connect() for server in servers]
    for client in clients:
        await client.join()
    servers[0].endpoint.broadcast("room:a", "shouted", {"n": 1})
    await settle()
    servers[1].endpoint.broadcast("room:a", "shouted", {"n": 2})
    await settle()
    for client in clients:
        frames = [frame for frame in client.frames() if frame[3] == "shouted"]
        assert frames == [[None, None, "room:a", "shouted", {"n": n}] for n in (1, 2)]


async def test_the_adapter_of_an_endpoint_stops_with_it() -> None:
    pubsub = PubSub(JoinedNodes().adapter("a"))
    endpoint = Endpoint(sockets={"/socket": UserSocket}, pubsub=pubsub)
    async with open_runtime():
        pid = await Supervisor.start_link([endpoint.child_spec(port=None)])
        assert pubsub.is_running
        await stop(pid)
        assert not pubsub.is_running


@pytest.mark.parametrize(
    "number", [b"1e999", b"-1e999", b"9" * 5000], ids=["large", "small", "long"]
)
async def test_a_number_beyond_python_is_counted_and_ends_no_process(
    runtime: Runtime, number: bytes
) -> None:
    nodes = JoinedNodes()
    a, b = await start(nodes, "a"), await start(nodes, "b")
    there, values = await hearing(b), await hearing(b, "values")
    for envelope in (
        b'[1,"cron","",0,"t","tick"]\n{"n":%b}' % number,
        b'[1,"cron","",0,"values",null]\n[%b]' % number,
        b'[1,"cron","",0,"t","tick"]\n{"n":1}',
        b'[1,"cron","",0,"values",null]\n[1]',
    ):
        nodes._carry(a.adapter, "0", envelope)  # type: ignore[arg-type]
    await settle()
    assert there.messages == [Broadcast("t", "tick", {"n": 1})]
    assert values.messages == [[1]]
    assert b.statistics()["undeliverable"] == 2


async def test_a_node_that_is_gone_gets_no_heartbeats_until_it_is_back(runtime: Runtime) -> None:
    nodes = JoinedNodes(heartbeat=2.0, node_timeout=10.0)
    a, b = await start(nodes, "a"), await start(nodes, "b")
    exchange = a.adapter.exchange  # type: ignore[attr-defined]
    await trio.sleep(2.5)
    a.direct_broadcast("b", "t", 1)
    a.direct_broadcast("nobody", "t", 1)
    nodes.cut("a", "b")
    a.direct_broadcast("b", "t", 2)
    await trio.sleep(12.5)
    assert a.nodes() == ()
    assert [lane for lane, _ in exchange.heartbeats()] == ["0"]
    nodes.heal()
    await trio.sleep(2.5)
    # It learns of the loss at the end, all the same.
    assert b.statistics()["lost"] == 1
    assert [lane for lane, _ in exchange.heartbeats()] == ["0", "@b"]


async def test_a_serializer_that_raises_is_counted_and_ends_no_process(runtime: Runtime) -> None:
    class Box:
        put = None

    class Broken:
        copies_json = True

        def broadcast(self, topic: str, event: str, payload: Any) -> bytes:
            raise ZeroDivisionError

    nodes = JoinedNodes()
    a, b = await start(nodes, "a"), await start(nodes, "b")
    lane = Fastlane(cast("Any", Box()), cast("Any", Broken()), frozenset())
    await Mailbox().start(lambda: b.subscribe("room", metadata=lane))
    for _ in range(10):
        a.broadcast("room", Broadcast("room", "said", {}))
        await settle()
    assert b.statistics()["undeliverable"] == 10


async def test_a_start_that_fails_leaves_nothing_behind(runtime: Runtime) -> None:
    nodes = JoinedNodes()
    adapter = nodes.adapter("a")

    class Twice:
        name = "twice"
        node = Node("a", "")
        broadcast, direct_broadcast = adapter.broadcast, adapter.direct_broadcast
        nodes, statistics, stop = adapter.nodes, adapter.statistics, adapter.stop

        def start(self, receiver: Receiver) -> list[ChildSpec]:
            first, *others = adapter.start(receiver)
            return [first, *others, first]

    pubsub = PubSub(Twice())
    with pytest.raises(Exception, match="deliver"):
        await pubsub.start_link()
    assert not pubsub.is_running
    assert not runtime.telemetry.handlers(PUBSUB_NODE_UP)
