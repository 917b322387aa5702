"""Models of supervisors. A model computes the children and the restarts of a correct supervisor.

A model has the setup of its supervisor, its children in order, and the callback that the supervisor is running. The
supervisor's events announce the starts of children. The runtime's instruments show the ends of children, their exit
reasons and the stop signals.
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
from supervision.laboratory.chaos.invariants.base import Feed, Invariant
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
    """The expected state of one child."""

    id: Any
    spec: ChildSpec | None
    # `pid` is the process while it runs. `last` also keeps the process during a restart.
    pid: Pid | None = None
    last: Pid | None = None
    alive: bool = False
    # The exit reason of the last process.
    reason: ExitReason = None
    # True while the supervisor has to retry the restart, and the time at which that began.
    again: bool = False
    again_since: float = 0.0

    @property
    def restart(self) -> RestartType:
        """The restart type. A child with an unknown spec counts as permanent."""
        return "permanent" if self.spec is None else self.spec.restart

    @property
    def significant(self) -> bool:
        """True for a significant child. Its end can end the supervisor."""
        return self.spec is not None and self.spec.significant

    @property
    def comes_back(self) -> bool:
        """True if the restart type requires a restart after this exit reason."""
        if self.restart == "transient":
            return not is_normal_exit(self.reason)
        return self.restart == "permanent"


@define(eq=False)
class SupervisorModel:
    """The expected state of one supervisor.

    Attributes:
        doing: the current activity.
        since: the time at which this activity began.
        pivot: the child whose end or retry the supervisor handles; None during other activities.
        reason: the exit reason of `pivot`.
        wanted: True if the supervisor should restart `pivot`.
        group: the ids of the children that a restart should start, in order.
        starts: the ids of the children that the supervisor has begun to start during this activity.
        failed: True if one of these starts failed.
        gave_up: True if the supervisor gave up.
        ends_with: the significant child whose end must end the supervisor; None without such a child.
        request: the message of the current callback.
        received: the last message that the supervisor took out of its mailbox.
        stopping: the processes that the supervisor has told to stop and that have not ended yet.
        may_retry: If this is False, `again` is False for all children, so `RestartRetried` does not search them.
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
    may_retry: bool = False
    # The child that the supervisor is starting.
    starting: ChildModel | None = None
    # Processes that the supervisor spawned and that ended before the event CHILD_STARTED.
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
        """Return True if the supervisor should restart a child during the current activity."""
        if self.doing == "again":
            return True
        return self.doing == "ended" and self.wanted and self.setup.backoff is None


class SupervisorModels(Feed):
    """The models of the supervisors that started after this feed.

    Attributes:
        models: the models of the living supervisors.
    """

    listeners: list[Supervised]

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.models: dict[Pid, SupervisorModel] = {}
        # Maps each process to the model of the supervisor that spawned it.
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
                # The supervisor now restarts the whole group, so this child needs no retry.
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
            # This TryAgain was left over from an earlier retry. The TryAgain of the current retry will follow.
            pivot.again = model.may_retry = True
        if model.dynamic and pivot is not None and model.restarts() and not model.failed:
            self._forget_ignored(model, pivot)
        if model.doing == "request" and type(model.request) is DeleteChild:
            child = model.children.get(model.request.id)
            if child is not None and child.pid is None and not child.again:
                del model.children[child.id]

    def _forget_ignored(self, model: SupervisorModel, pivot: ChildModel) -> None:
        """Forget a child of a dynamic supervisor if `init` ignored its restart."""
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
        child.alive = pid.process is not None and pid not in model.unclaimed
        if child.alive:
            # A start function may return a process that the supervisor did not spawn.
            self._above.setdefault(pid, model)
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
                # The start failed before it spawned a process.
                self._starts(model, None)
            model.failed = True
            if child is not None:
                child.again = model.may_retry = True
                child.again_since = trio.current_time()

    def _terminated(self, event: Event, measurements: Measures, metadata: Measures) -> None:
        model = self.models.get(metadata["supervisor"])
        child = None if model is None else model.by_pid.get(metadata["pid"])
        if model is None or child is None:
            return
        child.pid = None
        model.stopping.pop(metadata["pid"], None)
        if not metadata["stopped"]:
            _note_end(model, child)
            # With a backoff, the supervisor restarts the child later.
            child.again = child.comes_back and model.setup.backoff is not None
            model.may_retry = model.may_retry or child.again
        pivot = model.pivot
        if pivot is not None and pivot.again:
            # The backoff begins when the whole group has stopped.
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
    """Keep the child that the supervisor was starting, although its `init` ignored the start."""
    child, model.starting = model.starting, None
    if child is not None and child.restart != "temporary":
        model.children.setdefault(child.id, child)


def _note_end(model: SupervisorModel, child: ChildModel) -> None:
    """Set `ends_with` if the end of this child must end its supervisor."""
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
            # The child has no process, so no CHILD_TERMINATED follows.
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
    """The base class of invariants of supervisors. Override the methods that you need.

    It sees only supervisors that start after the checks began.
    """

    feed: ClassVar[type[Feed] | None] = SupervisorModels

    models: dict[Pid, SupervisorModel]
    """The models of the living supervisors."""

    def starts(self, model: SupervisorModel, id: Any) -> None:
        """Handle the beginning of a child's start. For a dynamic supervisor, `id` is None."""

    def runs(self, model: SupervisorModel, child: ChildModel, before: Pid | None) -> None:
        """Handle a child that has started. `before` is its earlier process if that process still lives, else None."""

    def stops(self, model: SupervisorModel, child: ChildModel, reason: ExitReason) -> None:
        """Handle a stop signal or a kill signal to a child."""

    def refuses(self, model: SupervisorModel) -> None:
        """Handle a dynamic supervisor that refuses a child, because it has `max_children`."""

    def terminates(self, model: SupervisorModel, reason: ExitReason) -> None:
        """Handle the beginning of the supervisor's `terminate`. The call of `is_done` follows."""

    def gives_up(self, model: SupervisorModel) -> None:
        """Handle a supervisor that gives up."""

    def is_done(self, model: SupervisorModel, crashed: bool) -> None:
        """Handle the end of an activity. `crashed` is True if the activity raised."""

    def ends(self, model: SupervisorModel, reason: ExitReason) -> None:
        """Handle the end of a supervisor."""
