"""The poller on real sockets. tests/contracts/test_readers.py tests its common behaviour with a pump."""

from __future__ import annotations

import errno
import gc
import os
import select
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from channels.transports.poller import Poller
from tests.channels.transports.readers import Heard
from tests.channels.transports.sockets import local_pair, socket_pair

pytestmark = pytest.mark.skipif(not Poller.is_supported(), reason="there is epoll on Linux only")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
async def poller() -> AsyncIterator[Poller]:
    poller = Poller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.main)
        await wait_all_tasks_blocked()
        yield poller
        nursery.cancel_scope.cancel()
    poller.close()


async def test_many_sockets_are_read_in_one_turn(poller: Poller, stack: ExitStack) -> None:
    pairs = [stack.enter_context(socket_pair()) for _ in range(20)]
    heard = [Heard() for _ in pairs]
    for (ours, _), each in zip(pairs, heard, strict=True):
        poller.register(ours, each)
    for _, theirs in pairs:
        theirs.send(b"hello")
    for each in heard:
        assert await each.bytes(5) == b"hello"
    statistics = poller.statistics()
    assert (statistics.sockets, statistics.reads) == (20, 20)
    assert statistics.turns <= 2


class ShortOfMemory:
    """A socket that raises out-of-memory errors for its first reads."""

    def __init__(self, sock: socket.socket, times: int) -> None:
        self._sock = sock
        self.times = times

    def fileno(self) -> int:
        return self._sock.fileno()

    def recv(self, size: int) -> bytes:
        if self.times:
            self.times -= 1
            raise MemoryError
        return self._sock.recv(size)


async def test_a_read_without_memory_is_repeated_and_other_sockets_are_read(
    autojump_clock: MockClock, stack: ExitStack
) -> None:
    poller = Poller()
    told: list[int] = []
    poller.on_out_of_memory = told.append
    short, short_peer = stack.enter_context(socket_pair())
    fine, fine_peer = stack.enter_context(socket_pair())
    heard, heard_too = Heard(), Heard()
    poller.register(ShortOfMemory(short, 3), heard)  # type: ignore[arg-type]  # all that is used
    poller.register(fine, heard_too)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.main)
        short_peer.send(b"hello")
        fine_peer.send(b"hello")
        assert await heard_too.bytes(5) == b"hello"
        assert await heard.bytes(5) == b"hello"
        nursery.cancel_scope.cancel()
    assert told == [1, 1, 1]
    assert poller.statistics().out_of_memory == 3
    assert trio.current_time() == pytest.approx(0.3), "it does not spin while there is no memory"
    poller.close()


async def test_if_memory_has_been_freed_the_poller_reads_again_immediately(
    autojump_clock: MockClock, stack: ExitStack
) -> None:
    poller = Poller()
    poller.on_out_of_memory = lambda reads: True
    ours, theirs = stack.enter_context(socket_pair())
    heard = Heard()
    poller.register(ShortOfMemory(ours, 3), heard)  # type: ignore[arg-type]  # all that is used
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.main)
        theirs.send(b"hello")
        assert await heard.bytes(5) == b"hello"
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 0
    poller.close()


async def test_a_socket_whose_callback_has_no_memory_ends_and_others_are_read(
    poller: Poller, stack: ExitStack
) -> None:
    one, one_peer = stack.enter_context(socket_pair())
    other, other_peer = stack.enter_context(socket_pair())
    heard = Heard()
    seen: list[bytes | OSError] = []

    def no_memory(data: bytes | OSError) -> None:
        seen.append(data)
        if data == b"hello":
            raise MemoryError

    reading = poller.register(one, no_memory)
    poller.register(other, heard)
    one_peer.send(b"hello")
    other_peer.send(b"hello")
    assert await heard.bytes(5) == b"hello"
    await wait_all_tasks_blocked()
    assert seen[0] == b"hello"
    assert isinstance(seen[1], ConnectionAbortedError)
    assert reading.ended
    assert poller.statistics().out_of_memory == 1


async def test_a_busy_socket_is_read_once_a_turn(poller: Poller, stack: ExitStack) -> None:
    busy, busy_peer = stack.enter_context(socket_pair())
    calm, calm_peer = stack.enter_context(socket_pair())
    order: list[str] = []
    busy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    busy_peer.setblocking(True)
    await trio.to_thread.run_sync(busy_peer.sendall, b"x" * 400_000)
    calm_peer.send(b"y")
    poller.register(busy, lambda _: order.append("busy"))
    poller.register(calm, lambda _: order.append("calm"))
    await wait_all_tasks_blocked()
    assert order.count("busy") > 2
    assert "calm" in order[:2]


async def test_a_callback_may_stop_a_socket_that_is_readable_in_the_same_turn(
    poller: Poller, stack: ExitStack
) -> None:
    first, first_peer = stack.enter_context(socket_pair())
    second, second_peer = stack.enter_context(socket_pair())
    events: list[str] = []

    def on_first(_: object) -> None:
        events.append("first")
        two.stop()

    def on_second(_: object) -> None:
        events.append("second")
        one.stop()

    one = poller.register(first, on_first)
    two = poller.register(second, on_second)
    first_peer.send(b"x")
    second_peer.send(b"x")
    await wait_all_tasks_blocked()
    assert len(events) == 1
    assert poller.statistics().sockets == 1


async def test_a_callback_may_pause_a_socket_that_is_readable_in_the_same_turn(
    poller: Poller, stack: ExitStack
) -> None:
    pairs = [stack.enter_context(socket_pair()) for _ in range(2)]
    heard = [Heard(), Heard()]

    def pausing(index: int, data: bytes | OSError) -> None:
        heard[index](data)
        readings[1 - index].pause()

    readings = [
        poller.register(ours, partial(pausing, index)) for index, (ours, _) in enumerate(pairs)
    ]
    for _, theirs in pairs:
        theirs.send(b"x")
    await wait_all_tasks_blocked()
    assert sorted(len(each.events) for each in heard) == [0, 1]
    for reading in readings:
        reading.resume()
    await wait_all_tasks_blocked()
    assert sorted(len(each.events) for each in heard) == [1, 1]


async def test_the_number_of_a_closed_socket_can_be_used_again_in_the_same_turn(
    poller: Poller, stack: ExitStack
) -> None:
    """An event for a socket that was closed a moment ago must not reach the new owner."""
    first, first_peer = stack.enter_context(socket_pair())
    second, second_peer = stack.enter_context(socket_pair())
    third, third_peer = stack.enter_context(socket_pair())
    heard = Heard()
    replaced: list[int] = []

    def replace(loser: socket.socket) -> None:
        # Whichever of the two is first in this turn closes the other, whose event is still to
        # come, and puts a third, silent socket under its number.
        if replaced:
            return
        number = loser.fileno()
        (readings[1] if loser is second else readings[0]).stop()
        loser.close()
        os.dup2(third.fileno(), number)
        replaced.append(number)
        newcomer = socket.socket(fileno=number)
        stack.callback(newcomer.close)
        poller.register(newcomer, heard)

    readings = [
        poller.register(first, lambda _: replace(second)),
        poller.register(second, lambda _: replace(first)),
    ]
    first_peer.send(b"old")
    second_peer.send(b"old")
    await wait_all_tasks_blocked()
    assert replaced
    assert heard.events == []
    third_peer.send(b"new")
    assert await heard.bytes(3) == b"new"


async def test_a_socket_closed_without_stop_does_not_disturb_the_others(
    poller: Poller, stack: ExitStack
) -> None:
    careless, _ = stack.enter_context(socket_pair())
    other, other_peer = stack.enter_context(socket_pair())
    heard = Heard()
    forgotten = Heard()
    reading = poller.register(careless, forgotten)
    number = careless.fileno()
    careless.close()
    os.dup2(other.fileno(), number)
    newcomer = socket.socket(fileno=number)
    stack.callback(newcomer.close)
    poller.register(newcomer, heard)
    reading.stop()
    reading.pause()
    other_peer.send(b"hello")
    assert await heard.bytes(5) == b"hello"
    assert forgotten.events == []


async def test_a_stopped_poller_can_run_again_without_a_loss(stack: ExitStack) -> None:
    poller = Poller()
    stack.callback(poller.close)
    ours, theirs = stack.enter_context(socket_pair())
    heard = Heard()
    poller.register(ours, heard)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.main)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    theirs.send(b"hello")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.main)
        assert await heard.bytes(5) == b"hello"
        nursery.cancel_scope.cancel()


async def test_a_callback_that_raises_ends_the_loop_and_loses_only_its_socket(
    stack: ExitStack,
) -> None:
    poller = Poller()
    stack.callback(poller.close)
    bad, bad_peer = stack.enter_context(socket_pair())
    good, good_peer = stack.enter_context(socket_pair())
    heard = Heard()

    def fail(_: object) -> None:
        raise RuntimeError("a bug")

    poller.register(bad, fail)
    poller.register(good, heard)
    bad_peer.send(b"x")
    good_peer.send(b"hello")
    with pytest.raises(RuntimeError, match="a bug"):
        await poller.main()
    assert poller.statistics().sockets == 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.main)
        assert await heard.bytes(5) == b"hello"
        nursery.cancel_scope.cancel()


async def test_a_poller_cannot_run_twice_at_a_time(poller: Poller) -> None:
    with pytest.raises(trio.BusyResourceError):
        await poller.main()


async def test_sockets_that_have_ended_are_forgotten(poller: Poller, stack: ExitStack) -> None:
    ours, theirs = stack.enter_context(socket_pair())
    heard = Heard()
    poller.register(ours, heard)
    theirs.close()
    assert await heard.other() == b""
    turns = poller.statistics().turns
    await wait_all_tasks_blocked()
    assert poller.statistics().sockets == 0
    assert poller.statistics().turns == turns, "the end of a stream is readable for ever"


async def test_a_closed_socket_is_refused(poller: Poller) -> None:
    closed = socket.socket()
    closed.close()
    with pytest.raises((OSError, ValueError)):
        poller.register(closed, print)
    assert poller.statistics().sockets == 0


async def test_a_turn_reads_a_bounded_number_of_bytes_and_forgets_no_socket(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channels.transports.poller._TURN_BYTES", 3000)
    poller = Poller()
    stack.callback(poller.close)
    pairs = [stack.enter_context(socket_pair()) for _ in range(10)]
    by_turn: dict[int, int] = {}

    def read(data: bytes | OSError) -> None:
        assert isinstance(data, bytes)
        turn = poller.statistics().turns
        by_turn[turn] = by_turn.get(turn, 0) + len(data)

    for ours, theirs in pairs:
        poller.register(ours, read)
        theirs.send(b"x" * 1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.main)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert sum(by_turn.values()) == 10_000
    assert max(by_turn.values()) <= 3000
    assert poller.statistics().reads == 10


async def test_sockets_left_over_from_a_turn_come_first_in_the_next(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channels.transports.poller._TURN_BYTES", 1)
    poller = Poller()
    stack.callback(poller.close)
    pairs = [stack.enter_context(socket_pair()) for _ in range(5)]
    order: list[int] = []

    def read(index: int, data: object) -> None:
        order.append(index)
        if len(order) <= 20:
            pairs[index][1].send(b"x")  # it has something to read all the time

    for index, (ours, theirs) in enumerate(pairs):
        poller.register(ours, partial(read, index))
        theirs.send(b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.main)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    for start in range(0, 20, 5):
        assert sorted(order[start : start + 5]) == [0, 1, 2, 3, 4]


class Connection:
    """The owner of a socket. It keeps the data that the poller delivers."""

    def __init__(self) -> None:
        self.data: object = None

    def take(self, data: object) -> None:
        self.data = data


async def test_a_reset_connection_is_freed_without_the_garbage_collector(poller: Poller) -> None:
    gc.disable()
    try:
        with socket_pair() as (ours, theirs):
            connection = Connection()
            poller.register(ours, connection.take)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs.close()
            while connection.data is None:  # noqa: ASYNC110 - the poller tells nobody else
                await trio.sleep(0.001)
            assert isinstance(connection.data, ConnectionResetError)
            gone = weakref.ref(connection)
            del connection
            assert gone() is None
    finally:
        gc.enable()


async def test_a_turn_reads_fewer_sockets_while_processes_still_have_work(
    poller: Poller, stack: ExitStack
) -> None:
    poller.backlog = lambda: 100_000
    pairs = [stack.enter_context(socket_pair()) for _ in range(80)]
    heard = [Heard() for _ in pairs]
    for (ours, _), each in zip(pairs, heard, strict=True):
        poller.register(ours, each)
    for _, theirs in pairs:
        theirs.send(b"hello")
    for each in heard:
        assert await each.bytes(5) == b"hello"
    statistics = poller.statistics()
    assert statistics.reads == 80
    assert statistics.turns >= 5


class QuietClients:
    """Clients of two pollers. `seen` has the time and the data of each read."""

    def __init__(self, clock: MockClock, stack: ExitStack, count: int) -> None:
        self._clock = clock
        self.quiet = Poller(longest_rest=0.1)
        self.poller = Poller(quiet=self.quiet)
        stack.callback(self.quiet.close)
        stack.callback(self.poller.close)
        self.seen: list[tuple[float, object]] = []
        self.pairs = [stack.enter_context(local_pair()) for _ in range(count)]
        self.readings = [self.poller.register(ours, self._read) for ours, _ in self.pairs]

    def _read(self, data: bytes | OSError) -> None:
        self.seen.append((round(trio.current_time(), 3), data))

    def send(self, number: int, data: bytes = b"x") -> None:
        self.pairs[number][1].send(data)

    async def send_all(self, *, after: float = 0.0) -> None:
        self._clock.jump(after)
        for number in range(len(self.pairs)):
            self.send(number)
        await wait_all_tasks_blocked()

    @property
    def sockets(self) -> tuple[int, int]:
        return self.poller.statistics().sockets, self.quiet.statistics().sockets

    @asynccontextmanager
    async def read(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.poller.main)
            nursery.start_soon(self.quiet.main)
            await wait_all_tasks_blocked()
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture
def few_sockets_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a poller of two sockets rest as long as a poller of thousands."""
    monkeypatch.setattr("channels.transports.poller._REST_PER_SOCKET", 1.0)


async def test_a_socket_with_data_every_30_s_becomes_quiet_until_it_has_data_twice_in_5_s(
    mock_clock: MockClock, stack: ExitStack
) -> None:
    clients = QuietClients(mock_clock, stack, 1)
    async with clients.read():
        await clients.send_all(after=4.9)
        assert clients.sockets == (1, 0)
        for _ in range(3):
            await clients.send_all(after=30)
            assert clients.sockets == (0, 1)
        await clients.send_all(after=5.0)
        assert clients.sockets == (1, 0)
    assert len(clients.seen) == 5
    assert clients.poller.statistics().handed_over == clients.quiet.statistics().handed_over == 1


async def test_quiet_sockets_are_read_together_after_each_rest(
    mock_clock: MockClock, stack: ExitStack, few_sockets_rest: None
) -> None:
    clients = QuietClients(mock_clock, stack, 3)
    async with clients.read():
        await clients.send_all(after=30)
        mock_clock.jump(30)
        for number in range(3):
            clients.send(number)
            await wait_all_tasks_blocked()
            mock_clock.jump(0.04)
        await wait_all_tasks_blocked()
        # The first was read immediately. The others waited for the end of the rest.
        assert clients.seen[3:] == [(60.0, b"x"), (60.12, b"x"), (60.12, b"x")]
        mock_clock.jump(0.1)
        await wait_all_tasks_blocked()
        turns = clients.quiet.statistics().turns
        mock_clock.jump(10)
        await wait_all_tasks_blocked()
        assert clients.quiet.statistics().turns == turns, "it sleeps while there is no data"
        clients.send(0)
        await wait_all_tasks_blocked()
        assert clients.seen[6:] == [(70.22, b"x")]


async def test_a_poller_rests_for_a_shorter_time_if_more_sockets_had_data(
    mock_clock: MockClock, stack: ExitStack, few_sockets_rest: None
) -> None:
    clients = QuietClients(mock_clock, stack, 102)
    async with clients.read():
        await clients.send_all(after=30)
        mock_clock.jump(30)
        clients.send(0)
        await wait_all_tasks_blocked()
        for number in range(1, 101):
            clients.send(number)
        mock_clock.jump(0.1)
        await wait_all_tasks_blocked()
        clients.send(101)
        for seconds in (0.049, 0.002):
            mock_clock.jump(seconds)
            await wait_all_tasks_blocked()
        # A hundred sockets had data in 0.1 s, so the next fifty will have data in 0.05 s.
        assert [time for time, _ in clients.seen[102:]] == [60.0, *[60.1] * 100, 60.151]


async def test_few_quiet_sockets_are_read_without_a_rest(
    mock_clock: MockClock, stack: ExitStack
) -> None:
    clients = QuietClients(mock_clock, stack, 3)
    async with clients.read():
        for _ in range(3):
            await clients.send_all(after=30)
    assert len(clients.seen) == 9
    assert clients.quiet.statistics().rests == 0


async def test_a_poller_does_not_rest_while_a_full_turn_leaves_data(
    mock_clock: MockClock, stack: ExitStack, few_sockets_rest: None
) -> None:
    clients = QuietClients(mock_clock, stack, 300)
    async with clients.read():
        await clients.send_all(after=30)
        assert clients.sockets == (0, 300)
        await clients.send_all(after=30)
        assert len(clients.seen) == 600


async def test_a_poller_does_not_rest_while_data_is_left_from_a_turn_with_many_bytes(
    mock_clock: MockClock,
    stack: ExitStack,
    few_sockets_rest: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("channels.transports.poller._TURN_BYTES", 1)
    clients = QuietClients(mock_clock, stack, 5)
    async with clients.read():
        for _ in range(2):
            await clients.send_all(after=30)
        assert len(clients.seen) == 10


async def test_a_rest_begins_with_the_turn_so_that_a_long_turn_shortens_it(
    mock_clock: MockClock, stack: ExitStack, few_sockets_rest: None
) -> None:
    clients = QuietClients(mock_clock, stack, 2)
    async with clients.read():
        await clients.send_all(after=30)
        mock_clock.jump(30)
        clients.readings[0].redirect(lambda _: mock_clock.jump(0.08))
        clients.send(0)
        await wait_all_tasks_blocked()
        clients.send(1)
        await wait_all_tasks_blocked()
        mock_clock.jump(0.02)
        await wait_all_tasks_blocked()
        assert clients.seen[2:] == [(60.1, b"x")]


async def test_a_paused_quiet_socket_reads_on_after_resume(
    mock_clock: MockClock, stack: ExitStack
) -> None:
    clients = QuietClients(mock_clock, stack, 2)
    async with clients.read():
        await clients.send_all(after=30)
        clients.readings[0].pause()
        await clients.send_all(after=30)
        assert len(clients.seen) == 3
        clients.readings[0].resume()
        await wait_all_tasks_blocked()
        assert len(clients.seen) == 4
        clients.readings[0].stop()
        assert clients.sockets == (0, 1)
        clients.pairs[1][1].close()
        await wait_all_tasks_blocked()
        assert clients.seen[4:] == [(60.0, b"")]
        assert clients.sockets == (0, 0)


async def test_a_socket_that_pauses_itself_while_it_is_read_does_not_change_pollers_twice(
    mock_clock: MockClock, stack: ExitStack
) -> None:
    clients = QuietClients(mock_clock, stack, 1)
    reading = clients.readings[0]
    reading.redirect(lambda _: reading.pause())
    async with clients.read():
        await clients.send_all(after=30)
        assert clients.sockets == (0, 1)
        await clients.send_all(after=1)
        assert clients.sockets == (0, 1)
        reading.redirect(clients._read)
        reading.resume()
        await wait_all_tasks_blocked()
    assert clients.seen == [(31.0, b"x")]
    assert clients.sockets == (1, 0)


async def test_a_socket_that_the_server_paused_is_not_quiet(
    mock_clock: MockClock, stack: ExitStack
) -> None:
    clients = QuietClients(mock_clock, stack, 1)
    async with clients.read():
        clients.readings[0].pause()
        await clients.send_all()
        mock_clock.jump(30)
        clients.readings[0].resume()
        await wait_all_tasks_blocked()
        assert clients.seen == [(30.0, b"x")]
        assert clients.sockets == (1, 0)


@pytest.mark.parametrize("is_quiet", [False, True])
async def test_a_callback_without_memory_is_reported_by_the_poller_that_read_the_socket(
    mock_clock: MockClock, stack: ExitStack, is_quiet: bool
) -> None:
    clients = QuietClients(mock_clock, stack, 1)
    told: list[Poller] = []
    for poller in (clients.poller, clients.quiet):
        poller.on_out_of_memory = partial(lambda poller, _: told.append(poller), poller)
    reader = clients.quiet if is_quiet else clients.poller

    def no_memory(data: bytes | OSError) -> None:
        clients.seen.append((trio.current_time(), data))
        if data == b"x":
            raise MemoryError

    async with clients.read():
        mock_clock.jump(30)
        if is_quiet:
            await clients.send_all()
        clients.readings[0].redirect(no_memory)
        # This read moves the socket to the other poller.
        await clients.send_all()
    assert isinstance(clients.seen[-1][1], ConnectionAbortedError)
    assert clients.sockets == (0, 0)
    assert told == [reader]
    assert reader.statistics().out_of_memory == 1


async def test_a_socket_stays_with_its_poller_if_the_kernel_has_no_room_for_it_elsewhere(
    mock_clock: MockClock, stack: ExitStack
) -> None:
    clients = QuietClients(mock_clock, stack, 1)
    clients.quiet._epoll = NoRoom(clients.quiet._epoll)  # type: ignore[assignment]  # all that is used
    async with clients.read():
        for _ in range(2):
            await clients.send_all(after=30)
        assert clients.sockets == (1, 0)
    assert len(clients.seen) == 2


class FullDict(dict[int, Any]):
    """A dict without memory for a further item."""

    def __setitem__(self, key: int, value: object) -> None:
        raise MemoryError


async def test_a_socket_stays_with_its_poller_if_there_is_no_memory_to_move_it(
    mock_clock: MockClock, stack: ExitStack
) -> None:
    clients = QuietClients(mock_clock, stack, 1)
    clients.quiet._readings = FullDict()
    async with clients.read():
        for _ in range(2):
            await clients.send_all(after=30)
        assert clients.sockets == (1, 0)
    assert len(clients.seen) == 2


async def test_a_closed_poller_gets_no_more_sockets(
    mock_clock: MockClock, stack: ExitStack
) -> None:
    clients = QuietClients(mock_clock, stack, 1)
    clients.quiet.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clients.poller.main)
        for _ in range(2):
            await clients.send_all(after=30)
        nursery.cancel_scope.cancel()
    assert len(clients.seen) == 2
    assert clients.poller.statistics().sockets == 1


class NoRoom:
    """An epoll object that has no room for a further socket."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll

    def register(self, fd: int, events: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)
