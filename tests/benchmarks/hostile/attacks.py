"""Attacks on a server: each has many strangers at a time, on connections of their own.

A stranger attacks, reads the answers, and returns its result after the server has disconnected it. Run as a program,
`python -m tests.benchmarks.hostile.attacks NAME PORT STRANGERS`, the module prints all results as one line of JSON.
"""

from __future__ import annotations

import json
import math
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

__all__ = ["ATTACKS", "LATE", "PATIENCE", "attack", "prepare"]

PATIENCE = 120.0
"""Seconds that a stranger waits for the server to disconnect it."""

LATE = "408, late itself"
"""The result of a stranger whose head took so long that 408 was the right answer."""

_BURST = 200  # of connections that are being opened at a time, for the system keeps no more waiting than it has room
_MESSAGE = 10_000_000
_PIECE = 10_000_000
_FLOOD_SECONDS = 5.0
_TOGETHER = 3.0  # until all strangers are connected, and less than the server's timeout for the next request
_FLOOD_PIECE = 64 * 1024
_UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
)
_SOCKET = "/socket/websocket?vsn=2.0.0"


class _Line:
    """The line of one stranger to the server.

    Args:
        stream: the connection.
        began: the time at which the stranger began to connect.
        together: the time at which all strangers of an attack act at once, if the attack wants that.

    Attributes:
        answers: the answers of the server so far, at most 64 KiB.
    """

    def __init__(self, stream: trio.SocketStream, began: float, together: float) -> None:
        self.stream = stream
        self.together = together
        self.answers = b""
        self._began = began
        self._more = trio.Event()
        self._took: float | None = None

    async def send_all(self, data: bytes) -> None:
        """Send to the server."""
        is_first = self._took is None
        if is_first:
            self._took = math.inf
        await self.stream.send_all(data)
        if is_first:
            self._took = trio.current_time() - self._began

    def hear(self, piece: bytes | bytearray) -> None:
        """Keep a piece of the server's answers."""
        self.answers = (self.answers + piece)[-65536:]
        self._more.set()
        self._more = trio.Event()

    async def more(self) -> None:
        """Wait for the next piece of the server's answers."""
        await self._more.wait()

    def was_late(self, seconds: float) -> bool:
        """Return True if the stranger's first data went out at least so many seconds after it began to connect."""
        return self._took is not None and self._took >= seconds


Stranger: TypeAlias = Callable[[_Line], Awaitable[None]]


def _upgrade(path: str = _SOCKET, more: str = "") -> bytes:
    return _UPGRADE.format(path=path, more=more).encode()


def _post(path: str, size: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\n"
        f"Content-Length: {size}\r\n\r\n"
    ).encode()


async def _trickle(line: _Line, data: bytes, *, pause: float = 1.0) -> None:
    for byte in data:
        await line.send_all(bytes((byte,)))
        await trio.sleep(pause)


async def _slow_head(line: _Line) -> None:
    await _trickle(line, _upgrade())


async def _silent(line: _Line) -> None:
    """Say nothing."""


async def _nowhere(line: _Line) -> None:
    await line.send_all(_upgrade("/no/such/socket/websocket?vsn=2.0.0"))


async def _big_head(line: _Line) -> None:
    await line.send_all(_upgrade(more=f"X-Filler: {'x' * 1_000_000}\r\n"))


async def _slow_poll(line: _Line) -> None:
    await line.send_all(_post("/socket/longpoll?vsn=2.0.0", 8_000_000))
    await _trickle(line, b"[" * 1000)


async def _slow_page(line: _Line) -> None:
    await line.send_all(_post("/", 8_000_000))
    await _trickle(line, b"x" * 1000)


async def _second_head(line: _Line) -> None:
    await line.send_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    await _trickle(line, _upgrade())


async def _polls_at_once(line: _Line) -> None:
    head = "GET /socket/longpoll?vsn=2.0.0{} HTTP/1.1\r\nHost: test\r\n\r\n"
    await line.send_all(head.format("").encode())
    while (found := re.search(rb'"token":"([^"]+)"', line.answers)) is None:
        await line.more()
    for _ in range(2):
        # The poll is held until the session has waited for a whole window, and then the next one comes.
        await trio.sleep_until(line.together)
        answers = line.answers.count(b"HTTP/1.1 ")
        await line.send_all(head.format(f"&token={found[1].decode()}").encode())
        while line.answers.count(b"HTTP/1.1 ") == answers:
            await line.more()
        line.together = trio.current_time() + 1
    await line.stream.aclose()


@cache
def _half_message() -> bytes:
    return client_frame(TEXT, b"[" * _MESSAGE)[: _MESSAGE - 100_000]


async def _half_messages(line: _Line) -> None:
    await line.send_all(_upgrade())
    await line.send_all(_half_message())


@cache
def _bomb(size: int) -> bytes:
    """A message that is two hundred thousand times as long as it looks, and means nothing."""
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(b'["1","2","room:a","ping",{"x":"')
    packed += packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush, the same data is packed in the same way, so one piece stands for all of the same size.
    piece = packer.compress(b"x" * _PIECE) + packer.flush(zlib.Z_FULL_FLUSH)
    packed += piece * (size // _PIECE)
    packed += packer.compress(b"x" * (size % _PIECE) + b'"}]')
    packed += packer.flush(zlib.Z_SYNC_FLUSH)
    return client_frame(TEXT, packed[:-4], rsv=4)


async def _explode(line: _Line, bomb: bytes, count: int) -> None:
    join = client_frame(TEXT, b'["1","1","room:a","phx_join",{}]')
    await line.send_all(_upgrade(more="Sec-WebSocket-Extensions: permessage-deflate\r\n") + join)
    await line.send_all(bomb * count)


async def _bomb_too_big(line: _Line) -> None:
    await _explode(line, _bomb(1_000_000_000), 1)


async def _bombs_that_fit(line: _Line) -> None:
    await _explode(line, _bomb(_MESSAGE - 1000), 10)
    await line.send_all(client_frame(TEXT, b"that was it"))  # which closes


async def _flood(line: _Line, frames: bytes, first: bytes = b"") -> None:
    """Send frames as fast as the server takes them, for a while."""
    await line.send_all(_upgrade() + first)
    await _keep_sending(line, frames * (_FLOOD_PIECE // len(frames)))
    await line.send_all(client_close(1000))


async def _keep_sending(line: _Line, piece: bytes) -> None:
    with trio.move_on_after(_FLOOD_SECONDS):
        while True:
            # Not to be cut off within a frame, which would be another attack.
            with trio.CancelScope(shield=True):
                await line.send_all(piece)
            await trio.lowlevel.checkpoint()


async def _pongs(line: _Line) -> None:
    await _flood(line, client_frame(PONG, b""))


async def _fragments(line: _Line) -> None:
    # A byte each: an empty one that ends nothing is closed with 1008.
    begins = client_frame(TEXT, b"[", fin=False)
    await _flood(line, client_frame(CONTINUATION, b" ", fin=False), begins)


async def _pings(line: _Line) -> None:
    await _flood(line, client_frame(PING, b""))


async def _joins(line: _Line) -> None:
    join = client_frame(TEXT, b'["1","1","room:a","phx_join",{}]')
    await line.send_all(_upgrade() + join * 2000 + client_close(1000))


@cache
def _json(values: int, one: bytes) -> bytes:
    """A message of 10 MB, and as many values, which are echoed."""
    text = b'["1","2","room:a","ping",[' + one * values
    return client_frame(TEXT, text + b'"' + b"x" * (_MESSAGE - len(text) - 4) + b'"]]')


async def _send_json(line: _Line, message: bytes, count: int) -> None:
    join = client_frame(TEXT, b'["1","1","room:a","phx_join",{}]')
    await line.send_all(_upgrade() + join)
    for _ in range(count):
        await line.send_all(message)
    await line.send_all(client_close(1000))


async def _lists(line: _Line) -> None:
    await _send_json(line, _json(3_000_000, b"[],"), 1)


async def _slow_numbers(line: _Line) -> None:
    await _send_json(line, _json(1_600_000, b"1e300,"), 1)


async def _lists_that_fit(line: _Line) -> None:
    await _send_json(line, _json(49_000, b"[],"), 5)


async def _small_lists(line: _Line) -> None:
    small = b'["1","2","room:a","ping",[' + b"[]," * 21_000 + b"1]]"
    await _send_json(line, client_frame(TEXT, small), 100)


ATTACKS: dict[str, tuple[Stranger, tuple[int, ...]]] = {
    "a head, a byte a second": (_slow_head, (1000,)),
    "nothing at all": (_silent, (10_000,)),
    "an upgrade to a path that does not exist": (_nowhere, (1000,)),
    "a header of a megabyte": (_big_head, (100,)),
    "a polling client's body, a byte a second": (_slow_poll, (1000,)),
    "a page's body, a byte a second": (_slow_page, (1000,)),
    "a second head, a byte a second": (_second_head, (1000,)),
    "polls at the same moment": (_polls_at_once, (500,)),
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
"""The attacks by name: the function, and the numbers of strangers for the benchmark."""


async def attack(
    name: str, port: int, strangers: int, *, head_timeout: float = math.inf
) -> Counter[str]:
    """Run an attack until the server has disconnected every stranger.

    Returns what they got: the status of an answer, `"closed with"` a code, or `"nothing"`. Those that are still held
    after `PATIENCE` seconds got `"held"`.

    Args:
        name: of the attack.
        port: of the server.
        strangers: how many there are.
        head_timeout: seconds after which the server answers 408. A stranger that needed as many to send its head, on
            a busy machine, got `LATE` and not 408.
    """
    ends: Counter[str] = Counter()
    together = trio.current_time() + _TOGETHER
    opening = trio.CapacityLimiter(_BURST)

    async def one(stranger: Stranger) -> None:
        with trio.move_on_after(PATIENCE):
            async with opening:
                began = trio.current_time()
                line = _Line(await trio.open_tcp_stream("127.0.0.1", port), began, together)
            end = await _suffer(stranger, line)
            ends[LATE if end == "408" and line.was_late(head_timeout) else end] += 1
            return
        ends["held"] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(strangers):
            nursery.start_soon(one, ATTACKS[name][0])
    return ends


def prepare() -> None:
    """Build expensive data beforehand, so that it does not delay the strangers."""
    _half_message()
    for size in (1_000_000_000, _MESSAGE - 1000):
        _bomb(size)
    for values, one in ((3_000_000, b"[],"), (1_600_000, b"1e300,"), (49_000, b"[],")):
        _json(values, one)


async def _suffer(stranger: Stranger, line: _Line) -> str:
    async with line.stream as stream, trio.open_nursery() as nursery:

        async def act() -> None:
            try:
                await stranger(line)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the server has had enough, which is what is hoped for

        nursery.start_soon(act)
        try:
            while piece := await stream.receive_some(65536):
                line.hear(piece)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # likewise, or the stranger has left
        nursery.cancel_scope.cancel()
    return _name_of(line.answers)


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
