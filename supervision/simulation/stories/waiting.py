"""Who waits for what, as a line for each task that has something to do with the program."""

from __future__ import annotations

from types import FrameType
from typing import Any

import trio

from actors.errors import ActorsError, ProcessKilled
from actors.process import current_pid
from actors.refs import Pid
from actors.runtime import Runtime
from supervision.recording.describe import describe, without_addresses
from supervision.simulation.pins.places import describe_frame, is_program

__all__ = ["busy_lines", "waiting_lines"]

_SHOWN = 20


def waiting_lines(tasks: list[trio.lowlevel.Task], runtimes: list[Runtime]) -> tuple[str, ...]:
    """Describe what tasks wait for: those in the program's own code first, idle servers only counted."""
    lines, idle = [], 0
    for task in tasks:
        frames = _frames(task)
        pid = _pid_of(task)
        inside = next((f for f in reversed(frames) if is_program(f.f_code.co_filename)), None)
        if inside is not None:
            where = f", at {describe_frame(inside)}"
            lines.append(f"{_name(task, pid, runtimes)} {_verb(frames)}{where}")
        elif pid is not None:
            idle += 1
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"and {len(lines) - _SHOWN} more"]
    if idle:
        lines.append(f"{idle} {'server waits' if idle == 1 else 'servers wait'} for a message")
    return tuple(lines)


def busy_lines(tasks: list[trio.lowlevel.Task], runtimes: list[Runtime]) -> tuple[str, ...]:
    """Describe who is about to run, and where."""
    lines = []
    for task in tasks[:_SHOWN]:
        frames = _frames(task)
        inside = next((f for f in reversed(frames) if is_program(f.f_code.co_filename)), None)
        where = "" if inside is None else f", at {describe_frame(inside)}"
        lines.append(f"{_name(task, _pid_of(task), runtimes)}{where}")
    return tuple(lines)


def _frames(task: trio.lowlevel.Task) -> list[FrameType]:
    """The frames of a task that waits, the outermost first."""
    return [frame for frame, _ in task.iter_await_frames()]


def _pid_of(task: trio.lowlevel.Task) -> Pid | None:
    try:
        return task.context.run(current_pid)
    except (ActorsError, ProcessKilled):
        # No process, or a zombie.
        return None


def _name(task: trio.lowlevel.Task, pid: Pid | None, runtimes: list[Runtime]) -> str:
    if pid is None:
        return "the scenario" if task.name.endswith("_Run._main") else f"task {task.name}"
    for runtime in runtimes:
        info = runtime.process_info(pid)
        if info is not None:
            return f"{without_addresses(info['label'])} {pid!r}"
    return repr(pid)


_VERBS = {
    "receive": "waits for a message",
    "sleep_forever": "sleeps for ever",
    "sleep_until": "sleeps",
    "wait_exit": "waits for the end of a process",
}


def _verb(frames: list[FrameType]) -> str:
    for frame in reversed(frames):
        name, names = frame.f_code.co_name, frame.f_locals
        if name == "_request" and "server" in names:
            return _call(names)
        if name in _VERBS:
            return _VERBS[name]
        if is_program(frame.f_code.co_filename):
            break
    inner = frames[-1].f_code.co_qualname if frames else "nothing"
    return f"waits in {inner}"


def _call(names: dict[str, Any]) -> str:
    return f"waits for {names['server']!r} to answer {describe(names['request'])}"
