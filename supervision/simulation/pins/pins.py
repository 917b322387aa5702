"""Pins for hidden entropy.

During a simulation, the seed and the virtual clock replace these sources:

- `os.urandom`, and with it `secrets`, `random.SystemRandom` and `uuid.uuid4`;
- `uuid.uuid1`; the functions of `random`; `random.Random()` without a seed;
- `time.time`, `time.monotonic`, `time.perf_counter` and their `_ns` forms, `datetime.now`, `datetime.utcnow`,
  `datetime.today` and `date.today`. Libraries get the virtual time. The program gets an `Escape`, because it should ask
  its runtime.
- the garbage collector. It is off, because it runs finalizers at moments that depend on the whole process.

The pins also replace a function in the modules that have imported it by name. At the end they restore everything. Other
threads always see the real functions.

A library such as time-machine is not enough: only this thread may see the virtual time, and only library code may read
it.
"""

from __future__ import annotations

import datetime as dt
import gc
import logging
import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date as _date
from datetime import datetime as _datetime
from typing import Any, ClassVar

import trio.testing

from supervision.recording.entropy import Streams
from supervision.simulation.pins.fence import OnEscape, escape
from supervision.simulation.pins.places import is_program

__all__ = ["pinned", "pinned_clocks", "pinned_dates", "seed_modules"]


@contextmanager
def pinned(
    streams: Streams,
    now: Callable[[], float],
    on_escape: OnEscape,
    settle: Callable[[], Awaitable[None]] | None = None,
) -> Iterator[None]:
    """Replace every source of entropy in this thread while the `with` block runs.

    Args:
        streams: the random streams of the run.
        now: returns the virtual time, in seconds since the epoch.
        on_escape: gets the `Escape` of a program that reads the wall clock.
        settle: the replacement of `trio.testing.wait_all_tasks_blocked`, which does not work with a clock that jumps.
    """
    replacements = _entropy(streams)
    replacements.update(pinned_clocks(now, on_escape))
    replacements.update(pinned_dates(now, on_escape))
    if settle is not None:
        replacements.update(_waiting_for_all(settle))
    with ExitStack() as stack:
        stack.callback(_restore_in_new_modules, set(sys.modules), replacements)
        stack.enter_context(_without_collector())
        stack.enter_context(_without_last_resort())
        stack.enter_context(_seeded_module(streams))
        for space, name in _uses(replacements):
            before = space[name]
            stack.callback(space.__setitem__, name, before)
            space[name] = replacements[id(before)][1]
        yield


def _entropy(streams: Streams) -> dict[int, tuple[object, object]]:
    """Map the `id` of each original function to the original and its replacement."""
    thread = threading.get_ident()
    draws = streams.stream("os.urandom")
    real_urandom, real_uuid1 = os.urandom, uuid.uuid1

    def urandom(size: int, /) -> bytes:
        if threading.get_ident() != thread:
            return real_urandom(size)
        return draws.randbytes(size)

    def uuid1(node: int | None = None, clock_seq: int | None = None) -> uuid.UUID:
        if threading.get_ident() != thread:
            return real_uuid1(node, clock_seq)
        return uuid.UUID(int=draws.getrandbits(128), version=1)

    return {id(real_urandom): (real_urandom, urandom), id(real_uuid1): (real_uuid1, uuid1)}


def _waiting_for_all(settle: Callable[[], Awaitable[None]]) -> dict[int, tuple[object, object]]:
    thread = threading.get_ident()
    real = trio.testing.wait_all_tasks_blocked

    async def wait_all_tasks_blocked(cushion: float = 0.0) -> None:
        await (settle() if threading.get_ident() == thread else real(cushion))

    return {id(real): (real, wait_all_tasks_blocked)}


def seed_modules(streams: Streams) -> None:
    """Seed the generators that belong to modules, from a run's streams."""
    random.seed(streams.fresh("random").getrandbits(128))


@contextmanager
def _seeded_module(streams: Streams) -> Iterator[None]:
    """Seed the functions of `random`, and every `random.Random()` without a seed."""
    draws = streams.stream("random.Random")
    thread = threading.get_ident()
    real_seed = random.Random.seed

    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None and threading.get_ident() == thread:
            a = draws.getrandbits(128)
        real_seed(self, a, version)

    state = random.getstate()
    seed_modules(streams)
    random.Random.seed = seed  # type: ignore[method-assign]
    try:
        yield
    finally:
        random.Random.seed = real_seed  # type: ignore[method-assign]
        random.setstate(state)


@contextmanager
def _without_collector() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _without_last_resort() -> Iterator[None]:
    """Keep `logging` from writing warnings to stderr by default: the trace has them, and a sweep prints too many."""
    before = logging.lastResort
    logging.lastResort = logging.NullHandler()
    try:
        yield
    finally:
        logging.lastResort = before


_ORIGINALS = (
    *(os.urandom, uuid.uuid1, dt.datetime, dt.date),
    *(time.time, time.time_ns, time.monotonic, time.monotonic_ns),
    *(time.perf_counter, time.perf_counter_ns, trio.testing.wait_all_tasks_blocked),
)


class _Cache:
    """The module globals that hold the originals. A further import makes this cache invalid."""

    modules = 0
    uses: ClassVar[list[tuple[dict[str, Any], str]]] = []


def _uses(
    replacements: dict[int, tuple[object, object]],
) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the module globals that hold an original, under any name."""
    if _Cache.modules != len(sys.modules):
        originals = {id(original) for original in _ORIGINALS}
        _Cache.modules = len(sys.modules)
        _Cache.uses = [
            (space, name)
            for module_name, space in _namespaces()
            if module_name != __name__  # this module needs the originals
            for name, value in list(space.items())
            if id(value) in originals and not _is_type_for_others(module_name, value)
        ]
    for space, name in _Cache.uses:
        original = replacements.get(id(space.get(name)))
        if original is not None and original[0] is space[name]:
            yield space, name


def _restore_in_new_modules(
    known: set[str], replacements: dict[int, tuple[object, object]]
) -> None:
    """Restore the originals in modules that the simulation imported, because they hold the replacements."""
    originals = {id(stand_in): original for original, stand_in in replacements.values()}
    for module_name, space in _namespaces():
        if module_name not in known:
            for name, value in list(space.items()):
                if id(value) in originals:
                    space[name] = originals[id(value)]


def _namespaces() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, module in list(sys.modules.items()):
        space = getattr(module, "__dict__", None)
        if type(space) is dict:
            yield name, space


def _is_type_for_others(module_name: str, value: object) -> bool:
    """Return True for a date type in a library, because the library may compare the type by identity."""
    if not isinstance(value, type) or module_name == "datetime":
        return False
    file = getattr(sys.modules[module_name], "__file__", None)
    return file is None or not is_program(file)


_DURATION = "for a duration write `trio.current_time()`"
_MOMENT = "for the time of day write `current_runtime().now()`"


def pinned_clocks(
    now: Callable[[], float], on_escape: OnEscape
) -> dict[int, tuple[object, object]]:
    """Map the `id` of each clock of `time` to the function and its replacement."""
    thread = threading.get_ident()

    def stand_in(real: Callable[[], Any], name: str, instead: str) -> Callable[[], Any]:
        nanoseconds = name.endswith("_ns")

        def clock() -> Any:
            if threading.get_ident() != thread:
                return real()
            if is_program(sys._getframe(1).f_code.co_filename):
                escape(f"time.{name}()", instead, on_escape)
            return round(now() * 1e9) if nanoseconds else now()

        return clock

    found: dict[int, tuple[object, object]] = {}
    for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"):
        real = getattr(time, name)
        instead = _MOMENT if name.startswith("time") else _DURATION
        found[id(real)] = (real, stand_in(real, name, instead))
    return found


def pinned_dates(now: Callable[[], float], on_escape: OnEscape) -> dict[int, tuple[object, object]]:
    """Map the `id` of each date class to the class and its replacement, which differs only in reading the clock."""
    thread = threading.get_ident()

    def read(what: str) -> bool:
        """Return True if the caller gets the virtual time. Raise an `Escape` if the caller is the program."""
        if threading.get_ident() != thread:
            return False
        if is_program(sys._getframe(2).f_code.co_filename):
            escape(f"{what}()", _MOMENT, on_escape)
        return True

    class PinnedDatetime(_datetime, metaclass=_Pinned, real=_datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            if not read("datetime.now"):
                return _datetime.now(tz)
            return _datetime.fromtimestamp(now(), tz or dt.UTC).replace(tzinfo=tz)

        @classmethod
        def utcnow(cls) -> Any:
            if not read("datetime.utcnow"):
                return _datetime.now(dt.UTC).replace(tzinfo=None)
            return _datetime.fromtimestamp(now(), dt.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Any:
            if not read("datetime.today"):
                return _datetime.today()  # noqa: DTZ002 # the caller asked for it
            return _datetime.fromtimestamp(now(), dt.UTC).replace(tzinfo=None)

    class PinnedDate(_date, metaclass=_Pinned, real=_date):
        @classmethod
        def today(cls) -> Any:
            if not read("date.today"):
                return _date.today()  # noqa: DTZ011 # the caller asked for it
            return _datetime.fromtimestamp(now(), dt.UTC).date()

    return {id(_datetime): (_datetime, PinnedDatetime), id(_date): (_date, PinnedDate)}


class _Pinned(type):
    """The metaclass of a stand-in class. It creates and recognises instances of the real class."""

    _real: type

    def __new__(
        mcs, name: str, bases: tuple[type, ...], space: dict[str, Any], *, real: type
    ) -> Any:
        cls = super().__new__(mcs, real.__name__, bases, {**space, "__module__": real.__module__})
        cls._real = real
        return cls

    def __init__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any], **_: Any) -> None:
        super().__init__(name, bases, space)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls._real(*args, **kwargs)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls._real)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, cls._real)
