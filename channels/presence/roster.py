"""Everybody who is present, as one node knows it: the presence set, the nodes, the snapshots and the pending diffs.

*pure*. A `Roster` holds the parts that must change together. Each change updates the snapshots at once, so a reader
sees it in the same turn, and adds to the diffs that clients have yet to get. Times are seconds of one clock that never
goes back.

With a `leave_grace`, presences whose owner has ended, or whose node has stopped, stay that much longer. If the same key
joins again meanwhile, the old presence leaves in the same diff, and clients see an update instead of a leave.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence

from attrs import define, frozen

from channels.errors import ChannelsError
from channels.excerpts import brief
from channels.presence.delta import Delta, Entry, Meta
from channels.presence.diff import Diff, DiffBuffer
from channels.presence.generations import DEFAULT_MAX_SIZES
from channels.presence.replica import Down, Refused, Removed, Replicas, Up
from channels.presence.snapshot import Snapshots
from channels.presence.state import State

__all__ = ["Limits", "Roster", "TooManyCalls"]


class TooManyCalls(ChannelsError):
    """An owner changes its presences too often. Nothing has changed.

    Fields: `owner`; `rate`, the calls per second that are allowed.
    """

    def __init__(self, owner: Hashable, rate: float) -> None:
        super().__init__(
            f"{brief(owner)} tracks, updates and untracks presences more than {rate:g} times a second; do it less "
            "often, or raise max_calls_per_second of the Presence"
        )
        self.owner = owner
        self.rate = rate


@frozen(kw_only=True)
class Limits:
    """The times and sizes of a roster. See `Presence`."""

    leave_grace: float = 0.0
    max_calls_per_second: float = 100.0
    down_period: float = 30.0
    permdown_period: float = 1_200.0
    max_delta_sizes: Sequence[int] = DEFAULT_MAX_SIZES


@define
class _Bucket:
    """The calls that an owner may make now. It fills up with time, to the calls of one second."""

    calls: float
    filled_at: float


class Roster:
    """The presences of all nodes, and the changes that this node makes.

    Args:
        node: the name of this node.
        incarnation: the run of this node.
        limits: its times and sizes.

    Attributes:
        state: the presence set.
        replicas: the other nodes.
        snapshots: the members of each topic, for readers.
        diffs: the changes that clients have yet to get.
        changed: called after each change of a presence, once it is visible.
    """

    def __init__(self, node: str, incarnation: int, limits: Limits) -> None:
        self.state = State(node, incarnation, max_delta_sizes=limits.max_delta_sizes)
        self.replicas = Replicas(
            node,
            incarnation,
            down_period=limits.down_period,
            permdown_period=limits.permdown_period,
        )
        self.snapshots = Snapshots()
        self.diffs = DiffBuffer()
        self._limits = limits
        self.changed: Callable[[], None] = lambda: None
        self._buckets: dict[Hashable, _Bucket] = {}
        # Presences of ended owners of this node, which are still in the set: when they leave, and who they are.
        self._orphans: deque[tuple[float, Entry]] = deque()
        # Presences of other nodes that have left the set, and are still in the snapshots.
        self._late: deque[tuple[float, Entry]] = deque()
        # Both, by topic and key.
        self._lingering: dict[tuple[str, str], dict[Entry, bool]] = {}

    # This node's own presences

    def track(self, owner: Hashable, topic: str, key: str, meta: Meta, now: float) -> None:
        """Add a presence.

        Raises:
            AlreadyTracked: the owner tracks this key of this topic already.
            TooManyCalls: see `Limits.max_calls_per_second`.
        """
        self.count_call(owner, now)
        self._apply(self.state.join(topic, key, meta, owner=owner))

    def update(self, owner: Hashable, topic: str, key: str, meta: Meta, now: float) -> None:
        """Replace the data of a presence.

        Raises:
            NotTracked: the owner does not track this key of this topic.
            TooManyCalls: see `Limits.max_calls_per_second`.
        """
        self.count_call(owner, now)
        self._apply(self.state.update(topic, key, meta, owner=owner))

    def untrack(self, owner: Hashable, topic: str, key: str, now: float) -> None:
        """Remove a presence at once, if it is there.

        Raises:
            TooManyCalls: see `Limits.max_calls_per_second`.
        """
        self.count_call(owner, now)
        self._apply(self.state.leave(topic, key, owner=owner))

    def untrack_all(self, owner: Hashable) -> None:
        """Remove every presence of an owner at once."""
        self._apply(self.state.leave_owner(owner))

    def owner_ended(self, owner: Hashable, now: float) -> None:
        """Remove every presence of an owner that has ended, after the grace."""
        self._buckets.pop(owner, None)
        grace = self._limits.leave_grace
        if not grace:
            self.untrack_all(owner)
            return
        for entry in self.state.entries_of(owner):
            lingering = self._lingering.setdefault((entry.topic, entry.key), {})
            if entry not in lingering:
                lingering[entry] = True
                self._orphans.append((now + grace, entry))

    def count_call(self, owner: Hashable, now: float) -> None:
        """Count a call of an owner. `track`, `update` and `untrack` do it themselves.

        Raises:
            TooManyCalls: see `Limits.max_calls_per_second`.
        """
        rate = self._limits.max_calls_per_second
        bucket = self._buckets.get(owner)
        if bucket is None:
            bucket = self._buckets[owner] = _Bucket(max(rate, 1.0), now)
        bucket.calls = min(max(rate, 1.0), bucket.calls + (now - bucket.filled_at) * rate)
        bucket.filled_at = now
        if bucket.calls < 1.0:
            raise TooManyCalls(owner, rate)
        bucket.calls -= 1.0

    # Other nodes

    def heard(self, name: str, incarnation: int, now: float) -> Up | Refused | None:
        """Note a heartbeat of a node, and show its presences if it was not up."""
        change = self.replicas.heard(name, incarnation, now)
        if isinstance(change, Up):
            if change.replaced is not None:
                self._linger(self.state.replica_remove(name), now)
            self._apply(self.state.replica_up(name, incarnation))
        return change

    def merge(self, delta: Delta) -> Sequence[str]:
        """Apply changes of other nodes. Return the nodes whose changes do not continue what is known."""
        merged = self.state.merge(delta)
        self._apply(merged.diff)
        return merged.gaps

    def said_goodbye(self, name: str, incarnation: int, now: float) -> Removed | None:
        """Remove the presences of a node that has stopped, after the grace."""
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
                self._apply(self.state.replica_down(change.name))
            else:
                self._apply(self.state.replica_remove(change.name))
        leaves: list[Entry] = []
        while self._orphans and self._orphans[0][0] <= now:
            entry = self._orphans.popleft()[1]
            if self._stay_no_longer(entry):
                self._apply(self.state.leave(entry.topic, entry.key, owner=entry.owner))
        while self._late and self._late[0][0] <= now:
            entry = self._late.popleft()[1]
            if self._stay_no_longer(entry):
                leaves.append(entry)
        self._show(Diff(leaves=leaves))
        return changes

    def next_leave(self) -> float | None:
        """Return the time at which the next grace is over."""
        times = [queue[0][0] for queue in (self._orphans, self._late) if queue]
        return min(times, default=None)

    # Changes

    def _linger(self, diff: Diff, now: float) -> None:
        """Keep presences that have left the set in the snapshots until the grace is over."""
        grace = self._limits.leave_grace
        if not grace:
            self._apply(diff)
            return
        for entry in diff.leaves:
            self._lingering.setdefault((entry.topic, entry.key), {})[entry] = False
            self._late.append((now + grace, entry))

    def _stay_no_longer(self, entry: Entry) -> bool:
        """Forget that a presence lingers. Return False if it no longer did."""
        lingering = self._lingering.get((entry.topic, entry.key))
        if lingering is None or lingering.pop(entry, None) is None:
            return False
        if not lingering:
            del self._lingering[entry.topic, entry.key]
        return True

    def _apply(self, diff: Diff) -> None:
        """Make a change of the set visible, together with the end of what lingers under the keys that joined."""
        if self._lingering and diff:
            diff = self._settled(diff)
        self._show(diff)

    def _settled(self, diff: Diff) -> Diff:
        leaves = [*diff.leaves]
        for entry in leaves:
            # An orphan that is untracked, or whose node went away.
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
