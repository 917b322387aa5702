"""A pool of threads as a process: the calls, the connections of the threads, cancellation, and the end of the pool."""

from __future__ import annotations

import contextvars
import math
import sqlite3
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio
import trio.testing

from actors import (
    NORMAL,
    CallTimeout,
    InvalidArgument,
    InvalidOption,
    NoProcess,
    Pid,
    ServerExit,
    TooManyCalls,
    current_pid,
    exit,
    kill,
    open_runtime,
    receive,
    send,
    spawn,
    spawn_link,
    stop,
    wait_exit,
    whereis,
)
from actors.asyncio_loop import AsyncioLoop, asyncio_call
from actors.blocking_pool import BlockingPool, blocking_call
from actors.instrumentation.logger import CONNECTION_FAILED, THREADS_LEFT, TOO_MANY_CALLS
from supervision import Supervisor, child_spec
from tests.patience import PATIENCE

variable = contextvars.ContextVar("variable", default="unset")


async def start(*children: BlockingPool) -> Pid:
    """Start them under a supervisor, as programs have them. The virtual clock jumps while they wait for a thread."""
    return await Supervisor.start_link([child_spec(each, shutdown=math.inf) for each in children])


@asynccontextmanager
async def a_pool(**options: Any) -> AsyncIterator[Pid]:
    """A runtime with a pool."""
    async with open_runtime():
        yield await start(BlockingPool(**options))


class Door:
    """A function that blocks its thread until the test opens the door."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self.opened = threading.Event()
        self._token = trio.lowlevel.current_trio_token()

    def wait(self) -> str:
        self._token.run_sync_soon(self.entered.set)
        assert self.opened.wait(PATIENCE)
        return "done"


class Connection:
    """A connection whose queries block until they are cancelled."""

    made: int = 0

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.cancelled = threading.Event()
        self.cancels = 0
        self.closed_in: int | None = None

    def cancel(self) -> None:
        self.cancels += 1
        self.cancelled.set()

    def close(self) -> None:
        self.closed_in = threading.get_ident()


async def test_a_call_runs_in_a_thread_of_the_pool_and_returns_its_result() -> None:
    async with a_pool():
        assert await blocking_call(max, [1, 3, 2]) == 3
        name = await blocking_call(lambda: threading.current_thread().name)
        assert name.startswith("BlockingPool('blocking') ")


async def test_an_exception_of_the_function_reaches_the_caller_and_the_thread_goes_on() -> None:
    error = ValueError("no such user")

    def fails() -> NoReturn:
        raise error

    async with a_pool(size=1):
        thread = await blocking_call(threading.get_ident)
        with pytest.raises(ValueError, match="no such user") as info:
            await blocking_call(fails)
        assert info.value is error
        assert await blocking_call(threading.get_ident) == thread


async def test_each_thread_has_a_connection_of_its_own_and_closes_it_itself() -> None:
    connections: list[Connection] = []

    def connect() -> Connection:
        connections.append(Connection())
        return connections[-1]

    barrier = threading.Barrier(2)

    def uses(connection: Connection, number: int) -> tuple[Connection, int]:
        assert connection.thread == threading.get_ident()
        barrier.wait(PATIENCE)
        return connection, number

    pool = BlockingPool("database", size=2, connect=connect, close=Connection.close)
    async with open_runtime():
        supervisor = await start(pool)
        # A thread that has nothing to do has no connection.
        assert connections == []
        for _ in range(3):
            results: list[tuple[Connection, int]] = []

            async def calls(number: int, results: list[tuple[Connection, int]] = results) -> None:
                results.append(await blocking_call(uses, number, pool="database"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(calls, 1)
                nursery.start_soon(calls, 2)
            assert {number for _, number in results} == {1, 2}
        assert len(connections) == 2
        await stop(supervisor)
    assert [each.closed_in for each in connections] == [each.thread for each in connections]


async def test_sqlite_works_without_an_option_for_threads(tmp_path: Path) -> None:
    def adds(connection: sqlite3.Connection, name: str) -> int:
        with connection:
            connection.execute("CREATE TABLE IF NOT EXISTS users (name TEXT)")
            connection.execute("INSERT INTO users VALUES (?)", (name,))
        [(count,)] = connection.execute("SELECT count(*) FROM users")
        return int(count)

    async with a_pool(
        connect=partial(sqlite3.connect, tmp_path / "app.db"), close=sqlite3.Connection.close
    ):
        assert [await blocking_call(adds, name) for name in ("ann", "bea", "cy")] == [1, 2, 3]


COUNTING = (
    "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers) SELECT count(*) FROM numbers"
    " WHERE n < 0"
)
"""A query that never ends."""


async def test_a_cancelled_caller_interrupts_its_query_and_leaves_the_next_one_alone() -> None:
    entered = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def counts(connection: sqlite3.Connection) -> None:
        token.run_sync_soon(entered.set)
        connection.execute(COUNTING)

    def adds(connection: sqlite3.Connection) -> int:
        [(number,)] = connection.execute("SELECT 1 + 1")
        return int(number)

    pool = BlockingPool(
        size=1,
        connect=partial(sqlite3.connect, ":memory:"),
        close=sqlite3.Connection.close,
        cancel=sqlite3.Connection.interrupt,
    )
    async with open_runtime():
        await start(pool)
        for _ in range(20):
            entered = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(blocking_call, counts)
                await entered.wait()
                nursery.cancel_scope.cancel()
            # The query has ended, and so the only thread is free.
            assert pool.statistics()["calls"] == 0
            assert await blocking_call(adds) == 2
        with pytest.raises(CallTimeout, match=r"blocking_call\(.*counts.* within 0\.001 s"):
            await blocking_call(counts, timeout=0.001)


async def test_a_cancel_that_comes_before_the_query_is_repeated() -> None:
    gate, door = threading.Event(), Door()
    connections: list[Connection] = []

    def connect() -> Connection:
        connections.append(Connection())
        return connections[-1]

    def queries(connection: Connection) -> NoReturn:
        door.wait()
        # A driver forgets a cancellation that finds no query.
        assert gate.wait(PATIENCE)
        connection.cancelled.clear()
        assert connection.cancelled.wait(PATIENCE)
        raise RuntimeError("cancelled")

    async with a_pool(connect=connect, cancel=Connection.cancel), trio.open_nursery() as nursery:
        nursery.start_soon(blocking_call, queries)
        await door.entered.wait()
        nursery.cancel_scope.cancel()
        door.opened.set()
        gate.set()
    assert connections[0].cancels >= 1


async def test_without_a_cancel_the_caller_leaves_at_once_and_the_result_is_dropped() -> None:
    door = Door()
    pool = BlockingPool(size=1)
    async with open_runtime():
        await start(pool)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(blocking_call, door.wait)
            await door.entered.wait()
            nursery.cancel_scope.cancel()
        # The function keeps its thread, and so counts as a call.
        assert pool.statistics()["calls"] == 1
        door.opened.set()
        assert await blocking_call(max, 1, 2) == 2
        assert pool.statistics()["calls"] == 0


async def test_a_call_that_waits_for_a_thread_is_not_carried_out_after_its_cancellation() -> None:
    door = Door()
    ran: list[str] = []
    pool = BlockingPool(size=1)
    async with open_runtime():
        await start(pool)
        async with trio.open_nursery() as outer:
            outer.start_soon(blocking_call, door.wait)
            await door.entered.wait()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(blocking_call, ran.append, "ran")
                await trio.testing.wait_all_tasks_blocked()
                assert pool.statistics() == {
                    "calls": 2,
                    "calls_accepted": 2,
                    "calls_cancelled": 0,
                    "calls_refused": 0,
                    "calls_waiting": 1,
                }
                nursery.cancel_scope.cancel()
            assert pool.statistics()["calls_waiting"] == 0
            assert pool.statistics()["calls_cancelled"] == 1
            door.opened.set()
        assert await blocking_call(len, "four") == 4
    assert ran == []


async def test_calls_beyond_the_limit_are_refused_counted_and_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    door = Door()
    events: list[Mapping[str, Any]] = []
    pool = BlockingPool("database", size=1, max_calls=2)
    async with open_runtime() as runtime:
        runtime.telemetry.attach(TOO_MANY_CALLS, lambda _, how, about: events.append(about))
        await start(pool)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(blocking_call, door.wait, pool="database"))
            await door.entered.wait()
            nursery.start_soon(partial(blocking_call, len, "four", pool="database"))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(
                TooManyCalls,
                match=r"blocking_call\(len, \.\.\., pool='database'\) was refused, because 2",
            ):
                await blocking_call(len, "four", pool="database")
            door.opened.set()
        assert pool.statistics()["calls_refused"] == 1
    assert len(events) == 1
    assert "BlockingPool('database') refused blocking_call(len" in caplog.text


async def test_a_failed_connect_is_an_error_of_the_call_and_the_next_call_tries_again() -> None:
    attempts: list[int] = []

    def connect() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("the database is down")
        return "connection"

    async with a_pool(size=1, connect=connect):
        with pytest.raises(OSError, match="the database is down"):
            await blocking_call(str.upper)
        assert await blocking_call(str.upper) == "CONNECTION"


async def test_after_an_error_of_reconnect_on_the_thread_connects_again() -> None:
    connections: list[Connection] = []

    def connect() -> Connection:
        connections.append(Connection())
        return connections[-1]

    def fails(_: Connection, error: Exception) -> NoReturn:
        raise error

    async with a_pool(
        size=1, connect=connect, close=Connection.close, reconnect_on=(ConnectionError,)
    ):
        with pytest.raises(ValueError, match="one"):
            await blocking_call(fails, ValueError("one"))
        assert await blocking_call(lambda connection: connection) is connections[0]
        with pytest.raises(BrokenPipeError):
            await blocking_call(fails, BrokenPipeError())
        assert await blocking_call(lambda connection: connection) is connections[1]
        assert connections[0].closed_in is not None


async def test_a_close_that_raises_is_reported_and_the_pool_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events: list[Mapping[str, Any]] = []

    def fails(connection: object) -> NoReturn:
        raise ValueError("cannot close")

    async with open_runtime() as runtime:
        runtime.telemetry.attach(CONNECTION_FAILED, lambda _, how, about: events.append(about))
        pool = BlockingPool(size=1, connect=object, close=fails)
        supervisor = await start(pool)
        await blocking_call(repr)
        await stop(supervisor)
    assert [event["function"] for event in events] == ["close"]
    assert "The function close= of BlockingPool('blocking') raised" in caplog.text


async def test_without_a_connect_close_gets_no_connection() -> None:
    closed: list[int] = []

    def close() -> None:
        closed.append(threading.get_ident())

    async with a_pool(size=2, close=close) as supervisor:
        await stop(supervisor)
    assert len(set(closed)) == 2


async def test_context_variables_and_messages_are_those_of_the_caller() -> None:
    def works(receiver: Pid) -> tuple[str, Pid]:
        # More than the runtime takes in one turn.
        for _ in range(1000):
            send(receiver, "first")
        before = variable.get()
        variable.set("of the function")
        return before, current_pid()

    async def caller(receiver: Pid) -> None:
        variable.set("of the caller")
        assert await blocking_call(works, receiver) == ("of the caller", current_pid())
        assert variable.get() == "of the function"
        send(receiver, "second")

    async def main() -> None:
        spawn_link(caller, current_pid())
        assert [await receive() for _ in range(1001)] == ["first"] * 1000 + ["second"]

    async with a_pool():
        assert await wait_exit(spawn(main)) is NORMAL


async def test_a_stop_ends_the_queries_that_it_can_cancel_and_leaves_no_thread() -> None:
    doors = [Door(), Door()]
    connections: list[Connection] = []
    errors: list[str] = []

    def connect() -> Connection:
        connections.append(Connection())
        return connections[-1]

    def queries(connection: Connection, door: Door) -> NoReturn:
        door._token.run_sync_soon(door.entered.set)
        assert connection.cancelled.wait(PATIENCE)
        raise RuntimeError("cancelled")

    async def waits(door: Door) -> None:
        try:
            await blocking_call(queries, door)
        except ServerExit as error:
            errors.append(str(error))

    async with (
        a_pool(
            size=1, connect=connect, close=Connection.close, cancel=Connection.cancel
        ) as supervisor,
        trio.open_nursery() as nursery,
    ):
        thread = await blocking_call(lambda _: threading.current_thread())
        nursery.start_soon(waits, doors[0])
        await doors[0].entered.wait()
        nursery.start_soon(waits, doors[1])
        await trio.testing.wait_all_tasks_blocked()
        await stop(supervisor)
        assert not thread.is_alive()
    assert len(errors) == 2
    assert all("the server ended with SHUTDOWN" in error for error in errors)
    assert not doors[1].entered.is_set()
    assert connections[0].closed_in == connections[0].thread


async def test_a_killed_pool_answers_its_calls_at_once_and_its_threads_end() -> None:
    door = Door()
    before = set(threading.enumerate())
    async with a_pool(size=2), trio.open_nursery() as nursery:

        async def waits() -> None:
            with pytest.raises(ServerExit, match="ended with KILLED"):
                await blocking_call(door.wait)

        nursery.start_soon(waits)
        await door.entered.wait()
        threads = [each for each in threading.enumerate() if each not in before]
        pid = whereis("blocking")
        assert pid is not None
        kill(pid)
    door.opened.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(threads) == 2
    assert not any(thread.is_alive() for thread in threads)


async def test_a_function_that_does_not_return_is_reported_when_the_pool_is_killed() -> None:
    door = Door()
    events: list[Mapping[str, Any]] = []

    async def waits() -> None:
        with pytest.raises(ServerExit):
            await blocking_call(door.wait)

    async def stops(pid: Pid) -> None:
        with pytest.raises(ServerExit):
            await stop(pid, timeout=PATIENCE)

    async with open_runtime() as runtime:
        runtime.telemetry.attach(THREADS_LEFT, lambda _, how, about: events.append(about))
        pid = await BlockingPool(size=1).start_link()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits)
            await door.entered.wait()
            nursery.start_soon(stops, pid)
            await trio.testing.wait_all_tasks_blocked()
            kill(pid)
        door.opened.set()
    assert [event["requests"] for event in events] == [
        ["blocking_call(Door.wait, pool='blocking')"]
    ]


async def test_an_exit_in_the_function_is_an_exit_of_the_caller() -> None:
    def leaves() -> NoReturn:
        exit("bye")

    async def caller() -> None:
        await blocking_call(leaves)

    async with a_pool():
        assert await wait_exit(spawn(caller)) == "bye"
        # The thread goes on.
        assert await blocking_call(max, 1, 2) == 2


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_the_function_ends_the_program(kind: type[BaseException]) -> None:
    def raises() -> NoReturn:
        raise kind

    async def caller() -> None:
        await blocking_call(raises)

    async def main() -> None:
        async with a_pool():
            spawn(caller)
            await trio.sleep_forever()

    with pytest.raises(kind):
        trio.run(main)


async def test_mistakes_are_named_with_their_correction() -> None:
    async def fetch() -> None: ...

    async with a_pool():
        with pytest.raises(InvalidArgument, match=r"which is async; write `await fetch\(\.\.\.\)`"):
            await (await blocking_call(fetch))
        with pytest.raises(InvalidArgument, match="3, which is not a function"):
            await blocking_call(3)  # type: ignore[arg-type]
        with pytest.raises(NoProcess, match=r"add BlockingPool\('other'\) to the children"):
            await blocking_call(len, "", pool="other")
        await AsyncioLoop().start_link()
        with pytest.raises(InvalidArgument, match="write the name of a running BlockingPool"):
            await blocking_call(len, "", pool="asyncio")
        with pytest.raises(InvalidArgument, match="write the name of a running AsyncioLoop"):
            await asyncio_call(fetch, loop="blocking")
        with pytest.raises(InvalidOption, match="timeout=-1"):
            await blocking_call(len, "", timeout=-1)


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"max_calls": 0},
        {"connect": "app.db"},
        {"cancel": sqlite3.Connection.interrupt},
        {"reconnect_on": (OSError,)},
    ],
    ids=str,
)
def test_an_invalid_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match="BlockingPool got "):
        BlockingPool(**options)
