"""Supervision trees: processes that start, restart and stop other processes in order.

Start with `Supervisor` and `child_spec`. `application.run` runs a tree as a program.
"""

from typing import TYPE_CHECKING

from actors.lazy import load_on_use

# Imported at once, because the function `child_spec` replaces the module of this name as an attribute of the package.
from supervision.child_spec import (
    ChildCounts,
    ChildInfo,
    ChildSpec,
    child_spec,
    process_spec,
)

if TYPE_CHECKING:
    from supervision.applications import application
    from supervision.applications.application import Application, open_application, serve
    from supervision.applications.applications import (
        ApplicationEnded,
        Applications,
        ApplicationSpec,
    )
    from supervision.backoff import Backoff
    from supervision.dynamic_supervisor import DynamicSupervisor
    from supervision.errors import (
        ApplicationFailed,
        ApplicationKilled,
        ApplicationNotStarted,
        ApplicationStartFailed,
        ChildAlreadyPresent,
        ChildAlreadyStarted,
        ChildNameTaken,
        ChildNotFound,
        ChildRestarting,
        ChildRunning,
        ChildStartFailed,
        ChildStartTimeout,
        FailedToStartChild,
        InvalidChildSpec,
        MaxChildren,
        NoPartitions,
        SupervisionError,
        SupervisorDeadlock,
        TaskExit,
        TaskTimeout,
        UnknownRequest,
        describe_reason,
    )
    from supervision.partitions import (
        PartitionSupervisor,
        PartitionVia,
        partition,
        partition_of,
        which_partition,
    )
    from supervision.supervisor import Supervisor, check_child_specs
    from supervision.tasks.streams import async_stream
    from supervision.tasks.task import (
        Exited,
        Ok,
        Task,
        TaskOutcome,
        TaskReply,
        await_many,
        callers,
        yield_many,
    )
    from supervision.tasks.task_supervisor import TaskSupervisor
    from supervision.tree.tree import TreeNode, render, tree_of
else:
    __getattr__ = load_on_use(
        __name__,
        "supervision.applications.application",
        "supervision.applications.applications",
        "supervision.applications",
        "supervision.backoff",
        "supervision.dynamic_supervisor",
        "supervision.errors",
        "supervision.partitions",
        "supervision.supervisor",
        "supervision.tasks.streams",
        "supervision.tasks.task",
        "supervision.tasks.task_supervisor",
        "supervision.tree.tree",
    )

__all__ = [
    "Application",
    "ApplicationEnded",
    "ApplicationFailed",
    "ApplicationKilled",
    "ApplicationNotStarted",
    "ApplicationSpec",
    "ApplicationStartFailed",
    "Applications",
    "Backoff",
    "ChildAlreadyPresent",
    "ChildAlreadyStarted",
    "ChildCounts",
    "ChildInfo",
    "ChildNameTaken",
    "ChildNotFound",
    "ChildRestarting",
    "ChildRunning",
    "ChildSpec",
    "ChildStartFailed",
    "ChildStartTimeout",
    "DynamicSupervisor",
    "Exited",
    "FailedToStartChild",
    "InvalidChildSpec",
    "MaxChildren",
    "NoPartitions",
    "Ok",
    "PartitionSupervisor",
    "PartitionVia",
    "SupervisionError",
    "Supervisor",
    "SupervisorDeadlock",
    "Task",
    "TaskExit",
    "TaskOutcome",
    "TaskReply",
    "TaskSupervisor",
    "TaskTimeout",
    "TreeNode",
    "UnknownRequest",
    "application",
    "async_stream",
    "await_many",
    "callers",
    "check_child_specs",
    "child_spec",
    "describe_reason",
    "open_application",
    "partition",
    "partition_of",
    "process_spec",
    "render",
    "serve",
    "tree_of",
    "which_partition",
    "yield_many",
]
