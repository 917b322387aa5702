"""Excerpts of what clients send, for error messages and log lines.

*pure*. Topics, events and refs come from clients: a message about one must not grow to megabytes with it, nor recurse
as deep as it is nested.
"""

from __future__ import annotations

import reprlib

__all__ = ["brief"]

_repr = reprlib.Repr()
_repr.maxstring = 120
_repr.maxother = 120


def brief(value: object) -> str:
    """Return the `repr` of a value, cut to a length that a message can hold.

    >>> len(brief("x" * 5_000_000))
    120
    """
    return _repr.repr(value)
