"""Descriptions of tasks: their names, and the events that they wait for.

Names are the same in every run of a seed. Unlike the numbers of tasks and processes, most names also stay the same if
you remove a fault or a client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FrameType

import trio

from actors.places import is_program
from actors.refs import Pid
from actors.servers.gen_server import pending_call
from supervision.laboratory.simulation.frames import describe_frame
from supervision.recording.describe import describe, without_addresses
from supervision.recording.recorder import Recorder, place_among, sender_now

__all__ = ["SCENARIO", "TaskNames"]

SCENARIO = "the scenario"
"""The name of the task that runs the scenario."""

_SHOWN = 20

_VERBS = {
    "receive": "waits for a message",
    "sleep_forever": "sleeps for ever",
    "sleep_until": "sleeps",
    "wait_exit": "waits for the end of a process",
}


class TaskNames:
    """The names of the tasks of a world. `recorders` returns the recorders of the open runtimes."""

    def __init__(self, recorders: Callable[[], Sequence[Recorder]]) -> None:
        self._recorders = recorders

    def path(self, task: trio.lowlevel.Task) -> str:
        """Return the name of a task: `/top/room:lobby#2` for a process, after the name of its node if it has one.

        Any other task has the name of its function. If a process started the task in its own nursery, the name of that
        process follows.
        """
        if task.name == SCENARIO:
            return SCENARIO
        own = self._process_of(task)
        if own is not None:
            return self._path_of(own) or "a process that has ended"
        name: str = getattr(task.coro, "__qualname__", task.name)
        name = without_addresses(name.replace("<locals>.", ""))
        path = self._path_of(_acting_for(task))
        return name if path is None else f"{name} in {path}"

    def waiting(self, tasks: Sequence[trio.lowlevel.Task]) -> tuple[str, ...]:
        """Describe what tasks wait for, one line each. For servers that wait for a message, return only the number."""
        lines, idle = [], 0
        for task in tasks:
            frames = _frames(task)
            inside = _in_program(frames)
            if inside is not None:
                where = describe_frame(inside)
                lines.append(f"{self._name(task)} {_verb(task, frames)}, at {where}")
            elif _acting_for(task) is not None:
                idle += 1
        if len(lines) > _SHOWN:
            lines[_SHOWN:] = [f"and {len(lines) - _SHOWN} more"]
        if idle:
            lines.append(f"{idle} {'server waits' if idle == 1 else 'servers wait'} for a message")
        return tuple(lines)

    def busy(self, tasks: Sequence[trio.lowlevel.Task]) -> tuple[str, ...]:
        """Describe the tasks that run next, one line each, with their current line of the program."""
        lines = []
        for task in tasks[:_SHOWN]:
            inside = _in_program(_frames(task))
            where = "" if inside is None else f", at {describe_frame(inside)}"
            lines.append(f"{self._name(task)}{where}")
        return tuple(lines)

    def _name(self, task: trio.lowlevel.Task) -> str:
        """Return the label and the pid of a process, for messages to people."""
        pid = _acting_for(task)
        if pid is None:
            return SCENARIO if task.name == SCENARIO else f"task {task.name}"
        for recorder in self._recorders():
            info = recorder.runtime.process_info(pid)
            if info is not None:
                return f"{without_addresses(info['label'])} {pid!r}"
        return repr(pid)

    def _process_of(self, task: trio.lowlevel.Task) -> Pid | None:
        # Any runtime knows the tasks of all runtimes.
        recorders = self._recorders()
        return recorders[0].runtime.process_of(task) if recorders else None

    def _path_of(self, pid: Pid | None) -> str | None:
        known = None if pid is None else place_among(self._recorders(), pid)
        if known is None:
            return None
        recorder, place = known
        node = recorder.node if isinstance(recorder.node, str) else ""
        return f"{node}{place.path}#{place.incarnation}"


def _acting_for(task: trio.lowlevel.Task) -> Pid | None:
    """Return the process that a task belongs to. The process may have started the task in its own nursery."""
    return task.context.run(sender_now)


def _frames(task: trio.lowlevel.Task) -> list[FrameType]:
    """Return the frames of a task that waits, the outermost first."""
    return [frame for frame, _ in task.iter_await_frames()]


def _in_program(frames: list[FrameType]) -> FrameType | None:
    """Return the innermost frame that belongs to the program."""
    return next((f for f in reversed(frames) if is_program(f.f_code.co_filename)), None)


def _verb(task: trio.lowlevel.Task, frames: list[FrameType]) -> str:
    call = pending_call(task)
    if call is not None:
        return f"waits for {call.server!r} to answer {describe(call.request)}"
    for frame in reversed(frames):
        name = frame.f_code.co_name
        if name in _VERBS:
            return _VERBS[name]
        if is_program(frame.f_code.co_filename):
            break
    inner = frames[-1].f_code.co_qualname if frames else "nothing"
    return f"waits in {inner}"
