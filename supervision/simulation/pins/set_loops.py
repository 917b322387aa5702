"""Which line of the program did something, and whether it stands in a loop over a set.

For the explanation of runs that differ: the order of a set is decided by hashes and memory addresses, and that is
nearly always what it was.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from types import FrameType
from weakref import WeakSet

from attrs import frozen

from supervision.simulation.pins.places import describe_frame, frames_inside, is_program

__all__ = ["Spot", "spot_above"]

_SETS = (set, frozenset, WeakSet)
_UNORDERED_CALLS = {"set", "frozenset", "WeakSet"}


@frozen(kw_only=True)
class Spot:
    """A line of the program.

    Attributes:
        place: `room.py:12 in Room.handle_call`.
        loop: what it iterates over that has no order: "line 11 of room.py iterates over `members`, a set of 3".
    """

    place: str
    loop: str | None = None


def spot_above(depth: int = 1) -> Spot | None:
    """The innermost line of the program from `depth` above the caller; None if none of it is running."""
    inside = list(frames_inside(depth))
    frames = [frame for frame in inside if is_program(frame.f_code.co_filename)]
    if not frames:
        return None
    loops = (_loop(frame) for frame in frames)
    return Spot(place=describe_frame(frames[0]), loop=next(filter(None, loops), None))


def _loop(frame: FrameType) -> str | None:
    """What the line of a frame iterates over, if that is a set."""
    file = frame.f_code.co_filename
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        # No program text, as of a console, or it has been changed meanwhile.
        return None
    for line, source in _iterated(tree, frame.f_lineno):
        what = _unordered(source, frame)
        if what is not None:
            return f"line {line} of {file.rpartition('/')[2]} iterates over {what}"
    return None


def _iterated(tree: ast.AST, line: int) -> Iterator[tuple[int, ast.expr]]:
    """What the loops around a line go through, the innermost first."""
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
    """A set in words: what is iterated over, or what is done with it first."""
    shown = ast.unparse(source)
    for node in ast.walk(source):
        if isinstance(node, ast.Call) and _name(node.func) == "sorted":
            return None
        if isinstance(node, ast.Set | ast.SetComp) or (
            isinstance(node, ast.Call) and _name(node.func) in _UNORDERED_CALLS
        ):
            return f"`{shown}`, a set"
        if isinstance(node, ast.Name | ast.Attribute):
            value = _value(node, frame)
            if isinstance(value, _SETS):
                return f"`{shown}`, a {type(value).__name__} of {len(value)}"
    return None


def _name(function: ast.expr) -> str:
    return ast.unparse(function).rpartition(".")[2]


def _value(node: ast.expr, frame: FrameType) -> object:
    """What a name or an attribute of one stands for in a frame; nothing of the program is called."""
    if isinstance(node, ast.Name):
        return frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, frame)
        return getattr(owner, "__dict__", {}).get(node.attr)
    return None
