"""The presence set of one node: its own entries, and its copies of the other nodes' entries.

*pure*. This is a delta-state observed-remove set, as in Phoenix.Tracker, with three rules that keep it small:

- **One writer.** A node adds and removes only its own entries. Two nodes may track the same key: these are two entries,
  and the removal of one does not touch the other. So an addition wins over a concurrent removal.
- **No gaps.** A node accepts changes of another node only if they continue its copy. A copy is therefore always a state
  that the other node has really been in. It is complete up to one clock. So the set need not remember removed entries,
  only that clock. After a lost message the node asks for the missing changes; see `Merged.gaps`.
- **One incarnation.** For each node name the set knows one incarnation. A newer incarnation replaces it, and removes
  all its entries. The set ignores changes of an older incarnation. So the size of the set does not depend on the number
  of restarts.

Only heartbeats make a node known: see `channels.presence.replica`. The set ignores data about any other node.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from attrs import field, frozen

from actors.declared import declared
from channels.errors import ChannelsError
from channels.presence.clock import Clocks, Version
from channels.presence.delta import Delta, Entry, Meta, Part, Segment
from channels.presence.diff import NO_DIFF, Diff
from channels.presence.generations import DEFAULT_MAX_SIZES, Generations

__all__ = ["AlreadyTracked", "Merged", "NotTracked", "State", "StateStatistics"]


@declared("{owner!b} already tracks {key!b} in {topic!b}; call update to change its data")
class AlreadyTracked(ChannelsError):
    """An owner tracks the same key of the same topic twice.

    Attributes:
        owner: the tracking process, or another owner.
        topic: the topic.
        key: the key.
    """

    owner: Hashable
    topic: str
    key: str


@declared("{owner!b} does not track {key!b} in {topic!b}; call track first")
class NotTracked(ChannelsError):
    """An owner updates a key that it does not track.

    Attributes:
        owner: the process, or another owner.
        topic: the topic.
        key: the key.
    """

    owner: Hashable
    topic: str
    key: str


@frozen(kw_only=True)
class Merged:
    """The result of a merge.

    Attributes:
        diff: the entries that have become visible, and the entries that are no longer visible.
        gaps: nodes whose changes do not continue the copy here, so that they were not merged. Ask for the missing
            changes: send `State.clocks()` to the sender.
    """

    diff: Diff = field(default=NO_DIFF)
    gaps: Sequence[str] = ()


@frozen(kw_only=True)
class StateStatistics:
    """The size of a set at one moment.

    Attributes:
        replicas: known nodes, this one included.
        down: known nodes whose entries are hidden.
        own: entries of this node.
        entries: entries of all known nodes.
        pending: own entries and removals since the last flush.
        recent: entries and removals that are kept for nodes that have missed them. They include entries that have left.
    """

    replicas: int
    down: int
    own: int
    entries: int
    pending: int
    recent: int


class _Replica:
    """A known node: its whole part of the set, and a flag that shows or hides it."""

    __slots__ = ("is_up", "part")

    def __init__(self, incarnation: int) -> None:
        self.part = Part(incarnation)
        self.is_up = True

    def entries(self) -> list[Entry]:
        return list(self.part.entries.values())


class State:
    """The presence set of one node.

        >>> a, b = State("a", 1), State("b", 1)
        >>> a.replica_up("b", 1), b.replica_up("a", 1)
        (Diff(joins=(), leaves=()), Diff(joins=(), leaves=()))
        >>> a.join("room:1", "ann", {"status": "here"}, owner="pid 7").joins
        [<presence of 'ann' in 'room:1' on a>]
        >>> b.merge(a.flush()).diff.joins
        [<presence of 'ann' in 'room:1' on a>]

    Every method that changes what is visible returns a `Diff`. Give it to the snapshot and to the clients.

    Args:
        node: the name of this node. No other running node may have it.
        incarnation: the run of this node; see `clock.new_incarnation`.
        max_delta_sizes: the numbers of recent changes of each node to keep for others; see `generations`.
    """

    __slots__ = ("_generations", "_index", "_node", "_own", "_removed", "_replicas", "_start")

    def __init__(
        self, node: str, incarnation: int, *, max_delta_sizes: Sequence[int] = DEFAULT_MAX_SIZES
    ) -> None:
        self._node = node
        own = _Replica(incarnation)
        self._own = own.part
        self._replicas = {node: own}
        self._generations = Generations(max_delta_sizes)
        # The tags of this node's entries, by owner, topic and key.
        self._index: dict[Hashable, dict[tuple[str, str], int]] = {}
        # The clock at the last flush, and the tags up to it that were removed since.
        self._start = 0
        self._removed: set[int] = set()

    @property
    def node(self) -> str:
        """The name of this node."""
        return self._node

    @property
    def incarnation(self) -> int:
        """The run of this node."""
        return self._own.incarnation

    # The entries of this node.

    def join(self, topic: str, key: str, meta: Meta, *, owner: Hashable) -> Diff:
        """Track a key of a topic for an owner.

        Raises:
            AlreadyTracked: the owner tracks that key of that topic already.
        """
        if self._tag(owner, topic, key) is not None:
            raise AlreadyTracked(owner, topic, key)
        return Diff(joins=[self._add(topic, key, meta, owner)])

    def update(self, topic: str, key: str, meta: Meta, *, owner: Hashable) -> Diff:
        """Replace the data of an entry.

        The old entry leaves and the new one joins, in the same diff here and on every other node. No reader ever sees
        the key without an entry.

        Raises:
            NotTracked: the owner does not track that key of that topic.
        """
        tag = self._tag(owner, topic, key)
        if tag is None:
            raise NotTracked(owner, topic, key)
        old = self._drop(tag)
        return Diff(joins=[self._add(topic, key, meta, owner)], leaves=[old])

    def leave(self, topic: str, key: str, *, owner: Hashable) -> Diff:
        """Remove an entry. Nothing happens if there is none."""
        tag = self._tag(owner, topic, key)
        return NO_DIFF if tag is None else Diff(leaves=[self._remove(tag)])

    def leave_owner(self, owner: Hashable) -> Diff:
        """Remove all entries of an owner."""
        tags = list(self._index.get(owner, {}).values())
        return Diff(leaves=[self._remove(tag) for tag in tags]) if tags else NO_DIFF

    def get(self, topic: str, key: str, *, owner: Hashable) -> Entry | None:
        """Return the entry of an owner of this node."""
        tag = self._tag(owner, topic, key)
        return None if tag is None else self._own.entries[tag]

    def entries_of(self, owner: Hashable) -> list[Entry]:
        """Return all entries of an owner of this node."""
        return [self._own.entries[tag] for tag in self._index.get(owner, {}).values()]

    def owners(self) -> list[Hashable]:
        """Return the owners of this node's entries."""
        return list(self._index)

    def has_changes(self) -> bool:
        """Return True if `flush` would return a change."""
        return self._own.end != self._start

    def flush(self) -> Delta:
        """Return this node's changes since the last flush, to send to all other nodes. Empty if there are none.

        A node that ends calls it once more after its owners have left, and sends the result as its last message.
        """
        own = self._own
        if own.end == self._start:
            return {}
        segment = Segment(
            incarnation=own.incarnation,
            start=self._start,
            end=own.end,
            entries={tag: own.entries[tag] for tag in own.tags_after(self._start)},
            removed=frozenset(self._removed),
        )
        self._start = own.end
        self._removed = set()
        self._generations.push(self._node, segment)
        return {self._node: segment}

    def _tag(self, owner: Hashable, topic: str, key: str) -> int | None:
        own = self._index.get(owner)
        return None if own is None else own.get((topic, key))

    def _add(self, topic: str, key: str, meta: Meta, owner: Hashable) -> Entry:
        own = self._own
        own.end += 1
        entry = Entry(self._node, topic, key, owner, meta)
        own.entries[own.end] = entry
        self._index.setdefault(owner, {})[topic, key] = own.end
        return entry

    def _drop(self, tag: int) -> Entry:
        """Remove an entry, which takes one tick. Do not change the index."""
        self._own.end += 1
        if tag <= self._start:
            self._removed.add(tag)
        return self._own.entries.pop(tag)

    def _remove(self, tag: int) -> Entry:
        entry = self._drop(tag)
        tags = self._index[entry.owner]
        del tags[entry.topic, entry.key]
        if not tags:
            del self._index[entry.owner]
        return entry

    # The parts of other nodes.

    def merge(self, delta: Delta) -> Merged:
        """Apply changes that another node has sent.

        Deltas may be lost, repeated or out of order. Once the gaps are filled, the result is the same.

        The set ignores parts of this node, of unknown nodes, and of incarnations other than the known one.
        """
        joins: list[Entry] = []
        leaves: list[Entry] = []
        gaps = []
        for name, segment in delta.items():
            replica = self._replicas.get(name)
            if (
                replica is None
                or replica.part is self._own
                or segment.incarnation != replica.part.incarnation
                or segment.end <= replica.part.end
            ):
                continue
            if not replica.part.is_continued_by(segment):
                gaps.append(name)
                continue
            joined, left = replica.part.advance(segment)
            self._generations.push(name, segment)
            if replica.is_up:
                joins += joined
                leaves += left
        return Merged(diff=Diff(joins, leaves) if joins or leaves else NO_DIFF, gaps=gaps)

    def clocks(self) -> dict[str, Version]:
        """Return the version of each part, to send to other nodes.

        Nodes that are down are left out. Another node may never have met them, and could not accept their parts.
        """
        return {
            name: Version(replica.part.incarnation, replica.part.end)
            for name, replica in self._replicas.items()
            if replica.is_up
        }

    def extract(self, theirs: Clocks) -> Delta:
        """Return everything that a node with these clocks lacks and can accept.

        For each node, the delta has the smallest generation of recent changes that continues the copy there, or else
        the whole part. The delta can be large: see `transfer.split`.
        """
        delta = {}
        for name, version in theirs.items():
            replica = self._replicas.get(name)
            if (
                replica is not None
                and replica.part.incarnation == version.incarnation
                and replica.part.end > version.clock
            ):
                recent = self._generations.covering(name, version)
                delta[name] = replica.part.segment() if recent is None else recent
        return delta

    # The known nodes.

    def replica_up(self, name: str, incarnation: int) -> Diff:
        """Note that a node runs: show its entries, and accept its changes.

        A newer incarnation replaces the known one, whose entries leave. Nothing happens for an older incarnation, or
        for this node itself.
        """
        replica = self._replicas.get(name)
        if replica is not None and replica.part is self._own:
            return NO_DIFF
        if replica is None or replica.part.incarnation < incarnation:
            diff = self.replica_remove(name)
            self._replicas[name] = _Replica(incarnation)
            return diff
        if replica.part.incarnation > incarnation or replica.is_up:
            return NO_DIFF
        replica.is_up = True
        return Diff(joins=replica.entries())

    def replica_down(self, name: str) -> Diff:
        """Hide the entries of a node that has fallen silent. Nothing happens to this node itself."""
        replica = self._replicas.get(name)
        if replica is None or replica.part is self._own or not replica.is_up:
            return NO_DIFF
        replica.is_up = False
        return Diff(leaves=replica.entries())

    def replica_remove(self, name: str) -> Diff:
        """Forget a node, with its entries, its version and its recent changes. This node itself stays."""
        replica = self._replicas.get(name)
        if replica is None or replica.part is self._own:
            return NO_DIFF
        del self._replicas[name]
        self._generations.forget(name)
        return Diff(leaves=replica.entries()) if replica.is_up else NO_DIFF

    def is_superseded(self, theirs: Clocks) -> bool:
        """Return True if another node knows a newer incarnation of this node.

        The other node then ignores the changes of this node. Either the machine's clock has gone back since the last
        run, or another running node has the same name. Call `renew` in the first case.
        """
        version = theirs.get(self._node)
        return version is not None and version.incarnation > self._own.incarnation

    def renew(self, incarnation: int) -> None:
        """Begin a newer incarnation of this node, with the same entries. Readers on this node see no difference.

        Raises:
            ValueError: the incarnation is not newer than the present one.
        """
        own = self._own
        if incarnation <= own.incarnation:
            raise ValueError(
                f"{self._node} cannot change from incarnation {own.incarnation} to {incarnation}; give a higher one"
            )
        self._generations.forget(self._node)
        own.incarnation = incarnation
        own.entries = dict(enumerate(own.entries.values(), 1))
        own.end = len(own.entries)
        self._index = {}
        for tag, entry in own.entries.items():
            self._index.setdefault(entry.owner, {})[entry.topic, entry.key] = tag
        self._start = 0
        self._removed = set()

    def visible(self) -> list[Entry]:
        """Return every entry that is not hidden. The cost grows with their number: readers use a snapshot."""
        return [
            entry
            for replica in self._replicas.values()
            if replica.is_up
            for entry in replica.part.entries.values()
        ]

    def statistics(self) -> StateStatistics:
        """Return the size of the set."""
        replicas = self._replicas.values()
        own = self._own
        return StateStatistics(
            replicas=len(replicas),
            down=sum(not replica.is_up for replica in replicas),
            own=len(own.entries),
            entries=sum(len(replica.part.entries) for replica in replicas),
            pending=len(own.tags_after(self._start)) + len(self._removed),
            recent=self._generations.size,
        )
