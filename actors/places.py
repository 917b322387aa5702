"""Places in source code: where a function is defined, what a frame executes, and which files belong to the program.

*pure*, except that it asks Python for the folders of its libraries.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

__all__ = ["is_ashtree", "is_program", "place_of", "place_of_caller", "place_of_method"]

_PACKAGES: Final = tuple(
    f"{Path(__file__).parents[1] / name}/" for name in ("actors", "supervision", "channels")
)
_ASHTREE: Final = (*_PACKAGES, "<frozen importlib", str(importlib.__file__))


def place_of(thing: Any) -> str | None:
    """Return the file and line at which a function, a method, a coroutine or a class is defined, as in `room.py:12`.

    Returns:
        None if the object was not defined in a file of Python, such as code that attrs generates.
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
    code: CodeType | None = getattr(thing, "cr_code", None)
    if callable(thing):
        code = getattr(inspect.unwrap(thing), "__code__", None)
    if code is None or code.co_filename.startswith("<"):
        return None
    return f"{code.co_filename}:{code.co_firstlineno}"


def place_of_method(owner: type, name: str) -> str:
    """Return a method with the file and line of its definition, as in `RoomChannel.shout, room.py:12`."""
    place = place_of(getattr(owner, name, None))
    return f"{owner.__name__}.{name}" if place is None else f"{owner.__name__}.{name}, {place}"


def place_of_caller() -> str:
    """Return the function, file and line of the application that calls Ashtree, as in `RoomChannel.shout, room.py:12`.

    This is the innermost frame outside Ashtree's packages.
    """
    nearest: FrameType = sys._getframe(1)
    caller: FrameType | None = nearest
    while caller is not None and is_ashtree(caller.f_code.co_filename):
        caller = caller.f_back
    if caller is None:
        # A channel of Ashtree itself, such as the observer's, in a thread without a frame of the application.
        caller = nearest
    return f"{caller.f_code.co_qualname}, {caller.f_code.co_filename}:{caller.f_lineno}"


def is_ashtree(filename: str) -> bool:
    """Return True for a file of Ashtree, and for Python's import system, which runs between two modules."""
    return filename.startswith(_ASHTREE)


@cache
def is_program(filename: str) -> bool:
    """Return True for a file that is not part of Python, of a library or of Ashtree."""
    return not filename.startswith(_roots())


@cache
def _roots() -> tuple[str, ...]:
    # Most programs never ask, and the import takes time.
    import sysconfig  # noqa: PLC0415

    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return (*(f"{path}/" for path in paths), *_PACKAGES, "<frozen")
