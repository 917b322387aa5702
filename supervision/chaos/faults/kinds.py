"""Faults as data: what to break, where, and when. *pure*: nothing happens by making one.

    plan = (
        Kill(target="/top/room:lobby", when=At(0.5)),
        Raise(target="/top/store", when=On("handle_call", nth=3)),
        Partition(one="phone", other="server", seconds=2.0, when=At(1.0)),
    )

A plan is any sequence of faults. An `Injector` carries it out, in a simulation or on a live system, and says of each
fault what became of it.

`target` is the path of a process, as `supervision.recording.places` has them, or a pattern of `fnmatch` for several,
of which a fault takes the newest, or the one that `pick` says. In a world with nodes, a path begins with the node's
name: `b/top/store`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import msgspec
from attrs import frozen

from supervision.chaos.errors import BadFault
from supervision.chaos.faults.moments import (
    MESSAGES,
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
    "DropMessage",
    "DuplicateMessage",
    "ExitWith",
    "Fault",
    "FillMailbox",
    "HalfOpen",
    "Hang",
    "HoldConnection",
    "Junk",
    "Kill",
    "KillNode",
    "MessageFault",
    "Partition",
    "ProcessFault",
    "Raise",
    "ReorderMessage",
    "ResetConnection",
    "SkewClock",
    "Slow",
    "SlowConnection",
    "StallLoop",
    "SwallowCancellation",
    "describe_fault",
    "plan_from_json",
    "plan_to_json",
]

MOST_MESSAGES: Final = 1_000_000
"""The most that a mailbox may be filled with."""


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
    """What all faults have."""

    def check(self, field: str, least: float) -> None:
        """Raise BadFault unless a field is a number from `least`."""
        check_at_least(type(self).__name__, field, getattr(self, field), least)

    def check_text(self, field: str, what: str) -> None:
        """Raise BadFault unless a field is text that says something."""
        value = getattr(self, field)
        if not isinstance(value, str) or not value:
            raise BadFault(type(self).__name__, field, value, f"write {what}")


class ProcessFault(BaseFault, frozen=True, kw_only=True):
    """Done to one process.

    - `target`: its path, or a pattern;
    - `when`: `At(seconds)`, or `On(callback)` of any process that matches. What can only be done to a callback is, with
      `At`, done to the first one that begins after that time, `terminate` excepted;
    - `pick`: which one of several that match at a time: 0.0 is the oldest, anything up to 1.0 a later one; None is the
      newest. With `On`, and where a callback is waited for, it says nothing.
    """

    target: str
    when: Moment
    pick: float | None = None

    def __post_init__(self) -> None:
        self.check_text("target", "the path of a process, or a pattern such as /top/room:*")
        _check_pick(type(self).__name__, self.pick)


class MessageFault(BaseFault, frozen=True, kw_only=True):
    """Done to one message on its way to a process: what was sent to it, called or cast.

    Never to signals, to what the runtime itself tells (`Down`, `Exit`), to answers of calls, nor to what a process
    sends itself.

    - `target`: the path of the receiver, or a pattern;
    - `kind`: which messages, a pattern of `fnmatch`, see `kind_of`;
    - `when`: `At` is the first such message from then on; `On` the nth one of the calls ("handle_call"), the casts
      ("handle_cast"), what is neither ("handle_info" or "receive"), or of all ("message").
    """

    target: str
    when: Moment
    kind: str = "*"

    def __post_init__(self) -> None:
        self.check_text("target", "the path of a process, or a pattern such as /top/room:*")
        self.check_text("kind", "a pattern of kinds of messages, * for any")
        when = self.when
        if isinstance(when, On) and when.callback not in {*MESSAGES, "message", "receive"}:
            advice = f"write one of {', '.join(sorted(MESSAGES))}, message, receive in its On"
            raise BadFault(type(self).__name__, "when", when, advice)


class ConnectionFault(BaseFault, frozen=True, kw_only=True):
    """Done to one connection.

    - `target`: the name of a connection, or a pattern: `phone->server#2` is the second that the host `phone` has made
      to the host `server`;
    - `when`: a time;
    - `pick`: which of several, as in `ProcessFault`.
    """

    target: str = "*"
    when: At
    pick: float | None = None

    def __post_init__(self) -> None:
        self.check_text("target", "the name of a connection, or a pattern such as phone->*")
        _check_pick(type(self).__name__, self.pick)


def _check_pick(kind: str, pick: float | None) -> None:
    if pick is not None and not 0.0 <= pick <= 1.0:
        raise BadFault(kind, "pick", pick, "write a number from 0.0 (the oldest) to 1.0, or None")


# Faults of processes


class Kill(ProcessFault, frozen=True, kw_only=True):
    """Kill a process: `KILL`, which cannot be trapped. Kill(target="/top/store", when=At(0.5))."""


class ExitWith(ProcessFault, frozen=True, kw_only=True):
    """Send a process an exit signal, as anybody might: one that traps exits gets it as a message.

    - `reason`: "normal", "shutdown" and "kill" are the reasons of those names; any other text is a reason itself.
    """

    reason: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_text("reason", '"normal", "shutdown", "kill" or any text')


class Raise(ProcessFault, frozen=True, kw_only=True, tag="crash"):
    """Make a callback raise `InjectedCrash`, before any of its own code runs."""


class Hang(ProcessFault, frozen=True, kw_only=True):
    """Have a callback hang before it begins, until the faults are healed or its process ends."""


class Slow(ProcessFault, frozen=True, kw_only=True):
    """Hold a callback up for `seconds` before it begins."""

    seconds: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("seconds", 0.0)


class SwallowCancellation(ProcessFault, frozen=True, kw_only=True):
    """Hold a callback up for `seconds`, and let nothing end it meanwhile: no kill, no cancellation.

    A process that is killed in that time becomes a zombie if it takes longer than the runtime's `kill_grace`.
    """

    seconds: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("seconds", 0.0)


class FillMailbox(ProcessFault, frozen=True, kw_only=True):
    """Put so many messages into a mailbox that mean nothing to anybody: `Junk`."""

    messages: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("messages", 1)
        if not isinstance(self.messages, int) or self.messages > MOST_MESSAGES:
            advice = f"write a whole number, at most {MOST_MESSAGES}"
            raise BadFault(type(self).__name__, "messages", self.messages, advice)


@frozen
class Junk:
    """A message without meaning to any process, from the fault `FillMailbox`. They are numbered from 1."""

    number: int


# Faults of messages


class DropMessage(MessageFault, frozen=True, kw_only=True):
    """Lose a message. Who has called waits until its time limit."""


class DelayMessage(MessageFault, frozen=True, kw_only=True):
    """Let a message arrive `seconds` later; others overtake it."""

    seconds: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("seconds", 0.0)


class DuplicateMessage(MessageFault, frozen=True, kw_only=True):
    """Let a message arrive twice."""


class ReorderMessage(MessageFault, frozen=True, kw_only=True):
    """Let the next message to the same process overtake this one; if none follows within a second, nothing happens."""


# Faults of connections


class ResetConnection(ConnectionFault, frozen=True, kw_only=True):
    """Break a connection: what is on its way is lost, and both ends are told."""


class HoldConnection(ConnectionFault, frozen=True, kw_only=True):
    """Let nothing arrive for `seconds`; nothing is lost."""

    seconds: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("seconds", 0.0)


class SlowConnection(ConnectionFault, frozen=True, kw_only=True):
    """Let everything take `latency` seconds longer, for `seconds`."""

    seconds: float
    latency: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("seconds", 0.0)
        self.check("latency", 0.0)


class HalfOpen(ConnectionFault, frozen=True, kw_only=True):
    """Let nothing arrive any more, and tell nobody; until the faults are healed."""


# Faults of hosts, nodes, clocks and the event loop


class Partition(BaseFault, frozen=True, kw_only=True):
    """Let nothing pass between two hosts for `seconds`; nothing is lost. Partition(one="a", other="b", ...).

    - `one`, `other`: the hosts;
    - `both`: False cuts only the way from `one` to `other`.
    """

    one: str
    other: str
    seconds: float
    both: bool = True
    when: At

    def __post_init__(self) -> None:
        self.check_text("one", "the name of a host")
        self.check_text("other", "the name of a host")
        self.check("seconds", 0.0)


class KillNode(BaseFault, frozen=True, kw_only=True):
    """Kill a node as `kill -9` does: nothing of its code runs any more.

    - `node`: its name;
    - `reboot_after`: seconds until it is booted again; None leaves it dead.
    """

    node: str
    reboot_after: float | None = None
    when: At

    def __post_init__(self) -> None:
        self.check_text("node", "the name of a node")
        if self.reboot_after is not None:
            self.check("reboot_after", 0.0)


class SkewClock(BaseFault, frozen=True, kw_only=True):
    """Put the clock forward by `seconds`, or back: what `runtime.now()` says. Durations stay what they are.

    - `node`: whose clock; None is the clock of everything that is not in a node.
    """

    seconds: float
    node: str | None = None
    when: At

    def __post_init__(self) -> None:
        check_at_least("SkewClock", "seconds", abs(self.seconds), 0.0)


class StallLoop(BaseFault, frozen=True, kw_only=True):
    """Hold up the whole loop for `seconds`: time passes, and nobody runs. On a live system, this really happens."""

    seconds: float
    when: At

    def __post_init__(self) -> None:
        self.check("seconds", 0.0)


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
    | SkewClock
    | StallLoop
)
"""Any fault."""

FAULTS: Final[dict[str, type[Any]]] = {each.__struct_config__.tag: each for each in Fault.__args__}
"""Every class of faults, by what its `type` is in JSON: `FAULTS["kill"]` is `Kill`."""

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
    KillNode: "kill the node {node}{reboot}",
    SkewClock: "put the clock{of_node} {way} by {amount:g} s",
    StallLoop: "stall the loop for {seconds:g} s",
}

_ENVELOPES: Final = {"handle_call": "call", "handle_cast": "cast", "handle_info": "plain message"}


def describe_fault(fault: Fault) -> str:
    """A fault in the words of a story: "kill /top/room:lobby at 0.5 s"."""
    words: dict[str, Any] = {name: getattr(fault, name) for name in fault.__struct_fields__}
    if isinstance(fault, MessageFault):
        return _WORDS[type(fault)].format(message=_message(fault), **words)
    if isinstance(fault, Partition):
        words["one_way"] = "" if fault.both else ", one way,"
    elif isinstance(fault, KillNode):
        after = fault.reboot_after
        words["reboot"] = "" if after is None else f", to reboot {after:g} s later,"
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
    """A plan as JSON: a list of objects, each with its `type`."""
    return msgspec.json.encode(list(plan))


def plan_from_json(data: bytes | str) -> tuple[Fault, ...]:
    """Read what `plan_to_json` has written, or somebody by hand.

        plan_from_json('[{"type": "kill", "target": "/top/store", "when": {"type": "at", "seconds": 0.5}}]')

    Raises:
        BadFault: it is no JSON, or not that of a plan; says where.
    """
    try:
        return msgspec.json.decode(data, type=tuple[Fault, ...])
    except msgspec.MsgspecError as error:
        raise BadFault("plan", "json", _shortened(data, 80), f"{error}") from error


def _shortened(data: bytes | str, most: int) -> str:
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    return text if len(text) <= most else f"{text[:most]}..."
