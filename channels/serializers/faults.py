"""Where in a payload there is something that JSON has no form for, and what to write instead.

*pure*. Looked for only when encoding has failed, so the frames that can be written pay nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import CoroutineType
from typing import Any

import attrs
import msgspec

from channels.messages import Binary

__all__ = ["explain"]

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
