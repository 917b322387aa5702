"""The invariant that broadcasts between nodes arrive once and in order, or are reported as lost.

Register it with a scenario: `@scenario(invariants=("all", BroadcastsArrive))`. It watches every `PubSub` whose adapter
has an `Exchange`, as all adapters of Ashtree do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias
from zlib import crc32

import msgspec
import trio
from attrs import define, field

from actors.instrumentation.telemetry import Event
from actors.runtime import Runtime
from channels.pubsub.adapter import Encoded, LostEnvelopes
from channels.pubsub.exchange import Exchange
from channels.telemetry import PUBSUB_STARTED
from supervision.laboratory.chaos.invariants.base import Invariant
from supervision.recording.places import Places

__all__ = ["BroadcastsArrive"]

Lane: TypeAlias = tuple[str, str, str]
"""The envelopes of one incarnation on one lane: the lane, the node, the incarnation."""

_decode = msgspec.json.Decoder().decode

# The checksums of the envelopes that the nodes of this run sent, by lane, in order of sending. One run is one world.
_sent: trio.lowlevel.RunVar[dict[Lane, list[int]]] = trio.lowlevel.RunVar("sent broadcasts")


class BroadcastsArrive(Invariant):
    """Messages between nodes arrive once, in the order of their sender, and unchanged. Each gap is reported.

    Each message and heartbeat shows the receiver which earlier messages of the sender are missing. The receiver must
    report each missing message as lost exactly once, at that moment. It must not report any other message. Messages
    before the first contact with the sender do not count. So `statistics()["lost"]` is exact.

    The invariant knows the messages of all nodes in the same Trio run: in a simulated world, of every node. A sender
    must number its messages without gaps.
    """

    name: ClassVar[str] = "broadcasts_arrive"

    def attach(self, runtime: Runtime, places: Places | None = None) -> None:
        super().attach(runtime, places)
        # No code detaches this handler, because the telemetry ends with the runtime.
        runtime.telemetry.attach(PUBSUB_STARTED, self._started)

    def _started(self, _event: object, _measured: object, about: Mapping[str, Any]) -> None:
        try:
            sent = _sent.get()
        except LookupError:
            sent = {}
            _sent.set(sent)
        _Observed(self, about["exchange"], sent)


def _header(data: bytes) -> list[Any]:
    header: list[Any] = _decode(data.partition(b"\n")[0])
    return header


@define
class _Arrivals:
    """The last number of one lane that has arrived or was reported as lost, and the number of delivered messages."""

    last: int
    delivered: int = 0


@define(eq=False)
class _Observed:
    """One exchange, and the messages that pass through it."""

    invariant: BroadcastsArrive
    exchange: Exchange
    sent: dict[Lane, list[int]]
    receiver: Any = None
    _receive: Callable[[str, bytes], None] = field(init=False)
    _arrivals: dict[Lane, _Arrivals] = field(factory=dict)
    # The lane, the number and the bytes of the envelope that the exchange reads now; None between two envelopes.
    _reading: tuple[Lane, int, bytes] | None = None
    _was_delivered: bool = False
    _lost: int = 0

    def __attrs_post_init__(self) -> None:
        exchange: Any = self.exchange
        self.receiver, exchange.receiver = exchange.receiver, self
        self._receive, exchange.receive = exchange.receive, self._read
        exchange.message = self._numbered(exchange.message)
        exchange.message_to = self._numbered(exchange.message_to)

    def _wrong(self, problem: str) -> None:
        self.invariant.violated(f"node {self.exchange.node.name}: {problem}")

    # Out

    def _numbered(
        self, message: Callable[..., tuple[str, bytes]]
    ) -> Callable[..., tuple[str, bytes]]:
        def numbered(*args: Any) -> tuple[str, bytes]:
            lane, data = message(*args)
            _, node, incarnation, number, *_ = _header(data)
            checksums = self.sent.setdefault((lane, node, incarnation), [])
            checksums.append(crc32(data))
            if number != len(checksums):
                self._wrong(f"message {len(checksums)} on lane {lane} has the number {number}")
            return lane, data

        return numbered

    # In

    def _read(self, lane: str, data: bytes) -> None:
        try:
            _, node, incarnation, number, _topic, _event, *rest = _header(data)
        except (msgspec.DecodeError, ValueError, TypeError):
            # A publisher that is not a node sent this.
            self._receive(lane, data)
            return
        malformed = self.exchange.statistics()["malformed"]
        key = lane, node, incarnation
        self._reading, self._was_delivered = (key, number, data), False
        self._receive(lane, data)
        self._reading = None
        is_own = (node, incarnation) == (self.exchange.node.name, self.exchange.node.incarnation)
        if is_own or not incarnation or self.exchange.statistics()["malformed"] > malformed:
            if is_own and self._was_delivered:
                self._wrong("it has got its own message")
            return
        # An envelope of another program may leave out its kind.
        is_heartbeat = rest[:1] in (["heartbeat"], ["goodbye"])
        self._check(key, number, is_heartbeat=is_heartbeat)

    def _check(self, key: Lane, number: int, *, is_heartbeat: bool) -> None:
        """Check, after the exchange has read an envelope, that it reported every missing message."""
        arrivals = self._arrivals.get(key)
        if arrivals is None:
            if not is_heartbeat:
                self._wrong(f"it has dropped {_what(key, number)}, the first that it got")
            self._arrivals[key] = _Arrivals(number)
        elif arrivals.last < number:
            missing = f"{arrivals.last + 1} to {number}"
            self._wrong(f"it lacks the messages {missing} of {_who(key)}, and has not reported it")

    def deliver(self, encoded: Encoded) -> None:
        """Check a message from another node, and pass it on."""
        if self._reading is not None:
            key, number, data = self._reading
            self._was_delivered = True
            if key[2]:
                self._delivered(key, number, data)
        self.receiver.deliver(encoded)

    def _delivered(self, key: Lane, number: int, data: bytes) -> None:
        arrivals = self._arrivals.get(key)
        if arrivals is None:
            arrivals = self._arrivals[key] = _Arrivals(number - 1)
        if number <= arrivals.delivered:
            self._wrong(f"{_what(key, number)} comes after message {arrivals.delivered}, or twice")
        elif number <= arrivals.last:
            self._wrong(f"{_what(key, number)} comes, and was reported as lost")
        elif number > arrivals.last + 1:
            missing = f"{arrivals.last + 1} to {number - 1}"
            self._wrong(f"it lacks the messages {missing} of {_who(key)}, and has not reported it")
        arrivals.last = max(arrivals.last, number)
        arrivals.delivered = number
        checksums = self.sent.get(key)
        if checksums is not None and (
            number > len(checksums) or checksums[number - 1] != crc32(data)
        ):
            self._wrong(f"{_what(key, number)} is another one than was sent")

    def lost(self, lost: LostEnvelopes) -> None:
        """Check a report of lost messages, and pass it on."""
        key = lost.lane, lost.node, lost.incarnation
        arrivals = self._arrivals.get(key)
        if arrivals is None or lost.first != arrivals.last + 1 or lost.last < lost.first:
            known = "nothing of it" if arrivals is None else f"everything up to {arrivals.last}"
            self._wrong(
                f"it reports the messages {lost.first} to {lost.last} of {_who(key)} as lost, and knows {known}"
            )
        else:
            arrivals.last = lost.last
        self._lost += lost.count
        counted = self.exchange.statistics()["lost"]
        if counted != self._lost:
            self._wrong(f"it counts {counted} lost messages, and has reported {self._lost}")
        self.receiver.lost(lost)

    def execute(
        self, event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        """Pass an event on."""
        self.receiver.execute(event, measurements, metadata)


def _who(key: Lane) -> str:
    lane, node, incarnation = key
    return f"{node} ({incarnation}) on lane {lane}"


def _what(key: Lane, number: int) -> str:
    return f"message {number} of {_who(key)}"
