"""A supervised pool of threads for blocking libraries, with a connection for each thread.

    import sqlite3
    from actors.blocking_pool import BlockingPool, blocking_call

    def score_of(connection, player):
        return connection.execute("SELECT score FROM scores WHERE player = ?", (player,)).fetchone()

    def connect():
        return sqlite3.connect("scores.db")

    pool = BlockingPool(connect=connect, close=sqlite3.Connection.close, cancel=sqlite3.Connection.interrupt)
    await Supervisor.start_link([pool])
    row = await blocking_call(score_of, "ann")

Many database drivers block, and many refuse a connection that another thread has made. So each thread of the pool makes
a connection of its own, and keeps it as long as the pool runs.
"""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, ClassVar, TypeVar

from trio.lowlevel import Abort, start_thread_soon

from actors._thread_service import (
    MAX_CALLS,
    Result,
    ThreadCall,
    ThreadService,
    ThreadServiceSpec,
)
from actors.arguments import check_whole, name_and_place_of, name_of
from actors.errors import InvalidArgument, InvalidOption
from actors.instrumentation.logger import CONNECTION_FAILED

__all__ = ["BlockingPool", "blocking_call"]

T = TypeVar("T")

# The seconds after which a function that has not ended is cancelled again, at first and at most. A cancellation between
# two queries has no effect in most databases.
_FIRST_REPEAT = 0.05
_LAST_REPEAT = 1.0


class BlockingPool(ThreadServiceSpec):
    """Threads for functions that block, as a child of a supervisor.

        BlockingPool("database", size=8, connect=partial(psycopg.connect, URL), close=psycopg.Connection.close)

    A thread connects before its first call. If `connect` raises, the call gets the exception, and the thread tries
    again at its next call.

    At the end of the process, calls that wait for a thread get ServerExit. If the pool has `cancel`, it cancels the
    calls that run. Otherwise it waits for their ends. Then each thread closes its connection. If a function has not
    ended when the supervisor kills the process, the runtime emits `("actors", "thread_service", "left")`, and the
    thread goes on alone.

    Args:
        name: The name of the process, for `blocking_call`.
        size: The number of threads, and so of functions that run at the same time.
        max_calls: The number of calls without a result that the pool accepts, waiting ones included. A further call
            raises `TooManyCalls`.
        connect: A function that makes the connection of a thread, in this thread. With None, the functions get no
            connection.
        close: A function that a thread calls at its end, with its connection if there is `connect`.
        cancel: A function that ends the query of a connection from another thread, such as
            `sqlite3.Connection.interrupt`. Needs `connect`. The pool calls it for the call of a cancelled caller, and
            again after a moment, until the function has ended.
        reconnect_on: Exceptions of calls after which a thread closes its connection and connects again for its next
            call, such as `(psycopg.OperationalError,)`.

    Raises:
        InvalidOption: An option has an invalid value.
    """

    verb: ClassVar[str] = "blocking_call"
    option: ClassVar[str] = "pool"

    def __init__(
        self,
        name: object = "blocking",
        *,
        size: int = 8,
        max_calls: int = MAX_CALLS,
        connect: Callable[[], Any] | None = None,
        close: Callable[..., object] | None = None,
        cancel: Callable[[Any], object] | None = None,
        reconnect_on: tuple[type[Exception], ...] = (),
    ) -> None:
        super().__init__(name, max_calls)
        check_whole("BlockingPool", "size", size)
        option: str
        value: object
        for option, value in (("connect", connect), ("close", close), ("cancel", cancel)):
            if value is not None and not callable(value):
                raise InvalidOption("BlockingPool", option, value, "a function, or None")
        if connect is None and (cancel is not None or reconnect_on):
            option, value = (
                ("cancel", cancel) if cancel is not None else ("reconnect_on", reconnect_on)
            )
            raise InvalidOption(
                "BlockingPool", option, value, "connect= too, which makes a connection for it"
            )
        self.size = size
        self.connect = connect
        self.close = close
        self.cancel = cancel
        self.late = "the pool has cancelled it" if cancel else "its thread may still carry it out"
        self.reconnect_on = reconnect_on

    def make(self) -> ThreadService:
        """Make the service, in its process."""
        return _RunningPool(self)


async def blocking_call(
    function: Callable[..., T],
    *args: Any,
    pool: object = "blocking",
    timeout: float = math.inf,
) -> T:
    """Run a blocking function in a thread of a supervised pool, and wait for its result. Other processes continue.

        row = await blocking_call(score_of, "ann")

    You may call it in any task of the runtime. In the function, `send`, `cast` and broadcasts work, and act in the name
    of the caller; their messages have arrived when `blocking_call` returns. `call` and most other functions raise
    WrongThread there. The caller also gets the changes that the function makes to context variables.

    If the caller is cancelled while its call waits for a thread, it leaves at once, and the function is never called.
    If the function runs, the pool's `cancel` ends its query, and the caller continues when the function has ended. If
    the function then raises, the caller gets its own cancellation in place of this exception. Without `cancel`, the
    caller leaves at once, the function still runs to its end in its thread, and the pool drops its result.

    Args:
        function: The function. If the pool has `connect`, its first argument is the connection of the thread.
        *args: Its further arguments.
        pool: The name or the pid of the `BlockingPool`.
        timeout: The time limit in seconds, with the time in which the call waits for a thread. After that the caller
            leaves as if it were cancelled.

    Returns:
        The result of the function, without a copy. If the function raises, `blocking_call` raises the same exception.

    Raises:
        NoProcess: There is no such pool.
        TooManyCalls: The pool has `max_calls` calls without a result. The function was not called.
        CallTimeout: The function did not end in time.
        ServerExit: The pool ended before the function. `reason` is its exit reason.
        InvalidArgument: `function` is async or not a function, or `pool` is another process.
    """
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise InvalidArgument("blocking_call", function, _advice(function))
    result: T = await BlockingPool.call(function, args, pool, timeout)
    return result


def _advice(function: object) -> str:
    if not callable(function):
        return f"{function!r}, which is not a function; write blocking_call(function, ...)"
    return (
        f"{name_and_place_of(function)}, which is async; write `await {name_of(function)}(...)`, or asyncio_call() for "
        "a function that needs asyncio"
    )


class _Worker:
    """One thread. Its lock protects `call`, so that a cancellation never meets the next call of the thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.call: ThreadCall | None = None
        self.connection: Any = None
        self.is_connected = False


class _RunningPool(ThreadService):
    """The threads of one process."""

    spec: BlockingPool

    def __init__(self, spec: BlockingPool) -> None:
        super().__init__(spec)
        self._queue: SimpleQueue[ThreadCall | None] = SimpleQueue()
        # A thread and a cancelled caller may want the same call. The one that pops it from this dict has it.
        self._waiting: dict[ThreadCall, None] = {}
        self._workers = [_Worker() for _ in range(spec.size)]
        self._running = 0
        self._asked_to_stop = False

    async def start(self) -> None:
        """Start the threads. They connect later."""
        for number, worker in enumerate(self._workers, 1):
            self.start_thread(self._run_thread, worker, name=f"{self.spec!r} {number}")
            self._running += 1

    def begin(self, call: ThreadCall) -> None:
        """Let a call wait for a thread."""
        self._waiting[call] = None
        self._queue.put(call)

    def cancel(self, call: ThreadCall) -> Abort:
        """Cancel a call that waits, or end the query of one that runs."""
        if self._waiting.pop(call, call) is None:
            self.remove(call)
        elif self.spec.cancel is not None:
            self._interrupt(call)
            return Abort.FAILED
        self.leave(call)
        return Abort.SUCCEEDED

    def stop_threads(self) -> None:
        """Ask the threads to end after the calls that they carry out now."""
        if self._asked_to_stop:
            return
        self._asked_to_stop = True
        # `down` answers them.
        self._waiting.clear()
        if self.spec.cancel is not None:
            for call in list(self.calls):
                if call.handle is not None and call.raise_cancel is None:
                    self._interrupt(call)
        for _ in self._workers:
            self._queue.put(None)

    def thread_ended(self, error: BaseException | None) -> None:
        """Take note of the end of one thread."""
        self._running -= 1
        if not self._running:
            super().thread_ended(error)

    def finish(self, call: ThreadCall, result: Result) -> None:
        """Answer a call. `down` answers a call whose query the stop of the pool has ended."""
        if not (self._asked_to_stop and self.spec.cancel is not None and result.error is not None):
            super().finish(call, result)

    def statistics(self) -> dict[str, int]:
        """Return the numbers of calls without a result and of waiting calls, and counters since the start."""
        return {**super().statistics(), "calls_waiting": len(self._waiting)}

    def _failed(self, function: str, error: BaseException) -> None:
        facts = {"service": repr(self.spec), "function": function, "exception": error}
        self.runtime.telemetry.execute(CONNECTION_FAILED, {}, facts)

    # Cancellation, in a thread of Trio, because the driver may ask its server and wait

    def _interrupt(self, call: ThreadCall) -> None:
        start_thread_soon(partial(self._interrupt_until_over, call), _drop)

    def _interrupt_until_over(self, call: ThreadCall) -> None:
        delay = _FIRST_REPEAT
        while self._cancel_query(call):
            call.handle.wait(delay)
            delay = min(2 * delay, _LAST_REPEAT)

    def _cancel_query(self, call: ThreadCall) -> bool:
        """Cancel the query of a call. Return False if the call has ended."""
        assert self.spec.cancel is not None
        for worker in self._workers:
            # With the lock, because a thread has the lock from the moment in which it takes a call until `call` is set.
            with worker.lock:
                if worker.call is not call:
                    continue
                if worker.is_connected:
                    try:
                        self.spec.cancel(worker.connection)
                    except Exception as error:
                        # The server of the database may be too busy to cancel, so try again.
                        self.tell(self._failed, "cancel", error)
                return True
        return False

    # In the threads

    def _run_thread(self, worker: _Worker) -> None:
        while (call := self._queue.get()) is not None:
            with worker.lock:
                if self._waiting.pop(call, call) is call:
                    # The caller has left, or the pool ends.
                    continue
                call.handle = over = threading.Event()
                worker.call = call
            result = self._carry_out(worker, call)
            with worker.lock:
                worker.call = None
            over.set()
            self.tell(self.finish, call, result)
            del call, result
        self._close(worker)
        self.tell(self.thread_ended, None)

    def _carry_out(self, worker: _Worker, call: ThreadCall) -> Result:
        spec = self.spec
        try:
            if spec.connect is not None and not worker.is_connected:
                worker.connection = spec.connect()
                worker.is_connected = True
            args = call.args if spec.connect is None else (worker.connection, *call.args)
            return Result(call.context.run(call.function, *args))
        except BaseException as error:
            # Even a SystemExit, which would otherwise end this thread. The caller raises it, and so ends the program.
            was_cancelled = call.raise_cancel is not None and isinstance(error, Exception)
            if isinstance(error, spec.reconnect_on) and not was_cancelled:
                with worker.lock:
                    self._close(worker)
            return Result(error=error, cancelled=was_cancelled)

    def _close(self, worker: _Worker) -> None:
        spec, connection = self.spec, worker.connection
        if spec.connect is not None and not worker.is_connected:
            return
        worker.connection, worker.is_connected = None, False
        if spec.close is None:
            return
        try:
            if spec.connect is None:
                spec.close()
            else:
                spec.close(connection)
        except Exception as error:
            # The connection is given up in any case.
            self.tell(self._failed, "close", error)


def _drop(_: object) -> None:
    """Drop the result of a thread, which is None."""
