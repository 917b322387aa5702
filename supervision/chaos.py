"""Chaos engineering: faults as data, the injector that applies them, and the expectations of a run.

A plan works the same in a simulated world and on a live system. docs/reference/chaos.md lists the names.
"""

from supervision.laboratory.chaos.errors import (
    ChaosFailed,
    InjectedCrash,
    InvalidFault,
    InvariantViolated,
    NotReached,
)
from supervision.laboratory.chaos.faults.kinds import (
    DelayMessage,
    DiskError,
    DrainNode,
    DropMessage,
    DuplicateMessage,
    ExitWith,
    Fault,
    FillMailbox,
    FlipBit,
    HalfOpen,
    Hang,
    HoldConnection,
    Junk,
    Kill,
    KillNode,
    LoseWrite,
    Partition,
    PauseNode,
    Raise,
    ReorderMessage,
    ResetConnection,
    SkewClock,
    Slow,
    SlowConnection,
    SlowDisk,
    StallLoop,
    SwallowCancellation,
    describe_fault,
    plan_from_json,
    plan_to_json,
)
from supervision.laboratory.chaos.faults.moments import At, Moment, On
from supervision.laboratory.chaos.faults.plan import EVERYWHERE, FaultPlan, Storm
from supervision.laboratory.chaos.faults.report import FaultReport, InertPlan
from supervision.laboratory.chaos.injection.injector import Injector
from supervision.laboratory.chaos.injection.surroundings import Breakable, Connections, NodeControl
from supervision.laboratory.chaos.invariants.base import Invariant, Violation, Watch
from supervision.laboratory.chaos.invariants.built_in import BUILT_IN
from supervision.laboratory.chaos.live.experiment import Phases
from supervision.laboratory.chaos.live.outcome import LiveOutcome
from supervision.laboratory.chaos.live.run import live, run_live
from supervision.laboratory.chaos.live.service import ServiceLimits
from supervision.laboratory.chaos.live.world import LiveWorld
from supervision.laboratory.chaos.reports.journal import toolkit_journal
from supervision.laboratory.chaos.requests import OpenRequest
from supervision.recording.reader.history import read_history
from supervision.recording.reader.measures import Measures, measure
from supervision.recording.reader.page import write_page
from supervision.recording.schema import kind_of

__all__ = [
    "BUILT_IN",
    "EVERYWHERE",
    "At",
    "Breakable",
    "ChaosFailed",
    "Connections",
    "DelayMessage",
    "DiskError",
    "DrainNode",
    "DropMessage",
    "DuplicateMessage",
    "ExitWith",
    "Fault",
    "FaultPlan",
    "FaultReport",
    "FillMailbox",
    "FlipBit",
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
    "LoseWrite",
    "Measures",
    "Moment",
    "NodeControl",
    "NotReached",
    "On",
    "OpenRequest",
    "Partition",
    "PauseNode",
    "Phases",
    "Raise",
    "ReorderMessage",
    "ResetConnection",
    "ServiceLimits",
    "SkewClock",
    "Slow",
    "SlowConnection",
    "SlowDisk",
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
