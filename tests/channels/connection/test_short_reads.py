"""Short reads, which the task of the reader handles in place of an idle connection."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from actors import Instrument, Pid, current_pid, is_alive, sys
from channels import Endpoint, Mount
from channels.connection.session_server import JOIN_COST, SessionServer
from channels.connection.work_budget import TURN_BUDGET, WorkBudget
from channels.messages import Message
from channels.serializers.serializer import Requirement
from channels.serializers.v2 import V2
from tests.channels.rooms import UserSocket
from tests.channels.support import EOF, Client, Close, Server, phx_error, reply, settle
from tests.channels.transports.frames import BINARY, PING, TEXT, client_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.channels.conftest import Serve

POOL = ("channels", "UserSocket", 0)


class _Steps(trio.abc.Instrument):
    """Counts the steps of one task."""

    def __init__(self, task: Any) -> None:
        self.task = task
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += task is self.task


@contextmanager
def steps_of(pid: Pid | None) -> Iterator[_Steps]:
    """Count the steps of a process."""
    assert pid is not None
    process: Any = pid.process
    steps = _Steps(process.task)
    trio.lowlevel.add_instrument(steps)
    try:
        yield steps
    finally:
        trio.lowlevel.remove_instrument(steps)


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
    assert steps.steps == 0


@pytest.mark.parametrize("what", ["long", "split", "many", "malformed"])
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
        elif what == "many":
            client.write(client_frame(PING, b"") * 9 + frame)
        else:
            client.write(client_frame(TEXT, b"{"))
        await settle()
    assert steps.steps > 0
    if what == "malformed":
        assert client.frames() == [Close(1011, ""), EOF]
    else:
        assert client.frames()[-1][:4] == ["1", "2", "room:a", "phx_reply"]


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
    # Now the connection waits for the pool in the middle of a callback, so it looks idle.
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
    assert steps.steps == 0, "the connection is idle again"


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

    seen: list[Pid]

    def decode(self, data: bytes, *, binary: bool) -> Message:
        self.seen.append(current_pid())
        if binary:
            raise ValueError("a bug of the application")
        return super().decode(data, binary=binary)


async def test_an_error_of_a_serializer_crashes_only_its_own_connection(serve: Serve) -> None:
    picky = Picky()
    picky.seen = []
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

    def fail(*_: Any) -> None:
        raise RuntimeError("a bug of ours")

    with monkeypatch.context() as patch:
        patch.setattr(SessionServer, "_carry_out_now", fail)
        client.send((None, "1", "phoenix", "heartbeat"))
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
    assert steps.steps > 0
    assert budget.statistics().waits == 1
