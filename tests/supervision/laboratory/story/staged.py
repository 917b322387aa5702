"""Sixteen staged faults. They run in virtual time, so each fault has the same story in every run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from actors import (
    GenServer,
    NoReply,
    Reply,
    Sender,
    call,
    cast,
    current_runtime,
    kill,
    link,
    receive,
    send,
    spawn,
    trap_exits,
)
from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.durable import DurableChannel, History
from channels.pubsub.pubsub import PubSub
from channels.recording import record_channels
from channels.testing import ChannelTest, open_channel_test
from channels.testing.hearing import Subscriber
from channels.testing.transport import NoListener
from supervision import Supervisor, child_spec
from supervision.recording.conversion import Snapshot
from supervision.recording.flight import FlightRecorder, recorder_of
from supervision.simulation import World
from tests.laws.scenarios import simulate

__all__ = ["STAGED", "play", "snapshot"]


class Store(GenServer[dict[str, int]]):
    """A server that sells its goods, and takes its time for a slow request."""

    async def init(self, stop_takes: float = 0.0, fails: list[str] | None = None) -> None:
        if fails:
            raise ConnectionError(fails.pop())
        self.state = {"pear": 1}
        self.stop_takes = stop_takes
        if stop_takes:
            trap_exits()

    async def handle_call(self, request: Any, sender: Sender) -> Reply | NoReply:
        match request:
            case ("sell", fruit):
                self.state[fruit] -= 1
                return Reply("sold")
            case ("count", seconds):
                await trio.sleep(seconds)
        return Reply(len(self.state))

    async def handle_cast(self, message: Any) -> None:
        match message:
            case ("drop", fruit):
                del self.state[fruit]
            case ("rest", seconds):
                await trio.sleep(seconds)

    async def terminate(self, reason: Any) -> None:
        await trio.sleep(self.stop_takes)


class Asker(GenServer[None]):
    """A server that passes each cast on to the store, as a call."""

    async def handle_cast(self, message: Any) -> None:
        await call("store", message, timeout=2.0)


STORE = child_spec(Store, id="store", kwargs={"name": "store"})
ASKER = child_spec(Asker, id="asker", kwargs={"name": "asker"})
AUDIT = child_spec(Store, id="audit")


async def handler_raises() -> None:
    """A handler of a server raises while a message waits. The supervisor restarts the server."""
    await Supervisor.start([STORE, AUDIT], label="shop")
    await trio.sleep(1)
    cast("store", ("drop", "apple"))
    cast("store", ("drop", "pear"))
    await trio.sleep(1)


async def link_kills() -> None:
    """A process crashes, and two linked processes end with it. A third linked process traps exits and survives."""

    async def waits(*, traps: bool = False) -> None:
        if traps:
            trap_exits()
        link(first)
        while True:
            await receive()

    async def crashes() -> None:
        await receive()
        raise ValueError("the parser has no rule for ';'")

    first = spawn(crashes, label="parser")
    spawn(waits, label="reader")
    spawn(waits, label="writer")

    async def watches() -> None:
        await waits(traps=True)

    spawn(watches, label="monitor")
    await trio.sleep(1)
    send(first, "go")
    await trio.sleep(1)


async def brutal_kill() -> None:
    """A fault kills a busy server. Its waiting messages are lost, and a caller gets no answer."""
    await Supervisor.start([STORE], label="shop")

    async def asks() -> None:
        try:
            await call("store", ("count", 5.0), timeout=60.0)
        except Exception:  # the caller copes with it
            await trio.lowlevel.checkpoint()

    spawn(asks, label="customer")
    await trio.sleep(1)
    cast("store", ("rest", 1))
    cast("store", ("rest", 1))
    recorder = current_recorder()
    pid = current_runtime().names["store"].pid
    recorder.fault("kill", pid)
    kill(pid)
    await trio.sleep(1)


async def intensity_exceeded() -> None:
    """A child crashes more often than its supervisor allows. The supervisor above restarts the whole branch."""
    branch = Supervisor.child_spec(
        [STORE, AUDIT], id="branch", max_restarts=3, max_seconds=5.0, label="branch"
    )
    await Supervisor.start([branch], label="shop")
    for _ in range(4):
        await trio.sleep(1)
        cast("store", ("drop", "apple"))
    await trio.sleep(1)


async def rest_for_one() -> None:
    """The second of three children crashes under rest_for_one."""
    await Supervisor.start([AUDIT, STORE, ASKER], strategy="rest_for_one", label="shop")
    await trio.sleep(1)
    cast("store", ("drop", "apple"))
    await trio.sleep(1)


async def one_for_all() -> None:
    """The second of three children crashes under one_for_all."""
    await Supervisor.start([AUDIT, STORE, ASKER], strategy="one_for_all", label="shop")
    await trio.sleep(1)
    cast("store", ("drop", "apple"))
    await trio.sleep(1)


async def call_timeout() -> None:
    """A call times out, and its caller crashes. The server answers later."""
    await Supervisor.start([STORE, ASKER], label="shop")
    await trio.sleep(1)
    cast("asker", ("count", 3.0))
    await trio.sleep(5)


async def slow_terminate() -> None:
    """A sibling takes longer to stop than its limit, so its supervisor kills it."""
    slow = child_spec(Store, 9.0, id="slow", shutdown=2.0)
    await Supervisor.start([STORE, slow], strategy="one_for_all", label="shop")
    await trio.sleep(1)
    cast("store", ("drop", "apple"))
    await trio.sleep(5)


async def mailbox_full() -> None:
    """Messages arrive faster than a server handles them. Then the server is killed, and they are lost."""
    await Supervisor.start([STORE], label="shop")
    cast("store", ("rest", 60))
    await trio.sleep(1)
    for number in range(30):
        cast("store", ("rest", number))
    await trio.sleep(1)
    kill(current_runtime().names["store"].pid)
    await trio.sleep(1)


async def start_fails_again() -> None:
    """A crashed child cannot start at first, because its database is unreachable. The supervisor tries again."""
    fails: list[str] = []
    store = child_spec(Store, id="store", kwargs={"fails": fails, "name": "store"})
    await Supervisor.start([store], max_restarts=5, max_seconds=10.0, label="shop")
    await trio.sleep(1)
    fails += ["the database is away", "the database is away"]
    cast("store", ("drop", "apple"))
    await trio.sleep(1)


class Room(Channel):
    """A room that breaks on request."""

    @handle_in("say")
    async def say(self, payload: Any) -> PushReply:
        return PushReply(payload)

    @handle_in("boom")
    async def boom(self, payload: Any) -> None:
        await trio.sleep(0.5)
        raise RuntimeError("the room is broken")


class User(Socket):
    """A user with a name."""

    channels = {"room:*": Room}

    def id(self) -> str | None:
        name: str | None = self.assigns["name"]
        return name

    async def connect(self, params: Any, info: Any) -> None:
        self.assigns["name"] = params.get("name")


async def channel_crash() -> None:
    """A channel crashes while it handles a push. Its client joins again after a second."""
    endpoint = Endpoint(sockets={"/socket": User})
    async with open_channel_test(endpoint) as case:
        ann = await case.connect("/socket", {"name": "ann"})
        ben = await case.connect("/socket", {"name": "ben"})
        _, room = await ann.join("room:lobby")
        await ben.join("room:lobby")
        await trio.sleep(1)
        room.push("boom")
        room.push("say")
        await trio.sleep(1.5)
        await ann.join("room:lobby")
        await trio.sleep(1)


async def pubsub_killed() -> None:
    """A fault kills the PubSub process. rest_for_one restarts the endpoint too, and the client connects again."""
    pubsub = PubSub()
    endpoint = Endpoint(sockets={"/socket": User}, pubsub=pubsub, listen=NoListener.open)
    await Supervisor.start(
        [pubsub.child_spec(), AUDIT, endpoint.child_spec(port=0)],
        strategy="rest_for_one",
        label="shop",
    )
    pid = current_runtime().processes()[0]
    case = ChannelTest(endpoint, pid, await Subscriber.start(), 0.1)
    ann = await case.connect("/socket", {"name": "ann"})
    await ann.join("room:lobby")
    await trio.sleep(1)
    recorder = current_recorder()
    killed = recorder.places.find("/shop/pubsub")
    assert killed is not None
    recorder.fault("kill", killed)
    kill(killed)
    await trio.sleep(1)
    again = await case.connect("/socket", {"name": "ann"})
    await again.join("room:lobby")
    await trio.sleep(1)


async def connection_killed() -> None:
    """A fault kills the process of a connection. Its client connects again, and joins its two rooms again."""
    endpoint = Endpoint(sockets={"/socket": User})
    async with open_channel_test(endpoint) as case:
        ann = await case.connect("/socket", {"name": "ann"})
        await ann.join("room:lobby")
        await ann.join("room:attic")
        await trio.sleep(1)
        current_recorder().fault("kill", ann.pid)
        kill(ann.pid)
        await trio.sleep(1)
        again = await case.connect("/socket", {"name": "ann"})
        await again.join("room:lobby")
        await trio.sleep(1)
        await again.join("room:attic")
        await trio.sleep(1)


async def other_client_first() -> None:
    """A channel crashes. Another client joins the same topic before the client of the channel comes back."""
    endpoint = Endpoint(sockets={"/socket": User})
    async with open_channel_test(endpoint) as case:
        ann = await case.connect("/socket", {"name": "ann"})
        ben = await case.connect("/socket", {"name": "ben"})
        _, room = await ann.join("room:lobby")
        await trio.sleep(1)
        room.push("boom")
        await trio.sleep(1)
        await ben.join("room:lobby")
        await trio.sleep(1)
        await ann.join("room:lobby")
        await trio.sleep(1)


async def supervisor_killed() -> None:
    """A fault kills the supervisor of a branch. Its children end with it, and the branch is restarted."""
    branch = Supervisor.child_spec([STORE, AUDIT], id="branch", label="branch")
    await Supervisor.start([branch], label="shop")
    cast("store", ("rest", 60))
    await trio.sleep(1)
    cast("store", ("rest", 1))
    recorder = current_recorder()
    killed = recorder.places.find("/shop/branch")
    assert killed is not None
    recorder.fault("kill", killed)
    kill(killed)
    await trio.sleep(1)
    cast("store", ("rest", 0))
    await trio.sleep(1)


async def durable_rejoin() -> None:
    """The channel of a durable topic is killed. Its client joins again, and gets the message that it missed."""
    history = History()

    class Document(DurableChannel):
        pass

    Document.history = history

    class Writer(User):
        channels = {"document:*": Document}

    endpoint = Endpoint(sockets={"/socket": Writer}, histories=[history])
    async with open_channel_test(endpoint) as case:
        ann = await case.connect("/socket", {"name": "ann"})
        answer, channel = await ann.join("document:1", {})
        position = answer.response["_position"]
        await trio.sleep(1)
        assert channel.pid is not None
        current_recorder().fault("kill", channel.pid)
        kill(channel.pid)
        await history.append("document:1", "edited", {"text": "one"})
        await trio.sleep(1)
        _, again = await ann.join("document:1", {"_position": position})
        await again.assert_push("edited")
        await trio.sleep(1)


STAGED: dict[str, Callable[[], Awaitable[None]]] = {
    each.__name__: each
    for each in (
        handler_raises,
        link_kills,
        brutal_kill,
        intensity_exceeded,
        rest_for_one,
        one_for_all,
        call_timeout,
        slow_terminate,
        mailbox_full,
        start_fails_again,
        channel_crash,
        pubsub_killed,
        connection_killed,
        other_client_first,
        supervisor_killed,
        durable_rejoin,
    )
}


def current_recorder() -> FlightRecorder:
    recorder = recorder_of(current_runtime())
    assert recorder is not None
    return recorder


def play(name: str, **options: Any) -> list[bytes]:
    """Play a staged fault, and return its recording.

    In a simulated world, so that the order of tasks and the time of day are the same every time.
    """
    return snapshot(name, **options).lines()


def snapshot(name: str, *, messages: bool = True, **options: Any) -> Snapshot:
    """Play a staged fault, and return the records of its recorder, with or without messages."""
    recorded: list[Snapshot] = []

    async def scenario(world: World) -> None:
        runtime = current_runtime()
        runtime.mailbox_alarm = 20
        recorder = FlightRecorder(runtime, **options)
        record_channels(recorder)
        await STAGED[name]()
        recorded.append(recorder.snapshot(messages=messages))
        recorder.close()

    simulate(scenario, seed=1).check()
    return recorded[0]
