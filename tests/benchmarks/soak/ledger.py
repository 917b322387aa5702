"""The messages of the soak's members: who said what, who heard it, and why a client missed one. *pure*.

A member numbers its messages. So each client knows which messages of its topic it has missed. The documentation
promises at-most-once delivery between nodes, and that a node counts each message that it misses. `account` finds the
cause of each missed message, and compares the rest with the nodes' own counters.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

from attrs import Factory, define, frozen

__all__ = [
    "AWAY",
    "COUNTED",
    "HEARD",
    "NOT_KNOWN",
    "NOT_SENT",
    "UNCOUNTED",
    "Account",
    "Comparison",
    "Copy",
    "Delivery",
    "Message",
    "Said",
    "Stay",
    "account",
    "account_copies",
    "presence_differences",
]

Message: TypeAlias = tuple[str, int]
"""The name of the sender, and the sender's number of the message."""

SETTLING = 3.0
"""Seconds that a message may be on its way. A client that leaves earlier counts as away."""

UNSENT = 2.0
"""Seconds before the SIGKILL of a node in which the node may have answered a push without sending it to other nodes.

A message waits for up to `max_waiting_seconds` of the adapter, which is a second.
"""

INTRODUCTION = 10.0
"""Seconds after which nodes that have started, or are connected again, must know each other.

The adapter waits for up to five seconds between two attempts to connect, and sends a heartbeat every two seconds.
"""

HEARD = "heard"
AWAY = "missed while away"
NOT_KNOWN = "sent before the nodes knew each other"
NOT_SENT = "killed with its node"
COUNTED = "counted by the node"
UNCOUNTED = "counted by nobody"


@frozen
class Said:
    """A message of a member.

    Attributes:
        topic: its topic.
        message: its sender and number.
        node: the process that served the sender.
        sent: the time of the push.
        answered: the time of the reply.
    """

    topic: str
    message: Message
    node: int
    sent: float
    answered: float


@define(eq=False)
class Stay:
    """The membership of a client in a plain topic, from the reply to its join to its end.

    Attributes:
        client: the name of the client.
        topic: the topic.
        node: the process that serves the client.
        joined: the time of the reply to the join.
        left: the time of the end.
        heard: the time at which each message came.
        doubled: the messages that came again.
        disordered: the messages that came after a later message of the same sender.
    """

    client: str
    topic: str
    node: int
    joined: float
    left: float = math.inf
    heard: dict[Message, float] = Factory(dict)
    doubled: list[Message] = Factory(list)
    disordered: list[Message] = Factory(list)
    _last: dict[str, int] = Factory(dict)

    def hear(self, message: Message, now: float) -> None:
        """Note a message."""
        sender, number = message
        if message in self.heard:
            self.doubled.append(message)
            return
        if number < self._last.get(sender, 0):
            self.disordered.append(message)
        self.heard[message] = now
        self._last[sender] = number


@define(eq=False)
class Copy:
    """All messages of a durable topic that a client got, over all its joins.

    Attributes:
        client: the name of the client.
        topic: the topic.
        joined: the time of the reply to its first join.
        heard: the messages, in the order of their arrival.
        doubled: the messages that came again.
        not_recovered: the reason of each later join that recovered no messages.
    """

    client: str
    topic: str
    joined: float = math.inf
    heard: dict[Message, None] = Factory(dict)
    doubled: list[Message] = Factory(list)
    not_recovered: list[str] = Factory(list)

    def hear(self, message: Message) -> None:
        """Note a message."""
        if message in self.heard:
            self.doubled.append(message)
        else:
            self.heard[message] = None


@frozen
class Scrape:
    """The number of lost messages that a node has counted until `seconds`."""

    seconds: float
    lost: float


@frozen
class Comparison:
    """The messages that clients of a node missed between two scrapes, and the losses that the node counted."""

    node: int
    until: float
    missed: int
    counted: float

    @property
    def is_admitted(self) -> bool:
        return self.missed <= self.counted


@define
class Account:
    """The messages of one client by their fate, and its durable messages."""

    fates: Counter[str] = Factory(Counter)
    doubled: int = 0
    disordered: int = 0
    durable: int = 0
    durable_lost: int = 0
    durable_doubled: int = 0
    durable_disordered: int = 0
    not_recovered: int = 0


@define
class Delivery:
    """The result of a soak: an account for each client, the comparisons, and examples of uncounted messages."""

    accounts: dict[str, Account] = Factory(lambda: defaultdict(Account))
    comparisons: list[Comparison] = Factory(list)
    examples: list[str] = Factory(list)

    def total(self, fate: str) -> int:
        """Return the number of messages with a fate, over all clients."""
        return sum(each.fates[fate] for each in self.accounts.values())


def account(
    said: Iterable[Said],
    stays: Sequence[Stay],
    scrapes: Mapping[int, Sequence[Scrape]],
    killed: Mapping[int, float],
    outages: Sequence[tuple[float, float]],
) -> Delivery:
    """Find the fate of each answered message at each client of its topic.

    Args:
        said: the messages whose sender got a reply.
        stays: the memberships of all clients.
        scrapes: the counters of each node, oldest first. The last scrape of a calm time comes before the next fault.
        killed: the times at which nodes got a SIGKILL.
        outages: the beginnings and ends of the times without a Redis server.
    """
    said = list(said)
    facts = _Facts.of(said, stays, killed, outages)
    found = Delivery()
    for stay in stays:
        found.accounts[stay.client].doubled += len(stay.doubled)
        found.accounts[stay.client].disordered += len(stay.disordered)
    by_client = _by_topic_and_client(stays)
    missed: dict[tuple[int, int], list[tuple[Said, str]]] = defaultdict(list)
    for each in said:
        for client, (begins, own) in by_client[each.topic].items():
            index = bisect_right(begins, each.sent) - 1
            # A message that came late may have come during the next stay.
            if any(each.message in stay.heard for stay in own[max(index, 0) : index + 2]):
                fate: str | None = HEARD
            elif index < 0:
                fate = AWAY
            else:
                fate = facts.fate(each, own[index])
            if fate is None:
                node = own[index].node
                times = [scrape.seconds for scrape in scrapes.get(node, ())]
                missed[node, bisect_left(times, each.sent)].append((each, client))
            else:
                found.accounts[client].fates[fate] += 1
                if fate == UNCOUNTED:
                    found.examples.append(f"{client} missed {each}, which its node had")
    for (node, period), losses in missed.items():
        comparison = _compare(node, period, losses, scrapes.get(node, ()))
        found.comparisons.append(comparison)
        for _, client in losses:
            found.accounts[client].fates[COUNTED if comparison.is_admitted else UNCOUNTED] += 1
        if not comparison.is_admitted:
            each, client = losses[0]
            found.examples.append(f"{client} on {node} missed {each}: {comparison}")
    return found


@frozen
class _Facts:
    """The circumstances that excuse a missed message.

    Attributes:
        known: for a node and a sending node, the time at which the first message of the sending node arrived.
        reached: the nodes and the messages that one of their clients heard.
        started: the time of the first join on each node.
        killed: the times at which nodes got a SIGKILL.
        outages: the beginnings and ends of the times without a Redis server.
    """

    known: Mapping[tuple[int, int], float]
    reached: Collection[tuple[int, Message]]
    started: Mapping[int, float]
    killed: Mapping[int, float]
    outages: Sequence[tuple[float, float]]

    @classmethod
    def of(
        cls,
        said: Sequence[Said],
        stays: Sequence[Stay],
        killed: Mapping[int, float],
        outages: Sequence[tuple[float, float]],
    ) -> _Facts:
        """Collect the facts."""
        started: dict[int, float] = {}
        for stay in stays:
            started[stay.node] = min(stay.joined, started.get(stay.node, math.inf))
        return cls(
            known=_first_arrivals(stays, {each.message: each.node for each in said}),
            reached={(stay.node, message) for stay in stays for message in stay.heard},
            started=started,
            killed=killed,
            outages=outages,
        )

    def fate(self, said: Said, stay: Stay) -> str | None:
        """Return the fate of a message that a client missed during a stay. None means that its node has to count it."""
        if stay.left < said.answered + SETTLING:
            return AWAY
        if stay.node == said.node or (stay.node, said.message) in self.reached:
            # The counters of the node are about messages that did not arrive there.
            return UNCOUNTED
        if self.killed.get(said.node, math.inf) < said.answered + UNSENT:
            return NOT_SENT
        began = max(
            self.started[stay.node],
            self.started.get(said.node, said.sent),
            _end(self.outages, said.sent),
        )
        is_known = said.sent >= self.known.get((stay.node, said.node), math.inf)
        return None if is_known or said.sent >= began + INTRODUCTION else NOT_KNOWN


def _first_arrivals(
    stays: Iterable[Stay], node_of: Mapping[Message, int]
) -> dict[tuple[int, int], float]:
    """Return the time of the first message on a node from another node."""
    found: dict[tuple[int, int], float] = {}
    for stay in stays:
        for message, seconds in stay.heard.items():
            if message in node_of:
                pair = (stay.node, node_of[message])
                found[pair] = min(seconds, found.get(pair, math.inf))
    return found


def _by_topic_and_client(
    stays: Iterable[Stay],
) -> dict[str, dict[str, tuple[list[float], list[Stay]]]]:
    """Return the beginnings and the stays of each client, in order."""
    found: dict[str, dict[str, tuple[list[float], list[Stay]]]] = defaultdict(dict)
    for stay in sorted(stays, key=lambda each: each.joined):
        begins, own = found[stay.topic].setdefault(stay.client, ([], []))
        begins.append(stay.joined)
        own.append(stay)
    return found


def _end(outages: Sequence[tuple[float, float]], seconds: float) -> float:
    """Return the end of the last outage that began before a time."""
    return max((ended for began, ended in outages if began <= seconds), default=-math.inf)


def _compare(
    node: int, period: int, losses: Sequence[tuple[Said, str]], scrapes: Sequence[Scrape]
) -> Comparison:
    missed = len({each.message for each, _ in losses})
    if period >= len(scrapes):
        return Comparison(node, math.inf, missed, 0.0)
    before = scrapes[period - 1].lost if period else 0.0
    return Comparison(node, scrapes[period].seconds, missed, scrapes[period].lost - before)


def account_copies(found: Delivery, said: Iterable[Said], copies: Sequence[Copy]) -> None:
    """Add the durable messages to the accounts. Each client has to get each answered message once, in one order."""
    topics: dict[str, list[Copy]] = defaultdict(list)
    for copy in copies:
        topics[copy.topic].append(copy)
        client = found.accounts[copy.client]
        client.durable += len(copy.heard)
        client.durable_doubled += len(copy.doubled)
        client.not_recovered += len(copy.not_recovered)
    for each in said:
        for copy in topics[each.topic]:
            if copy.joined <= each.sent and each.message not in copy.heard:
                found.accounts[copy.client].durable_lost += 1
                found.examples.append(f"{copy.client} missed the durable {each}")
    for of_topic in topics.values():
        longest = max(of_topic, key=lambda copy: len(copy.heard))
        for copy in of_topic:
            expected = [message for message in longest.heard if message in copy.heard]
            shared = [message for message in copy.heard if message in longest.heard]
            found.accounts[copy.client].durable_disordered += sum(
                one != other for one, other in zip(expected, shared, strict=True)
            )


def presence_differences(
    joined: Mapping[str, int], views: Mapping[str, Mapping[str, Sequence[int]]]
) -> list[str]:
    """Compare the lists of all clients with the clients that have joined.

    Args:
        joined: the number of the present stay of each joined client.
        views: for each joined client, the stays that it sees by client.

    Returns:
        A sentence for each client that sees something else.
    """
    expected = {client: [stay] for client, stay in joined.items()}
    return [
        f"{client} sees {_shown(view)}, and {_shown(expected)} have joined"
        for client, view in views.items()
        if {key: sorted(stays) for key, stays in view.items()} != expected
    ]


def _shown(view: Mapping[str, Sequence[int]]) -> str:
    return " ".join(f"{key}:{','.join(map(str, stays))}" for key, stays in sorted(view.items()))
