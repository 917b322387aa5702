"""Everybody who is present, as one node knows it: the presence set, the nodes, the snapshots and the pending diffs.

*pure*. A `Roster` holds the parts that must change together. Each change updates the snapshots at once, so a reader
sees it in the same turn, and adds to the diffs that clients have yet to get. Times are seconds of one clock that never
goes back.

With a `leave_grace`, presences whose owner has ended, or whose node has stopped, stay for that time: they *linger*.
If the same key joins again in that time, the old presence leaves in the same diff, and clients see an update instead of
a leave.

Other nodes can bring or take thousands of presences at once. The set takes them in one step, but readers see them in
slices: call `show_more` while there is something `unseen`, before the next change of another node. This node's own
changes may come in between.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence

from attrs import define, field, frozen

from actors.declared import declared
from channels.errors import ChannelsError
from channels.presence.delta import Delta, Entry, Meta
from channels.presence.diff import SLICE, Diff, DiffBuffer, slices
from channels.presence.generations import DEFAULT_MAX_SIZES
from channels.presence.replica import (
    DOWN_PERIOD,
    PERMDOWN_PERIOD,
    Down,
    Refused,
    Removed,
    Replicas,
    Up,
)
from channels.presence.snapshot import Snapshots
from channels.presence.state import State

__all__ = ["Counting", "Limits", "Roster", "TooManyCalls"]


@declared(
    "{caller!b} tracks and updates presences more than {rate:g} times a second; do it less often, or "
    "raise max_calls_per_second of the Presence"
)
class TooManyCalls(ChannelsError):
    """A client, or another process, changes its presences too often. Nothing has changed.

    Attributes:
        caller: the process of the client's connection, or the process that is tracked.
        rate: the limit, in calls per second.
    """

    caller: Hashable
    rate: float


@frozen(kw_only=True)
class Limits:
    """The times and sizes of a roster. See `Presence`."""

    leave_grace: float = 0.0
    max_calls_per_second: float = 100.0
    down_period: float = DOWN_PERIOD
    permdown_period: float = PERMDOWN_PERIOD
    max_delta_sizes: Sequence[int] = DEFAULT_MAX_SIZES
    slice_size: int | None = None


@define
class _Bucket:
    """The calls that a caller may make now."""

    calls: float
    filled_at: float

    def fill(self, rate: float, now: float) -> None:
        """Add the calls for the time since the last `fill`, up to the calls of one second."""
        self.calls = min(rate, self.calls + (now - self.filled_at) * rate)
        self.filled_at = now


# A topic that is counted because of its size is listed again below this fraction of the limit. So a topic at the limit
# does not change with every join.
_LISTED_BELOW = 0.75


@define
class Counting:
    """The choice, for each topic, between a list of its members and a count.

    Args:
        is_counted: returns True for a topic that is always counted.
        counted_from: the number of keys from which a topic is counted; None for no number.

    All clients must have the same view. So if a topic changes from a list to a count, or back, its next announcement is
    complete. The same holds if some clients have a list and others a count.
    """

    is_counted: Callable[[str], bool] = lambda _: False
    counted_from: int | None = None
    # Topics that are counted because of their size.
    _large: set[str] = field(factory=set)
    # True: all clients know a count. None: clients may know different things. Missing: all know the list.
    _known: dict[str, bool | None] = field(factory=dict)

    def __len__(self) -> int:
        """The number of topics that are counted, or of which clients may know different things."""
        return len(self._known.keys() | self._large)

    def read(self, topic: str, size: int) -> bool:
        """Return True if a client that asks now gets a count instead of a list.

        Args:
            topic: the topic.
            size: its number of keys now.
        """
        counted = self._decide(topic, size)
        # For an empty topic, the list and the count are the same.
        if size and counted is not self._known.get(topic, False):
            self._known[topic] = None
        return counted

    def announce(self, topic: str, size: int) -> tuple[bool, bool]:
        """Note that all clients get the next announcement of a topic.

        Returns:
            Two flags. The first is True if the announcement has a count instead of a list. The second is True if it
            must be complete, not only the changes.
        """
        counted = self._decide(topic, size)
        is_whole = self._known.pop(topic, False) is not counted
        if counted and size:
            self._known[topic] = True
        return counted, is_whole

    def missed(self, topic: str) -> None:
        """Note that clients did not get an announcement. The next announcement is complete."""
        self._known[topic] = None

    def forget(self, topic: str) -> None:
        """Note that a topic has no clients on this node."""
        self._known.pop(topic, None)
        self._large.discard(topic)

    def _decide(self, topic: str, size: int) -> bool:
        limit = self.counted_from
        if limit is not None:
            if size >= limit:
                self._large.add(topic)
            elif size < limit * _LISTED_BELOW or not size:
                self._large.discard(topic)
        return topic in self._large or bool(self.is_counted(topic))


class Roster:
    """The presences of all nodes, and the changes that this node makes.

    Args:
        node: the name of this node.
        incarnation: the run of this node.
        limits: its times and sizes.
        counting: the choice of counted topics; by default none.

    Attributes:
        state: the presence set.
        replicas: the other nodes.
        snapshots: the members of each topic, for readers.
        diffs: the changes that clients have yet to get.
        counting: the choice of counted topics.
        changed: called after each change of a presence, once it is visible.
    """

    def __init__(
        self, node: str, incarnation: int, limits: Limits, counting: Counting | None = None
    ) -> None:
        self.state = State(node, incarnation, max_delta_sizes=limits.max_delta_sizes)
        self.replicas = Replicas(
            node,
            incarnation,
            down_period=limits.down_period,
            permdown_period=limits.permdown_period,
        )
        self.snapshots = Snapshots()
        self.diffs = DiffBuffer()
        # The changes of other nodes that readers do not see yet. They stay here if the tracker ends.
        self._unseen: deque[Iterator[Diff]] = deque()
        self.counting = Counting() if counting is None else counting
        self._limits = limits
        self.changed: Callable[[], None] = lambda: None
        self._buckets: dict[Hashable, _Bucket] = {}
        # Presences of ended owners of this node, which are still in the set, with the times when they leave.
        self._orphans: deque[tuple[float, Entry]] = deque()
        # Presences of other nodes that have left the set, and are still in the snapshots.
        self._late: deque[tuple[float, Entry]] = deque()
        # The presences of both deques, by topic and key.
        self._lingering: dict[tuple[str, str], dict[Entry, bool]] = {}

    # This node's own presences

    def count_call(self, caller: Hashable, now: float) -> None:
        """Count a call of a client, or of another process, before it changes anything.

        Raises:
            TooManyCalls: see `Limits.max_calls_per_second`.
        """
        rate = self._limits.max_calls_per_second
        if rate == math.inf:
            return
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(rate, now)
        bucket.fill(rate, now)
        if bucket.calls < 1.0:
            raise TooManyCalls(caller, rate)
        bucket.calls -= 1.0

    def track(self, owner: Hashable, topic: str, key: str, meta: Meta) -> None:
        """Add a presence.

        Raises:
            AlreadyTracked: the owner tracks this key of this topic already.
        """
        self._apply(self.state.join(topic, key, meta, owner=owner))

    def update(self, owner: Hashable, topic: str, key: str, meta: Meta) -> None:
        """Replace the data of a presence.

        Raises:
            NotTracked: the owner does not track this key of this topic.
        """
        self._apply(self.state.update(topic, key, meta, owner=owner))

    def untrack(self, owner: Hashable, topic: str, key: str) -> None:
        """Remove a presence at once, if it is there."""
        self._apply(self.state.leave(topic, key, owner=owner))

    def untrack_all(self, owner: Hashable) -> None:
        """Remove every presence of an owner at once."""
        self._apply(self.state.leave_owner(owner))

    def owner_ended(self, owner: Hashable, now: float) -> None:
        """Remove, after the grace, every presence of an owner that has ended. Repeated calls change nothing."""
        grace = self._limits.leave_grace
        if not grace:
            self.untrack_all(owner)
            return
        for entry in self.state.entries_of(owner):
            lingering = self._lingering.setdefault((entry.topic, entry.key), {})
            if entry not in lingering:
                lingering[entry] = True
                self._orphans.append((now + grace, entry))

    def renew(self, incarnation: int) -> None:
        """Begin a newer incarnation of this node, with the same presences."""
        self.state.renew(incarnation)
        self.replicas.renew(incarnation)

    # Other nodes

    def heard(self, name: str, incarnation: int, now: float) -> Up | Refused | None:
        """Note a heartbeat of a node, and show its presences if it was not up."""
        change = self.replicas.heard(name, incarnation, now)
        if isinstance(change, Up):
            if change.replaced is not None:
                self._linger(self.state.replica_remove(name), now)
            self._begin(self.state.replica_up(name, incarnation))
        return change

    def merge(self, delta: Delta) -> Sequence[str]:
        """Apply changes of other nodes. Return the nodes of which earlier changes are missing."""
        merged = self.state.merge(delta)
        self._begin(merged.diff)
        return merged.gaps

    def said_goodbye(self, name: str, incarnation: int, now: float) -> Removed | None:
        """Remove, after the grace, the presences of a node that has stopped."""
        change = self.replicas.said_goodbye(name, incarnation, now)
        if change is not None:
            self._linger(self.state.replica_remove(name), now)
        return change

    def pass_time(self, now: float) -> list[Down | Removed]:
        """Drop silent nodes and presences whose grace is over. Call it at regular times.

        Returns:
            The nodes that are down or forgotten since the last call.
        """
        changes = self.replicas.silent(now)
        for change in changes:
            # No grace: the node was silent for long enough.
            if isinstance(change, Down):
                self._begin(self.state.replica_down(change.name))
            else:
                self._begin(self.state.replica_remove(change.name))
        leaves: list[Entry] = []
        while self._orphans and self._orphans[0][0] <= now:
            entry = self._orphans.popleft()[1]
            if self._stay_no_longer(entry):
                leaves += self.state.leave(entry.topic, entry.key, owner=entry.owner).leaves
        while self._late and self._late[0][0] <= now:
            entry = self._late.popleft()[1]
            if self._stay_no_longer(entry):
                leaves.append(entry)
        self._begin(Diff(leaves=leaves))
        self._drop_full_buckets(now)
        return changes

    def _drop_full_buckets(self, now: float) -> None:
        # Forget a caller without calls in the last second, because it may make all of its calls again.
        rate = self._limits.max_calls_per_second
        for caller, bucket in list(self._buckets.items()):
            bucket.fill(rate, now)
            if bucket.calls >= rate:
                del self._buckets[caller]

    def next_leave(self) -> float | None:
        """Return the time at which the next grace is over."""
        times = [queue[0][0] for queue in (self._orphans, self._late) if queue]
        return min(times, default=None)

    # Changes

    def _linger(self, diff: Diff, now: float) -> None:
        """Keep presences that have left the set in the snapshots until the grace is over."""
        grace = self._limits.leave_grace
        if not grace:
            self._begin(diff)
            return
        for entry in diff.leaves:
            self._lingering.setdefault((entry.topic, entry.key), {})[entry] = False
            self._late.append((now + grace, entry))

    def _stay_no_longer(self, entry: Entry) -> bool:
        """Forget that a presence lingers. Return False if it did not linger."""
        lingering = self._lingering.get((entry.topic, entry.key))
        if lingering is None or lingering.pop(entry, None) is None:
            return False
        if not lingering:
            del self._lingering[entry.topic, entry.key]
        return True

    @property
    def unseen(self) -> int:
        """The number of changes of other nodes that readers do not see, or not completely."""
        return len(self._unseen)

    def show_more(self) -> None:
        """Show readers the next slice of the changes of other nodes."""
        part = next(self._unseen[0], None)
        if part is None:
            self._unseen.popleft()
        else:
            self._apply(part)

    def _begin(self, diff: Diff) -> None:
        """Show readers a change of other nodes. Show a large one in slices, after those that have not ended."""
        size = self._limits.slice_size or SLICE
        if self._unseen or len(diff.joins) + len(diff.leaves) > size:
            self._unseen.append(slices(diff, size))
        else:
            self._apply(diff)

    def _apply(self, diff: Diff) -> None:
        """Make a change of the set visible. The presences that linger under the joined keys leave in the same diff."""
        if self._lingering and diff:
            diff = self._settled(diff)
        self._show(diff)

    def _settled(self, diff: Diff) -> Diff:
        leaves = [*diff.leaves]
        for entry in leaves:
            # This entry may linger: an orphan can be untracked, or its node can go away.
            self._stay_no_longer(entry)
        for entry in diff.joins:
            for former, is_own in list(self._lingering.get((entry.topic, entry.key), {}).items()):
                self._stay_no_longer(former)
                if is_own:
                    leaves += self.state.leave(former.topic, former.key, owner=former.owner).leaves
                else:
                    leaves.append(former)
        return Diff(diff.joins, leaves)

    def _show(self, diff: Diff) -> None:
        if diff:
            self.snapshots.apply(diff)
            self.diffs.add(diff)
            self.changed()
