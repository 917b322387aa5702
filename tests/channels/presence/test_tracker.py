"""The tracker process: its messages to other nodes, its restarts, and what it does with bad messages."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import trio

from actors import SHUTDOWN, Runtime, kill, spawn, stop
from channels import Broadcast, PubSub
from channels.presence import Presence, wire
from channels.presence.clock import Version
from channels.presence.delta import Entry, Segment
from channels.presence.tracker import PAGE, gossip_topic
from channels.pubsub.envelope import unpack
from channels.telemetry import (
    PRESENCE_GOSSIP_REFUSED,
    PRESENCE_NODE_DOWN,
    PRESENCE_NODE_UP,
    PRESENCE_NOT_SENT,
)
from channels.testing import JoinedNodes
from supervision import Supervisor
from tests.channels.presence.nodes import (
    TOPIC,
    Client,
    Node,
    alone,
    child_of,
    cluster,
    diffs,
    listen,
    truth,
)
from tests.channels.support import Mailbox, settle

GOSSIP = gossip_topic("Presence")


class Wire:
    """The presence messages that nodes send, as they travel, from now on."""

    def __init__(self, nodes: JoinedNodes) -> None:
        self.sent: list[tuple[str, str, wire.Message]] = []
        self.lost: Callable[[str, str, wire.Message], bool] = lambda *_: False
        nodes.loses = self._hear

    def _hear(self, one: str, other: str, lane: str, data: bytes) -> bool:
        _, encoded = unpack(data, max_bytes=10_000_000)
        if encoded is None or encoded.topic != GOSSIP:
            return False
        message = wire.decode_message(encoded.message()[1])
        self.sent.append((one, other, message))
        return self.lost(one, other, message)

    def of(self, kind: type, one: str | None = None) -> list[Any]:
        return [
            message
            for sender, _, message in self.sent
            if isinstance(message, kind) and one in (None, sender)
        ]


def up(presence: Presence) -> int:
    numbers = presence.statistics()
    return numbers["nodes"] - numbers["nodes_down"]


async def say(pubsub: PubSub, value: Any) -> None:
    """Say something on the topic of the nodes, as another node would."""
    pubsub.local_broadcast(GOSSIP, value)
    await settle()


# Heartbeats and changes


async def test_a_node_that_has_nothing_to_say_sends_heartbeats_at_its_interval(
    runtime: Runtime,
) -> None:
    nodes, _ = await cluster("a", "b", heartbeat=1.0, down_period=10.0)
    heard = Wire(nodes)
    await trio.sleep(10.0)
    beats = heard.of(wire.Heartbeat, "a")
    assert len(beats) == 10
    assert all(beat.delta == {} for beat in beats)


async def test_changes_go_out_at_once_and_then_once_in_an_interval(runtime: Runtime) -> None:
    nodes, (a, _) = await cluster("a", "b", interval=1.0, heartbeat=15.0)
    heard = Wire(nodes)
    a.joins("ann")
    await settle()
    assert len(heard.of(wire.Heartbeat, "a")) == 1
    for n in range(20):
        a.joins(f"user {n}")
        await trio.sleep(0.04)
    await trio.sleep(0.5)
    # A regular heartbeat without changes may fall between the others.
    beats = [beat for beat in heard.of(wire.Heartbeat, "a") if beat.delta]
    sizes = [len(beat.delta["a"].entries) for beat in beats]
    assert sum(sizes) == 21
    # One more if a regular heartbeat has some of the changes.
    assert sizes[0] == 1
    assert len(sizes) <= 3


async def test_a_node_alone_sends_nothing_and_keeps_no_changes(runtime: Runtime) -> None:
    presence = Presence()
    pubsub = await alone(presence)
    mailbox = Mailbox()
    await mailbox.start(lambda: pubsub.subscribe(GOSSIP))
    for n in range(200):
        pid = spawn(trio.sleep_forever)
        presence.track(TOPIC, n, pid=pid)
        kill(pid)
        await trio.sleep(0.1)
    assert mailbox.messages == []
    assert presence._tracking is not None
    assert presence._tracking.roster.state.extract({"local": Version(0, 0)}) == {}
    assert presence.statistics()["presences"] == 0


async def test_a_new_node_is_answered_by_a_heartbeat_and_asks_one_node_for_everything(
    runtime: Runtime,
) -> None:
    nodes, (a, b) = await cluster("a", "b")
    a.joins("ann")
    b.joins("bob")
    await trio.sleep(1.0)
    heard = Wire(nodes)
    ups = listen(runtime, PRESENCE_NODE_UP)
    c = Node(nodes, "c", Presence())
    await c.start()
    await trio.sleep(1.0)
    assert len(heard.of(wire.TransferRequest, "c")) == 1
    assert c.online() == ["ann", "bob"]
    assert sorted(each["node"] for each in ups) == ["a", "b", "c", "c"]


async def test_changes_larger_than_a_page_are_fetched_in_pages(runtime: Runtime) -> None:
    nodes, (a, b) = await cluster("a", "b", max_calls_per_second=1_000, interval=1.0)
    heard = Wire(nodes)
    a.joins(*(f"user {n}" for n in range(500)), text="x" * 500)
    await trio.sleep(3.0)
    assert b.online() == a.online()
    pages = heard.of(wire.Transfer, "a")
    assert len(pages) == pages[0].count > 2
    assert all(len(str(wire.encode_message(page))) < 2 * PAGE for page in pages)


async def test_a_transfer_whose_page_is_lost_is_asked_for_again(runtime: Runtime) -> None:
    nodes, (a, b) = await cluster("a", "b", max_calls_per_second=1_000)
    heard = Wire(nodes)
    lost: list[Any] = []

    def lose_one_page(one: str, other: str, message: Any) -> bool:
        if isinstance(message, wire.Transfer) and message.index == 1 and not lost:
            lost.append(message)
            return True
        return False

    heard.lost = lose_one_page
    a.joins(*(f"user {n}" for n in range(500)), text="x" * 500)
    await trio.sleep(20.0)
    assert len(lost) == 1
    assert b.online() == a.online()


async def test_a_node_that_asks_again_gets_the_pages_of_its_last_request_only(
    runtime: Runtime,
) -> None:
    nodes, (a, _) = await cluster("a", "b", max_calls_per_second=10_000)
    nodes.isolate("b")
    a.joins(*(f"user {n}" for n in range(1_000)), text="x" * 500)
    await trio.sleep(1.0)
    nodes.heal()
    heard = Wire(nodes)
    for n in range(20):
        request = wire.TransferRequest(ref=f"r{n}", clocks={"a": Version(*_version(a))})
        # The clock of the node is known here, so ask for everything since its start.
        request = wire.TransferRequest(
            ref=f"r{n}", clocks={"a": Version(request.clocks["a"].incarnation, 0)}
        )
        await say(a.pubsub, ["b", wire.encode_message(request)])
    await trio.sleep(0.5)
    last = [page for page in heard.of(wire.Transfer, "a") if page.ref == "r19"]
    assert len(last) == last[0].count
    assert len(heard.of(wire.Transfer, "a")) <= len(last) + 20


def _version(node: Node) -> Version:
    tracking = node.presence._tracking
    assert tracking is not None
    return tracking.roster.state.clocks()[node.name]


async def test_a_request_without_room_for_its_pages_is_refused_and_counted(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channels.presence.tracker._MAX_PAGES", 2)
    _, (a, b) = await cluster("a", "b", max_calls_per_second=10_000)
    refused = listen(runtime, PRESENCE_GOSSIP_REFUSED)
    a.joins(*(f"user {n}" for n in range(1_000)), text="x" * 500)
    await trio.sleep(5.0)
    assert b.online() == []
    assert a.presence.statistics()["transfers_refused"] > 0
    assert "there is no room" in refused[0]["problem"]


async def test_pages_to_a_node_that_goes_are_dropped(runtime: Runtime) -> None:
    nodes, (a, b) = await cluster("a", "b", max_calls_per_second=10_000)
    heard = Wire(nodes)
    a.joins(*(f"user {n}" for n in range(3_000)), text="x" * 500)
    await trio.sleep(0.15)
    assert heard.of(wire.Transfer, "a")
    await b.stop()
    await settle()
    sent = len(heard.of(wire.Transfer, "a"))
    assert sent < heard.of(wire.Transfer, "a")[0].count
    await trio.sleep(5.0)
    assert len(heard.of(wire.Transfer, "a")) == sent


# The end of a node


async def test_a_node_that_stops_hands_its_last_changes_over(runtime: Runtime) -> None:
    nodes, (a, b) = await cluster("a", "b", leave_grace=10.0, interval=5.0)
    pid = b.joins("bob")
    await trio.sleep(1.0)
    heard = Wire(nodes)
    b.presence.update(TOPIC, "bob", {"last": "words"}, pid=pid)
    await b.stop()
    await settle()
    assert len(heard.of(wire.Goodbye, "b")) == 1
    assert a.presence.snapshot(TOPIC)["bob"][0]["last"] == "words"


async def test_last_changes_larger_than_a_page_are_handed_over_too(runtime: Runtime) -> None:
    _, (a, b) = await cluster(
        "a", "b", leave_grace=10.0, interval=60.0, max_calls_per_second=10_000
    )
    b.joins("first")
    await trio.sleep(1.0)
    b.joins(*(f"user {n}" for n in range(500)), text="x" * 500)
    await b.stop()
    await settle()
    assert len(a.online()) == 501
    await trio.sleep(11.0)
    assert a.online() == []


async def test_an_owner_that_ends_with_its_node_has_left_in_the_last_message(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b", interval=60.0)
    pid = b.joins("bob")
    b.joins("eve")
    await trio.sleep(1.0)
    kill(pid)
    await b.stop()
    await settle()
    assert a.online() == []


async def test_a_node_that_is_silent_is_down_after_its_period_and_not_before(
    runtime: Runtime,
) -> None:
    nodes, (a, b) = await cluster("a", "b", heartbeat=1.0, down_period=10.0, permdown_period=60.0)
    b.joins("bob")
    await trio.sleep(1.0)
    downs = listen(runtime, PRESENCE_NODE_DOWN)
    nodes.isolate("b")
    await trio.sleep(8.9)
    assert a.online() == ["bob"]
    await trio.sleep(2.2)
    assert a.online() == []
    assert up(a.presence) == 1
    await trio.sleep(60.0)
    assert a.presence.statistics()["nodes"] == 1
    of_b = [(each["node"], each["reason"]) for each in downs if each["node"] == "b"]
    assert of_b == [("b", "silent"), ("b", "forgotten")]


async def test_clients_are_told_of_everybody_who_leaves_with_a_silent_node(
    runtime: Runtime,
) -> None:
    nodes, (a, b) = await cluster("a", "b", down_period=5.0)
    heard = await a.hears()
    b.joins("bob", "ben")
    await trio.sleep(1.0)
    nodes.isolate("b")
    await trio.sleep(8.0)
    nodes.heal()
    await trio.sleep(3.0)
    both = ["ben", "bob"]
    assert diffs(heard.messages) == [(both, []), ([], both), (both, [])]


async def test_a_node_that_is_down_comes_back_as_a_new_run_and_is_forgotten_in_the_end(
    runtime: Runtime,
) -> None:
    options: dict[str, Any] = {"heartbeat": 1.0, "down_period": 5.0, "permdown_period": 20.0}
    nodes, (a, b) = await cluster("a", "b", **options)
    b.joins("bob")
    await trio.sleep(1.0)
    nodes.isolate("b")
    await trio.sleep(8.0)
    assert a.online() == []
    await b.stop()
    nodes.heal()
    again = Node(nodes, "b", Presence(**options))
    await again.start()
    again.joins("ben")
    await trio.sleep(3.0)
    assert a.online() == ["ben"]
    nodes.isolate("b")
    await trio.sleep(8.0)
    assert (a.online(), a.presence.statistics()["nodes"]) == ([], 2)
    await trio.sleep(20.0)
    assert a.presence.statistics()["nodes"] == 1


async def test_a_node_learns_of_joins_and_leaves_through_a_third_one(runtime: Runtime) -> None:
    nodes, (a, _, c) = await cluster("a", "b", "c")
    # `c` gets the heartbeats of `a`, but none of its changes.
    heard = Wire(nodes)

    def has_changes(one: str, other: str, message: wire.Message) -> bool:
        is_answer = isinstance(message, wire.Transfer | wire.TransferRequest)
        has_delta = isinstance(message, wire.Heartbeat) and bool(message.delta)
        return {one, other} == {"a", "c"} and (is_answer or has_delta)

    heard.lost = has_changes
    ann = a.joins("ann")
    await trio.sleep(10.0)
    assert c.online() == ["ann"]
    kill(ann)
    await trio.sleep(10.0)
    assert c.online() == []


# Restarts of the process


@pytest.mark.parametrize("how", ["killed", "crashed", "stopped"])
async def test_a_tracker_that_is_replaced_forgets_nobody(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    nodes, (a, b) = await cluster("a", "b")
    said = Wire(nodes)
    heard = [await node.hears() for node in (a, b)]
    ann = a.joins("ann")
    await trio.sleep(0.5)
    tracker = await a.child("tracker")
    if how == "killed":
        kill(tracker)
    elif how == "crashed":
        decode = wire.decode_message

        def fail_once(value: Any) -> wire.Message:
            monkeypatch.setattr(wire, "decode_message", decode)
            raise LookupError("a mistake of ours")

        monkeypatch.setattr(wire, "decode_message", fail_once)
        await say(a.pubsub, ["b", []])
    else:
        await stop(tracker, SHUTDOWN)
    await trio.sleep(1.0)
    assert await a.child("tracker") is not tracker
    a.joins("amy")
    await trio.sleep(1.0)
    assert a.online() == b.online() == ["amy", "ann"]
    kill(ann)
    await trio.sleep(1.0)
    assert a.online() == b.online() == ["amy"]
    assert len(said.of(wire.Goodbye)) == (how == "stopped")
    for mailbox in heard:
        client = Client().hear(mailbox.messages)
        assert client.metas == truth(a.presence)
        assert client.left[-1] == "ann"


async def test_an_owner_that_ends_while_nobody_tracks_leaves(runtime: Runtime) -> None:
    presence, pubsub = Presence(), PubSub()
    spec = presence.child_spec(pubsub)
    supervisor = await Supervisor.start_link([spec])
    ann, bob = spawn(trio.sleep_forever), spawn(trio.sleep_forever)
    presence.track(TOPIC, "ann", pid=ann)
    await settle()
    kill(await child_of(supervisor, spec.id, "tracker"))
    presence.track(TOPIC, "bob", pid=bob)
    kill(ann)
    kill(bob)
    await settle()
    assert len(presence.snapshot(TOPIC)) == 0


async def test_a_grace_that_runs_survives_the_tracker(runtime: Runtime) -> None:
    presence, pubsub = Presence(leave_grace=5.0, heartbeat=10.0), PubSub()
    spec = presence.child_spec(pubsub)
    supervisor = await Supervisor.start_link([spec])
    pid = spawn(trio.sleep_forever)
    presence.track(TOPIC, "ann", pid=pid)
    kill(pid)
    await trio.sleep(1.0)
    kill(await child_of(supervisor, spec.id, "tracker"))
    await trio.sleep(3.5)
    assert list(presence.snapshot(TOPIC)) == ["ann"]
    await trio.sleep(1.0)
    assert len(presence.snapshot(TOPIC)) == 0


# Names and incarnations


async def test_a_node_whose_clock_was_set_back_begins_a_newer_incarnation(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes, (a, b) = await cluster("a", "b")
    b.joins("bob")
    await trio.sleep(0.5)
    now = runtime.now
    for how in ("goodbye", "silence"):
        if how == "silence":
            nodes.isolate("b")
            await b.stop()
            await trio.sleep(40.0)
            nodes.heal()
        else:
            await b.stop()
        monkeypatch.setattr(runtime, "now", lambda: now() - 100_000.0)
        b = Node(nodes, "b", Presence())
        await b.start()
        b.joins("ben")
        await trio.sleep(3.0)
        assert a.online() == b.online() == ["ben"], how
        monkeypatch.setattr(runtime, "now", now)


async def test_two_nodes_of_one_name_are_reported_and_do_not_outbid_each_other(
    runtime: Runtime,
) -> None:
    nodes, (a, b) = await cluster("a", "b")
    twin = Node(nodes, "b", Presence())
    await twin.start()
    b.joins("bob")
    twin.joins("ben")
    refused = listen(runtime, PRESENCE_GOSSIP_REFUSED)
    await trio.sleep(5.0)
    incarnations = [_version(node).incarnation for node in (b, twin)]
    await trio.sleep(60.0)
    assert [_version(node).incarnation for node in (b, twin)] == incarnations
    assert a.online() == ["ben"]
    assert any("own name" in each["problem"] for each in refused)


# Bad messages


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        {},
        [],
        ["b"],
        [7, ["heartbeat", 1, {}, {}]],
        ["", ["heartbeat", 1, {}, {}]],
        ["b", ["heartbeat", -1, {}, {}]],
        ["b", ["nonsense"]],
        ["b", ["goodbye", 1, {}]],
        ["b", ["request", "r", {}]],
        ["b", ["transfer", "r", 0, 1, {}]],
        Broadcast(GOSSIP, "event", {}),
    ],
    ids=str,
)
async def test_a_bad_message_is_dropped(runtime: Runtime, value: Any) -> None:
    presence = Presence()
    pubsub = await alone(presence)
    await say(pubsub, value)
    numbers = presence.statistics()
    assert (numbers["nodes"], numbers["presences"]) == (1, 0)
    presence.track(TOPIC, "ann", pid=spawn(trio.sleep_forever))
    assert list(presence.snapshot(TOPIC)) == ["ann"]
    is_whole = (
        isinstance(value, list) and value[1:] and value[1][0] in {"goodbye", "request", "transfer"}
    )
    assert numbers["refused"] == (0 if is_whole else 1)


async def test_pages_that_nobody_asked_for_from_a_stranger_take_no_memory(
    runtime: Runtime,
) -> None:
    presence = Presence()
    pubsub = await alone(presence)
    for n in range(100):
        page = {f"n{n}": [1, 0, 1, [[1, TOPIC, "eve", "pid", {"phx_ref": "x"}]], []]}
        await say(pubsub, [f"n{n}", ["transfer", "r", 0, 2, page]])
    assert presence.statistics()["presences"] == 0
    assert presence._tracking is not None


async def test_a_message_beyond_the_limit_of_the_adapter_is_reported_and_costs_nothing_else(
    runtime: Runtime,
) -> None:
    nodes = JoinedNodes()
    a = Node(nodes, "a", Presence(), max_bytes=2_000)
    b = Node(nodes, "b", Presence())
    await a.start()
    await b.start()
    await trio.sleep(2.0)
    not_sent = listen(runtime, PRESENCE_NOT_SENT)
    heard = await a.hears()
    a.joins("ann", text="x" * 3_000)
    b.joins("bob")
    await trio.sleep(3.0)
    assert a.online() == ["ann", "bob"]
    assert b.online() == ["bob"]
    assert sorted(key for joins, _ in diffs(heard.messages) for key in joins) == ["ann", "bob"]
    assert a.presence.statistics()["not_sent"] == len(not_sent) > 0
    assert not_sent[0]["error"].limit == 2_000


async def test_a_node_name_that_is_too_long_for_presence_is_refused_at_the_start(
    runtime: Runtime,
) -> None:
    node = Node(JoinedNodes(), "n" * 256, Presence())
    with pytest.raises(Exception, match="the limit for presence is 255"):
        await node.start()


async def test_nodes_that_come_and_go_leave_nothing_behind(runtime: Runtime) -> None:
    nodes, (a,) = await cluster("a", heartbeat=1.0, down_period=2.0, permdown_period=5.0)
    for n in range(30):
        other = Node(
            nodes, f"pod-{n}", Presence(heartbeat=1.0, down_period=2.0, permdown_period=5.0)
        )
        await other.start()
        other.joins("ann")
        await trio.sleep(1.0)
        assert "ann" in a.online()
        await other.stop()
    await trio.sleep(10.0)
    assert a.presence.statistics()["nodes"] == 1
    assert a.online() == []


# Large changes


async def crowd(node: Node, users: int = 5_000) -> Mailbox:
    """Let a node hear of the presences of node z, until its readers see the first of them."""
    heard = await node.hears()
    entries = {
        n + 1: Entry("z", TOPIC, f"user {n}", "pid", {"phx_ref": f"z{n:05}"}) for n in range(users)
    }
    delta = {"z": Segment(incarnation=1, start=0, end=users, entries=entries)}
    beat = wire.Heartbeat(incarnation=1, clocks={"z": Version(1, users)}, delta=delta)
    node.pubsub.local_broadcast(GOSSIP, ["z", wire.encode_message(beat)])
    while not node.online():
        await trio.lowlevel.checkpoint()
    assert node.presence.statistics()["waiting_nodes"] == 1
    return heard


async def test_readers_see_thousands_of_presences_in_steps_with_room_for_others(
    runtime: Runtime,
) -> None:
    _, (a,) = await cluster("a")
    heard = await crowd(a)
    sizes = [0, len(a.online())]
    a.joins("ann")
    while a.presence.statistics()["waiting_nodes"]:
        sizes.append(len(a.online()))
        await trio.lowlevel.checkpoint()
    # Trio may run the tracker twice between two turns of this task.
    assert max(after - before for before, after in itertools.pairwise(sizes)) <= 2_001
    assert len(sizes) > 3
    assert len(a.online()) == 5_001
    assert a.presence.statistics()["slices"] >= 5
    await trio.sleep(1.0)
    assert Client().hear(heard.messages).metas == truth(a.presence)


async def test_the_next_tracker_shows_the_rest_of_what_the_last_one_has_begun(
    runtime: Runtime,
) -> None:
    _, (a,) = await cluster("a")
    tracker = await a.child("tracker")
    heard = await crowd(a)
    kill(tracker)
    await settle()
    assert len(a.online()) == 5_000
    await trio.sleep(1.0)
    assert Client().hear(heard.messages).metas == truth(a.presence)


@pytest.mark.parametrize("grace", [0.0, 3.0])
async def test_a_node_that_stops_while_readers_begin_to_see_it_leaves_nothing_behind(
    grace: float, runtime: Runtime
) -> None:
    _, (a,) = await cluster("a", leave_grace=grace)
    heard = await crowd(a)
    goodbye = wire.Goodbye(incarnation=1, delta={})
    a.pubsub.local_broadcast(GOSSIP, ["z", wire.encode_message(goodbye)])
    await settle()
    assert len(a.online()) == (5_000 if grace else 0)
    await trio.sleep(5.0)
    assert a.online() == []
    assert Client().hear(heard.messages).metas == {}
    assert a.presence.statistics()["waiting_nodes"] == 0
