"""Ending coroutines without running anything of them: no `finally`, no `except`, no `__aexit__`.

A coroutine that is thrown away in the middle is run to its end by Python, clean-ups and all, and `close` does the same.
For a program that was killed as `kill -9` kills that would be wrong, and as the run is over by then it would be loud,
too. But a coroutine whose frame cannot be entered, because the stack is used up, is ended as one that has raised: its
frame is emptied and what it holds is released, without one instruction of it. So the stack is used up first.

What Python calls when objects go away (`__del__`, callbacks of weak references, finalizers of generators) does not run
then for the same reason, and what cannot run is not complained about.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

import trio

from supervision.simulation._trio_names import abandon

__all__ = ["bury"]

# Python 3.11 counts calls into C, too, and so needs the second; later ones do not.
_DEEPEST = 2
_ONE = [None]


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
    hook, trace, profile = sys.unraisablehook, sys.gettrace(), sys.getprofile()
    sys.settrace(None)
    sys.setprofile(None)
    # What has no room to run is reported there, and is meant to have none.
    sys.unraisablehook = id
    try:
        _descend(coroutines, [])
    finally:
        sys.unraisablehook = hook
        sys.settrace(trace)
        sys.setprofile(profile)
    return coroutines


def _descend(coroutines: list[Any], tried: list[None]) -> None:
    try:
        _descend(coroutines, tried)
    except RecursionError:
        pass
    # From here on the deepest frames are left again, one by one, until there is room to call `close`, which is C, but
    # not yet for a frame. Nothing else is called: each call might need that room.
    while coroutines and len(tried) < _DEEPEST:
        try:
            coroutines[-1].close()
        except RecursionError:
            pass
        if coroutines[-1].cr_frame is not None:
            tried += _ONE
            return
        del coroutines[-1]
        if not coroutines:
            # What they held in circles. It is as old as the run, during which the collector was off, so it is young.
            gc.collect(0)
