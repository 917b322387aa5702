"""Every private name of Trio that a simulation needs, in one place.

Trio's scheduler takes the tasks of each round in an order that its documentation leaves open. For
the sake of reproducible tests it can be told to sort each round by the order of spawning and to
have it shuffled by a replaceable object; `hypothesis` uses that, and Trio's own tests pin it. The
third name is where Trio starts threads, which a simulated world has none of.

`tests/simulation/test_trio_names.py` is the contract: it fails first if a release of Trio changes
one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import trio
from trio import _threads as threads_module
from trio._core import _run as run_module

__all__ = ["Order", "scheduling", "thread_starts"]

_SORTED_FIRST = "_ALLOW_DETERMINISTIC_SCHEDULING"
_SHUFFLER = "_r"
_START_THREAD = "start_thread_soon"


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


@contextmanager
def _replaced(module: Any, name: str, value: object) -> Iterator[None]:
    # getattr without a default: a name that is gone must be noticed here, not by its effects.
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
