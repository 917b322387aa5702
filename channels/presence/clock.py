"""Versions of the parts of the presence set, and the choice of nodes to ask for missing versions.

*pure*. Each node is the only writer of its own part of the set. It counts its changes: its *clock*. A restarted node
begins a new count, as a new *incarnation*. So a node's part has a version, `(incarnation, clock)`, and versions of one
node are in order: a higher incarnation is always newer.

    >>> Version(8, 0) > Version(7, 3) > Version(7, 2)
    True
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

__all__ = [
    "MAX_INTEGER",
    "Clocks",
    "Version",
    "new_incarnation",
    "sources",
    "upper_bound",
]

MAX_INTEGER = 2**53 - 1
"""The highest clock and incarnation: programs in every language can read it from JSON without loss."""

_NOISE_BITS = 10


class Version(NamedTuple):
    """The version of one node's part of the set. Versions of one node compare as tuples.

    Attributes:
        incarnation: the run of the node. A later run has a higher number.
        clock: the number of changes that the node has made in this run.
    """

    incarnation: int
    clock: int


Clocks: TypeAlias = Mapping[str, Version]
"""The version of each node's part in the set of one node, by node name.

These versions are the *context* of the set.
"""


def new_incarnation(seconds: float, noise: int, *, after: int = 0) -> int:
    """Return the incarnation of a node that starts now.

        >>> new_incarnation(1_700_000_000.5, 3)
        1740800000512003
        >>> new_incarnation(1_700_000_000.5, 3, after=1740800000512003)
        1740800000512004

    Nodes compare only incarnations of one node name. So the clocks of different machines need not agree. But the clock
    of one machine should not go back between two runs. `State.is_superseded` detects that.

    Args:
        seconds: the wall clock at the start of the node, in seconds since 1970.
        noise: a random number. Its low 10 bits separate two starts in the same millisecond.
        after: an incarnation that the result must exceed, such as that of the previous run in the same process.

    Returns:
        A whole number up to `MAX_INTEGER`: milliseconds times 1024, plus the noise.
    """
    milliseconds = int(seconds * 1000)
    return max((milliseconds << _NOISE_BITS) | (noise & ((1 << _NOISE_BITS) - 1)), after + 1)


def upper_bound(all_clocks: Iterable[Clocks]) -> dict[str, Version]:
    """Return the highest version of each node in any of the clocks."""
    bound: dict[str, Version] = {}
    for clocks in all_clocks:
        for name, version in clocks.items():
            if name not in bound or bound[name] < version:
                bound[name] = version
    return bound


def sources(own: Clocks, offers: Mapping[str, Clocks]) -> list[str]:
    """Choose the nodes to ask for all changes that this node lacks.

        >>> own = {"a": Version(1, 5), "b": Version(1, 0), "c": Version(1, 0)}
        >>> all_of_it = {"a": Version(1, 5), "b": Version(1, 8), "c": Version(1, 4)}
        >>> sources(own, {"b": {"b": Version(1, 8)}, "c": all_of_it})
        ['c']

    The result is a small set of nodes that together have all that is offered. Each step chooses the node with the most
    missing parts. If several nodes are equal, it chooses the first in `offers`, so a caller can spread the load by the
    order.

    Args:
        own: the versions of this node. It asks only for the nodes and incarnations in them, because it accepts a new
            one only after a heartbeat of the new node itself.
        offers: the clocks that other nodes have sent, by the name of the sender.
    """
    offered = {sender: _newer_parts(own, clocks) for sender, clocks in offers.items()}
    missing = upper_bound(offered.values())
    chosen = []
    while missing:
        covered = {
            sender: [name for name, version in parts.items() if missing.get(name) == version]
            for sender, parts in offered.items()
        }
        best = max(covered, key=lambda sender: len(covered[sender]))
        for name in covered[best]:
            del missing[name]
        chosen.append(best)
    return chosen


def _newer_parts(own: Clocks, clocks: Clocks) -> dict[str, Version]:
    return {
        name: version
        for name, version in clocks.items()
        if name in own
        and own[name].incarnation == version.incarnation
        and own[name].clock < version.clock
    }
