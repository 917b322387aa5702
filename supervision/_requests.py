"""Requests to supervisors. `ask` sends a request and refuses one that would wait for ever.

A supervisor answers no request while it starts or stops a child. If the child then calls its supervisor from `init` or
`terminate`, each waits for the other. So a supervisor publishes which child it waits for, and `ask` checks that before
it sends a request.

`CallingSelf` (in debug builds of `actors`) cannot detect this. A supervisor that starts or stops a child does not wait
in a `call`, and it knows the pid of a child only after the start.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
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

__all__ = [
    "Waiting",
    "ask",
    "children_of",
    "each_child_of",
    "kind_of",
    "publish",
    "published",
    "unknown_request",
]

T = TypeVar("T")


def publish(value: object) -> None:
    """Store `value` under its class until the current process ends, so that `published` can return it."""
    process_dictionary()[type(value)] = value


def published(kind: type[T], address: object, runtime: Runtime) -> T | None:
    """Return the value of class `kind` that the process at `address` passed to `publish`, or None."""
    process = runtime.resolve(address)
    if process is None or process.dictionary is None:
        return None
    found: T | None = process.dictionary.get(kind)
    return found


class ChildrenView(Protocol):
    """The part of a supervisor's children that other processes may read."""

    @property
    def kind(self) -> str:
        """The strategy, or "dynamic"."""

    def which_children(self) -> list[ChildInfo]:
        """List the children, newest first."""

    def each_child(self) -> Iterator[ChildInfo]:
        """Yield the children of `which_children`, one by one."""


class Waiting:
    """The start or stop of a child that a supervisor waits for now. The constructor publishes the new object.

    Args:
        children: The pids of the running children. The supervisor updates this container.
        tree: The children that `tree_of` shows; with None it shows no children.
    """

    __slots__ = ("children", "id", "phase", "stopping", "supervisor", "tree")

    def __init__(self, children: Container[Pid], tree: ChildrenView | None = None) -> None:
        self.supervisor = current_pid()
        self.tree = tree
        self.children = children
        self.phase: Literal["start", "stop"] | None = None
        self.id: Any = None
        self.stopping: Pid | None = None
        publish(self)

    def for_start(self, id: Any) -> None:
        """Record the beginning of a start. The pid of the child is not known yet."""
        self.id = id
        self.phase = "start"

    def for_stop(self, id: Any, pid: Pid | None) -> None:
        """Record the beginning of the stop of one child, or of all children if `pid` is None."""
        self.id = id
        self.stopping = pid
        self.phase = "stop"

    def over(self) -> None:
        """Record that the supervisor no longer waits for a child."""
        self.phase = None

    def waits_for(self, child: Pid) -> bool:
        """Return whether the supervisor waits for `child`."""
        if self.phase == "stop":
            return child in self.children if self.stopping is None else child is self.stopping
        # A child that is not in `children` must be the child that the supervisor starts now.
        return self.phase == "start" and child not in self.children


def kind_of(supervisor: Pid) -> str | None:
    """Return the strategy of a living supervisor, or "dynamic"; None for any other process."""
    waiting = published(Waiting, supervisor, current_runtime())
    return None if waiting is None or waiting.tree is None else waiting.tree.kind


def children_of(supervisor: Pid) -> list[ChildInfo]:
    """List the children of a living supervisor, newest first, without a request to it."""
    waiting = published(Waiting, supervisor, current_runtime())
    return [] if waiting is None or waiting.tree is None else waiting.tree.which_children()


def each_child_of(supervisor: Pid) -> Iterator[ChildInfo]:
    """Yield the children of a living supervisor one by one, so that the caller may do other work in between."""
    waiting = published(Waiting, supervisor, current_runtime())
    return iter(()) if waiting is None or waiting.tree is None else waiting.tree.each_child()


async def ask(supervisor: object, request: object) -> Any:
    """Send a request to a supervisor, and wait without a limit. Return the answer, or raise it if it is an exception.

    Raises:
        SupervisorDeadlock: The supervisor waits for the calling process, directly or through supervisors below it.
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
    """Return the error for a request that a supervisor does not handle, and emit an event about the request."""
    kind = type(supervisor).__name__
    current_runtime().telemetry.execute(
        ("actors", "server", "unhandled_info"), {}, {"server": kind, "message": request}
    )
    # Without a look-up, because a metaclass can make the class of a request unhashable.
    function = next((name for known, name in _FUNCTIONS.items() if known is type(request)), None)
    return UnknownRequest(kind, request, function)
