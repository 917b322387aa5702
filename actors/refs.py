"""Process identifiers and references: opaque, cheap, compared by identity.

A `Pid` names one incarnation of a process for ever: a restarted process has a new one. Numbers come from the
runtime's counters, never from memory addresses, so that two runs of one program print the same names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors._kernel.process import Process
    from actors._kernel.runtime import Runtime

__all__ = ["Pid", "Ref", "TimerRef"]


@final
class Pid:
    """The identity of one process, usable as an address from anywhere in its runtime.

    Pids are made by `spawn` and its relatives, compared by identity, hashable, and stay valid after the process has
    ended: whatever is sent to a dead pid vanishes, and monitoring it reports `NOPROC`.

        pid = spawn(worker)
        send(pid, "hello")
        print(pid)                      # <pid 3>

    A pid keeps nothing of its dead process alive.
    """

    __slots__ = ("__weakref__", "_number", "_process", "_runtime")

    def __init__(self, number: int, runtime: Runtime) -> None:
        self._number = number
        self._runtime = runtime
        # The one place that says whether a process is alive: set by spawn, cleared by the end function.
        self._process: Process | None = None

    @property
    def number(self) -> int:
        """The position of this process in its runtime's order of spawning, from 1; 0 is the runtime itself."""
        return self._number

    def __repr__(self) -> str:
        return f"<pid {self._number}>"


class Ref:
    """A reference that is equal to itself alone: what `monitor` returns and `Down` carries.

    Ordering between references means nothing; `number` is there for printing.
    """

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    @property
    def number(self) -> int:
        """The position of this reference in its runtime's order of creation."""
        return self._number

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {self._number}>"


@final
class TimerRef(Ref):
    """What `send_after` returns and `cancel_timer` takes."""

    __slots__ = ("_callback", "_deadline", "_owner")

    _callback: Callable[[], None] | None
    _deadline: float
    _owner: Process | None

    def __init__(self, number: int, deadline: float, callback: Callable[[], None]) -> None:
        # All of it here: there is one for each call that has a time limit.
        self._number = number
        self._deadline = deadline
        self._callback = callback
        self._owner = None
