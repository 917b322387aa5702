"""Guards against waits in real time, which stop the whole simulation.

Nothing else runs while the thread of a simulation waits for a lock, a condition or a file descriptor. No other thread
can end the wait. So within the fence, these functions raise an `Escape` that names the function:

- `threading.Condition.wait`, and so `Event.wait`, `Semaphore.acquire`, `Barrier.wait`, `queue.Queue.get` and `put`, and
  `concurrent.futures.Future.result`;
- `threading.Lock.acquire`, if the lock is taken. This works for locks in globals of the program, and for locks that the
  simulation created with `threading.Lock()`;
- `queue.SimpleQueue.get` of a queue that the simulation created;
- `select.select`, `select.poll` and the selectors of `selectors`;
- `time.sleep`.

A call with a time limit of 0 does not wait, so it is allowed.
"""

from __future__ import annotations

import _thread
import queue
import select
import selectors
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from types import FrameType
from typing import Any

from actors.places import is_program
from supervision.laboratory.simulation.frames import imports
from supervision.laboratory.simulation.pins.fence import SLEEP, escape, escaping

__all__ = ["guarded_waits", "pinned_waits"]

_WAIT = (
    "wait with Trio, which takes virtual time, as with `trio.Event`, `trio.Lock`, `trio.open_memory_channel` or "
    "`await trio.sleep(...)`"
)
_Lock = type(_thread.allocate_lock())
_SELECTORS = (
    "SelectSelector",
    "PollSelector",
    "EpollSelector",
    "DevpollSelector",
    "KqueueSelector",
)


class GuardedLock:
    """A `threading.Lock` that raises an `Escape` within the fence where a real lock would wait."""

    def __init__(self, lock: Any = None) -> None:
        self._lock: Any = _thread.allocate_lock() if lock is None else lock

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock. Within the fence, raise an `Escape` if the lock is taken and the caller would wait."""
        if self._lock.acquire(False):
            return True
        if not blocking or timeout == 0:
            return False
        _escape_from("threading.Lock.acquire()")
        return bool(self._lock.acquire(True, timeout))

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def locked(self) -> bool:
        """Return True if the lock is taken."""
        return bool(self._lock.locked())

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class _GuardedSimpleQueue(queue.SimpleQueue):  # type: ignore[type-arg]
    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if block and timeout != 0 and self.empty():
            _escape_from("queue.SimpleQueue.get()")
        return super().get(block, timeout)


def pinned_waits() -> Iterator[tuple[object, object]]:
    """Yield each function and type that waits, with its replacement."""
    sleep, wait_for_files = time.sleep, select.select

    def guarded_sleep(seconds: Any, /) -> None:
        on_escape = escaping()
        if on_escape is not None:
            escape("time.sleep()", SLEEP, on_escape)
        sleep(seconds)

    def guarded_select(*args: Any) -> Any:
        if len(args) < 4 or args[3] is None or args[3] > 0:
            _escape_from("select.select()")
        return wait_for_files(*args)

    yield threading.Lock, GuardedLock
    yield queue.SimpleQueue, _GuardedSimpleQueue
    yield sleep, guarded_sleep
    yield wait_for_files, guarded_select
    if hasattr(select, "poll"):
        poll = select.poll

        def guarded_poll() -> Any:
            _escape_from("select.poll()")
            return poll()

        yield poll, guarded_poll


@contextmanager
def guarded_waits() -> Iterator[None]:
    """Guard the methods that wait, and the locks in the globals of the program, until the block ends."""
    with ExitStack() as stack:
        _guard(stack, threading.Condition, "wait")
        for name in _SELECTORS:
            selector = getattr(selectors, name, None)
            if selector is not None:
                _guard(stack, selector, "select")
        for space, name, lock in _locks_of_the_program(imports()):
            if space.get(name) is lock:
                space[name] = GuardedLock(lock)
                stack.callback(space.__setitem__, name, lock)
        yield


def _guard(stack: ExitStack, cls: Any, name: str) -> None:
    real = getattr(cls, name)

    def guarded(self: Any, timeout: float | None = None) -> Any:
        # A selector does not wait with a negative time limit either.
        if (timeout is None or timeout > 0) and escaping() is not None:
            _escape_from(_called_by_the_program(sys._getframe()))
        return real(self, timeout)

    guarded.__qualname__ = real.__qualname__
    guarded.__module__ = real.__module__
    setattr(cls, name, guarded)
    stack.callback(setattr, cls, name, real)


def _called_by_the_program(frame: FrameType) -> str:
    """Return the name of the function that the program called, such as `queue.Queue.get()`."""
    inner = frame
    while frame.f_back is not None and not is_program(frame.f_back.f_code.co_filename):
        frame = frame.f_back
        if frame.f_code.co_name == "unrolled_run":
            # The search has reached Trio's loop, and found no line of the program. So a library waits.
            frame = inner
            break
    if frame is inner:
        owner = type(frame.f_locals["self"])
        module, name = owner.__module__, f"{owner.__qualname__}.{frame.f_locals['real'].__name__}"
    else:
        module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_qualname
    return f"{module}.{name}()"


def _escape_from(what: str) -> None:
    """Raise an `Escape` within the fence; otherwise do nothing."""
    on_escape = escaping()
    if on_escape is not None:
        escape(what, _WAIT, on_escape)


@lru_cache(maxsize=1)
def _locks_of_the_program(_: object) -> list[tuple[dict[str, Any], str, Any]]:
    """Return the locks in the globals of the program. The argument is the result of `imports`."""
    return [
        (vars(module), name, value)
        for module in list(sys.modules.values())
        if is_program(getattr(module, "__file__", None) or "<frozen")
        for name, value in list(vars(module).items())
        if type(value) is _Lock
    ]
