"""The verdict about the owners of entities in a merged trace, and the options of a cluster."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors import InvalidOption
from channels.laboratory.live_cluster import _Cluster, open_cluster, two_owners
from channels.laboratory.live_network import LiveNetwork
from supervision.chaos import DrainNode, KillNode, live
from supervision.laboratory.chaos.faults.moments import At
from supervision.laboratory.chaos.injection.surroundings import ClusterControl
from supervision.laboratory.chaos.live.experiment import Phases
from supervision.laboratory.chaos.live.service import ServiceLimits


def trace(*events: dict[str, Any]) -> list[bytes]:
    head = {"round": 0, "task": 0, "pid": 1}
    return [
        msgspec.json.encode({"n": n, "t": float(n), **head, **event})
        for n, event in enumerate(events)
    ]


def started(node: str, fence: int) -> dict[str, Any]:
    entity = {"entity": "Auction", "supervisor": "auctions", "key": "bell", "fence": fence}
    return {"kind": "entity_started", "node": node, **entity}


def began(node: str, fence: int) -> dict[str, Any]:
    return {"kind": "entity_began", "node": node, "fence": fence}


def sent(node: str) -> dict[str, Any]:
    return {"kind": "envelope_sent", "topic": "x", "node": node, "leaves": "m"}


def received(node: str, cause: int) -> dict[str, Any]:
    return {"kind": "envelope_received", "topic": "x", "node": node, "arrives": "m", "cause": cause}


def test_an_owner_that_works_after_a_message_of_the_next_owner_is_a_problem() -> None:
    lines = trace(started("a", 1), started("b", 2), sent("b"), received("a", 2), began("a", 1))
    assert two_owners(lines) == [
        "two owners of auctions/bell: a with fence 1 worked on after b had begun with fence 2"
    ]


def test_a_message_may_reach_the_earlier_owner_by_way_of_a_third_node() -> None:
    lines = trace(
        *(started("a", 1), started("b", 2), sent("b"), received("c", 2)),
        *(sent("c"), received("a", 4), began("a", 1)),
    )
    assert len(two_owners(lines)) == 1


def test_work_that_no_message_orders_after_the_next_owner_is_no_problem() -> None:
    assert two_owners(trace(started("a", 1), started("b", 2), began("a", 1))) == []


def test_an_owner_that_worked_before_the_next_owner_is_no_problem() -> None:
    lines = trace(started("a", 1), began("a", 1), started("b", 2), sent("b"), received("a", 3))
    assert two_owners(lines) == []


def test_an_owner_that_gets_its_key_back_is_no_problem() -> None:
    lines = trace(
        *(started("a", 1), started("b", 2), sent("b"), received("a", 2)),
        *({**started("a", 3), "pid": 2}, {**began("a", 3), "pid": 2}),
    )
    assert two_owners(lines) == []


def test_a_live_cluster_controls_nodes() -> None:
    assert issubclass(_Cluster, ClusterControl)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "workers or nodes, and not both"),
        ({"workers": 2, "nodes": 2}, "workers or nodes, and not both"),
        ({"workers": 0}, "workers"),
        ({"nodes": 2}, "redis://127.0.0.1:6379"),
    ],
)
async def test_a_cluster_needs_workers_or_nodes_and_nodes_need_redis(
    options: dict[str, Any], problem: str
) -> None:
    outcome = await run(options, network=LiveNetwork())
    assert isinstance(outcome.error, InvalidOption)
    assert problem in str(outcome.error)


async def test_a_cluster_needs_a_network() -> None:
    outcome = await run({"workers": 1}, network=None)
    assert "a run with network=LiveNetwork()" in str(outcome.error)


async def run(options: dict[str, Any], *, network: LiveNetwork | None) -> Any:
    async def scenario(world: Any) -> None:
        async with open_cluster(world, "examples.chat.server:endpoint", **options):
            raise AssertionError("it started")

    any_machine = ServiceLimits(max_late_share=1.0, max_wait_share=1.0, max_load=1000.0)
    return await live(
        scenario, 1, seconds=0.1, network=network, phases=Phases(before=0.1), limits=any_machine
    )


async def test_without_a_cluster_no_process_gets_a_signal() -> None:
    async def scenario(world: Any) -> None:
        await world.until_over()

    plan = (KillNode(node="worker.1", when=At(0.0)), DrainNode(node="node1", when=At(0.0)))
    outcome = await live(scenario, 1, seconds=0.1, faults=plan, phases=Phases(before=0.1))
    assert [each.status for each in outcome.fault_reports] == ["not_applicable"] * 2
