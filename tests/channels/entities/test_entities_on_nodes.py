"""Entities on several nodes: requests between nodes, moves, drains, lost nodes, and the order of requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec
import pytest
import trio

from actors import (
    KILLED,
    NOCONNECTION,
    NOPROC,
    Down,
    Reply,
    Runtime,
    Sender,
    as_process,
    call,
    cast,
    current_pid,
    demonitor,
    kill,
    monitor,
    open_runtime,
    receive,
    send,
)
from channels.entities.entity import Entity
from channels.entities.errors import (
    EntityBusy,
    EntityCrashed,
    EntityError,
    EntityLost,
    EntityUnavailable,
)
from channels.entities.remote import ProcessAddress
from channels.entities.supervisor import EntitySupervisor
from channels.telemetry import ENTITY_BEGAN, ENTITY_HANDED_OVER, ENTITY_STARTED
from tests.channels.entities.arbiters import virtual_environment
from tests.channels.entities.nodes import Counter, Node, alone, cluster, listen
from tests.channels.support import settle

VIRTUAL_CLOCK = True


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    with virtual_environment():
        async with open_runtime(log=False) as opened:
            yield opened


def key_of(node: Node, like: str = "k") -> str:
    """A key that belongs to a node."""
    placement = node.router.placement
    return next(
        key for n in range(1000) if placement.choose(key := f"{like}{n}") == placement.me
    )


async def test_every_node_reaches_the_one_process_of_a_key(runtime: Runtime) -> None:
    _, nodes = await cluster("a", "b", "c")
    started = listen(runtime, ENTITY_STARTED)
    for number in range(10):
        for turn, node in enumerate(nodes):
            assert await call(node.via(f"key {number}"), "add") == turn + 1
    assert len(started) == 10
    assert len({each["router"].node for each in started}) == 3
    for node in nodes:
        place = await node.entities.where("key 0")
        assert place is not None
        assert place.node == started[0]["router"].node.name
    await nodes[0].entities.stop("key 0")
    assert [await each.entities.where("key 0") for each in nodes] == [None] * 3
    await nodes[1].entities.start("key 0")
    assert await nodes[2].entities.where("key 0") is not None
