"""Short texts for error messages and log lines: excerpts of values, and places in a program.

*pure*. A client can send topics, events and refs of any length and nesting. An excerpt of them is always short.
"""

from __future__ import annotations

import inspect
import reprlib
import sys
from types import FrameType
from typing import Any

__all__ = ["brief", "place_of", "place_of_caller", "place_of_method"]

_PACKAGES = ("actors.", "supervision.", "channels.")
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


def place_of_caller() -> str:
    """Return the function, file and line of the application that calls Ashtree, as in `RoomChannel.shout, room.py:12`.

    This is the innermost frame outside Ashtree's packages.
    """
    caller: FrameType | None = sys._getframe(1)
    while caller is not None and caller.f_globals.get("__name__", "").startswith(_PACKAGES):
        caller = caller.f_back
    if caller is None:
        # A channel of Ashtree itself, such as the observer's, in a thread without a frame of the application.
        caller = sys._getframe(1)
    return f"{caller.f_code.co_qualname}, {caller.f_code.co_filename}:{caller.f_lineno}"
