"""Start arguments and messages of supervisors, for instruments that observe supervisors.

An `Instrument` sees these values in the callbacks of a supervisor: a setup in `init`, a request in `handle_call`, a
`TryAgain` in `handle_info`. Programs do not send these values; they use the functions of the supervisor classes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from actors.exits import ExitReason
from actors.refs import Pid, TimerRef
from supervision.backoff import Backoff
from supervision.child_spec import ChildSpec
from supervision.strategy import AutoShutdown, Strategy

__all__ = [
    "CountChildren",
    "DeleteChild",
    "GetChildSpec",
    "OneChild",
    "PoolSetup",
    "ResizePartitions",
    "RestartChild",
    "Setup",
    "StartChild",
    "StartDynamicChild",
    "TerminateChild",
    "TerminateDynamicChild",
    "TryAgain",
    "WhichChildren",
]


# Arguments of `init`


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """The checked children and options of a `Supervisor`."""

    specs: tuple[ChildSpec, ...]
    strategy: Strategy
    auto_shutdown: AutoShutdown
    max_restarts: float
    max_seconds: float
    backoff: Backoff | None = None


class PoolSetup(msgspec.Struct, frozen=True, kw_only=True):
    """The checked options of a `DynamicSupervisor`."""

    max_children: float
    max_restarts: float
    max_seconds: float
    backoff: Backoff | None = None


# Requests that every supervisor answers


class WhichChildren(msgspec.Struct, frozen=True):
    """List the children."""


class CountChildren(msgspec.Struct, frozen=True):
    """Count the children."""


# Requests to supervisors whose children have ids


class StartChild(msgspec.Struct, frozen=True):
    """Add a child and start it."""

    spec: ChildSpec


class OneChild(msgspec.Struct, frozen=True):
    """A request about the child with this id."""

    id: Any


class TerminateChild(OneChild, frozen=True):
    """Stop the child."""


class RestartChild(OneChild, frozen=True):
    """Start the child again."""


class DeleteChild(OneChild, frozen=True):
    """Forget the child."""


class GetChildSpec(OneChild, frozen=True):
    """Return the spec of the child."""


class ResizePartitions(msgspec.Struct, frozen=True):
    """Change the number of partitions."""

    partitions: int


# Requests to dynamic supervisors


class StartDynamicChild:
    """Start a child with further arguments.

    Not an attrs class, because a dynamic supervisor gets an instance for every child, and this class makes instances
    faster.
    """

    __slots__ = ("extra", "spec")

    def __init__(self, spec: ChildSpec, extra: tuple[Any, ...]) -> None:
        self.spec = spec
        self.extra = extra

    def __repr__(self) -> str:
        return f"start_child({self.spec.id!r})"


class TerminateDynamicChild(msgspec.Struct, frozen=True):
    """Stop the child with this pid."""

    pid: Pid


# Messages of supervisors to themselves


class TryAgain(msgspec.Struct, eq=False):
    """Restart a child whose restart failed or has to wait.

    A supervisor sends this message to itself, so that it can handle other messages before the restart.
    """

    child: Any
    """The id of the child; under a dynamic supervisor the previous pid of the child."""
    reason: ExitReason
    """The exit reason of the child, or the reason why its restart failed."""
    timer: TimerRef | None = None
    """The timer of the wait, if there is a backoff."""
