"""Values as text that is the same in every run of a seed: no memory addresses, no order of sets.

`describe` never calls the `__repr__` of an application's class, which may return anything. If a class does not declare
its fields, the text shows only the class. `[FILTERED]` replaces the value of a key or field with a secret name, such as
`password`. `actors.masking` has the list of these names.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from types import BuiltinFunctionType, FunctionType, MethodType, NoneType
from typing import Any
from zlib import crc32

import attrs
import msgspec

from actors.addresses import RemoteAddress
from actors.masking import FILTERED, fields_of, is_secret
from actors.refs import Address, Pid, Ref, TimerRef

__all__ = ["describe", "without_addresses"]

_LONG = 80
_MANY = 8
_DEEP = 3
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_EXPLANATION = re.compile(r"(?:\A|\n)assert .*", re.DOTALL)

Writer = Callable[[Any, int], str]


def describe(value: object, depth: int = _DEEP) -> str:
    """Return a value as stable text.

        describe({"body": "hello"})        # {'body': 'hello'}

    Args:
        value: any value.
        depth: the number of nested levels to show.
    """
    writer = _WRITERS.get(type(value))
    if writer is None:
        writer = _WRITERS[type(value)] = _writer_for(type(value))
    return writer(value, depth)


def _short(value: object, depth: int) -> str:
    """Return the same text as `describe`, but faster for the types of values that are most frequent in messages."""
    cls = type(value)
    if cls is int or (cls is str and len(value) <= _LONG):  # type: ignore[arg-type] # a str has a length
        return repr(value)
    writer = _WRITERS.get(cls)
    return describe(value, depth) if writer is None else writer(value, depth)


def without_addresses(text: str) -> str:
    """Return a text without the memory addresses of `object.__repr__`."""
    return _ADDRESS.sub("", text) if " at 0x" in text else text


def _plain(value: object, _: int) -> str:
    return repr(value)


def _own(value: object, _: int) -> str:
    text = without_addresses(repr(value))
    return text if len(text) <= _LONG else f"{text[:_LONG]}... ({len(text)})"


def _text(value: str | bytes, _: int) -> str:
    if len(value) <= _LONG:
        return repr(value)
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return f"{value[:_LONG]!r}... ({len(value)}, {crc32(data):08x})"


def _items(values: Iterable[object], size: int, depth: int) -> str:
    if depth <= 0:
        return f"... ({size})" if size else ""
    shown = [_short(value, depth - 1) for value in islice(values, _MANY)]
    return ", ".join(shown) + (f", ... ({size})" if size > _MANY else "")


def _list(value: list[Any], depth: int) -> str:
    return f"[{_items(value, len(value), depth)}]"


def _tuple(value: tuple[Any, ...], depth: int) -> str:
    return f"({_items(value, len(value), depth)})"


def _set(value: frozenset[Any], depth: int) -> str:
    inside = sorted(describe(each, depth - 1) for each in value) if depth > 0 else []
    more = f"... ({len(value)})" if len(value) > len(inside[:_MANY]) else ""
    return "{" + ", ".join([*inside[:_MANY], *([more] if more else [])]) + "}"


def _mapping(value: Mapping[Any, Any], depth: int) -> str:
    if depth <= 0:
        return f"{{... ({len(value)})}}" if value else "{}"
    shown = []
    for key, each in islice(value.items(), _MANY):
        # Text and numbers first: they are the most common, and this runs for every message.
        name = repr(key) if type(key) is str and len(key) <= _LONG else _short(key, depth - 1)
        if type(key) is str and is_secret(key):
            content = FILTERED
        else:
            content = repr(each) if type(each) is int else _short(each, depth - 1)
        shown.append(f"{name}: {content}")
    more = [f"... ({len(value)})"] if len(value) > _MANY else []
    return "{" + ", ".join([*shown, *more]) + "}"


def _member(value: enum.Enum, _: int) -> str:
    return f"{type(value).__name__}.{value.name}"


def _type(value: type, _: int) -> str:
    return value.__qualname__


def _function(value: Any, _: int) -> str:
    return str(getattr(value, "__qualname__", type(value).__name__))


def _partial(value: partial[Any], depth: int) -> str:
    return f"partial({describe(value.func, depth)})"


def _exception(value: BaseException, depth: int) -> str:
    args = value.args
    if isinstance(value, AssertionError) and args and isinstance(args[0], str):
        # pytest appends an explanation with addresses to the message. A run without pytest must give the same text.
        message = _EXPLANATION.sub("", args[0])
        args = (message, *args[1:]) if message else args[1:]
    inside = _items(args, len(args), depth)
    return f"{type(value).__qualname__}({without_addresses(inside)})"


def _address(value: Any, depth: int) -> str:
    return f"via({describe(value.key, depth - 1)})"


def _named_fields(names: tuple[str, ...]) -> Writer:
    secrets = frozenset(filter(is_secret, names))

    def write(value: Any, depth: int) -> str:
        name = type(value).__qualname__
        if depth <= 0:
            return f"{name}(...)" if names else f"{name}()"
        parts = []
        for field in names:
            if field in secrets:
                parts.append(f"{field}={FILTERED}")
                continue
            try:
                parts.append(f"{field}={_short(getattr(value, field), depth - 1)}")
            except AttributeError:
                # The slot was never set.
                continue
        return f"{name}({', '.join(parts)})"

    return write


_WRITERS: dict[type, Writer] = {
    **dict.fromkeys((int, float, bool, complex, NoneType, Pid, Ref, TimerRef), _plain),
    **dict.fromkeys((str, bytes, bytearray), _text),
    list: _list,
    tuple: _tuple,
    dict: _mapping,
    set: _set,
    frozenset: _set,
    type: _type,
    partial: _partial,
    **dict.fromkeys((FunctionType, BuiltinFunctionType, MethodType), _function),
}

_BASES: tuple[tuple[type, Writer], ...] = (
    (RemoteAddress, _own),
    (Ref, _plain),
    (enum.Enum, _member),
    (BaseException, _exception),
    (type, _type),
    (str, _text),
    (bytes, _text),
    (int, _plain),
    (float, _plain),
    (list, _list),
    (dict, _mapping),
    (set, _set),
    (frozenset, _set),
)


def _writer_for(cls: type) -> Writer:
    """Return the function that writes instances of a class."""
    if issubclass(cls, msgspec.Struct) and cls.__repr__ is not msgspec.Struct.__repr__:
        # A Struct with a secret field has its own `__repr__`, which leaves the field out.
        return _own
    if issubclass(cls, Address) and hasattr(cls, "key"):
        return _address
    names = fields_of(cls, shown=True)
    if names or attrs.has(cls) or issubclass(cls, msgspec.Struct):
        return _named_fields(names)
    if issubclass(cls, tuple):
        return _named_fields(cls._fields) if hasattr(cls, "_fields") else _tuple
    for base, writer in _BASES:
        if issubclass(cls, base):
            return writer
    slots = [name for each in cls.__mro__ for name in _slots_of(each) if not name.startswith("_")]
    return _named_fields(tuple(slots))


def _slots_of(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)
