"""A box office that sells a seat twice, and another that does not. The example of docs/howto/simulate-your-channel.md.

ashtree simulate examples.scenarios.theatre:evening --params office=hasty
ashtree simulate examples.scenarios.theatre:evening --params office=careful
"""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from actors import GenServer, Sender, call
from actors import Reply as Answer
from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.client import ClientChannel, PushTimeout, Refused, open_socket
from channels.testing import JoinsAnswered
from supervision import Supervisor, child_spec
from supervision.chaos import Storm
from supervision.simulation import World, scenario

__all__ = ["evening"]

SEATS = 8

Tickets = dict[int, set[str]]
"""The visitors that got a ticket, for each seat."""


class Seats(GenServer[dict[int, str]]):
    """The owners of the seats. The dict represents a database, which outlives this process."""

    async def init(self, sold: dict[int, str]) -> None:
        self.state = sold

    async def handle_call(self, request: Any, sender: Sender) -> Answer:
        match request:
            case ("whose", seat):
                return Answer(self.state.get(seat))
            case ("give", seat, name):
                self.state[seat] = name
                return Answer("given")
            case ("give if free", seat, name):
                return Answer("given" if self.state.setdefault(seat, name) == name else "taken")
        raise ValueError(f"seats know nothing of {request!r}")


class HastyBoxOffice(Channel):
    """A box office that checks a seat, and then sells it in a second step."""

    async def join(self, topic: str, payload: Any) -> None:
        self.name: str = payload["name"]

    @handle_in("book")
    async def book(self, payload: Any) -> PushReply:
        if await call("seats", ("whose", payload["seat"])) is not None:
            return PushReply({"reason": "taken"}, status="error")
        await call("seats", ("give", payload["seat"], self.name))
        return PushReply({"seat": payload["seat"]})


class CarefulBoxOffice(HastyBoxOffice):
    """A box office that leaves the decision to `Seats`, which handles one request after the other."""

    @handle_in("book")
    async def book(self, payload: Any) -> PushReply:
        if await call("seats", ("give if free", payload["seat"], self.name)) == "taken":
            return PushReply({"reason": "taken"}, status="error")
        return PushReply({"seat": payload["seat"]})


class HastySocket(Socket):
    """A socket with the hasty box office."""

    channels = {"box_office:*": HastyBoxOffice}


class CarefulSocket(Socket):
    """A socket with the careful box office."""

    channels = {"box_office:*": CarefulBoxOffice}


async def book(phone: ClientChannel, seat: int) -> str:
    """Ask for a seat. Return the status of the answer, or "timeout" if there is none."""
    try:
        await phone.push("book", {"seat": seat}, timeout=2)
    except Refused as refused:
        return refused.status
    except PushTimeout:
        return "timeout"
    return "ok"


async def visit(world: World, name: str, tickets: Tickets) -> None:
    """Book some seats one after the other. The client joins again by itself when its channel crashes."""
    stream = world.random("visitor", name)
    line = partial(world.network.connect, source=name)
    async with (
        open_socket("ws://theatre:4000/socket", connect=line) as socket,
        socket.channel("box_office:tonight", {"name": name}) as phone,
    ):
        for _ in range(world.params["bookings"]):
            await trio.sleep(stream.random())
            seat = stream.randrange(SEATS)
            status = await book(phone, seat)
            world.sometimes("the seats go away in the middle", status == "timeout")
            if status == "ok":
                world.note(f"{name} has seat {seat}")
                tickets.setdefault(seat, set()).add(name)


@scenario(
    faults=Storm(["/theatre/seats"], count=2, after=0.2, within=1.2, kinds=["kill"]),
    invariants=("all", JoinsAnswered),
    params={"office": "careful", "visitors": 4, "bookings": 4},
)
async def evening(world: World) -> None:
    """Visitors book at the same time, while faults kill the seats' process. No two visitors share a seat."""
    socket = {"hasty": HastySocket, "careful": CarefulSocket}[world.params["office"]]
    endpoint = Endpoint(sockets={"/socket": socket}, listen=world.network.open)
    seats = child_spec(Seats, {}, kwargs={"name": "seats"})
    office = endpoint.child_spec(host="theatre", port=4000)
    await Supervisor.start_link([seats, office], label="theatre")
    tickets: Tickets = {}
    async with trio.open_nursery() as nursery:
        for number in range(world.params["visitors"]):
            nursery.start_soon(visit, world, f"visitor {number}", tickets)
    for seat, names in tickets.items():
        world.check(len(names) == 1, f"seat {seat} was sold to {' and to '.join(sorted(names))}")
