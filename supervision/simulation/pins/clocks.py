"""Stand-ins for the wall clock: virtual for libraries, refused to the program."""

from __future__ import annotations

import datetime as dt
import sys
import threading
import time
from collections.abc import Callable
from datetime import date as _date
from datetime import datetime as _datetime
from typing import Any

from supervision.simulation.pins.fence import OnEscape, escape
from supervision.simulation.pins.places import is_program

__all__ = ["pinned_clocks", "pinned_dates"]

_DURATION = "for a duration write `trio.current_time()`"
_MOMENT = "for the time of day write `current_runtime().now()`"


def pinned_clocks(
    now: Callable[[], float], on_escape: OnEscape
) -> dict[int, tuple[object, object]]:
    """For the `id` of each function of `time` that tells a time: that function and its stand-in."""
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
    """The same for the classes of `datetime`; everything but the present is as it always was."""
    thread = threading.get_ident()

    def read(what: str) -> bool:
        """Whether the present is virtual here; raises if the program asks for it."""
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
                return _datetime.today()  # noqa: DTZ002 # what was asked for
            return _datetime.fromtimestamp(now(), dt.UTC).replace(tzinfo=None)

    class PinnedDate(_date, metaclass=_Pinned, real=_date):
        @classmethod
        def today(cls) -> Any:
            if not read("date.today"):
                return _date.today()  # noqa: DTZ011 # what was asked for
            return _datetime.fromtimestamp(now(), dt.UTC).date()

    return {id(_datetime): (_datetime, PinnedDatetime), id(_date): (_date, PinnedDate)}


class _Pinned(type):
    """A class that makes, and recognises, instances of the real one."""

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
