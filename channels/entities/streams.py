"""The requests that nodes send to each other, in order. *pure*: see `channels.entities.messages`.

`Streams` has the requests that this node has sent and that have not ended. `Refusals` has the generations of other
nodes' streams that this node has refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from channels.pubsub.adapter import Node

__all__ = ["Refusals", "Stream", "Streams"]

MAX_REFUSALS = 10_000
"""The most refused generations that a node remembers. A generation matters only while its requests travel."""


class Sent(Protocol):
    """A request that this node sends."""

    key: str
    number: int
    node: Node | None
    turn: int
    fence: int
    deadline: float


R = TypeVar("R", bound=Sent)


class Stream(Generic[R]):
    """The requests to one key that the other node may still refuse, in order.

    Attributes:
        node: the other node.
        generation: the turn of its first request.
        requests: the requests, by number.
    """

    __slots__ = ("generation", "node", "requests")

    def __init__(self, node: Node, generation: int) -> None:
        self.node = node
        self.generation = generation
        self.requests: dict[int, R] = {}


class Streams(Generic[R]):
    """The requests that this node has sent to other nodes, until they end.

    Args:
        numbers: the next turns, which grow for as long as other nodes remember them.
    """

    def __init__(self, numbers: Iterator[int]) -> None:
        # The streams of keys for which the other node may still refuse a request.
        self.by_key: dict[str, Stream[R]] = {}
        self._sent: dict[int, R] = {}
        self._waiting: Counter[Node] = Counter()
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._sent)

    def node_of(self, key: str) -> Node | None:
        """Return the node to which the requests of a key go now, so that they stay in order; None for any node."""
        stream = self.by_key.get(key)
        return None if stream is None else stream.node

    def waiting_at(self, node: Node) -> int:
        """Return the number of requests that another node has."""
        return self._waiting[node]

    def get(self, number: int) -> R | None:
        """Return the request with a number, if another node has it."""
        return self._sent.get(number)

    def add(self, request: R, node: Node) -> int:
        """Take note of a request that goes to a node next. Return the generation of its stream."""
        turn = request.turn = next(self._numbers)
        stream = self.by_key.get(request.key)
        if stream is None:
            stream = self.by_key[request.key] = Stream(node, turn)
        stream.requests[request.number] = request
        self.entrust(request, node)
        return stream.generation

    def entrust(self, request: R, node: Node) -> None:
        """Take note that a node has a request and will not refuse it."""
        if request.node is not None:
            self._waiting[request.node] -= 1
        self._sent[request.number] = request
        self._waiting[node] += 1
        request.node = node

    def end(self, request: R) -> Node | None:
        """Forget a request that has ended. Return its node if that node has no other request of the key."""
        if self._sent.pop(request.number, None) is None or request.node is None:
            return None
        node = request.node
        self._waiting[node] -= 1
        if not self._waiting[node]:
            del self._waiting[node]
        return node if self._settle(request) else None

    def take_back(self, request: R) -> None:
        """Forget a request that this node handles itself after all."""
        self.end(request)
        request.node = None

    def forwarded(self, numbers: tuple[int, ...], node: Node, fence: int) -> None:
        """Take note that requests went to another node with a handover, unless a later handover carried them since."""
        for number in numbers:
            request = self._sent.get(number)
            if request is not None and request.fence < fence:
                request.fence = fence
                self._settle(request)
                self.entrust(request, node)

    def moved(self, node: Node, key: str, generation: int, turn: int) -> list[R]:
        """Return the requests that a node has refused, in order, and forget them.

        A node refuses all requests of a generation from one turn on. It has accepted those before, or they were lost.
        """
        stream = self.by_key.get(key)
        if stream is None or stream.node != node or stream.generation != generation:
            return []
        del self.by_key[key]
        refused = [each for each in stream.requests.values() if each.turn >= turn]
        for each in refused:
            self.take_back(each)
        return refused

    def at(self, node: Node) -> list[R]:
        """Return the requests that a node has, in order."""
        return [each for each in self._sent.values() if each.node == node]

    def late(self, now: float) -> list[R]:
        """Return the requests whose time is over."""
        return [each for each in self._sent.values() if each.deadline < now]

    def _settle(self, request: R) -> bool:
        """Remove a request from its stream. Return True if that was the last one."""
        stream = self.by_key.get(request.key)
        if stream is None or stream.requests.pop(request.number, None) is None or stream.requests:
            return False
        del self.by_key[request.key]
        return True


class Refusals:
    """The generations that this node has refused, by their nodes and keys.

    They stay if their node seems lost, because its requests may still be on their way.
    """

    def __init__(self) -> None:
        self._refused: dict[tuple[Node, str], tuple[int, int]] = {}

    def add(self, node: Node, key: str, generation: int, turn: int) -> bool:
        """Refuse a generation from a turn on. Return False if it is refused already."""
        known = self._refused.pop((node, key), (-1, 0))
        is_new = known[0] < generation
        self._refused[node, key] = (generation, turn) if is_new else known
        if len(self._refused) > MAX_REFUSALS:
            del self._refused[next(iter(self._refused))]
        return is_new

    def first(self, node: Node, key: str, generation: int) -> int | None:
        """Return the turn from which a generation is refused; None if it is not refused.

        All requests of earlier generations are refused too, from turn 0 on, because their node has sent them again.
        """
        known, turn = self._refused.get((node, key), (-1, 0))
        if generation > known:
            return None
        return turn if generation == known else 0
