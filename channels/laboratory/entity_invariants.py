"""The invariants of entities, over all nodes of a run. See docs/howto/simulate-your-channel.md.

Register them with a scenario: `@scenario(invariants=("all", *ENTITY_INVARIANTS))`. They observe the telemetry events of
every `EntitySupervisor`, and keep their own record of what may happen next. They know the nodes of the same Trio run:
in a simulated world, all nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar, Final, TypeAlias, TypeVar

import trio
from attrs import define, field

from actors.exits import ExitReason
from actors.instrumentation.telemetry import Event
from actors.refs import Address, Pid, Ref
from actors.runtime import Runtime
from channels.entities import handovers
from channels.entities.process import MOVED
from channels.entities.requests import EntityRequest
from channels.entities.supervisor import EntityAddress
from channels.telemetry import (
    ENTITY_BEGAN,
    ENTITY_CRASHED,
    ENTITY_ENDED,
    ENTITY_FINISHED,
    ENTITY_HANDED_OVER,
    ENTITY_HANDOVER_LOST,
    ENTITY_LEASE_LOST,
    ENTITY_REQUEST_ACCEPTED,
    ENTITY_REQUEST_ENDED,
    ENTITY_SESSION_OPENED,
    ENTITY_START_FAILED,
    ENTITY_STARTED,
    ENTITY_TAKEN_OVER,
    PUBSUB_DISCONNECTED,
    PUBSUB_DROPPED,
    PUBSUB_LOST,
)
from supervision.laboratory.chaos.invariants.base import Invariant
from supervision.recording.places import Places

__all__ = [
    "ENTITY_INVARIANTS",
    "EntitiesRunOnce",
    "EntityCallsEnd",
    "EntityCastsArrive",
    "EntityMonitorsFire",
    "EntityRequestsRunOnce",
]

Place: TypeAlias = tuple[str, str]
"""The name of an `EntitySupervisor`, and a key."""

RequestId: TypeAlias = tuple[str, str, str, int]
"""The name of an `EntitySupervisor`, the name and the incarnation of the sender's node, and the request's number."""

About: TypeAlias = Mapping[str, Any]
T = TypeVar("T")

# Seconds after its time limit in which a call must end, because timers may run a little later.
_LATE = 1.0
# Seconds in which a monitor may still find the process that it watches.
_LOCATED = 6.0


def _shared(variable: trio.lowlevel.RunVar[T], make: Callable[[], T]) -> T:
    """Return an object that the invariants of all nodes of this run share."""
    try:
        return variable.get()
    except LookupError:
        value = make()
        variable.set(value)
        return value


def _place_of(about: About) -> Place:
    key = about["key"] if "key" in about else about["request"].key
    return about["supervisor"], key


def _in_words(place: Place) -> str:
    return f"{place[0]} {place[1]!r}"


def _id_of(about: About) -> RequestId:
    request: EntityRequest = about["request"]
    origin = request.origin or about["router"].node
    return about["supervisor"], origin.name, origin.incarnation, request.number


class _EntityInvariant(Invariant):
    """An invariant that handles events of the routers of one runtime."""

    # Most handlers of events, by the event. A class attribute, so that a subclass lists them once.
    events: ClassVar[Mapping[Event, str]] = {}

    def attach(self, runtime: Runtime, places: Places | None = None) -> None:
        super().attach(runtime, places)
        for event, name in self.events.items():
            # No code detaches this handler, because the telemetry ends with the runtime.
            runtime.telemetry.attach(event, self._handler(getattr(self, name)))

    def _handler(self, handle: Callable[[About], None]) -> Callable[..., None]:
        def handler(_event: object, measured: About, about: About) -> None:
            try:
                handle({**measured, **about})
            except (
                Exception
            ) as error:  # telemetry would detach the handler, and the invariant would check nothing
                self.violated(f"the invariant failed: {error!r}")

        return handler

    def node_of(self, about: About) -> str:
        """Return the name of the node of an event."""
        name: str = about["router"].node.name
        return name


# One owner


@define(eq=False)
class _Interval:
    """A callback that runs now.

    Attributes:
        node: the name of its node.
        fence: the fence of its process.
        ahead: the seconds of suspended time of its machine, at its beginning.
        stood_still: True if its node was paused in the meantime.
    """

    invariant: EntitiesRunOnce
    node: str
    fence: int
    ahead: float
    stood_still: bool = False

    @property
    def is_excused(self) -> bool:
        """True if the node stood still, so that its lease may have ended in the middle of this callback."""
        return self.stood_still or self.invariant.ahead() > self.ahead


@define(eq=False)
class _Owners:
    # The running callbacks of each key, and the greatest fences of a callback and of a start.
    running: dict[Place, list[_Interval]] = field(factory=dict)
    began: dict[Place, int] = field(factory=dict)
    started: dict[Place, int] = field(factory=dict)


_owners: trio.lowlevel.RunVar[_Owners] = trio.lowlevel.RunVar("owners of entities")


class EntitiesRunOnce(_EntityInvariant):
    """Two processes of one key never handle messages at the same time, on any node. Each start has a greater fence.

    A callback must not begin while another one of its key runs, nor after a process with a greater fence has begun. A
    callback that has begun before its node stood still, because of a pause or a suspend, may overlap with one of the
    next owner. The guarantee assumes that the arbiter keeps its data, and that clocks run at normal speed.
    """

    name: ClassVar[str] = "entities_run_once"
    events: ClassVar[Mapping[Event, str]] = {
        ENTITY_BEGAN: "_began",
        ENTITY_FINISHED: "_finished",
        ENTITY_STARTED: "_started",
        ENTITY_ENDED: "_ended",
    }

    def attach(self, runtime: Runtime, places: Places | None = None) -> None:
        super().attach(runtime, places)
        self._owners = _shared(_owners, _Owners)

    def ahead(self) -> float:
        """Return the seconds of suspension of this machine that Trio's clock has left out."""
        return round(self.runtime.since_boot() - trio.current_time(), 6)

    def _began(self, about: About) -> None:
        place, fence, node = _place_of(about), about["fence"], self.node_of(about)
        owners = self._owners
        newest = owners.began.get(place, 0)
        what = f"a callback of {_in_words(place)} with fence {fence} begins on {node}"
        if fence < newest:
            self.violated(f"{what}, and a process with fence {newest} has begun before")
        owners.began[place] = max(newest, fence)
        running = owners.running.setdefault(place, [])
        for other in running:
            if not other.is_excused:
                self.violated(
                    f"{what}, while one with fence {other.fence} still runs on {other.node}"
                )
        running.append(_Interval(self, node, fence, self.ahead()))

    def _finished(self, about: About) -> None:
        running = self._owners.running.get(_place_of(about), [])
        mine = [each for each in running if each.invariant is self]
        if mine:
            running.remove(mine[-1])

    def _started(self, about: About) -> None:
        place, fence, started = _place_of(about), about["fence"], self._owners.started
        # A smaller fence was noticed when `init` began, unless the node stood still during `init`.
        if fence == started.get(place):
            self.violated(
                f"{_in_words(place)} starts on {self.node_of(about)} with fence {fence}, which an earlier start had"
            )
        started[place] = max(fence, started.get(place, 0))

    def _ended(self, about: About) -> None:
        self._forget(self._owners.running.get(_place_of(about), []))

    def _forget(self, running: list[_Interval]) -> None:
        running[:] = [each for each in running if each.invariant is not self]

    def paused(self, *, ongoing: bool) -> None:
        for running in self._owners.running.values():
            for each in running:
                each.stood_still = each.stood_still or each.invariant is self

    def detach(self) -> None:
        for running in self._owners.running.values():
            self._forget(running)


# Requests


@define(eq=False)
class _Requests:
    # The requests that have begun; those that have failed with an error that excludes this; and the last number of
    # each sender that has begun, by key.
    begun: dict[RequestId, None] = field(factory=dict)
    excluded: dict[RequestId, str] = field(factory=dict)
    last: dict[tuple[Place, str, str, int], int] = field(factory=dict)


_requests: trio.lowlevel.RunVar[_Requests] = trio.lowlevel.RunVar("requests to entities")


class EntityRequestsRunOnce(_EntityInvariant):
    """Each request to an entity runs at most once, and the requests of one process to one key run in their order.

    A request never runs if it has failed with an error whose `may_have_run` is False.
    """

    name: ClassVar[str] = "entity_requests_run_once"
    events: ClassVar[Mapping[Event, str]] = {
        ENTITY_BEGAN: "_began",
        ENTITY_REQUEST_ENDED: "_request_ended",
    }

    def attach(self, runtime: Runtime, places: Places | None = None) -> None:
        super().attach(runtime, places)
        self._requests = _shared(_requests, _Requests)

    def _began(self, about: About) -> None:
        request: EntityRequest | None = about["request"]
        if request is None:
            return
        requests, which, place = self._requests, _id_of(about), _place_of(about)
        what = f"{request!r} of node {which[1]} begins on {self.node_of(about)}"
        if which in requests.begun:
            self.violated(f"{what}, and it has begun before")
        if which in requests.excluded:
            self.violated(f"{what}, and its caller got {requests.excluded[which]}")
        requests.begun[which] = None
        if request.pid is None:
            return
        sender = (place, which[1], which[2], request.pid.number)  # type: ignore[union-attr] # a Pid or a RemotePid
        last = requests.last.get(sender, -1)
        if which[3] < last:
            self.violated(f"{what}, and a later request of its sender has begun before")
        requests.last[sender] = max(last, which[3])

    def _request_ended(self, about: About) -> None:
        request, failure = about["request"], about["failure"]
        if request.origin is not None or failure is None or failure.may_have_run:
            return
        which = _id_of(about)
        self._requests.excluded[which] = failure.error
        if which in self._requests.begun:
            self.violated(f"{request!r} has begun, and its caller gets {failure.error}")


class EntityCallsEnd(_EntityInvariant):
    """Each call of an entity ends within its time limit, with an answer or an error."""

    name: ClassVar[str] = "entity_calls_end"
    events: ClassVar[Mapping[Event, str]] = {
        ENTITY_REQUEST_ACCEPTED: "_accepted",
        ENTITY_REQUEST_ENDED: "_request_ended",
    }

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[EntityRequest, None] = {}
        self._resumed = -math.inf

    def _accepted(self, about: About) -> None:
        request: EntityRequest = about["request"]
        if request.origin is None and request.wants_answer:
            self._open[request] = None

    def _request_ended(self, about: About) -> None:
        request: EntityRequest = about["request"]
        self._open.pop(request, None)
        if request.origin is not None or not request.wants_answer:
            return
        late = self.now() - max(request.deadline, self._resumed)
        if late > _LATE:
            self.violated(f"{request!r} ends {late:.3g} s after its time limit")

    def at_rest(self) -> str | None:
        if not self._open:
            return self.late_twice({})
        now = self.now()
        return self.late_twice(
            {
                request: f"{request!r} has not ended, and its time limit was over {late:.3g} s ago"
                for request in self._open
                if (late := now - max(request.deadline, self._resumed)) > _LATE
            }
        )

    def paused(self, *, ongoing: bool) -> None:
        self._resumed = self.now()


@define(eq=False)
class _Cast:
    """A message that the owner's node has acknowledged, and that no callback has got yet.

    Attributes:
        holder: the invariant of the node that has it.
        to: the name of the node to which it travels in a handover; None if it is in a mailbox.
        left: the time of the last callback before that handover.
        is_homeless: True if the process that had it in its mailbox has ended.
    """

    request: EntityRequest
    place: Place
    holder: EntityCastsArrive
    since: float
    to: str | None = None
    left: float = math.inf
    is_homeless: bool = False


@define(eq=False)
class _Casts:
    open: dict[RequestId, _Cast] = field(factory=dict)
    # The time at which each node opened its latest session.
    sessions: dict[str, float] = field(factory=dict)
    # The handovers on their way, by the invariants of their senders, with the seconds that they may take.
    handovers: dict[tuple[EntityCastsArrive, Place], float] = field(factory=dict)
    # The invariants of nodes that are paused.
    paused: dict[EntityCastsArrive, None] = field(factory=dict)
    disturbed: float = -math.inf
    next_look: float = -math.inf


_casts: trio.lowlevel.RunVar[_Casts] = trio.lowlevel.RunVar("casts to entities")


class EntityCastsArrive(_EntityInvariant):
    """An entity gets each cast that its owner's node has acknowledged, also if the key moves to another node.

    A node that is lost, a lost lease, a lost connection in the middle of a handover, a start that fails after a crash
    or a handover, a stop without a drain, and a limit may lose a cast.

    Args:
        within: the seconds after the last fault in which the casts must arrive.
    """

    name: ClassVar[str] = "entity_casts_arrive"
    events: ClassVar[Mapping[Event, str]] = {
        ENTITY_REQUEST_ACCEPTED: "_accepted",
        ENTITY_BEGAN: "_began",
        ENTITY_REQUEST_ENDED: "_request_ended",
        ENTITY_STARTED: "_started",
        ENTITY_ENDED: "_ended",
        ENTITY_HANDED_OVER: "_handed_over",
        ENTITY_HANDOVER_LOST: "_arrived",
        ENTITY_TAKEN_OVER: "_arrived",
        ENTITY_CRASHED: "_failed",
        ENTITY_START_FAILED: "_failed",
        ENTITY_LEASE_LOST: "_lease_lost",
        ENTITY_SESSION_OPENED: "_session_opened",
        PUBSUB_DISCONNECTED: "_messages_lost",
        PUBSUB_DROPPED: "_messages_lost",
        PUBSUB_LOST: "_messages_lost",
    }

    def __init__(self, within: float = 10.0) -> None:
        super().__init__()
        self._within = within
        self._node = ""
        # The entities that have started, by their nodes.
        self._running: set[tuple[str, Place]] = set()
        # The latest start that failed, and its time.
        self._failed_start: tuple[Place, float] | None = None

    def attach(self, runtime: Runtime, places: Places | None = None) -> None:
        super().attach(runtime, places)
        self._casts = _shared(_casts, _Casts)

    def _accepted(self, about: About) -> None:
        self._node = self.node_of(about)
        request: EntityRequest = about["request"]
        if request.verb in {"cast", "send"}:
            cast = _Cast(request, _place_of(about), self, self.now())
            self._casts.open[_id_of(about)] = cast

    def _began(self, about: About) -> None:
        if about["request"] is not None:
            self._casts.open.pop(_id_of(about), None)
        place, now = _place_of(about), self.now()
        for each in self._casts.open.values():
            if each.place == place:
                # The entity works, so the casts behind this one wait for good reason.
                each.since = now

    def _request_ended(self, about: About) -> None:
        failure, which = about["failure"], _id_of(about)
        cast = self._casts.open.get(which)
        # A limit may end a request in a handover. After a crash or a handover, the next start may fail. A key that was
        # transferred to the last session of a node is not the node's any more, and no other node can take the handover.
        if (
            failure
            and cast
            and (
                cast.to is None
                or failure.error == "EntityBusy"
                or self._failed_start == (_place_of(about), self.now())
                or self._casts.sessions.get(cast.to, -math.inf) >= cast.left
            )
        ):
            del self._casts.open[which]

    def _started(self, about: About) -> None:
        self._running.add((self.node_of(about), _place_of(about)))

    def _ended(self, about: About) -> None:
        place, reason = _place_of(about), about["reason"]
        entity = self.node_of(about), place
        if entity not in self._running:
            # The requests that wait for it end next, in the same step.
            self._failed_start = place, self.now()
        self._running.discard(entity)
        for each in self._mine(place):
            each.is_homeless = True
        if reason is not MOVED and not about["router"].may_run:
            self._excuse(place)

    def _handed_over(self, about: About) -> None:
        place = _place_of(about)
        for each in self._mine(place):
            each.to, each.left = about["to"], each.since
        # Each part may take as long as the router waits for its confirmation.
        parts = max(1, -(-about["bytes"] // handovers.PART))
        seconds = 2 * about["router"].settings.handover_timeout
        self._casts.handovers[self, place] = parts * seconds

    def _arrived(self, about: About) -> None:
        place, casts = _place_of(about), self._casts
        for key in [key for key in casts.handovers if key[1] == place]:
            del casts.handovers[key]
        for each in casts.open.values():
            if each.place == place and each.to is not None:
                each.since = self.now()

    def _failed(self, about: About) -> None:
        if about["delay"]:
            self._excuse(_place_of(about))

    def _lease_lost(self, about: About) -> None:
        self._node = self.node_of(about)
        self._excuse(None)

    def _session_opened(self, about: About) -> None:
        self._casts.sessions[self.node_of(about)] = self.now()

    def _messages_lost(self, _about: About) -> None:
        """Excuse the handovers from and to this node."""
        self._drop(lambda each: each.to is not None and self._concerns(each))

    def _mine(self, place: Place | None) -> list[_Cast]:
        return [
            each
            for each in self._casts.open.values()
            if each.holder is self and place in (None, each.place)
        ]

    def _concerns(self, cast: _Cast) -> bool:
        return cast.holder is self or (cast.to is not None and cast.to == self._node)

    def _excuse(self, place: Place | None) -> None:
        self._drop(lambda each: self._concerns(each) and place in (None, each.place))

    def _drop(self, is_excused: Callable[[_Cast], bool]) -> None:
        casts = self._casts
        casts.open = {key: each for key, each in casts.open.items() if not is_excused(each)}

    def disturbed(self, what: str, *, ongoing: bool) -> None:
        self._casts.disturbed = self.now()
        if ongoing or what not in {"node_started", "node_ended"}:
            self._drop(lambda each: each.to is not None)

    def paused(self, *, ongoing: bool) -> None:
        if ongoing:
            self._casts.paused[self] = None
        else:
            self._casts.paused.pop(self, None)
            self._casts.disturbed = self.now()

    def detach(self) -> None:
        casts = self._casts
        casts.paused.pop(self, None)
        for key in [key for key in casts.handovers if key[0] is self]:
            del casts.handovers[key]
        # A node that was killed has lost its mailboxes, and its processes remain. A node that ends in an orderly way
        # has moved its entities before.
        was_killed = bool(self.runtime.processes())
        self._drop(lambda each: self._concerns(each) and (was_killed or not each.is_homeless))

    def at_rest(self) -> str | None:
        casts = self._casts
        if not casts.open or (now := self.now()) < casts.next_look:
            return None
        casts.next_look = now + 1.0
        for each in casts.open.values():
            # Large handovers of a node leave one after another.
            on_their_way = (
                seconds for (holder, _), seconds in casts.handovers.items() if holder is each.holder
            )
            within = self._within + (0.0 if each.to is None else sum(on_their_way))
            is_late = now - max(each.since, casts.disturbed) > within
            if is_late and not any(other._concerns(each) for other in casts.paused):
                return (
                    f"{each.request!r} was acknowledged {now - each.since:.3g} s ago, and no callback of "
                    f"{_in_words(each.place)} has got it"
                )
        return None


# Monitors


@define(eq=False)
class _Processes:
    # The time of the last start or end of each key's process.
    changed: dict[Place, float] = field(factory=dict)
    # The processes that have run their `init`. No monitor watches a process that only tried to start.
    running: dict[Pid, None] = field(factory=dict)


_processes: trio.lowlevel.RunVar[_Processes] = trio.lowlevel.RunVar("processes of entities")


class EntityMonitorsFire(_EntityInvariant):
    """Each monitor of an entity fires once after the end of the process, and never again.

    Args:
        within: the seconds after the end of the process in which the monitor must fire.
    """

    name: ClassVar[str] = "entity_monitors_fire"
    events: ClassVar[Mapping[Event, str]] = {
        ENTITY_STARTED: "_started",
        ENTITY_ENDED: "_ended",
    }

    def __init__(self, within: float = 45.0) -> None:
        super().__init__()
        self._within = within
        self._active: dict[Ref, tuple[Pid, Place, float]] = {}
        self._fired: dict[Ref, None] = {}
        self._next_look = -math.inf

    def attach(self, runtime: Runtime, places: Places | None = None) -> None:
        super().attach(runtime, places)
        self._processes = _shared(_processes, _Processes)

    def _started(self, about: About) -> None:
        self._processes.running[about["pid"]] = None
        self._processes.changed[_place_of(about)] = self.now()

    def _ended(self, about: About) -> None:
        if self._processes.running.pop(about["pid"], self) is None:
            self._processes.changed[_place_of(about)] = self.now()

    def monitored(self, pid: Pid, ref: Ref, target: Pid | Address[Any] | None) -> None:
        if type(target) is EntityAddress:
            place = target.supervisor.name, target.key
            self._active[ref] = pid, place, self.now()

    def demonitored(self, pid: Pid, ref: Ref, flushed: bool) -> None:
        self._active.pop(ref, None)

    def down_sent(self, pid: Pid, ref: Ref) -> None:
        known = self._active.pop(ref, None)
        if known is not None:
            self._fired[ref] = None
        elif ref in self._fired:
            self.violated(f"{self.who(pid)} gets a second Down of one monitor of an entity")

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        for ref in [ref for ref, (owner, _, _) in self._active.items() if owner is pid]:
            del self._active[ref]

    def at_rest(self) -> str | None:
        if not self._active or (now := self.now()) < self._next_look:
            return None
        self._next_look = now + 1.0
        late: dict[Hashable, str] = {}
        for ref, (pid, place, since) in self._active.items():
            changed = self._processes.changed.get(place, since)
            if since + _LOCATED < changed and now - changed > self._within:
                late[ref] = (
                    f"{self.who(pid)} monitors {_in_words(place)} since {since:.3g} s. Its process had ended by "
                    f"{changed:.3g} s, and there was no Down"
                )
        return self.late_twice(late)


ENTITY_INVARIANTS: Final = (
    EntitiesRunOnce,
    EntityRequestsRunOnce,
    EntityCallsEnd,
    EntityCastsArrive,
    EntityMonitorsFire,
)
"""All invariants of entities."""
