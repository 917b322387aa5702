"""Broadcasts between the clients of two nodes."""

from __future__ import annotations

import pytest

from channels import PubSub
from channels.messages import Broadcast
from channels.pubsub.adapter import encode
from channels.pubsub.envelope import pack, unpack
from channels.supabase import Change, Changes, raw_broadcast
from channels.testing import JoinedNodes
from tests.channels.conftest import Serve
from tests.channels.supabase.clients import TOPIC, Realtime, endpoint_of, error, raw, said, token


@pytest.mark.parametrize("private", [False, True])
async def test_broadcasts_reach_the_clients_of_another_node_and_skip_version_1_if_raw(
    serve: Serve, private: bool
) -> None:
    nodes = JoinedNodes()
    here, there = [
        await serve(endpoint_of(pubsub=PubSub(nodes.adapter(name)), messages=None))
        for name in ("here", "there")
    ]
    ann = await Realtime.open(here)
    bob, carl = await Realtime.open(there, "1.0.0"), await Realtime.open(there)
    for each in (ann, bob, carl):
        await each.join(private=private, access_token=token("writer"))
    ann.shout("cursor", {"x": 1})
    ann.shout("photo", b"\x00\xff")
    assert await carl.heard() == [said("cursor", {"x": 1}), raw("photo", b"\x00\xff")]
    assert await bob.heard() == [said("cursor", {"x": 1})]
    assert there.endpoint.pubsub.statistics()["undeliverable"] == 0


def test_a_raw_broadcast_is_the_same_after_the_bytes_between_workers_and_over_redis() -> None:
    payload = raw_broadcast(TOPIC, "photo", b"\x00\n\xff")
    sent = encode(TOPIC, Broadcast(TOPIC, "broadcast", payload))
    _, arrived = unpack(pack("a", "1", 7, sent))
    assert arrived is not None
    assert arrived.message() == Broadcast(TOPIC, "broadcast", payload)


async def test_changes_of_tables_reach_the_clients_of_another_node(serve: Serve) -> None:
    nodes = JoinedNodes()
    changes = Changes(lambda change, claims: True, name="c")
    here, there = [
        await serve(endpoint_of(pubsub=PubSub(nodes.adapter(name)), messages=None, changes=changes))
        for name in ("here", "there")
    ]
    client = await Realtime.open(there)
    await client.join(postgres_changes=[{"event": "*", "schema": "public", "table": "notices"}])
    changes.publish(here.endpoint.pubsub, Change(type="INSERT", table="notices", record={"id": 1}))
    ((event, payload),) = await client.heard()
    assert (event, payload["data"]["record"]) == ("postgres_changes", {"id": 1})


async def test_a_broadcast_that_is_too_large_for_other_nodes_gets_an_error(serve: Serve) -> None:
    nodes = JoinedNodes()
    pubsub = PubSub(nodes.adapter("here", max_bytes=1000))
    server = await serve(endpoint_of(pubsub=pubsub, messages=None))
    client = await Realtime.open(server)
    await client.join(broadcast={"ack": True, "self": True})
    client.shout("photo", "x" * 2000)
    assert await client.heard() == [error({"error": "payload_size_exceeded"})]
