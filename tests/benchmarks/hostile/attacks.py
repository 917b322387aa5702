"""What strangers do to a server: each attack is many of them at a time, on connections of their own.

A stranger does its worst, reads what comes, and says how it ended, once the server has let go of it. Run as a program,
`python -m tests.benchmarks.hostile.attacks NAME PORT STRANGERS`, it prints that for all of them, as one line of JSON.
"""

from __future__ import annotations

import json
import re
import sys
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import cache
from typing import TypeAlias

import trio

from tests.channels.transports.frames import (
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    client_close,
    client_frame,
)

__all__ = ["ATTACKS", "PATIENCE", "attack", "prepare"]

PATIENCE = 120.0
"""Seconds that a stranger waits to be let go of."""

_BURST = 200  # of connections that are being opened at a time, for the system keeps no more waiting than it has room
_MESSAGE = 10_000_000
_FLOOD_SECONDS = 5.0
_FLOOD_PIECE = 64 * 1024
_UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
)
_SOCKET = "/socket/websocket?vsn=2.0.0"

Stranger: TypeAlias = Callable[[trio.SocketStream], Awaitable[None]]


def _upgrade(path: str = _SOCKET, more: str = "") -> bytes:
    return _UPGRADE.format(path=path, more=more).encode()


def _post(path: str, size: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\n"
        f"Content-Length: {size}\r\n\r\n"
    ).encode()


async def _trickle(stream: trio.SocketStream, data: bytes, *, pause: float = 1.0) -> None:
    for byte in data:
        await stream.send_all(bytes((byte,)))
        await trio.sleep(pause)


async def _slow_head(stream: trio.SocketStream) -> None:
    await _trickle(stream, _upgrade())


async def _silent(stream: trio.SocketStream) -> None:
    """Say nothing."""


async def _nowhere(stream: trio.SocketStream) -> None:
    await stream.send_all(_upgrade("/no/such/socket/websocket?vsn=2.0.0"))


async def _big_head(stream: trio.SocketStream) -> None:
    await stream.send_all(_upgrade(more=f"X-Filler: {'x' * 1_000_000}\r\n"))


async def _slow_poll(stream: trio.SocketStream) -> None:
    await stream.send_all(_post("/socket/longpoll?vsn=2.0.0", 8_000_000))
    await _trickle(stream, b"[" * 1000)


async def _slow_page(stream: trio.SocketStream) -> None:
    await stream.send_all(_post("/", 8_000_000))
    await _trickle(stream, b"x" * 1000)


async def _second_head(stream: trio.SocketStream) -> None:
    await stream.send_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    await _trickle(stream, _upgrade())


async def _idle_http2(stream: trio.SocketStream) -> None:
    await stream.send_all(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    )


@cache
def _half_message() -> bytes:
    return client_frame(TEXT, b"[" * _MESSAGE)[: _MESSAGE - 100_000]


async def _half_messages(stream: trio.SocketStream) -> None:
    await stream.send_all(_upgrade())
    await stream.send_all(_half_message())


@cache
def _bomb(size: int) -> bytes:
    """A message that is two hundred thousand times as long as it looks, and means nothing."""
    text = b'["1","2","room:a","ping",{"x":"' + b"x" * size + b'"}]'
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)
    return client_frame(TEXT, packed[:-4], rsv=4)


async def _explode(stream: trio.SocketStream, bomb: bytes, count: int) -> None:
    join = client_frame(TEXT, b'["1","1","room:a","phx_join",{}]')
    await stream.send_all(_upgrade(more="Sec-WebSocket-Extensions: permessage-deflate\r\n") + join)
    await stream.send_all(bomb * count)


async def _bomb_too_big(stream: trio.SocketStream) -> None:
    await _explode(stream, _bomb(1_000_000_000), 1)


async def _bombs_that_fit(stream: trio.SocketStream) -> None:
    await _explode(stream, _bomb(_MESSAGE - 1000), 10)
    await stream.send_all(client_frame(TEXT, b"that was it"))  # which closes


async def _flood(stream: trio.SocketStream, frames: bytes, first: bytes = b"") -> None:
    """Send frames as fast as the server takes them, for a while."""
    piece = frames * (_FLOOD_PIECE // len(frames))
    await stream.send_all(_upgrade() + first)
    with trio.move_on_after(_FLOOD_SECONDS):
        while True:
            # Not to be cut off within a frame, which would be another attack.
            with trio.CancelScope(shield=True):
                await stream.send_all(piece)
            await trio.lowlevel.checkpoint()
    await stream.send_all(client_close(1000))


async def _pongs(stream: trio.SocketStream) -> None:
    await _flood(stream, client_frame(PONG, b""))


async def _fragments(stream: trio.SocketStream) -> None:
    begins = client_frame(TEXT, b"[", fin=False)
    await _flood(stream, client_frame(CONTINUATION, b"", fin=False), begins)


async def _pings(stream: trio.SocketStream) -> None:
    await _flood(stream, client_frame(PING, b""))


async def _joins(stream: trio.SocketStream) -> None:
    join = client_frame(TEXT, b'["1","1","room:a","phx_join",{}]')
    await stream.send_all(_upgrade() + join * 2000 + client_close(1000))


@cache
def _json(values: int, one: bytes) -> bytes:
    """A message of 10 MB, and as many values, which are echoed."""
    text = b'["1","2","room:a","ping",[' + one * values
    return client_frame(TEXT, text + b'"' + b"x" * (_MESSAGE - len(text) - 4) + b'"]]')


async def _send_json(stream: trio.SocketStream, message: bytes, count: int) -> None:
    join = client_frame(TEXT, b'["1","1","room:a","phx_join",{}]')
    await stream.send_all(_upgrade() + join)
    for _ in range(count):
        await stream.send_all(message)
    await stream.send_all(client_close(1000))


async def _lists(stream: trio.SocketStream) -> None:
    await _send_json(stream, _json(3_000_000, b"[],"), 1)


async def _slow_numbers(stream: trio.SocketStream) -> None:
    await _send_json(stream, _json(1_600_000, b"1e300,"), 1)


async def _lists_that_fit(stream: trio.SocketStream) -> None:
    await _send_json(stream, _json(49_000, b"[],"), 5)


async def _small_lists(stream: trio.SocketStream) -> None:
    small = b'["1","2","room:a","ping",[' + b"[]," * 21_000 + b"1]]"
    await _send_json(stream, client_frame(TEXT, small), 100)


ATTACKS: dict[str, tuple[Stranger, tuple[int, ...]]] = {
    "a head, a byte a second": (_slow_head, (1000,)),
    "nothing at all": (_silent, (10_000,)),
    "an upgrade to a path that does not exist": (_nowhere, (1000,)),
    "a header of a megabyte": (_big_head, (100,)),
    "a polling client's body, a byte a second": (_slow_poll, (1000,)),
    "a page's body, a byte a second": (_slow_page, (1000,)),
    "a second head, a byte a second": (_second_head, (1000,)),
    "HTTP/2 without a request": (_idle_http2, (1000,)),
    "most of a message of 10 MB": (_half_messages, (100,)),
    "a gigabyte, compressed": (_bomb_too_big, (1, 10)),
    "ten messages of 10 MB, compressed": (_bombs_that_fit, (1, 10)),
    "a flood of pongs": (_pongs, (1, 10, 100)),
    "a flood of fragments": (_fragments, (1, 10, 100)),
    "a flood of pings": (_pings, (1, 10, 100)),
    "two thousand joins of one topic": (_joins, (1, 10, 100)),
    "10 MB of JSON, three million lists": (_lists, (1, 10, 100)),
    "10 MB of JSON, numbers like 1e300": (_slow_numbers, (1, 10, 100)),
    "five times 10 MB of JSON with 49,000 lists": (_lists_that_fit, (1, 10, 100)),
    "a hundred times 63 KB of JSON, 21,000 lists": (_small_lists, (1, 10, 100)),
}
"""What is sent, and by how many strangers in the benchmark, one number after the other."""


async def attack(name: str, port: int, strangers: int) -> Counter[str]:
    """Run an attack, until the server has let go of every stranger.

    Returns what they got: the status of an answer, `"closed with"` a code, or `"nothing"`. Those that are still held
    after `PATIENCE` seconds got `"held"`.
    """
    ends: Counter[str] = Counter()
    opening = trio.CapacityLimiter(_BURST)

    async def one(stranger: Stranger) -> None:
        with trio.move_on_after(PATIENCE):
            async with opening:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            ends[await _suffer(stranger, stream)] += 1
            return
        ends["held"] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(strangers):
            nursery.start_soon(one, ATTACKS[name][0])
    return ends


def prepare() -> None:
    """Make what takes its time to make, or the strangers would be late for another reason."""
    _half_message()
    for size in (1_000_000_000, _MESSAGE - 1000):
        _bomb(size)
    for values, one in ((3_000_000, b"[],"), (1_600_000, b"1e300,"), (49_000, b"[],")):
        _json(values, one)


async def _suffer(stranger: Stranger, stream: trio.SocketStream) -> str:
    answer = b""
    async with stream, trio.open_nursery() as nursery:

        async def act() -> None:
            try:
                await stranger(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the server has had enough, which is what is hoped for

        nursery.start_soon(act)
        try:
            while piece := await stream.receive_some(65536):
                answer = (answer + piece)[-65536:] if answer else piece
        except trio.BrokenResourceError:
            pass  # likewise
        nursery.cancel_scope.cancel()
    return _name_of(answer)


def _name_of(answer: bytes) -> str:
    status = re.match(rb"HTTP/1\.1 (\d{3})", answer)
    if status is not None and status[1] != b"101":
        return status[1].decode()
    if len(answer) >= 4 and b"\x88" in answer[-125:]:
        place = answer.rindex(b"\x88")
        return f"closed with {int.from_bytes(answer[place + 2 : place + 4], 'big')}"
    return "nothing" if not answer else "no answer"


def main() -> None:
    """Attack, and print how it ended and how long it took."""
    name, port, strangers = sys.argv[1:]
    prepare()
    begun = time.monotonic()
    ends = trio.run(attack, name, int(port), int(strangers))
    print(json.dumps({"ends": ends, "seconds": time.monotonic() - begun}))


if __name__ == "__main__":
    main()
