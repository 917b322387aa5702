"""The names of tasks: where a process is in its tree, or what the function of a task is called.

Names are the same in every run of a seed, and mostly also in a run with one fault or one client less, which the
numbers of tasks and processes are not.
"""

from __future__ import annotations

import trio

from actors.errors import ActorsError, ProcessKilled
from actors.process import current_pid
from actors.refs import Pid
from supervision.recording.describe import without_addresses
from supervision.recording.recorder import Recorder, place_among

__all__ = ["TaskLabels"]

_PROCESS = "Runtime._run"
_SCENARIO = "_Run._main"


class TaskLabels:
    """Names tasks by the places of their processes.

    Args:
        recorders: of the runtimes of a world; they may become more.
    """

    def __init__(self, recorders: list[Recorder]) -> None:
        self._recorders = recorders

    def label(self, task: trio.lowlevel.Task) -> str:
        """`/top/room:lobby#2` for a process, with its node in front; for other tasks the name of their function.

        A task that a process has started in a nursery of its own is named by both.
        """
        name: str = getattr(task.coro, "__qualname__", task.name)
        if name.endswith(_PROCESS):
            return self._place(_process_of(task)) or "a process that has ended"
        if name.endswith(_SCENARIO):
            return "the scenario"
        inside = self._place(_acting_for(task))
        name = without_addresses(name.replace("<locals>.", ""))
        return name if inside is None else f"{name} in {inside}"

    def _place(self, pid: Pid | None) -> str | None:
        known = None if pid is None else place_among(self._recorders, pid)
        if known is None:
            return None
        recorder, place = known
        node = recorder.node if isinstance(recorder.node, str) else ""
        return f"{node}{place.path}#{place.incarnation}"


def _process_of(task: trio.lowlevel.Task) -> Pid | None:
    """Whose own task it is. Not from its context, which is that of its parent until it has run for the first time."""
    frame = getattr(task.coro, "cr_frame", None)
    process = None if frame is None else frame.f_locals.get("process")
    pid: Pid | None = getattr(process, "pid", None)
    return pid


def _acting_for(task: trio.lowlevel.Task) -> Pid | None:
    try:
        return task.context.run(current_pid)
    except (ActorsError, ProcessKilled):
        # No process, or a zombie.
        return None
