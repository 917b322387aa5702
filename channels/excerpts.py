"""Short texts for error messages and log lines: excerpts of values, and places in a program.

*pure*. A client can send topics, events and refs of any length and nesting. An excerpt of them is always short.
"""

from __future__ import annotations

import inspect
import reprlib
from types import FrameType
from typing import Any

__all__ = ["brief", "place_of", "place_of_frame", "place_of_method"]

_repr = reprlib.Repr()
_repr.maxstring = 120
_repr.maxother = 120


def brief(value: object) -> str:
    """Return the `repr` of a value, shortened for a message.

    >>> len(brief("x" * 5_000_000))
    120
    """
    return _repr.repr(value)


def place_of(thing: Any) -> str | None:
    """Return the file and line at which a function, a method or a class is defined, as in `room.py:12`.

    Returns:
        None if the object was not defined in Python, or if the source of a class is missing.
    """
    if isinstance(thing, type):
        try:
            file = inspect.getsourcefile(thing)
            _, line = inspect.findsource(thing)
        except (OSError, TypeError, SyntaxError):
            # The last: somebody edits the file of a running class, and saves a version that Python cannot parse.
            return None
        # findsource counts lines from 0.
        return f"{file}:{line + 1}"
    thing = getattr(thing, "__func__", thing)
    code = getattr(inspect.unwrap(thing), "__code__", None) if callable(thing) else None
    return None if code is None else f"{code.co_filename}:{code.co_firstlineno}"


def place_of_method(owner: type, name: str) -> str:
    """Return a method with the file and line of its definition, as in `RoomChannel.shout, room.py:12`."""
    place = place_of(getattr(owner, name, None))
    return f"{owner.__name__}.{name}" if place is None else f"{owner.__name__}.{name}, {place}"


def place_of_frame(frame: FrameType) -> str:
    """Return the function, file and line that a frame executes, as in `RoomChannel.shout, room.py:12`."""
    code = frame.f_code
    return f"{code.co_qualname}, {code.co_filename}:{frame.f_lineno}"
