"""Random joins, crashes of every process, failing fetches and netsplits: in the end clients know the truth."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import trio

from actors import Pid, Runtime, kill, spawn
from actors.process import is_alive
from channels.presence import Presence, Presences
from channels.testing import JoinedNodes
from tests.channels.presence.nodes import Client, Node, child_of, truth
from tests.channels.support import Mailbox

TOPICS = ("room:1", "room:2", "big:1")
NAMES = "abc"


class Shaky(Presence):
    """A presence whose fetch fails and hangs now and then."""

    def __init__(self, random: Random, **options: Any) -> None:
        super().__init__(
            name="shaky",
            down_period=6.0,
            permdown_period=30.0,
            counted_from=6,
            callback_timeout=2.0,
            **options,
        )
        self.random = random
        self.is_calm = False

    async def fetch(self, topic: str, presences: Presences) -> Presences:
        if not self.is_calm:
            await trio.sleep(self.random.choice((0.0, 0.0, 0.3, 5.0)))
            if self.random.random() < 0.1:
                raise LookupError("no database")
        return presences


class Storm:
    """Three nodes, a client of each topic on each, and owners that come and go."""

    def __init__(self, seed: int, grace: float) -> None:
        self.random = Random(seed)
        self.grace = grace
        self.network = JoinedNodes(latency=0.01)
        self.nodes: dict[str, Node] = {}
        self.heard: dict[tuple[str, str], Mailbox] = {}
        self.owners: list[tuple[str, str, str, Pid]] = []

    async def start(self, name: str) -> None:
        presence = Shaky(Random(self.random.random()), leave_grace=self.grace)
        node = self.nodes[name] = Node(self.network, name, presence)
        await node.start()
        for topic in TOPICS:
            self.heard[name, topic] = await node.hears(topic)

    async def stop(self, name: str) -> None:
        for where, _, _, owner in self.owners:
            if where == name:
                kill(owner)
        self.owners = [each for each in self.owners if each[0] != name]
        for topic in TOPICS:
            pid = self.heard.pop((name, topic)).pid
            assert pid is not None
            kill(pid)
        await self.nodes.pop(name).stop()

    async def step(self) -> None:
        random = self.random
        name = random.choice(NAMES)
        node = self.nodes[name]
        action = random.randrange(20)
        if action < 8:
            self.join(name)
        elif action < 12 and self.owners:
            kill(self.owners.pop(random.randrange(len(self.owners)))[-1])
        elif action < 15 and self.owners:
            where, topic, key, pid = random.choice(self.owners)
            number = random.randrange(3)
            self.nodes[where].presence.update(topic, key, {"n": number}, pid=pid)
        elif action == 15 and self.owners:
            where, topic, key, pid = self.owners.pop()
            self.nodes[where].presence.untrack(topic, key, pid=pid)
        elif action == 16:
            path = [f"presence {node.presence.name}", "tracker", "announcer"]
            victim = random.choice(path)
            pid = await (
                child_of(node.supervisor, victim) if victim == path[0] else node.child(victim)
            )
            kill(pid)
            await trio.sleep(0.1)
        elif action == 17 and random.random() < 0.3:
            self.network.heal()
            self.network.isolate(name)
        elif action == 18:
            self.network.heal()
        elif random.random() < 0.2:
            await self.stop(name)
            await trio.sleep(random.uniform(0.0, 2.0))
            await self.start(name)
        await trio.sleep(random.choice((0.0, 0.02, 0.2, 1.5)))

    def join(self, name: str) -> None:
        topic, key = self.random.choice(TOPICS), f"user {self.random.randrange(10)}"
        pid = spawn(trio.sleep_forever)
        self.nodes[name].presence.track(topic, key, {"n": 0}, pid=pid)
        self.owners.append((name, topic, key, pid))

    async def calm(self) -> None:
        """Let everything heal, then change each topic once more, so that clients that missed a diff get the next."""
        self.network.heal()
        for node in self.nodes.values():
            presence = node.presence
            assert isinstance(presence, Shaky)
            presence.is_calm = True
        await trio.sleep(45.0)
        for topic in TOPICS:
            for name in NAMES:
                pid = spawn(trio.sleep_forever)
                self.nodes[name].presence.track(topic, f"last of {name}", pid=pid)
                self.owners.append((name, topic, f"last of {name}", pid))
        await trio.sleep(20.0)

    def check(self) -> None:
        for topic in TOPICS:
            alive = [each for each in self.owners if each[1] == topic and is_alive(each[-1])]
            expected = sorted(key for _, _, key, _ in alive)
            size = len(set(expected))
            for name, node in self.nodes.items():
                known = truth(node.presence, topic)
                assert sorted(key for key, refs in known.items() for _ in refs) == expected
                client = Client().hear(self.heard[name, topic].messages)
                if client.metas:
                    there = {key: sorted(refs) for key, refs in client.metas.items()}
                    assert there == {key: sorted(refs) for key, refs in known.items()}
                else:
                    assert (client.count, size >= 5) == (size, True)
        for node in self.nodes.values():
            numbers = node.presence.statistics()
            assert (numbers["nodes"], numbers["nodes_down"]) == (3, 0)
            assert numbers["waiting_diffs"] == 0
            tracking = node.presence._tracking
            assert tracking is not None
            assert not tracking.roster._lingering
            assert len(tracking.roster.diffs) == 0


@pytest.mark.parametrize("grace", [0.0, 3.0])
@pytest.mark.parametrize("seed", range(4))
async def test_clients_know_the_truth_after_a_storm(
    runtime: Runtime, seed: int, grace: float
) -> None:
    storm = Storm(seed, grace)
    for name in NAMES:
        await storm.start(name)
    await trio.sleep(3.0)
    for _ in range(150):
        await storm.step()
    await storm.calm()
    storm.check()
