"""Short reads: what the second review found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from actors import StartError, StartIgnored, is_alive
from channels import Endpoint, Mount
from channels.messages import Message
from channels.serializers.serializer import Requirement
from channels.serializers.v2 import V2
from channels.telemetry import SESSION_STARTED
from supervision import DynamicSupervisor, Supervisor
from tests.channels.connection.test_short_reads import (
    HEARTBEAT,
    Flaky,
    connected,
    room_of,
    started,
    steps_of,
)
from tests.channels.rooms import UserSocket
from tests.channels.support import Gate, reply, settle, text
from tests.channels.transports.frames import BINARY, PING, client_frame

if TYPE_CHECKING:
    from tests.channels.conftest import Serve


@pytest.mark.parametrize(
    "reads",
    [
        2,
        pytest.param(
            1,
            marks=pytest.mark.xfail(
                strict=True, reason="the push was decoded before the join failed, so it is dropped"
            ),
        ),
    ],
)
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


@pytest.mark.xfail(
    strict=True, reason="the signal of the out-buffer is before the rest of the read"
)
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
    assert [frame[:3] for frame in map(_head, client.frames())] == [["1", "2", "room:a"]]
    assert steps.steps == 0


def _head(frame: Any) -> list[Any]:
    return list(frame) if isinstance(frame, list) else [*"12", "room:a"] if frame else []


async def test_a_read_with_a_ping_delivers_nothing_before_the_connection_runs(serve: Serve) -> None:
    connection, client = await started(serve)
    await client.join()
    (membership,) = connection.members
    connection._tell(text("1", "2", "room:a", "count", {}) + client_frame(PING, b""))
    assert membership.waiting == 0
    await settle()
    assert reply("1", "2", "room:a", {"count": 1}) in client.frames()


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


class OddSerializer(V2):
    def decode(self, data: bytes, *, binary: bool) -> Message:
        message = super().decode(data, binary=binary)
        if message.event == "odd":
            raise Odd
        return message


async def test_an_odd_error_of_a_serializer_does_not_reach_the_reader(serve: Serve) -> None:
    serializers = [(OddSerializer(), Requirement("~> 2.0.0"))]
    server, _ = await connected(serve, serializers=serializers)
    sessions = server.listen(SESSION_STARTED)
    await server.connect()
    connection = sessions[0][1]["server"]
    crashes = server.crashes()
    # A poller reads for all clients, so an exception here would end all connections.
    connection._tell(text(None, "1", "phoenix", "odd", {}))
    await settle()
    assert [type(each) for each in crashes] == [Odd]
    assert not is_alive(connection.pid)


@pytest.mark.parametrize("failure", [StartError("x"), StartIgnored()])
async def test_a_join_whose_quick_start_fails_is_left_to_the_connection(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    _, client = await connected(serve)
    start = DynamicSupervisor.start_child_nowait
    failures = [failure]

    def fail_once(*args: Any) -> Any:
        if failures:
            raise failures.pop()
        return start(*args)

    monkeypatch.setattr(DynamicSupervisor, "start_child_nowait", staticmethod(fail_once))
    with steps_of(client.process) as steps:
        await client.join()
    assert steps.steps > 0
