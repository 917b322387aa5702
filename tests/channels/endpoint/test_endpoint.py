"""A running endpoint: its tree, the survival of its parts, and a clean end."""

from __future__ import annotations

import logging
import resource
import socket
from typing import Any

import pytest
import trio

import actors
from actors import (
    Crash,
    InvalidArgument,
    InvalidOption,
    Pid,
    Runtime,
    Shutdown,
    StartError,
    is_alive,
    kill,
    open_runtime,
    send,
    spawn,
)
from channels import (
    Channel,
    ChannelsError,
    Endpoint,
    EndpointError,
    InvalidHandler,
    ListenError,
    Mount,
    Socket,
    handle_in,
)
from channels.presence import Presence
from channels.telemetry import CONNECTION_REFUSED
from channels.transports.listener import connections_that_fit
from supervision import FailedToStartChild, Supervisor, describe_reason, render
from tests.channels.conftest import Serve
from tests.channels.rooms import Room, UserSocket
from tests.channels.support import (
    EOF,
    Close,
    Footprint,
    Server,
    head,
    named,
    phx_error,
    reply,
    settle,
)
from tests.channels.trees import child, facts, label

ENDPOINT = {"/socket": UserSocket}


class OtherSocket(UserSocket):
    pass


# The tree


async def test_the_tree_of_a_running_server_is_what_the_documentation_says(serve: Serve) -> None:
    mounts: dict[str, Any] = {
        "/socket": UserSocket,
        "/again": UserSocket,
        "/other": Mount(OtherSocket, partitions=1),
    }
    server = await serve(Endpoint(sockets=mounts))
    one, other = await server.connect(), await server.connect("/other")
    for number, topic in enumerate(["room:a", "room:b", "room:c"]):
        await one.join(topic, str(number))
    await other.join()
    assert render(server.pid, pids=False) == (
        "endpoint (one_for_one)\n"
        "├── UserSocket channels (one_for_one)\n"
        "│   ├── 0 (dynamic)\n"
        "│   │   └── Room 'room:b'\n"
        "│   └── 1 (dynamic)\n"
        "│       ├── Room 'room:a'\n"
        "│       └── Room 'room:c'\n"
        "├── OtherSocket channels (one_for_one)\n"
        "│   └── 0 (dynamic)\n"
        "│       └── Room 'room:a'\n"
        "├── flusher\n"
        "├── poller\n"
        "├── quiet_poller\n"
        "├── application\n"
        "├── connections (dynamic)\n"
        "│   ├── Connection\n"
        "│   └── Connection\n"
        "├── listener\n"
        "└── drainer"
    )


async def test_the_crash_of_one_channel_leaves_every_other_process_as_it_was(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    one, other = await server.connect(), await server.connect()
    await one.join("room:a", "1")
    await one.join("room:b", "2")
    await other.join("room:a", "1")
    for client, join_ref, topic in ((one, "2", "room:b"), (other, "1", "room:a")):
        got = await client.exchange((join_ref, "3", topic, "count"))
        assert got == [reply(join_ref, "3", topic, {"count": 1})]
    victim, neighbour = server.channels("room:a")
    # A message waits in every mailbox, and the crash must not affect it.
    before, drawing = facts(server.runtime), render(server.pid, pids=False)
    assert one.process is not None
    pool = before[victim]["parent"]

    assert await one.exchange(("1", "4", "room:a", "boom")) == [phx_error("1", "room:a")]

    expected = {pid: dict(info) for pid, info in before.items() if pid is not victim}
    for pid, what in ((one.process, "monitors"), (pool, "links")):
        expected[pid][what] = tuple(each for each in expected[pid][what] if each is not victim)
    assert facts(server.runtime) == expected
    assert drawing.count("Room 'room:a'") == 2
    assert render(server.pid, pids=False).count("Room 'room:a'") == 1
    # The state of the client's other channel, and of another client's channel for the topic, is unchanged.
    got = await one.exchange(("2", "5", "room:b", "count"))
    assert got == [reply("2", "5", "room:b", {"count": 2})]
    got = await other.exchange(("1", "5", "room:a", "count"))
    assert got == [reply("1", "5", "room:a", {"count": 2})]
    assert server.channels("room:a") == [neighbour]
    # And the one that crashed comes back, without its state.
    await one.join("room:a", "6")
    got = await one.exchange(("6", "7", "room:a", "count"))
    assert got == [reply("6", "7", "room:a", {"count": 1})]


async def test_the_crash_of_a_channel_does_not_affect_waiting_messages_of_others(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    one, other = await server.connect(), await server.connect()
    await one.join()
    await other.join()
    busy = server.channels("room:a")[1]
    other.send(
        ("1", "2", "room:a", "sleep", {"seconds": 5}),
        *(("1", str(n), "room:a", "echo", {"n": n}) for n in range(3, 6)),
    )
    await settle()
    before = facts(server.runtime)[busy]
    assert before["queue_length"] == 3
    assert await one.exchange(("1", "2", "room:a", "boom")) == [phx_error("1", "room:a")]
    assert facts(server.runtime)[busy] == before
    await trio.sleep(6)
    assert [frame[1] for frame in other.frames()] == ["2", "3", "4", "5"]


async def test_a_hundred_crashes_restart_no_process_and_leak_nothing(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect()
    before = Footprint.of(server.runtime)
    for n in range(100):
        await client.join("room:a", str(n))
        assert len(await client.exchange((str(n), "x", "room:a", "boom"))) == 1
    assert Footprint.of(server.runtime) == before
    assert server.runtime.statistics()["crashed"] == 100


# Parts of it fail


@pytest.mark.parametrize(
    "part", ["flusher", "poller", "quiet_poller", "listener", "drainer", "application"]
)
async def test_a_killed_child_of_the_endpoint_is_restarted_and_clients_do_not_notice(
    serve: Serve, part: str
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    address = server.endpoint.address
    client = await server.connect()
    await client.join()
    before, old = render(server.pid, pids=False), await child(server.pid, part)
    kill(old)
    await settle()
    assert await child(server.pid, part) is not old
    assert render(server.pid, pids=False) == before
    assert server.endpoint.address == address
    assert await client.exchange(("1", "2", "room:a", "echo")) == [reply("1", "2", "room:a")]
    await (await server.connect()).join()


async def test_killing_the_supervisor_of_connections_closes_them_and_new_ones_are_served(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    before = Footprint.of(server.runtime)
    client = await server.connect()
    await client.join()
    kill(named((server.endpoint, "connections")))
    await settle()
    assert client.is_closed
    after = Footprint.of(server.runtime)
    assert (len(after.processes), after.tasks, after.descriptors) == (
        len(before.processes),
        before.tasks,
        before.descriptors,
    )
    await (await server.connect()).join()


async def test_a_connection_whose_process_never_ran_is_closed_when_its_supervisor_restarts(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        # As when the supervisor is killed between the start of a process and its first step.
        server.services.admission.hand_over(object(), theirs)
        kill(named((server.endpoint, "connections")))
        await settle()
        assert theirs.fileno() == -1


async def test_an_endpoint_that_gives_up_ends_quietly_and_completely(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    crashes = server.crashes()
    await server.connect()
    for _ in range(4):
        kill(named((server.endpoint, "connections")))
        await settle()
    await trio.sleep(1)
    assert not is_alive(server.pid)
    assert server.runtime.processes() == []
    assert crashes == []
    # The log has only its own line, and no crash of a process.
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert {(record.name, record.module, record.exc_info) for record in errors} == {
        ("channels", "logger", None)
    }


# Stopping


async def test_a_stopped_endpoint_leaks_nothing(runtime: Runtime) -> None:
    before = Footprint.of(runtime)
    endpoint = Endpoint(sockets=ENDPOINT)
    server = Server(endpoint, runtime, await endpoint.start_link(port=0))
    client = await server.connect()
    await client.join()
    stopping = spawn(server.stop)
    await settle()
    assert client.frames() == [Close(1012), EOF]
    client.end()
    await settle()
    assert not is_alive(stopping)
    assert Footprint.of(runtime) == before
    assert endpoint.pubsub.statistics() == {"topics": 0, "subscriptions": 0}


async def test_a_killed_endpoint_leaks_nothing(runtime: Runtime) -> None:
    before = Footprint.of(runtime)
    endpoint = Endpoint(sockets=ENDPOINT)
    server = Server(endpoint, runtime, await endpoint.start_link(port=0))
    client = await server.connect()
    await client.join()
    await server.accept()
    kill(server.pid)
    await settle()
    assert client.is_closed
    assert Footprint.of(runtime) == before
    with pytest.raises(EndpointError):
        assert endpoint.address


async def test_a_stopped_endpoint_has_no_address_and_can_be_started_again(serve: Serve) -> None:
    endpoint = Endpoint(sockets=ENDPOINT)
    with pytest.raises(EndpointError, match="not listening; start it"):
        assert endpoint.address
    server = await serve(endpoint)
    await (await server.connect()).join()
    await server.stop()
    with pytest.raises(EndpointError, match="not listening; start it"):
        assert endpoint.address
    again = await serve(endpoint)
    assert again.endpoint.address[1] > 0
    client = await again.connect()
    await client.join()
    endpoint.broadcast("room:a", "shouted", {})
    await settle()
    assert client.frames() == [[None, None, "room:a", "shouted", {}]]


async def test_an_endpoint_cannot_run_twice_at_a_time(serve: Serve) -> None:
    endpoint = Endpoint(sockets=ENDPOINT)
    server = await serve(endpoint)
    before = server.runtime.processes()
    with pytest.raises(EndpointError, match="already running"):
        await endpoint.start_link(port=0)
    assert server.runtime.processes() == before
    await (await server.connect()).join()


async def test_a_second_start_during_the_first_is_refused_and_harms_nothing(
    runtime: Runtime,
) -> None:
    endpoint = Endpoint(sockets=ENDPOINT)
    outcomes: list[Pid | Exception] = []

    async def start() -> None:
        try:
            outcomes.append(await endpoint.start_link(port=0))
        except EndpointError as error:
            outcomes.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        nursery.start_soon(start)
    (refusal,) = [each for each in outcomes if isinstance(each, EndpointError)]
    (pid,) = [each for each in outcomes if isinstance(each, Pid)]
    assert "already starting; call start_link once" in str(refusal)
    await (await Server(endpoint, runtime, pid).connect()).join()


async def test_an_endpoint_whose_start_failed_can_start_again(runtime: Runtime) -> None:
    endpoint = Endpoint(sockets=ENDPOINT)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StartError):
        await endpoint.start_link(port=taken.getsockname()[1])
    pid = await endpoint.start_link(port=0)
    await (await Server(endpoint, runtime, pid).connect()).join()


async def test_two_endpoints_in_one_runtime_are_independent(
    serve: Serve,
) -> None:
    one, other = await serve(Endpoint(sockets=ENDPOINT)), await serve(Endpoint(sockets=ENDPOINT))
    here, there = await one.connect(), await other.connect()
    await here.join()
    await there.join()
    one.endpoint.broadcast("room:a", "shouted", {})
    await settle()
    assert here.frames() == [[None, None, "room:a", "shouted", {}]]
    assert there.frames() == []
    kill(one.pid)
    await settle()
    assert here.is_closed
    assert await there.exchange(("1", "2", "room:a", "echo")) == [reply("1", "2", "room:a")]


async def test_the_end_of_the_runtime_stops_the_endpoint_in_order() -> None:
    async with open_runtime(log=False) as runtime:
        endpoint = Endpoint(sockets=ENDPOINT)
        server = Server(endpoint, runtime, await endpoint.start_link(port=0))
        client = await server.connect()
        await client.join()
    assert client.frames() == [Close(1012), EOF]
    assert client.is_closed


# Starting


async def test_a_port_in_use_is_a_clear_start_error_and_leaks_nothing(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        before = Footprint.of(runtime)
        with pytest.raises(StartError) as caught:
            await Endpoint(sockets=ENDPOINT).start_link(port=port)
        await settle()
        assert Footprint.of(runtime) == before
    reason = caught.value.reason
    assert isinstance(reason, Shutdown)
    assert isinstance(reason.detail, FailedToStartChild)
    assert reason.detail.id == "listener"
    assert isinstance(reason.detail.reason, Crash)
    assert isinstance(reason.detail.reason.exception, ListenError)
    assert "the port is in use" in describe_reason(reason)
    assert caplog.records == []


def lifespan(on_startup: str, message: str = "") -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        assert (await receive())["type"] == "lifespan.startup"
        if on_startup == "hang":
            await trio.sleep_forever()
        await send({"type": f"lifespan.startup.{on_startup}", "message": message})
        assert (await receive())["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})

    return app


@pytest.mark.parametrize(
    ("app", "problem"),
    [
        (lifespan("failed", "no database"), "no database"),
        (lifespan("failed"), "it gave no reason"),
        (lifespan("hang"), "it did not answer within 60 seconds"),
    ],
)
async def test_an_application_that_does_not_start_is_a_clear_start_error(
    runtime: Runtime, caplog: pytest.LogCaptureFixture, app: Any, problem: str
) -> None:
    before = Footprint.of(runtime)
    with pytest.raises(StartError) as caught:
        await Endpoint(sockets=ENDPOINT, http=app).start_link(port=0)
    await settle()
    assert Footprint.of(runtime) == before
    assert describe_reason(caught.value.reason).endswith(
        f"the mounted application did not start: {problem}"
    )
    # No crash report: it would say the same less clearly.
    assert runtime.statistics()["crashed"] == 0
    assert caplog.records == []


async def test_the_lifespan_of_an_application_surrounds_everything_else(serve: Serve) -> None:
    happened: list[str] = []
    endpoint: Endpoint

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        with pytest.raises(EndpointError):
            assert endpoint.address
        happened.append("start")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        connections = actors.whereis((endpoint, "connections"))
        happened.append("stop" if connections is None else "too early")
        await send({"type": "lifespan.shutdown.complete"})

    endpoint = Endpoint(sockets=ENDPOINT, http=app)
    server = await serve(endpoint)
    client = await server.connect()
    await client.join()
    assert happened == ["start"]
    await server.stop()
    assert happened == ["start", "stop"]


async def test_an_endpoint_may_be_a_child_of_a_supervisor_and_is_restarted_by_it(
    runtime: Runtime,
) -> None:
    endpoint = Endpoint(sockets=ENDPOINT)
    top = await Supervisor.start_link([endpoint.child_spec(port=0)])
    pid = await child(top, "endpoint")
    server = Server(endpoint, runtime, pid)
    client = await server.connect()
    await client.join()
    kill(pid)
    await settle()
    again = Server(endpoint, runtime, await child(top, "endpoint"))
    assert again.pid is not pid
    await (await again.connect()).join()


# Limits and numbers


async def test_connections_over_the_limit_are_turned_away_and_counted(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT, max_connections=2))
    refused = server.listen(CONNECTION_REFUSED)
    await server.connect()
    client = await server.connect()
    address = server.endpoint.address
    stream = await trio.open_tcp_stream(*address)
    async with stream:
        # Without a deadline: the virtual clock would jump to it, and not wait for the network.
        assert await stream.receive_some() == b""
    assert [about["limit"] for _, about in refused] == ["max_connections"]
    counts = server.endpoint.statistics()["counts"]
    assert counts == {("connection", "not_started"): 1}
    client.close()
    await settle()
    await server.connect()


async def test_the_default_limit_of_connections_leaves_descriptors_for_other_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = {100: 36, 1024: 922, 1_000_000: 100_000, resource.RLIM_INFINITY: 100_000, 10: 1}
    for limit, expected in limits.items():
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert connections_that_fit() == expected


async def test_statistics_contain_the_figures_of_a_running_endpoint(serve: Serve) -> None:
    endpoint = Endpoint(sockets=ENDPOINT)
    stopped = endpoint.statistics()
    assert stopped == {
        "topics": 0,
        "subscriptions": 0,
        "counts": {},
        "work": None,
        "flusher": None,
        "backlog": None,
        "latest": None,
        "incoming": None,
        "poller": None,
        "quiet_poller": None,
    }
    server = await serve(endpoint)
    one, other = await server.connect(query="&user=ann"), await server.connect()
    await one.join()
    await other.join()
    found = endpoint.statistics()
    assert (found["topics"], found["subscriptions"]) == (2, 3)
    assert found["flusher"].marked == 0
    assert set(found) == set(stopped)


# Mistakes


class WrongChannel(Channel):
    @handle_in("new_msg")
    async def new_msg(self) -> None: ...


class WrongHandlerSocket(Socket):
    channels = {"room:*": WrongChannel}


class WrongRouteSocket(Socket):
    channels = {"room:*:private": Room}


MISTAKES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"sockets": {"/socket": WrongHandlerSocket}}, InvalidHandler, "WrongChannel.new_msg"),
    ({"sockets": {"/socket": WrongRouteSocket}}, InvalidArgument, "'room:*:private'"),
    ({"sockets": {"socket": UserSocket}}, EndpointError, 'write "/socket"'),
    ({"sockets": {7: UserSocket}}, EndpointError, "7"),
    ({"sockets": {"/socket": Room}}, EndpointError, "not a subclass of Socket"),
    ({"sockets": {"/socket": UserSocket()}}, EndpointError, "write the class itself"),
    ({"sockets": {"/a": UserSocket, "/a/": UserSocket}}, EndpointError, "'/a/websocket'"),
    ({"head_timeout": 0}, InvalidOption, "head_timeout=0"),
    ({"head_timeout": "10"}, InvalidOption, "head_timeout='10'"),
    ({"quiet_delay": -1}, InvalidOption, "quiet_delay=-1"),
    ({"keep_alive_timeout": 0}, InvalidOption, "keep_alive_timeout=0"),
    ({"max_connections": 0}, InvalidOption, "max_connections=0"),
    ({"max_connections": 1.5}, InvalidOption, "max_connections=1.5"),
    ({"max_buffered_messages": True}, InvalidOption, "max_buffered_messages=True"),
    ({"max_buffered_bytes": -1}, InvalidOption, "max_buffered_bytes=-1"),
    ({"max_total_buffered_bytes": 0}, InvalidOption, "max_total_buffered_bytes=0"),
    ({"max_latest_values": 0}, InvalidOption, "max_latest_values=0"),
    ({"max_latest_bytes": 0.5}, InvalidOption, "max_latest_bytes=0.5"),
    ({"max_total_incoming_bytes": 0}, InvalidOption, "max_total_incoming_bytes=0"),
    ({"presences": [3]}, InvalidOption, "presences=(3,)"),
    ({"presences": [Presence]}, InvalidOption, "write [Presence()]"),
    ({"pubsub": "redis://:secret@db"}, InvalidOption, "pubsub=a URL with a password;"),
]


@pytest.mark.parametrize(
    ("options", "kind", "named_in_it"), MISTAKES, ids=[part for *_, part in MISTAKES]
)
async def test_check_and_start_raise_the_first_mistake(
    runtime: Runtime, options: dict[str, Any], kind: type[ChannelsError], named_in_it: str
) -> None:
    endpoint = Endpoint(**{"sockets": ENDPOINT, **options})
    before = Footprint.of(runtime)
    with pytest.raises(kind) as caught:
        endpoint.check()
    assert named_in_it in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(kind):
        await endpoint.start_link(port=0)
    assert Footprint.of(runtime) == before


@pytest.mark.parametrize(
    "options",
    [{"timeout": 0}, {"timeout": float("nan")}, {"max_frame_size": 0}, {"partitions": 0}],
)
def test_a_mount_refuses_invalid_numbers(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption) as caught:
        Mount(UserSocket, **options)
    assert caught.value.option in options
    assert str(caught.value).startswith(f"Mount got {caught.value.option}=")


def test_presences_are_a_list() -> None:
    with pytest.raises(EndpointError, match=r"write a list: \[Presence\(\)\]"):
        Endpoint(sockets=ENDPOINT, presences=Presence())  # type: ignore[arg-type]


def test_an_endpoint_without_mistakes_passes() -> None:
    Endpoint(sockets={"/socket": Mount(UserSocket, timeout=float("inf"))}).check()
    Endpoint(sockets={}).check()


async def test_a_mount_without_a_timeout_never_closes_for_silence(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": Mount(UserSocket, timeout=float("inf"))}))
    client = await server.connect()
    await trio.sleep(80_000)
    await client.join()


def test_an_endpoint_shows_its_paths() -> None:
    assert repr(Endpoint(sockets={"/a": UserSocket, "/b": UserSocket})) == "<endpoint /a /b>"
    assert repr(Endpoint(sockets={})) == "<endpoint without sockets>"


async def test_a_crash_is_reported_by_the_name_of_its_channel_and_topic(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    reports: list[Any] = []
    server.runtime.telemetry.attach(
        ("actors", "process", "crash"), lambda _, __, about: reports.append(about["process"])
    )
    client = await server.connect()
    await client.join("room:a\nb")
    send(server.channel("room:a\nb"), lambda _: 1 / 0)
    await settle()
    assert reports == ["Room 'room:a\\nb'"]
    assert label(named((server.endpoint, "connections"))).startswith("(<endpoint /socket>")


async def test_a_crash_report_does_not_show_what_the_log_may_not(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    reports: list[Any] = []
    server.runtime.telemetry.attach(
        ("actors", "process", "crash"),
        lambda _, __, about: reports.append(repr(about["last_message"])),
    )
    client = await server.connect()
    await client.exchange(("1", "1", "room:a", "phx_join", {"crash": True, "password": "x1"}))
    await client.join("room:b")
    await client.exchange(("1", "2", "room:b", "boom", {"why": "?", "password": "x2"}))
    joining, handling = reports
    assert "'password': '[FILTERED]'" in joining
    assert "'why': '?', 'password': '[FILTERED]'" in handling
    assert "x1" not in joining
    assert "x2" not in handling


async def test_pages_and_sockets_share_the_port(serve: Serve) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        start = {"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]}
        await send(start)
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    server = await serve(Endpoint(sockets=ENDPOINT, http=app))
    page = await server.accept()
    page.write(head("/hello", "host: test\r\nconnection: close\r\n"))
    await settle()
    answer = page.answer()
    assert answer is not None
    assert (answer.status, answer.headers["x-app"]) == (200, "1")
    assert b"/hello" in answer.body
    await (await server.connect()).join()


@pytest.mark.parametrize(
    ("option", "value", "advice"),
    [
        ("draining", False, r"Draining\(...\), or None"),
        ("pubsub", "redis", r"PubSub\(...\), or None"),
    ],
)
def test_an_option_of_the_wrong_type_raises_with_the_correction(
    option: str, value: Any, advice: str
) -> None:
    with pytest.raises(InvalidOption, match=f"Endpoint got {option}=.*; write {advice}"):
        Endpoint(sockets={}, **{option: value}).check()


def test_an_option_without_a_name_is_refused_with_the_name_to_write() -> None:
    unnamed: Any = Endpoint
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'sockets'"):
        unnamed({"/socket": UserSocket})
    with pytest.raises(EndpointError, match="without a name; write the name of the option"):
        unnamed(UserSocket, sockets={})


async def test_a_broadcast_before_the_first_start_is_warned_of(serve: Serve) -> None:
    endpoint = Endpoint(sockets={"/socket": UserSocket})
    with pytest.warns(
        UserWarning, match="reached no one, because <endpoint /socket> has not started"
    ) as warned:
        endpoint.broadcast("room:a", "news", {})
    assert warned[0].filename == __file__
    server = await serve(endpoint)
    endpoint.broadcast("room:a", "news", {})
    await server.stop()
    endpoint.broadcast("room:a", "news", {})


def test_sockets_must_be_a_dict_of_paths() -> None:
    sockets: Any = [UserSocket]
    with pytest.raises(EndpointError, match="write a dict of paths to sockets: "):
        Endpoint(sockets=sockets)
