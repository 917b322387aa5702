"""A shop with a clerk at each counter. Customers keep coming while faults kill clerks.

    ashtree simulate examples.scenarios.shop:opening_day --seeds 1-200

The restart strategy and the restart limit are parameters, so that you can compare policies.
"""

from __future__ import annotations

import trio

from actors import CallExit, GenServer, NoProcess, Registry, Reply, Sender, call, current_runtime
from supervision import Backoff, Supervisor, child_spec
from supervision.chaos import Storm
from supervision.simulation import World, scenario

__all__ = ["opening_day"]

COUNTERS = ("bread", "cheese", "fish", "fruit")

counters: Registry[str, None] = Registry("unique", name="counters")


class Clerk(GenServer[int]):
    """A clerk who serves one customer after the other. A restarted clerk starts with an empty state."""

    async def init(self, counter: str) -> None:
        self.state = 0
        # The clerk needs a moment to unlock the till, and serves no customers in that time.
        await trio.sleep(0.05)
        counters.register(counter)

    async def handle_call(self, request: object, sender: Sender) -> Reply:
        await trio.sleep(current_runtime().random.uniform(0.0, 0.2))
        self.state += 1
        return Reply(f"your {request}, customer number {self.state}")


async def shop_around(world: World, number: int) -> None:
    """Go from counter to counter as a customer, and measure how often a clerk answers."""
    stream = world.random("customer", number)
    for _ in range(world.params["purchases"]):
        await trio.sleep(stream.expovariate(2.0))
        counter = stream.choice(COUNTERS)
        served = False
        try:
            await call(counters.via(counter), counter, timeout=1.0)
            served = True
        except NoProcess:
            world.sometimes("nobody is at the counter")
        except CallExit:
            world.sometimes("the clerk leaves in the middle of a sale")
        world.measure("served", served)


def everybody_works() -> bool:
    """Return True if every counter has a clerk."""
    return all(counters.whereis(counter) for counter in COUNTERS)


@scenario(
    faults=Storm(
        ["/shop/clerks/*"], count=12, after=0.5, within=10.0, kinds=["kill", "crash", "slow"]
    ),
    params={
        "max_restarts": 20,
        "strategy": "one_for_one",
        "pause": 0.0,
        "customers": 4,
        "purchases": 12,
    },
)
async def opening_day(world: World) -> None:
    """Faults kill clerks during the day. In the end, every counter has a clerk."""
    pause = world.params["pause"]
    clerks = Supervisor.child_spec(
        [child_spec(Clerk, counter, id=counter) for counter in COUNTERS],
        id="clerks",
        strategy=world.params["strategy"],
        max_restarts=world.params["max_restarts"],
        backoff=Backoff(pause, 8 * pause) if pause else None,
    )
    await Supervisor.start_link([clerks], label="shop", max_restarts=100)
    async with trio.open_nursery() as nursery:
        for number in range(world.params["customers"]):
            nursery.start_soon(shop_around, world, number)
    await world.recovered("everybody works", everybody_works, within=5.0)
