"""A model of each supervisor, which does the same as a correct supervisor.

A model knows the setup of its supervisor, the children in order, and the callback that the supervisor runs now. It
takes the starts of children from the events of the supervisor. It observes everything else (ends, reasons, stop
signals) in the runtime.
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

__all__ = ["ChildModel", "Supervised", "SupervisorModel", "SupervisorModels"]

Measures: TypeAlias = Mapping[str, Any]

Doing: TypeAlias = Literal["boot", "request", "ended", "again", "terminate", "other"]
"""The current activity: start the first children, answer a request, handle the end of a child, retry a restart, stop,
or anything else."""


@define(eq=False)
class ChildModel:
    """One child, as its supervisor should know it."""

    id: Any
    restart: RestartType
    # The process while it runs. `last` also keeps it during a restart.
    pid: Pid | None = None
    last: Pid | None = None
    alive: bool = False
    # The exit reason of its last process.
    reason: ExitReason = None
    # True if its restart will be retried.
    again: bool = False

    @property
    def comes_back(self) -> bool:
        """True if its restart type and exit reason call for a restart."""
        if self.restart == "transient":
            return not is_normal_exit(self.reason)
        return self.restart == "permanent"


@define(eq=False)
class SupervisorModel:
    """One supervisor.

    Attributes:
        doing, since, pivot: its activity, when that began, and the child concerned.
        reason, wanted: the exit reason of that child, and True if it should restart.
        group: the ids that a restart should start, in order.
        starts: the ids whose start has begun during this activity.
        failed: True if one of them did not start.
        gave_up: True if the supervisor gave up.
    """

    pid: Pid
    setup: Setup | PoolSetup
    children: dict[Any, ChildModel] = field(factory=dict)
    by_pid: dict[Pid, ChildModel] = field(factory=dict)
    doing: Doing = "boot"
    since: float = 0.0
    pivot: ChildModel | None = None
    reason: ExitReason = None
    wanted: bool = False
    group: tuple[Any, ...] = ()
    starts: list[Any] = field(factory=list)
    failed: bool = False
    gave_up: bool = False
    request: Any = None
    # The child whose start has begun and has no result yet.
    starting: ChildModel | None = None
    # Processes that it spawned and that ended before they were reported as a child.
    unclaimed: dict[Pid, ExitReason] = field(factory=dict)

    @property
    def dynamic(self) -> bool:
        """True for a dynamic supervisor."""
        return isinstance(self.setup, PoolSetup)

    @property
    def strategy(self) -> str:
        """The restart strategy."""
        return "one_for_one" if isinstance(self.setup, PoolSetup) else self.setup.strategy

    def group_of(self, pivot: ChildModel) -> tuple[Any, ...]:
        """Return the ids that a restart of `pivot` should start, in order."""
        if self.dynamic or self.strategy == "one_for_one":
            return (pivot.id,)
        ids = list(self.children)
        first = ids.index(pivot.id) if self.strategy == "rest_for_one" else 0
        return tuple(
            id for id in ids[first:] if id == pivot.id or self.children[id].restart != "temporary"
        )

    def restarts(self) -> bool:
        """Return True if the current activity is or should be a restart."""
        if self.doing == "again":
            return True
        return self.doing == "ended" and self.wanted and self.setup.backoff is None


class SupervisorModels(Feed):
    """The models of the supervisors that started under observation.

    Attributes:
        models: the models of the living supervisors.
    """

    listeners: list[Supervised]

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.models: dict[Pid, SupervisorModel] = {}
        # For each process that a supervisor has spawned: the model of that supervisor.
        self._above: dict[Pid, SupervisorModel] = {}
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
            invariant.models = self.models

    def close(self) -> None:
        for detach in self._detach:
            detach()

    # Events of the runtime

    def callback_started(self, pid: Pid, callback: str, message: Any) -> None:
        model = self.models.get(pid)
        if model is not None:
            self._is_done(model, crashed=callback == "terminate" and type(message) is Crash)
            self._begins(model, callback, message)
        elif callback == "init":
            setup = next((each for each in message if type(each) in (Setup, PoolSetup)), None)
            if setup is not None:
                self.models[pid] = SupervisorModel(pid, setup, since=trio.current_time())

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        model = self.models.get(parent)
        if model is not None:
            self._above[pid] = model
            if model.dynamic:
                self._starts(model, None)

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        above = self._above.pop(pid, None)
        if above is not None:
            child = above.by_pid.get(pid)
            if child is not None:
                child.alive, child.reason = False, reason
            else:
                above.unclaimed[pid] = reason
        model = self.models.pop(pid, None)
        if model is not None:
            for each in self.listeners:
                each.ends(model, reason)

    def signal_sent(self, sender: Pid, receiver: Pid, reason: ExitReason, linked: bool) -> None:
        model = None if linked else self.models.get(sender)
        child = None if model is None else model.by_pid.get(receiver)
        if model is not None and child is not None:
            for each in self.listeners:
                each.stops(model, child)

    # Activities of supervisors

    def _begins(self, model: SupervisorModel, callback: str, message: Any) -> None:
        doing: Doing = "other"
        pivot: ChildModel | None = None
        if callback == "handle_call":
            doing = "request"
            _note_request(model, message)
        elif callback == "terminate":
            doing = "terminate"
        elif callback == "handle_info" and type(message) is Exit:
            pivot = model.by_pid.get(message.pid)
            if pivot is not None and not pivot.again:
                doing = "ended"
        elif callback == "handle_info" and type(message) is TryAgain:
            known: Mapping[Any, ChildModel] = model.by_pid if model.dynamic else model.children
            pivot = known.get(message.child)
            if pivot is not None and pivot.again:
                doing = "again"
        model.doing, model.since, model.request = doing, trio.current_time(), message
        model.pivot = pivot if doing in ("ended", "again") else None
        model.group = () if model.pivot is None else model.group_of(model.pivot)
        if pivot is not None:
            model.reason, model.wanted = pivot.reason, pivot.comes_back
            for id in model.group:
                # The restart of the group replaces their own retries.
                if id in model.children and id != pivot.id and model.wanted:
                    model.children[id].again = False
        model.starts, model.failed = [], False

    def _is_done(self, model: SupervisorModel, *, crashed: bool) -> None:
        _resolve(model)
        model.unclaimed.clear()
        for each in self.listeners:
            each.is_done(model, crashed)
        pivot = model.pivot
        if model.doing == "ended" and pivot is not None and model.wanted:
            # With a backoff, it starts later.
            pivot.again = pivot.again or model.setup.backoff is not None
        if model.doing == "request" and type(model.request) is DeleteChild:
            child = model.children.get(model.request.id)
            if child is not None and child.pid is None and not child.again:
                del model.children[child.id]

    def _starts(self, model: SupervisorModel, id: Any) -> None:
        model.starts.append(id)
        for each in self.listeners:
            each.starts(model, id)

    # Events of supervisors

    def _starting(self, event: Event, measurements: Measures, metadata: Measures) -> None:
        model = self.models.get(metadata["supervisor"])
        if model is None:
            return
        _resolve(model)
        id = metadata["id"]
        child = model.children.get(id)
        model.starting = child = ChildModel(id, _restart_of(model, id)) if child is None else child
        child.again = False
        self._starts(model, id)

    def _started(self, event: Event, measurements: Measures, metadata: Measures) -> None:
        model = self.models.get(metadata["supervisor"])
        if model is None:
            return
        id, pid = metadata["id"], metadata["pid"]
        if model.dynamic:
            known = model.pivot if event is CHILD_RESTARTED else None
        else:
            known = model.starting
            if known is None or known.id != id:
                known = model.children.get(id)
            model.starting = None
        child = ChildModel(id, _restart_of(model, id)) if known is None else known
        if not model.dynamic:
            model.children.setdefault(id, child)
        before = child.last if child.alive else None
        if child.last is not None:
            model.by_pid.pop(child.last, None)
        child.pid = child.last = pid
        child.again = False
        child.alive = pid not in model.unclaimed
        child.reason = model.unclaimed.pop(pid, None)
        model.by_pid[pid] = child
        for each in self.listeners:
            each.runs(model, child, before)

    def _start_failed(self, event: Event, measurements: Measures, metadata: Measures) -> None:
        model = self.models.get(metadata["supervisor"])
        if model is None:
            return
        child = model.pivot if model.dynamic else model.children.get(metadata["id"])
        model.starting = None
        if metadata["restart"]:
            if model.dynamic and not model.starts:
                # It failed before there was a process.
                self._starts(model, None)
            model.failed = True
            if child is not None:
                child.again = True

    def _terminated(self, event: Event, measurements: Measures, metadata: Measures) -> None:
        model = self.models.get(metadata["supervisor"])
        child = None if model is None else model.by_pid.get(metadata["pid"])
        if model is None or child is None:
            return
        child.pid = None
        if child.restart == "temporary":
            model.children.pop(child.id, None)
        if metadata["stopped"] or not (model.dynamic and child.comes_back):
            del model.by_pid[metadata["pid"]]
            child.last = None

    def _gave_up(self, event: Event, measurements: Measures, metadata: Measures) -> None:
        model = self.models.get(metadata["supervisor"])
        if model is not None:
            model.gave_up = True
            for each in self.listeners:
                each.gives_up(model)


def _resolve(model: SupervisorModel) -> None:
    """Keep a child whose start was ignored."""
    child, model.starting = model.starting, None
    if child is not None and child.restart != "temporary":
        model.children.setdefault(child.id, child)


def _note_request(model: SupervisorModel, request: Any) -> None:
    """Cancel the retry of a child that a request stops."""
    child = None
    if type(request) is TerminateChild:
        child = model.children.get(request.id)
    elif type(request) is TerminateDynamicChild:
        child = model.by_pid.get(request.pid)
    if child is not None:
        child.again = False


def _restart_of(model: SupervisorModel, id: Any) -> RestartType:
    """Return the restart type of a new child, from the request or the setup."""
    request = model.request
    if isinstance(request, StartChild | StartDynamicChild):
        return request.spec.restart
    specs: tuple[ChildSpec, ...] = () if isinstance(model.setup, PoolSetup) else model.setup.specs
    return next((spec.restart for spec in specs if spec.id == id), "permanent")


class Supervised(Invariant):
    """An invariant of supervisors that start under observation. Override the methods that you need."""

    feed: ClassVar[type[Feed] | None] = SupervisorModels

    models: dict[Pid, SupervisorModel]
    """The models of the living supervisors."""

    def starts(self, model: SupervisorModel, id: Any) -> None:
        """Handle the start of a child. For a dynamic supervisor, the id is None."""

    def runs(self, model: SupervisorModel, child: ChildModel, before: Pid | None) -> None:
        """Handle a child that runs. `before` is its earlier process, if that still lives."""

    def stops(self, model: SupervisorModel, child: ChildModel) -> None:
        """Handle a stop signal or a kill to a child."""

    def gives_up(self, model: SupervisorModel) -> None:
        """Handle a supervisor that gives up."""

    def is_done(self, model: SupervisorModel, crashed: bool) -> None:
        """Handle the end of an activity. `crashed` if it raised."""

    def ends(self, model: SupervisorModel, reason: ExitReason) -> None:
        """Handle the end of a supervisor."""
