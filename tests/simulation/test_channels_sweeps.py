"""The sweeps of channels pass on a healthy tree, reach their rare states, and their invariants raise no false alarm."""

from __future__ import annotations

import os
from typing import Any

import pytest
import trio

from channels import Endpoint, Mount
from channels.testing import JoinsAnswered
from supervision.laboratory.simulation.knobs import Knobs
from supervision.simulation import World
from tests.laws.memberships import MembershipsEnd
from tests.laws.scenarios import scenario, simulate
from tests.laws.subscriptions import SubscriptionsEnd
from tests.simulation.sweeps.channels.client import client
from tests.simulation.sweeps.channels.client_times import client_times
from tests.simulation.sweeps.channels.clients import Client
from tests.simulation.sweeps.channels.crowd import crowd
from tests.simulation.sweeps.channels.disks import redis_history, sqlite_history
from tests.simulation.sweeps.channels.endpoint import connections
from tests.simulation.sweeps.channels.entities import entities
from tests.simulation.sweeps.channels.entity_arbiters import entity_arbiters
from tests.simulation.sweeps.channels.entity_routers import entity_routers
from tests.simulation.sweeps.channels.histories import durable_channels, publishers, storages
from tests.simulation.sweeps.channels.lockstep import lockstep
from tests.simulation.sweeps.channels.longpoll import bodies, polling
from tests.simulation.sweeps.channels.nodes import two_nodes
from tests.simulation.sweeps.channels.presence import presence
from tests.simulation.sweeps.channels.pressure import pressure
from tests.simulation.sweeps.channels.pubsub import pubsub
from tests.simulation.sweeps.channels.redis import redis
from tests.simulation.sweeps.channels.room import Ledger, UserSocket
from tests.simulation.sweeps.channels.scripted import scripted_server
from tests.simulation.sweeps.channels.sockets import flusher, workers
from tests.simulation.sweeps.channels.tokens import tokens

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
# The number of seeds of each sweep in an ordinary test run.
SEEDS: dict[Any, int] = {
    lockstep: 4,
    crowd: 1,
    connections: 6,
    polling: 3,
    pubsub: 3,
    presence: 3,
    two_nodes: 1,
    client: 2,
    tokens: 3,
    pressure: 2,
    scripted_server: 3,
    client_times: 10,
    redis: 2,
    storages: 3,
    durable_channels: 2,
    publishers: 4,
    flusher: 3,
    workers: 3,
    bodies: 3,
    entities: 3,
    entity_routers: 6,
    entity_arbiters: 2,
    sqlite_history: 6,
    redis_history: 4,
}


@pytest.mark.parametrize("sweep", SEEDS, ids=lambda sweep: sweep.__name__)
def test_a_sweep_passes_on_a_healthy_tree(sweep: Any) -> None:
    for seed in range(SEEDS[sweep] * (100 if DEEP else 1)):
        simulate(sweep, seed, knobs=Knobs().drawn(seed)).check()


@pytest.mark.deep
@pytest.mark.parametrize(
    "sweep",
    [
        lockstep,
        connections,
        polling,
        pubsub,
        presence,
        pressure,
        scripted_server,
        redis,
        storages,
        durable_channels,
        publishers,
        flusher,
        workers,
        bodies,
        entities,
    ],
    ids=lambda sweep: sweep.__name__,
)
def test_a_sweep_reaches_each_of_its_rare_states(sweep: Any) -> None:
    seen: dict[str, bool] = {}
    for seed in range(300):
        outcome = simulate(sweep, seed, knobs=Knobs().drawn(seed)).check()
        for name, held in outcome.sometimes.items():
            seen[name] = seen.get(name, False) or held
    assert all(seen.values()), [name for name, held in seen.items() if not held]


def test_a_run_of_a_sweep_repeats_byte_for_byte() -> None:
    one, other = (simulate(lockstep, 7) for _ in range(2))
    assert (one.digest, one.steps_digest) == (other.digest, other.steps_digest)


@scenario(invariants=("all", JoinsAnswered, MembershipsEnd, SubscriptionsEnd))
async def the_same_ref_twice(world: World) -> None:
    """A client sends a push with the same ref as its join, before the server answers the join."""
    endpoint = Endpoint(sockets={"/socket": UserSocket})
    endpoint.ledger = Ledger()  # type: ignore[attr-defined] # the channels of the sweeps use it
    await endpoint.start_link(port=None)
    async with trio.open_nursery() as nursery:
        one = Client(world, endpoint, "client", carrier="asgi", params={"name": "client"})
        await one.connect(nursery)
        await one.send("1", "1", "room:a", "phx_join", {"acts": [["sleep", 1.0]]})
        await one.send("1", "1", "room:a", "echo", {"n": 1})
        await trio.sleep(2)
        world.check(len(one.take()) == 2, "both messages are answered")
        nursery.cancel_scope.cancel()


def test_a_reused_ref_is_no_second_answer_to_a_join() -> None:
    simulate(the_same_ref_twice, 0).check()


@scenario()
async def silence_that_rounds_down(world: World) -> None:
    """A client is silent from a time at which float arithmetic rounds: (heard + timeout) - heard < timeout."""
    heard, timeout = 15.275, 5.0
    assert (heard + timeout) - heard < timeout
    endpoint = Endpoint(sockets={"/socket": Mount(UserSocket, timeout=timeout)})
    endpoint.ledger = Ledger()  # type: ignore[attr-defined] # the channels of the sweeps use it
    await endpoint.start_link(port=None)
    async with trio.open_nursery() as nursery:
        await trio.sleep(heard)
        one = Client(world, endpoint, "client", carrier="asgi", params={"name": "client"})
        await one.connect(nursery)
        await trio.sleep(timeout + 1)
        world.check(one.code == 1002, f"a silent client was closed with {one.code}")


def test_the_check_for_silence_does_not_spin_at_a_rounding_error() -> None:
    knobs = Knobs(quantum=0.0, livelock_rounds=2000)
    simulate(silence_that_rounds_down, 0, knobs=knobs).check()
