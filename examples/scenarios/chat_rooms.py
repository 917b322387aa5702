"""The chat, with its whole endpoint in a simulated world. Clients lose their channels and connections, and return.

    ashtree simulate examples.scenarios.chat_rooms:an_evening --seeds 1-100

Only the network is virtual. The WebSocket, the session and the supervisors are real. `live_chat.py` runs chaos on a
chat with real sockets.
"""

from __future__ import annotations

import trio

from channels import Endpoint
from channels.testing import JoinsAnswered
from examples.chat.server import UserSocket
from examples.scenarios.chat_client import ChatClient
from supervision import Supervisor
from supervision.chaos import Storm
from supervision.simulation import World, scenario

__all__ = ["an_evening"]

CHANNELS = "/top/endpoint/UserSocket channels/*/RoomChannel"


@scenario(
    faults=Storm(
        [CHANNELS],
        count=10,
        within=15.0,
        after=1.0,
        kinds=["kill", "crash", "reset_connection", "hold_connection", "partition"],
        connections=["client *"],
        hosts=["client 0", "client 1", "server"],
    ),
    invariants=("all", JoinsAnswered),
    params={"clients": 4, "seconds": 16.0},
)
async def an_evening(world: World) -> None:
    """Clients talk, and return after each fault. In the end, all clients are in the room and hear each other."""
    endpoint = Endpoint(sockets={"/socket": UserSocket}, listen=world.network.open)
    await Supervisor.start_link([endpoint.child_spec(host="server", port=4000)], label="top")
    clients = [
        ChatClient(
            number,
            world.random("client", number),
            world.network.connect,
            "server",
            4000,
            request=world.request,
        )
        for number in range(world.params["clients"])
    ]

    def everybody_is_here() -> bool:
        return all(client.joined for client in clients)

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(client.main)
        await trio.sleep(world.params["seconds"])
        world.sometimes("somebody is out when the faults end", not everybody_is_here())
        await world.recovered("everybody is in the room", everybody_is_here, within=30.0)
        heard = [client.tally.heard for client in clients]
        await world.eventually(
            "everybody hears somebody",
            lambda: all(
                client.tally.heard > before for client, before in zip(clients, heard, strict=True)
            ),
            within=10.0,
        )
        nursery.cancel_scope.cancel()
