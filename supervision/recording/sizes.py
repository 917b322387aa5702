"""The kind and the size of a message, fast enough for every message of a server, and the memory of other records.

The size of a message is an estimate in bytes. Text and bytes count their length, and any other value counts 16. A
container counts the sum of its items, where an inner container counts 16. With more than 16 items, every item counts
16. An application object with a `payload` counts the size of the payload.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from sys import getsizeof
from typing import Any, Final, TypeAlias

from actors.instrumentation.instrument import payload_of
from actors.masking import KIND_LENGTH, shown_kind
from supervision.recording.conversion import Birth
from supervision.recording.schema import kind_of, transport_of

__all__ = ["EVENT_BYTES", "Look", "Looks", "size_of", "size_of_event", "size_of_exit"]

EVENT_BYTES: Final = 600
"""The estimated memory of a record with fields, in bytes, without the contents of its texts and lists."""

# A tuple of two or three items in a list, with one number of its own.
_TUPLE_BYTES: Final = 104
# A `Birth` with its mapping of fields, without the contents of the texts.
_BIRTH_BYTES: Final = 500

_MANY: Final = 16
_ITEM: Final = 16

Look: TypeAlias = Callable[[Any], tuple[str, int]]
"""A function that returns the kind and the size of a message of one class."""


class Looks(dict[type, tuple[str, Look]]):
    """A table of message classes: the transport of each class, and the function that returns kind and size.

    via, look = looks[type(message)] if type(message) in looks else looks.learn(message)
    """

    def learn(self, message: Any) -> tuple[str, Look]:
        """Choose the function for the class of a message, and remember it."""
        cls = type(message)
        found = self[cls] = transport_of(message), _look_for(message)
        return found


def size_of(value: Any) -> int:
    """Return the estimated size of a value in bytes.

    size_of({"body": "hello", "n": 7})      # 21
    """
    cls = type(value)
    if cls is str or cls is bytes:
        return len(value)
    if cls is dict:
        if len(value) > _MANY:
            return _ITEM * len(value)
        size = 0
        for each in value.values():
            kind = type(each)
            size += len(each) if kind is str or kind is bytes else _ITEM
        return size
    if cls is list or cls is tuple:
        if len(value) > _MANY:
            return _ITEM * len(value)
        return sum(len(each) if isinstance(each, str | bytes) else _ITEM for each in value)
    return _ITEM


def size_of_event(fields: Mapping[str, Any]) -> int:
    """Return the estimated memory of a record with these fields, in bytes.

    A list in a field may have texts, such as topics, and tuples, such as the frames of a traceback. The texts in these
    tuples count nothing, because the code of the program holds them.
    """
    size = EVENT_BYTES
    for value in fields.values():
        cls = type(value)
        if cls is str:
            size += _text_bytes(value)
        elif cls is list:
            for each in value:
                size += getsizeof(each) if type(each) is str else _TUPLE_BYTES
    return size


def size_of_exit(birth: Birth, unread: Sequence[tuple[int, str]]) -> int:
    """Return the estimated memory of the further items in the record of an exit, in bytes.

    Args:
        birth: the start of the process.
        unread: the identity and the kind of each message that the process had not read.
    """
    texts = (each for each in birth.fields.values() if type(each) is str)
    size = _BIRTH_BYTES + sum(map(_text_bytes, texts))
    for _, kind in unread:
        size += _TUPLE_BYTES + getsizeof(kind)
    return size


def _text_bytes(text: str) -> int:
    # Outside ASCII, a character takes up to four bytes.
    return len(text) if text.isascii() else getsizeof(text)


def _look_for(message: Any) -> Look:
    if payload_of(message) is not message:
        return _enveloped
    if isinstance(message, str):
        return _text
    if isinstance(message, bytes):
        return _bytes
    if isinstance(message, tuple):
        return _tagged
    has_event, has_payload = hasattr(message, "event"), hasattr(message, "payload")
    if has_event and has_payload:
        return _event
    name = type(message).__name__[:KIND_LENGTH]
    if has_event:
        return lambda message: (shown_kind(kind_of(message)), _ITEM)
    if has_payload:
        return lambda message: (name, size_of(message.payload))
    return lambda message: (name, size_of(message))


def _enveloped(message: Any) -> tuple[str, int]:
    return shown_kind(kind_of(message)), size_of(payload_of(message))


def _text(message: str) -> tuple[str, int]:
    size = len(message)
    return shown_kind(message), size


def _bytes(message: bytes) -> tuple[str, int]:
    return "bytes", len(message)


def _tagged(message: tuple[Any, ...]) -> tuple[str, int]:
    return shown_kind(kind_of(message)), size_of(message)


def _event(message: Any) -> tuple[str, int]:
    event, payload = message.event, message.payload
    size = 0
    # The same as `size_of`, but inline, because most messages of a server with channels are of this kind.
    if type(payload) is dict and len(payload) <= _MANY:
        for each in payload.values():
            kind = type(each)
            size += len(each) if kind is str or kind is bytes else _ITEM
    else:
        size = size_of(payload)
    if type(event) is not str:
        # A client may send any JSON value as the event.
        return type(message).__name__, size
    return shown_kind(event), size
