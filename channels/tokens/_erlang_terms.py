"""The part of Erlang's external term format that tokens need.

    decode(encode((7, "ann", [1.5, None]))) == (7, "ann", [1.5, None])

The module reads and writes atoms, numbers, binaries, lists, tuples and maps, of limited depth and size. It refuses all
other types, such as functions, processes, references, ports, improper lists and bit strings. `decode` raises only
`NotATerm`.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from typing import Any, Final, Self

__all__ = ["MAX_BYTES", "MAX_DEPTH", "Atom", "NoTermFor", "NotATerm", "decode", "encode"]

MAX_BYTES: Final = 65_536
"""The maximum size of an uncompressed term."""
MAX_DEPTH: Final = 64
"""The maximum nesting of lists, tuples and maps."""

_VERSION = 131
_COMPRESSED = 80
_NEW_FLOAT = 70
_SMALL_INTEGER, _INTEGER = 97, 98
_ATOM, _SMALL_TUPLE, _LARGE_TUPLE, _NIL, _STRING, _LIST = 100, 104, 105, 106, 107, 108
_BINARY, _SMALL_BIG, _LARGE_BIG, _SMALL_ATOM, _MAP = 109, 110, 111, 115, 116
_ATOM_UTF8, _SMALL_ATOM_UTF8 = 118, 119

_MAX_ATOM_CHARACTERS = 255

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_I32 = struct.Struct(">i")
_DOUBLE = struct.Struct(">d")


class Atom(str):
    """An atom of Erlang or Elixir, such as `:ok`.

        sign(secret, "user auth", {Atom("user_id"): 7})   # %{user_id: 7} in Elixir

    An atom is a `str` and equals the same text, so `data["user_id"]` also finds the key `Atom("user_id")`.
    Use None, True and False for the atoms `nil`, `true` and `false`.

    Raises:
        ValueError: the name has more than 255 characters, or is `nil`, `true` or `false`.
    """

    __slots__ = ()

    def __new__(cls, name: str) -> Self:
        """Make an atom."""
        if name in _CONSTANTS:
            raise ValueError(
                f"the atom {name} is {_CONSTANTS[name]} in Python; write {_CONSTANTS[name]}"
            )
        if len(name) > _MAX_ATOM_CHARACTERS:
            raise ValueError(
                f"an atom has at most {_MAX_ATOM_CHARACTERS} characters, this one has {len(name)}; use text"
            )
        return super().__new__(cls, name)

    def __repr__(self) -> str:
        return f"Atom({super().__repr__()})"


_CONSTANTS: Final[dict[str, bool | None]] = {"nil": None, "true": True, "false": False}


class NotATerm(ValueError):
    """Bytes are not a valid term, or contain a forbidden type. The text of the error does not quote the bytes."""


class NoTermFor(TypeError):
    """A Python value has no form as a term."""


# Writing


def encode(value: object) -> bytes:
    """Encode a value as a term.

    Erlang writes the same bytes, except for maps with more than 32 keys, and for maps with several atoms as keys.
    Erlang has another order for the keys of these maps. This function sorts the keys of every map, so equal dicts have
    equal bytes.

    Raises:
        NoTermFor: no term exists for the value, or it is too large or nested too deep.
    """
    out = bytearray([_VERSION])
    _write(out, value, MAX_DEPTH)
    return bytes(out)


def _write(out: bytearray, value: object, depth: int) -> None:
    match value:
        case None:
            _write_atom(out, "nil")
        case bool():
            _write_atom(out, "true" if value else "false")
        case int():
            _write_int(out, value)
        case float():
            _write_float(out, value)
        case Atom():
            _write_atom(out, value)
        case str() | bytes():
            _write_binary(out, value)
        case tuple() | list() | dict():
            if depth == 0:
                raise NoTermFor(f"it has more than {MAX_DEPTH} levels; sign flatter data")
            _write_collection(out, value, depth - 1)
        case _:
            raise NoTermFor(
                f"there is no term for {_kind(value)}; write None, a bool, int, float, str, bytes, Atom, "
                "or a list, tuple or dict of them"
            )
    if len(out) > MAX_BYTES:
        raise NoTermFor(f"it has more than {MAX_BYTES} bytes; sign an id and look up the rest")


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"


def _write_atom(out: bytearray, name: str) -> None:
    data = _utf8(name)
    if len(data) < 256:
        out += bytes([_SMALL_ATOM_UTF8, len(data)])
    else:
        out.append(_ATOM_UTF8)
        out += _U16.pack(len(data))
    out += data


def _write_int(out: bytearray, value: int) -> None:
    if 0 <= value < 256:
        out += bytes([_SMALL_INTEGER, value])
    elif -(2**31) <= value < 2**31:
        out.append(_INTEGER)
        out += _I32.pack(value)
    else:
        length = (abs(value).bit_length() + 7) // 8
        if length > MAX_BYTES:
            raise NoTermFor(f"an int has more than {MAX_BYTES} bytes; sign a smaller one")
        if length < 256:
            out += bytes([_SMALL_BIG, length])
        else:
            out.append(_LARGE_BIG)
            out += _U32.pack(length)
        out.append(value < 0)
        out += abs(value).to_bytes(length, "little")


def _write_float(out: bytearray, value: float) -> None:
    if not math.isfinite(value):
        raise NoTermFor(f"there is no term for the float {value}; write None or an Atom for it")
    out.append(_NEW_FLOAT)
    out += _DOUBLE.pack(value)


def _write_binary(out: bytearray, value: str | bytes) -> None:
    data = _utf8(value) if isinstance(value, str) else value
    if len(data) > MAX_BYTES:
        raise NoTermFor(f"it has more than {MAX_BYTES} bytes; sign an id and look up the rest")
    out.append(_BINARY)
    out += _U32.pack(len(data))
    out += data


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise NoTermFor(
            "a text contains half of a surrogate pair; write whole characters"
        ) from None


def _write_collection(
    out: bytearray, value: tuple[object, ...] | list[object] | dict[object, object], depth: int
) -> None:
    count = len(value)
    if count > MAX_BYTES:
        raise NoTermFor(f"it has more than {MAX_BYTES} bytes; sign an id and look up the rest")
    if isinstance(value, dict):
        _write_map(out, value, depth)
        return
    if isinstance(value, tuple):
        if count < 256:
            out += bytes([_SMALL_TUPLE, count])
        else:
            out.append(_LARGE_TUPLE)
            out += _U32.pack(count)
    elif not value:
        out.append(_NIL)
        return
    elif count < 65_536 and all(type(item) is int and 0 <= item < 256 for item in value):
        # Erlang writes every list of integers from 0 to 255 in this form.
        out.append(_STRING)
        out += _U16.pack(count)
        out += bytes(value)  # type: ignore[arg-type]
        return
    else:
        out.append(_LIST)
        out += _U32.pack(count)
    for item in value:
        _write(out, item, depth)
    if isinstance(value, list):
        out.append(_NIL)


def _write_map(out: bytearray, value: dict[object, object], depth: int) -> None:
    # Encode the keys before sorting them, because only valid keys have an order.
    keys = {_encoded(key, depth): key for key in value}
    if len(keys) < len(value):
        raise NoTermFor("a dict has the same key as str and as bytes; write one of them")
    out.append(_MAP)
    out += _U32.pack(len(value))
    for encoded, key in sorted(keys.items(), key=lambda item: _order(item[1])):
        out += encoded
        _write(out, value[key], depth)


def _encoded(value: object, depth: int) -> bytes:
    out = bytearray()
    _write(out, value, depth)
    return bytes(out)


def _order(key: object) -> tuple[Any, ...]:
    """Return the sort key of a map key, in the order of Erlang: integers, floats, atoms, tuples, binaries."""
    match key:
        case None | bool():
            return (2, {None: "nil", True: "true", False: "false"}[key])
        case int():
            return (0, key)
        case float():
            return (1, key)
        case Atom():
            return (2, str(key))
        case tuple():
            return (3, len(key), tuple(map(_order, key)))
        case str():
            return (4, key.encode())
    return (4, key)


# Reading


def decode(data: bytes) -> Any:
    """Decode a term, compressed or not.

    A binary becomes str if it is UTF-8, else bytes. All text of Elixir is UTF-8.

    Raises:
        NotATerm: the bytes are not exactly one term, or contain a forbidden type.
    """
    reader = _TermReader(_unpacked(data))
    value = reader.term(MAX_DEPTH)
    if reader.position != len(reader.data):
        raise NotATerm("there are bytes after its end")
    return value


def _unpacked(data: bytes) -> bytes:
    """Return the bytes after the version, uncompressed."""
    if len(data) > MAX_BYTES:
        raise NotATerm(f"it has more than {MAX_BYTES} bytes")
    if not data or data[0] != _VERSION:
        raise NotATerm("it does not begin with the version byte of an Erlang term")
    if len(data) < 2 or data[1] != _COMPRESSED:
        return data[1:]
    size = int.from_bytes(data[2:6], "big")
    if size > MAX_BYTES:
        raise NotATerm(f"it would have more than {MAX_BYTES} bytes after decompression")
    unpacker = zlib.decompressobj()
    try:
        # Allow one byte more than announced, to detect a false size. 0 would mean no limit.
        unpacked = unpacker.decompress(data[6:], size + 1)
    except zlib.error:
        raise NotATerm("its compression is damaged") from None
    if len(unpacked) != size or not unpacker.eof or unpacker.unused_data:
        raise NotATerm("its size after decompression differs from the size in its header")
    return unpacked


class _TermReader:
    """A reader of terms. It checks all counts and sizes, because the bytes can come from a client."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def term(self, depth: int) -> Any:
        tag = self.number(1)
        read = _READERS.get(tag)
        if read is None:
            raise NotATerm(f"it contains a forbidden type (tag {tag})")
        if depth == 0 and tag in _NESTING:
            raise NotATerm(f"it has more than {MAX_DEPTH} levels")
        return read(self, depth - 1)

    def take(self, count: int) -> bytes:
        start = self.position
        end = start + count
        if end > len(self.data):
            raise NotATerm("it ends too early")
        self.position = end
        return self.data[start:end]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def items(self, count: int, depth: int) -> list[Any]:
        # Each item takes at least one byte.
        if count > len(self.data) - self.position:
            raise NotATerm("it ends too early")
        return [self.term(depth) for _ in range(count)]

    def proper_list(self, depth: int) -> list[Any]:
        items = self.items(self.number(4), depth)
        if self.number(1) != _NIL:
            raise NotATerm("it contains an improper list")
        return items

    def mapping(self, depth: int) -> dict[Any, Any]:
        count = self.number(4)
        flat = self.items(2 * count, depth)
        try:
            value = dict(zip(flat[::2], flat[1::2], strict=True))
        except TypeError:
            raise NotATerm("it contains a map whose keys are lists or maps") from None
        if len(value) != count:
            raise NotATerm(
                'it contains a map with keys that are equal in Python, such as :a and "a"'
            )
        return value

    def double(self) -> float:
        value: float = _DOUBLE.unpack(self.take(8))[0]
        if not math.isfinite(value):
            raise NotATerm("it contains a float that is not finite")
        return value

    def big(self, length: int) -> int:
        sign = self.number(1)
        if sign > 1:
            raise NotATerm("it contains an integer with an invalid sign")
        value = int.from_bytes(self.take(length), "little")
        return -value if sign else value

    def atom(self, length: int, encoding: str) -> Atom | bool | None:
        try:
            name = self.take(length).decode(encoding)
            return _CONSTANTS[name] if name in _CONSTANTS else Atom(name)
        except ValueError:
            raise NotATerm("it contains an atom with an invalid name") from None

    def binary(self) -> str | bytes:
        data = self.take(self.number(4))
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data


_NESTING = {_SMALL_TUPLE, _LARGE_TUPLE, _LIST, _MAP}

_READERS: dict[int, Callable[[_TermReader, int], Any]] = {
    _NEW_FLOAT: lambda reader, _: reader.double(),
    _SMALL_INTEGER: lambda reader, _: reader.number(1),
    _INTEGER: lambda reader, _: _I32.unpack(reader.take(4))[0],
    _SMALL_BIG: lambda reader, _: reader.big(reader.number(1)),
    _LARGE_BIG: lambda reader, _: reader.big(reader.number(4)),
    _ATOM: lambda reader, _: reader.atom(reader.number(2), "latin-1"),
    _SMALL_ATOM: lambda reader, _: reader.atom(reader.number(1), "latin-1"),
    _ATOM_UTF8: lambda reader, _: reader.atom(reader.number(2), "utf-8"),
    _SMALL_ATOM_UTF8: lambda reader, _: reader.atom(reader.number(1), "utf-8"),
    _BINARY: lambda reader, _: reader.binary(),
    _NIL: lambda reader, _: [],
    _STRING: lambda reader, _: list(reader.take(reader.number(2))),
    _LIST: lambda reader, depth: reader.proper_list(depth),
    _SMALL_TUPLE: lambda reader, depth: tuple(reader.items(reader.number(1), depth)),
    _LARGE_TUPLE: lambda reader, depth: tuple(reader.items(reader.number(4), depth)),
    _MAP: lambda reader, depth: reader.mapping(depth),
}
