"""An invariant of servers: callbacks run in their promised order."""

from __future__ import annotations

from typing import Any, ClassVar

from actors.exits import ExitReason
from actors.refs import Pid
from actors.runtime import Runtime
from supervision.chaos.invariants.base import Invariant, Located

__all__ = ["CallbackOrder"]

# `run` and `receive` are the callbacks of plain processes.
_FIRST = ("init", "run")


class CallbackOrder(Invariant):
    """`init` runs first and once, `terminate` runs last and at most once, and all other callbacks run between them."""

    name: ClassVar[str] = "callback_order"

    def __init__(self) -> None:
        super().__init__()
        # The last callback of each process that was spawned under observation. None before the first.
        self._last: dict[Pid, str | None] = {}

    def attach(self, runtime: Runtime, places: Located | None = None) -> None:
        super().attach(runtime, places)
        self._earlier = set(runtime.processes())

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        # The callbacks of earlier processes are not known.
        if pid not in self._earlier:
            self._last[pid] = None

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self._last.pop(pid, None)
        self._earlier.discard(pid)

    def callback_started(self, pid: Pid, callback: str, message: Any) -> None:
        if pid not in self._last:
            return
        last = self._last[pid]
        if last is None and callback == "receive":
            # A task that was adopted. It takes messages, and has no other callbacks.
            del self._last[pid]
            return
        self._last[pid] = callback
        if (last is None) != (callback in _FIRST) or last == "terminate":
            self.violated(
                f"{self.who(pid)} began {callback} with {message!r} "
                + ("before its init" if last is None else f"after {last}")
            )
