"""The last words to somebody who is turned away: they are read, in time, and cost no file."""

from __future__ import annotations

import socket
from pathlib import Path

import trio
from trio.testing import wait_all_tasks_blocked

from channels.upgrade.final_answer import say_last


def files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def test_they_arrive_whole_and_take_no_file_while_they_wait_to_be_read() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        before = files()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say_last, here, b"go away")
            await wait_all_tasks_blocked()
            assert files() == before
            assert there.recv(100) == b"go away"
            assert there.recv(100) == b""
            there.sendall(b"I am still talking")
            there.close()
        assert here.fileno() >= 0


async def test_a_peer_that_does_not_read_is_left_alone_after_five_seconds(
    autojump_clock: object,
) -> None:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        await say_last(here, b"x" * 10_000_000)
        assert trio.current_time() == 5.0


async def test_a_peer_that_has_gone_is_no_error(autojump_clock: object) -> None:
    here, there = socket.socketpair()
    with here:
        here.setblocking(False)
        there.close()
        await say_last(here, b"go away")
        assert trio.current_time() == 0.0


async def test_a_stream_is_closed() -> None:
    here, there = trio.testing.memory_stream_pair()
    await say_last(here, b"go away")
    assert await there.receive_some() == b"go away"
    assert await there.receive_some() == b""
