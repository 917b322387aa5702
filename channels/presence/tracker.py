"""The process that tracks: it watches owners, and exchanges presences with other nodes.

Nodes talk on one topic of PubSub. A message is the name of its sender and a value of `channels.presence.wire`.

- A node sends a heartbeat every `heartbeat` seconds, and its changes at once, but at most every `interval` seconds.
- A heartbeat carries the versions that its sender has. A node that lacks some asks for them, and gets them in pages.
- A node that stops says goodbye, with its last changes.

This follows `Phoenix.Tracker`, with two differences: changes do not wait for the next heartbeat, and only the node that
made a change sends it to all.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

import trio
from attrs import define, field, frozen

from actors.exits import ExitReason
from actors.instrumentation.telemetry import Event
from actors.links import monitor, trap_exits
from actors.messages import Down
from actors.process import current_pid, is_alive, send
from actors.refs import Pid, Ref
from actors.runtime import current_runtime
from actors.servers.gen_server import GenServer
from actors.timers import send_after
from channels.presence import wire
from channels.presence.clock import Clocks, new_incarnation, sources
from channels.presence.delta import Delta
from channels.presence.replica import Down as NodeDown
from channels.presence.replica import Refused, Up
from channels.presence.roster import Limits, Roster
from channels.presence.transfer import Assemblies, split
from channels.pubsub.pubsub import PubSub
from channels.telemetry import PRESENCE_GOSSIP_REFUSED, PRESENCE_NODE_DOWN, PRESENCE_NODE_UP

__all__ = ["Tracker", "Tracking"]

# A heartbeat with more changes than this goes out without them, and the others ask for pages.
_MAX_HEARTBEAT = 64 * 1024
_PAGE = 64 * 1024
_REMOVED_TAG = 16
# Seconds between two pages, so that a transfer leaves room for broadcasts.
_PACE = 0.01
# Pages that wait. A node whose request finds no room asks again.
_MAX_PAGES = 4_096
# Seconds after which a node asks again for changes that did not come.
_PATIENCE = 5.0


@define(eq=False)
class Tracking:
    """One running presence of one node: what its processes and its callers share.

    Attributes:
        pubsub: carries diffs to clients, and messages between nodes.
        topic: the topic of the messages between nodes.
        heartbeat: seconds between two heartbeats.
        interval: seconds between two messages with changes.
        execute: executes an event.
        roster: the presences.
        is_changed: set while there are diffs for clients.
        tracker: the process that tracks; None while it does not run.
        counts: the numbers of what has happened, for statistics.
    """

    pubsub: PubSub
    topic: str
    heartbeat: float
    interval: float
    execute: Callable[[Event, Mapping[str, Any], Mapping[str, Any]], None]
    roster: Roster
    is_changed: trio.Event = field(factory=trio.Event)
    tracker: Pid | None = None
    counts: Counter[str] = field(factory=Counter)
    _has_flush: bool = False

    @classmethod
    def begin(
        cls,
        pubsub: PubSub,
        name: str,
        limits: Limits,
        *,
        heartbeat: float,
        interval: float,
        execute: Callable[[Event, Mapping[str, Any], Mapping[str, Any]], None],
    ) -> Tracking:
        """Begin a new run of this node, with no presences."""
        runtime = current_runtime()
        incarnation = new_incarnation(runtime.now(), runtime.random.getrandbits(10))
        roster = Roster(pubsub.node_name, incarnation, limits)
        tracking = cls(pubsub, f"phx_presence:{name}", heartbeat, interval, execute, roster)
        roster.changed = tracking.note_change
        return tracking

    def watch(self, owner: Pid) -> None:
        """Remove the presences of an owner when it ends."""
        if self.tracker is not None:
            send(self.tracker, _Watch(owner))

    def note_change(self) -> None:
        """Wake the process that announces, and in time the one that tracks."""
        self.is_changed.set()
        if not self._has_flush and self.tracker is not None:
            self._has_flush = True
            send(self.tracker, _Flush())

    def flushed(self) -> None:
        """Note that the changes so far are on their way."""
        self._has_flush = False


@frozen
class _Watch:
    owner: Pid


@frozen
class _Beat:
    """It is time for a heartbeat."""


@frozen
class _Flush:
    """There are changes for other nodes."""


@frozen
class _Leave:
    """The grace of somebody is over."""


@frozen
class _Ask:
    """It is time to ask for what this node lacks."""


@frozen
class _SendPage:
    """It is time for the next page of a transfer."""


class Tracker(GenServer[None]):
    """The process that tracks for one node."""

    async def init(self, tracking: Tracking) -> None:
        trap_exits()
        self.tracking = tracking
        self.roster = tracking.roster
        self.watched: dict[Ref, Pid] = {}
        self.monitors: dict[Pid, Ref] = {}
        self.assemblies = Assemblies()
        self.pages: deque[tuple[str, wire.Transfer]] = deque()
        # The versions that other nodes have said they have, and whom this node has asked when.
        self.offers: dict[str, Clocks] = {}
        self.asked: dict[str, float] = {}
        self.is_asking = False
        self.flushed_at = -float("inf")
        self.leave_at: float | None = None
        tracking.tracker = current_pid()
        # After a restart, the presences are those from before.
        for owner in self.roster.state.owners():
            if isinstance(owner, Pid):
                self._watch(owner)
        if not tracking.pubsub.is_local:
            tracking.pubsub.subscribe(tracking.topic)
            self._beat()
        send_after(current_pid(), _Beat(), self._first_beat())
        tracking.flushed()
        tracking.note_change()

    def _first_beat(self) -> float:
        # Nodes that start together do not beat together.
        return current_runtime().random.uniform(0.0, self.tracking.heartbeat)

    async def handle_info(self, message: Any) -> None:
        now = trio.current_time()
        kind = type(message)
        if kind is list:
            self._receive(message, now)
        elif kind is _Watch:
            self._watch(message.owner)
        elif kind is Down:
            owner = self.watched.pop(message.ref, None)
            if owner is not None:
                del self.monitors[owner]
                self.roster.owner_ended(owner, now)
        elif kind is _Flush:
            self._flush_in_time(now)
        elif kind is _Beat:
            send_after(current_pid(), _Beat(), self.tracking.heartbeat)
            self._pass_time(now)
            if not self.tracking.pubsub.is_local:
                self._beat()
        elif kind is _Leave:
            self.leave_at = None
            self._pass_time(now)
        elif kind is _Ask:
            self._ask(now)
        elif kind is _SendPage:
            self._send_page()
        self._plan_leave(now)

    async def terminate(self, reason: ExitReason) -> None:
        now = trio.current_time()
        for owner in self.monitors:
            # Their `Down` messages may still be in the mailbox.
            if not is_alive(owner):
                self.roster.owner_ended(owner, now)
        self.tracking.tracker = None
        if not self.tracking.pubsub.is_local:
            delta = self._delta()
            self._say(wire.Goodbye(incarnation=self.roster.state.incarnation, delta=delta))

    # Owners

    def _watch(self, owner: Pid) -> None:
        if owner not in self.monitors:
            ref = self.monitors[owner] = monitor(owner)
            self.watched[ref] = owner

    def _pass_time(self, now: float) -> None:
        for change in self.roster.pass_time(now):
            self.assemblies.forget(change.name)
            self.offers.pop(change.name, None)
            reason = "silent" if isinstance(change, NodeDown) else "forgotten"
            self._node_down(change.name, change.incarnation, reason)

    def _plan_leave(self, now: float) -> None:
        due = self.roster.next_leave()
        if due is not None and (self.leave_at is None or due < self.leave_at):
            self.leave_at = due
            send_after(current_pid(), _Leave(), max(0.0, due - now))

    # To other nodes

    def _say(self, message: wire.Message, to: str | None = None) -> None:
        pubsub, topic = self.tracking.pubsub, self.tracking.topic
        value = [self.roster.state.node, wire.encode_message(message)]
        if to is None:
            pubsub.broadcast(topic, value, sender=current_pid())
        else:
            pubsub.direct_broadcast(to, topic, value)

    def _beat(self) -> None:
        state = self.roster.state
        delta = self._delta()
        self._say(wire.Heartbeat(incarnation=state.incarnation, clocks=state.clocks(), delta=delta))

    def _delta(self) -> Delta:
        """Return the changes since the last message; none if they are too large for one."""
        delta = self.roster.state.flush()
        size = sum(
            len(segment.removed) * _REMOVED_TAG
            + sum(map(wire.entry_bytes, segment.entries.values()))
            for segment in delta.values()
        )
        return delta if size <= _MAX_HEARTBEAT else {}

    def _flush_in_time(self, now: float) -> None:
        wait = self.flushed_at + self.tracking.interval - now
        if wait > 0:
            send_after(current_pid(), _Flush(), wait)
            return
        self.flushed_at = now
        self.tracking.flushed()
        if self.tracking.pubsub.is_local:
            self.roster.state.flush()
        elif self.roster.state.has_changes():
            self._beat()

    def _ask(self, now: float) -> None:
        """Ask a few nodes for everything that this node lacks."""
        self.is_asking = False
        state = self.roster.state
        offers = {
            name: clocks
            for name, clocks in self.offers.items()
            if now - self.asked.get(name, -float("inf")) >= _PATIENCE
        }
        self.offers = {}
        names = list(offers)
        # Not always the same one: nodes that start together do not all ask the first.
        current_runtime().random.shuffle(names)
        for name in sources(state.clocks(), {name: offers[name] for name in names}):
            self.asked[name] = now
            ref = f"{current_runtime().random.getrandbits(64):016x}"
            self.tracking.counts["transfers"] += 1
            self._say(wire.TransferRequest(ref=ref, clocks=state.clocks()), to=name)

    def _send_page(self) -> None:
        name, page = self.pages.popleft()
        self._say(page, to=name)
        if self.pages:
            send_after(current_pid(), _SendPage(), _PACE)

    # From other nodes

    def _receive(self, message: list[Any], now: float) -> None:
        name = message[0] if len(message) == 2 and isinstance(message[0], str) else ""
        try:
            if not name:
                raise wire.InvalidGossip("it names no sender")
            gossip = wire.decode_message(message[1])
        except wire.InvalidGossip as error:
            self._refuse(name, error.problem)
            return
        if name == self.roster.state.node and not isinstance(gossip, wire.Heartbeat):
            return
        if isinstance(gossip, wire.Heartbeat):
            self._hear(name, gossip, now)
        elif isinstance(gossip, wire.TransferRequest):
            self._answer(name, gossip)
        elif isinstance(gossip, wire.Transfer):
            whole = self.assemblies.add(name, gossip.ref, gossip.index, gossip.count, gossip.page)
            if whole is not None:
                self.asked.pop(name, None)
                self.roster.merge(whole)
        elif self.roster.replicas.incarnation_of(name) == gossip.incarnation:
            self.roster.merge(gossip.delta)
            self.roster.said_goodbye(name, gossip.incarnation, now)
            self.assemblies.forget(name)
            self.offers.pop(name, None)
            self._node_down(name, gossip.incarnation, "goodbye")

    def _hear(self, name: str, beat: wire.Heartbeat, now: float) -> None:
        change = self.roster.heard(name, beat.incarnation, now)
        if isinstance(change, Refused):
            self._refuse(name, f"its incarnation {beat.incarnation} is refused: {change.reason}")
            return
        if isinstance(change, Up):
            self.assemblies.forget(name)
            about = {"node": name, "incarnation": change.incarnation}
            self.tracking.execute(PRESENCE_NODE_UP, {}, about)
            # A new node learns at once who is there.
            self._flush_now(now)
        self.roster.merge(beat.delta)
        state = self.roster.state
        if state.is_superseded(beat.clocks):
            # The clock of this machine was set back since the last run of this node.
            incarnation = beat.clocks[state.node].incarnation + 1
            state.renew(incarnation)
            self.roster.replicas.renew(incarnation)
            self._beat()
        if sources(state.clocks(), {name: beat.clocks}):
            self.offers[name] = beat.clocks
            if not self.is_asking:
                self.is_asking = True
                # A moment later, so that the offers of several nodes can be compared.
                send_after(current_pid(), _Ask(), current_runtime().random.uniform(0.02, 0.1))

    def _flush_now(self, now: float) -> None:
        self.flushed_at = now
        self.tracking.flushed()
        self._beat()

    def _answer(self, name: str, request: wire.TransferRequest) -> None:
        if self.roster.replicas.incarnation_of(name) is None:
            return
        delta = self.roster.state.extract(request.clocks)
        pages = split(delta, _PAGE, weight=wire.entry_bytes, tag_weight=_REMOVED_TAG)
        if len(self.pages) + len(pages) > _MAX_PAGES or len(pages) > wire.MAX_PAGES:
            self.tracking.counts["transfers_refused"] += 1
            return
        idle = not self.pages
        self.pages += (
            (name, wire.Transfer(ref=request.ref, index=index, count=len(pages), page=page))
            for index, page in enumerate(pages)
        )
        if idle:
            self._send_page()

    # Events

    def _refuse(self, name: str, problem: str) -> None:
        self.tracking.counts["refused"] += 1
        self.tracking.execute(PRESENCE_GOSSIP_REFUSED, {}, {"node": name, "problem": problem})

    def _node_down(self, name: str, incarnation: int, reason: str) -> None:
        about = {"node": name, "incarnation": incarnation, "reason": reason}
        self.tracking.execute(PRESENCE_NODE_DOWN, {}, about)
