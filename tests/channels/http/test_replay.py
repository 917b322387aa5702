"""A stream for Hypercorn: what was read before comes first, and peers that do not read are cut off."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair

from channels.http.handover import HttpHandover
from channels.http.replay import ReplayStream


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 200_000])
async def test_everything_is_written_in_order(size: int) -> None:
    ours, theirs = memory_stream_pair()
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    await ReplayStream(ours, b"").send_all(data)
    await ours.send_eof()
    assert b"".join([piece async for piece in theirs]) == data


async def test_a_peer_that_reads_slowly_gets_everything(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ours, theirs = lockstep_stream_pair()
    data = b"x" * 300_000
    nursery.start_soon(ReplayStream(ours, b"").send_all, data)
    read = 0
    while read < len(data):
        await trio.sleep(50)
        # A whole piece in each minute.
        read += len(await theirs.receive_some(64 * 1024))


async def test_a_peer_that_does_not_read_is_cut_off_after_a_minute(
    autojump_clock: MockClock,
) -> None:
    ours, _ = lockstep_stream_pair()
    with pytest.raises(trio.BrokenResourceError):
        await ReplayStream(ours, b"").send_all(b"x" * 300_000)
    assert trio.current_time() == pytest.approx(60)
    with pytest.raises(trio.ClosedResourceError):
        await ours.receive_some()


async def test_hypercorn_lets_go_of_a_client_that_does_not_read_its_answer(
    autojump_clock: MockClock,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 1_000_000})

    ours, theirs = lockstep_stream_pair()
    handover = HttpHandover(app)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handover.serve, ours)
        await theirs.send_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
        assert (await theirs.receive_some(10)).startswith(b"HTTP/1.1")
    assert handover.connections == 0
    assert trio.current_time() == pytest.approx(60)
