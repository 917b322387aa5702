"""The line between a worker and the table of grants: answers, back-pressure, malformed lines and both ends."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from channels.pubsub.adapter import Node
from channels.pubsub.workers.grant_line import (
    GrantClient,
    GrantLink,
    GrantsUnavailable,
    Watcher,
)
from channels.pubsub.workers.grants import (
    Acquire,
    DueAlarms,
    Grants,
    NoSession,
    Open,
    Owned,
    SetAlarm,
)
from tests.patience import PATIENCE, until

# Over real sockets, which a virtual clock would run away from.
REAL_CLOCK = True

A = Node("a", "1")


class Line:
    """A client and a link, and the events that the client was told of."""

    def __init__(self, nursery: trio.Nursery, *, max_requests: int = 1000) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.grants = Grants()
        self.link = GrantLink(self.ours, self.grants, 1, now=lambda: 1.0)
        self.client = GrantClient(self.theirs, max_requests=max_requests)
        self.lost: list[Node] = []
        self.problems: list[str] = []
        self.client.watchers["auctions"] = Watcher(self.lost.append, self.problems.append)
        self.nursery = nursery
        self.scope = trio.CancelScope()

    async def start(self) -> None:
        self.nursery.start_soon(self.link.main)
        self.nursery.start_soon(self._run)
        await trio.testing.wait_all_tasks_blocked()
        await self.client.ask(Open("auctions", 1, A), timeout=PATIENCE)

    async def _run(self) -> None:
        with self.scope:
            await self.client.main()


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    async with trio.open_nursery() as nursery:
        line = Line(nursery)
        with line.ours, line.theirs:
            yield line
            nursery.cancel_scope.cancel()


async def test_a_request_is_answered(line: Line) -> None:
    await line.start()
    answer = await line.client.ask(Acquire("auctions", 1, "42"), timeout=PATIENCE)
    assert answer == Owned(1_000_000)
    with pytest.raises(NoSession):
        await line.client.ask(Acquire("auctions", 2, "42"), timeout=PATIENCE)


async def test_many_requests_wait_for_their_turn(line: Line) -> None:
    line.client = GrantClient(line.theirs, max_requests=10)
    await line.start()
    answers: list[Owned] = []

    async def acquire(number: int) -> None:
        request = Acquire("auctions", 1, "x" * 200 + str(number))
        answers.append(await line.client.ask(request, timeout=PATIENCE))

    async with trio.open_nursery() as nursery:
        for number in range(3000):
            nursery.start_soon(acquire, number)
    assert len({each.fence for each in answers}) == 3000


async def test_an_answer_may_be_far_larger_than_the_buffer_of_the_socket(line: Line) -> None:
    await line.start()
    for number in range(3000):
        key = f"{number:0255}"
        owned = await line.client.ask(Acquire("auctions", 1, key), timeout=PATIENCE)
        await line.client.ask(SetAlarm("auctions", 1, key, 1.0, owned.fence), timeout=PATIENCE)
    due = await line.client.ask(DueAlarms("auctions", 1, 2.0, 10_000), timeout=PATIENCE)
    assert len(due) == 3000


async def test_a_parent_whose_answers_are_not_read_stops_reading(line: Line) -> None:
    line.nursery.start_soon(line.link.main)
    line.theirs.setblocking(False)
    request = b'[1,{"type":"OwnerOf","supervisor":"auctions","number":1,"key":"42"}]\n'
    data, sent, refused = request * 1000, 0, 0
    # The worker never reads. In the end its socket is full, because the parent has stopped reading.
    while refused < 3:
        try:
            number = line.theirs.send(data)
        except BlockingIOError:
            refused += 1
            await trio.testing.wait_all_tasks_blocked(0.01)
            continue
        refused, sent = 0, sent + number
        data = data[number:] or request * 1000
        assert sent < 50_000_000


async def test_a_client_that_waits_too_long_gets_an_error(line: Line) -> None:
    line.nursery.start_soon(line.client.main)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(GrantsUnavailable, match=r"it did not answer in 0\.01 s") as caught:
        await line.client.ask(Acquire("auctions", 1, "42"), timeout=0.01)
    assert caught.value.may_have_run


async def test_a_client_without_a_turn_gets_an_error(line: Line) -> None:
    client = GrantClient(line.theirs, max_requests=1)
    line.nursery.start_soon(client.main)
    await trio.testing.wait_all_tasks_blocked()
    async with trio.open_nursery() as nursery:

        async def first() -> None:
            with pytest.raises(GrantsUnavailable):
                await client.ask(Acquire("auctions", 1, "42"), timeout=0.2)

        nursery.start_soon(first)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(GrantsUnavailable, match="too many other requests wait") as caught:
            await client.ask(Acquire("auctions", 1, "43"), timeout=0.01)
        assert not caught.value.may_have_run


async def test_the_end_of_the_parent_ends_leases_and_requests(line: Line) -> None:
    line.nursery.start_soon(line.client.main)
    await trio.testing.wait_all_tasks_blocked()
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(GrantsUnavailable, match="the parent of the workers has ended"):
                await line.client.ask(Acquire("auctions", 1, "42"), timeout=PATIENCE)

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        line.ours.close()
    assert line.problems == ["the parent of the workers has ended"]
    with pytest.raises(GrantsUnavailable) as caught:
        await line.client.ask(Acquire("auctions", 1, "42"), timeout=PATIENCE)
    assert not caught.value.may_have_run


async def test_leases_end_with_the_process_of_the_line(line: Line) -> None:
    await line.start()
    line.scope.cancel()
    await until(lambda: line.problems)
    assert line.problems == ["the line to the parent was closed in this worker"]


async def test_the_line_works_again_when_its_process_restarts(line: Line) -> None:
    await line.start()
    line.scope.cancel()
    await until(lambda: line.problems)
    line.nursery.start_soon(line.client.main)
    await trio.testing.wait_all_tasks_blocked()
    await line.client.ask(Open("auctions", 2, A), timeout=PATIENCE)
    assert await line.client.ask(Acquire("auctions", 2, "42"), timeout=PATIENCE) == Owned(1_000_000)


async def test_a_worker_is_told_of_lost_nodes(line: Line) -> None:
    await line.start()
    line.link.tell_lost([Node("b", "1"), Node("c", "1")])
    await until(lambda: len(line.lost) == 2)
    assert line.lost == [Node("b", "1"), Node("c", "1")]


async def test_a_worker_that_reads_no_news_for_too_long_is_cut_off(line: Line) -> None:
    line.nursery.start_soon(line.link.main)
    with trio.fail_after(PATIENCE):
        while line.ours.fileno() >= 0:
            line.link.tell_lost([Node("b" * 1000, "1")])
            await trio.lowlevel.checkpoint()
    # The worker notices the end of the line when it reads again.
    line.nursery.start_soon(line.client.main)
    await until(lambda: line.problems)


@pytest.mark.parametrize("data", [b"x\n", b"[1]\n", b'[1,{"type":"Nonsense"}]\n', b"x" * 5_000_000])
async def test_a_malformed_line_ends_the_line_and_not_the_parent(line: Line, data: bytes) -> None:
    line.nursery.start_soon(line.link.main)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(line.theirs))
    with trio.fail_after(PATIENCE):
        try:
            await stream.send_all(data)
            assert await stream.receive_some() == b""
        except trio.BrokenResourceError:
            # The parent has closed its end while data were on their way.
            pass
    assert line.ours.fileno() < 0
