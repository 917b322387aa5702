"""Tracebacks without the frames of Ashtree and of Python's import system."""

from __future__ import annotations

import importlib
from pathlib import Path
from traceback import StackSummary, TracebackException, extract_tb
from typing import Final

__all__ = ["program_place", "program_traceback"]

_ROOT: Final = Path(__file__).parents[3]
_PACKAGES: Final = tuple(str(_ROOT / name) + "/" for name in ("actors", "supervision", "channels"))
_IMPORTING: Final = ("<frozen importlib", str(importlib.__file__))


def program_traceback(error: BaseException) -> str:
    """Return the traceback of an error, without the frames of Ashtree and of Python's import system."""
    shown = TracebackException.from_exception(error)
    _strip(shown)
    if not shown.stack:
        # A syntax error in the module. Its message already names the file and line.
        return "".join(shown.format_exception_only())
    return "".join(shown.format())


def program_place(error: BaseException) -> str | None:
    """Return the innermost line of a traceback that is in the program's own code, as `file:line`, or None.

    A line of an installed library, such as Trio, counts only if the traceback has no line of the program itself.
    """
    found = [each for each in extract_tb(error.__traceback__) if _is_program(each.filename)]
    own = [each for each in found if "site-packages" not in Path(each.filename).parts] or found
    return f"{own[-1].filename}:{own[-1].lineno}" if own else None


def _is_program(filename: str) -> bool:
    return not filename.startswith((*_PACKAGES, *_IMPORTING))


def _strip(shown: TracebackException | None) -> None:
    while shown is not None:
        shown.stack = StackSummary.from_list(
            [each for each in shown.stack if _is_program(each.filename)]
        )
        _strip(shown.__cause__)
        shown = shown.__context__
