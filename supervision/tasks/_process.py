"""The inside of a task: the process that computes a result and sends it to whoever owns the task.

A result travels through the owner's mailbox, so that a server can take it in `handle_info`; but only as long as the
owner monitors the task. The monitor is the address of the result: when it is removed, a late result finds nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, final

import trio
from attrs import define, frozen

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
"""Seconds that a task under a supervisor waits for its function."""


@define(eq=False)
class TaskReply:
    """A task has finished; arrives in the mailbox of its owner, before the `Down` of the same reference.

    Whoever waits for the task never sees it. A server that does not wait takes it in `handle_info`.
    """

    ref: Ref
    """The `ref` of the task."""
    value: Any
    """What its function returned."""


@frozen
class _Lineage:
    """In whose behalf a process works, and what it passes on to the tasks that it starts."""

    # Which process this is about: a context is copied into every process that is spawned in it, but only tasks have
    # callers.
    pid: Pid
    callers: tuple[Pid, ...]
    passed_on: tuple[Pid, ...]


_lineage: ContextVar[_Lineage | None] = ContextVar("supervision_lineage", default=None)


def callers() -> tuple[Pid, ...]:
    """In whose behalf the current process works: who started this task, who started the task that did, and so on.

        async def fetch():
            assert callers()[0] is owner

    The processes that *asked* for a task, which under a `TaskSupervisor` are not those that spawned it (see
    `actors.process.ancestors`). Empty outside tasks. Elixir's `$callers`.
    """
    entry = _lineage.get()
    return entry.callers if entry is not None and entry.pid is _pid_here() else ()


def lineage() -> tuple[Pid, ...]:
    """What `callers` is in a task that is started here."""
    entry, pid = _lineage.get(), _pid_here()
    if entry is not None and entry.pid is pid:
        return entry.passed_on
    return () if pid is None else (pid,)


def inherit(callers: tuple[Pid, ...]) -> None:
    """Start tasks, from here on, as if those had done it who are the callers; for processes that only help them."""
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
    """How messages call a task: by its function."""
    while isinstance(function, partial):
        function = function.func
    return f"task {getattr(function, '__qualname__', type(function).__qualname__)}"


@final
class Recipient:
    """Where the result of a task goes: to its owner, for as long as that monitors it."""

    __slots__ = ("owner", "ref")

    def __init__(self, owner: Pid) -> None:
        self.owner = owner
        # Known when the task has been spawned, which is before it takes its first step.
        self.ref: Ref | None = None

    def deliver(self, value: Any) -> None:
        """Send the result, if anybody still waits for it."""
        ref = self.ref
        assert ref is not None  # a task runs only after its owner has monitored it
        if is_awaited(current_pid(), ref):
            send(self.owner, TaskReply(ref, value))


def is_awaited(task: Pid, ref: Ref) -> bool:
    """Return whether the owner still monitors a task, which is the condition for any further message about it."""
    watchers: tuple[object, ...] = current_runtime().graph.watchers_of(task)
    return ref in watchers


async def run_owned(
    recipient: Recipient,
    callers: tuple[Pid, ...],
    function: Callable[..., Awaitable[Any]],
    args: tuple[Any, ...],
) -> None:
    """The process of a task that has an owner."""
    _be_task(callers)
    recipient.deliver(await function(*args))


async def run_detached(
    callers: tuple[Pid, ...], function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
) -> None:
    """The process of a task that nobody waits for."""
    _be_task(callers)
    await function(*args)


@define(eq=False)
class Begin:
    """What the owner sends to a task under a supervisor: what to do, and where the result goes."""

    recipient: Recipient
    callers: tuple[Pid, ...]
    function: Callable[..., Awaitable[Any]]
    args: tuple[Any, ...]


def spawn_waiting(owner: Pid, label: str) -> Pid:
    """Start, in the process of a supervisor, a task that will be told by its owner what to do."""
    return spawn_link(_run_supervised, owner, label=label)


async def _run_supervised(owner: Pid) -> None:
    ref = monitor(owner)
    try:
        message = await receive(
            lambda m: type(m) is Begin or (type(m) is Down and m.ref is ref), timeout=HANDSHAKE
        )
    except trio.TooSlowError:
        # The owner lives and does not need the task any more: what it was doing was cancelled.
        exit(TIMEOUT)
    if type(message) is Down:
        exit(Shutdown(message.reason))
    demonitor(ref, flush=True)
    await run_owned(message.recipient, message.callers, message.function, message.args)
