"""The tools of these tests: time is virtual where it should be, and frames are read as a client reads them."""

from __future__ import annotations

import time

import pytest
import trio

from channels.wire.websocket import close_frame, frame
from tests.channels.support import EOF, Close, Reader, TcpClient
from tests.channels.transports.sockets import socket_pair
from tests.patience import PATIENCE


async def test_an_hour_of_virtual_sleep_takes_no_real_time() -> None:
    began, real = trio.current_time(), time.monotonic()
    await trio.sleep(3600)
    assert trio.current_time() - began == 3600
    assert time.monotonic() - real < PATIENCE


def test_the_client_splits_an_http_answer_from_the_frames_after_it() -> None:
    reader = Reader()
    reader.feed(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" + frame(b"[1]")[:2]
    )
    answer = reader.answer()
    assert answer is not None
    assert (answer.status, answer.headers) == (101, {"upgrade": "websocket"})
    assert reader.frames() == []
    long = b'["' + b"x" * 70_000 + b'"]'
    reader.feed(frame(b"[1]")[2:] + frame(long) + close_frame(1001, "bye"))
    reader.feed(b"")
    assert reader.frames() == [[1], ["x" * 70_000], Close(1001, "bye"), EOF]


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536])
def test_the_client_reads_frames_of_all_length_encodings(size: int) -> None:
    reader = Reader()
    data = frame(b'"' + b"x" * (size - 2) + b'"')
    reader.feed(data[:-1])
    assert reader.frames() == []
    reader.feed(data[-1:])
    assert reader.frames() == ["x" * (size - 2)]


async def test_a_client_on_a_real_socket_fails_if_the_server_closes_without_an_answer() -> None:
    with socket_pair() as (ours, theirs):
        theirs.send(b"HTTP/1.1 200 OK\r\n")
        theirs.close()
        client = TcpClient(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        with trio.fail_after(5), pytest.raises(AssertionError, match="without an answer"):
            await client.answer()
        await client.close()
