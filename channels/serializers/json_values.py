"""Reading of JSON numbers with a fraction or an exponent, in bounded time.

*pure*. msgspec's own way is the fastest for most numbers, but takes 17 microseconds for `1e300`: a client could hold up
the server for three microseconds with every byte that it sends. Python's way takes a third of a microsecond at most.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import CoroutineType
from typing import Any

import attrs
import msgspec

from channels.messages import Binary

__all__ = ["DEFAULT_MAX_VALUES", "LIGHT", "PIECE", "JsonWeight", "explain", "read_float"]


def read_float(text: str) -> float:
    """Read a number, for the `float_hook` of a decoder.

        >>> read_float("1.5e3")
        1500.0

    Raises `msgspec.ValidationError` for one that is too large for a float, as the decoder itself does.
    """
    number = float(text)
    if number - number:  # not a number, for an infinity
        raise msgspec.ValidationError("Number out of range")
    return number


DEFAULT_MAX_VALUES = 50_000
"""Values of a message, unless a `Mount` says otherwise."""

LIGHT = 64 * 1024
"""Bytes of a message that need not be weighed: whatever is in it, it takes a few milliseconds."""

PIECE = 64 * 1024
"""Bytes to weigh at a time: they take less than a millisecond."""

# A value begins at the beginning of the text, behind a comma, or at the opening of what it is in. Keys are not counted.
# An empty list or object, written without spaces, has none in it.
_OPENINGS = b",[{"
# Python and C libraries read most numbers at once, but a number with an exponent may take five times as long.
_EXPONENT = 4
# Long numbers take time that grows with the square of their length. They are found by blocks of nothing but digits.
_BLOCK = 64


class JsonWeight:
    """How many values a JSON text has. Numbers that take long to read count several times.

        >>> weight = JsonWeight()
        >>> weight.feed(b'{"a":[1,2,"[,,,]"]}')
        >>> weight.values
        5

    Attributes:
        values: of what was fed so far, and at least as many as a decoder would make.
    """

    __slots__ = ("_carried", "_in_string", "values")

    def __init__(self) -> None:
        self.values = 1
        self._in_string = False
        self._carried = b""

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the text, cut anywhere."""
        text = self._carried + piece
        backslashes = len(text) - len(text.rstrip(b"\\"))
        # The first half of an escape waits for its second half.
        self._carried = text[-1:] if backslashes % 2 else b""
        if self._carried:
            text = text[:-1]
        if b"\\" in text:
            text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = text.split(b'"')
        # With a quotation mark where a string was: a list with a string in it is not an empty one.
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


# Values that are looked at, so that the search in a very large payload ends; and how deep.
_MOST = 10_000
_DEEPEST = 50

_encode = msgspec.json.Encoder().encode
_NOT_ENCODABLE = (TypeError, ValueError, RecursionError, msgspec.MsgspecError)


def explain(payload: Any, fault: Exception) -> str:
    """Say which value of a payload cannot be encoded, and what to write instead.

        >>> explain({"user": {"photo": object()}}, TypeError("unsupported"))
        'payload["user"]["photo"] is of type object, for which JSON has no form; write a str, ...'

    Args:
        payload: what could not be encoded. Coroutines in it are closed.
        fault: what the encoder raised; its words are used where no single value is at fault.
    """
    left = iter(range(_MOST))
    found = _search(payload, "payload", 0, left)
    if found is None:
        return str(fault)
    path, value = found
    # Whatever else was not awaited will never run, and the error says so better than a warning for each.
    _close_coroutines(payload, 0, iter(range(_MOST)))
    if isinstance(value, CoroutineType):
        return f"{path} is a coroutine, {value.__qualname__}(); did you forget `await`?"
    if isinstance(value, Binary):
        return f"{path} is a Binary, which can only be the whole payload; write text there, such as base64"
    if isinstance(value, str | int):
        return f"{path} is a {type(value).__name__} that cannot be written as JSON: {_reason(value, fault)}"
    return (
        f"{path} is of type {type(value).__name__}, for which JSON has no form; write a str, a number, a bool, None, a "
        "list, a dict with str keys, or a record of them"
    )


def _search(value: Any, path: str, depth: int, left: Iterator[int]) -> tuple[str, Any] | None:
    """Find the first value that has no JSON form although everything inside of it has."""
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
    except _NOT_ENCODABLE:
        return False
    return True


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value consists of, with the way to each as Python writes it."""
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
        for name in _fields(value):
            yield f".{name}", getattr(value, name, None)


def _quoted(key: Any) -> str:
    # Keys may be a client's words, of any length.
    return f'"{key:.80}"' if isinstance(key, str) else f"{key!r:.80}"


def _fields(value: Any) -> tuple[str, ...]:
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    if attrs.has(type(value)):
        return tuple(each.name for each in attrs.fields(type(value)))
    if dataclasses.is_dataclass(value):
        return tuple(each.name for each in dataclasses.fields(value))
    return ()


def _reason(value: Any, fault: Exception) -> str:
    try:
        _encode(value)
    except _NOT_ENCODABLE as own:
        return str(own)
    return str(fault)


def _close_coroutines(value: Any, depth: int, left: Iterator[int]) -> None:
    if isinstance(value, CoroutineType):
        value.close()
    elif depth <= _DEEPEST and next(left, None) is not None:
        for _, each in _parts(value):
            _close_coroutines(each, depth + 1, left)
