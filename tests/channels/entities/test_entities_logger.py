"""The log lines of entities."""

from __future__ import annotations

import logging

import pytest
import trio

from actors import CallExit, Runtime, call, cast
from tests.channels.entities.nodes import Node, alone

VIRTUAL_CLOCK = True


async def ask(node: Node, request: object) -> None:
    with pytest.raises(CallExit):
        await call(node.via("a"), request)


async def test_the_log_names_what_stops_or_drops(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "channels.entities")
    node = await alone(max_restarts=0, max_entities=1, max_waiting=1)
    await node.entities.start("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, node.via("a"), ["sleep", 1])
        await trio.sleep(0.1)
        for message in range(3):
            cast(node.via("a"), message)
    await ask(node, "crash")
    node.router.arbiter.lease.lose("a test")
    await trio.sleep(0.1)
    lines = [each.getMessage() for each in caplog.records if each.name == "channels.entities"]
    assert lines == [
        "counters refused a request for 'a': max_waiting is 1",
        "counters dropped a cast for 'a': max_waiting is 1",
        "counters 'a' has crashed too often, and waits for 1 s",
        "The entities of counters on this node stop, because its lease is lost: a test",
    ]
