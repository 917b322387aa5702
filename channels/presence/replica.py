"""The states of the other nodes, according to their heartbeats.

*pure*. A node is *up* while its heartbeats arrive. After `down_period` without one it is *down*: its entries are
hidden, but kept, because it may only be cut off. After `permdown_period` it is forgotten.

A node is known by its name and an incarnation. A later run of the same name has a higher incarnation and replaces the
earlier one. Late messages of an earlier run change nothing.

    heartbeat ------> up <------ heartbeat --+
                      |                      |
                      +-- down_period --> down -- permdown_period --> forgotten
                      |
                      +-- goodbye --> gone, and forgotten after permdown_period

Give each `Change` to the method of `State` that it names.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen

from actors.arguments import check_positive, check_whole
from actors.errors import InvalidOption

__all__ = [
    "DOWN_PERIOD",
    "MAX_REPLICAS",
    "PERMDOWN_PERIOD",
    "Change",
    "Down",
    "Refused",
    "Removed",
    "Replicas",
    "Up",
]

DOWN_PERIOD = 30.0
"""Seconds without a heartbeat after which the presences of a node are hidden."""

PERMDOWN_PERIOD = 1_200.0
"""Seconds without a heartbeat after which a node is removed."""

MAX_REPLICAS = 1_024
"""The most nodes known at a time, unless `Replicas` gets another limit."""


@frozen
class Up:
    """A node runs: it is new, was down, or has a newer incarnation. Call `State.replica_up`.

    Attributes:
        name: the node.
        incarnation: its run.
        replaced: the earlier incarnation that it replaces, if any.
    """

    name: str
    incarnation: int
    replaced: int | None = None


@frozen
class Down:
    """A node has been silent for `down_period`. Call `State.replica_down`."""

    name: str
    incarnation: int


@frozen
class Removed:
    """A node has said goodbye, or has been silent for `permdown_period`. Call `State.replica_remove`."""

    name: str
    incarnation: int


Change: TypeAlias = Up | Down | Removed
"""A change of a node that `State` must follow."""


@frozen
class Refused:
    """A heartbeat that changes nothing, with the reason.

    Attributes:
        name: the node that sent it.
        incarnation: the run that sent it.
        reason: `"own name"`: the heartbeat has the name of this node but another incarnation. Two running nodes share a
            name, or an earlier run of this node sent it. `"old incarnation"`: a newer run is known, or this run has
            said goodbye. `"too many nodes"`: `max_replicas` nodes are known already.
    """

    name: str
    incarnation: int
    reason: str


class _Replica:
    __slots__ = ("heard_at", "incarnation", "status")

    def __init__(self, incarnation: int, heard_at: float) -> None:
        self.incarnation = incarnation
        self.heard_at = heard_at
        self.status = "up"


class Replicas:
    """The other nodes that this node has heard of.

        >>> replicas = Replicas("a", 1, down_period=30, permdown_period=1200)
        >>> replicas.heard("b", 5, now=0.0)
        Up(name='b', incarnation=5, replaced=None)
        >>> replicas.heard("b", 5, now=10.0)
        >>> replicas.silent(now=40.0)
        [Down(name='b', incarnation=5)]

    Times are seconds of one clock that never goes back, such as Trio's.

    Args:
        node: the name of this node.
        incarnation: the run of this node.
        down_period: seconds without a heartbeat after which a node is down.
        permdown_period: seconds without a heartbeat after which a node is forgotten.
        max_replicas: nodes known at a time, including nodes that have said goodbye.

    Raises:
        InvalidOption: a period is not above 0, or `permdown_period` is not above `down_period`.
    """

    __slots__ = (
        "_down_period",
        "_incarnation",
        "_max_replicas",
        "_node",
        "_permdown_period",
        "_replicas",
    )

    def __init__(
        self,
        node: str,
        incarnation: int,
        *,
        down_period: float,
        permdown_period: float,
        max_replicas: int = MAX_REPLICAS,
    ) -> None:
        check_positive("Replicas", "down_period", down_period)
        check_positive("Replicas", "permdown_period", permdown_period)
        check_whole("Replicas", "max_replicas", max_replicas)
        if permdown_period <= down_period:
            expected = f"a number above down_period, which is {down_period:g}"
            raise InvalidOption("Replicas", "permdown_period", permdown_period, expected)
        self._node = node
        self._incarnation = incarnation
        self._down_period = down_period
        self._permdown_period = permdown_period
        self._max_replicas = max_replicas
        self._replicas: dict[str, _Replica] = {}

    def heard(self, name: str, incarnation: int, now: float) -> Up | Refused | None:
        """Note a heartbeat.

        Returns:
            Up if the node was not up in this incarnation. None if it was up already, and for heartbeats of this node
            itself.
        """
        if name == self._node:
            own = incarnation == self._incarnation
            return None if own else Refused(name, incarnation, "own name")
        replica = self._replicas.get(name)
        if replica is None:
            if len(self._replicas) >= self._max_replicas:
                return Refused(name, incarnation, "too many nodes")
            self._replicas[name] = _Replica(incarnation, now)
            return Up(name, incarnation)
        if incarnation < replica.incarnation:
            return Refused(name, incarnation, "old incarnation")
        if incarnation > replica.incarnation:
            replaced = None if replica.status == "gone" else replica.incarnation
            self._replicas[name] = _Replica(incarnation, now)
            return Up(name, incarnation, replaced)
        if replica.status == "gone":
            # Another path has delayed this message, so it arrives after the goodbye.
            return Refused(name, incarnation, "old incarnation")
        replica.heard_at = now
        if replica.status == "up":
            return None
        replica.status = "up"
        return Up(name, incarnation)

    def said_goodbye(self, name: str, incarnation: int, now: float) -> Removed | None:
        """Note that a node ends. Later messages of that incarnation are refused for `permdown_period`.

        Returns:
            None if the node is not known in that incarnation. The message is then from an earlier run, or late.
        """
        replica = self._replicas.get(name)
        if replica is None or replica.incarnation != incarnation or replica.status == "gone":
            return None
        replica.status = "gone"
        replica.heard_at = now
        return Removed(name, incarnation)

    def silent(self, now: float) -> list[Down | Removed]:
        """Return the nodes that have become down, or are to be forgotten, by now. Call it at regular times."""
        changes: list[Down | Removed] = []
        for name, replica in list(self._replicas.items()):
            age = now - replica.heard_at
            if age >= self._permdown_period:
                del self._replicas[name]
                if replica.status != "gone":
                    changes.append(Removed(name, replica.incarnation))
            elif age >= self._down_period and replica.status == "up":
                replica.status = "down"
                changes.append(Down(name, replica.incarnation))
        return changes

    def renew(self, incarnation: int) -> None:
        """Note that this node has a new incarnation; see `State.renew`."""
        self._incarnation = incarnation

    def incarnation_of(self, name: str) -> int | None:
        """Return the known incarnation of a node that is up or down."""
        replica = self._replicas.get(name)
        return None if replica is None or replica.status == "gone" else replica.incarnation

    def newest(self, name: str) -> int | None:
        """Return the latest incarnation of a node that this node has heard of, even if it has said goodbye."""
        replica = self._replicas.get(name)
        return None if replica is None else replica.incarnation
