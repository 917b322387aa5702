"""The hub: it passes frames on, and a worker that does not read costs only itself."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from channels.pubsub.workers.frames import DECLARE, ONE, cut, frame, unframe
from channels.pubsub.workers.hub import Hub, Link

# Over real sockets, which a virtual clock would run away from.
REAL_CLOCK = True

LIMIT = 100_000


class Star:
    """A hub and its workers, each as the worker's end of its socket."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.drops: list[tuple[int, int]] = []
        self.hub = Hub(max_buffered_bytes=LIMIT, on_dropped=lambda *drop: self.drops.append(drop))
        self.nursery = nursery
        self.links: list[Link] = []
        self.sockets: list[trio.socket.SocketType] = []

    def join(self) -> trio.socket.SocketType:
        ours, theirs = socket.socketpair()
        link = self.hub.attach(len(self.links) + 1, ours)
        self.nursery.start_soon(link.main)
        self.links.append(link)
        self.sockets.append(trio.socket.from_stdlib_socket(theirs))
        return self.sockets[-1]

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()
        for link in self.links:
            link.close()


@pytest.fixture
async def star(nursery: trio.Nursery) -> AsyncIterator[Star]:
    star = Star(nursery)
    yield star
    star.close()


async def take(sock: trio.socket.SocketType, count: int) -> list[tuple[str, bytes]]:
    """Read this many frames, and no more."""
    data = b""
    while len(ends := cut(data).ends) < count:
        chunk = await sock.recv(65536)
        assert chunk, "the hub has closed the socket"
        data += chunk
    assert ends[-1] == len(data)
    return list(unframe(data, ends))


async def silence(sock: trio.socket.SocketType) -> None:
    await wait_all_tasks_blocked()
    with pytest.raises(BlockingIOError):
        sock._sock.recv(1)  # type: ignore[attr-defined]


async def test_a_frame_reaches_all_workers_but_its_sender(star: Star) -> None:
    a, b, c = star.join(), star.join(), star.join()
    await a.send(frame("0", b"hello"))
    for other in (b, c):
        assert await take(other, 1) == [("0", b"hello")]
    await silence(a)
    assert [(link.received, link.passed) for link in star.links] == [(1, 0), (0, 1), (0, 1)]


async def test_a_frame_that_arrives_in_parts_is_passed_on_when_it_is_whole(star: Star) -> None:
    a, b = star.join(), star.join()
    data = frame("0", b"first") + frame("0", b"second")
    await a.send(data[:15])
    assert await take(b, 1) == [("0", b"first")]
    await silence(b)
    await a.send(data[15:])
    assert await take(b, 1) == [("0", b"second")]


async def test_a_frame_for_one_lane_reaches_the_worker_that_has_declared_it(star: Star) -> None:
    a, b, c = star.join(), star.join(), star.join()
    await b.send(frame("@b", kind=DECLARE))
    await wait_all_tasks_blocked()
    await a.send(
        frame("@b", b"for b", kind=ONE) + frame("0", b"for all") + frame("@x", b"", kind=ONE)
    )
    assert await take(b, 2) == [("@b", b"for b"), ("0", b"for all")]
    assert await take(c, 1) == [("0", b"for all")]


async def test_a_lane_belongs_to_the_worker_that_declared_it_last(star: Star) -> None:
    a, b, c = star.join(), star.join(), star.join()
    for each in (b, c):
        await each.send(frame("@same", kind=DECLARE))
        await wait_all_tasks_blocked()
    b.close()
    await wait_all_tasks_blocked()
    await a.send(frame("@same", b"data", kind=ONE))
    assert await take(c, 1) == [("@same", b"data")]


async def test_a_worker_that_does_not_read_loses_frames_and_the_others_lose_none(
    star: Star,
) -> None:
    a, stuck, b = star.join(), star.join(), star.join()
    envelope = b"x" * 1000
    sent = 2000
    heard = 0
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            nonlocal heard
            data = b""
            while heard < sent:
                data += await b.recv(65536)
                found = cut(data)
                heard += len(found.ends)
                data = data[found.end :]

        nursery.start_soon(listen)
        for _ in range(sent):
            data = frame("0", envelope)
            while data:
                data = data[await a.send(data) :]
    link = star.links[1]
    assert heard == sent
    assert 0 < link.dropped < sent
    assert link.passed + link.dropped == sent
    assert link.buffered_bytes <= LIMIT
    assert sum(frames for worker, frames in star.drops if worker == 2) == link.dropped
    assert {worker for worker, _ in star.drops} == {2}
    # It reads again: it gets whole frames, those before the gap.
    assert await take(stuck, link.passed) == [("0", envelope)] * link.passed
    assert link.buffered_bytes == 0


async def test_a_worker_that_ends_is_forgotten(star: Star) -> None:
    a, b, c = star.join(), star.join(), star.join()
    b.close()
    await wait_all_tasks_blocked()
    await a.send(frame("0", b"hello"))
    assert await take(c, 1) == [("0", b"hello")]
    assert star.links[1].passed == 0
    assert star.drops == []


async def test_bytes_that_are_no_frame_end_the_link_of_their_sender_only(star: Star) -> None:
    a, b, c = star.join(), star.join(), star.join()
    await a.send(b"GET / HTTP/1.1\r\n\r\n")
    assert await a.recv(1) == b""
    await b.send(frame("0", b"hello"))
    assert await take(c, 1) == [("0", b"hello")]
