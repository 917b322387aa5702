"""The flusher on real sockets: one write in each turn, one task for each full socket, and separate errors."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from channels.transports.contract import Event, Signal
from channels.transports.out_buffer import Flusher, OutBuffer
from tests.channels.transports.sockets import fill, local_pair, read_exactly, socket_pair


class CountingSocket:
    """A socket that records each write."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.writes: list[bytes] = []

    def send(self, data: bytes) -> int:
        self.writes.append(bytes(data))
        return self._socket.send(data)

    def fileno(self) -> int:
        return self._socket.fileno()


class Bench:
    """A running flusher with the objects for writes."""

    def __init__(self, nursery: trio.Nursery, stack: ExitStack) -> None:
        self.flusher = Flusher(spawn=nursery.start_soon)
        self._stack = stack

    def connect(
        self, **bounds: Any
    ) -> tuple[OutBuffer, CountingSocket, socket.socket, list[Event]]:
        ours, theirs = self._stack.enter_context(local_pair())
        told: list[Event] = []
        target: Any = CountingSocket(ours)
        out = OutBuffer(self.flusher, tell=told.append, target=target, **bounds)
        return out, target, theirs, told


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
async def bench(nursery: trio.Nursery, stack: ExitStack) -> Bench:
    bench = Bench(nursery, stack)
    nursery.start_soon(bench.flusher.main)
    await wait_all_tasks_blocked()
    return bench


async def test_frames_of_one_turn_are_one_write(bench: Bench) -> None:
    out, target, theirs, _ = bench.connect()
    out.put(b"a")
    out.put(b"b")
    out.put(b"c")
    assert await read_exactly(theirs, 3) == b"abc"
    assert target.writes == [b"abc"]
    assert bench.flusher.statistics().writes == 1


async def test_a_buffer_marked_twice_is_written_once(bench: Bench) -> None:
    out, target, theirs, _ = bench.connect()
    out.put(b"a")
    bench.flusher.mark(out)
    await read_exactly(theirs, 1)
    await wait_all_tasks_blocked()
    assert target.writes == [b"a"]


async def test_each_write_makes_room_again(bench: Bench) -> None:
    out, _, _, told = bench.connect(max_bytes=10)
    for _ in range(3):
        out.put(b"x" * 4)
        await wait_all_tasks_blocked()
    out.put(b"x" * 4)
    out.put(b"y" * 4)
    assert (out.statistics().dropped_messages, told) == (0, [])


async def test_many_connections_are_written_in_one_turn(bench: Bench) -> None:
    connections = [bench.connect() for _ in range(20)]
    for out, *_ in connections:
        out.put(b"hello")
    for _, _, theirs, _ in connections:
        assert await read_exactly(theirs, 5) == b"hello"
    assert bench.flusher.statistics().turns == 1


async def test_a_write_takes_one_step_of_the_flusher(bench: Bench) -> None:
    out, _, theirs, _ = bench.connect()
    steps: list[str] = []

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            steps.append(task.name)

    counter = Steps()
    trio.lowlevel.add_instrument(counter)
    out.put(b"a")
    await read_exactly(theirs, 1)
    await wait_all_tasks_blocked()
    trio.lowlevel.remove_instrument(counter)
    assert len([step for step in steps if step.endswith("Flusher.main")]) == 1


async def test_other_tasks_run_between_the_turns_of_the_flusher(bench: Bench) -> None:
    out, target, _, _ = bench.connect()
    turns = 0

    class Restless(CountingSocket):
        def send(self, data: bytes) -> int:
            # A task always has one more frame.
            out.put(b"x")
            return len(data)

    out.target = Restless(target)  # type: ignore[assignment, arg-type]
    out.put(b"x")
    for _ in range(10):
        await trio.lowlevel.checkpoint()
        now = bench.flusher.statistics().turns
        # At most, the flusher runs last in one round of the scheduler and first in the next round.
        assert now <= turns + 2
        turns = now
    assert 8 <= turns <= 11
    out.close()


async def test_a_turn_writes_a_bounded_number_of_buffers(nursery: trio.Nursery) -> None:
    flusher = Flusher(spawn=nursery.start_soon)
    with socket_pair() as (ours, theirs):
        outs = [OutBuffer(flusher, tell=_fail, target=ours) for _ in range(3000)]
        for out in outs:
            out.put(b"x")
        nursery.start_soon(flusher.main)
        while not (statistics := flusher.statistics()).turns:
            await trio.lowlevel.checkpoint()
        assert 0 < statistics.marked < 3000
        assert await read_exactly(theirs, 3000) == b"x" * 3000
        assert flusher.statistics().turns == 6
        nursery.cancel_scope.cancel()


def _fail(event: Event) -> None:
    raise AssertionError(event)


async def test_a_full_socket_gets_a_writing_task_until_it_has_caught_up(bench: Bench) -> None:
    out, target, theirs, told = bench.connect()
    filled = fill(target._socket)
    frames = [bytes([i]) * 10_000 for i in range(100)]
    for frame in frames[:50]:
        out.put(frame)
    await wait_all_tasks_blocked()
    assert bench.flusher.statistics().catching_up == 1
    for frame in frames[50:]:
        out.put(frame)
    await read_exactly(theirs, filled)
    assert await read_exactly(theirs, 1_000_000) == b"".join(frames)
    await wait_all_tasks_blocked()
    statistics = bench.flusher.statistics()
    assert (statistics.catching_up, statistics.full) == (0, 1)
    assert told == []
    out.put(b"again")
    assert await read_exactly(theirs, 5) == b"again"
    assert bench.flusher.statistics().full == 1, "by the flusher itself"


async def test_a_full_socket_does_not_delay_the_others(bench: Bench) -> None:
    full, target, _, _ = bench.connect()
    other, _, theirs, _ = bench.connect()
    fill(target._socket)
    full.put(b"stuck")
    other.put(b"hello")
    assert await read_exactly(theirs, 5) == b"hello"
    full.close()


async def test_a_peer_that_never_reads_overflows_only_its_own_buffer(bench: Bench) -> None:
    out, target, _, told = bench.connect(max_messages=10)
    fill(target._socket)
    for _ in range(12):
        out.put(b"x")
        await wait_all_tasks_blocked()
    assert told == [Signal.OVERFLOW]
    out.close()


async def test_closing_ends_the_task_that_writes_for_a_full_socket(bench: Bench) -> None:
    out, target, _, told = bench.connect()
    fill(target._socket)
    out.put(b"stuck")
    await wait_all_tasks_blocked()
    assert bench.flusher.statistics().catching_up == 1
    out.close()
    target._socket.close()
    await wait_all_tasks_blocked()
    assert bench.flusher.statistics().catching_up == 0
    assert told == []


async def test_a_buffer_that_is_closed_while_it_is_marked_is_not_written(bench: Bench) -> None:
    out, target, _, told = bench.connect()
    out.put(b"a")
    out.close()
    target._socket.close()
    await wait_all_tasks_blocked()
    assert (target.writes, told) == ([], [])


async def test_an_error_reaches_only_its_own_buffer_and_only_once(
    bench: Bench,
) -> None:
    broken, target, _, told = bench.connect()
    fine, _, theirs, others = bench.connect()
    target._socket.shutdown(socket.SHUT_WR)
    broken.put(b"a")
    fine.put(b"hello")
    assert await read_exactly(theirs, 5) == b"hello"
    broken.put(b"b")
    await wait_all_tasks_blocked()
    assert len(told) == 1
    assert isinstance(told[0], BrokenPipeError)
    assert others == []


async def test_the_task_that_writes_for_a_full_socket_reports_a_reset(bench: Bench) -> None:
    out, target, theirs, told = bench.connect()
    fill(target._socket)
    out.put(b"stuck")
    await wait_all_tasks_blocked()
    theirs.close()
    while not told:
        await trio.lowlevel.checkpoint()
    assert isinstance(told[0], ConnectionError)
    await wait_all_tasks_blocked()
    assert bench.flusher.statistics().catching_up == 0


async def test_finished_is_reported_after_the_write_of_the_last_frame(bench: Bench) -> None:
    out, target, theirs, _ = bench.connect()
    finished = trio.Event()
    out.put(b"a")
    out.finish(b"last", finished.set)
    await finished.wait()
    target._socket.close()
    assert await read_exactly(theirs, 100) == b"alast"


async def test_a_full_socket_is_finished_when_the_peer_has_read(bench: Bench) -> None:
    out, target, theirs, _ = bench.connect()
    filled = fill(target._socket)
    finished = trio.Event()
    out.put(b"a")
    await wait_all_tasks_blocked()
    out.finish(b"last", finished.set)
    await wait_all_tasks_blocked()
    assert not finished.is_set()
    await read_exactly(theirs, filled)
    await finished.wait()
    assert await read_exactly(theirs, 5) == b"alast"


async def test_a_flusher_that_runs_again_writes_the_marked_buffers(
    nursery: trio.Nursery,
) -> None:
    flusher = Flusher(spawn=nursery.start_soon)
    with socket_pair() as (ours, theirs):
        out = OutBuffer(flusher, tell=_fail, target=ours)
        async with trio.open_nursery() as first:
            first.start_soon(flusher.main)
            await wait_all_tasks_blocked()
            first.cancel_scope.cancel()
        out.put(b"hello")
        nursery.start_soon(flusher.main)
        assert await read_exactly(theirs, 5) == b"hello"
        nursery.cancel_scope.cancel()


async def test_a_flusher_cannot_run_twice_at_a_time(bench: Bench) -> None:
    with pytest.raises(trio.BusyResourceError):
        await bench.flusher.main()


async def test_a_writing_task_that_cannot_start_is_reported_to_its_connection(
    stack: ExitStack,
) -> None:
    def spawn(*_: object) -> None:
        raise RuntimeError("no more tasks")

    flusher = Flusher(spawn=spawn)
    ours, _ = stack.enter_context(local_pair())
    told: list[Event] = []
    out = OutBuffer(flusher, tell=told.append, target=ours)
    fill(ours)
    out.put(b"stuck")
    with pytest.raises(RuntimeError, match="no more tasks"):
        await flusher.main()
    assert len(told) == 1
    assert isinstance(told[0], ConnectionAbortedError)


async def test_a_cancelled_writing_task_is_reported_to_its_connection(
    nursery: trio.Nursery, stack: ExitStack
) -> None:
    ours, _ = stack.enter_context(local_pair())
    told: list[Event] = []
    async with trio.open_nursery() as writers:
        flusher = Flusher(spawn=writers.start_soon)
        nursery.start_soon(flusher.main)
        out = OutBuffer(flusher, tell=told.append, target=ours)
        fill(ours)
        out.put(b"stuck")
        await wait_all_tasks_blocked()
        writers.cancel_scope.cancel()
    assert len(told) == 1
    assert isinstance(told[0], ConnectionAbortedError)
    nursery.cancel_scope.cancel()


async def test_a_mark_in_another_thread_raises_and_the_flusher_still_works(bench: Bench) -> None:
    out, _, theirs, _ = bench.connect()
    last, _, theirs_last, _ = bench.connect()
    with pytest.raises(RuntimeError, match="async context"):
        await trio.to_thread.run_sync(out.put, b"lost")
    with pytest.raises(RuntimeError, match="async context"):
        await trio.to_thread.run_sync(last.finish, b"lost", print)
    assert bench.flusher.statistics().marked == 0
    assert out.statistics().waiting_messages == 0
    out.put(b"found")
    last.finish(b"the end", lambda: None)
    await wait_all_tasks_blocked()
    assert theirs.recv(100) == b"found"
    assert theirs_last.recv(100) == b"the end"


async def test_the_writes_of_a_turn_are_reported_for_each_client(bench: Bench) -> None:
    turns: list[list[int]] = []
    bench.flusher.on_written = (turns.append,)
    outs = [bench.connect()[0] for _ in range(3)]
    # The second buffer has no client.
    outs[0].client, outs[2].client = 7, 9
    outs[0].put(b"one")
    outs[0].put(b"two")
    outs[1].put(b"three")
    outs[2].put(b"four")
    await wait_all_tasks_blocked()
    assert turns == [[7, 6, 2, 9, 4, 1]]


async def test_a_turn_without_clients_reports_no_writes(bench: Bench) -> None:
    turns: list[list[int]] = []
    bench.flusher.on_written = (turns.append,)
    out, _, theirs, _ = bench.connect()
    out.put(b"one")
    assert await read_exactly(theirs, 3) == b"one"
    await wait_all_tasks_blocked()
    assert turns == []


async def test_a_writing_task_that_cannot_start_does_not_hide_the_writes_before_it(
    stack: ExitStack,
) -> None:
    def spawn(*_: object) -> None:
        raise OSError("no room for a task")

    turns: list[list[int]] = []
    flusher = Flusher(spawn=spawn)
    flusher.on_written = (turns.append,)
    written, full = (stack.enter_context(local_pair())[0] for _ in range(2))
    fill(full)
    for client, sock in enumerate((written, full)):
        out = OutBuffer(flusher, tell=lambda event: None, target=sock)
        out.client = client
        out.put(b"one")
    with pytest.raises(OSError, match="no room for a task"):
        await flusher.main()
    assert turns == [[0, 3, 1, 1, 3, 1]]
