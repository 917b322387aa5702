"""Presences in simulated runs: each run has its own times, so it gives the same result every time."""

from __future__ import annotations

import trio

from actors import send, spawn
from channels import PubSub
from channels.presence import Presence
from supervision import Supervisor
from supervision.laboratory.simulation.world.world import World
from tests.channels.presence.nodes import TOPIC
from tests.laws.scenarios import simulate

online = Presence()


async def three_people(world: World) -> None:
    pubsub = PubSub()
    await Supervisor.start_link([pubsub.child_spec(), online.child_spec(pubsub)])
    pids = [spawn(trio.sleep_forever) for _ in range(3)]
    for pid in pids:
        # The refs are part of the trace, as they are when a channel pushes them.
        send(pid, online.track(TOPIC, "ann", pid=pid))
        await trio.sleep(world.random("pause").random())


def test_a_presence_of_a_module_gives_each_run_of_a_seed_the_same_refs() -> None:
    first, second = simulate(three_people, seed=1), simulate(three_people, seed=1)
    assert first.passed
    assert first.trace == second.trace
    assert first.digest == second.digest
