"""What supervisors are asked for, in one place, so that each kind of them knows the requests of the others.

Those that only look are the same for all kinds: whoever walks a tree need not know of which class a supervisor is.
"""

from __future__ import annotations

from typing import Any

from actors.runtime import current_runtime
from actors.servers.gen_server import GenServer
from supervision.errors import UnknownRequest
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

__all__ = ["refuse"]


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
