"""Requests to supervisors: `ask` sends one, unless it would never be answered.

A supervisor answers nobody while it starts or stops a child. A child that calls its own supervisor from `init` or
`terminate` would wait for a process that waits for the child. So each supervisor publishes what it waits for, and
`ask` reads that before it calls.

`actors` has a detection of its own for processes that call each other in a circle (`CallCycle`, in debug builds).
Neither can do the work of the other. A supervisor that starts or stops a child is in no call, and it learns the pid of
a child only when the child has started.
"""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any, Literal, Protocol, TypeVar

from actors.process import ancestors, current_pid, process_dictionary
from actors.refs import Pid
from actors.runtime import Runtime, current_runtime
from actors.servers.gen_server import GenServer, call
from supervision.child_spec import ChildInfo
from supervision.errors import SupervisorDeadlock, UnknownRequest
from supervision.messages import (
    DeleteChild,
    GetChildSpec,
    ResizePartitions,
    RestartChild,
    StartChild,
    StartDynamicChild,
    TerminateChild,
    TerminateDynamicChild,
)

__all__ = ["Waiting", "ask", "children_of", "kind_of", "publish", "published", "unknown_request"]

T = TypeVar("T")


def publish(value: object) -> None:
    """Let every task of the runtime find `value`, by its class and the current process, until the process ends."""
    process_dictionary()[type(value)] = value


def published(kind: type[T], address: object, runtime: Runtime) -> T | None:
    """Return the value of class `kind` that the process at `address` has published, or None."""
    process = runtime.resolve(address)
    if process is None or process.dictionary is None:
        return None
    found: T | None = process.dictionary.get(kind)
    return found


class Looked(Protocol):
    """The children of a supervisor, for code that only reads them."""

    @property
    def kind(self) -> str:
        """The strategy, or "dynamic"."""

    def which_children(self) -> list[ChildInfo]:
        """List the children, the one that was started last first."""


class Waiting:
    """The start or stop of a child that a supervisor waits for now.

    Published by the process that makes it.

    Args:
        children: the running children. The supervisor keeps this up to date.
        tree: the children as `tree.snapshot` shows them; None shows nothing.
    """

    __slots__ = ("children", "id", "phase", "stopping", "supervisor", "tree")

    def __init__(self, children: Container[Pid], tree: Looked | None = None) -> None:
        self.supervisor = current_pid()
        self.tree = tree
        self.children = children
        self.phase: Literal["start", "stop"] | None = None
        self.id: Any = None
        self.stopping: Pid | None = None
        publish(self)

    def for_start(self, id: Any) -> None:
        """Note that a child is being started. Its pid is not known yet."""
        self.id = id
        self.phase = "start"

    def for_stop(self, id: Any, pid: Pid | None) -> None:
        """Note that a child is being stopped, or with None all children."""
        self.id = id
        self.stopping = pid
        self.phase = "stop"

    def over(self) -> None:
        """Note that the supervisor reads its messages again."""
        self.phase = None

    def waits_for(self, child: Pid) -> bool:
        """Return whether the supervisor waits for `child`."""
        if self.phase == "stop":
            return child in self.children if self.stopping is None else child is self.stopping
        # A child that the supervisor does not know yet is the one that it starts.
        return self.phase == "start" and child not in self.children


def kind_of(supervisor: Pid) -> str | None:
    """Return the strategy of a living supervisor, or "dynamic"; None for any other process."""
    waiting = published(Waiting, supervisor, current_runtime())
    return None if waiting is None or waiting.tree is None else waiting.tree.kind


def children_of(supervisor: Pid) -> list[ChildInfo]:
    """List the children of a living supervisor, the one that was started last first, without a request to it."""
    waiting = published(Waiting, supervisor, current_runtime())
    return [] if waiting is None or waiting.tree is None else waiting.tree.which_children()


async def ask(supervisor: object, request: object) -> Any:
    """Send a request to a supervisor, wait for the answer without a limit, and raise it if it is an exception.

    Raises:
        SupervisorDeadlock: the supervisor waits for the calling process, or for a supervisor below it that waits for
            the calling process, and so on.
    """
    parents = ancestors()
    if parents:
        _refuse_deadlock(supervisor, parents)
    answer = await call(supervisor, request, timeout=math.inf)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _refuse_deadlock(supervisor: object, parents: tuple[Pid, ...]) -> None:
    runtime = current_runtime()
    target = published(Waiting, supervisor, runtime)
    if target is None or target.phase is None or target.supervisor not in parents:
        return
    caller = child = current_pid()
    for parent in parents:
        waiting = published(Waiting, parent, runtime)
        if waiting is None or not waiting.waits_for(child):
            return
        if waiting is target:
            raise SupervisorDeadlock(target.supervisor, caller, target.id, target.phase)
        child = parent


_FUNCTIONS = {
    StartChild: "Supervisor.start_child",
    TerminateChild: "Supervisor.terminate_child",
    RestartChild: "Supervisor.restart_child",
    DeleteChild: "Supervisor.delete_child",
    GetChildSpec: "Supervisor.get_childspec",
    ResizePartitions: "PartitionSupervisor.resize",
    StartDynamicChild: "DynamicSupervisor.start_child",
    TerminateDynamicChild: "DynamicSupervisor.terminate_child",
}


def unknown_request(supervisor: GenServer[Any], request: object) -> UnknownRequest:
    """Return the error for a request that a supervisor does not know, and execute the event about it."""
    kind = type(supervisor).__name__
    current_runtime().telemetry.execute(
        ("actors", "server", "unhandled_info"), {}, {"server": kind, "message": request}
    )
    return UnknownRequest(kind, request, _FUNCTIONS.get(type(request)))
