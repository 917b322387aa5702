"""Whom each supervisor is waiting for, so that a call that would wait for ever is refused instead.

While a supervisor starts or stops a child it answers nobody. A child that calls its own supervisor
from `init` or `terminate` would therefore wait for a process that waits for it. Whoever makes a call
asks here first; the supervisor itself cannot look, being busy.
"""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any, Literal, Protocol

from actors.addresses import whereis
from actors.process import ancestors, current_pid, on_exit
from actors.refs import Pid
from actors.servers.gen_server import call
from supervision.child_spec import ChildInfo
from supervision.errors import SupervisorDeadlock

__all__ = ["Waiting", "ask", "children_of", "forget", "kind_of", "refuse_deadlock"]

# Only living supervisors are in here: `on_exit` takes them out. One table for all runtimes is fine,
# because a pid belongs to exactly one.
_supervisors: dict[Pid, Waiting] = {}


class Looked(Protocol):
    """A supervisor's children, as far as looking at them goes."""

    @property
    def kind(self) -> str:
        """The strategy, or "dynamic"."""

    def which_children(self) -> list[ChildInfo]:
        """The children, the one that was started last first."""


class Waiting:
    """What one supervisor is waiting for: nothing, a child that starts, one that stops, or all.

    Args:
        children: the supervisor's running children, kept up to date by the supervisor.
        tree: all that it knows of them; None if there is nothing to look at.
    """

    __slots__ = ("children", "id", "phase", "stopping", "supervisor", "tree")

    def __init__(self, children: Container[Pid], tree: Looked | None = None) -> None:
        self.supervisor = supervisor = current_pid()
        self.tree = tree
        self.children = children
        self.phase: Literal["start", "stop"] | None = None
        self.id: Any = None
        self.stopping: Pid | None = None
        _supervisors[supervisor] = self
        on_exit(lambda: forget(supervisor))

    def for_start(self, id: Any) -> None:
        """A child is being started. Its pid is not known until it has started."""
        self.id = id
        self.phase = "start"

    def for_stop(self, id: Any, pid: Pid | None) -> None:
        """A child is being stopped; with None, all are."""
        self.id = id
        self.stopping = pid
        self.phase = "stop"

    def over(self) -> None:
        """The supervisor looks at its messages again."""
        self.phase = None

    def waits_for(self, child: Pid) -> bool:
        """Whether the supervisor cannot go on before its child `child` has."""
        if self.phase == "stop":
            return child in self.children if self.stopping is None else child is self.stopping
        # A child that it does not know yet is the one that it is starting.
        return self.phase == "start" and child not in self.children


def forget(supervisor: Pid) -> None:
    """A supervisor has ended, or will never run again."""
    _supervisors.pop(supervisor, None)


def kind_of(supervisor: Pid) -> str | None:
    """The strategy of a living supervisor, or "dynamic"; None if the process is not a supervisor."""
    waiting = _supervisors.get(supervisor)
    return None if waiting is None or waiting.tree is None else waiting.tree.kind


def children_of(supervisor: Pid) -> list[ChildInfo]:
    """The children of a living supervisor, the one that was started last first, without asking it."""
    waiting = _supervisors.get(supervisor)
    return [] if waiting is None or waiting.tree is None else waiting.tree.which_children()


def refuse_deadlock(supervisor: object) -> None:
    """Raise SupervisorDeadlock if a call to `supervisor` from here could not be answered.

    That is so if the supervisor waits for the calling process, or for a supervisor below it that
    waits for the calling process, and so on. Only such chains are recognised.
    """
    pid = supervisor if type(supervisor) is Pid else whereis(supervisor)
    waiting = None if pid is None else _supervisors.get(pid)
    if waiting is not None and waiting.phase is not None:
        _refuse_if_waited_for(waiting)


async def ask(supervisor: object, request: object) -> Any:
    """Ask a supervisor for something and wait as long as it takes; what it refuses is raised here."""
    refuse_deadlock(supervisor)
    answer = await call(supervisor, request, timeout=math.inf)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _refuse_if_waited_for(target: Waiting) -> None:
    parents = ancestors()
    if target.supervisor not in parents:
        return
    caller = child = current_pid()
    for parent in parents:
        waiting = _supervisors.get(parent)
        if waiting is None or not waiting.waits_for(child):
            return
        if waiting is target:
            assert waiting.phase is not None
            raise SupervisorDeadlock(target.supervisor, caller, waiting.id, waiting.phase)
        child = parent
