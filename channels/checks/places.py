"""Where in a program something is defined, for messages: file and line."""

from __future__ import annotations

import inspect
from types import FrameType
from typing import Any

__all__ = ["place_of", "place_of_frame", "place_of_method"]


def place_of(thing: Any) -> str | None:
    """Return the file and line at which a function, a method or a class is defined, as in `room.py:12`.

    Returns:
        None for what was not defined in Python, and for a class whose source is not there.
    """
    if isinstance(thing, type):
        try:
            file = inspect.getsourcefile(thing)
            _, line = inspect.findsource(thing)
        except (OSError, TypeError):
            return None
        # Sources count their lines from 0 here, and from 1 everywhere else.
        return f"{file}:{line + 1}"
    thing = getattr(thing, "__func__", thing)
    code = getattr(inspect.unwrap(thing), "__code__", None) if callable(thing) else None
    return None if code is None else f"{code.co_filename}:{code.co_firstlineno}"


def place_of_method(owner: type, name: str) -> str:
    """Return a method with the file and line of its definition, as in `RoomChannel.shout, room.py:12`."""
    place = place_of(getattr(owner, name, None))
    return f"{owner.__name__}.{name}" if place is None else f"{owner.__name__}.{name}, {place}"


def place_of_frame(frame: FrameType) -> str:
    """Return the function, the file and the line at which a frame stands, as in `RoomChannel.shout, room.py:12`."""
    code = frame.f_code
    return f"{code.co_qualname}, {code.co_filename}:{frame.f_lineno}"
