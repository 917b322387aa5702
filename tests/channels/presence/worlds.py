"""Presence sets of several nodes, and a network between them that loses, repeats and reorders messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from channels.presence.clock import Version
from channels.presence.delta import Delta, Entry, Meta
from channels.presence.diff import Diff
from channels.presence.replica import Down, Removed, Replicas, Up
from channels.presence.snapshot import Snapshots
from channels.presence.state import State
from channels.presence.transfer import Assemblies, split
from channels.presence.wire import (
    Goodbye,
    Heartbeat,
    Message,
    Transfer,
    TransferRequest,
    decode_message,
    encode_message,
)

TOPICS = ("room:1", "room:2")
KEYS = ("ann", "bob", "cem")
OWNERS = ("pid 1", "pid 2")

DOWN, PERMDOWN = 30.0, 90.0

Seen = Counter[tuple[str, str, str, int]]
"""The number of times that a node shows each (node, topic, key, number)."""


class Node:
    """A running node: its set, what its readers see, and a model of its own entries."""

    def __init__(self, name: str, incarnation: int) -> None:
        self.replicas = Replicas(name, incarnation, down_period=DOWN, permdown_period=PERMDOWN)
        self.state = State(name, incarnation, max_delta_sizes=(2, 8))
        self.snapshots = Snapshots()
        self.assemblies = Assemblies()
        self.own: dict[tuple[str, str, str], int] = {}

    def show(self, diff: Diff) -> None:
        self.snapshots.apply(diff)

    def follow(self, change: object) -> None:
        """Carry out a change of the table of nodes."""
        if isinstance(change, Up):
            self.show(self.state.replica_up(change.name, change.incarnation))
        elif isinstance(change, Down):
            self.show(self.state.replica_down(change.name))
        elif isinstance(change, Removed):
            self.show(self.state.replica_remove(change.name))

    def seen(self) -> Seen:
        """The presences that readers see in the snapshots."""
        return Counter(
            (entry.node, topic, key, entry.meta["n"])
            for topic in self.snapshots.topics()
            for key in self.snapshots.topic(topic)
            for entry in self.snapshots.topic(topic).entries(key)
        )

    def order(self) -> dict[tuple[str, str], list[str]]:
        """The refs of the metas of each topic and key, in the order in which readers see them."""
        return {
            (topic, key): [meta["phx_ref"] for meta in metas]
            for topic in self.snapshots.topics()
            for key, metas in self.snapshots.topic(topic).items()
        }

    def shown(self) -> Seen:
        """The presences that readers should see according to the set."""
        return Counter(map(identity, self.state.visible()))


def identity(entry: Entry) -> tuple[str, str, str, int]:
    return entry.node, entry.topic, entry.key, entry.meta["n"]


class World:
    """Nodes and the messages between them. Every message passes through its JSON form.

    `truth` has the entries of each node at each version that it has ever had. A copy must equal it.
    """

    def __init__(self, names: Sequence[str] = "abc") -> None:
        self.names = names
        self.nodes: dict[str, Node] = {}
        self.mail: list[tuple[str, str, bytes]] = []
        self.truth: dict[tuple[str, int, int], frozenset[int]] = {}
        self.starts = 0
        self.numbers = 0
        self.now = 0.0
        for name in names:
            self.start(name)

    # What nodes do.

    def start(self, name: str) -> None:
        """Start a node, or a newer incarnation of it."""
        self.starts += 1
        self.nodes[name] = Node(name, self.starts)
        self.truth[name, self.starts, 0] = frozenset()

    def note(self, name: str) -> None:
        state = self.nodes[name].state
        numbers = frozenset(self.nodes[name].own.values())
        self.truth[name, *state.clocks()[name]] = numbers

    def meta(self) -> Meta:
        self.numbers += 1
        # In no order of numbers, as if the times of day of the nodes differed.
        return {"n": self.numbers, "phx_ref": f"{self.numbers * 7919 % 100_003:06}"}

    def track(self, name: str, topic: str, key: str, owner: str) -> None:
        """Track a key, or update it."""
        node, meta = self.nodes[name], self.meta()
        known = (topic, key, owner) in node.own
        change = node.state.update if known else node.state.join
        node.show(change(topic, key, meta, owner=owner))
        node.own[topic, key, owner] = meta["n"]
        self.note(name)

    def untrack(self, name: str, topic: str, key: str, owner: str) -> None:
        node = self.nodes[name]
        node.show(node.state.leave(topic, key, owner=owner))
        node.own.pop((topic, key, owner), None)
        self.note(name)

    def untrack_owner(self, name: str, owner: str) -> None:
        node = self.nodes[name]
        node.show(node.state.leave_owner(owner))
        node.own = {place: n for place, n in node.own.items() if place[2] != owner}
        self.note(name)

    def renew(self, name: str) -> None:
        self.starts += 1
        node = self.nodes[name]
        node.state.renew(self.starts)
        node.replicas.renew(self.starts)
        self.truth[name, self.starts, 0] = frozenset()
        self.note(name)

    # What nodes send.

    def send(self, sender: str, receiver: str, message: Message) -> None:
        if receiver in self.nodes and receiver != sender:
            body = msgspec.json.encode(encode_message(message))
            self.mail.append((sender, receiver, body))

    def beat(self, name: str) -> None:
        """Send a heartbeat with the latest changes to all others."""
        state = self.nodes[name].state
        delta = state.flush()
        beat = Heartbeat(incarnation=state.incarnation, clocks=state.clocks(), delta=delta)
        for other in self.names:
            self.send(name, other, beat)

    def request(self, name: str, other: str) -> None:
        """Ask another node for what is missing."""
        self.send(name, other, TransferRequest(ref="r", clocks=self.nodes[name].state.clocks()))

    def goodbye(self, name: str) -> None:
        """End a node in order."""
        state = self.nodes.pop(name).state
        for other in self.names:
            self.send(name, other, Goodbye(incarnation=state.incarnation, delta=state.flush()))

    # What arrives.

    def deliver(self, place: int) -> None:
        """Deliver one message, in any order."""
        sender, receiver, body = self.mail.pop(place % len(self.mail))
        node = self.nodes.get(receiver)
        if node is not None:
            self.receive(node, receiver, sender, decode_message(msgspec.json.decode(body)))

    def receive(self, node: Node, receiver: str, sender: str, message: Message) -> None:
        if isinstance(message, Heartbeat):
            node.follow(node.replicas.heard(sender, message.incarnation, self.now))
            self.merge(node, message.delta)
        elif isinstance(message, TransferRequest):
            pages = list(split(node.state.extract(message.clocks), 3))
            for index, page in enumerate(pages):
                answer = Transfer(ref=message.ref, index=index, count=len(pages), page=page)
                self.send(receiver, sender, answer)
        elif isinstance(message, Transfer):
            delta = node.assemblies.add(
                sender, message.ref, message.index, message.count, message.page
            )
            self.merge(node, delta or {})
        else:
            self.merge(node, message.delta)
            node.follow(node.replicas.said_goodbye(sender, message.incarnation, self.now))

    def merge(self, node: Node, delta: Delta) -> None:
        node.show(node.state.merge(delta).diff)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for node in self.nodes.values():
            for change in node.replicas.silent(self.now):
                node.follow(change)

    def settle(self) -> None:
        """Let every node hear every other without a loss, until nobody lacks anything and the dead are forgotten."""
        self.mail.clear()
        for _ in range(6):
            for name in self.nodes:
                self.beat(name)
            self.deliver_all()
            for name in self.nodes:
                for other in self.nodes:
                    self.request(name, other)
            self.deliver_all()
            self.pass_time(PERMDOWN / 5)

    def deliver_all(self) -> None:
        while self.mail:
            self.deliver(0)

    # What must hold.

    def expected(self) -> Seen:
        """The presences that every node shows after it has got all messages."""
        return Counter(
            (name, topic, key, number)
            for name, node in self.nodes.items()
            for (topic, key, _), number in node.own.items()
        )

    def check(self) -> None:
        """Check what holds at every moment."""
        for node in self.nodes.values():
            assert node.seen() == node.shown()
            copies: dict[str, set[int]] = {name: set() for name in node.state.clocks()}
            for entry in node.state.visible():
                copies[entry.node].add(entry.meta["n"])
            for name, version in node.state.clocks().items():
                assert copies[name] == self.truth[name, *version]


def content(state: State) -> dict[str, tuple[Version, list[tuple[int, int]]]]:
    """The content of a set without its bookkeeping: of each part the version, the tags and the numbers."""
    nothing = {name: Version(version.incarnation, 0) for name, version in state.clocks().items()}
    parts = state.extract(nothing)
    return {
        name: (
            version,
            [(tag, entry.meta["n"]) for tag, entry in parts[name].entries.items()]
            if name in parts
            else [],
        )
        for name, version in state.clocks().items()
    }
