"""Recordings of nodes have the ids that put them into one order, although the clocks of the nodes differ."""

from __future__ import annotations

import gc
import json
import weakref
from sys import getsizeof
from typing import Any

import pytest
import trio

from actors import Runtime
from channels import PubSub
from channels.recording import record_channels
from channels.testing import JoinedNodes, SimulatedRedis
from examples.study.auction_nodes import bid, serve
from supervision.recording.flight import FlightRecorder
from supervision.recording.reader.merging import merge
from supervision.recording.ring import MESSAGE_BYTES
from supervision.simulation import World, simulate
from supervision.supervisor import Supervisor
from tests.supervision.recording.test_schema import check


def recorded(recorder: FlightRecorder, kind: str) -> list[dict[str, Any]]:
    lines = recorder.lines()
    for line in lines:
        check(json.loads(line))
    return [each for each in map(json.loads, lines) if each["kind"] == kind]


async def joined() -> PubSub:
    """Start two nodes, and return the PubSub of one of them when they know each other."""
    nodes = JoinedNodes()
    here, there = PubSub(nodes.adapter("here")), PubSub(nodes.adapter("there"))
    for pubsub in (here, there):
        await Supervisor.start_link([pubsub.child_spec()])
    await trio.sleep(1)
    return here


async def test_an_envelope_has_the_same_id_where_it_left_and_where_it_arrived(
    runtime: Runtime,
) -> None:
    recorder = FlightRecorder(runtime)
    record_channels(recorder)
    here = await joined()
    here.broadcast("room:1", {"any": "value"})
    await trio.sleep(1)
    [sent] = recorded(recorder, "envelope_sent")
    [received] = recorded(recorder, "envelope_received")
    assert sent["topic"] == received["topic"] == "room:1"
    assert sent["leaves"] == received["arrives"]
    assert sent["leaves"].startswith("here ")
    starts = {each["leaves"] for each in recorded(recorder, "node_named")}
    assert starts == {each["arrives"] for each in recorded(recorder, "node_up")}
    recorder.close()


async def test_a_closed_recorder_costs_a_node_no_memory_and_no_decoding(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = FlightRecorder(runtime)
    record_channels(recorder)
    here = await joined()
    recorder.close()
    unpacked: list[bytes] = []
    monkeypatch.setattr("channels.recording.nodes.unpack", lambda data, **_: unpacked.append(data))
    here.broadcast("room:1", {"any": "value"})
    await trio.sleep(1)
    assert unpacked == []
    closed = weakref.ref(recorder)
    del recorder
    gc.collect()
    assert closed() is None


async def test_the_envelopes_of_a_busy_node_push_out_no_other_events(runtime: Runtime) -> None:
    recorder = FlightRecorder(runtime, max_messages=50)
    record_channels(recorder)
    here = await joined()
    for number in range(1000):
        here.broadcast("room:1", number)
    await trio.sleep(1)
    assert recorder.statistics()["messages_dropped"] > 1000
    assert recorder.statistics()["events_dropped"] == 0
    largest = max(map(size_of_record, recorder.snapshot().records))
    assert largest <= MESSAGE_BYTES
    recorder.close()


def size_of_record(record: tuple[Any, ...]) -> int:
    """Return the memory of a record of an envelope, without the texts that all its records share."""
    if record[2] not in ("envelope_sent", "envelope_received"):
        return 0
    return getsizeof(record) + sum(getsizeof(each) for each in record if type(each) is not str) + 80


async def test_bytes_that_are_no_envelope_reach_the_exchange_and_are_not_recorded(
    runtime: Runtime,
) -> None:
    recorder = FlightRecorder(runtime)
    record_channels(recorder)
    pubsub = PubSub(JoinedNodes().adapter("here"))
    await Supervisor.start_link([pubsub.child_spec()])
    exchange = pubsub.adapter.exchange  # type: ignore[attr-defined] # of the adapter of the test
    heartbeat = b'[1,"a","b",3,"",null,"heartbeat"]'
    for data in (b"", b"x", b"[1]", b'{"a":1}', b'[1,["a"],"b",3,"t","e"]\n{}', heartbeat):
        exchange.receive("0", data)
    assert recorded(recorder, "envelope_received") == []
    assert exchange.statistics()["malformed"] == 5
    recorder.close()
    pubsub.broadcast("room:1", 1)
    assert recorded(recorder, "envelope_sent") == []


def test_the_recordings_of_nodes_with_other_clocks_tell_one_story() -> None:
    """Node b is an hour ahead, so its clock puts the takeover long after the end of the auction."""
    files: dict[str, list[bytes]] = {}

    async def evening(world: World) -> None:
        recorders: dict[str, FlightRecorder] = {}
        shared: tuple[Any, ...] = world.network.open, recorders, {}
        world.nodes.start("redis", SimulatedRedis().main)
        world.nodes.start("a", serve, *shared)
        await trio.sleep(2)
        world.nodes.start("b", serve, *shared)
        world.nodes.skew("b", 3600.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bid, world, "ann", "a", {})
            await trio.sleep(4)
            world.nodes.kill("a")
            await trio.sleep(6)
            nursery.cancel_scope.cancel()
        files.update({name: each.lines() for name, each in recorders.items()})

    simulate(evening, 1).check()
    events = [json.loads(line) for line in merge(files)]
    owners = [(each["node"], each["t"]) for each in events if each["kind"] == "entity_started"]
    [killed] = [each["t"] for each in events if each["kind"] == "node_killed"]
    assert [node for node, _ in owners] == ["a", "b"]
    # The lease has 2 seconds. The clock of b does not matter.
    assert 1.0 < owners[1][1] - killed < 5.0
    fences = [each["fence"] for each in events if each["kind"] == "entity_started"]
    assert fences == sorted(fences)
