"""Supervision trees: who restarts whom, how often, and in which order they stop.

Start with `Supervisor` and `child_spec`; `application.run` makes a program of a tree.
"""

from supervision.applications import application
from supervision.applications.application import Application, open_application, serve
from supervision.applications.applications import ApplicationEnded, Applications
from supervision.applications.spec import (
    ApplicationNotStarted,
    ApplicationSpec,
    BadApplication,
    DependencyNotStarted,
)
from supervision.backoff import Backoff
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
    ChildNameTaken,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildStartFailed,
    ChildStartTimeout,
    DuplicateChildId,
    FailedToStartChild,
    MaxChildren,
    SupervisionError,
    SupervisorDeadlock,
    UnknownRequest,
    describe_reason,
)
from supervision.partitions import (
    BadPartitionKey,
    NoPartitions,
    PartitionSupervisor,
    PartitionVia,
    partition,
    partition_of,
    which_partition,
)
from supervision.supervisor import Supervisor, check_child_specs
from supervision.tasks.errors import BadTaskOption, NotTaskOwner, TaskExit, TaskTimeout
from supervision.tasks.groups import await_many, yield_many
from supervision.tasks.streams import async_stream
from supervision.tasks.task import Exited, Ok, Outcome, Task, TaskReply, callers
from supervision.tasks.task_supervisor import TaskSupervisor
from supervision.tree import TreeNode, render, snapshot

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
    "BadApplication",
    "BadChildSpec",
    "BadPartitionKey",
    "BadSupervisorOption",
    "BadTaskOption",
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
    "DependencyNotStarted",
    "DuplicateChildId",
    "DynamicSupervisor",
    "Exited",
    "FailedToStartChild",
    "MaxChildren",
    "NoPartitions",
    "NotTaskOwner",
    "Ok",
    "Outcome",
    "PartitionSupervisor",
    "PartitionVia",
    "SupervisionError",
    "Supervisor",
    "SupervisorDeadlock",
    "Task",
    "TaskExit",
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
    "snapshot",
    "which_partition",
    "yield_many",
]
