"""Streams of random numbers, each with a name: what one of them gives changes no other.

    streams = Streams(7)
    streams.stream("crashes", "top/worker", 2).random()

The name says what for: a purpose, a path in the tree, an incarnation. So a run without one of its
faults, or with one process less, draws the same numbers everywhere else.
"""

from __future__ import annotations

import random
from hashlib import blake2b

__all__ = ["Streams", "derive"]


def derive(seed: int, *name: object) -> int:
    """A seed for the purpose `name`, the same on every machine and in every version of Python.

    Args:
        seed: of the whole run.
        *name: strings and numbers; their `str` counts.
    """
    text = "\x1f".join(map(str, (seed, *name)))
    return int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "big")


class Streams:
    """The streams of one run.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._streams: dict[tuple[object, ...], random.Random] = {}

    def stream(self, *name: object) -> random.Random:
        """The stream of that name; the same object every time."""
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = random.Random(derive(self.seed, *name))
        return stream

    def fresh(self, *name: object) -> random.Random:
        """A stream of that name from its beginning, which is not kept."""
        return random.Random(derive(self.seed, *name))
