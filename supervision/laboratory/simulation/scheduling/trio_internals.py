"""All private names of Trio that a simulation needs.

- Order: Trio does not promise an order for the tasks in a round. For reproducible tests, Trio can sort the tasks by the
  order of spawning, and then pass them to a replaceable object that shuffles them. Hypothesis uses this, and Trio tests
  it.
- Threads: the function by which Trio starts threads, the one by which a thread calls Trio, and the default limiter. A
  simulated world has no threads, and dead nodes never release the limiter.
- Tasks of a paused node, which run later: the queue of the tasks that run in the next round.
- Tasks of a killed node, which never run again: the function that Trio calls to cancel a task, and the cancel scopes
  around a task. The clock would wait for the deadlines of these scopes.

`tests/simulation/test_trio_names.py` fails first if a release of Trio changes one of these names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any, Protocol

import trio
from trio import _threads as threads_module
from trio._core import _run as run_module

__all__ = ["Order", "captured", "make_ready", "scheduling", "silence", "thread_starts"]

_SORTED_FIRST = "_ALLOW_DETERMINISTIC_SCHEDULING"
_SHUFFLER = "_r"
_START_THREAD = "start_thread_soon"
_CALL_TRIO = "_send_message_to_trio"
_OUTCOME = "outcome"
_LIMITER = "_limiter_local"
_CONTEXT = "GLOBAL_RUN_CONTEXT"
_RUNNER = "runner"
_READY = "runq"
_ON_CANCEL = "_abort_func"
_SCOPES = "_cancel_status"
_SCOPE_OF = "_scope"
_PARENT = "_parent"


class Order(Protocol):
    """The object that Trio asks for the order of tasks. Trio calls it between two rounds, when no task runs."""

    def shuffle(self, batch: list[trio.lowlevel.Task], /) -> None:
        """Sort tasks from the order of spawning into the *reverse* of the order in which they will run."""

    def random(self) -> float:
        """Return any number. Trio does not call this in its deterministic mode."""

    def uniform(self, low: float, high: float, /) -> float:
        """Return the offset of Trio's own clock, which a simulated world does not use."""


@contextmanager
def scheduling(order: Order) -> Iterator[None]:
    """Make Trio ask `order` for the order of every round in this block."""
    with _replaced(run_module, _SORTED_FIRST, True), _replaced(run_module, _SHUFFLER, order):
        yield


@contextmanager
def thread_starts(
    start: Callable[..., None], call_trio: Callable[..., None], limiters: object
) -> Iterator[None]:
    """Call `start` where Trio would start a thread in this block, and `call_trio` where a thread would call Trio.

    Trio gets its default limiter from `limiters`, which has the methods `get` and `set` of a `RunVar`. The functions
    work as before in other threads, which may run Trio too.
    """
    with (
        _replaced(threads_module, _START_THREAD, _only_here(_START_THREAD, start)),
        _replaced(threads_module, _CALL_TRIO, _only_here(_CALL_TRIO, call_trio)),
        _replaced(threads_module, _LIMITER, limiters),
    ):
        yield


def _only_here(name: str, function: Callable[..., None]) -> Callable[..., None]:
    original, thread = getattr(threads_module, name), get_ident()

    def call(*args: Any, **options: Any) -> None:
        (function if get_ident() == thread else original)(*args, **options)

    return call


def captured(function: Callable[[], object]) -> object:
    """Call the function of a thread, and return its result or exception as Trio delivers them."""
    return getattr(threads_module, _OUTCOME).capture(function)


def make_ready(tasks: Iterable[trio.lowlevel.Task]) -> None:
    """Run tasks in the next round that were taken out of the batch of an earlier round. A task of Trio calls this."""
    getattr(getattr(getattr(run_module, _CONTEXT), _RUNNER), _READY).extend(tasks)


def silence(tasks: Iterable[trio.lowlevel.Task], within: trio.CancelScope) -> None:
    """Make Trio neither cancel these tasks nor wait for their deadlines any more.

    Args:
        tasks: tasks that never run again.
        within: the scope around all these tasks. This scope and the scopes around it keep their deadlines.
    """
    seen: set[int] = set()
    for task in tasks:
        getattr(task, _ON_CANCEL)  # raises if Trio has renamed it
        setattr(task, _ON_CANCEL, None)
        status = getattr(task, _SCOPES)
        while status is not None and id(status) not in seen:
            scope = getattr(status, _SCOPE_OF)
            if scope is within:
                break
            seen.add(id(status))
            # Trio's setter removes the scope from the heap of deadlines.
            scope.deadline = math.inf
            status = getattr(status, _PARENT)


@contextmanager
def _replaced(module: Any, name: str, value: object) -> Iterator[None]:
    # `getattr` has no default, so that it raises if Trio has removed the name.
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
