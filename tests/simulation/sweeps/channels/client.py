"""Ashtree's own client against a real endpoint: one operation after the other, each with an exact result.

ashtree simulate tests.simulation.sweeps.channels.client:client --seeds 1-1000
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import trio
from attrs import define, field

from actors import kill
from channels import Endpoint, LongPoll, Mount
from channels.client import (
    ChannelClosed,
    ClientChannel,
    ClientSocket,
    Feed,
    Lifecycle,
    PushTimeout,
    Refused,
    open_socket,
)
from supervision.simulation import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.channels.room import CHECKED, Ledger, UserSocket

TOPICS = ("room:a", "room:b", "room:c")
TIMEOUT = 4.0
POLL = 8.0


@define(eq=False)
class Joined:
    """A channel of the client, and the messages that the client must get there."""

    channel: ClientChannel
    stack: AsyncExitStack
    got: list[Any] = field(factory=list)
    wanted: list[Any] = field(factory=list)


class ClientSweep:
    """The state of one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.random("operations")
        self.ledger = Ledger()
        self.endpoint = Endpoint(
            sockets={"/socket": Mount(UserSocket, longpoll=LongPoll(window=4.0), timeout=50.0)},
            listen=world.network.open,
        )
        self.endpoint.ledger = self.ledger  # type: ignore[attr-defined]
        self.socket: ClientSocket = None  # type: ignore[assignment] # `run` sets it
        self.channels: dict[str, Joined] = {}
        self.events: list[str] = []
        self.wanted: list[str] = []
        self.serial = 0
        self.what = ""

    def check(self, holds: object, problem: str) -> None:
        self.world.check(holds, f"{problem}, after {self.what}")

    def payload(self) -> dict[str, Any]:
        self.serial += 1
        return {"n": self.serial}

    def somebody(self) -> tuple[str, Joined] | None:
        return self.random.choice(sorted(self.channels.items())) if self.channels else None

    async def run(self) -> None:
        await self.endpoint.start_link(host="server", port=4000)
        kind = self.random.choice(("websocket", "websocket", "longpoll"))
        options: dict[str, Any] = {"transport": kind, "timeout": TIMEOUT, "poll_timeout": POLL}
        connect = partial(self.world.network.connect, source="client")
        async with (
            open_socket(
                "ws://server:4000/socket", params={"name": "client"}, connect=connect, **options
            ) as self.socket,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self.listen, self.socket.events())
            for _ in range(self.world.params["operations"]):
                operation = self.random.choices(*zip(*OPERATIONS, strict=True))[0]
                self.what = operation.__name__
                await operation(self)
                await trio.sleep(2)
                await self.compare()
            for joined in self.channels.values():
                await joined.stack.aclose()
            nursery.cancel_scope.cancel()
        await trio.sleep(16)
        figures = self.endpoint.statistics()
        self.check(
            figures["subscriptions"] == 0, f"the client has gone, but the figures are {figures}"
        )
        self.check(not self.ledger.alive(), f"channels are left: {self.ledger.alive()}")

    async def listen(self, events: Feed[Lifecycle]) -> None:
        async for event in events:
            self.events.append(type(event).__name__)

    async def compare(self) -> None:
        """Compare what the client got with what the server sent."""
        for topic, joined in self.channels.items():
            got, wanted = joined.got, joined.wanted
            self.check(got == wanted, f"the client got {got} on {topic}, not {wanted}")
            got.clear()
            wanted.clear()
            self.check(joined.channel.state == "joined", f"{topic} is {joined.channel.state}")
        self.check(self.socket.state == "open", f"the socket is {self.socket.state}")
        numbers = self.socket.statistics()
        self.check(
            (numbers.joined, numbers.buffered, numbers.malformed) == (len(self.channels), 0, 0),
            f"the figures are {numbers}, with {len(self.channels)} channels",
        )
        lives = [life.topic for life in self.ledger.alive()]
        self.check(sorted(lives) == sorted(self.channels), f"the server runs {lives}")

    # Operations

    async def join(self) -> None:
        topic = self.random.choice(TOPICS)
        if topic in self.channels:
            return
        stack = AsyncExitStack()
        refused = self.random.random() < 0.2
        answer = self.payload()
        acts = [["refuse", answer]] if refused else [["answer", answer]]
        try:
            channel = await stack.enter_async_context(
                self.socket.channel(topic, lambda: {"acts": acts})
            )
        except Refused as error:
            self.check(refused and error.payload == answer, f"the join was refused with {error}")
            return
        self.check(not refused and channel.response == answer, f"the join of {topic} was accepted")
        joined = self.channels[topic] = Joined(channel, stack)
        channel.listen("said", lambda payload, message: joined.got.append(payload))
        channel.listen("pushed", lambda payload, message: joined.got.append(payload))

    async def leave(self) -> None:
        found = self.somebody()
        if found is not None:
            topic, joined = found
            del self.channels[topic]
            await joined.stack.aclose()
            self.check(joined.channel.state == "closed", f"{topic} is {joined.channel.state}")
            self.endpoint.broadcast(topic, "said", self.payload())
            await trio.sleep(1)
            self.check(not joined.got, f"the client left {topic}, and got {joined.got}")

    async def push(self) -> None:
        """Push one message that the room answers, refuses, or never answers. Check the result."""
        found = self.somebody()
        if found is None:
            return
        _, joined = found
        payload, answer = self.payload(), self.payload()
        status = self.random.choice(("ok", "ok", "error", "odd", None))
        acts: list[Any] = [["push", "pushed", payload], ["broadcast", "said", payload]]
        joined.wanted += [payload, payload]
        if status is not None:
            acts.append(["reply", status, answer])
        began = self.world.seconds
        try:
            found_answer = await joined.channel.push("do", {"acts": acts})
        except Refused as error:
            self.check((error.status, error.payload) == (status, answer), f"the push got {error}")
        except PushTimeout:
            lasted = self.world.seconds - began
            self.check(status is None, f"the push timed out after {lasted:g} s")
            self.check(TIMEOUT - 0.2 <= lasted <= TIMEOUT + 0.3, f"it took {lasted:g} s")
        else:
            self.check((status, found_answer) == ("ok", answer), f"the push got {found_answer}")

    async def burst(self) -> None:
        """Push several messages without waiting, and check that each push gets its own answer."""
        found = self.somebody()
        if found is None:
            return
        # One request of a polling client carries at most a hundred messages.
        payloads = [self.payload() for _ in range(self.random.choice((2, 5, 5, 101, 120)))]
        pushes = [found[1].channel.push_nowait("echo", payload) for payload in payloads]
        answers = [await push.wait() for push in pushes]
        self.check(answers == payloads, f"{payloads} were answered {answers}")

    async def broadcast(self) -> None:
        topic = self.random.choice(TOPICS)
        for _ in range(self.random.randint(1, 3)):
            payload = self.payload()
            self.endpoint.broadcast(topic, "said", payload)
            if topic in self.channels:
                self.channels[topic].wanted.append(payload)

    async def crash(self) -> None:
        """Crash a channel. After about a second the client joins again, and then sends the pushes that waited."""
        found = self.somebody()
        if found is None:
            return
        topic, joined = found
        how = self.random.choice(("crash", "kill"))
        if how == "kill":
            kill(self.ledger.of("client", topic)[-1].pid)
        else:
            joined.channel.push_nowait("do", {"acts": [["crash"]]})
        await self.world.eventually(
            f"the channel of {topic} is lost", lambda: joined.channel.state == "errored", within=3.0
        )
        payload = self.payload()
        answer = await joined.channel.push("echo", payload, timeout=10.0)
        self.check(answer == payload, f"the push after the crash got {answer}")
        self.world.sometimes("a push waits for a rejoin")

    async def reset(self) -> None:
        """Reset all connections. The client connects and joins again."""
        for connection in list(self.world.network.connections):
            connection.reset()
        await trio.sleep(8)
        # A polling client needs this time, because it may keep its session or start a new one.
        await trio.sleep(14)

    async def silence(self) -> None:
        """Hold all connections for about as long as a time-out of the client, with a push on the way."""
        found = self.somebody()
        due = self.random.choice((0.5, TIMEOUT, POLL, 2 * POLL))
        lasts = due + self.random.choice((-0.4, 0.6))
        self.what += f" of {lasts:g} s"
        for connection in list(self.world.network.connections):
            connection.hold()
        began, push = self.world.seconds, None
        if found is not None:
            push = found[1].channel.push_nowait("echo", self.payload())
        await trio.sleep(lasts)
        for connection in list(self.world.network.connections):
            connection.release()
        if push is not None:
            result = "ok"
            try:
                await push.wait()
            except PushTimeout:
                result = "timeout"
                lasted = self.world.seconds - began
                self.check(lasted <= max(lasts, TIMEOUT) + 0.3, f"it timed out after {lasted:g} s")
            if lasts > TIMEOUT:
                self.check(result == "timeout", f"the push has the result {result}")
            elif lasts < TIMEOUT - 2.0:
                # On a slow network, the answer itself may take more than a second.
                self.check(result == "ok", f"the push has the result {result}")
        await self.world.eventually("the client is back", self.is_back, within=POLL + 4.0)
        # A poll that was under way may still end the session.
        await trio.sleep(POLL + 2.0)
        await self.world.eventually("the client is still back", self.is_back, within=4.0)

    def is_back(self) -> bool:
        joined = (joined.channel.state == "joined" for joined in self.channels.values())
        return self.socket.state == "open" and all(joined)

    async def stop(self) -> None:
        """Make the server close a channel, and check that the client does not join again."""
        found = self.somebody()
        if found is None:
            return
        topic, joined = found
        answer = self.payload()
        acts = [["reply", "ok", answer], ["stop", "normal"]]
        del self.channels[topic]
        found_answer = await joined.channel.push("do", {"acts": acts})
        self.check(found_answer == answer, f"the push got {found_answer}")
        await trio.sleep(3)
        self.check(joined.channel.state == "closed", f"{topic} is {joined.channel.state}")
        try:
            await joined.channel.push("echo", {})
        except ChannelClosed:
            await joined.stack.aclose()
            return
        self.check(False, f"a push to the closed channel of {topic} was answered")

    async def ping(self) -> None:
        seconds = await self.socket.ping()
        self.check(0 <= seconds < 1.5, f"a ping took {seconds:g} s")

    async def wait(self) -> None:
        """Send nothing but heartbeats for longer than the server's timeout. They keep the connection open."""
        before = self.socket.statistics().connections
        await trio.sleep(70)
        after = self.socket.statistics().connections
        self.check(before == after, f"the client connected {after - before} times in between")


OPERATIONS: list[tuple[Any, float]] = [
    (ClientSweep.join, 5),
    (ClientSweep.leave, 1),
    (ClientSweep.push, 5),
    (ClientSweep.burst, 2),
    (ClientSweep.broadcast, 4),
    (ClientSweep.crash, 2),
    (ClientSweep.reset, 0.7),
    (ClientSweep.silence, 1),
    (ClientSweep.stop, 1),
    (ClientSweep.ping, 0.5),
    (ClientSweep.wait, 0.3),
]


@scenario(params={"operations": 25}, invariants=("all", *CHECKED))
@small_bounds
async def client(world: World) -> None:
    """Random operations of one client, each with an exact result."""
    await ClientSweep(world).run()
