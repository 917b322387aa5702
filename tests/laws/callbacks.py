"""The invariant `callback_order`: the callbacks of a process run in the documented order."""

from __future__ import annotations

from typing import Any, ClassVar

from actors.exits import ExitReason
from actors.refs import Pid
from actors.runtime import Runtime
from supervision.laboratory.chaos.invariants.base import Invariant
from supervision.recording.places import Places

__all__ = ["CallbackOrder"]

# The first callback of a server is `init`. The first callback of a plain process is `run`.
_FIRST = ("init", "run")


class CallbackOrder(Invariant):
    """`init` runs first and once, `terminate` runs last and at most once, and all other callbacks run between them."""

    name: ClassVar[str] = "callback_order"

    def __init__(self) -> None:
        super().__init__()
        # The latest callback of each process that started after `attach`. None if no callback has run yet.
        self._last: dict[Pid, str | None] = {}

    def attach(self, runtime: Runtime, places: Places | None = None) -> None:
        super().attach(runtime, places)
        self._earlier = set(runtime.processes())

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        # A process from before `attach` has run callbacks that this invariant did not see.
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
            # The process is an adopted task. Such a process only takes messages.
            del self._last[pid]
            return
        self._last[pid] = callback
        if (last is None) != (callback in _FIRST) or last == "terminate":
            self.violated(
                f"{self.who(pid)} began {callback} with {message!r} "
                + ("before its init" if last is None else f"after {last}")
            )
