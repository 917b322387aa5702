"""The fence around a simulation, which stops real sockets, name look-ups, processes and threads.

The functions of `trio.to_thread.run_sync` run on the thread of the simulation instead.

Python calls audit hooks before most of these operations. An audit hook cannot be removed, so all simulations share one.
The hook does nothing in other threads and while no simulation runs. A simulation replaces the functions that have no
audit event.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, NoReturn, Protocol, TypeAlias

import trio

from actors.runtime import EnvironmentLike, current_environment
from supervision.laboratory.simulation.errors import Escape
from supervision.laboratory.simulation.frames import describe_frame, program_frame
from supervision.laboratory.simulation.scheduling.trio_internals import thread_starts

__all__ = ["SLEEP", "OnEscape", "escape", "escaping", "fence"]

OnEscape = Callable[[Escape], None]
"""A callback that gets an escape before the fence raises it. So a process cannot hide the escape by catching it."""

OnThread: TypeAlias = Callable[[Callable[[], Any], Callable[[Any], object], str], None]
"""Runs a function in place of a thread, and gives its result to the second argument. The third is a name."""

# Seconds of real time after which the function of a thread counts as slow.
_LONG = 1.0

_NETWORK = (
    "use the world's network: world.network.listen(...) and world.network.connect(...); an Endpoint "
    "takes listen=world.network.open"
)
_PROCESS = "start it before the simulation, or replace it by a process of the world"
_THREAD = "call the function directly, since virtual time stands still during the call, or make it a process"
_FROM_THREAD = (
    "return a value from the function, and call Trio in the task that awaits the function"
)
SLEEP = "write `await trio.sleep(...)`, which takes virtual time"

_AUDITED = {
    "socket.__new__": ("a socket", _NETWORK),
    "socket.connect": ("socket.connect()", _NETWORK),
    "socket.bind": ("socket.bind()", _NETWORK),
    "socket.getaddrinfo": ("a name look-up", _NETWORK),
    "socket.gethostbyname": ("a name look-up", _NETWORK),
    "socket.gethostbyaddr": ("a name look-up", _NETWORK),
    "socket.getnameinfo": ("a name look-up", _NETWORK),
    "socket.sendto": ("socket.sendto()", _NETWORK),
    "subprocess.Popen": ("another program", _PROCESS),
    "os.system": ("os.system()", _PROCESS),
    "os.fork": ("os.fork()", _PROCESS),
    "os.forkpty": ("os.forkpty()", _PROCESS),
    "os.exec": ("os.exec*()", _PROCESS),
    "os.posix_spawn": ("os.posix_spawn()", _PROCESS),
    "os.spawn": ("os.spawn*()", _PROCESS),
    "_thread.start_new_thread": ("a thread", _THREAD),
    "time.sleep": ("time.sleep()", SLEEP),
}


class SQLite(Protocol):
    """The SQLite databases of a simulated program, as the fence sees them."""

    def open(self) -> str | None:
        """Prepare for a connection. Return advice to refuse it, or None."""

    def keep(self, connection: Any) -> None:
        """Take note of a new connection."""


class _Fence:
    """The fence of this interpreter: the thread inside it, and the callbacks."""

    active: ClassVar[tuple[int, OnEscape] | None] = None
    sqlite: ClassVar[SQLite | None] = None
    installed = False


def _hook(event: str, args: tuple[Any, ...]) -> None:
    active = _Fence.active
    if active is None or (event not in _AUDITED and not event.startswith("sqlite3.connect")):
        return
    thread, on_escape = active
    if threading.get_ident() == thread:
        if event == "sqlite3.connect":
            advice = None if _Fence.sqlite is None else _Fence.sqlite.open()
            if advice is not None:
                escape("sqlite3.connect()", advice, on_escape)
            return
        if event == "sqlite3.connect/handle":
            if _Fence.sqlite is not None:
                _Fence.sqlite.keep(args[0])
            return
        what, instead = _AUDITED[event]
        escape(what, instead, on_escape)


def escaping() -> OnEscape | None:
    """Return the callback for escapes if the caller is inside the fence, otherwise None."""
    active = _Fence.active
    return active[1] if active is not None and threading.get_ident() == active[0] else None


def escape(what: str, instead: str, on_escape: OnEscape) -> NoReturn:
    """Report and raise an `Escape` that names the innermost line of the program."""
    error = Escape(what, describe_frame(program_frame(2)), instead)
    on_escape(error)
    raise error


# The modules of Trio that start threads, each with the operation that needs a thread and with the advice.
_MEANT = {
    "_subprocess.py": ("another program", _PROCESS),
    "_socket.py": ("a name look-up", _NETWORK),
}
_TRIO = Path(trio.__file__).parent


def _refused_of_a_thread() -> tuple[str, str] | None:
    """Return the operation of the program for which Trio starts a thread, and the advice; None if it may run."""
    program, frame = program_frame(2), sys._getframe(2)
    while frame is not program and frame.f_back is not None:
        path = Path(frame.f_code.co_filename)
        if path.parent == _TRIO and path.name in _MEANT:
            return _MEANT[path.name]
        frame = frame.f_back
    return None


class _Limiters:
    """The default limiters of threads. Each incarnation of a node has its own, as each program does."""

    def __init__(self) -> None:
        self._known: dict[EnvironmentLike, object] = {}

    def get(self) -> object:
        """Return the limiter of the code that runs now, or raise a `LookupError`."""
        return self._known[current_environment.get()]

    def set(self, limiter: object) -> None:
        """Set the limiter of the code that runs now."""
        self._known[current_environment.get()] = limiter


def _watched(function: Callable[[], Any], name: str | None) -> Any:
    """Call a function of a thread, and warn if it blocks the simulation for long."""
    began = perf_counter()
    try:
        return function()
    finally:
        seconds = perf_counter() - began
        if seconds > _LONG:
            text = (
                f"the thread {name!r} blocked the simulation for {seconds:.1f} s of real time; "
                "replace slow calls in its function for the simulation"
            )
            warnings.warn(text, RuntimeWarning, stacklevel=2)


@contextmanager
def fence(
    on_escape: OnEscape,
    *,
    on_thread: OnThread | None = None,
    sqlite: SQLite | None = None,
) -> Iterator[None]:
    """Raise an `Escape` wherever code in this block and thread reaches outside of the simulation.

        with fence(escapes.append):
            ...

    Args:
        on_escape: gets each escape before the fence raises it.
        on_thread: runs a function of `trio.to_thread.run_sync`; None refuses it.
        sqlite: learns of each connection to a SQLite database.

    The fence does not stop C extensions. On Python 3.11, it also does not stop a thread started with `_thread`. The
    waits of `waits` ask the fence too.
    """
    if not _Fence.installed:
        sys.addaudithook(_hook)
        _Fence.installed = True
    before, start = (_Fence.active, _Fence.sqlite), threading.Thread.start
    thread = threading.get_ident()

    def start_thread(self: threading.Thread) -> None:
        if threading.get_ident() == thread:
            # A thread of Ashtree may have its own advice. Its name is then the part of the program that needs it.
            instead = getattr(self, "instead_in_simulation", None)
            what = "a thread" if instead is None else f"the thread of {self.name}"
            escape(what, instead or _THREAD, on_escape)
        start(self)

    def start_trio_thread(
        function: Callable[[], object], deliver: Callable[[Any], object], name: str | None = None
    ) -> None:
        refused = _refused_of_a_thread()
        if refused is not None or on_thread is None:
            what, instead = refused or ("a thread", _THREAD)
            escape(what, instead, on_escape)
        on_thread(partial(_watched, function, name), deliver, name or "thread")

    def call_trio(*_: object) -> None:
        escape("trio.from_thread", _FROM_THREAD, on_escape)

    _Fence.active, _Fence.sqlite = (thread, on_escape), sqlite
    threading.Thread.start = start_thread  # type: ignore[method-assign]
    try:
        with thread_starts(start_trio_thread, call_trio, _Limiters()):
            yield
    finally:
        _Fence.active, _Fence.sqlite = before
        threading.Thread.start = start  # type: ignore[method-assign]
