"""What each supervisor should be doing, told from what happens to it, and from nothing that it says of itself.

A *shadow* knows what a supervisor was set up with, which children it was asked to have, in which order, and what it is
doing now: the callback that it runs, and for which child. Supervisors tell when they begin to start a child, and which
process it became; all else (who ended, when and why, whom the supervisor told to stop) is what the runtime shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import trio
from attrs import define, field

from actors.exits import Crash, ExitReason, is_normal_exit
from actors.instrumentation.telemetry import Event
from actors.messages import Exit
from actors.refs import Pid
from actors.runtime import Runtime
from supervision.chaos.invariants.base import Feed, Invariant
from supervision.child_spec import ChildSpec, RestartType
from supervision.events import (
    CHILD_RESTARTED,
    CHILD_START_FAILED,
    CHILD_STARTED,
    CHILD_STARTING,
    CHILD_TERMINATED,
    GAVE_UP,
)
from supervision.messages import (
    DeleteChild,
    PoolSetup,
    Setup,
    StartChild,
    StartDynamicChild,
    TerminateChild,
    TerminateDynamicChild,
    TryAgain,
)

__all__ = ["Forest", "Kid", "Shadow", "Supervised"]

Measures: TypeAlias = Mapping[str, Any]

Doing: TypeAlias = Literal["boot", "request", "ended", "again", "terminate", "other"]
"""What a supervisor does: starts its first children; answers somebody; deals with the end of a child; tries a child
again; stops; anything else."""


@define(eq=False)
class Kid:
    """One child, as its supervisor should know it."""

    id: Any
    restart: RestartType
    # Its process, as long as the supervisor takes it for running; `last` also while it is being restarted.
    pid: Pid | None = None
    last: Pid | None = None
    alive: bool = False
    # Why the process that it last was has ended.
    reason: ExitReason = None
    # Whether it is to be tried again.
    again: bool = False

    @property
    def comes_back(self) -> bool:
        """Whether it is to be started again, by its restart type and how it ended."""
        if self.restart == "transient":
            return not is_normal_exit(self.reason)
        return self.restart == "permanent"


@define(eq=False)
class Shadow:
    """One supervisor.

    Attributes:
        doing, since, pivot: what it does, since when, and the child that this is about.
        reason, wanted: why that child has ended, and whether it is to be started again.
        group: the ids that are to be started, in order, if it restarts anybody.
        starts: the ids whose start has begun since it does this.
        failed: whether one of them did not start.
        gave_up: whether it has said so.
    """

    pid: Pid
    setup: Setup | PoolSetup
    kids: dict[Any, Kid] = field(factory=dict)
    by_pid: dict[Pid, Kid] = field(factory=dict)
    doing: Doing = "boot"
    since: float = 0.0
    pivot: Kid | None = None
    reason: ExitReason = None
    wanted: bool = False
    group: tuple[Any, ...] = ()
    starts: list[Any] = field(factory=list)
    failed: bool = False
    gave_up: bool = False
    request: Any = None
    # The child whose start has begun, until it is known how that went.
    starting: Kid | None = None
    # Processes that it has spawned and that have ended before they were anybody.
    unclaimed: dict[Pid, ExitReason] = field(factory=dict)

    @property
    def dynamic(self) -> bool:
        """Whether children are known by their pids, and independent."""
        return isinstance(self.setup, PoolSetup)

    @property
    def strategy(self) -> str:
        """Who is restarted with a child."""
        return "one_for_one" if isinstance(self.setup, PoolSetup) else self.setup.strategy

    def group_of(self, pivot: Kid) -> tuple[Any, ...]:
        """Who is to be started, in order, when `pivot` is started again."""
        if self.dynamic or self.strategy == "one_for_one":
            return (pivot.id,)
        ids = list(self.kids)
        first = ids.index(pivot.id) if self.strategy == "rest_for_one" else 0
        return tuple(
            id for id in ids[first:] if id == pivot.id or self.kids[id].restart != "temporary"
        )

    def restarts(self) -> bool:
        """Whether what it does now is a restart, or should be one."""
        if self.doing == "again":
            return True
        return self.doing == "ended" and self.wanted and self.setup.backoff is None


class Forest(Feed):
    """The shadows of the supervisors that were started since it began, and what they do, for its listeners.

    Attributes:
        shadows: of the living supervisors.
    """

    listeners: list[Supervised]

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.shadows: dict[Pid, Shadow] = {}
        # For each process that a supervisor has spawned: that supervisor.
        self._above: dict[Pid, Shadow] = {}
        attach = runtime.telemetry.attach
        self._detach = [
            attach(CHILD_STARTING, self._starting),
            attach(CHILD_STARTED, self._started),
            attach(CHILD_RESTARTED, self._started),
            attach(CHILD_START_FAILED, self._start_failed),
            attach(CHILD_TERMINATED, self._terminated),
            attach(GAVE_UP, self._gave_up),
        ]

    def add(self, invariant: Invariant) -> None:
        super().add(invariant)
        if isinstance(invariant, Supervised):
            invariant.shadows = self.shadows

    def close(self) -> None:
        for detach in self._detach:
            detach()

    # What the runtime shows

    def callback_started(self, pid: Pid, callback: str, message: Any) -> None:
        shadow = self.shadows.get(pid)
        if shadow is not None:
            self._is_done(shadow, crashed=callback == "terminate" and type(message) is Crash)
            self._begins(shadow, callback, message)
        elif callback == "init":
            setup = next((each for each in message if type(each) in (Setup, PoolSetup)), None)
            if setup is not None:
                self.shadows[pid] = Shadow(pid, setup, since=trio.current_time())

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        shadow = self.shadows.get(parent)
        if shadow is not None:
            self._above[pid] = shadow
            if shadow.dynamic:
                self._starts(shadow, None)

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        above = self._above.pop(pid, None)
        if above is not None:
            kid = above.by_pid.get(pid)
            if kid is not None:
                kid.alive, kid.reason = False, reason
            else:
                above.unclaimed[pid] = reason
        shadow = self.shadows.pop(pid, None)
        if shadow is not None:
            for each in self.listeners:
                each.ends(shadow, reason)

    def signal_sent(self, sender: Pid, receiver: Pid, reason: ExitReason, linked: bool) -> None:
        shadow = None if linked else self.shadows.get(sender)
        kid = None if shadow is None else shadow.by_pid.get(receiver)
        if shadow is not None and kid is not None:
            for each in self.listeners:
                each.stops(shadow, kid)

    # What a supervisor does

    def _begins(self, shadow: Shadow, callback: str, message: Any) -> None:
        doing: Doing = "other"
        pivot: Kid | None = None
        if callback == "handle_call":
            doing = "request"
            _note_request(shadow, message)
        elif callback == "terminate":
            doing = "terminate"
        elif callback == "handle_info" and type(message) is Exit:
            pivot = shadow.by_pid.get(message.pid)
            if pivot is not None and not pivot.again:
                doing = "ended"
        elif callback == "handle_info" and type(message) is TryAgain:
            known: Mapping[Any, Kid] = shadow.by_pid if shadow.dynamic else shadow.kids
            pivot = known.get(message.child)
            if pivot is not None and pivot.again:
                doing = "again"
        shadow.doing, shadow.since, shadow.request = doing, trio.current_time(), message
        shadow.pivot = pivot if doing in ("ended", "again") else None
        shadow.group = () if shadow.pivot is None else shadow.group_of(shadow.pivot)
        if pivot is not None:
            shadow.reason, shadow.wanted = pivot.reason, pivot.comes_back
            for id in shadow.group:
                # Those that waited to be tried again by themselves wait no more.
                if id in shadow.kids and id != pivot.id and shadow.wanted:
                    shadow.kids[id].again = False
        shadow.starts, shadow.failed = [], False

    def _is_done(self, shadow: Shadow, *, crashed: bool) -> None:
        _resolve(shadow)
        shadow.unclaimed.clear()
        for each in self.listeners:
            each.is_done(shadow, crashed)
        pivot = shadow.pivot
        if shadow.doing == "ended" and pivot is not None and shadow.wanted:
            # With a backoff it is started later.
            pivot.again = pivot.again or shadow.setup.backoff is not None
        if shadow.doing == "request" and type(shadow.request) is DeleteChild:
            kid = shadow.kids.get(shadow.request.id)
            if kid is not None and kid.pid is None and not kid.again:
                del shadow.kids[kid.id]

    def _starts(self, shadow: Shadow, id: Any) -> None:
        shadow.starts.append(id)
        for each in self.listeners:
            each.starts(shadow, id)

    # What supervisors say

    def _starting(self, event: Event, measurements: Measures, metadata: Measures) -> None:
        shadow = self.shadows.get(metadata["supervisor"])
        if shadow is None:
            return
        _resolve(shadow)
        id = metadata["id"]
        kid = shadow.kids.get(id)
        shadow.starting = kid = Kid(id, _restart_of(shadow, id)) if kid is None else kid
        kid.again = False
        self._starts(shadow, id)

    def _started(self, event: Event, measurements: Measures, metadata: Measures) -> None:
        shadow = self.shadows.get(metadata["supervisor"])
        if shadow is None:
            return
        id, pid = metadata["id"], metadata["pid"]
        if shadow.dynamic:
            known = shadow.pivot if event is CHILD_RESTARTED else None
        else:
            known = shadow.starting
            if known is None or known.id != id:
                known = shadow.kids.get(id)
            shadow.starting = None
        kid = Kid(id, _restart_of(shadow, id)) if known is None else known
        if not shadow.dynamic:
            shadow.kids.setdefault(id, kid)
        before = kid.last if kid.alive else None
        if kid.last is not None:
            shadow.by_pid.pop(kid.last, None)
        kid.pid = kid.last = pid
        kid.again = False
        kid.alive = pid not in shadow.unclaimed
        kid.reason = shadow.unclaimed.pop(pid, None)
        shadow.by_pid[pid] = kid
        for each in self.listeners:
            each.runs(shadow, kid, before)

    def _start_failed(self, event: Event, measurements: Measures, metadata: Measures) -> None:
        shadow = self.shadows.get(metadata["supervisor"])
        if shadow is None:
            return
        kid = shadow.pivot if shadow.dynamic else shadow.kids.get(metadata["id"])
        shadow.starting = None
        if metadata["restart"]:
            if shadow.dynamic and not shadow.starts:
                # It failed before there was a process.
                self._starts(shadow, None)
            shadow.failed = True
            if kid is not None:
                kid.again = True

    def _terminated(self, event: Event, measurements: Measures, metadata: Measures) -> None:
        shadow = self.shadows.get(metadata["supervisor"])
        kid = None if shadow is None else shadow.by_pid.get(metadata["pid"])
        if shadow is None or kid is None:
            return
        kid.pid = None
        if kid.restart == "temporary":
            shadow.kids.pop(kid.id, None)
        if metadata["stopped"] or not (shadow.dynamic and kid.comes_back):
            del shadow.by_pid[metadata["pid"]]
            kid.last = None

    def _gave_up(self, event: Event, measurements: Measures, metadata: Measures) -> None:
        shadow = self.shadows.get(metadata["supervisor"])
        if shadow is not None:
            shadow.gave_up = True
            for each in self.listeners:
                each.gives_up(shadow)


def _resolve(shadow: Shadow) -> None:
    """A start that neither gave a process nor failed: the child did not want to run, and is kept nevertheless."""
    kid, shadow.starting = shadow.starting, None
    if kid is not None and kid.restart != "temporary":
        shadow.kids.setdefault(kid.id, kid)


def _note_request(shadow: Shadow, request: Any) -> None:
    """Whom somebody wants stopped is not tried again."""
    kid = None
    if type(request) is TerminateChild:
        kid = shadow.kids.get(request.id)
    elif type(request) is TerminateDynamicChild:
        kid = shadow.by_pid.get(request.pid)
    if kid is not None:
        kid.again = False


def _restart_of(shadow: Shadow, id: Any) -> RestartType:
    """The restart type of a child that is not known yet: of whom it was asked to start."""
    request = shadow.request
    if isinstance(request, StartChild | StartDynamicChild):
        return request.spec.restart
    specs: tuple[ChildSpec, ...] = () if isinstance(shadow.setup, PoolSetup) else shadow.setup.specs
    return next((spec.restart for spec in specs if spec.id == id), "permanent")


class Supervised(Invariant):
    """An invariant of supervisors. Override what you need; nothing is known of those that were there before."""

    feed: ClassVar[type[Feed] | None] = Forest

    shadows: dict[Pid, Shadow]
    """Of the living supervisors."""

    def starts(self, shadow: Shadow, id: Any) -> None:
        """It begins to start a child; a dynamic supervisor has spawned a process, for an id that is not told."""

    def runs(self, shadow: Shadow, kid: Kid, before: Pid | None) -> None:
        """A child has started; `before` is the living process that the child was until now, if there is one."""

    def stops(self, shadow: Shadow, kid: Kid) -> None:
        """It tells a child to stop, or kills it."""

    def gives_up(self, shadow: Shadow) -> None:
        """It says that it gives up."""

    def is_done(self, shadow: Shadow, crashed: bool) -> None:
        """What it was doing is over; `crashed` if it failed in the middle."""

    def ends(self, shadow: Shadow, reason: ExitReason) -> None:
        """It has ended."""
