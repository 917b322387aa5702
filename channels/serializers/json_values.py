"""Additions to msgspec's JSON: a bounded time for numbers, an estimate of the cost of decoding, and clear errors.

*pure*.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import CoroutineType
from typing import Any

import msgspec

from actors.masking import fields_of
from channels.messages import Binary

__all__ = [
    "DEFAULT_MAX_VALUES",
    "LIGHT",
    "NOT_DECODABLE",
    "NOT_ENCODABLE",
    "PIECE",
    "JsonWeight",
    "explain",
    "read_float",
]

NOT_DECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""The errors that msgspec raises for invalid input. It raises RecursionError for nesting that is too deep."""

NOT_ENCODABLE = (TypeError, ValueError, RecursionError, msgspec.MsgspecError)
"""The errors that msgspec raises for values that JSON cannot express.

Such a value has an unsupported type, a lone surrogate, more digits than Python converts, or nesting that is too deep or
endless.
"""


def read_float(text: str) -> float:
    """Read a JSON number with a fraction or an exponent, in bounded time. Use it as the `float_hook` of a decoder.

        >>> read_float("1.5e3")
        1500.0

    msgspec's own function takes 17 microseconds for `1e300`. So each byte from a client could cost the server three
    microseconds. This function takes at most a third of a microsecond for such a number.

    Raises:
        msgspec.ValidationError: the number is too large for a float, as in msgspec.
    """
    number = float(text)
    if number - number:  # NaN for an infinity
        raise msgspec.ValidationError("Number out of range")
    if not number and text[:2] == "-0" and "." not in text:
        # As in Phoenix, whose decoder ignores the sign of a zero that has an exponent and no fraction, as in -0e5.
        return 0.0
    return number


DEFAULT_MAX_VALUES = 50_000
"""The maximum values in a message, unless a `Mount` sets another number."""

LIGHT = 64 * 1024
"""The maximum bytes of a message that needs no estimate. Decoding it takes at most a few milliseconds."""

PIECE = 64 * 1024
"""The bytes to pass to one call of `JsonWeight.feed`. The call takes less than a millisecond."""

# A value begins at the start of the text, after a comma, or after an opening bracket. Keys do not count. An empty list
# or object, written without spaces, contains no value.
_OPENINGS = b",[{"
# A number with an exponent may take five times as long to read as others.
_EXPONENT = 4
# The bytes of one block in the search for long numbers: a block that contains only digits is part of a long number. The
# time to decode a number grows with the square of its length.
_BLOCK = 64


class JsonWeight:
    """An estimate of the cost of decoding a JSON text: the number of its values.

        >>> weight = JsonWeight()
        >>> weight.feed(b'{"a":[1,2,"[,,,]"]}')
        >>> weight.values
        5

    Nothing can interrupt decoding, and the time depends on the content. To decode ten megabytes takes five milliseconds
    if they are one string, and a second if they are three million lists. Counting works piece by piece, so that other
    tasks can run between the pieces:

        weight = JsonWeight()
        for piece in pieces:
            weight.feed(piece)
            if weight.values > limit: ...

    A number that takes long to decode counts several times. The text may be invalid JSON. The decoder refuses it later.

    Attributes:
        values: the number of values counted so far. It is never lower than the number that a decoder would create.
    """

    __slots__ = ("_carried", "_in_string", "values")

    def __init__(self) -> None:
        self.values = 1
        self._in_string = False
        self._carried = b""

    def feed(self, piece: bytes) -> None:
        """Count the values of the next piece."""
        text = self._carried + piece
        backslashes = len(text) - len(text.rstrip(b"\\"))
        # If the piece ends within an escape, keep the backslash for the next piece.
        self._carried = text[-1:] if backslashes % 2 else b""
        if self._carried:
            text = text[:-1]
        if b"\\" in text:
            text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = text.split(b'"')
        # Put a quotation mark in the place of each string, so that a list with a string does not look empty.
        outside = b'"'.join(parts[self._in_string :: 2])
        self._in_string ^= len(parts) % 2 == 0
        self.values += len(outside) - len(outside.translate(None, _OPENINGS))
        self.values -= outside.count(b"[]") + outside.count(b"{}")
        exponents = outside.count(b"e") + outside.count(b"E")
        if exponents:
            exponents -= outside.count(b"true") + outside.count(b"false")
            self.values += _EXPONENT * max(0, exponents)
        if len(outside) >= _BLOCK:
            self.values += _weight_of_long_numbers(outside)


def _weight_of_long_numbers(text: bytes) -> int:
    weight = run = 0
    for place in range(0, len(text), _BLOCK):
        if text[place : place + _BLOCK].isdigit():
            run += 1
        elif run:
            weight += run + run * run // 4
            run = 0
    return weight + run + run * run // 4


# The maximum number of values, and the maximum depth, that the search for a wrong value visits in a payload.
_MOST = 10_000
_DEEPEST = 50

_encode = msgspec.json.Encoder().encode


def explain(payload: Any, fault: Exception) -> str:
    """Return a message about the value in a payload that JSON cannot express: its path, and the correction.

        >>> explain({"user": {"photo": object()}}, TypeError("unsupported"))
        'payload["user"]["photo"] is of type object, which JSON cannot express; write a str, ...'

    Call this only after encoding has failed.

    Args:
        payload: the payload. If it contains coroutines, this closes them.
        fault: the error of the encoder. If this finds no wrong value, it returns the text of the error.
    """
    left = iter(range(_MOST))
    found = _search(payload, "payload", 0, left)
    if found is None:
        return str(fault)
    path, value = found
    # Close the coroutines, because they will never run. Otherwise Python would print a warning for each one.
    _close_coroutines(payload, 0, iter(range(_MOST)))
    if isinstance(value, CoroutineType):
        return f"{path} is a coroutine, {value.__qualname__}(); did you forget `await`?"
    if isinstance(value, Binary):
        return f"{path} is a Binary, which can only be the whole payload; write text such as base64 there"
    if isinstance(value, str | int):
        return (
            f"{path} is a {type(value).__name__} that JSON cannot express: {_reason(value, fault)}"
        )
    return (
        f"{path} is of type {type(value).__name__}, which JSON cannot express; write a str, a number, a bool, None, a "
        "list, a dict with str keys, or a record of them"
    )


def _search(value: Any, path: str, depth: int, left: Iterator[int]) -> tuple[str, Any] | None:
    """Find the innermost value that JSON cannot express."""
    if next(left, None) is None or depth > _DEEPEST or _can_be_encoded(value):
        return None
    for step, each in _parts(value):
        found = _search(each, f"{path}{step}", depth + 1, left)
        if found is not None:
            return found
    if isinstance(value, dict):
        for key in value:
            if not _can_be_encoded({key: None}):
                return f"the key {key!r:.80} of {path}", key
    return None if depth >= _DEEPEST or next(left, None) is None else (path, value)


def _can_be_encoded(value: Any) -> bool:
    try:
        _encode(value)
    except NOT_ENCODABLE:
        return False
    return True


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a value, each with its path in Python notation."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield f"[{_quoted(key)}]", each
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield f"[{number}]", each
    elif isinstance(value, set | frozenset):
        for each in value:
            yield "{...}", each
    elif not isinstance(value, type):
        for name in fields_of(type(value)):
            yield f".{name}", getattr(value, name, None)


def _quoted(key: Any) -> str:
    # Shortened, because a key may come from a client and have any length.
    return f'"{key:.80}"' if isinstance(key, str) else f"{key!r:.80}"


def _reason(value: Any, fault: Exception) -> str:
    try:
        _encode(value)
    except NOT_ENCODABLE as own:
        return str(own)
    return str(fault)


def _close_coroutines(value: Any, depth: int, left: Iterator[int]) -> None:
    if isinstance(value, CoroutineType):
        value.close()
    elif depth <= _DEEPEST and next(left, None) is not None:
        for _, each in _parts(value):
            _close_coroutines(each, depth + 1, left)
