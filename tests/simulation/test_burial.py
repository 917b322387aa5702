"""What was in the middle of something is ended without another step of it."""

import gc
import sys
import warnings
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio

from supervision.simulation.scheduling.burial import bury

ran: list[str] = []


class Loud:
    def __init__(self, kept: list[weakref.ref[Any]]) -> None:
        self.itself = self
        kept.append(weakref.ref(self, lambda _: ran.append("weak reference")))

    def __del__(self) -> None:
        ran.append("__del__")


@contextmanager
def block() -> Iterator[None]:
    try:
        yield
    finally:
        ran.append("block")


@asynccontextmanager
async def asynchronous_block() -> AsyncIterator[None]:
    try:
        yield
    finally:
        ran.append("asynchronous block")


async def works(kept: list[weakref.ref[Any]]) -> None:
    try:
        with block():
            async with asynchronous_block():
                loud = Loud(kept)
                await trio.lowlevel.cancel_shielded_checkpoint()
                del loud
    except BaseException:
        ran.append("except")
        raise
    finally:
        ran.append("finally")


async def deeper(kept: list[weakref.ref[Any]]) -> None:
    try:
        await works(kept)
    finally:
        ran.append("outer finally")


class Task:
    """As much of a task as is asked for."""

    def __init__(self, coroutine: Any) -> None:
        self.coro = coroutine
        self.child_nurseries: list[trio.Nursery] = []
        self._next_send_fn = None


def tasks(kept: list[weakref.ref[Any]]) -> list[Any]:
    """Two that have begun and one that has not."""
    found = [Task(works(kept)), Task(deeper(kept)), Task(works(kept))]
    for task in found[:2]:
        task.coro.send(None)
    return found


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    # In this order: what an earlier test has left says so when it is collected.
    gc.collect()
    ran.clear()
    gc.disable()
    yield
    gc.enable()


def test_nothing_of_a_coroutine_runs_and_what_it_held_is_gone(
    capfd: pytest.CaptureFixture[str],
) -> None:
    kept: list[weakref.ref[Any]] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert bury(tasks(kept)) == []
        gc.collect()
    assert ran == []
    assert len(kept) == 2
    assert [loud() for loud in kept] == [None, None]
    assert (caught, capfd.readouterr().err) == ([], "")


def test_closed_in_the_ordinary_way_the_same_coroutines_run() -> None:
    for task in tasks([]):
        task.coro.close()
    assert {"except", "finally", "outer finally", "block", "asynchronous block"} <= set(ran)


def test_afterwards_the_hooks_of_the_interpreter_are_as_before() -> None:
    before = (sys.unraisablehook, sys.stderr, sys.getrecursionlimit(), sys.gettrace())
    bury(tasks([]))
    assert (sys.unraisablehook, sys.stderr, sys.getrecursionlimit(), sys.gettrace()) == before
    assert bury([]) == []
