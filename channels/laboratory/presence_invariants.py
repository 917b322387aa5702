"""Two invariants: all nodes show the same presences, and clients can compute them from their diffs.

Register them with a scenario: `@scenario(invariants=("all", PresencesAgree, PresenceDiffsFit))`.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeAlias

import msgspec
import trio
from attrs import define, field

from actors.exits import ExitReason
from actors.process import is_alive
from actors.refs import Pid
from actors.runtime import Runtime
from channels.connection.session_server import SessionServer
from channels.presence.presence import Presence
from channels.presence.tracker import Tracking
from channels.recording.watched_out import WatchedOut, text_of
from channels.telemetry import (
    PRESENCE_STARTED,
    PUBSUB_CONNECTED,
    PUBSUB_DISCONNECTED,
    PUBSUB_DROPPED,
    PUBSUB_LOST,
    SESSION_STARTED,
)
from supervision.laboratory.chaos.invariants.base import Invariant
from supervision.recording.places import Places

__all__ = ["PresenceDiffsFit", "PresencesAgree"]

Place: TypeAlias = tuple[str, str, str]
"""The name of a presence, a topic and a key."""

# Seconds between two comparisons of a node.
_INTERVAL = 0.2


@define(eq=False)
class _Member:
    """One presence of one node, and the calls that the application made on it."""

    presence: Presence
    node: str
    tracking: Tracking
    leave_grace: float
    down_period: float
    # The phx_ref of each presence that this node tracks, and whose process is alive.
    own: dict[tuple[str, str, Pid], str] = field(factory=dict)

    @property
    def name(self) -> str:
        return self.presence.name

    @property
    def is_running(self) -> bool:
        return bool(self.presence.statistics())

    def shown(self) -> dict[Place, Counter[str]]:
        """Return the presences that readers on this node see."""
        snapshots = self.tracking.roster.snapshots
        return {
            (self.name, topic, key): Counter(meta["phx_ref"] for meta in metas)
            for topic in snapshots.topics()
            for key, metas in snapshots.topic(topic).items()
        }


class _Book:
    """The common knowledge of all nodes of one run: the present users, and the time of the last disturbance."""

    def __init__(self) -> None:
        self.members: list[_Member] = []
        # The time of the latest change of each place.
        self.changed: dict[Place, float] = {}
        self.grace = 0.0
        self.down_period = 30.0
        self.disturbed_at = -math.inf
        self.is_ongoing = False
        # Connections of adapters that are down, by their node.
        self.lost_connections: dict[tuple[str, str], None] = {}
        # The times at which nodes ended in order.
        self._ends: deque[float] = deque(maxlen=20)

    @classmethod
    def open(cls) -> _Book:
        try:
            return _book.get()
        except LookupError:
            book = cls()
            _book.set(book)
            return book

    def disturb(self, now: float, *, loses: bool = False, for_down_period: bool = False) -> None:
        """Note a disturbance. Nodes need time to recover from it.

        Args:
            now: the time.
            loses: True if messages may have been lost.
            for_down_period: True if nodes notice the disturbance only after `down_period`.
        """
        at = now + self.down_period if for_down_period else now
        # The lost messages may include the goodbye of a node that ended shortly before.
        if loses and self._ends and now - self._ends[-1] < self.down_period:
            at = max(at, self._ends[-1] + self.down_period)
        self.disturbed_at = max(self.disturbed_at, at)

    def is_quiet(self, now: float, within: float) -> bool:
        """Return True if nothing has disturbed the nodes for a time."""
        return (
            not self.is_ongoing and not self.lost_connections and now - self.disturbed_at >= within
        )

    def change(self, member: _Member, topic: str, key: str, now: float) -> None:
        self.changed[member.name, topic, key] = now

    def leave(self, member: _Member, *, in_order: bool, now: float, within: float) -> None:
        """Note that a node has ended."""
        for topic, key, _ in member.own:
            self.change(member, topic, key, now)
        self.members.remove(member)
        # If a fault disturbed the nodes at that time, some of them may have missed the goodbye.
        is_heard = in_order and self.is_quiet(now, within)
        self._ends.append(now)
        self.disturb(now, for_down_period=not is_heard)

    def expected(self, name: str) -> dict[Place, Counter[str]]:
        """Return the present users that the presence `name` should show."""
        found: dict[Place, Counter[str]] = {}
        for member in self.members:
            if member.name == name and member.is_running:
                for (topic, key, _), ref in member.own.items():
                    found.setdefault((name, topic, key), Counter())[ref] += 1
        return found

    def problem(self, member: _Member, settled_at: float) -> str | None:
        """Return the first difference between a node and the present users. Ignore changes after `settled_at`."""
        if not member.is_running:
            return None
        expected, shown = self.expected(member.name), member.shown()
        for place in dict.fromkeys((*expected, *shown)):
            here, there = shown.get(place, Counter()), expected.get(place, Counter())
            if here == there or self.changed.get(place, -math.inf) > settled_at - self.grace:
                continue
            _, topic, key = place
            kind = "ghosts" if here > there else "missing ones" if here < there else "other ones"
            return (
                f"node {member.node} shows {sum(here.values())} presences of {key!r} in {topic!r} and there should be "
                f"{sum(there.values())}: there are {kind}, {dict(here)} instead of {dict(there)}"
            )
        return None


_book: trio.lowlevel.RunVar[_Book] = trio.lowlevel.RunVar("presences of all nodes")


class PresencesAgree(Invariant):
    """All nodes show the same presences: the presences of living processes, and no others.

    This must hold whenever the nodes were undisturbed for `within` seconds. Faults of a simulated world, and lost
    connections of adapters, disturb the nodes. Nodes need `down_period` longer to notice the crash of a node. The
    invariant compares only presences that have not changed for `within` and `leave_grace` seconds.

        @scenario(invariants=("all", partial(PresencesAgree, within=20.0)))

    Args:
        within: seconds that nodes need to exchange all changes. Use at least 7: if a node's request for changes is
            lost, it asks again after 5 seconds.

    The invariant knows all nodes of the same Trio run, and so every node of a simulated world.
    """

    name: ClassVar[str] = "presences_agree"

    def __init__(self, within: float = 10.0) -> None:
        super().__init__()
        self._within = within
        self._mine: dict[Tracking, _Member] = {}
        self._next_look = -math.inf
        self._was_closed = False

    def attach(self, runtime: Runtime, places: Places | None = None) -> None:
        super().attach(runtime, places)
        self._book = _Book.open()
        # No code detaches this handler, because the telemetry ends with the runtime.
        runtime.telemetry.attach(PRESENCE_STARTED, self._started)
        for event in (PUBSUB_CONNECTED, PUBSUB_DISCONNECTED, PUBSUB_DROPPED, PUBSUB_LOST):
            runtime.telemetry.attach(event, self._pubsub_happened)

    @staticmethod
    def problem() -> str | None:
        """Return the first difference between a node and the present users, or None.

        Unlike the invariant itself, this does not wait for nodes to recover from a fault. Call it at the end of a
        scenario, while the simulation still runs.

            await world.recovered("all nodes agree", lambda: PresencesAgree.problem() is None, within=30)

        """
        book = _Book.open()
        problems = (book.problem(member, math.inf) for member in book.members)
        return next((problem for problem in problems if problem is not None), None)

    # Applications

    def _started(self, _event: object, _measured: object, about: Mapping[str, Any]) -> None:
        tracking: Tracking = about["tracking"]
        if tracking in self._mine:
            return
        limits = about["limits"]
        node = tracking.roster.state.node
        member = _Member(about["presence"], node, tracking, limits.leave_grace, limits.down_period)
        self._mine[tracking] = member
        book = self._book
        book.members.append(member)
        book.grace = max(book.grace, limits.leave_grace)
        book.down_period = max(
            book.down_period if len(book.members) > 1 else 0.0, limits.down_period
        )
        book.disturb(self.now())
        self._follow(member)

    def _follow(self, member: _Member) -> None:
        """Note each presence that this node tracks and untracks."""
        roster: Any = member.tracking.roster
        track, update = roster.track, roster.update
        untrack, untrack_all = roster.untrack, roster.untrack_all

        def tracked(call: Callable[..., None]) -> Callable[..., None]:
            def note(owner: Pid, topic: str, key: str, meta: Mapping[str, Any]) -> None:
                call(owner, topic, key, meta)
                if is_alive(owner):
                    member.own[topic, key, owner] = meta["phx_ref"]
                self._book.change(member, topic, key, self.now())

            return note

        def note_untracked(owner: Pid, topic: str, key: str) -> None:
            self._gone(member, [(topic, key, owner)])
            untrack(owner, topic, key)

        def note_all_untracked(owner: Pid) -> None:
            self._gone(member, [each for each in member.own if each[2] == owner])
            untrack_all(owner)

        roster.track, roster.update = tracked(track), tracked(update)
        roster.untrack, roster.untrack_all = note_untracked, note_all_untracked

    def _gone(self, member: _Member, places: Iterable[tuple[str, str, Pid]]) -> None:
        for topic, key, owner in places:
            if member.own.pop((topic, key, owner), None) is not None:
                self._book.change(member, topic, key, self.now())

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        for member in self._mine.values():
            self._gone(member, [each for each in member.own if each[2] == pid])

    # Faults

    def _pubsub_happened(self, event: Any, _measured: object, about: Mapping[str, Any]) -> None:
        book = self._book
        connection = about["pubsub"].node_name, about.get("connection", "")
        if event == PUBSUB_DISCONNECTED:
            book.lost_connections[connection] = None
        elif event == PUBSUB_CONNECTED:
            book.lost_connections.pop(connection, None)
        book.disturb(self.now(), loses=event != PUBSUB_CONNECTED)

    def disturbed(self, what: str, *, ongoing: bool) -> None:
        book = self._book
        book.is_ongoing = ongoing
        if what != "node_ended":
            # `leave` has already noted the end of a runtime that ended in order.
            is_start, is_kill = what == "node_started", what == "node_killed"
            book.disturb(self.now(), loses=not is_start, for_down_period=is_kill)

    def detach(self) -> None:
        book = self._book
        for member in self._mine.values():
            in_order = not self.runtime.processes()
            book.leave(member, in_order=in_order, now=self.now(), within=self._within)
            for connection in [each for each in book.lost_connections if each[0] == member.node]:
                del book.lost_connections[connection]

    # The comparison

    def at_rest(self) -> str | None:
        now = self.now()
        if now < self._next_look:
            return None
        self._next_look = now + _INTERVAL
        if not self._book.is_quiet(now, self._within):
            return None
        for member in self._mine.values():
            problem = self._book.problem(member, now - self._within)
            if problem is not None:
                return problem
        return None


class PresenceDiffsFit(Invariant):
    """A client that follows `presence_state` and `presence_diff` has the same list as its server.

    This must hold whenever the server has no unsent diff. The invariant reads the V2 frames of each client, and applies
    them as phoenix.js does. It leaves out topics whose clients get only a count.
    """

    name: ClassVar[str] = "presence_diffs_fit"

    def __init__(self) -> None:
        super().__init__()
        self._clients: dict[Pid, _Client] = {}
        self._trackings: dict[Presence, Tracking] = {}
        self._next_look = -math.inf

    def attach(self, runtime: Runtime, places: Places | None = None) -> None:
        super().attach(runtime, places)
        # No code detaches this handler, because the telemetry ends with the runtime.
        runtime.telemetry.attach(SESSION_STARTED, self._session_started)
        runtime.telemetry.attach(PRESENCE_STARTED, self._presence_started)

    def _presence_started(
        self, _event: object, _measured: object, about: Mapping[str, Any]
    ) -> None:
        self._trackings[about["presence"]] = about["tracking"]

    def _session_started(self, _event: object, _measured: object, about: Mapping[str, Any]) -> None:
        server: SessionServer = about["server"]
        client = self._clients[about["pid"]] = _Client(server)
        server.out = server.link.out = WatchedOut(server.out, client.written)

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        self._clients.pop(pid, None)

    def at_rest(self) -> str | None:
        now = self.now()
        if now < self._next_look:
            return None
        self._next_look = now + _INTERVAL
        for pid, client in self._clients.items():
            for topic, membership in client.memberships.items():
                problem = self._problem(client, topic, membership)
                if problem is not None:
                    return f"{self.who(pid)}: {problem}"
        return None

    def _problem(self, client: _Client, topic: str, membership: _Membership) -> str | None:
        here = [
            presence
            for presence, tracking in self._trackings.items()
            if presence.statistics() and tracking.roster.snapshots.topic(topic)
        ]
        if membership.state is None or client.server.closing is not None or len(here) > 1:
            return None
        expected: dict[str, list[str]] = {}
        for presence, tracking in self._trackings.items():
            if topic in tracking.roster.diffs or topic in tracking.announcing:
                return None
            if membership.is_counted or presence.fetches:
                # The `fetch` of an application may leave out presences.
                return None
        for presence in here:
            snapshot = self._trackings[presence].roster.snapshots.topic(topic)
            for key, metas in snapshot.items():
                expected[key] = sorted(meta["phx_ref"] for meta in metas)
        known = {key: sorted(refs) for key, refs in membership.state.items()}
        if known == expected:
            return None
        for key in dict.fromkeys((*known, *expected)):
            if known.get(key) != expected.get(key):
                return (
                    f"its client knows {known.get(key)} of {key!r} in {topic!r}, and the server has "
                    f"{expected.get(key)}"
                )
        return None


@define(eq=False)
class _Membership:
    """The presences of a topic as a client knows them: the phx_refs of each key, or None before the first state."""

    state: dict[str, list[str]] | None = None
    is_counted: bool = False
    # Diffs that came before the state.
    waiting: list[Mapping[str, Any]] = field(factory=list)

    def sync(self, state: Mapping[str, Any]) -> None:
        self.state = {key: _refs(entry) for key, entry in state.items()}
        self.is_counted = False
        for diff in self.waiting:
            self.apply(diff)
        self.waiting = []

    def apply(self, diff: Mapping[str, Any]) -> None:
        if "count" in diff:
            self.is_counted = True
        if self.state is None:
            self.waiting.append(diff)
            return
        # As in phoenix.js, a joining key keeps its old metas that are not among the new ones. The new metas follow
        # them.
        for key, entry in diff["joins"].items():
            new = _refs(entry)
            self.state[key] = [ref for ref in self.state.get(key, ()) if ref not in new] + new
        for key, entry in diff["leaves"].items():
            gone = _refs(entry)
            left = [ref for ref in self.state.get(key, ()) if ref not in gone]
            if left:
                self.state[key] = left
            else:
                self.state.pop(key, None)


def _refs(entry: Mapping[str, Any]) -> list[str]:
    return [meta["phx_ref"] for meta in entry["metas"]]


@define(eq=False)
class _Client:
    """One client, and its topics."""

    server: SessionServer
    memberships: dict[str, _Membership] = field(factory=dict)

    def written(self, frame: bytes) -> None:
        """Note a frame for the client."""
        text = text_of(frame)
        if not text.startswith(b"[") or not any(event in text for event in _EVENTS):
            return
        try:
            join_ref, ref, topic, event, payload = msgspec.json.decode(text)
        except (msgspec.DecodeError, ValueError, TypeError):
            # The frame is compressed, or has another format.
            return
        if event == "phx_reply" and join_ref == ref and payload.get("status") == "ok":
            self.memberships.setdefault(topic, _Membership()).state = None
        elif event in ("phx_close", "phx_error"):
            self.memberships.pop(topic, None)
        elif event == "presence_state" and topic in self.memberships:
            self.memberships[topic].sync(payload)
        elif event == "presence_diff" and topic in self.memberships:
            self.memberships[topic].apply(payload)


_EVENTS = (b'"phx_reply"', b'"phx_close"', b'"phx_error"', b'"presence_')
