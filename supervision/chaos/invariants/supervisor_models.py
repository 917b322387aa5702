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
    CHILD_REFUSED,
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
    ResizePartitions,
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
    spec: ChildSpec | None
    # The process while it runs. `last` also keeps it during a restart.
    pid: Pid | None = None
    last: Pid | None = None
    alive: bool = False
    # The exit reason of its last process.
    reason: ExitReason = None
    # True if its restart will be retried, and the time since which that is so.
    again: bool = False
    again_since: float = 0.0

    @property
    def restart(self) -> RestartType:
        """Its restart type. A child with an unknown spec counts as permanent."""
        return "permanent" if self.spec is None else self.spec.restart

    @property
    def significant(self) -> bool:
        """True if it is significant."""
        return self.spec is not None and self.spec.significant

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
        ends_with: the id of the significant child whose end must end the supervisor; None without one.
        received: the last message that it took out of its mailbox.
        stopping: the processes that it waits for, because it has told them to stop.
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
    ends_with: ChildModel | None = None
    request: Any = None
    received: Any = None
    stopping: dict[Pid, None] = field(factory=dict)
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
            attach(CHILD_REFUSED, self._refused),
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
            if callback == "terminate":
                for each in self.listeners:
                    each.terminates(model, message)
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

    def message_received(self, pid: Pid, message: Any) -> None:
        model = self.models.get(pid)
        if model is not None:
            model.received = message

    def signal_sent(self, sender: Pid, receiver: Pid, reason: ExitReason, linked: bool) -> None:
        model = None if linked else self.models.get(sender)
        child = None if model is None else model.by_pid.get(receiver)
        if model is not None and child is not None:
            if child.alive:
                model.stopping[receiver] = None
            for each in self.listeners:
                each.stops(model, child, reason)

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
                doing, pivot.again = "again", False
        model.doing, model.since, model.request = doing, trio.current_time(), message
        model.pivot = pivot if doing in ("ended", "again") else None
        model.group = () if model.pivot is None else model.group_of(model.pivot)
        if pivot is not None:
            model.reason, model.wanted = pivot.reason, pivot.comes_back
            for id in model.group:
                # The restart of the group replaces their own retries.
                if id in model.children and id != pivot.id and (model.wanted or doing == "again"):
                    model.children[id].again = False
        model.starts, model.failed = [], False

    def _is_done(self, model: SupervisorModel, *, crashed: bool) -> None:
        _resolve(model)
        model.unclaimed.clear()
        for each in self.listeners:
            each.is_done(model, crashed)
        pivot = model.pivot
        idle = model.doing == "again" and not model.starts and not model.gave_up
        if pivot is not None and idle and not model.dynamic:
            # The message belonged to an earlier attempt, so another one will follow.
            pivot.again = True
        if model.dynamic and pivot is not None and model.restarts() and not model.failed:
            self._forget_ignored(model, pivot)
        if model.doing == "request" and type(model.request) is DeleteChild:
            child = model.children.get(model.request.id)
            if child is not None and child.pid is None and not child.again:
                del model.children[child.id]

    def _forget_ignored(self, model: SupervisorModel, pivot: ChildModel) -> None:
        """Forget a child of a dynamic supervisor whose restart produced neither a process nor a failure."""
        if pivot.pid is None and pivot.last is not None:
            model.by_pid.pop(pivot.last, None)
            pivot.again = False

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
        model.starting = child = ChildModel(id, _spec_of(model, id)) if child is None else child
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
        child = ChildModel(id, _spec_of(model, id)) if known is None else known
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
                child.again, child.again_since = True, trio.current_time()

    def _terminated(self, event: Event, measurements: Measures, metadata: Measures) -> None:
        model = self.models.get(metadata["supervisor"])
        child = None if model is None else model.by_pid.get(metadata["pid"])
        if model is None or child is None:
            return
        child.pid = None
        model.stopping.pop(metadata["pid"], None)
        if not metadata["stopped"]:
            _note_end(model, child)
            # With a backoff, it starts later.
            child.again = child.comes_back and model.setup.backoff is not None
        pivot = model.pivot
        if pivot is not None and pivot.again:
            # The wait begins when the whole group has stopped.
            pivot.again_since = trio.current_time()
        if child.restart == "temporary":
            model.children.pop(child.id, None)
        if metadata["stopped"] or not (model.dynamic and child.comes_back):
            del model.by_pid[metadata["pid"]]
            child.last = None

    def _refused(self, event: Event, measurements: Measures, metadata: Measures) -> None:
        model = self.models.get(metadata["supervisor"])
        if model is not None:
            for each in self.listeners:
                each.refuses(model)

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


def _note_end(model: SupervisorModel, child: ChildModel) -> None:
    """Note if the end of a significant child must end its supervisor."""
    setup = model.setup
    if isinstance(setup, PoolSetup) or not child.significant or child.comes_back:
        return
    others = [each for each in model.children.values() if each is not child and each.significant]
    if setup.auto_shutdown == "any_significant" or (
        setup.auto_shutdown == "all_significant"
        and not any(each.pid is not None or each.again for each in others)
    ):
        model.ends_with = child


def _note_request(model: SupervisorModel, request: Any) -> None:
    """Cancel the retry of a child that a request stops."""
    child = None
    if type(request) is TerminateChild:
        child = model.children.get(request.id)
    elif type(request) is TerminateDynamicChild:
        child = model.by_pid.get(request.pid)
        if child is not None and child.again:
            # It has no process, so there is no event about its end.
            del model.by_pid[request.pid]
    elif type(request) is ResizePartitions:
        for id, partition in model.children.items():
            if id >= request.partitions:
                partition.again = False
    if child is not None:
        child.again = False


def _spec_of(model: SupervisorModel, id: Any) -> ChildSpec | None:
    """Return the spec of a new child, from the request or the setup."""
    request = model.request
    if isinstance(request, StartChild | StartDynamicChild):
        return request.spec
    specs: tuple[ChildSpec, ...] = () if isinstance(model.setup, PoolSetup) else model.setup.specs
    return next((spec for spec in specs if spec.id == id), None)


class Supervised(Invariant):
    """An invariant of supervisors that start under observation. Override the methods that you need."""

    feed: ClassVar[type[Feed] | None] = SupervisorModels

    models: dict[Pid, SupervisorModel]
    """The models of the living supervisors."""

    def starts(self, model: SupervisorModel, id: Any) -> None:
        """Handle the start of a child. For a dynamic supervisor, the id is None."""

    def runs(self, model: SupervisorModel, child: ChildModel, before: Pid | None) -> None:
        """Handle a child that runs. `before` is its earlier process, if that still lives."""

    def stops(self, model: SupervisorModel, child: ChildModel, reason: ExitReason) -> None:
        """Handle a stop signal or a kill to a child."""

    def refuses(self, model: SupervisorModel) -> None:
        """Handle a dynamic supervisor that refuses a child, because it has `max_children`."""

    def terminates(self, model: SupervisorModel, reason: ExitReason) -> None:
        """Handle the beginning of `terminate`, before `is_done`."""

    def gives_up(self, model: SupervisorModel) -> None:
        """Handle a supervisor that gives up."""

    def is_done(self, model: SupervisorModel, crashed: bool) -> None:
        """Handle the end of an activity. `crashed` if it raised."""

    def ends(self, model: SupervisorModel, reason: ExitReason) -> None:
        """Handle the end of a supervisor."""
