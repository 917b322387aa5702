"""Estimation of what a JSON text costs to decode, before anybody decodes it.

*pure*. Decoding is one call that nothing can interrupt, and its time depends on what is in the text: ten megabytes are
one string, in five milliseconds, or three million lists, in a second. So the values are counted first, piece by piece,
which can be interrupted between any two pieces.

    weight = JsonWeight()
    for piece in pieces:
        weight.feed(piece)
        if weight.values > limit: ...

The text need not be JSON. What is none has some weight too, and is refused by the decoder.
"""

from __future__ import annotations

__all__ = ["DEFAULT_MAX_VALUES", "LIGHT", "PIECE", "JsonWeight"]

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
