"""Tracebacks without the frames of Ashtree and of Python's import system."""

from __future__ import annotations

from pathlib import Path
from traceback import StackSummary, TracebackException, extract_tb

from actors.places import is_ashtree

__all__ = ["program_place", "program_traceback"]


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
    found = [each for each in extract_tb(error.__traceback__) if not is_ashtree(each.filename)]
    own = [each for each in found if "site-packages" not in Path(each.filename).parts] or found
    return f"{own[-1].filename}:{own[-1].lineno}" if own else None


def _strip(shown: TracebackException | None) -> None:
    while shown is not None:
        shown.stack = StackSummary.from_list(
            [each for each in shown.stack if not is_ashtree(each.filename)]
        )
        _strip(shown.__cause__)
        shown = shown.__context__
