"""What supervisors are asked for, in one place, so that each kind of them knows the requests of the others.

Those that only look are the same for all kinds: whoever walks a tree need not know of which class a supervisor is.
"""

from __future__ import annotations

from typing import Any

from attrs import define

from actors.refs import Pid
from actors.runtime import current_runtime
from actors.servers.gen_server import GenServer
from supervision.child_spec import ChildSpec
from supervision.errors import UnknownRequest

__all__ = [
    "CountChildren",
    "DeleteChild",
    "GetChildSpec",
    "OneChild",
    "ResizePartitions",
    "RestartChild",
    "StartChild",
    "StartDynamicChild",
    "TerminateChild",
    "TerminateDynamicChild",
    "WhichChildren",
    "refuse",
]


# Of every supervisor


@define
class WhichChildren:
    """List the children."""


@define
class CountChildren:
    """Count them."""


# Of supervisors whose children have ids


@define
class StartChild:
    """Add a child, and start it."""

    spec: ChildSpec


@define
class OneChild:
    """A request about the child with an id."""

    id: Any


class TerminateChild(OneChild):
    """Stop it."""


class RestartChild(OneChild):
    """Start it again."""


class DeleteChild(OneChild):
    """Forget it."""


class GetChildSpec(OneChild):
    """Show its spec."""


@define
class ResizePartitions:
    """Change how many partitions there are."""

    partitions: int


# Of supervisors whose children are known by their pids


class StartDynamicChild:
    """Start a child, with further arguments. Written out, because it is made for every child of a pool."""

    __slots__ = ("extra", "spec")

    def __init__(self, spec: ChildSpec, extra: tuple[Any, ...]) -> None:
        self.spec = spec
        self.extra = extra

    def __repr__(self) -> str:
        return f"start_child({self.spec.id!r})"


@define
class TerminateDynamicChild:
    """Stop the child with a pid."""

    pid: Pid


_BELONGS_TO = {
    StartChild: "Supervisor.start_child",
    TerminateChild: "Supervisor.terminate_child",
    RestartChild: "Supervisor.restart_child",
    DeleteChild: "Supervisor.delete_child",
    GetChildSpec: "Supervisor.get_childspec",
    ResizePartitions: "PartitionSupervisor.resize",
    StartDynamicChild: "DynamicSupervisor.start_child",
    TerminateDynamicChild: "DynamicSupervisor.terminate_child",
}


def refuse(supervisor: GenServer[Any], request: object) -> UnknownRequest:
    """The answer to a request that a supervisor does not know, which is executed as an event too."""
    kind = type(supervisor).__name__
    current_runtime().telemetry.execute(
        ("actors", "server", "unhandled_info"), {}, {"server": kind, "message": request}
    )
    return UnknownRequest(kind, request, _BELONGS_TO.get(type(request)))
