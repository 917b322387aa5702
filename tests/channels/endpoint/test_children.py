"""The application's own processes under an endpoint: their order, their restarts, and their part in a drain."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from actors import (
    GenServer,
    InvalidOption,
    Reply,
    Runtime,
    StartError,
    call,
    is_alive,
    kill,
    trap_exits,
)
from channels import Channel, Draining, Endpoint, EndpointError, Socket
from channels.durable import History
from channels.presence import Presence
from channels.serving.services import EndpointChild, Services
from supervision import ChildSpec, InvalidChildSpec, child_spec, process_spec, render
from tests.channels.conftest import Serve
from tests.channels.rooms import UserSocket
from tests.channels.support import Close, Footprint, named, reply, settle
from tests.channels.trees import child

ENDPOINT = {"/socket": UserSocket}


class Counter(GenServer[int]):
    """A process that counts its calls, and writes its start and its end into a list."""

    async def init(self, name: str = "counter", log: list[str] | None = None) -> None:
        trap_exits()
        self.name, self.log, self.state = name, [] if log is None else log, 0
        self.log.append(f"start {name}")

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        self.state += 1
        return Reply(self.state)

    async def terminate(self, reason: Any) -> None:
        self.log.append(f"stop {self.name}")


def counter(name: str, log: list[str] | None = None, **fields: Any) -> ChildSpec:
    return child_spec(Counter, name, log, kwargs={"name": name}, **fields)


class Mover(EndpointChild):
    """A child that writes its drain into a list."""

    def __init__(self, name: str, log: list[str], seconds: float = 0.0) -> None:
        self.name, self.log, self.seconds = name, log, seconds
        self.bound: list[Services] = []

    def __repr__(self) -> str:
        return f"<mover {self.name}>"

    def child_spec(self, services: Services) -> ChildSpec:
        self.bound.append(services)
        return counter(self.name, self.log)

    async def drain(self) -> None:
        self.log.append(f"drain {self.name}")
        await trio.sleep(self.seconds)
        self.log.append(f"drained {self.name}")


class Failing(Mover):
    async def drain(self) -> None:
        raise RuntimeError("no other node")


# The tree


async def test_children_start_after_presence_and_history_and_before_the_channels(
    serve: Serve,
) -> None:
    class Online(Presence):
        pass

    server = await serve(
        Endpoint(
            sockets=ENDPOINT,
            presences=[Online()],
            histories=[History()],
            children=[counter("first"), counter("second")],
        )
    )
    branches = [line for line in render(server.pid, pids=False).splitlines() if line[0] in "├└"]
    assert branches[:4] == [
        "├── presence Online (one_for_one)",
        "├── history history (one_for_one)",
        "├── children (one_for_one)",
        "├── UserSocket channels (one_for_one)",
    ]
    assert "│   ├── first\n│   └── second\n" in render(server.pid, pids=False)


async def test_a_channel_may_call_the_children_from_join_to_terminate(serve: Serve) -> None:
    log: list[str] = []

    class Room(Channel):
        async def join(self, topic: str, payload: Any) -> dict[str, Any]:
            trap_exits()
            return {"count": await call("first", "add")}

        async def terminate(self, reason: Any) -> None:
            log.append(f"channel got {await call('second', 'add')}")

    class RoomSocket(Socket):
        channels = {"room:*": Room}

    children = [counter("first", log), counter("second", log)]
    server = await serve(Endpoint(sockets={"/socket": RoomSocket}, children=children))
    client = await server.connect()
    got = await client.exchange(("1", "1", "room:a", "phx_join"))
    assert got == [reply("1", "1", "room:a", {"count": 1})]
    await server.stop()
    assert log == ["start first", "start second", "channel got 1", "stop second", "stop first"]
    assert server.runtime.processes() == []


async def test_children_are_what_a_supervisor_takes(serve: Serve) -> None:
    class Named:
        def child_spec(self) -> ChildSpec:
            return counter("spec of an object")

    class Startable:
        name = "start of an object"

        async def start_link(self) -> Any:
            return await Counter.start_link("object", name=self.name)

    children: list[Any] = [
        Counter,
        counter("spec"),
        Named(),
        Startable(),
        process_spec(trio.sleep_forever, id="plain"),
    ]
    server = await serve(Endpoint(sockets=ENDPOINT, children=children))
    supervisor = await child(server.pid, "children")
    tree = render(supervisor, pids=False).splitlines()
    assert [line.split(" ", 1)[1] for line in tree[1:]] == [
        "Counter",
        "spec",
        "spec of an object",
        "start of an object",
        "plain",
    ]


async def test_an_endpoint_with_children_stops_and_starts_again(serve: Serve) -> None:
    log: list[str] = []
    endpoint = Endpoint(sockets=ENDPOINT, children=[Mover("a", log), counter("b", log)])
    server = await serve(endpoint)
    await server.stop()
    assert server.runtime.processes() == []
    await serve(endpoint)
    assert is_alive(named("a"))
    assert log == ["start a", "start b", "drain a", "drained a", "stop b", "stop a", *log[:2]]


async def test_a_child_that_does_not_start_is_a_clear_start_error(runtime: Runtime) -> None:
    class Broken(GenServer[None]):
        async def init(self) -> None:
            raise RuntimeError("no database")

    before = Footprint.of(runtime)
    endpoint = Endpoint(sockets=ENDPOINT, children=[Broken])
    async with trio.open_nursery():
        with pytest.raises(StartError, match="no database"):
            await endpoint.start_link(port=0)
    assert Footprint.of(runtime) == before


# Restarts


async def test_a_crashed_child_restarts_and_the_endpoint_serves_on(serve: Serve) -> None:
    children = [counter("first"), counter("second")]
    server = await serve(Endpoint(sockets=ENDPOINT, children=children))
    client = await server.connect()
    old, other = named("first"), named("second")
    kill(old)
    await settle()
    assert named("first") is not old
    assert named("second") is other
    assert client.frames() == []


async def test_the_strategy_of_the_children_is_an_option(serve: Serve) -> None:
    children = [counter("first"), counter("second")]
    server = await serve(
        Endpoint(sockets=ENDPOINT, children=children, children_strategy="one_for_all")
    )
    other = named("second")
    kill(named("first"))
    await settle()
    assert named("second") is not other
    assert is_alive(server.pid)


@pytest.mark.parametrize("restarts", [0, 2])
async def test_if_the_supervisor_of_the_children_gives_up_the_endpoint_gives_up_too(
    serve: Serve, restarts: int, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = Endpoint(
        sockets=ENDPOINT,
        children=[counter("first")],
        children_max_restarts=restarts,
        children_max_seconds=60.0,
    )
    server = await serve(endpoint)
    client = await server.connect()
    for _ in range(restarts):
        kill(named("first"))
        await trio.sleep(10)
    assert is_alive(server.pid)
    kill(named("first"))
    await settle()
    assert Close(1012) in client.frames()
    client.end()
    await settle()
    assert not is_alive(server.pid)
    assert server.runtime.processes() == []


async def test_a_killed_supervisor_of_the_children_restarts_with_them(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT, children=[counter("first")]))
    old = named("first")
    kill(await child(server.pid, "children"))
    await settle()
    assert is_alive(named("first"))
    assert named("first") is not old
    assert is_alive(server.pid)


# Mistakes


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"children": [7]}, InvalidChildSpec, "7 cannot be a child"),
        ({"children": [counter("a"), counter("a")]}, InvalidChildSpec, "have this id"),
        ({"children": [(Counter, 1)]}, InvalidChildSpec, r"write child_spec\(Counter, 1\)"),
        ({"children": [Mover]}, InvalidOption, r"children=.*; write \[Mover\(\.\.\.\)\]"),
        ({"children_strategy": "all"}, InvalidOption, "Endpoint got children_strategy='all'"),
        ({"children_max_restarts": -1}, InvalidOption, "Endpoint got children_max_restarts=-1"),
        ({"children_max_seconds": 0}, InvalidOption, "Endpoint got children_max_seconds=0"),
    ],
)
async def test_check_and_start_refuse_a_wrong_option_of_the_children(
    runtime: Runtime, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    endpoint = Endpoint(**{"sockets": ENDPOINT, **options})
    before = Footprint.of(runtime)
    with pytest.raises(kind, match=text):
        endpoint.check()
    with pytest.raises(kind, match=text):
        await endpoint.start_link(port=0)
    assert Footprint.of(runtime) == before


def test_children_are_a_list() -> None:
    with pytest.raises(EndpointError, match=r"write a list: \[Counter\]"):
        Endpoint(sockets=ENDPOINT, children=Counter)  # type: ignore[arg-type]


# Children that use the endpoint


async def test_an_endpoint_child_gets_the_services_of_each_start(serve: Serve) -> None:
    mover = Mover("a", [])
    endpoint = Endpoint(sockets=ENDPOINT, children=[mover])
    server = await serve(endpoint)
    (services,) = mover.bound
    assert services is server.services
    assert (services.endpoint, services.pubsub) == (endpoint, endpoint.pubsub)
    await server.stop()
    again = await serve(endpoint)
    assert mover.bound[1] is again.services is not services


async def test_children_drain_in_reverse_order_after_the_clients_have_left(serve: Serve) -> None:
    log: list[str] = []
    children: list[Any] = [Mover("a", log, 1.0), counter("b", log), Mover("c", log, 2.0)]
    server = await serve(Endpoint(sockets=ENDPOINT, children=children))
    client = await server.connect()
    del log[:]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.endpoint.drain)
        await trio.sleep(1.0)
        assert Close(1012) in client.frames()
        assert log == []
        client.end()
        await trio.sleep(1.0)
        assert log == ["drain c"]
    assert log == ["drain c", "drained c", "drain a", "drained a"]
    # Drained children still answer, until the endpoint stops.
    assert await call("a", "add") == 1
    await server.stop()
    assert log[4:] == ["stop c", "stop b", "stop a"]


async def test_the_time_limit_of_the_drain_cuts_the_drain_of_the_children(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    children = [Mover("a", log), Mover("c", log, 60.0)]
    draining = Draining(timeout=10.0)
    server = await serve(Endpoint(sockets=ENDPOINT, children=children, draining=draining))
    began = trio.current_time()
    await server.stop()
    assert trio.current_time() - began == 10.0
    assert log == ["start a", "start c", "drain c", "stop c", "stop a"]
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["the drain ended before <mover c> had drained"]


async def test_a_child_that_fails_to_drain_is_logged_and_the_others_drain(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []
    server = await serve(Endpoint(sockets=ENDPOINT, children=[Mover("a", log), Failing("b", log)]))
    await server.stop()
    assert log[2:] == ["drain a", "drained a", "stop b", "stop a"]
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.getMessage() == "<mover b> failed to drain"
    assert record.exc_info is not None
