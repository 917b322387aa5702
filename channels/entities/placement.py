"""The nodes that can own keys, and the choice of a node for each key. *pure*: the time is an argument.

Every node says hello at regular times. `Placement` keeps the nodes that were heard recently, and chooses one of them
for a key by rendezvous hashing: the node with the highest hash of its name and the key. So if a node comes or goes,
only the keys of that node move. The choice is only a proposal, because nodes may know different nodes for a while. The
arbiter decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import msgspec
from msgspec.structs import replace

from channels.pubsub.adapter import Node

__all__ = ["Candidate", "Placement", "winner"]

MAX_CHOICES = 65_536
"""The most choices that a node remembers."""


class Candidate(msgspec.Struct, frozen=True):
    """A node that runs the entities of a name.

    Attributes:
        node: the node.
        labels: its labels.
        draining: True if it takes no further keys.
        drained: True if it has no keys any more.
        heard: the time of its last hello.
    """

    node: Node
    labels: frozenset[str]
    draining: bool
    drained: bool
    heard: float


def winner(key: str, nodes: Iterable[Node]) -> Node | None:
    """Return the node with the highest hash of its name and the key, or None if there are no nodes."""
    best: tuple[bytes, str] | None = None
    chosen = None
    for node in nodes:
        hashed = blake2b(f"{node.name}\n{key}".encode(), digest_size=8).digest()
        if best is None or (hashed, node.name) > best:
            best, chosen = (hashed, node.name), node
    return chosen


class Placement:
    """The nodes that this node knows, and their keys.

    Args:
        me: this node.
        labels: the labels of this node.
    """

    def __init__(self, me: Node, labels: Iterable[str]) -> None:
        self.me = me
        self.labels = frozenset(labels)
        # True if this node takes no further keys.
        self.draining = False
        self._others: dict[str, Candidate] = {}
        self._choices: dict[tuple[str, str | None], Node | None] = {}

    def hear(self, candidate: Candidate) -> bool:
        """Take note of a hello of another node. Return True if the choice of some key may change."""
        known = self._others.get(candidate.node.name)
        if known is not None and known.node.incarnation > candidate.node.incarnation:
            return False
        self._others[candidate.node.name] = candidate
        if known is not None and replace(known, heard=candidate.heard) == candidate:
            return False
        self._choices.clear()
        return True

    def note_draining(self, node: Node) -> None:
        """Take note that a node takes no further keys, until its next hello."""
        known = self._others.get(node.name)
        if known is not None and known.node == node and not known.draining:
            self._others[node.name] = replace(known, draining=True)
            self._choices.clear()

    def forget(self, node: Node) -> bool:
        """Remove a node that has ended. Return True if it was known."""
        known = self._others.get(node.name)
        if known is None or known.node != node:
            return False
        del self._others[node.name]
        self._choices.clear()
        return True

    def silent(self, before: float) -> list[Node]:
        """Return the nodes whose last hello came before a time."""
        return [each.node for each in self._others.values() if each.heard < before]

    def drain(self, draining: bool) -> None:
        """Set whether this node takes further keys."""
        self.draining = draining
        self._choices.clear()

    def others(self) -> tuple[Candidate, ...]:
        """Return the other nodes."""
        return tuple(self._others.values())

    @property
    def takes_keys(self) -> bool:
        """True if this node may take further keys. If all nodes drain, each serves its clients until it stops."""
        return not self.draining or all(each.draining for each in self._others.values())

    def may_own(self, node: Node) -> bool:
        """Return True if this start of a node may own keys."""
        known = self._others.get(node.name)
        return node == self.me or (known is not None and known.node == node and not known.drained)

    def drains(self, node: Node) -> bool:
        """Return True if this start of another node takes no further keys, as far as this node knows."""
        known = self._others.get(node.name)
        return known is not None and known.node == node and known.draining

    def knows(self, node: Node) -> bool:
        """Return True if this start of a node is this node, or was heard recently."""
        known = self._others.get(node.name)
        return node == self.me or (known is not None and known.node == node)

    def choose(self, key: str, label: str | None = None) -> Node | None:
        """Return the node that should own a key, or None if no node has the label.

        If all nodes drain, the choice is this node, which serves its clients until it stops.
        """
        if (key, label) in self._choices:
            return self._choices[key, label]
        nodes = [
            each.node
            for each in self._others.values()
            if not each.draining and (label is None or label in each.labels)
        ]
        fits = label is None or label in self.labels
        if fits and not self.draining:
            nodes.append(self.me)
        chosen = winner(key, nodes)
        if chosen is None and fits:
            chosen = self.me
        if len(self._choices) >= MAX_CHOICES:
            self._choices.clear()
        self._choices[key, label] = chosen
        return chosen
