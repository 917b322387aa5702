"""Text that is safe to show: bounded, and without control characters.

Clients choose topics, events, ids, and parts of exception texts. In a raw text, an escape sequence can clear the screen
of a terminal, hide lines or change the title of the window. `printable` is the one function that makes such text safe,
and everything that writes for people calls it. Files and logs in JSON keep the original.
"""

from __future__ import annotations

import logging
import reprlib
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["TextFormatter", "bounded", "brief", "log_exception", "printable", "shown"]

_LONGEST = 2000
_LONGEST_TRACEBACK = 64 * 1024
# Bounds the repr of Python's own containers while Python makes it. The full repr of a huge container would take too
# long.
_whole = reprlib.Repr()
_whole.maxstring = _whole.maxother = _LONGEST
_whole.maxdict = _whole.maxlist = _whole.maxtuple = _whole.maxset = _whole.maxfrozenset = 50
_whole.maxlevel = 8
# For values that clients choose, such as topics and ids. They may have any length and nesting.
_excerpt = reprlib.Repr()
_excerpt.maxstring = _excerpt.maxother = 120


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return a text with an escape, such as `\x1b`, in place of each character that does not print.

        >>> printable("room:\x1b[2J\n\u202eadmin")
        'room:\\x1b[2J\\n\\u202eadmin'

    These are the characters that `repr` escapes too: control characters, marks that change the direction of text, and
    halves of surrogate pairs.

    Args:
        text: The text.
        lines: Keep line breaks and tabs, because the text has several lines, such as a traceback.
    """
    if text.isprintable():
        return text
    if lines:
        if text.replace("\n", "").replace("\t", "").isprintable():
            return text
        return "\n".join("\t".join(map(printable, row.split("\t"))) for row in text.split("\n"))
    # `ascii` of one character is its escape between quotes.
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def bounded(text: str) -> str:
    """Cut a text that is too long for one line of a log.

    >>> bounded("x" * 5_000_000)[-30:]
    'xxxxxx... (5000000 characters)'
    """
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


def shown(value: object) -> str:
    """Return the repr of a value at a bounded length. A message may have any size, and a class any `__repr__`."""
    return printable(bounded(_whole.repr(value)))


def brief(value: object) -> str:
    """Return an excerpt of a value for a message: its `repr`, shortened to a part of a line.

    >>> len(brief("x" * 5_000_000))
    120
    """
    return _excerpt.repr(value)


class TextFormatter(logging.Formatter):
    """A formatter of log lines for terminals. It cleans the lines of all loggers, also those of the application."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record, with its traceback."""
        return printable(super().format(record), lines=True)


def log_exception(
    log: logging.Logger,
    message: str,
    *args: object,
    exception: BaseException,
    extra: Mapping[str, Any] | None = None,
    level: int = logging.ERROR,
) -> None:
    """Log an exception with its traceback, at a bounded length and without control characters.

    With `exc_info` alone, every formatter would write the text of the exception in full and as it is. If the text has
    more than 2000 characters, this function puts the traceback into the message and cuts each line. If the text has
    control characters, the record gets a clean traceback, and `exc_info` keeps the exception for other formatters.
    """
    texts = list(_texts_of(exception))
    is_long = any(len(text) > _LONGEST for text in texts)
    if not is_long and all(printable(text, lines=True) == text for text in texts):
        log.log(level, message, *args, exc_info=exception, extra=extra, stacklevel=2)
        return
    if not log.isEnabledFor(level):
        return
    whole = "".join(traceback.format_exception(exception)).rstrip("\n")
    if is_long:
        # Cut before cleaning, because cleaning takes time for each control character. An escape has up to ten
        # characters, so cut the result too.
        cut = _bounded_whole("\n".join(map(bounded, whole.split("\n"))))
        text = _bounded_whole(printable(cut, lines=True))
        log.log(level, "%s\n%s", message % args, text, extra=extra, stacklevel=2)
        return
    file, line, function, _ = log.findCaller(stacklevel=2)
    info = type(exception), exception, exception.__traceback__
    record = log.makeRecord(log.name, level, file, line, message, args, info, function, extra)
    # `logging.Formatter` writes this text in place of the traceback that it would make from `exc_info`.
    record.exc_text = printable(whole, lines=True)
    log.handle(record)


def _bounded_whole(text: str) -> str:
    if len(text) <= _LONGEST_TRACEBACK:
        return text
    half = _LONGEST_TRACEBACK // 2
    return f"{text[:half]}\n... ({len(text)} characters)\n{text[-half:]}"


def _texts_of(exception: BaseException) -> Iterator[str]:
    """Yield the text of an exception, and of all its causes and contexts, with their notes."""
    waiting: list[BaseException | None] = [exception]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        try:
            yield "\n".join([str(each), *getattr(each, "__notes__", ())])
        except Exception:  # the exception's __str__ raised; the traceback shows that too
            yield ""
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
