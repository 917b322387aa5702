"""Chaos engineering: faults as data, the injector that applies them, and the expectations of a run.

A plan works the same in a simulated world and on a live system. docs/reference/chaos.md lists the names.
"""

from supervision.chaos.errors import (
    ChaosFailed,
    InjectedCrash,
    InvalidFault,
    InvariantViolated,
    NotReached,
)
from supervision.chaos.experiment import Phases
from supervision.chaos.faults.kinds import (
    DelayMessage,
    DropMessage,
    DuplicateMessage,
    ExitWith,
    Fault,
    FillMailbox,
    HalfOpen,
    Hang,
    HoldConnection,
    Junk,
    Kill,
    KillNode,
    Partition,
    Raise,
    ReorderMessage,
    ResetConnection,
    SkewClock,
    Slow,
    SlowConnection,
    StallLoop,
    SwallowCancellation,
    describe_fault,
    plan_from_json,
    plan_to_json,
)
from supervision.chaos.faults.moments import At, Moment, On
from supervision.chaos.faults.plan import EVERYWHERE, FaultPlan, Storm
from supervision.chaos.faults.report import FaultReport, InertPlan
from supervision.chaos.injection.injector import Injector
from supervision.chaos.injection.surroundings import Breakable, Connections, NodeControl
from supervision.chaos.invariants.base import Invariant, Violation, Watch
from supervision.chaos.invariants.built_in import BUILT_IN
from supervision.chaos.live.outcome import LiveOutcome
from supervision.chaos.live.run import live, run_live
from supervision.chaos.live.service import ServiceLimits
from supervision.chaos.live.world import LiveWorld
from supervision.chaos.reports.journal import toolkit_journal
from supervision.recording.schema import kind_of
from supervision.viewer.history import read_history
from supervision.viewer.measures import Measures, measure
from supervision.viewer.page import write_page

__all__ = [
    "BUILT_IN",
    "EVERYWHERE",
    "At",
    "Breakable",
    "ChaosFailed",
    "Connections",
    "DelayMessage",
    "DropMessage",
    "DuplicateMessage",
    "ExitWith",
    "Fault",
    "FaultPlan",
    "FaultReport",
    "FillMailbox",
    "HalfOpen",
    "Hang",
    "HoldConnection",
    "InertPlan",
    "InjectedCrash",
    "Injector",
    "InvalidFault",
    "Invariant",
    "InvariantViolated",
    "Junk",
    "Kill",
    "KillNode",
    "LiveOutcome",
    "LiveWorld",
    "Measures",
    "Moment",
    "NodeControl",
    "NotReached",
    "On",
    "Partition",
    "Phases",
    "Raise",
    "ReorderMessage",
    "ResetConnection",
    "ServiceLimits",
    "SkewClock",
    "Slow",
    "SlowConnection",
    "StallLoop",
    "Storm",
    "SwallowCancellation",
    "Violation",
    "Watch",
    "describe_fault",
    "kind_of",
    "live",
    "measure",
    "plan_from_json",
    "plan_to_json",
    "read_history",
    "run_live",
    "toolkit_journal",
    "write_page",
]
