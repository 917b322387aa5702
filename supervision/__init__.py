"""Supervision trees: who restarts whom, how often, and in which order they stop.

Start with `Supervisor` and `child_spec`; `application.run` makes a program of a tree.
"""

from supervision import application
from supervision.application import Application, open_application, serve
from supervision.child_spec import (
    ChildCounts,
    ChildInfo,
    ChildSpec,
    child_spec,
    process_spec,
)
from supervision.dynamic_supervisor import DynamicSupervisor
from supervision.errors import (
    ApplicationFailed,
    ApplicationKilled,
    ApplicationStartFailed,
    BadChildSpec,
    BadSupervisorOption,
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildStartFailed,
    DuplicateChildId,
    FailedToStartChild,
    MaxChildren,
    SupervisionError,
    SupervisorDeadlock,
    describe_reason,
)
from supervision.supervisor import Supervisor, check_child_specs

__all__ = [
    "Application",
    "ApplicationFailed",
    "ApplicationKilled",
    "ApplicationStartFailed",
    "BadChildSpec",
    "BadSupervisorOption",
    "ChildAlreadyPresent",
    "ChildAlreadyStarted",
    "ChildCounts",
    "ChildInfo",
    "ChildNotFound",
    "ChildRestarting",
    "ChildRunning",
    "ChildSpec",
    "ChildStartFailed",
    "DuplicateChildId",
    "DynamicSupervisor",
    "FailedToStartChild",
    "MaxChildren",
    "SupervisionError",
    "Supervisor",
    "SupervisorDeadlock",
    "application",
    "check_child_specs",
    "child_spec",
    "describe_reason",
    "open_application",
    "process_spec",
    "serve",
]
