"""A user's program with much of the public API, checked by mypy --strict and by pyright in its strict mode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, assert_type

import pytest
import trio
from attrs import frozen

from actors import (
    Agent,
    Down,
    Exit,
    ExitReason,
    GenServer,
    KeepState,
    NoReply,
    Pid,
    Ref,
    Registry,
    Reply,
    Sender,
    StateMachine,
    Stop,
    Telemetry,
    Via,
    call,
    cast,
    current_pid,
    current_runtime,
    in_runtime,
    link,
    monitor,
    open_runtime,
    receive,
    reply,
    send,
    send_after,
    spawn,
    spawn_link,
    spawn_monitor,
    trap_exits,
    whereis,
)
from channels import (
    Binary,
    Broadcast,
    Channel,
    ConnectInfo,
    ConnectRefused,
    Endpoint,
    JoinRefused,
    Mount,
    PubSub,
    PushReply,
    Socket,
    SocketRef,
    handle_in,
    handle_out,
    reply_to,
    sign,
    verify,
)
from channels.client import (
    ClientChannel,
    ClientSocket,
    PushTimeout,
    Refused,
    RetryTable,
    open_socket,
)
from channels.presence import Presence
from channels.pytest_plugin import OpenChannelTest
from channels.testing import ANYTHING, ChannelTest, TestChannel, open_channel_test
from supervision import (
    ChildSpec,
    DynamicSupervisor,
    Exited,
    Ok,
    PartitionSupervisor,
    Supervisor,
    Task,
    TaskSupervisor,
    application,
    async_stream,
    child_spec,
    partition_of,
    render,
    tree_of,
)

SECRET = "a secret of 32 characters, or of even more"


# Servers and supervisors


class Counter(GenServer[None]):
    """A server with typed functions around its messages."""

    def __init__(self, start: int) -> None:
        self.count = start

    async def init(self) -> None:
        trap_exits()

    async def handle_call(self, request: Any, sender: Sender) -> Reply | NoReply | Stop:
        if request == "later":
            reply(sender, self.count)
            return NoReply()
        return Reply(self.count)

    async def handle_cast(self, change: Any) -> None:
        self.count += 1

    async def handle_info(self, message: Any) -> Stop | None:
        if isinstance(message, Exit):
            return Stop(message.reason)
        return None

    async def terminate(self, reason: ExitReason) -> None:
        pass


class Door(StateMachine):
    """A machine with one state."""

    initial_state = "closed"

    async def closed(self, event: Any) -> Any:
        return KeepState()


async def use_servers() -> None:
    pid = await Counter.start_link(1, name="counter")
    assert_type(pid, Pid)
    count: int = await call("counter", "count", timeout=1.0)
    cast(pid, count)
    send(pid, "hello")
    send_after(pid, "later", 0.5)
    ref = monitor(pid)
    assert_type(ref, Ref)
    link(pid)
    match await receive(timeout=1.0):
        case Down(reason=reason):
            print(reason)
        case _:
            pass
    agent = await Agent.start_link(dict[str, int])
    total: int = await Agent.get(agent, len)
    print(total, whereis("counter"), current_pid(), current_runtime().random.random())
    registry = Registry[str, int]("unique")
    registry.register("lobby", 7)
    lobby: Via = registry.via("hall")
    print(registry.lookup("lobby"), lobby)


async def worker(number: int) -> int:
    await trio.sleep(number)
    return number


async def use_supervisors() -> None:
    top = await Supervisor.start_link(
        [
            child_spec(Counter, 0),
            ChildSpec("other", Counter.start_link, args=(0,), restart="transient", shutdown=30.0),
            ChildSpec("third", Counter.start_link, (0,)),
        ],
        strategy="rest_for_one",
        max_restarts=5,
    )
    assert_type(top, Pid)
    pool = await DynamicSupervisor.start_link(max_children=10)
    child = await DynamicSupervisor.start_child(pool, child_spec(Counter, 2))
    print(child, render(tree_of(top)))
    shards = await PartitionSupervisor.start_link(
        child_spec(Counter, 0), partitions=2, name="shards"
    )
    print(shards, partition_of("ann", 2))
    tasks = await TaskSupervisor.start_link()
    task: Task[int] = await TaskSupervisor.async_(tasks, worker, 3)
    assert_type(await task, int)
    assert_type(await Task.async_(worker, 1).result(timeout=5.0), int)
    async with async_stream(worker, [1, 2, 3], max_concurrency=2) as outcomes:
        async for outcome in outcomes:
            match outcome:
                case Ok(value):
                    assert_type(value, int)
                case Exited(reason):
                    print(reason)
    spawn(worker, 1)
    spawn_link(worker, 1)
    process, watched = spawn_monitor(worker, 1)
    print(process, watched)


def on_crash(event: tuple[str, ...], measurements: Any, metadata: Any) -> None:
    print(event, measurements, metadata)


async def watch() -> None:
    async with open_runtime() as runtime:
        telemetry: Telemetry = runtime.telemetry
        detach = telemetry.attach(("actors", "process", "crash"), on_crash)
        with in_runtime(runtime):
            await use_servers()
        detach()


# Channels


@frozen
class NewMessage:
    """A message from a page."""

    body: str
    reply_to: int | None = None


@frozen
class Sent:
    """The reply to a message."""

    id: int


class Online(Presence):
    """Adds data to the list of the present users."""

    async def fetch(self, topic: str, presences: Any) -> Any:
        return presences


online = Online()


class RoomChannel(Channel):
    """A room."""

    pushes = {"new_msg": NewMessage, "photo": None}
    replies = {"new_msg": {"ok": Sent}}

    async def join(self, topic: str, params: Any) -> dict[str, Any] | None:
        if topic == "room:cellar":
            raise JoinRefused({"reason": "unauthorized"})
        self.name: str = params["name"]
        self.count = 0
        send(current_pid(), "after join")
        return {"topic": topic, "params": self.names_of(params)}

    def names_of(self, payload: Any) -> list[str]:
        return sorted(payload)

    async def handle_info(self, message: Any) -> None:
        online.track(self, self.name, {"device": "phone"})
        await online.push_state(self)

    @handle_in("new_msg")
    async def new_msg(self, payload: NewMessage) -> PushReply:
        self.count += 1
        self.broadcast("new_msg", payload)
        self.broadcast_from("other", {"body": payload.body})
        return PushReply(Sent(self.count))

    @handle_in("slow")
    async def slow(self, payload: Any) -> None:
        ref = self.socket_ref()
        assert_type(ref, SocketRef)
        reply_to(ref, PushReply({"done": True}))

    @handle_in("photo")
    async def photo(self, payload: Binary) -> Stop | None:
        self.push("photo", payload)
        return None

    @handle_out("new_msg")
    async def filter(self, payload: Any) -> None:
        if payload["body"]:
            self.push("new_msg", payload)


class UserSocket(Socket):
    """A user with a token."""

    channels = {"room:*": RoomChannel}

    async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
        if connect_info.peer_data is None:
            raise ConnectRefused("no address")
        self.assigns["user"] = verify(SECRET, "user socket", params.get("token"), max_age=60.0)

    def id(self) -> str | None:
        return f"user:{self.assigns['user']}"


pubsub = PubSub()
endpoint = Endpoint(
    sockets={"/socket": Mount(UserSocket, longpoll=True, compress=True)},
    presences=[online],
    pubsub=pubsub,
    max_connections=1000,
)


async def hear_the_news() -> None:
    pubsub.subscribe("news")
    message = await receive()
    if isinstance(message, Broadcast):
        print(message.topic, message.event, message.payload)
    endpoint.broadcast("room:lobby", "new_msg", {"body": "hello"})
    print(await online.list("room:lobby"), online.snapshot("room:lobby").presences)


def main() -> None:
    application.run([endpoint.child_spec(port=0)])


# The client


async def talk(channel: ClientChannel) -> None:
    try:
        answer: Any = await channel.push("new_msg", {"body": "hello"}, timeout=5.0)
        print(answer, channel.response)
    except (Refused, PushTimeout) as error:
        print(error)
    async for message in channel:
        print(message.event, message.payload)
        break


async def bot(url: str) -> None:
    token = sign(SECRET, "user socket", 7)
    assert_type(token, str)
    retry = RetryTable(steps=(0.1, 1.0), then=5.0)
    async with open_socket(url, params={"token": token}, rejoin=retry) as socket:
        assert_type(socket, ClientSocket)
        async with socket.channel("room:lobby", {"name": "bot"}) as channel:
            assert_type(channel, ClientChannel)
            with channel.on("new_msg") as messages:
                await talk(channel)
                async for payload in messages:
                    print(payload)
        with socket.events() as events:
            async for event in events:
                print(type(event).__name__)


# Tests


@pytest.fixture
async def case(channel_test: OpenChannelTest) -> ChannelTest:
    return await channel_test(endpoint)


@pytest.fixture
async def own_case() -> AsyncIterator[ChannelTest]:
    async with open_channel_test(endpoint) as opened:
        yield opened


async def enter(case: ChannelTest, name: str) -> TestChannel:
    client = await case.connect("/socket", {"token": sign(SECRET, "user socket", 7)})
    answer, room = await client.subscribe_and_join("room:lobby", {"name": name})
    assert_type(room, TestChannel)
    assert answer.status == "ok"
    return room


async def test_a_message_reaches_the_other(case: ChannelTest) -> None:
    ann, bob = await enter(case, "ann"), await enter(case, "bob")
    ref = ann.push("new_msg", {"body": "hello"})
    await ann.assert_reply(ref, "ok", {"id": ANYTHING})
    payload: Any = await bob.assert_push("new_msg", {"body": "hello"})
    assert payload["body"] == "hello"
    await bob.assert_push("other", lambda other: other["body"] == "hello")
