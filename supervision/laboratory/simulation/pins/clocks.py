"""Pins for the clocks: `time`, and the current time of `datetime`.

Libraries get the virtual time. In the program, these functions raise an `Escape`, because the program should use the
clock of its runtime. A conversion of a given time, such as `time.localtime(seconds)`, is unchanged. Its result depends
on the time zone of the machine, so use UTC.
"""

from __future__ import annotations

import datetime as dt
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date as _date
from datetime import datetime as _datetime
from typing import Any

from actors.places import is_program
from supervision.laboratory.simulation.pins.fence import OnEscape, escape

__all__ = ["pinned_clocks", "pinned_dates"]

_DURATION = "for a duration write `trio.current_time()`"
_MOMENT = "for the time of day write `current_runtime().now()`"
_CPU = "leave it out, because CPU time differs from run to run"

# The functions that read a clock, with the advice in the `Escape`.
_READS = {
    "time": _MOMENT,
    "time_ns": _MOMENT,
    "monotonic": _DURATION,
    "monotonic_ns": _DURATION,
    "perf_counter": _DURATION,
    "perf_counter_ns": _DURATION,
    "process_time": _CPU,
    "process_time_ns": _CPU,
    "thread_time": _CPU,
    "thread_time_ns": _CPU,
    "clock_gettime": _MOMENT,
    "clock_gettime_ns": _MOMENT,
}


def pinned_clocks(now: Callable[[], float], on_escape: OnEscape) -> Iterator[tuple[object, object]]:
    """Yield each function of `time` that reads a clock, with its replacement.

    Some of these functions read the clock only if the caller passes no time.
    """
    thread = threading.get_ident()

    def stand_in(
        real: Callable[..., Any], instead: str, fixed: int, virtual: Callable[..., Any]
    ) -> Callable[..., Any]:
        def function(*args: Any) -> Any:
            given = len(args) > fixed and args[fixed] is not None
            if given or threading.get_ident() != thread:
                return real(*args)
            if is_program(sys._getframe(1).f_code.co_filename):
                escape(f"time.{real.__name__}()", instead, on_escape)
            return virtual(*args[:fixed])

        return function

    def seconds(*_: Any) -> float:
        return now()

    def nanoseconds(*_: Any) -> int:
        return round(now() * 1e9)

    for name, instead in _READS.items():
        real = getattr(time, name)
        # The first argument of these two functions is the number of a clock.
        fixed = 1 if name in ("clock_gettime", "clock_gettime_ns") else 0
        virtual = nanoseconds if name.endswith("_ns") else seconds
        yield real, stand_in(real, instead, fixed, virtual)

    gmtime, asctime, strftime = time.gmtime, time.asctime, time.strftime

    def present() -> time.struct_time:
        return gmtime(now())

    for real, fixed, calendar in (
        # The time zone of the world is UTC, so that a run is the same on every machine.
        (time.localtime, 0, present),
        (gmtime, 0, present),
        (time.ctime, 0, lambda: asctime(present())),
        (asctime, 0, lambda: asctime(present())),
        (strftime, 1, lambda form: strftime(form, present())),
    ):
        yield real, stand_in(real, _MOMENT, fixed, calendar)


def pinned_dates(now: Callable[[], float], on_escape: OnEscape) -> Iterator[tuple[object, object]]:
    """Yield each date class, with its replacement. Only the methods that read the clock differ."""
    thread = threading.get_ident()

    def read(what: str) -> bool:
        """Return True if the caller gets the virtual time, and False in other threads.

        Raise an `Escape` if the caller is the program.
        """
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

    yield _datetime, PinnedDatetime
    yield _date, PinnedDate


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
