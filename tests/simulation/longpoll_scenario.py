"""An endpoint in a world, and clients that poll: one request after the other, each on a new connection."""

from typing import Any

import msgspec
import trio

from channels import Channel, Endpoint, LongPoll, Mount, PushReply, Socket, handle_in
from supervision.simulation import World
from tests.simulation.sweeps.bounds import small_bounds

PATH = "/socket/longpoll?vsn=2.0.0"
BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Room(Channel):
    """A channel that broadcasts every message."""

    async def join(self, topic: str, payload: Any) -> None:
        self.said = 0

    @handle_in("say")
    async def say(self, payload: Any) -> PushReply:
        self.said += 1
        self.broadcast("said", payload)
        return PushReply({"count": self.said})


class UserSocket(Socket):
    """A socket that allows every room."""

    channels = {"room:*": Room}


def room(world: World) -> Endpoint:
    """An endpoint that holds polls for four seconds, so a session without a poll lives for six to twelve seconds."""
    return Endpoint(
        sockets={"/socket": Mount(UserSocket, longpoll=LongPoll(window=4.0))},
        listen=world.network.open,
    )


class PollingClient:
    """The part of phoenix.js's LongPoll that the tests need."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.token = ""
        self.sessions = 0
        self.heard: list[list[Any]] = []

    async def ask(self, method: str, body: bytes = b"") -> dict[str, Any]:
        """Send one request, and return the body of the response."""
        head = (
            f"{method} {PATH} HTTP/1.1\r\nhost: server\r\nconnection: close\r\n"
            f"x-phoenix-longpoll-token: {self.token}\r\ncontent-type: application/x-ndjson\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        async with await self.world.network.connect("server", 4000, source=self.name) as stream:
            await stream.send_all(head.encode() + body)
            answer = b"".join([data async for data in stream])
        status, _, said = answer.partition(b"\r\n\r\n")
        self.world.check(status.startswith(b"HTTP/1.1 200"), f"{answer!r} is not an answer")
        return msgspec.json.decode(said, type=dict[str, Any])

    async def poll(self) -> int:
        """Poll once. If the session is gone, start a new one without any joins."""
        said = await self.ask("GET")
        if said["status"] == 410:
            self.sessions += 1
            self.token = said["token"]
        self.heard += [msgspec.json.decode(message) for message in said.get("messages", ())]
        return int(said["status"])

    async def send(self, *message: Any) -> int:
        """Post one message."""
        return int((await self.ask("POST", msgspec.json.encode(message)))["status"])

    async def join(self) -> bool:
        """Begin a session and join the room. Return False if the session was gone before that."""
        self.token = ""
        self.world.check(await self.poll() == 410, "without a token there is no session")
        status = await self.send("1", "1", "room:lobby", "phx_join", {})
        before = len(self.heard)
        if status == 410 or await self.poll() == 410:
            return False
        self.world.check(status == 200, f"the join was answered {status}")
        reply = self.heard[before]
        self.world.check(reply[3] == "phx_reply" and reply[4]["status"] == "ok", f"{reply}")
        return True

    def events(self, name: str) -> list[Any]:
        """Return the payloads of the events that arrived."""
        return [message[4] for message in self.heard if message[3] == name]


async def poll_through_a_hold(world: World) -> None:
    """A client joins and resumes after a short hold, and begins a new session after a long one."""
    endpoint = room(world)
    await endpoint.start_link(host="server", port=4000)
    client = PollingClient(world, "phone")
    world.check(await client.join(), "it has joined")

    world.network.partition("phone", "server")
    endpoint.broadcast("room:lobby", "said", {"n": 1})
    await trio.sleep(3)
    world.network.heal()
    endpoint.broadcast("room:lobby", "said", {"n": 2})
    while len(client.events("said")) < 2:
        await client.poll()
    world.check(client.events("said") == [{"n": 1}, {"n": 2}], f"{client.heard}")
    world.check(client.sessions == 1, "it was the same session")
    await client.send("1", "2", "room:lobby", "say", {"n": 3})
    await client.poll()
    world.check({"n": 3} in client.events("said"), f"{client.heard}")

    await trio.sleep(30)
    world.check(await client.send("1", "3", "room:lobby", "say", {"n": 4}) == 410, "it is gone")
    world.check(await client.join(), "it has joined")
    world.check(client.sessions == 2, "there is another")


async def keep_talking(world: World, client: PollingClient, endpoint: Endpoint) -> None:
    """Join, poll without a pause, and start again after every error."""
    while True:
        try:
            while await client.join():
                while await client.poll() != 410:
                    pass
        except BROKEN:
            world.note("a request broke", client=client.name)
            await trio.sleep(world.random(client.name).random())


@small_bounds
async def polls_under_faults(world: World) -> None:
    """Three clients poll while connections are reset and partitions come and go. In the end each gets new messages."""
    endpoint = room(world)
    await endpoint.start_link(host="server", port=4000)
    clients = [PollingClient(world, f"phone {number}") for number in range(3)]
    stream = world.random("faults")
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(keep_talking, world, client, endpoint)
        for number in range(10):
            await trio.sleep(stream.random() * 3)
            endpoint.broadcast("room:lobby", "said", {"n": number})
            if world.network.connections:
                stream.choice(world.network.connections).reset()
            world.network.partition(stream.choice(clients).name, "server")
            await trio.sleep(stream.random() * 8)
            world.network.heal()
        await trio.sleep(20)
        endpoint.broadcast("room:lobby", "said", {"n": "last"})
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    for client in clients:
        heard = client.events("said")
        world.check(heard[-1] == {"n": "last"}, f"{client.name} heard {heard}")
        numbers = [each["n"] for each in heard[:-1]]
        world.check(numbers == sorted(set(numbers)), f"{client.name} heard {numbers}")
    world.sometimes("a session was lost", any(client.sessions > 1 for client in clients))
