"""Where in the program something happened: the innermost line that is neither Python's nor a library's."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType

__all__ = ["describe_frame", "frames_inside", "is_program", "program_frame", "raised_in"]


def _roots() -> tuple[str, ...]:
    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    # The packages of Ashtree, also where they are not installed among the libraries.
    packages = Path(__file__).parents[3]
    own = [str(packages / name) for name in ("actors", "supervision", "channels")]
    return tuple(dict.fromkeys(f"{path}/" for path in (*paths, *own)))


_ROOTS = _roots()
_known: dict[str, bool] = {}


def is_program(filename: str) -> bool:
    """Whether a file belongs to the program itself: not to Python, a library or Ashtree."""
    known = _known.get(filename)
    if known is None:
        known = not filename.startswith((*_ROOTS, "<frozen"))
        _known[filename] = known
    return known


def program_frame(depth: int = 1) -> FrameType:
    """The innermost frame of the program, from `depth` above the caller; that one if there is none."""
    nearest = sys._getframe(depth + 1)
    frame: FrameType | None = nearest
    while frame is not None:
        if is_program(frame.f_code.co_filename):
            return frame
        frame = frame.f_back
    return nearest


def frames_inside(depth: int = 1) -> Iterator[FrameType]:
    """The frames of the task that is running, the innermost first, from `depth` above the caller.

    Not those of whoever has called `simulate`, who is not inside of the simulated world.
    """
    frame: FrameType | None = sys._getframe(depth + 1)
    while frame is not None and frame.f_code.co_name != "unrolled_run":
        yield frame
        frame = frame.f_back


def describe_frame(frame: FrameType) -> str:
    """`room.py:12 in Room.handle_call`, with as much of the path as says which file it is."""
    code = frame.f_code
    path = Path(code.co_filename)
    shown = "/".join(path.parts[-2:]) if path.is_absolute() else str(path)
    name = code.co_qualname
    return f"{shown}:{frame.f_lineno} in {name}"


def raised_in(trace: TracebackType | None) -> str | None:
    """`line 3 of Room.handle_call`: the innermost line of the program in a traceback; None if there is none in it.

    Counted from the beginning of the function, so that it stays the same when something above that is changed.
    """
    found = None
    while trace is not None:
        code = trace.tb_frame.f_code
        if is_program(code.co_filename):
            line = trace.tb_lineno - code.co_firstlineno + 1
            found = f"line {line} of {code.co_qualname.replace('<locals>.', '')}"
        trace = trace.tb_next
    return found
