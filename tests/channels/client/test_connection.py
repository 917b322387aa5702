"""One connection of a client over a link that the test controls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from channels.client.connection import CLOSE_TIMEOUT, ClientConnection, End
from channels.client.transports.contract import LinkFailed, LinkLost
from channels.client.wire import Frame, TransportName


class FakeLink:
    """A link that keeps what is sent, and receives what the test puts in."""

    def __init__(self) -> None:
        self.sent: list[list[Frame]] = []
        self.closed: list[tuple[int, str]] = []
        self.gate = trio.Event()
        self.gate.set()
        self.put, self._get = trio.open_memory_channel[Frame | LinkLost](100)

    async def send(self, frames: Sequence[Frame]) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(list(frames))
        await self.gate.wait()

    async def receive(self) -> Frame:
        item = await self._get.receive()
        if isinstance(item, LinkLost):
            raise item
        return item

    async def aclose(self, code: int, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        self.closed.append((code, reason))


class Reports:
    """The owner of a connection, and everything that the connection has reported."""

    def __init__(self, opening: Any) -> None:
        self.said: list[Any] = []
        self.connection = ClientConnection(self, "websocket")
        self._opening = opening

    async def open_link(self, transport: TransportName, nursery: trio.Nursery) -> Any:
        assert transport == "websocket"
        return await self._opening(nursery)

    def opened(self) -> None:
        self.said.append("open")

    def received(self, frame: Frame) -> None:
        self.said.append(frame)

    def ended(self, end: End) -> None:
        self.said.append(end)


def over(link: FakeLink) -> Reports:
    async def open_link(nursery: trio.Nursery) -> FakeLink:
        await trio.lowlevel.checkpoint()
        return link

    return Reports(open_link)


settle = trio.testing.wait_all_tasks_blocked


async def test_frames_are_read_until_the_link_is_lost() -> None:
    link = FakeLink()
    reports = over(link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reports.connection.main)
        lost = LinkLost(1001, "bye")
        for item in ("1", b"2", lost):
            link.put.send_nowait(item)
    assert reports.said == ["open", "1", b"2", lost]


async def test_what_waits_while_a_batch_is_written_is_the_next_batch() -> None:
    link = FakeLink()
    reports = over(link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reports.connection.main)
        await settle()
        link.gate = trio.Event()
        for frame in "abc":
            reports.connection.send_nowait(frame)
        await settle()
        for frame in "def":
            reports.connection.send_nowait(frame)
        await settle()
        assert link.sent == [["a", "b", "c"]]
        assert reports.connection.waiting == ["d", "e", "f"]
        link.gate.set()
        await settle()
        assert link.sent == [["a", "b", "c"], ["d", "e", "f"]]
        nursery.cancel_scope.cancel()


async def test_a_close_writes_what_waits_first_and_reports_nothing_more() -> None:
    link = FakeLink()
    reports = over(link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reports.connection.main)
        await settle()
        reports.connection.send_nowait("last")
        reports.connection.close(1000, "done")
        link.put.send_nowait("late")
    assert link.sent == [["last"]]
    assert link.closed[0] == (1000, "done")
    assert reports.said == ["open"]


async def test_a_close_of_a_peer_that_does_not_read_is_bounded() -> None:
    link = FakeLink()
    link.gate = trio.Event()
    reports = over(link)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reports.connection.main)
        await settle()
        reports.connection.send_nowait("stuck")
        reports.connection.close(1000, "")
    assert trio.current_time() - start == pytest.approx(CLOSE_TIMEOUT)
    assert reports.said == ["open"]


async def test_a_close_of_a_connection_that_opens_ends_it_at_once() -> None:
    async def never(nursery: trio.Nursery) -> FakeLink:
        await trio.sleep_forever()

    reports = Reports(never)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reports.connection.main)
        await settle()
        reports.connection.close(1000, "")
    assert reports.said == []
    assert trio.current_time() == 0


async def test_a_close_before_the_task_has_begun_opens_nothing() -> None:
    async def refuse(nursery: trio.Nursery) -> FakeLink:
        raise AssertionError("opened")

    reports = Reports(refuse)
    reports.connection.close(1000, "")
    await reports.connection.main()
    assert reports.said == []


async def test_a_failure_to_open_is_reported() -> None:
    failure = LinkFailed("no server", 503)

    async def fail(nursery: trio.Nursery) -> FakeLink:
        raise failure

    reports = Reports(fail)
    await reports.connection.main()
    assert reports.said == [failure]


async def test_a_loss_while_writing_is_reported_once_by_the_reader() -> None:
    class Broken(FakeLink):
        async def send(self, frames: Sequence[Frame]) -> None:
            lost = LinkLost(1006)
            self.put.send_nowait(lost)
            raise lost

    link = Broken()
    reports = over(link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reports.connection.main)
        await settle()
        reports.connection.send_nowait("x")
    assert [type(each) for each in reports.said[1:]] == [LinkLost]
    reports.connection.send_nowait("y")


async def test_a_link_is_released_however_the_connection_ends() -> None:
    link = FakeLink()
    reports = over(link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reports.connection.main)
        await settle()
        nursery.cancel_scope.cancel()
    assert reports.said == ["open"]
