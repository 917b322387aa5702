"""Faults as data: each fault has a kind, a target and a moment. *pure*: only an `Injector` applies a fault.

    plan = (
        Kill(target="/top/room:lobby", when=At(0.5)),
        Raise(target="/top/store", when=On("handle_call", nth=3)),
        Partition(one="phone", other="server", seconds=2.0, when=At(1.0)),
    )

A plan is a sequence of faults. An `Injector` applies it, in a simulation or on a live system, and reports the outcome
of each fault.

`target` is the path of a process (see `supervision.recording.places`) or an `fnmatch` pattern. If several processes
match, the fault applies to the newest, unless `pick` selects another. In a world with nodes, a path begins with the
name of the node: `b/top/store`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec
from attrs import frozen

from supervision.laboratory.chaos.errors import InvalidFault
from supervision.laboratory.chaos.faults.moments import (
    CALLBACKS,
    MESSAGES,
    OPERATIONS,
    At,
    Moment,
    On,
    check_at_least,
    describe_moment,
)

__all__ = [
    "FAULTS",
    "BaseFault",
    "ConnectionFault",
    "DelayMessage",
    "DiskError",
    "DiskFault",
    "DrainNode",
    "DropMessage",
    "DuplicateMessage",
    "ExitWith",
    "Fault",
    "FillMailbox",
    "FlipBit",
    "HalfOpen",
    "Hang",
    "HoldConnection",
    "Junk",
    "Kill",
    "KillNode",
    "LoseWrite",
    "MessageFault",
    "NodeFault",
    "Partition",
    "PauseNode",
    "ProcessFault",
    "Raise",
    "ReorderMessage",
    "ResetConnection",
    "SkewClock",
    "Slow",
    "SlowConnection",
    "SlowDisk",
    "StallLoop",
    "SwallowCancellation",
    "branch_of",
    "describe_fault",
    "lasting_seconds",
    "needs_instrument",
    "plan_from_json",
    "plan_to_json",
]

MOST_MESSAGES: Final = 1_000_000
"""The most messages that `FillMailbox` may send."""

REORDER_SECONDS: Final = 1.0
"""The maximum seconds for which `ReorderMessage` holds a message, until another message overtakes it."""

_DURATIONS: Final = ("seconds", "latency")


# The parts that faults share


def _tag(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class BaseFault(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag=_tag,
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """The base of all faults."""

    def __post_init__(self) -> None:
        """Check the durations of the fault."""
        for name in self.__struct_fields__:
            if name in _DURATIONS:
                self.check(name, 0.0)

    def check(self, field: str, least: float) -> None:
        """Raise InvalidFault unless a field is a finite number and at least `least`."""
        check_at_least(type(self).__name__, field, getattr(self, field), least)

    def check_text(self, field: str, what: str) -> None:
        """Raise InvalidFault unless a field is non-empty text."""
        value = getattr(self, field)
        if not isinstance(value, str) or not value:
            raise InvalidFault(type(self).__name__, field, value, f"write {what}")

    def check_callback(self, when: Moment, known: Sequence[str]) -> None:
        """Raise InvalidFault if a moment is another callback than these."""
        if isinstance(when, On) and when.callback not in known:
            advice = f"write one of {', '.join(known)} in its On"
            raise InvalidFault(type(self).__name__, "when", when, advice)


class ProcessFault(BaseFault, frozen=True, kw_only=True):
    """A fault of one process.

    Attributes:
        target: the path of the process, or a pattern.
        when: `At(seconds)`, or `On(callback)` of any matching process. With `At`, `Raise`, `Hang`, `Slow` and
            `SwallowCancellation` apply to the first callback, other than `terminate`, that begins after that time.
        pick: selects one of several matching processes: 0.0 is the oldest, 1.0 the newest; None is the newest. A fault
            that waits for a callback ignores `pick`.
    """

    target: str
    when: Moment
    pick: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_text("target", "the path of a process, or a pattern such as /top/room:*")
        self.check_callback(self.when, CALLBACKS)
        _check_pick(type(self).__name__, self.pick)


class MessageFault(BaseFault, frozen=True, kw_only=True):
    """A fault of one message on its way to a process: a call, a cast or a plain message.

    A message fault never affects signals, `Down` and `Exit` messages, replies, or messages of a process to itself.

    Attributes:
        target: the path of the receiver, or a pattern.
        kind: an `fnmatch` pattern for the kind of the message; see `kind_of`.
        when: with `At`, the fault affects the first matching message after that time. With `On`, it affects the nth
            call ("handle_call"), cast ("handle_cast"), plain message ("handle_info" or "receive"), or message of any
            of these kinds ("message").
    """

    target: str
    when: Moment
    kind: str = "*"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_text("target", "the path of a process, or a pattern such as /top/room:*")
        self.check_text("kind", "a pattern of kinds of messages, * for any")
        self.check_callback(self.when, (*sorted(MESSAGES), "message", "receive"))


class ConnectionFault(BaseFault, frozen=True, kw_only=True):
    """A fault of one connection.

    Attributes:
        target: the name of a connection, or a pattern. `phone->server#2` is the second connection of the host `phone`
            to the host `server`.
        when: a time.
        pick: selects one of several matching connections, as in `ProcessFault`.
    """

    target: str = "*"
    when: At
    pick: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_text("target", "the name of a connection, or a pattern such as phone->*")
        _check_pick(type(self).__name__, self.pick)


def _check_pick(kind: str, pick: float | None) -> None:
    if pick is not None and not 0.0 <= pick <= 1.0:
        raise InvalidFault(
            kind, "pick", pick, "write a number from 0.0 (the oldest) to 1.0, or None"
        )


# Faults of processes


class Kill(ProcessFault, frozen=True, kw_only=True):
    """Kill a process with `KILL`, which cannot be trapped: `Kill(target="/top/store", when=At(0.5))`."""


class ExitWith(ProcessFault, frozen=True, kw_only=True):
    """Send a process an exit signal. A process that traps exits gets the signal as a message.

    Attributes:
        reason: "normal", "shutdown" and "kill" stand for `NORMAL`, `SHUTDOWN` and `KILL`. Any other text is itself the
            reason.
    """

    reason: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_text("reason", '"normal", "shutdown", "kill" or any text')


class Raise(ProcessFault, frozen=True, kw_only=True, tag="crash"):
    """Make a callback raise `InjectedCrash` before its own code runs. In JSON, the type of this fault is "crash"."""


class Hang(ProcessFault, frozen=True, kw_only=True):
    """Make a callback hang before it begins. It hangs until `heal` or until the end of its process."""


class Slow(ProcessFault, frozen=True, kw_only=True):
    """Delay a callback for `seconds` before it begins."""

    seconds: float


class SwallowCancellation(ProcessFault, frozen=True, kw_only=True):
    """Delay a callback for `seconds`. Neither a kill nor a cancellation ends the callback during the delay.

    If something kills the process during the delay, and the rest of the delay is longer than the runtime's
    `kill_grace`, the process becomes a zombie.
    """

    seconds: float


class FillMailbox(ProcessFault, frozen=True, kw_only=True):
    """Send a process `messages` messages of the class `Junk`."""

    messages: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("messages", 1)
        if not isinstance(self.messages, int) or self.messages > MOST_MESSAGES:
            advice = f"write a whole number, at most {MOST_MESSAGES}"
            raise InvalidFault(type(self).__name__, "messages", self.messages, advice)


@frozen
class Junk:
    """A message that `FillMailbox` sends. The target does not expect it. `number` counts the messages from 1."""

    number: int


# Faults of messages


class DropMessage(MessageFault, frozen=True, kw_only=True):
    """Lose a message. The caller of a lost call waits until its timeout."""


class DelayMessage(MessageFault, frozen=True, kw_only=True):
    """Deliver a message `seconds` later. Messages sent after it can arrive first."""

    seconds: float


class DuplicateMessage(MessageFault, frozen=True, kw_only=True):
    """Deliver a message twice."""


class ReorderMessage(MessageFault, frozen=True, kw_only=True):
    """Deliver a message after the next message to the same process, if one follows within a second."""


# Faults of connections


class ResetConnection(ConnectionFault, frozen=True, kw_only=True):
    """Reset a connection: data in transit is lost, and both ends get an error."""


class HoldConnection(ConnectionFault, frozen=True, kw_only=True):
    """Hold back all data of a connection for `seconds`. Nothing is lost."""

    seconds: float


class SlowConnection(ConnectionFault, frozen=True, kw_only=True):
    """Add `latency` seconds to the transit time of a connection, for `seconds`."""

    seconds: float
    latency: float


class HalfOpen(ConnectionFault, frozen=True, kw_only=True):
    """Hold back all data of a connection until `heal`, without an error at either end."""


# Faults of hosts, nodes, clocks and the event loop


class Partition(BaseFault, frozen=True, kw_only=True):
    """Block all data between two hosts for `seconds`. Nothing is lost.

    Attributes:
        one: a host.
        other: the other host.
        both: False cuts only the direction from `one` to `other`.
    """

    one: str
    other: str
    seconds: float
    both: bool = True
    when: At

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_text("one", "the name of a host")
        self.check_text("other", "the name of a host")


class NodeFault(BaseFault, frozen=True, kw_only=True):
    """A fault of one node: a simulated one, or a process of the operating system in a live cluster.

    Attributes:
        node: the name of the node. In a live cluster also `owner of SUPERVISOR/KEY`, the node that runs an entity.
    """

    node: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_text("node", "the name of a node")


class KillNode(NodeFault, frozen=True, kw_only=True):
    """Kill a node as `kill -9` does: none of its code runs any more.

    Attributes:
        power: True cuts the power of its machine, so that its disk also loses unsynced writes.
        reboot_after: seconds until the node boots again; None leaves it dead. A killed worker needs none, because its
            parent starts another one.
        when: a time, or `On` an operation with which the node is about to change its disk. The `kind` of this `On` is a
            pattern of paths.
    """

    power: bool = False
    reboot_after: float | None = None
    when: Moment

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_callback(self.when, OPERATIONS)
        if self.reboot_after is not None:
            self.check("reboot_after", 0.0)


class PauseNode(NodeFault, frozen=True, kw_only=True):
    """Stop all tasks of a node for `seconds`, as SIGSTOP does. Its connections stay open."""

    seconds: float
    when: At


class DrainNode(NodeFault, frozen=True, kw_only=True):
    """Let a node of a live cluster stop in order, as a deploy does: it drains, ends, and is started again."""

    when: At


class SkewClock(BaseFault, frozen=True, kw_only=True):
    """Set the clock forward by `seconds`; a negative number sets it back. This changes `runtime.now()`, not durations.

    Attributes:
        node: the node whose clock changes; None for the clock of the runtimes outside of nodes.
    """

    seconds: float
    node: str | None = None
    when: At

    def __post_init__(self) -> None:
        # Not `super()`: this number may be negative.
        check_at_least("SkewClock", "seconds", abs(self.seconds), 0.0)


class StallLoop(BaseFault, frozen=True, kw_only=True):
    """Block the whole event loop for `seconds`. On a live system, the process really does nothing during that time."""

    seconds: float
    when: At


# Faults of disks


class DiskFault(BaseFault, frozen=True, kw_only=True):
    """A fault of one operation of a disk.

    Attributes:
        target: the path of the file, or a pattern. The name of the node comes first: `a/journal`, and outside of nodes
            `/journal`.
        when: with `At`, the fault affects the first matching operation after that time. With `On`, it affects the nth
            operation of that name, such as "fsync". A fault ignores the operations that it cannot affect.
    """

    target: str = "*"
    when: Moment

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_text("target", "the path of a file, or a pattern such as a/*")
        self.check_callback(self.when, OPERATIONS)


class DiskError(DiskFault, frozen=True, kw_only=True):
    """Make an operation fail with an `OSError`. ENOSPC affects only the operations that take room.

    Attributes:
        error: "EIO" for a broken disk, "ENOSPC" for a full one.
        seconds: all later operations fail too, for this time.
    """

    error: Literal["EIO", "ENOSPC"] = "EIO"
    seconds: float = 0.0


class SlowDisk(DiskFault, frozen=True, kw_only=True):
    """Make each operation take `latency` seconds, for `seconds`. A call outside of a thread stalls the loop."""

    seconds: float
    latency: float


class LoseWrite(DiskFault, frozen=True, kw_only=True):
    """Lose a write that the disk confirms. The page cache hides the loss until the power fails, even after a sync."""


class FlipBit(DiskFault, frozen=True, kw_only=True):
    """Flip a random bit of the bytes that an operation reads or writes, on the disk too."""


Fault: TypeAlias = (
    Kill
    | ExitWith
    | Raise
    | Hang
    | Slow
    | SwallowCancellation
    | FillMailbox
    | DropMessage
    | DelayMessage
    | DuplicateMessage
    | ReorderMessage
    | ResetConnection
    | HoldConnection
    | SlowConnection
    | HalfOpen
    | Partition
    | KillNode
    | PauseNode
    | DrainNode
    | SkewClock
    | StallLoop
    | DiskError
    | SlowDisk
    | LoseWrite
    | FlipBit
)
"""Any fault."""

FAULTS: Final[dict[str, type[Any]]] = {each.__struct_config__.tag: each for each in Fault.__args__}
"""Each fault class by its `type` in JSON: `FAULTS["kill"]` is `Kill`."""

_WORDS: Final[dict[type[Any], str]] = {
    Kill: "kill {target}",
    ExitWith: "end {target} with {reason!r}",
    Raise: "crash {target}",
    Hang: "hang {target}",
    Slow: "slow {target} down for {seconds:g} s",
    SwallowCancellation: "keep {target} from ending for {seconds:g} s",
    FillMailbox: "put {messages} messages into the mailbox of {target}",
    DropMessage: "drop {message}",
    DelayMessage: "delay {message} by {seconds:g} s",
    DuplicateMessage: "duplicate {message}",
    ReorderMessage: "let the next message overtake {message}",
    ResetConnection: "reset the connection {target}",
    HoldConnection: "hold the connection {target} for {seconds:g} s",
    SlowConnection: "make the connection {target} {latency:g} s slower for {seconds:g} s",
    HalfOpen: "leave the connection {target} half open",
    Partition: "cut {one} off from {other}{one_way} for {seconds:g} s",
    KillNode: "{kill} the node {node}{reboot}",
    PauseNode: "pause the node {node} for {seconds:g} s",
    DrainNode: "drain the node {node}",
    SkewClock: "put the clock{of_node} {way} by {amount:g} s",
    StallLoop: "stall the loop for {seconds:g} s",
    DiskError: "fail {target} with {error}",
    SlowDisk: "make {target} {latency:g} s slower for {seconds:g} s",
    LoseWrite: "lose a write to {target}",
    FlipBit: "flip a bit of {target}",
}

_ENVELOPES: Final = {"handle_call": "call", "handle_cast": "cast", "handle_info": "plain message"}


def branch_of(fault: Fault) -> str:
    """Return the kind of a fault. If the fault waits for a callback, add its name: `kill`, `crash on init`.

    A sweep counts the faults of each branch. The counts show the branches of a plan that never had an effect.
    """
    kind = str(fault.__struct_config__.tag)
    return f"{kind} on {fault.when.callback}" if isinstance(fault.when, On) else kind


def needs_instrument(fault: Fault) -> bool:
    """Return True if an injector must observe callbacks and messages to apply a fault."""
    observed = isinstance(fault, MessageFault | Raise | Hang | Slow | SwallowCancellation)
    return observed or (isinstance(fault.when, On) and not isinstance(fault, DiskFault | KillNode))


def lasting_seconds(fault: Fault) -> float:
    """Return the seconds for which a fault lasts.

    The result is 0.0 for a fault without a duration, and `math.inf` for a fault that lasts until `heal`. The callback
    or connection that a fault affects may end before this time.
    """
    if isinstance(fault, Hang | HalfOpen | SkewClock):
        return math.inf
    if isinstance(fault, KillNode):
        return math.inf if fault.reboot_after is None else fault.reboot_after
    if isinstance(fault, ReorderMessage):
        return REORDER_SECONDS
    seconds: float = getattr(fault, "seconds", 0.0)
    return seconds


def describe_fault(fault: Fault) -> str:
    """Describe a fault in words: "kill /top/room:lobby at 0.5 s".

    Args:
        fault: the fault.

    Returns:
        The description.
    """
    words: dict[str, Any] = {name: getattr(fault, name) for name in fault.__struct_fields__}
    if isinstance(fault, MessageFault):
        return _WORDS[type(fault)].format(message=_message(fault), **words)
    if isinstance(fault, Partition):
        words["one_way"] = "" if fault.both else ", one way,"
    elif isinstance(fault, KillNode):
        after = fault.reboot_after
        words["reboot"] = "" if after is None else f", to reboot {after:g} s later,"
        words["kill"] = "cut the power of" if fault.power else "kill"
    elif isinstance(fault, SkewClock):
        words["of_node"] = "" if fault.node is None else f" of {fault.node}"
        words["way"] = "forward" if fault.seconds >= 0 else "back"
        words["amount"] = abs(fault.seconds)
    elif isinstance(fault, ExitWith):
        words["reason"] = _shortened(fault.reason, 40)
    return f"{_WORDS[type(fault)].format(**words)} {describe_moment(fault.when)}"


def _message(fault: MessageFault) -> str:
    when = fault.when
    if isinstance(when, At):
        kind = "message" if fault.kind == "*" else fault.kind
        return f"the first {kind} to {fault.target} from {when.seconds:g} s on"
    number = f"number {when.nth} of the " if when.nth > 1 else "the first of the "
    of = [kind for kind in (fault.kind, when.kind) if kind not in ("*", None)]
    what = f"{_ENVELOPES.get(when.callback, 'message')}s{f' of {of[0]}' if of else ''}"
    whose = "" if when.incarnation is None else f" as incarnation {when.incarnation}"
    return f"{number}{what} to {fault.target}{whose}"


# JSON


def plan_to_json(plan: Sequence[Fault]) -> bytes:
    """Return a plan as JSON: a list of objects, each with its `type`.

    Args:
        plan: the faults.
    """
    return msgspec.json.encode(list(plan))


def plan_from_json(data: bytes | str) -> tuple[Fault, ...]:
    """Read a plan from JSON, as `plan_to_json` returns it.

        plan_from_json('[{"type": "kill", "target": "/top/store", "when": {"type": "at", "seconds": 0.5}}]')

    Args:
        data: the JSON text.

    Returns:
        The faults, in the same order.

    Raises:
        InvalidFault: the data is not JSON, or not a plan. The error's `advice` names the place in the data.
    """
    try:
        return msgspec.json.decode(data, type=tuple[Fault, ...])
    except msgspec.MsgspecError as error:
        raise InvalidFault("plan", "json", _shortened(data, 80), f"{error}") from error


def _shortened(data: bytes | str, most: int) -> str:
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    return text if len(text) <= most else f"{text[:most]}..."
