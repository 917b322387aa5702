"""The process of a task: it computes a result and sends it to the owner of the task.

The task sends the result to the owner's mailbox, so that a server can take it in `handle_info`. The task sends the
result only while the owner monitors the task. If the owner has removed the monitor, the task discards the result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, final

import msgspec
import trio

from actors.errors import NotAProcess
from actors.exits import TIMEOUT, Shutdown
from actors.links import demonitor, monitor
from actors.messages import Down
from actors.process import current_pid, exit, receive, send, spawn_link
from actors.refs import Pid, Ref
from actors.runtime import current_runtime

__all__ = [
    "HANDSHAKE",
    "Begin",
    "Recipient",
    "TaskReply",
    "callers",
    "inherit",
    "is_awaited",
    "label_of",
    "lineage",
    "run_detached",
    "run_owned",
    "spawn_waiting",
]

HANDSHAKE: Final = 5.0
"""Seconds that a task under a supervisor waits for its `Begin` message."""


class TaskReply(msgspec.Struct, frozen=True, eq=False):
    """The message of a finished task to its owner. After this message, the owner gets a `Down` with the same reference.

    The methods that wait for a task take this message out of the mailbox. A server that does not wait gets the message
    in `handle_info`.
    """

    ref: Ref
    """The `ref` of the task."""
    value: Any
    """The value that the task's function returned."""


class _Lineage(msgspec.Struct, frozen=True):
    """The callers of a process, which its tasks inherit."""

    # The process with these callers. Other processes inherit the context variable, so compare the pid.
    pid: Pid
    callers: tuple[Pid, ...]
    passed_on: tuple[Pid, ...]


_lineage: ContextVar[_Lineage | None] = ContextVar("supervision_lineage", default=None)


def callers() -> tuple[Pid, ...]:
    """Return the owner of the current task. If the owner is a task, the owner of that task follows, and so on.

        async def fetch():
            assert callers()[0] is owner

    Under a `TaskSupervisor` these are not the processes that spawned the task (see `actors.process.ancestors`). The
    result is empty outside tasks. Source: Elixir's `$callers`.
    """
    entry = _lineage.get()
    return entry.callers if entry is not None and entry.pid is _pid_here() else ()


def lineage() -> tuple[Pid, ...]:
    """Return the `callers` of a task that the current process starts now."""
    entry, pid = _lineage.get(), _pid_here()
    if entry is not None and entry.pid is pid:
        return entry.passed_on
    return () if pid is None else (pid,)


def inherit(callers: tuple[Pid, ...]) -> None:
    """Set the callers of all tasks that the current process starts after this call."""
    _lineage.set(_Lineage(current_pid(), callers, callers))


def _be_task(callers: tuple[Pid, ...]) -> None:
    pid = current_pid()
    _lineage.set(_Lineage(pid, callers, (pid, *callers)))


def _pid_here() -> Pid | None:
    try:
        return current_pid()
    except NotAProcess:
        return None


def label_of(function: Callable[..., Any]) -> str:
    """Return the label of a task, which contains the name of its function."""
    while isinstance(function, partial):
        function = function.func
    return f"task {getattr(function, '__qualname__', type(function).__qualname__)}"


@final
class Recipient:
    """The destination of a result: the owner of the task, while the owner monitors the task."""

    __slots__ = ("owner", "ref")

    def __init__(self, owner: Pid) -> None:
        self.owner = owner
        # Set after the spawn, before the first step of the task.
        self.ref: Ref | None = None

    def deliver(self, value: Any) -> None:
        """Send the result if the owner still monitors the task."""
        ref = self.ref
        assert ref is not None  # the owner monitors a task before it runs
        if is_awaited(current_pid(), ref):
            send(self.owner, TaskReply(ref, value))


def is_awaited(task: Pid, ref: Ref) -> bool:
    """Return whether the owner still monitors a task. Otherwise the owner gets no further message about the task."""
    watchers: tuple[object, ...] = current_runtime().graph.watchers_of(task)
    return ref in watchers


async def run_owned(
    recipient: Recipient,
    callers: tuple[Pid, ...],
    function: Callable[..., Awaitable[Any]],
    args: tuple[Any, ...],
) -> None:
    """Run a task that has an owner."""
    _be_task(callers)
    recipient.deliver(await function(*args))


async def run_detached(
    callers: tuple[Pid, ...], function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
) -> None:
    """Run a task whose result no process needs."""
    _be_task(callers)
    await function(*args)


class Begin(msgspec.Struct, frozen=True, eq=False):
    """The owner's message to a task under a supervisor, with the task's function and the recipient of the result."""

    recipient: Recipient
    callers: tuple[Pid, ...]
    function: Callable[..., Awaitable[Any]]
    args: tuple[Any, ...]


def spawn_waiting(owner: Pid, label: str) -> Pid:
    """Start, in the process of a supervisor, a task that waits for the `Begin` message of its owner."""
    return spawn_link(_run_supervised, owner, label=label)


async def _run_supervised(owner: Pid) -> None:
    ref = monitor(owner)
    try:
        message = await receive(
            lambda m: type(m) is Begin or (type(m) is Down and m.ref is ref), timeout=HANDSHAKE
        )
    except trio.TooSlowError:
        # The owner is alive but was cancelled before it sent the message.
        exit(TIMEOUT)
    if type(message) is Down:
        exit(Shutdown(message.reason))
    demonitor(ref, flush=True)
    await run_owned(message.recipient, message.callers, message.function, message.args)
