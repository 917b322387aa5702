"""The control lines between a parent and a worker."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from channels.pubsub.workers.control import ControlLine, Setup, read_setup

# Over real sockets, which a virtual clock would run away from.
REAL_CLOCK = True

SETUP = Setup(
    id=3,
    place=2,
    host="localhost",
    port=4000,
    listening=[7, 8],
    peers=[9],
    grants=10,
    lock=11,
    lifeline=12,
    secret=b"\0secret\xff",
    options={"log_level": "info"},
)


async def test_a_setup_is_read_before_the_lines_behind_it() -> None:
    ours, theirs = socket.socketpair()
    parent = ControlLine(ours)
    assert parent.send(SETUP)
    assert parent.send({"type": "report"})
    assert read_setup(theirs) == SETUP
    parent.close()
    worker = ControlLine(theirs)
    assert [message async for message in worker.messages()] == [{"type": "report"}]
    worker.close()


def test_a_setup_does_not_show_its_secret() -> None:
    assert repr(SETUP) == "<setup of worker 3 at place 2>"


@pytest.mark.parametrize("data", [b"", b"{}\n", b"not json\n", b"{" * 100_000])
def test_something_else_is_no_setup(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(ValueError, match=r"."):
            read_setup(theirs)


async def test_lines_that_are_no_messages_are_ignored() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(b'nonsense\n[1]\n{"type":"stopping"}\n')
    line = ControlLine(theirs)
    assert [message async for message in line.messages()] == [{"type": "stopping"}]
    line.close()


async def test_a_line_without_an_end_ends_the_conversation() -> None:
    ours, theirs = socket.socketpair()
    line = ControlLine(theirs)
    ours.setblocking(False)
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            assert [message async for message in line.messages()] == []
            nursery.cancel_scope.cancel()

        nursery.start_soon(listen)
        while True:
            await trio.lowlevel.wait_writable(ours)
            ours.send(b"x" * 10_000)
    ours.close()
    line.close()


async def test_a_message_to_the_dead_is_not_sent() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    line = ControlLine(ours)
    assert not line.send({"type": "report"})
    line.close()
    assert not line.send({"type": "report"})


async def test_a_message_to_somebody_who_does_not_read_is_not_sent() -> None:
    ours, theirs = socket.socketpair()
    line = ControlLine(ours)
    message: dict[str, Any] = {"type": "x", "data": "y" * 1000}
    sent = 0
    while line.send(message):
        sent += 1
        assert sent < 10_000
    line.close()
    theirs.close()


async def test_closing_a_line_ends_its_reader() -> None:
    ours, theirs = socket.socketpair()
    line = ControlLine(theirs)
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            assert [message async for message in line.messages()] == []

        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        line.close()
        line.close()
    ours.close()


async def test_sockets_travel_with_their_message_and_in_order() -> None:
    ours, theirs = socket.socketpair()
    parent, worker = ControlLine(ours), ControlLine(theirs)
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        assert parent.send({"type": "adopt", "sockets": 1}, [one])
        assert parent.send({"type": "report"})
        assert parent.send({"type": "adopt", "sockets": 1}, [other])
        addresses = [one.getsockname(), other.getsockname()]
    parent.close()
    received = []
    async for message in worker.messages():
        if message["type"] == "adopt":
            received += worker.take_sockets(message["sockets"])
    assert [sock.getsockname() for sock in received] == addresses
    assert not any(os.get_inheritable(sock.fileno()) for sock in received)
    assert worker.take_sockets(1) == []
    for sock in received:
        sock.close()
    worker.close()


async def test_closing_a_line_closes_the_sockets_that_nobody_took() -> None:
    ours, theirs = socket.socketpair()
    parent, worker = ControlLine(ours), ControlLine(theirs)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        parent.send({"type": "adopt", "sockets": 1}, [listening])
    parent.close()
    assert [message["type"] async for message in worker.messages()] == ["adopt"]
    socket.create_connection(address).close()
    worker.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
