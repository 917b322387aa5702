"""The invariants of several nodes, over nodes that are joined in memory. tests/simulation plants bugs for them."""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from actors import Pid, kill, spawn, stop
from channels import PubSub
from channels.presence import Presence
from channels.pubsub.adapter import LostEnvelopes
from channels.testing import BroadcastsArrive, JoinedNodes, PresencesAgree
from supervision import Supervisor
from supervision.simulation import InvariantViolated, World
from tests.laws.scenarios import scenario, simulate

TOPIC = "room:1"
INVARIANTS = ("all", BroadcastsArrive, partial(PresencesAgree, within=5.0))


class Nodes:
    """Nodes of one runtime."""

    def __init__(self) -> None:
        self.network = JoinedNodes()
        self.pubsubs: dict[str, PubSub] = {}
        self.presences: dict[str, Presence] = {}
        self.tops: dict[str, Pid] = {}

    async def start(self, *names: str, **options: Any) -> None:
        for name in names:
            pubsub = self.pubsubs[name] = PubSub(self.network.adapter(name))
            presence = self.presences[name] = Presence(**options)
            children = [pubsub.child_spec(), presence.child_spec(pubsub)]
            self.tops[name] = await Supervisor.start_link(children, label=name)


def run(body: Any, **params: Any) -> Any:
    @scenario(invariants=INVARIANTS)
    async def nodes(world: World) -> None:
        nodes = Nodes()
        await nodes.start("a", "b")
        await trio.sleep(2.0)
        await body(nodes, world)

    return simulate(nodes, seed=1)


def test_nodes_that_exchange_everything_agree() -> None:
    async def body(nodes: Nodes, world: World) -> None:
        pid = spawn(trio.sleep_forever)
        nodes.presences["a"].track(TOPIC, "ann", pid=pid)
        await trio.sleep(20.0)
        assert PresencesAgree.problem() is None
        kill(pid)
        await trio.sleep(20.0)

    run(body).check()


def test_a_cut_that_nobody_has_announced_is_found() -> None:
    async def body(nodes: Nodes, world: World) -> None:
        nodes.network.cut("a", "b")
        nodes.presences["a"].track(TOPIC, "ann", pid=spawn(trio.sleep_forever))
        await trio.sleep(2.0)
        assert "there are missing ones" in str(PresencesAgree.problem())
        await trio.sleep(10.0)

    error = run(body).error
    assert isinstance(error, InvariantViolated)
    assert error.invariant == "presences_agree"
    assert "node b shows 0 presences of 'ann' in 'room:1'" in error.problem


def test_a_presence_that_lingers_is_no_ghost() -> None:
    async def body(nodes: Nodes, world: World) -> None:
        await nodes.start("c", "d", leave_grace=8.0, name="slow")
        pid = spawn(trio.sleep_forever)
        nodes.presences["c"].track(TOPIC, "ann", pid=pid)
        await trio.sleep(10.0)
        kill(pid)
        await trio.sleep(7.0)
        assert "ann" in nodes.presences["d"].snapshot(TOPIC)
        await trio.sleep(20.0)

    run(body).check()


def test_a_node_that_stops_takes_its_presences_with_it_though_their_processes_live() -> None:
    async def body(nodes: Nodes, world: World) -> None:
        nodes.presences["a"].track(TOPIC, "ann", pid=spawn(trio.sleep_forever))
        await trio.sleep(10.0)
        await stop(nodes.tops["a"])
        await trio.sleep(10.0)
        assert "ann" not in nodes.presences["b"].snapshot(TOPIC)

    run(body).check()


def test_losses_that_are_reported_are_allowed() -> None:
    async def body(nodes: Nodes, world: World) -> None:
        chance = world.random("losses")
        nodes.network.loses = lambda *_: chance.random() < 0.3
        for n in range(200):
            nodes.pubsubs["a"].broadcast(TOPIC, n)
            await trio.sleep(0.01)
        nodes.network.loses = lambda *_: False
        await trio.sleep(20.0)
        assert nodes.pubsubs["b"].statistics()["lost"] > 20

    run(body).check()


def test_a_report_of_more_than_was_lost_is_found() -> None:
    async def body(nodes: Nodes, world: World) -> None:
        nodes.pubsubs["a"].broadcast(TOPIC, 1)
        await trio.sleep(1.0)
        node = nodes.pubsubs["a"].node
        receiver: Any = exchanges[1].receiver
        receiver.lost(LostEnvelopes("0", node.name, node.incarnation, 1, 1))
        await trio.sleep(1.0)

    exchanges: list[Any] = []

    async def noted(nodes: Nodes, world: World) -> None:
        exchanges.extend(pubsub.adapter.exchange for pubsub in nodes.pubsubs.values())  # type: ignore[attr-defined] # the test's own seam
        await body(nodes, world)

    error = run(noted).error
    assert isinstance(error, InvariantViolated)
    assert "it reports the messages 1 to 1 of a" in error.problem
