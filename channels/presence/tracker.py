"""The tracker process of a node: it ends presences whose grace is over, and exchanges presences with other nodes.

Nodes talk on one topic of PubSub. A message contains the name of its sender and a value of `channels.presence.wire`.

- A node sends a heartbeat every `heartbeat` seconds, and its changes at once, but at most twice in `interval` seconds.
- A heartbeat carries the versions that its sender has. A node that lacks a version asks for it, and gets it in pages.
- A node that stops says goodbye, with its last changes.
- If the process ends, the roster stays. The next process continues with it, and clients see no difference.

The presences of a process leave in the step in which the process ends, without the tracker. So when other processes
learn of the end, readers no longer see these presences. For example, a channel that replaces another channel of its
client tells the client nothing of the replaced one. Phoenix keeps this order because its `track` is a call to the
tracker, which learns of the end before the call.

Source: `Phoenix.Tracker`, with two differences: changes do not wait for the next heartbeat, and only the node that
made a change sends it to all.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

import trio
from attrs import define, field, frozen

from actors.exits import ExitReason, is_normal_exit
from actors.instrumentation.telemetry import Event
from actors.links import trap_exits, wait_exit
from actors.process import current_pid, is_alive, on_exit, send
from actors.refs import Pid
from actors.runtime import current_runtime
from actors.servers.gen_server import GenServer
from actors.timers import send_after
from channels.presence import wire
from channels.presence.clock import Clocks, Version, new_incarnation, sources
from channels.presence.delta import Delta
from channels.presence.refs import RefClock
from channels.presence.replica import Down as NodeDown
from channels.presence.replica import Refused, Up
from channels.presence.roster import Counting, Limits, Roster
from channels.presence.transfer import Assemblies, split
from channels.pubsub.envelope import MessageTooLarge
from channels.pubsub.pubsub import PubSub
from channels.telemetry import (
    PRESENCE_GOSSIP_REFUSED,
    PRESENCE_NODE_DOWN,
    PRESENCE_NODE_UP,
    PRESENCE_NOT_SENT,
)
from channels.topics import INTERNAL

__all__ = ["PAGE", "Tracker", "Tracking", "gossip_topic"]

# Bytes of changes in one message. With more changes, a heartbeat goes out without them, and the other nodes ask for
# pages.
PAGE = 64 * 1024
_REMOVED_TAG = 16
# Seconds between two pages, so that a transfer leaves room for broadcasts.
_PACE = 0.01
# The most pages that wait. A node whose request finds no room asks again.
_MAX_PAGES = 4_096
# Seconds without a page after which a node asks again for changes.
_PATIENCE = 5.0


@define(eq=False)
class Tracking:
    """One running presence of one node: the common data of its processes and callers.

    Attributes:
        pubsub: carries diffs to clients, and messages between nodes.
        topic: the topic of the messages between nodes.
        heartbeat: seconds between two heartbeats.
        interval: seconds between two diffs for clients, and between every second message with changes.
        execute: emits an event.
        roster: the presences.
        refs: the source of the refs of this run. It begins with the run, because a simulated run has a time of its own.
        is_changed: set while there are diffs for clients.
        tracker: the present or latest tracker process.
        announcer: the present or latest announcer process.
        has_parted: True if this node has told the other nodes that it stops.
        announcing: the topics with an unfinished announcement. They stay if the announcer ends meanwhile.
        metas_state: the state of the application's `handle_metas`.
        counts: the counters for `Presence.statistics`.
    """

    pubsub: PubSub
    topic: str
    heartbeat: float
    interval: float
    execute: Callable[[Event, Mapping[str, Any], Mapping[str, Any]], None]
    roster: Roster
    refs: RefClock = field(factory=RefClock)
    is_changed: trio.Event = field(factory=trio.Event)
    tracker: Pid | None = None
    announcer: Pid | None = None
    has_parted: bool = False
    announcing: dict[str, None] = field(factory=dict)
    metas_state: Any = None
    counts: Counter[str] = field(factory=Counter)
    _has_flush: bool = False
    # The living processes that have had presences.
    _owners: dict[Pid, None] = field(factory=dict)

    @classmethod
    def begin(
        cls,
        pubsub: PubSub,
        name: str,
        limits: Limits,
        *,
        counting: Counting,
        heartbeat: float,
        interval: float,
        execute: Callable[[Event, Mapping[str, Any], Mapping[str, Any]], None],
    ) -> Tracking:
        """Begin a new run of this node, with no presences."""
        roster = Roster(pubsub.node_name, _incarnation(), limits, counting)
        tracking = cls(pubsub, gossip_topic(name), heartbeat, interval, execute, roster)
        roster.changed = tracking.note_change
        return tracking

    async def wait_ended(self) -> None:
        """Wait until the processes of an earlier supervisor have ended. They are already stopping."""
        for pid in (self.tracker, self.announcer):
            if pid is not None:
                await wait_exit(pid)

    def watch(self, owner: Pid) -> None:
        """Remove the presences of an owner when it ends, before other processes learn of the end."""
        if not is_alive(owner):
            self._owner_ended(owner)
        elif owner not in self._owners:
            on_exit(partial(self._owner_ended, owner), pid=owner)
            self._owners[owner] = None

    def _owner_ended(self, owner: Pid) -> None:
        self._owners.pop(owner, None)
        self.roster.owner_ended(owner, trio.current_time())
        if self.roster.next_leave() is not None:
            self._tell(_Lingering())

    def _tell(self, message: _Lingering | _Flush) -> None:
        # Between two trackers, nobody listens. The next one looks at the roster when it starts.
        if self.tracker is not None and is_alive(self.tracker):
            send(self.tracker, message)

    def note_change(self) -> None:
        """Wake the announcer, and tell the tracker that it has changes to send."""
        self.is_changed.set()
        if not self._has_flush and not self.pubsub.is_local:
            self._has_flush = True
            self._tell(_Flush())

    def flushed(self) -> None:
        """Let the next change wake the tracker again, because it is sending the changes so far."""
        self._has_flush = False


def gossip_topic(name: str) -> str:
    """Return the topic of the messages between nodes about one presence."""
    return f"{INTERNAL}presence:{name}"


def _incarnation(after: int = 0) -> int:
    runtime = current_runtime()
    return new_incarnation(runtime.now(), runtime.random.getrandbits(10), after=after)


@frozen
class _Lingering:
    """A presence has begun to linger for its `leave_grace`."""


@frozen
class _Beat:
    """It is time for a heartbeat."""


@frozen
class _Flush:
    """There are changes for other nodes."""


@frozen
class _Leave:
    """The `leave_grace` of a presence is over."""


@frozen
class _Ask:
    """It is time to ask for what this node lacks."""


@frozen
class _SendPage:
    """It is time for the next page of a transfer."""


class Tracker(GenServer[None]):
    """The process that ends presences whose grace is over, and exchanges presences with other nodes."""

    async def init(self, tracking: Tracking) -> None:
        trap_exits()
        self.tracking = tracking
        self.roster = tracking.roster
        self.assemblies = Assemblies()
        self.pages: deque[tuple[str, wire.Transfer]] = deque()
        # The versions that other nodes announced, and the times of this node's requests.
        self.offers: dict[str, Clocks] = {}
        self.asked: dict[str, float] = {}
        self.is_asking = self.is_sending = False
        self.flushed_at = -math.inf
        self.leave_at: float | None = None
        # The time of the last message from another node that has the name of this node.
        self.namesake_at = -math.inf
        if tracking.has_parted:
            # Other nodes would refuse the old incarnation, because it has said goodbye.
            self._renew(_incarnation(after=self.roster.state.incarnation))
        tracking.pubsub.subscribe(tracking.topic)
        tracking.tracker = current_pid()
        tracking.flushed()
        if not tracking.pubsub.is_local:
            self._beat()
        send_after(current_pid(), _Beat(), self._first_beat())
        self._plan_leave(trio.current_time())
        # The last tracker may have ended in the middle.
        await self._show_all()

    async def _show_all(self) -> None:
        """Show readers the changes of other nodes, in steps between which other processes run."""
        while self.roster.unseen:
            await trio.lowlevel.checkpoint()
            self.roster.show_more()
            self.tracking.counts["slices"] += 1

    def _renew(self, incarnation: int) -> None:
        self.roster.renew(incarnation)
        self.tracking.has_parted = False

    def _first_beat(self) -> float:
        # A random delay, so that nodes that start together do not send their heartbeats together.
        return current_runtime().random.uniform(0.0, self.tracking.heartbeat)

    async def handle_info(self, message: Any) -> None:
        now = trio.current_time()
        kind = type(message)
        if kind is _Lingering:
            pass  # `_plan_leave` does the work
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
        else:
            await self._receive(message, now)
        await self._show_all()
        self._plan_leave(now)

    async def terminate(self, reason: ExitReason) -> None:
        if not is_normal_exit(reason):
            # The supervisor starts the next one, which goes on with the same presences.
            return
        if not self.tracking.pubsub.is_local:
            self.tracking.has_parted = True
            self._part()

    def _part(self) -> None:
        delta = self.roster.state.flush()
        pages = list(self._split(delta))
        if len(pages) > 1:
            # Send all pages now: this node stops, so no node can ask for them later.
            ref = self._new_ref()
            for index, page in enumerate(pages):
                self._say(wire.Transfer(ref=ref, index=index, count=len(pages), page=page))
            delta = {}
        self._say(wire.Goodbye(incarnation=self.roster.state.incarnation, delta=delta))

    # Time

    def _pass_time(self, now: float) -> None:
        for change in self.roster.pass_time(now):
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
        try:
            if to is None:
                pubsub.broadcast(topic, value, sender=current_pid())
            else:
                pubsub.direct_broadcast(to, topic, value)
        except MessageTooLarge as error:
            # The limit of the adapter is below the size of a page. Other nodes do not get the presences of this node.
            self.tracking.counts["not_sent"] += 1
            self.tracking.execute(PRESENCE_NOT_SENT, {"bytes": error.size}, {"error": error})

    def _beat(self) -> None:
        state = self.roster.state
        delta = state.flush()
        if len(list(islice(self._split(delta), 2))) > 1:
            delta = {}
        self._say(wire.Heartbeat(incarnation=state.incarnation, clocks=state.clocks(), delta=delta))

    def _split(self, delta: Delta) -> Iterator[Delta]:
        return split(delta, PAGE, weight=wire.entry_bytes, tag_weight=_REMOVED_TAG)

    def _new_ref(self) -> str:
        return f"{current_runtime().random.getrandbits(64):016x}"

    def _flush_in_time(self, now: float) -> None:
        # Half, because the announcers of the other nodes wait for up to an interval too.
        wait = self.flushed_at + self.tracking.interval / 2 - now
        if wait > 0:
            send_after(current_pid(), _Flush(), wait)
            return
        self.flushed_at = now
        self.tracking.flushed()
        if self.roster.state.has_changes():
            self._beat()

    def _ask(self, now: float) -> None:
        """Ask a few nodes for everything that this node lacks."""
        self.is_asking = False
        state = self.roster.state
        offers = {
            name: clocks
            for name, clocks in self.offers.items()
            if now - self.asked.get(name, -math.inf) >= _PATIENCE
        }
        self.offers = {}
        names = list(offers)
        # Shuffle, so that nodes that start together do not all ask the same node.
        current_runtime().random.shuffle(names)
        for name in sources(state.clocks(), {name: offers[name] for name in names}):
            self.asked[name] = now
            self.tracking.counts["transfers"] += 1
            self._say(wire.TransferRequest(ref=self._new_ref(), clocks=state.clocks()), to=name)

    def _send_page(self) -> None:
        if self.pages:
            name, page = self.pages.popleft()
            self._say(page, to=name)
            send_after(current_pid(), _SendPage(), _PACE)
        else:
            self.is_sending = False

    def _drop_pages(self, name: str) -> None:
        """Send no more pages to a node: it is gone, or it asks again."""
        if any(to == name for to, _ in self.pages):
            self.pages = deque(each for each in self.pages if each[0] != name)

    # From other nodes

    async def _receive(self, message: Any, now: float) -> None:
        is_pair = isinstance(message, list) and len(message) == 2 and isinstance(message[0], str)
        name = message[0] if is_pair else ""
        try:
            if not name:
                raise wire.InvalidGossip("it names no sender")
            gossip = wire.decode_message(message[1])
        except wire.InvalidGossip as error:
            self._refuse(name, error.problem)
            return
        if isinstance(gossip, wire.Heartbeat):
            self._hear(name, gossip, now)
        elif isinstance(gossip, wire.TransferRequest):
            await self._answer(name, gossip)
        elif isinstance(gossip, wire.Transfer):
            self._assemble(name, gossip, now)
        else:
            await self._part_with(name, gossip, now)

    def _assemble(self, name: str, transfer: wire.Transfer, now: float) -> None:
        if self.roster.replicas.incarnation_of(name) is None:
            return
        self.asked[name] = now
        whole = self.assemblies.add(
            name, transfer.ref, transfer.index, transfer.count, transfer.page
        )
        if whole is not None:
            del self.asked[name]
            self.roster.merge(whole)

    async def _part_with(self, name: str, goodbye: wire.Goodbye, now: float) -> None:
        if self.roster.replicas.incarnation_of(name) == goodbye.incarnation:
            self.roster.merge(goodbye.delta)
            await self._show_all()
            self.roster.said_goodbye(name, goodbye.incarnation, now)
            self._node_down(name, goodbye.incarnation, "goodbye")

    def _hear(self, name: str, beat: wire.Heartbeat, now: float) -> None:
        change = self.roster.heard(name, beat.incarnation, now)
        if isinstance(change, Refused):
            self._refuse(name, f"its incarnation {beat.incarnation} is refused: {change.reason}")
            self._explain(name, change, now)
            return
        if isinstance(change, Up):
            self.assemblies.forget(name)
            about = {"node": name, "incarnation": change.incarnation}
            self.tracking.execute(PRESENCE_NODE_UP, {}, about)
            # Send the changes at once, so that a new node learns the presences without delay.
            self._flush_now(now)
        self.roster.merge(beat.delta)
        state = self.roster.state
        if state.is_superseded(beat.clocks) and not self._has_namesake(now):
            # The clock of this machine was set back since the last run of this node.
            self._renew(beat.clocks[state.node].incarnation + 1)
            self._beat()
        if sources(state.clocks(), {name: beat.clocks}):
            self.offers[name] = beat.clocks
            if not self.is_asking:
                self.is_asking = True
                # Ask a moment later, when the offers of several nodes have arrived.
                send_after(current_pid(), _Ask(), current_runtime().random.uniform(0.02, 0.1))

    def _explain(self, name: str, refused: Refused, now: float) -> None:
        """Tell a node which of its incarnations is known, so that it can begin a newer one."""
        state, newest = self.roster.state, self.roster.replicas.newest(name)
        if name == state.node:
            self.namesake_at = now
        elif newest is not None and newest > refused.incarnation:
            clocks = {**state.clocks(), name: Version(newest, 0)}
            self._say(wire.Heartbeat(incarnation=state.incarnation, clocks=clocks), to=name)

    def _has_namesake(self, now: float) -> bool:
        # Two running nodes with one name would take ever newer incarnations. So a node with a namesake takes no new
        # one.
        return now - self.namesake_at < 2 * self.tracking.heartbeat

    def _flush_now(self, now: float) -> None:
        self.flushed_at = now
        self.tracking.flushed()
        self._beat()

    async def _answer(self, name: str, request: wire.TransferRequest) -> None:
        # Answer unknown nodes too: the request of a node may arrive before its next heartbeat.
        # A node asks again only if the pages of its last request did not come.
        self._drop_pages(name)
        pages: list[Delta] = []
        for page in self._split(self.roster.state.extract(request.clocks)):
            pages.append(page)
            await trio.lowlevel.checkpoint()
        if len(self.pages) + len(pages) > _MAX_PAGES:
            self.tracking.counts["transfers_refused"] += 1
            self._refuse(name, f"there is no room for the {len(pages)} pages that it asks for")
            return
        self.pages += (
            (name, wire.Transfer(ref=request.ref, index=index, count=len(pages), page=page))
            for index, page in enumerate(pages)
        )
        if not self.is_sending:
            self.is_sending = True
            self._send_page()

    # Events

    def _refuse(self, name: str, problem: str) -> None:
        self.tracking.counts["refused"] += 1
        self.tracking.execute(PRESENCE_GOSSIP_REFUSED, {}, {"node": name, "problem": problem})

    def _node_down(self, name: str, incarnation: int, reason: str) -> None:
        self.assemblies.forget(name)
        self.offers.pop(name, None)
        self.asked.pop(name, None)
        self._drop_pages(name)
        about = {"node": name, "incarnation": incarnation, "reason": reason}
        self.tracking.execute(PRESENCE_NODE_DOWN, {}, about)
