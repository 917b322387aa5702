"""Random fault plans. *pure*: the random source is an argument.

    storm = Storm(["/top/room:*", "/top"], count=30, within=20.0)
    plan = storm.draw(random.Random(7))

Each fault has its own stream of random numbers. So, for one seed, a storm with `count=30` contains all faults of the
same storm with `count=29`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from attrs import Attribute, field, frozen

from supervision.laboratory.chaos.errors import InvalidFault
from supervision.laboratory.chaos.faults.kinds import (
    FAULTS,
    DiskFault,
    Fault,
    KillNode,
    MessageFault,
    NodeFault,
    ProcessFault,
)
from supervision.laboratory.chaos.faults.moments import At, Moment, On, check_at_least
from supervision.laboratory.entropy import Chance

__all__ = ["EVERYWHERE", "FaultPlan", "Storm", "checked", "delayed", "draw_plan", "spread"]

FaultPlan: TypeAlias = "Storm | Sequence[Fault] | Callable[[Chance], Sequence[Fault]] | None"
"""The faults of a scenario: a sequence, a `Storm`, a function that draws a sequence, or None for no faults."""

EVERYWHERE: Final = (
    *("kill", "exit_with", "crash", "hang", "slow", "swallow_cancellation", "fill_mailbox"),
    *("drop_message", "delay_message", "duplicate_message", "reorder_message", "stall_loop"),
)
"""The kinds of faults that need no network and no nodes."""

_COUNTS: Final = (1, 1, 2, 3, 5, 8, 13)
_CALLBACKS: Final = ("message", "message", "message", "init", "terminate")
# Exit reasons that any process may send. "normal", "shutdown" and "kill" name special reasons.
_REASONS: Final = ("normal", "shutdown", "kill", "bored", "", "\x00", "x" * 300)


def _check_count(storm: Storm, attribute: Attribute[int], value: int) -> None:
    check_at_least("Storm", "count", value, 0)
    if not isinstance(value, int):
        raise InvalidFault("Storm", "count", value, "write a whole number")


def _check_seconds(storm: Storm, attribute: Attribute[float], value: float) -> None:
    check_at_least("Storm", attribute.name, value, 0.0)


def _check_callbacks(storm: Storm, attribute: Attribute[float], value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise InvalidFault("Storm", "callbacks", value, "write a share from 0.0 to 1.0")


def _check_kinds(storm: Storm, attribute: Attribute[Any], value: tuple[str, ...]) -> None:
    if not value:
        raise InvalidFault("Storm", "kinds", value, f"write some of {', '.join(FAULTS)}")
    for kind in value:
        if kind not in FAULTS:
            raise InvalidFault("Storm", "kinds", kind, f"write some of {', '.join(FAULTS)}")
        if kind in _PROCESSES and not storm.targets:
            raise InvalidFault(
                "Storm", "targets", (), f"write the targets of {kind}, such as /top/*"
            )
        if kind == "partition" and len(set(storm.hosts)) < 2:
            raise InvalidFault(
                "Storm", "hosts", storm.hosts, "write the names of two hosts or more"
            )
        if issubclass(FAULTS[kind], DiskFault) and not storm.files:
            raise InvalidFault("Storm", "files", (), f"write the files of {kind}, such as a/*")
        if issubclass(FAULTS[kind], NodeFault) and not storm.nodes:
            raise InvalidFault("Storm", "nodes", (), "write the names of nodes")


_PROCESSES: Final = frozenset(
    kind for kind, made in FAULTS.items() if issubclass(made, ProcessFault | MessageFault)
)


@frozen
class Storm:
    """Random faults.

        Storm(["/top/store"], kinds=["kill", "crash"], count=5, within=10.0)

    Args:
        targets: paths of processes, or patterns. Each fault targets one of these, drawn at random.
        count: the number of faults.
        within: the latest time of a fault, in seconds.
        after: the earliest time of a fault, in seconds.
        longest: the longest duration of a fault, in seconds.
        callbacks: the share of faults of processes, messages and disks that wait for a callback or an operation instead
            of a time, from 0.0 to 1.0.
        connections: names of connections, or patterns.
        hosts: the hosts that partitions may separate.
        nodes: the nodes that faults may kill, pause or drain.
        files: paths of files, or patterns, for the faults of disks. With some, a node may also lose its power, and die
            before an operation of its disk.
        kinds: kinds of faults, by their JSON names ("drop_message"). List a kind twice to draw it twice as often.

    Raises:
        InvalidFault: a kind does not exist, or a kind needs targets, hosts or nodes and the storm has none.
    """

    targets: tuple[str, ...] = field(converter=tuple[str, ...], default=())
    count: int = field(default=10, validator=_check_count)
    within: float = field(default=10.0, validator=_check_seconds)
    after: float = field(default=0.0, kw_only=True, validator=_check_seconds)
    longest: float = field(default=2.0, kw_only=True, validator=_check_seconds)
    callbacks: float = field(default=0.25, kw_only=True, validator=_check_callbacks)
    connections: tuple[str, ...] = field(converter=tuple[str, ...], default=("*",), kw_only=True)
    hosts: tuple[str, ...] = field(converter=tuple[str, ...], default=(), kw_only=True)
    nodes: tuple[str, ...] = field(converter=tuple[str, ...], default=(), kw_only=True)
    files: tuple[str, ...] = field(converter=tuple[str, ...], default=(), kw_only=True)
    # `kinds` is the last field, because its check reads the other fields.
    kinds: tuple[str, ...] = field(
        converter=tuple[str, ...], default=("kill", "crash"), kw_only=True, validator=_check_kinds
    )

    def draw(self, random: Chance) -> tuple[Fault, ...]:
        """Draw a plan. The earliest faults come first.

            Storm(["/top/*"], count=3).draw(Random(7))

        Args:
            random: the random source.

        Returns:
            The faults of the plan. The same source in the same state gives the same plan.
        """
        # Each fault has its own source, so that the numbers that it draws do not change the other faults.
        new = type(random)
        sources = [new(random.getrandbits(64)) for _ in range(self.count)]
        return tuple(sorted((self._fault(source) for source in sources), key=_time_of))

    def _fault(self, random: Chance) -> Fault:
        kind = FAULTS[random.choice(self.kinds)]
        names = set(kind.__struct_fields__)
        at = At(round(random.uniform(self.after, self.within), 3))
        values: dict[str, Any] = {"when": at}
        if issubclass(kind, ProcessFault | MessageFault):
            values["target"] = random.choice(self.targets)
            if random.random() < self.callbacks:
                values["when"] = self._callback(random, kind)
        elif issubclass(kind, DiskFault):
            values["target"] = random.choice(self.files)
            if random.random() < self.callbacks:
                values["when"] = On("operation", nth=random.choice(_COUNTS))
        elif kind is KillNode and self.files:
            values["power"] = random.random() < 0.5
            if random.random() < self.callbacks:
                # All bugs in a study of crashes needed a crash near one of the first few syncs.
                operation = random.choice(("fsync", "operation"))
                values["when"] = On(operation, nth=random.choice(_COUNTS))
        elif "target" in names:
            values["target"] = random.choice(self.connections)
        if "pick" in names and isinstance(values["when"], At):
            values["pick"] = round(random.random(), 2)
        for name, draw in _DRAWN.items():
            if name in names:
                values[name] = draw(self, random)
        if kind is FAULTS["partition"]:
            values["one"], values["other"] = random.sample(sorted(set(self.hosts)), 2)
        return kind(**values)  # type: ignore[no-any-return] # one of FAULTS

    def _callback(self, random: Chance, kind: type[Any]) -> Moment:
        callback = "message" if issubclass(kind, MessageFault) else random.choice(_CALLBACKS)
        if callback == "init":
            # Never incarnation 1: the system would not start, and the other faults would have no target.
            return On("init", incarnation=random.choice((2, 3)))
        return On(callback, nth=random.choice(_COUNTS))


_DRAWN: Final[dict[str, Callable[[Storm, Chance], Any]]] = {
    "seconds": lambda storm, random: round(storm.longest * random.random() ** 2, 3),
    "latency": lambda storm, random: round(storm.longest * random.random() / 4, 3),
    "reason": lambda storm, random: random.choice(_REASONS) or "empty",
    "messages": lambda storm, random: random.choice((1, 10, 100, 1000)),
    "error": lambda storm, random: random.choice(("EIO", "ENOSPC")),
    "both": lambda storm, random: random.random() < 0.5,
    "node": lambda storm, random: random.choice(storm.nodes) if storm.nodes else None,
    "reboot_after": lambda storm, random: round(storm.longest * random.random(), 3),
}


def _time_of(fault: Fault) -> float:
    return fault.when.seconds if isinstance(fault.when, At) else 0.0


def draw_plan(plan: FaultPlan, random: Chance) -> tuple[Fault, ...]:
    """Return the faults of a plan of any form.

    Args:
        plan: faults, a storm, a function of a `Random` that returns faults, or None for no faults.
        random: the random source.

    Raises:
        InvalidFault: the plan has another type, or contains an item that is not a fault.
    """
    if plan is None:
        return ()
    if isinstance(plan, Storm):
        return plan.draw(random)
    return checked(plan(random) if callable(plan) else plan)


def checked(plan: Sequence[Fault]) -> tuple[Fault, ...]:
    """Return the faults of a sequence as a tuple.

    Raises:
        InvalidFault: `plan` is not a sequence, or an item is not a fault.
    """
    if isinstance(plan, str | bytes) or not isinstance(plan, Iterable):
        raise InvalidFault("plan", "faults", plan, _ADVICE)
    faults = tuple(plan)
    for fault in faults:
        if not isinstance(fault, Fault):
            raise InvalidFault("plan", "faults", fault, _ADVICE)
    return faults


def spread(plan: Sequence[Fault], seconds: float) -> tuple[Fault, ...]:
    """Return a plan whose times fill a phase of some seconds. Only `At` times change, and no duration does.

        spread([Kill(target="/a", when=At(3)), Kill(target="/b", when=At(27))], 60)       # at 6 s and at 54 s

    The last fault comes at nine tenths of the phase, so that the phase shows its effects. If the last fault already
    comes in the last quarter of the phase, no time changes.

    Args:
        plan: the faults.
        seconds: the length of the phase in seconds.
    """
    last = max((fault.when.seconds for fault in plan if isinstance(fault.when, At)), default=0.0)
    if last <= 0.0 or 0.75 * seconds <= last < seconds:
        return tuple(plan)
    factor = 0.9 * seconds / last
    return tuple(_moved(fault, lambda time: time * factor) for fault in plan)


def delayed(plan: Sequence[Fault], seconds: float) -> tuple[Fault, ...]:
    """Return a plan whose `At` times are later by some seconds."""
    return tuple(_moved(fault, lambda time: time + seconds) for fault in plan)


def _moved(fault: Fault, move: Callable[[float], float]) -> Fault:
    if not isinstance(fault.when, At):
        return fault
    return msgspec.structs.replace(fault, when=At(round(move(fault.when.seconds), 3)))


_ADVICE: Final = (
    'write a sequence of faults, such as [Kill(target="/top/store", when=At(0.5))], or a Storm'
)
