"""A virtual clock that waits for threads.

Trio's autojump clock jumps as soon as every task waits, even if a task waits for a thread. Without this module, all
time limits of a test would expire immediately while a handler waits for a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio
import trio.testing

from actors.runtime import Runtime, current_runtime

__all__ = ["THREAD_PATIENCE", "waiting_for_threads", "working_threads"]

THREAD_PATIENCE = 5.0
"""Seconds of real time that the virtual clock waits for threads. After that, it jumps."""


def working_threads(runtime: Runtime) -> int:
    """Return the number of threads of `trio.to_thread`, and of calls of loops and pools, that tasks wait for."""
    return trio.testing.active_thread_count() + runtime.work_in_threads


class _Patience(trio.abc.Instrument):
    """An instrument that delays the clock's jumps while a thread works."""

    def __init__(self, clock: trio.testing.MockClock) -> None:
        self._runtime = current_runtime()
        self._clock = clock
        self._usual = clock.autojump_threshold

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        # The number changes only in the steps of tasks that wait for a thread, and before such a task runs again.
        self._set(THREAD_PATIENCE if working_threads(self._runtime) else self._usual)

    def restore(self) -> None:
        self._set(self._usual)

    def _set(self, threshold: float) -> None:
        if self._clock.autojump_threshold != threshold:
            self._clock.autojump_threshold = threshold


@contextmanager
def waiting_for_threads() -> Iterator[None]:
    """Stop the virtual clock of this run, if there is one, while `working_threads` work for the current runtime."""
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, trio.testing.MockClock) or clock.autojump_threshold >= THREAD_PATIENCE:
        yield
        return
    patience = _Patience(clock)
    trio.lowlevel.add_instrument(patience)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(patience)
        patience.restore()
