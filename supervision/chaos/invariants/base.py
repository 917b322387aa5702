"""What an invariant is, and how a set of them watches a runtime.

    watch = Watch(runtime, [make() for make in BUILT_IN.values()], places)
    ...
    violation = watch.check()           # between two steps of any task
    violation = watch.at_rest()         # when nobody can run

An invariant hears what happens as an instrument does, and keeps what it needs to know what should happen next; it asks
nobody whose work it checks. What it finds it writes down, and `check` says it: raising inside of what is observed would
change it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Protocol

import trio
from attrs import frozen

from actors.instrumentation.instrument import Instrument
from actors.refs import Pid
from actors.runtime import Runtime

__all__ = ["Feed", "Invariant", "Located", "Violation", "Watch"]


class Located(Protocol):
    """Knows where processes are: `supervision.recording.places.Places`."""

    def was_at(self, pid: Pid) -> object:
        """What stands for the place of a process that lives or has ended, as text; None if it is not known."""

    def is_held(self, pid: Pid) -> bool:
        """Whether a fault holds up a living process."""


@frozen
class Violation:
    """Something that must always hold did not."""

    name: str
    """Of the invariant."""
    problem: str
    """Who did what, and what was expected."""


class Invariant(Instrument):
    """Something that always holds. Subclass it; see `docs/howto/write-an-invariant.md`.

    class NoCrash(Invariant):
        name = "no_crash"

        def process_exited(self, pid, reason):
            if isinstance(reason, Crash):
                self.violated(f"{self.who(pid)} crashed; nothing here may")

    Attributes:
        name: how it is switched on and off, and called in reports.
        runtime: what it watches.
    """

    name: ClassVar[str] = ""

    feed: ClassVar[type[Feed] | None] = None
    """What makes more of what happens, before this hears of it; one for all invariants that name it."""

    runtime: Runtime

    def __init__(self) -> None:
        self._places: Located | None = None
        # Shared with the watch that this belongs to, so that nobody has to be asked as long as nothing is wrong.
        self._findings: list[Violation] = []

    def attach(self, runtime: Runtime, places: Located | None = None) -> None:
        """Begin to watch a runtime, whose instrument this now is, by way of a `Watch`.

        Args:
            runtime: one that nothing has happened in yet; what has happened before is not known.
            places: for the names of processes in reports.
        """
        self.runtime = runtime
        self._places = places

    def check(self) -> str | None:
        """What is wrong, or None. Called between any two rounds of the scheduler, so it must cost next to nothing.

        Only for what can be told between two rounds alone; what `violated` was told is known already.
        """
        return None

    def at_rest(self) -> str | None:
        """What is wrong, or None, now that nobody can run before time passes. May look at everything."""
        return None

    def share(self, findings: list[Violation]) -> None:
        """Write what is found into this list, from now on."""
        self._findings = findings

    def violated(self, problem: str) -> None:
        """Write down what is wrong, from within what is observed; the first finding counts."""
        self._findings.append(Violation(self.name, problem))

    def who(self, pid: Pid | None) -> str:
        """A process as reports call it: by its place, if that is known, and its pid."""
        if pid is None:
            return "a task that is no process"
        place = None if self._places is None else self._places.was_at(pid)
        return repr(pid) if place is None else f"{place} {pid!r}"

    def is_held(self, pid: Pid) -> bool:
        """Whether a fault holds a callback of a process up now: that it does nothing then is no mistake of its own."""
        return self._places is not None and self._places.is_held(pid)

    def now(self) -> float:
        """The time on Trio's clock."""
        return trio.current_time()


class Feed(Instrument):
    """Follows something for several invariants at once, which it tells in words of its own.

    Attributes:
        runtime: what it follows.
        listeners: whom it tells.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.listeners: list[Any] = []

    def add(self, invariant: Invariant) -> None:
        """Tell one more."""
        self.listeners.append(invariant)

    def close(self) -> None:
        """Follow no longer."""


_SEEN = tuple(
    name for name, value in vars(Instrument).items() if callable(value) and not name.startswith("_")
)


class Watch(Instrument):
    """Several invariants as one instrument: each hears only what it has a method for.

        watch = Watch(runtime, [Monitors(), Calls()])

    Add it after every instrument that holds callbacks up or fails them, so that what it hears is what happens.

    Args:
        runtime: to be watched, from its beginning.
        invariants: not attached to anything yet.
        places: where processes are.
    """

    def __init__(
        self, runtime: Runtime, invariants: Iterable[Invariant], places: Located | None = None
    ) -> None:
        self.invariants = tuple(invariants)
        self._findings: list[Violation] = []
        self._feeds: dict[type[Feed], Feed] = {}
        for invariant in self.invariants:
            self._attach(invariant, runtime, places)
        # Feeds first: when an invariant hears of something, they know it.
        parts: list[Instrument] = [*self._feeds.values(), *self.invariants]
        for name in _SEEN:
            hearers = [getattr(part, name) for part in parts if _has(part, name, Instrument)]
            if hearers:
                setattr(self, name, hearers[0] if len(hearers) == 1 else _all_of(hearers))
        for pid in runtime.processes():
            info = runtime.process_info(pid)
            if info is not None:
                self.process_spawned(pid, info["parent"], info["label"])
        self._checks = [each for each in self.invariants if _has(each, "check", Invariant)]
        self._rests = [each for each in self.invariants if _has(each, "at_rest", Invariant)]
        self._remove = runtime.add_instrument(self)

    def _attach(self, invariant: Invariant, runtime: Runtime, places: Located | None) -> None:
        feed = type(invariant).feed
        if feed is not None:
            if feed not in self._feeds:
                self._feeds[feed] = feed(runtime)
            self._feeds[feed].add(invariant)
        invariant.share(self._findings)
        invariant.attach(runtime, places)

    def check(self) -> Violation | None:
        """What is wrong, between two rounds of the scheduler."""
        if self._findings:
            return self._findings[0]
        for invariant in self._checks:
            problem = invariant.check()
            if problem is not None:
                return Violation(invariant.name, problem)
        return None

    def at_rest(self) -> Violation | None:
        """What is wrong, when nobody can run."""
        if self._findings:
            return self._findings[0]
        for invariant in self._rests:
            problem = invariant.at_rest()
            if problem is not None:
                return Violation(invariant.name, problem)
        return None

    def close(self) -> None:
        """Watch no longer."""
        self._remove()
        for feed in self._feeds.values():
            feed.close()


def _has(part: Instrument, name: str, base: type) -> bool:
    return getattr(type(part), name) is not getattr(base, name)


def _all_of(hearers: list[Callable[..., Any]]) -> Callable[..., None]:
    def tell(*args: Any) -> None:
        for hear in hearers:
            hear(*args)

    return tell
