"""The base class of invariants, and the watch that checks a set of invariants.

    watch = Watch(runtime, [make() for make in BUILT_IN.values()], places)
    ...
    violation = watch.check()           # between two steps of any task
    violation = watch.at_rest()         # when no task can run

An invariant is an instrument. It keeps its own model of the events that it observes, independent of the code that it
checks. It only notes a violation, because an exception inside the observed operation would change the run.
`Watch.check` returns the violation later.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, ClassVar

import trio
from attrs import frozen

from actors.instrumentation.instrument import Instrument
from actors.refs import Pid
from actors.runtime import Runtime
from supervision.recording.places import Places

__all__ = ["Feed", "Invariant", "Violation", "Watch"]


@frozen
class Violation:
    """A violation of an invariant."""

    name: str
    """The name of the invariant."""
    problem: str
    """A sentence with the process, its action, and the expected behaviour."""


class Invariant(Instrument):
    """A property that always holds. Subclass it; see `docs/howto/replay-a-failure.md`.

        class NoCrash(Invariant):
            name = "no_crash"

            def process_exited(self, pid, reason):
                if isinstance(reason, Crash):
                    self.violated(f"{self.who(pid)} crashed; no process here may crash")

    Attributes:
        name: the name in settings and reports.
        runtime: the runtime that the invariant watches.
    """

    name: ClassVar[str] = ""

    feed: ClassVar[type[Feed] | None] = None
    """A shared observer that this invariant needs. It gets every event before the invariant does."""

    only_messages: ClassVar[Mapping[str, type]] = {}
    """Maps `message_sent` or `message_received` to the only class of messages that this invariant needs.

    The watch calls the method only for messages of exactly this class, and not for messages of its subclasses.
    """

    runtime: Runtime

    def __init__(self) -> None:
        self._places: Places | None = None
        # All invariants of a watch share one list, so the watch does not need to ask each invariant.
        self._findings: list[Violation] = []
        # The duties that were late at the last rest.
        self._late: dict[Hashable, None] = {}

    def attach(self, runtime: Runtime, places: Places | None = None) -> None:
        """Start to observe a runtime. A `Watch` calls this.

        Args:
            runtime: the runtime. The invariant does not know earlier events.
            places: the places of processes, for reports.
        """
        self.runtime = runtime
        self._places = places

    def check(self) -> str | None:
        """Return a problem, or None. This must be very cheap, because the watch calls it between any two rounds.

        Use it for problems that only exist between rounds of the scheduler. Report other problems with `violated`.
        """
        return None

    def at_rest(self) -> str | None:
        """Return a problem, or None. This may be expensive, because the watch calls it only when no task can run.

        Pass work that is late to `late_twice`.
        """
        return None

    def late_twice(self, late: Mapping[Hashable, str]) -> str | None:
        """Return a problem that was there at the last rest too, or None. Call this once in every `at_rest`.

            def at_rest(self):
                return self.late_twice(
                    {job: f"{job} is late" for job, limit in self.open.items() if limit < self.now()}
                )

        Work that becomes due now is done in a later round. On a live system, the event loop may also have stalled for
        longer than the time limit, and then all timers are late at once. So one late rest is no violation.

        Args:
            late: the problem of each duty that is late now. Use a new key for each new duty.
        """
        before = self._late
        if not late:
            # Nearly all rests end here, so this path allocates nothing.
            if before:
                self._late = {}
            return None
        self._late = dict.fromkeys(late)
        return next((problem for duty, problem in late.items() if duty in before), None)

    def disturbed(self, what: str, *, ongoing: bool) -> None:
        """Handle a change outside of this runtime. Only simulated worlds report these changes.

        Args:
            what: the name of the trace event, which is the start or the end of a network fault or a node fault:
                `partition`, `healed`, `reset`, `node_killed`, `node_paused` and others.
            ongoing: True if a partition or a held connection is in effect now.
        """

    def paused(self, *, ongoing: bool) -> None:
        """Handle the begin or the end of a pause of this runtime's node, in which none of its tasks runs.

        Args:
            ongoing: True if the pause begins.
        """

    def detach(self) -> None:
        """Handle the end of the runtime or the kill of its node. No more events follow."""

    def share(self, findings: list[Violation]) -> None:
        """Use `findings` as the list to which this invariant adds violations."""
        self._findings = findings

    def violated(self, problem: str) -> None:
        """Note a problem during an observed operation. The watch reports only the first problem.

        Args:
            problem: one sentence about the violation.
        """
        self._findings.append(Violation(self.name, problem))

    def who(self, pid: Pid | None) -> str:
        """Return the name of a process for reports: its place in the tree, if known, and its pid.

        Args:
            pid: the process.
        """
        if pid is None:
            return "a task outside of processes"
        place = None if self._places is None else self._places.was_at(pid)
        return repr(pid) if place is None else f"{place} {pid!r}"

    def is_held(self, pid: Pid) -> bool:
        """Return True if a fault now delays a callback of a process, so that the process cannot act.

        Args:
            pid: the process.
        """
        return self._places is not None and self._places.is_held(pid)

    def now(self) -> float:
        """Return the time of Trio's clock."""
        return trio.current_time()


class Feed(Instrument):
    """An observer that several invariants share.

    Attributes:
        runtime: the runtime that the feed observes.
        listeners: the invariants that the feed informs.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.listeners: list[Any] = []

    def add(self, invariant: Invariant) -> None:
        """Add an invariant to `listeners`."""
        self.listeners.append(invariant)

    def close(self) -> None:
        """Stop observing."""


_SEEN = tuple(
    name for name, value in vars(Instrument).items() if callable(value) and not name.startswith("_")
)


class Watch(Instrument):
    """Several invariants as one instrument. An invariant gets only the events that it has a method for.

        watch = Watch(runtime, [Monitors(), Calls()])

    Create the watch after all instruments that delay callbacks or make them fail.

    Args:
        runtime: the runtime, just opened.
        invariants: new invariants that no other watch uses.
        places: the places of processes, for reports.
    """

    def __init__(
        self, runtime: Runtime, invariants: Iterable[Invariant], places: Places | None = None
    ) -> None:
        self.invariants = tuple(invariants)
        self._findings: list[Violation] = []
        self._feeds: dict[type[Feed], Feed] = {}
        for invariant in self.invariants:
            self._attach(invariant, runtime, places)
        # Feeds come first, so that they are up to date when an invariant gets the event.
        parts: list[Instrument] = [*self._feeds.values(), *self.invariants]
        for name in _SEEN:
            concerned = [part for part in parts if _has(part, name, Instrument)]
            if concerned:
                setattr(self, name, _all_of(name, concerned))
        for pid in runtime.processes():
            info = runtime.process_info(pid)
            if info is not None:
                self.process_spawned(pid, info["parent"], info["label"])
        self._checks = [each for each in self.invariants if _has(each, "check", Invariant)]
        self._rests = [each for each in self.invariants if _has(each, "at_rest", Invariant)]
        self._disturbed = [each for each in self.invariants if _has(each, "disturbed", Invariant)]
        self._remove = runtime.add_instrument(self)

    def _attach(self, invariant: Invariant, runtime: Runtime, places: Places | None) -> None:
        feed = type(invariant).feed
        if feed is not None:
            if feed not in self._feeds:
                self._feeds[feed] = feed(runtime)
            self._feeds[feed].add(invariant)
        invariant.share(self._findings)
        invariant.attach(runtime, places)

    def check(self) -> Violation | None:
        """Return the first violation, or None. Call this between two rounds of the scheduler."""
        if self._findings:
            return self._findings[0]
        for invariant in self._checks:
            problem = invariant.check()
            if problem is not None:
                return Violation(invariant.name, problem)
        return None

    def at_rest(self) -> Violation | None:
        """Return the first violation, or None. Call this only when no task can run."""
        if self._findings:
            return self._findings[0]
        for invariant in self._rests:
            problem = invariant.at_rest()
            if problem is not None:
                return Violation(invariant.name, problem)
        return None

    def disturbed(self, what: str, *, ongoing: bool) -> None:
        """Tell the invariants that something outside of their runtime changed.

        Args:
            what: the name of the trace event, such as `partition`.
            ongoing: True if a partition or a held connection is in effect now.
        """
        for invariant in self._disturbed:
            invariant.disturbed(what, ongoing=ongoing)

    def paused(self, *, ongoing: bool) -> None:
        """Tell the invariants that the node of their runtime stands still from now on, or runs again.

        Args:
            ongoing: True if the pause begins.
        """
        for invariant in self.invariants:
            invariant.paused(ongoing=ongoing)

    def close(self) -> None:
        """Stop watching."""
        self._remove()
        for invariant in self.invariants:
            invariant.detach()
        for feed in self._feeds.values():
            feed.close()


def _has(part: Instrument, name: str, base: type) -> bool:
    return getattr(type(part), name) is not getattr(base, name)


def _all_of(name: str, parts: list[Instrument]) -> Callable[..., None]:
    """Return a function that passes one kind of event on to several observers."""
    # `by_class` has the methods that need only one class of messages. `handlers` has all other methods.
    by_class: dict[type, list[Callable[..., Any]]] = {}
    handlers: list[Callable[..., Any]] = []
    for part in parts:
        only = part.only_messages.get(name) if isinstance(part, Invariant) else None
        chosen = handlers if only is None else by_class.setdefault(only, [])
        chosen.append(getattr(part, name))
    if name == "message_sent":
        return _sent_to(handlers, by_class)
    if name == "message_received":
        return _received_by(handlers, by_class)
    return _told(handlers)


# Messages are the most frequent events. A function with `*args` would take twice as long as these two functions.


def _sent_to(
    handlers: list[Callable[..., Any]], by_class: dict[type, list[Callable[..., Any]]]
) -> Callable[..., None]:
    def message_sent(sender: Pid | None, receiver: Pid, message: Any) -> None:
        for handle in handlers:
            handle(sender, receiver, message)
        if type(message) in by_class:
            for handle in by_class[type(message)]:
                handle(sender, receiver, message)

    return message_sent


def _received_by(
    handlers: list[Callable[..., Any]], by_class: dict[type, list[Callable[..., Any]]]
) -> Callable[..., None]:
    def message_received(pid: Pid, message: Any) -> None:
        for handle in handlers:
            handle(pid, message)
        if type(message) in by_class:
            for handle in by_class[type(message)]:
                handle(pid, message)

    return message_received


def _told(handlers: list[Callable[..., Any]]) -> Callable[..., None]:
    if len(handlers) == 1:
        return handlers[0]

    def tell(*args: Any) -> None:
        for handle in handlers:
            handle(*args)

    return tell
