"""A bounded queue through which other threads make a runtime call functions.

Only the runtime's thread may touch its data. Another thread puts a function call into this queue, and the runtime's
thread makes the call. The runtime makes calls in the order of the queue, so the calls of one thread keep their order.

A thread that finds the queue full waits until there is room. This bounds the memory and slows down threads that produce
faster than the runtime consumes. A thread waits at most `MAX_WAIT` seconds. If the runtime's thread is blocked for
longer, the two threads may be waiting for each other.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, TypeAlias

import trio

from actors._kernel.process import escaping
from actors.errors import RuntimeClosed, ThreadQueueFull
from actors.instrumentation.telemetry import Telemetry

__all__ = ["DEFAULT_LIMIT", "MAX_WAIT", "ThreadQueue"]

DEFAULT_LIMIT = 1024
"""The default limit of calls from other threads that may wait for one runtime."""

MAX_WAIT = 30.0
"""The seconds that a thread waits for room in a full queue."""

# The calls that the runtime makes in one scheduler turn. Other tasks run between two turns.
_BATCH = 64

FULL = ("actors", "threads", "full")
FAILED = ("actors", "threads", "failed")

_Call: TypeAlias = tuple[Context, Callable[..., object], tuple[Any, ...]]


class ThreadQueue:
    """The function calls that other threads have handed to one runtime.

    Args:
        limit: The number of calls that may wait. It may change later.
        telemetry: The runtime's event listeners.
        run_sync_soon: A function that makes the runtime's thread call another function.
        check_caller: A function that raises ProcessKilled in the task of a zombie.
        interrupted: A function that takes the KeyboardInterrupt or SystemExit that a call raised.
    """

    __slots__ = (
        "_calls",
        "_check_caller",
        "_closed",
        "_interrupted",
        "_limit",
        "_made",
        "_refused",
        "_reported",
        "_room",
        "_run_sync_soon",
        "_scheduled",
        "_taken",
        "_telemetry",
        "_waited",
    )

    def __init__(
        self,
        limit: int,
        *,
        telemetry: Telemetry,
        run_sync_soon: Callable[[Callable[[], object]], object],
        check_caller: Callable[[], object],
        interrupted: Callable[[BaseException], object],
    ) -> None:
        self._limit = limit
        self._telemetry = telemetry
        self._run_sync_soon = run_sync_soon
        self._check_caller = check_caller
        self._interrupted = interrupted
        self._calls: deque[_Call] = deque()
        # The Condition's lock is reentrant, because a finalizer or signal handler may send while its thread holds the
        # lock.
        self._room = threading.Condition()
        # True while the runtime's thread is about to call `_run_some`.
        self._scheduled = False
        self._closed = False
        self._taken = self._made = self._waited = self._refused = 0
        # The counts in the last `FULL` event: calls that waited, and calls that were refused.
        self._reported = (0, 0)

    @property
    def limit(self) -> int:
        """The number of calls that may wait. A higher limit lets waiting threads continue."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        with self._room:
            self._limit = limit
            self._room.notify_all()

    def put(self, function: Callable[..., object], *args: Any) -> None:
        """Make the runtime's thread call `function(*args)` soon, in the caller's context. Only for other threads.

        If this raises, nothing has changed.

        Raises:
            RuntimeClosed: The runtime has ended.
            ThreadQueueFull: There was no room within `MAX_WAIT` seconds.
            ProcessKilled: The caller acts for a process that the runtime has declared dead.
        """
        self._check_caller()
        context = copy_context()
        with self._room:
            if len(self._calls) >= self.limit and not self._closed:
                self._wait_for_room()
            if self._closed:
                raise RuntimeClosed(
                    "the runtime has ended and takes no more messages from other threads; stop your threads "
                    "before you leave `async with open_runtime():`"
                )
            self._add((context, function, args))

    def put_nowait(self, function: Callable[..., object], *args: Any) -> bool:
        """Make the runtime's thread call `function(*args)` soon, if the queue takes the call without waiting.

        Unlike `put`, it does not check the caller. Use it only for a call that has no effect on processes.

        Returns:
            False if the runtime has ended or the queue is full. Nothing has changed then.
        """
        context = copy_context()
        with self._room:
            if self._closed or len(self._calls) >= self.limit:
                return False
            self._add((context, function, args))
        return True

    def _add(self, call: _Call) -> None:
        """Add a call, while the caller holds the lock."""
        if not self._scheduled:
            self._run_sync_soon(self._run_some)
            self._scheduled = True
        self._calls.append(call)
        self._taken += 1

    def _wait_for_room(self) -> None:
        self._waited += 1
        if not self._room.wait_for(self._has_room, MAX_WAIT):
            self._refused += 1
            raise ThreadQueueFull(self.limit, MAX_WAIT)

    def _has_room(self) -> bool:
        return self._closed or len(self._calls) < self.limit

    def _run_some(self) -> None:
        """Make the oldest calls, in the runtime's thread. Never raises, because Trio would end the whole program."""
        with self._room:
            calls = [self._calls.popleft() for _ in range(min(_BATCH, len(self._calls)))]
            self._scheduled = bool(self._calls)
            if self._scheduled:
                self._run_sync_soon(self._run_some)
            self._room.notify(len(calls))
            crowded = (self._waited, self._refused)
        if crowded != self._reported:
            self._report_full(crowded)
        self._make(calls)

    def _make(self, calls: list[_Call]) -> None:
        for context, function, args in calls:
            try:
                context.run(function, *args)
            except BaseException as error:
                # No caller waits for the result, so the event listeners get the error.
                self._telemetry.execute(
                    FAILED, {}, {"function": function, "args": args, "exception": error}
                )
                interrupt = escaping(error)
                if interrupt is not None:
                    self._interrupted(interrupt)
            self._made += 1

    async def caught_up(self) -> None:
        """Wait until the runtime has made all calls that are in the queue now. Cannot be cancelled."""
        taken = self._taken
        while self._made < taken:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _report_full(self, crowded: tuple[int, int]) -> None:
        (waited, refused), (before, refused_before) = crowded, self._reported
        self._reported = crowded
        self._telemetry.execute(
            FULL,
            {"waited": waited - before, "refused": refused - refused_before, "limit": self.limit},
            {},
        )

    def close(self) -> None:
        """Refuse every further call, release waiting threads, and make the remaining calls.

        Call it after all processes have ended. The remaining messages become dead letters.
        """
        with self._room:
            self._closed = True
            calls = list(self._calls)
            self._calls.clear()
            self._room.notify_all()
        self._make(calls)

    def statistics(self) -> dict[str, int]:
        """Return the number of calls that wait now, and counters since the runtime was opened."""
        return {
            "thread_calls_waiting": len(self._calls),
            "thread_calls": self._taken,
            "thread_calls_delayed": self._waited,
            "thread_calls_refused": self._refused,
        }
