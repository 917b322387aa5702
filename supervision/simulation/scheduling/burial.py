"""Ending coroutines without running anything of them: no `finally`, no `except`, no `__aexit__`.

A coroutine that is thrown away in the middle is run to its end by Python, clean-ups and all, and `close` does the same.
For a program that was killed as `kill -9` kills that would be wrong, and as the run is over by then it would be loud,
too. But a coroutine whose frame cannot be entered, because the stack is used up, is ended as one that has raised: its
frame is emptied and what it holds is released, without one instruction of it. So the stack is used up first.

What Python calls when objects go away (`__del__`, callbacks of weak references, finalizers of generators) does not run
then for the same reason, and what cannot run is not complained about.

How much of the stack a call takes is an affair of each version of Python. So this is tried with a coroutine of no
consequence first, and if that is run, or cannot be ended, the others are left alone.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator
from types import coroutine
from typing import Any

import trio

from supervision.simulation.scheduling.trio_internals import abandon

__all__ = ["bury"]


def bury(tasks: list[trio.lowlevel.Task]) -> list[object]:
    """End tasks of a run that is over, and release what they hold, without running them.

    Args:
        tasks: whose run is over; the list is emptied.

    Returns:
        Coroutines that could not be ended so, and must be kept for ever so that they do not run; none on CPython.
    """
    coroutines: list[Any] = [task.coro for task in reversed(tasks)]
    abandon(tasks)
    tasks.clear()
    hook, stderr = sys.unraisablehook, sys.stderr
    trace, profile = sys.gettrace(), sys.getprofile()
    sys.settrace(None)
    sys.setprofile(None)
    # What has no room to run is reported, and is meant to have none. Without a hook the report goes to nowhere; with
    # one, even with None, Python would first ask its audit hooks, which have no room either.
    vars(sys).pop("unraisablehook")
    sys.stderr = None
    try:
        _descend(coroutines, _Probe(len(coroutines)))
    finally:
        sys.unraisablehook, sys.stderr = hook, stderr
        sys.settrace(trace)
        sys.setprofile(profile)
    return coroutines


class _Probe:
    """A coroutine that waits, and says whether it has been run after that."""

    def __init__(self, count: int) -> None:
        # Of the others; there is no room to ask for it below.
        self.count = count
        self.ran = self.over = False
        self.coroutine: Any = self._wait()
        self.coroutine.send(None)

    async def _wait(self) -> None:
        try:
            await _suspend()
        finally:
            self.ran = True


@coroutine
def _suspend() -> Generator[None, None, None]:
    yield


def _descend(coroutines: list[Any], probe: _Probe) -> None:
    try:
        _descend(coroutines, probe)
    except RecursionError:
        pass
    # From here on the deepest frames are left again, one by one, until there is room to call `close`, which is C, but
    # not yet for a frame. Nothing else is called, as each call might need that room.
    if probe.over:
        return
    try:
        probe.coroutine.close()
    except RecursionError:
        pass
    if probe.coroutine.cr_suspended:
        return
    probe.over = True
    if probe.ran:
        return
    position = probe.count
    while position:
        position -= 1
        try:
            coroutines[position].close()
        except RecursionError:
            pass
        if not coroutines[position].cr_suspended:
            del coroutines[position]
    # What they held in circles. It is as old as the run, during which the collector was off, so it is young.
    try:
        gc.collect(0)
    except RecursionError:
        pass
