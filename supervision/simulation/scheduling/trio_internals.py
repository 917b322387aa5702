"""Every private name of Trio that a simulation needs, in one place.

Trio's scheduler takes the tasks of each round in an order that its documentation leaves open. For
the sake of reproducible tests it can be told to sort each round by the order of spawning and to
have it shuffled by a replaceable object; `hypothesis` uses that, and Trio's own tests pin it. The
third name is where Trio starts threads, which a simulated world has none of.

`tests/simulation/test_trio_names.py` is the contract: it fails first if a release of Trio changes
one of them.

The rest is about tasks that never run again, those of a node that was killed: what a task
has asked to be called when it is cancelled; the scopes that it is in, whose deadlines would
otherwise be waited for; its next step; the tasks in its nurseries; and the locks that it holds, which
Trio remembers for all runs together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import trio
from trio import _threads as threads_module
from trio._core import _parking_lot as parking_module
from trio._core import _run as run_module

__all__ = ["Order", "abandon", "scheduling", "silence", "thread_starts"]

_SORTED_FIRST = "_ALLOW_DETERMINISTIC_SCHEDULING"
_SHUFFLER = "_r"
_START_THREAD = "start_thread_soon"
_ON_CANCEL = "_abort_func"
_SCOPES = "_cancel_status"
_NEXT_STEP = "_next_send_fn"
_IN_NURSERY = "_children"
_BROKEN_WITH = "GLOBAL_PARKING_LOT_BREAKER"


class Order(Protocol):
    """What Trio asks about the order of tasks. Called between two rounds, where no task runs."""

    def shuffle(self, batch: list[trio.lowlevel.Task], /) -> None:
        """Put a round's tasks, given in the order of spawning, into the *reverse* of their order."""

    def random(self) -> float:
        """Not asked while rounds are sorted first; part of the interface all the same."""

    def uniform(self, low: float, high: float, /) -> float:
        """The offset of Trio's own clock, which a simulated world does not use."""


@contextmanager
def scheduling(order: Order) -> Iterator[None]:
    """Have `order` decide about every round of every run, until the block is left.

    with scheduling(order):
        trio.run(main)
    """
    with _replaced(run_module, _SORTED_FIRST, True), _replaced(run_module, _SHUFFLER, order):
        yield


@contextmanager
def thread_starts(start: Callable[..., None]) -> Iterator[None]:
    """Have `start` called wherever Trio would hand something to a thread of its own."""
    with _replaced(threads_module, _START_THREAD, start):
        yield


def silence(tasks: Iterable[trio.lowlevel.Task], within: trio.CancelScope) -> None:
    """Have Trio call nothing of these tasks any more, and wait for none of their deadlines.

    Args:
        tasks: that will never run again.
        within: the scope that all of them are in, which is left alone, as is everything around it.
    """
    seen: set[int] = set()
    for task in tasks:
        getattr(task, _ON_CANCEL)
        setattr(task, _ON_CANCEL, None)
        status = getattr(task, _SCOPES)
        while status is not None and status._scope is not within and id(status) not in seen:
            seen.add(id(status))
            # Trio's own setter: the scope gives up its place in the heap of deadlines.
            status._scope.deadline = math.inf
            status = status._parent


def abandon(tasks: Iterable[trio.lowlevel.Task]) -> None:
    """After their run: have Trio not expect of tasks that they end, and take their coroutines out of them.

    It remembers which locks they hold until then, and complains of a nursery that goes away with tasks in it.
    """
    holders = getattr(parking_module, _BROKEN_WITH)
    for task in tasks:
        holders.pop(task, None)
        getattr(task, _NEXT_STEP)
        setattr(task, _NEXT_STEP, None)
        setattr(task, "coro", None)  # noqa: B010 # typed as if it were there for ever
        for nursery in task.child_nurseries:
            getattr(nursery, _IN_NURSERY).clear()


@contextmanager
def _replaced(module: Any, name: str, value: object) -> Iterator[None]:
    # getattr without a default: a name that is gone must be noticed here, not by its effects.
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
