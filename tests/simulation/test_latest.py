"""Values that may be dropped, over a slow line in a world: the newest ones arrive soon, and each run replays."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from attrs import evolve

from channels import Channel, Endpoint, Socket
from channels.client import open_socket
from supervision.laboratory.simulation.knobs import Knobs
from supervision.simulation import World
from tests.laws.scenarios import scenario, simulate
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.channels.endpoint import run_cases
from tests.simulation.sweeps.channels.pressure import values_for_a_reader
from tests.simulation.sweeps.channels.room import CHECKED

VEHICLES = 10
# Bytes a second: the line takes a tenth of the positions.
RATE = 1000
TICKS = 100


class Map(Channel):
    """A channel that only broadcasts."""


class MapSocket(Socket):
    """A socket with a map."""

    channels = {"map": Map}


async def drive(world: World) -> None:
    """Send positions for ten seconds to a client behind a slow line, with an ordinary message in their middle."""
    endpoint = Endpoint(sockets={"/socket": MapSocket}, listen=world.network.open)
    await endpoint.start_link(host="server", port=80)

    async def connect(host: str, port: int) -> Any:
        stream = await world.network.connect(host, port, source="phone")
        stream.connection.slow(RATE)
        return stream

    received: list[tuple[str, int]] = []
    up_to_date = trio.Event()
    async with (
        open_socket("ws://server/socket", connect=connect) as socket,
        socket.channel("map") as channel,
        trio.open_nursery() as nursery,
    ):

        @nursery.start_soon
        async def read() -> None:
            async for message in channel:
                received.append((message.event, message.payload["n"]))
                if message.payload["n"] == TICKS * VEHICLES - 1:
                    up_to_date.set()

        for tick in range(TICKS):
            for vehicle in range(VEHICLES):
                number = tick * VEHICLES + vehicle
                payload = {"vehicle": vehicle, "n": number, "street": "x" * 50}
                endpoint.broadcast_latest("map", "position", payload, key=str(vehicle))
            if tick == TICKS // 2:
                endpoint.broadcast("map", "closed", {"n": number})
            await trio.sleep(0.1)
        world.sometimes("the client was behind", endpoint.statistics()["latest"].replaced > 0)
        with trio.fail_after(10):
            await up_to_date.wait()
        nursery.cancel_scope.cancel()
    numbers = [number for _, number in received]
    assert numbers == sorted(numbers), "in the order of sending"
    assert numbers[-VEHICLES:] == list(range((TICKS - 1) * VEHICLES, TICKS * VEHICLES))
    assert [event for event, _ in received].count("closed") == 1
    assert len(received) < TICKS * VEHICLES / 2
    assert endpoint.statistics()["counts"] == {}


@pytest.mark.parametrize("seed", range(3))
def test_a_client_behind_a_slow_line_gets_the_newest_values_in_order(seed: int) -> None:
    # A small window, because bytes in the line can no longer be replaced.
    knobs = evolve(Knobs().drawn(seed), window=2048)
    outcome = simulate(drive, seed, knobs=knobs).check()
    again = simulate(drive, seed, knobs=knobs)
    assert (again.digest, again.steps_digest) == (outcome.digest, outcome.steps_digest)
    assert outcome.sometimes["the client was behind"]


@scenario(params={"cases": 1}, invariants=("all", *CHECKED))
@small_bounds
async def readers(world: World) -> None:
    """Run only the case of the sweep that sends values."""
    await run_cases(world, [values_for_a_reader])


def test_a_client_that_reads_now_and_then_gets_all_but_the_replaced_values_in_order() -> None:
    seen: set[str] = set()
    for seed in range(4):
        outcome = simulate(readers, seed, knobs=Knobs().drawn(seed)).check()
        seen.update(name for name, held in outcome.sometimes.items() if held)
    assert "values are replaced" in seen
