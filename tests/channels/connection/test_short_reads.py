"""Short reads, which the task of the reader handles in place of an idle connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from actors import (
    Instrument,
    Pid,
    StartError,
    StartIgnored,
    current_pid,
    is_alive,
    open_runtime,
    send,
    sys,
)
from actors._kernel.mailbox import CALLS
from channels import Endpoint, Mount
from channels.connection.channel_server import ChannelServer
from channels.connection.connection import Connection
from channels.connection.session_server import FREE_BYTES, JOIN_COST
from channels.messages import Message
from channels.protocol.session import Session
from channels.protocol.work_budget import TURN_BUDGET, WorkBudget
from channels.serializers.serializer import Requirement
from channels.serializers.v2 import V2
from channels.telemetry import SESSION_STARTED
from channels.wire.websocket import SHORT_MESSAGE
from supervision import Supervisor
from tests.actors.steps import counted
from tests.channels.rooms import Room, UserSocket
from tests.channels.support import EOF, Client, Close, Gate, Server, phx_error, reply, settle, text
from tests.channels.transports.frames import BINARY, PING, TEXT, client_frame

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tests.actors.steps import Steps
    from tests.channels.conftest import Serve

HEARTBEAT = (None, "1", "phoenix", "heartbeat")
POOL = ("channels", "UserSocket", 0)


def steps_of(pid: Pid | None) -> AbstractContextManager[Steps]:
    """Count the steps of a process."""
    assert pid is not None
    process: Any = pid.process
    return counted(process.task)


def room_of(budget: WorkBudget) -> int:
    """The units that this turn has left."""
    return sum(budget.has_room(cost) for cost in range(1, TURN_BUDGET + 1))


async def connected(serve: Serve, **options: Any) -> tuple[Server, Client]:
    mount = Mount(UserSocket, partitions=1, **options)
    server = await serve(Endpoint(sockets={"/socket": mount}))
    return server, await server.connect()


async def test_short_messages_and_joins_take_no_step_of_the_connection(serve: Serve) -> None:
    _, client = await connected(serve)
    with steps_of(client.process) as steps:
        await client.join("room:a", "1")
        assert await client.exchange(
            ("1", "2", "room:a", "echo", {"n": 1}), (None, "3", "phoenix", "heartbeat")
        ) == [reply(None, "3", "phoenix"), reply("1", "2", "room:a", {"n": 1})]
        assert await client.exchange(("1", "4", "room:a", "crash")) == [phx_error("1", "room:a")]
        await client.join("room:a", "5")
    assert steps.count == 0


@pytest.mark.parametrize("what", ["long", "split", "many"])
async def test_other_reads_are_left_to_the_connection(serve: Serve, what: str) -> None:
    _, client = await connected(serve)
    await client.join()
    frame = client_frame(TEXT, b'["1","2","room:a","echo",{}]')
    with steps_of(client.process) as steps:
        if what == "long":
            client.send(("1", "2", "room:a", "echo", {"long": "x" * 512}))
        elif what == "split":
            client.write(frame[:10])
            await settle()
            client.write(frame[10:])
        else:
            client.write(client_frame(PING, b"") * 9 + frame)
        await settle()
    assert steps.count > 0
    assert client.frames()[-1][:4] == ["1", "2", "room:a", "phx_reply"]


async def test_a_malformed_message_closes_and_the_rest_of_its_read_is_ignored(serve: Serve) -> None:
    _, client = await connected(serve)
    await client.join()
    client.write(client_frame(TEXT, b"{") + client_frame(TEXT, b'["1","2","room:a","echo",{}]'))
    await settle()
    assert client.frames() == [Close(1011, ""), EOF]


async def test_a_read_of_many_short_frames_is_handled_in_order(serve: Serve) -> None:
    _, client = await connected(serve)
    await client.join()
    for ref in range(30):
        client.write(client_frame(PING, b"%d" % ref) + client_frame(PING, b"") * 12)
    await settle()
    pongs = [pong.payload for pong in client.frames() if pong.payload]
    assert pongs == [b"%d" % ref for ref in range(30)]


async def test_messages_behind_a_join_that_waits_keep_their_order(serve: Serve) -> None:
    server, client = await connected(serve)
    pool = (server.endpoint, *POOL)
    await sys.suspend(pool)
    client.write(
        client_frame(TEXT, b'["1","1","room:a","phx_join",{}]')
        + client_frame(TEXT, b'["1","2","room:a","echo",{}]')
    )
    await settle()
    # Now the connection waits for the pool, in the middle of a callback.
    client.send(("1", "3", "room:a", "echo"))
    await settle()
    client.send((None, "4", "phoenix", "heartbeat"))
    await settle()
    assert client.frames() == []
    await sys.resume(pool)
    await settle()
    assert [frame[1] for frame in client.frames() if frame[2] == "room:a"] == ["1", "2", "3"]
    with steps_of(client.process) as steps:
        assert await client.exchange(("1", "5", "room:a", "echo")) == [reply("1", "5", "room:a")]
    assert steps.count == 0, "the connection is idle again"


async def test_a_suspended_connection_handles_nothing_until_it_resumes(serve: Serve) -> None:
    _, client = await connected(serve)
    await client.join()
    assert client.process is not None
    await sys.suspend(client.process)
    client.send(("1", "2", "room:a", "echo"))
    await settle()
    assert client.frames() == []
    await sys.resume(client.process)
    await settle()
    assert client.frames() == [reply("1", "2", "room:a")]


class Picky(V2):
    """A serializer with a bug. It also notes in which process it runs."""

    def __init__(self) -> None:
        self.seen: list[Pid] = []

    def decode(self, data: bytes, *, binary: bool) -> Message:
        self.seen.append(current_pid())
        if binary:
            raise ValueError("a bug of the application")
        return super().decode(data, binary=binary)


async def test_an_error_of_a_serializer_crashes_only_its_own_connection(serve: Serve) -> None:
    picky = Picky()
    server, client = await connected(serve, serializers=[(picky, Requirement("~> 2.0.0"))])
    other = await server.connect()
    await client.join()
    await other.join()
    crashes = server.listen(("actors", "process", "crash"))
    client.write(client_frame(TEXT, b'["1","2","room:a","echo",{}]') + client_frame(BINARY, b"\0"))
    await settle()
    (_, about), (_, of_the_channel) = crashes
    assert of_the_channel["reason"] is about["reason"]
    assert about["pid"] is client.process
    assert about["server"] == "Connection", "the error was raised in a callback"
    assert set(picky.seen) == {client.process, other.process}
    assert client.frames() == [EOF]
    assert await other.exchange(("1", "2", "room:a", "echo")) == [reply("1", "2", "room:a")]


async def test_our_own_error_crashes_only_the_connection(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = await connected(serve)
    other = await server.connect()
    crashes = server.crashes()

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug of ours")

    with monkeypatch.context() as patch:
        patch.setattr(Session, "receive", fail)
        client.send(HEARTBEAT)
        await settle()
    assert [str(each) for each in crashes] == ["a bug of ours"]
    assert client.process is not None
    assert not is_alive(client.process)
    await other.join()


@pytest.mark.parametrize("waits", [False, True])
async def test_a_join_takes_the_same_work_whether_it_waits_or_not(
    serve: Serve, waits: bool
) -> None:
    server, client = await connected(serve)
    budget = server.services.budget

    before = room_of(budget)
    if waits:
        server.runtime.add_instrument(Instrument())
    await client.join()
    assert before - room_of(budget) == JOIN_COST


async def test_a_join_waits_for_a_turn_with_enough_work_left(serve: Serve) -> None:
    server, client = await connected(serve)
    budget = server.services.budget
    budget.spend(room_of(budget) - JOIN_COST + 1)
    with steps_of(client.process) as steps:
        await client.join()
    assert steps.count > 0
    assert budget.statistics().waits == 1


async def started(serve: Serve, **options: Any) -> tuple[Connection, Client]:
    server = await serve(Endpoint(sockets={"/socket": Mount(UserSocket, **options)}))
    sessions = server.listen(SESSION_STARTED)
    client = await server.connect()
    ((_, about),) = sessions
    return about["server"], client


@pytest.mark.parametrize("frames", [8, 9])
async def test_only_the_free_frames_of_a_read_take_no_step(serve: Serve, frames: int) -> None:
    _, client = await started(serve)
    with steps_of(client.process) as steps:
        got = await client.exchange(*[HEARTBEAT] * frames)
    assert len(got) == frames
    assert (steps.count > 0) is (frames > 8)


@pytest.mark.parametrize("size", [4096, 4097])
async def test_only_a_read_of_at_most_4096_bytes_takes_no_step(serve: Serve, size: int) -> None:
    _, client = await started(serve)

    def heartbeat(length: int) -> bytes:
        padding = length - len(text(*HEARTBEAT, {"x": "y" * 200})) + 200
        return text(*HEARTBEAT, {"x": "y" * padding})

    read = heartbeat(512) * 7 + heartbeat(size - 7 * 512)
    assert len(read) == size
    with steps_of(client.process) as steps:
        client.write(read)
        await settle()
    assert len(client.frames()) == 8
    assert (steps.count > 0) is (size > 4096)


@pytest.mark.parametrize("size", [512, 513])
async def test_only_a_message_of_at_most_512_bytes_takes_no_step(serve: Serve, size: int) -> None:
    _, client = await started(serve)
    message = b'[null,"1","phoenix","heartbeat",{}]'.ljust(size)
    with steps_of(client.process) as steps:
        client.write(client_frame(TEXT, message))
        await settle()
    assert client.frames() == [reply(None, "1", "phoenix")]
    assert (steps.count > 0) is (size > 512)


async def test_a_short_read_begins_a_new_count_of_turns(serve: Serve) -> None:
    connection, client = await started(serve)
    connection.turns = 5
    await client.exchange(HEARTBEAT)
    assert connection.turns == 0


async def test_a_tap_sees_every_read(serve: Serve) -> None:
    connection, client = await started(serve)

    class Tap:
        reads: list[int]

        def read(self, pid: Pid, data: bytes) -> None:
            self.reads.append(len(data))
            send(pid, data)

    tap: Any = Tap()
    tap.reads = []
    connection.tap = tap
    client.send(HEARTBEAT)
    await settle()
    assert client.frames() == [reply(None, "1", "phoenix")]
    assert len(tap.reads) == 1


async def test_a_short_read_of_a_paused_client_is_handled_and_reading_resumes(serve: Serve) -> None:
    connection, client = await started(serve)
    connection._pause()
    # A poller does this when the peer leaves.
    connection._tell(text(*HEARTBEAT, {}))
    await settle()
    assert client.frames() == [reply(None, "1", "phoenix")]
    assert (connection.paused, connection.unread) == (False, 0)


@pytest.mark.parametrize("last", [b"", b"\x81"])
async def test_messages_behind_a_ping_are_handled_once(serve: Serve, last: bytes) -> None:
    _, client = await started(serve)
    await client.join()
    frames = [text("1", ref, "room:a", "count", {}) for ref in "234"]
    client.write(frames[0] + client_frame(PING, b"") + frames[1] + frames[2] + last)
    await settle()
    counts = [got[4]["response"]["count"] for got in client.frames() if isinstance(got, list)]
    assert counts == [1, 2, 3]


async def test_messages_behind_a_join_that_waits_for_work_are_handled_once(serve: Serve) -> None:
    connection, client = await started(serve)
    budget = connection.services.budget
    budget.spend(room_of(budget))
    with steps_of(client.process) as steps:
        got = await client.exchange(
            ("1", "1", "room:a", "phx_join"),
            ("1", "2", "room:a", "count"),
            ("1", "3", "room:a", "count"),
        )
    assert steps.count > 0
    assert [each[4]["response"].get("count") for each in got] == [None, 1, 2]


async def test_a_second_join_of_a_topic_takes_no_step(serve: Serve) -> None:
    _, client = await started(serve)
    await client.join()
    with steps_of(client.process) as steps:
        client.send(("2", "2", "room:a", "phx_join"))
        await settle()
    assert steps.count == 0
    assert reply("2", "2", "room:a") in client.frames()


async def test_a_text_that_is_not_utf8_behind_a_good_one_closes(serve: Serve) -> None:
    _, client = await started(serve)
    client.write(text(*HEARTBEAT, {}) + client_frame(TEXT, b"\xff") + text(*HEARTBEAT, {}))
    await settle()
    assert client.frames()[:2] == [reply(None, "1", "phoenix"), Close(1007)]


@pytest.mark.parametrize("what", ["rest", "whole"])
async def test_short_reads_take_no_step_again_after_a_read_that_took_one(
    serve: Serve, what: str
) -> None:
    connection, client = await started(serve)
    if what == "rest":
        connection._tell(client_frame(PING, b""))
    else:
        send(connection.pid, text(*HEARTBEAT, {}))
        connection.unread += len(text(*HEARTBEAT, {}))
    await settle()
    with steps_of(client.process) as steps:
        await client.exchange(HEARTBEAT)
    assert steps.count == 0


@pytest.mark.parametrize("waits", [False, True])
async def test_the_supervisors_of_the_channels_take_turns(serve: Serve, waits: bool) -> None:
    connection, client = await started(serve, partitions=3)
    runtime = connection.services.runtime
    if waits:
        runtime.add_instrument(Instrument())
    for ref, topic in enumerate(("room:a", "room:b", "room:c"), 1):
        await client.join(topic, str(ref))
    parents = [(runtime.process_info(each.process) or {})["parent"] for each in connection.members]
    assert len(set(parents)) == 3


async def test_a_channel_with_its_own_server_is_started_by_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[Any] = []

    async def start(*args: Any, label: str) -> Pid:
        starts.append(args)
        return await ChannelServer.start_link(*args, label=label)

    monkeypatch.setattr(Room, "_server", staticmethod(start))
    _, client = await started(serve)
    await client.join()
    assert len(starts) == 1


async def test_the_end_of_a_long_message_is_left_to_the_connection(serve: Serve) -> None:
    connection, client = await started(serve)
    long = text(*HEARTBEAT, {"x": "y" * 100_000})
    client.write(long[:-10])
    await settle()
    connection._tell(long[-10:])
    assert connection.unread == 10
    await settle()
    assert client.frames() == [reply(None, "1", "phoenix")]


async def test_the_time_between_short_reads_gives_new_tokens(serve: Serve) -> None:
    _, client = await started(serve, max_messages_per_second=1.0)
    await client.join()
    echo = ("1", "2", "room:a", "echo")
    statuses = [(await client.exchange(echo))[0][4]["status"] for _ in range(11)]
    assert statuses == ["ok"] * 10 + ["error"]
    await trio.sleep(1)
    assert await client.exchange(echo) == [reply("1", "2", "room:a")]


class Fatal(V2):
    """A serializer that raises an error for one event."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def decode(self, data: bytes, *, binary: bool) -> Message:
        message = super().decode(data, binary=binary)
        if message.event == "fatal":
            raise self.error
        return message


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_in_a_serializer_ends_the_runtime(kind: type[BaseException]) -> None:
    mount = Mount(UserSocket, serializers=[(Fatal(kind), Requirement("~> 2.0.0"))])
    endpoint = Endpoint(sockets={"/socket": mount})
    with pytest.raises(kind):
        async with open_runtime(log=False) as runtime:
            server = Server(endpoint, runtime, await endpoint.start_link(port=0))
            client = await server.connect()
            client.send((None, "1", "phoenix", "fatal"))
            await settle()


class _Pongs(trio.abc.Instrument):
    """Counts the frames that a connection writes in each step of its task."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.most = self.before = 0
        self.task = server.pid.process.task

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.before = self.server.out.statistics().waiting_messages

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            written = self.server.out.statistics().waiting_messages - self.before
            self.most = max(self.most, written)


async def test_a_connection_handles_the_free_frames_of_one_read_in_a_step(serve: Serve) -> None:
    connection, _ = await started(serve)
    pongs = _Pongs(connection)
    trio.lowlevel.add_instrument(pongs)
    for _ in range(3):
        connection._tell(client_frame(PING, b"") * 8)
    await settle()
    trio.lowlevel.remove_instrument(pongs)
    assert pongs.most == 8


class Flaky(V2):
    """A serializer that fails once for each message with the event `flaky`."""

    failed = False

    def decode(self, data: bytes, *, binary: bool) -> Message:
        message = super().decode(data, binary=binary)
        if message.event == "flaky" and not self.failed:
            self.failed = True
            raise ValueError("a bug of the application")
        return message


async def test_an_error_of_a_serializer_that_happens_once_is_reported(serve: Serve) -> None:
    mount = Mount(UserSocket, serializers=[(Flaky(), Requirement("~> 2.0.0"))])
    server = await serve(Endpoint(sockets={"/socket": mount}))
    client = await server.connect()
    crashes = server.crashes()
    client.send((None, "1", "phoenix", "flaky"))
    await settle()
    assert [str(each) for each in crashes] == ["a bug of the application"]


class _Turns(V2, trio.abc.Instrument):
    """A serializer that counts the messages of all clients in each turn of the scheduler."""

    count = most = 0

    def after_io_wait(self, timeout: float) -> None:
        self.count = 0

    def decode(self, data: bytes, *, binary: bool) -> Message:
        self.count += 1
        self.most = max(self.most, self.count)
        return super().decode(data, binary=binary)


async def test_a_turn_handles_the_free_frames_of_a_bounded_number_of_streams(serve: Serve) -> None:
    turns = _Turns()
    mount = Mount(UserSocket, serializers=[(turns, Requirement("~> 2.0.0"))])
    server = await serve(Endpoint(sockets={"/socket": mount}))
    clients = [await server.connect() for _ in range(CALLS + 64)]
    trio.lowlevel.add_instrument(turns)
    for client in clients:
        client.send(*[HEARTBEAT] * 8)
    await settle()
    trio.lowlevel.remove_instrument(turns)
    assert all(len(client.frames()) == 8 for client in clients)
    assert turns.most <= CALLS * 8


@pytest.mark.parametrize("reads", [1, 2])
async def test_a_push_behind_a_join_that_crashes_gets_an_answer(serve: Serve, reads: int) -> None:
    server, client = await connected(serve)
    (pool,) = [
        child.pid
        for child in await Supervisor.which_children(server.pid)
        if child.id == "UserSocket channels"
    ]
    await Supervisor.terminate_child(pool, 0)
    join, push = ("1", "1", "room:a", "phx_join"), ("1", "2", "room:a", "echo")
    if reads == 1:
        got = await client.exchange(join, push)
    else:
        got = [*await client.exchange(join), *await client.exchange(push)]
    assert got == [
        reply("1", "1", "room:a", {"reason": "join crashed"}, "error"),
        reply(None, "2", "room:a", {"reason": "unmatched topic"}, "error"),
    ]


async def test_no_channel_of_a_closing_connection_stays(serve: Serve) -> None:
    mount = Mount(UserSocket, partitions=1)
    server = await serve(Endpoint(sockets={"/socket": mount}, max_buffered_messages=10))
    sessions = server.listen(SESSION_STARTED)
    gate = Gate()
    client = await server.connect(gate=gate)
    connection = sessions[0][1]["server"]
    gate.shut()
    while connection.out.statistics().waiting_messages < 10:
        await client.exchange(HEARTBEAT)
    budget = connection.services.budget
    budget.spend(room_of(budget))
    # The answer to the heartbeat overflows the buffer, and the join waits for work.
    client.send(HEARTBEAT, ("1", "1", "room:a", "phx_join"))
    await settle()
    assert connection.closing is not None
    assert server.channels("room:a") == []


async def test_a_short_binary_message_takes_no_step(serve: Serve) -> None:
    _, client = await connected(serve)
    await client.join()
    with steps_of(client.process) as steps:
        client.write(client_frame(BINARY, bytes((0, 1, 1, 6, 4)) + b"12room:aecho"))
        await settle()
    assert [frame.opcode for frame in client.frames()] == [BINARY]
    assert steps.count == 0


async def test_a_read_with_a_ping_delivers_nothing_before_the_connection_runs(serve: Serve) -> None:
    connection, client = await started(serve)
    await client.join()
    (membership,) = connection.members
    connection._tell(text("1", "2", "room:a", "count", {}) + client_frame(PING, b""))
    assert membership.waiting == 0
    await settle()
    assert reply("1", "2", "room:a", {"count": 1}) in client.frames()


async def test_a_push_before_a_second_join_in_one_read_gets_no_answer(serve: Serve) -> None:
    connection, client = await started(serve)
    await client.join()
    connection._tell(
        text("1", "2", "room:a", "count", {}) + text("3", "3", "room:a", "phx_join", {})
    )
    await settle()
    # The earlier channel ended in the step that delivered the push, so it gave no answer.
    refs = [frame[1] for frame in client.frames()]
    assert ("2" in refs, "3" in refs) == (False, True)


def test_the_messages_of_a_short_read_are_free() -> None:
    assert SHORT_MESSAGE <= FREE_BYTES


async def test_a_message_before_one_that_fails_to_decode_reaches_its_channel(serve: Serve) -> None:
    server, client = await connected(serve, serializers=[(Flaky(), Requirement("~> 2.0.0"))])
    other = await server.connect()
    await client.join()
    await other.join()
    client.send(("1", "2", "room:a", "shout"), (None, "3", "phoenix", "flaky"))
    await settle()
    assert client.process is not None
    assert not is_alive(client.process)
    assert [frame[3] for frame in other.frames()] == ["shouted"]


class Odd(BaseException):
    """An error that is no `Exception`."""


async def test_an_odd_error_of_a_serializer_does_not_reach_the_reader(serve: Serve) -> None:
    serializers = [(Fatal(Odd), Requirement("~> 2.0.0"))]
    server, _ = await connected(serve, serializers=serializers)
    sessions = server.listen(SESSION_STARTED)
    await server.connect()
    connection = sessions[0][1]["server"]
    crashes = server.crashes()
    # A poller reads for all clients, so an exception here would end all connections.
    connection._tell(text(None, "1", "phoenix", "fatal", {}))
    await settle()
    assert [type(each) for each in crashes] == [Odd]
    assert not is_alive(connection.pid)


@pytest.mark.parametrize("failure", [StartError("x"), StartIgnored()])
@pytest.mark.parametrize("waits", [False, True])
async def test_a_join_whose_start_fails_is_answered_and_the_rest_of_the_read_handled(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, failure: Exception, waits: bool
) -> None:
    async def fails_later(*_: Any) -> Pid:
        await trio.lowlevel.checkpoint()
        raise failure

    def fails(*_: Any) -> Pid:
        raise failure

    monkeypatch.setattr(Room, "_server", staticmethod(fails_later if waits else fails))
    _, client = await connected(serve)
    assert await client.exchange(
        ("1", "1", "room:a", "phx_join"), (None, "2", "phoenix", "heartbeat")
    ) == [
        reply("1", "1", "room:a", {"reason": "join crashed"}, "error"),
        reply(None, "2", "phoenix"),
    ]


# With instruments


class Events(Instrument):
    """Lists the kinds of the messages that a process takes."""

    def __init__(self, pid: Pid | None) -> None:
        self.pid = pid
        self.kinds: list[str] = []

    def message_received(self, pid: Pid, message: Any) -> None:
        if pid is self.pid:
            self.kinds.append(type(message).__name__)


async def test_a_connection_takes_the_same_way_while_an_instrument_watches(serve: Serve) -> None:
    server, client = await connected(serve)
    pool = server.runtime.resolve((server.endpoint, *POOL))
    assert pool is not None

    async def crash_and_rejoin() -> list[Any]:
        await client.join("room:a", "1")
        frames = await client.exchange(("1", "2", "room:a", "echo"), HEARTBEAT)
        frames += await client.exchange(("1", "3", "room:a", "crash"))
        await client.join("room:a", "4")
        return frames + await client.exchange(("4", "5", "room:a", "phx_leave"))

    async def watched() -> tuple[list[Any], int, int]:
        with steps_of(client.process) as steps, steps_of(pool.pid) as pool_steps:
            frames = await crash_and_rejoin()
        return frames, steps.count, pool_steps.count

    plain = await watched()
    connection_events, pool_events = Events(client.process), Events(pool.pid)
    server.runtime.add_instrument(connection_events)
    server.runtime.add_instrument(pool_events)
    assert await watched() == plain
    assert plain[1:] == (0, 0)
    assert connection_events.kinds == [
        *("bytes", "bytes", "bytes", "Down", "bytes"),
        *("bytes", "Down"),
    ]
    assert pool_events.kinds == ["CallRequest", "Exit", "CallRequest", "Exit"]
