"""Chaos on a live chat: many clients in one room, while faults hit channels, connections and supervisors.

    ashtree chaos examples.scenarios.live_chat:live_chat --seed 7 --for 60 --html report.html

The report shows the counts of the clients in a note, next to the counts from the trace.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import trio
from attrs import asdict

from channels import Endpoint
from channels.testing import JoinsAnswered
from examples.chat.server import UserSocket
from examples.scenarios.chat_client import ChatClient, Tally
from supervision.chaos import (
    At,
    DropMessage,
    Fault,
    HoldConnection,
    Kill,
    Raise,
    ResetConnection,
    Slow,
    StallLoop,
)
from supervision.simulation import scenario
from supervision.supervisor import Supervisor

__all__ = ["faults_for_a_chat", "live_chat"]

ENDPOINT = "/top/endpoint"
CHANNELS = f"{ENDPOINT}/UserSocket channels"
CHANNEL = f"{CHANNELS}/*/RoomChannel"


def faults_for_a_chat(random: Random, seconds: float = 60.0) -> tuple[Fault, ...]:
    """Return a plan with many small faults, and a few faults that end a branch of the tree.

    Args:
        random: The random numbers for times and targets.
        seconds: The length of the plan, which has about one fault a second.
    """

    def some(share: float, make: Callable[[At, float], Fault]) -> list[Fault]:
        number = max(1, round(share * seconds))
        times = sorted(random.uniform(0.02, 0.92) * seconds for _ in range(number))
        return [make(At(round(time, 3)), round(random.random(), 4)) for time in times]

    return (
        *some(0.35, lambda when, pick: Kill(target=CHANNEL, when=when, pick=pick)),
        *some(0.2, lambda when, pick: Raise(target=CHANNEL, when=when)),
        *some(0.2, lambda when, pick: ResetConnection(target="client *", when=when, pick=pick)),
        *some(
            0.08,
            lambda when, pick: HoldConnection(target="client *", when=when, pick=pick, seconds=1.5),
        ),
        *some(0.05, lambda when, pick: Slow(target=CHANNEL, when=when, seconds=0.8)),
        *some(0.05, lambda when, pick: DropMessage(target=CHANNEL, when=when, kind="new_msg")),
        Kill(target=f"{ENDPOINT}/poller", when=At(seconds * 0.15)),
        Kill(target=f"{CHANNELS}/0", when=At(seconds * 0.35)),
        StallLoop(seconds=0.4, when=At(seconds * 0.5)),
        Kill(target=f"{ENDPOINT}/connections", when=At(seconds * 0.65)),
        Kill(target=f"{ENDPOINT}/listener", when=At(seconds * 0.8)),
    )


@scenario(faults=faults_for_a_chat, invariants=("all", JoinsAnswered), params={"clients": 50})
async def live_chat(world: Any) -> Tally:
    """Run the chat and its clients until the experiment is over, and return the counts of the clients.

    Parameters: `clients` (50), `host` ("127.0.0.1") and `port` (0, which takes any free one).
    """
    params = world.params
    number_of_clients = params.get("clients", 50)
    clients: list[ChatClient] = []
    # Before the first await. Otherwise the faults could begin on a slow machine while nobody is there.
    world.steady("everybody is in the room", lambda: _everybody(clients, number_of_clients))
    endpoint = Endpoint(sockets={"/socket": UserSocket}, listen=world.listen)
    await Supervisor.start_link(
        [endpoint.child_spec(host=params.get("host", "127.0.0.1"), port=params.get("port", 0))],
        label="top",
    )
    host, port = endpoint.address
    clients += [
        ChatClient(
            number, world.random("client", number), world.connect, host, port, request=world.request
        )
        for number in range(number_of_clients)
    ]
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(client.main)
        await world.until_over()
        for client in clients:
            client.stop()
        with trio.move_on_after(2):
            for client in clients:
                await client.answered.wait()
        tally = Tally()
        for client in clients:
            tally.add(client.tally)
        world.note("what the clients counted", **_figures(tally))
        nursery.cancel_scope.cancel()
    return tally


def _everybody(clients: list[ChatClient], number: int) -> str | None:
    here = sum(client.joined for client in clients)
    return None if here == number else f"{here} of {number} are"


def _figures(tally: Tally) -> dict[str, Any]:
    figures = asdict(tally)
    out = sorted(figures.pop("out"))
    figures["slowest"] = round(tally.slowest, 3)
    figures["back_after_median"] = round(out[len(out) // 2], 3) if out else None
    return figures
