"""Stack frames of the program under test. Frames of Python, libraries and Ashtree do not belong to the program."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from weakref import WeakSet

from attrs import frozen

from actors.places import is_program

__all__ = [
    "SourceLine",
    "describe_frame",
    "frames_inside",
    "imports",
    "program_frame",
    "raised_in",
    "source_line_above",
]

_SETS = (set, frozenset, WeakSet)
_UNORDERED_CALLS = {"set", "frozenset", "WeakSet"}


def imports() -> tuple[int, object]:
    """Return a value that changes with each import, as a key of caches about the globals of all modules."""
    return len(sys.modules), next(reversed(sys.modules.values()))


def program_frame(depth: int = 1) -> FrameType:
    """Return the innermost frame of the program, starting `depth` frames above the caller; else the starting frame."""
    nearest = sys._getframe(depth + 1)
    frame: FrameType | None = nearest
    while frame is not None:
        if is_program(frame.f_code.co_filename):
            return frame
        frame = frame.f_back
    return nearest


def frames_inside(depth: int = 1) -> Iterator[FrameType]:
    """Yield the frames of the running task, the innermost first, starting `depth` frames above the caller.

    The result does not include the frames of the caller of `simulate`.
    """
    frame: FrameType | None = sys._getframe(depth + 1)
    while frame is not None and frame.f_code.co_name != "unrolled_run":
        yield frame
        frame = frame.f_back


def describe_frame(frame: FrameType) -> str:
    """Describe a frame as `rooms/room.py:12 in Room.handle_call`."""
    code = frame.f_code
    path = Path(code.co_filename)
    shown = "/".join(path.parts[-2:]) if path.is_absolute() else str(path)
    return f"{shown}:{frame.f_lineno} in {code.co_qualname}"


def raised_in(trace: TracebackType | None, *, callers: int = 0) -> str | None:
    """Return the innermost line of the program in a traceback, as `line 3 of Room.handle_call`; None without one.

    Lines count from the beginning of the function, so changes above the function do not change the result.

    Args:
        trace: the traceback.
        callers: the number of callers to add. With 1: `line 2 of helper, called in line 9 of evening`.
    """
    found: list[str] = []
    before = None
    while trace is not None:
        code = trace.tb_frame.f_code
        if is_program(code.co_filename):
            line = trace.tb_lineno - code.co_firstlineno + 1
            if code is before:
                # The result omits recursive calls, because their depth may differ between two runs that fail alike.
                found.pop()
            found.append(f"line {line} of {code.co_qualname.replace('<locals>.', '')}")
            before = code
        trace = trace.tb_next
    inner = found[::-1][: callers + 1]
    return ", called in ".join(inner) or None


# Loops over sets. Hashes and memory addresses decide the order of a set. This order is nearly always the reason if two
# runs of a seed differ.


@frozen(kw_only=True)
class SourceLine:
    """A line of the program.

    Attributes:
        place: `room.py:12 in Room.handle_call`.
        loop: the loop over a set around this line, such as "line 11 of room.py iterates over `members`, a set of 3";
            None if there is none.
    """

    place: str
    loop: str | None = None


def source_line_above(depth: int = 1) -> SourceLine | None:
    """Return the innermost line of the program, starting `depth` frames above the caller; None if there is none."""
    inside = list(frames_inside(depth))
    frames = [frame for frame in inside if is_program(frame.f_code.co_filename)]
    if not frames:
        return None
    loops = (_loop(frame) for frame in frames)
    return SourceLine(place=describe_frame(frames[0]), loop=next(filter(None, loops), None))


def _loop(frame: FrameType) -> str | None:
    """Return the loop over a set around the line of a frame, in words."""
    file = frame.f_code.co_filename
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        # There is no source text, for example in a console, or the source has changed since the import.
        return None
    for line, source in _iterated(tree, frame.f_lineno):
        what = _unordered(source, frame)
        if what is not None:
            return f"line {line} of {file.rpartition('/')[2]} iterates over {what}"
    return None


def _iterated(tree: ast.AST, line: int) -> Iterator[tuple[int, ast.expr]]:
    """Yield the first line and the iterated expression of the loops around a line, the innermost first."""
    loops: list[tuple[int, int, ast.expr]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.AsyncFor):
            loops.append((node.lineno, node.end_lineno or node.lineno, node.iter))
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            end = node.end_lineno or node.lineno
            loops += [(node.lineno, end, part.iter) for part in node.generators]
    for begin, end, source in sorted(loops, key=lambda loop: loop[1] - loop[0]):
        if begin <= line <= end:
            yield begin, source


def _unordered(source: ast.expr, frame: FrameType) -> str | None:
    """Describe the set in an expression; None if there is none, or if it is sorted."""
    shown = ast.unparse(source)
    for node in ast.walk(source):
        if isinstance(node, ast.Call) and _called(node.func) == "sorted":
            return None
        if isinstance(node, ast.Set | ast.SetComp) or (
            isinstance(node, ast.Call) and _called(node.func) in _UNORDERED_CALLS
        ):
            return f"`{shown}`, a set"
        if isinstance(node, ast.Name | ast.Attribute):
            value = _value(node, frame)
            if isinstance(value, _SETS):
                return f"`{shown}`, a {type(value).__name__} of {len(value)}"
    return None


def _called(function: ast.expr) -> str:
    return ast.unparse(function).rpartition(".")[2]


def _value(node: ast.expr, frame: FrameType) -> object:
    """Return the value of a name or of its attribute in a frame, without calling the program's code."""
    if isinstance(node, ast.Name):
        return frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, frame)
        return getattr(owner, "__dict__", {}).get(node.attr)
    return None
