"""A story keeps what led to the failure, and leaves out what had nothing to do with it."""

from __future__ import annotations

from typing import Any

import trio

from actors import GenServer, Reply, call, cast, current_pid, send_after
from supervision import Supervisor, child_spec
from supervision.laboratory.simulation.replaying.story import tell
from supervision.simulation import World, simulate


class Ledger(GenServer[list[str]]):
    """A server that counts bids, and notes each sale."""

    async def init(self) -> None:
        self.state = []

    async def handle_cast(self, message: Any) -> None:
        if message[0] == "closed":
            self.state.append(message[1])

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply(self.state)


class House(GenServer[None]):
    """A node of the auction. It closes the auction on its own clock, which is the bug."""

    async def init(self, name: str, after: float) -> None:
        self.name = name
        send_after(current_pid(), "time is over", after)

    async def handle_info(self, message: Any) -> None:
        cast("ledger", ("closed", self.name))


class Gossip(GenServer[None]):
    """A server that talks only to itself and to another one like it."""

    async def init(self, to: str) -> None:
        self.to = to
        send_after(current_pid(), "tick", 0.1)

    async def handle_info(self, message: Any) -> None:
        cast(self.to, ("lot 7", "ann", "ben"))
        send_after(current_pid(), "tick", 0.1)

    async def handle_cast(self, message: Any) -> None: ...


async def race(world: World) -> None:
    """Two nodes close one auction at different times, among many bids and much gossip."""
    names = {"left": "right", "right": "left"}
    children = [
        child_spec(Ledger, id="ledger", kwargs={"name": "ledger"}),
        child_spec(House, id="north", args=("ann", 2.05)),
        child_spec(House, id="south", args=("ben", 3.05)),
        *(
            child_spec(Gossip, id=own, args=(to,), kwargs={"name": own})
            for own, to in names.items()
        ),
    ]
    await Supervisor.start(children, label="top")
    for number in range(100):
        await trio.sleep(0.1)
        cast("ledger", ("bid", "lot 7", "ann" if number % 2 else "ben"))
    sold = await call("ledger", "sold")
    world.check(len(sold) == 1, f"lot 7 was sold to {' and to '.join(sold)}")


def test_a_story_never_leaves_out_a_rare_event_in_the_causal_past() -> None:
    story = tell(simulate(race, 1))
    assert story.count("got ('closed', ") == 2, story
    assert "lot 7 was sold to ann and to ben" in story


def test_a_story_leaves_out_what_the_failure_does_not_depend_on() -> None:
    story = tell(simulate(race, 1))
    assert "/top/left" not in story
    assert "/top/right" not in story
