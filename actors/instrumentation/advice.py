"""Advice for exceptions of asyncio that are raised in a process.

*pure*. The advice is a note of the exception (`BaseException.add_note`), so every traceback shows it.
"""

from __future__ import annotations

from traceback import walk_tb
from typing import Final

__all__ = ["ASYNCIO_ADVICE", "add_advice"]

ASYNCIO_ADVICE: Final = (
    "This code needs the event loop of asyncio, but processes run on Trio, which has none. Use Trio's own "
    "function (trio.sleep, trio.fail_after, trio.open_tcp_stream) or a library that works on Trio, or run a blocking "
    "library with `await trio.to_thread.run_sync(function, ...)`. See docs/howto/use-blocking-and-asyncio-libraries.md"
)
"""The note that `add_advice` adds."""

_TEXTS: Final = (
    "no running event loop",
    "no current event loop",
    "should be used inside a task",
    "library written for some other framework like asyncio",
)


def add_advice(error: BaseException) -> None:
    """Add a note to an exception that an asyncio function raised because Trio runs the program.

    Adds the note once. Looks into exception groups.
    """
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            add_advice(part)
    elif _needs_asyncio(error) and ASYNCIO_ADVICE not in getattr(error, "__notes__", ()):
        error.add_note(ASYNCIO_ADVICE)


def _needs_asyncio(error: BaseException) -> bool:
    if (
        type(error).__name__ == "AsyncLibraryNotFoundError"
    ):  # from sniffio, which may not be installed
        return True
    if not isinstance(error, RuntimeError | TypeError | AttributeError):
        return False
    text = str(error)
    return any(each in text for each in _TEXTS) or _raised_by_asyncio(error)


def _raised_by_asyncio(error: BaseException) -> bool:
    # Example: AttributeError: 'NoneType' object has no attribute 'create_future', from a queue.
    innermost = ""
    for frame, _ in walk_tb(error.__traceback__):
        innermost = str(frame.f_globals.get("__name__", ""))
    return innermost.partition(".")[0] == "asyncio"
