"""Named streams of random numbers. Drawing from one stream does not change another.

    streams = Streams(7)
    streams.stream("crashes", "top/worker", 2).random()

The name of a stream states its purpose. It may combine a use, a path in the tree and an incarnation. So if you remove a
fault or a process from a run, the other streams stay the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import blake2b
from typing import TypeAlias

__all__ = ["Chance", "Streams", "derive"]

Chance: TypeAlias = random.Random
"""A source of random numbers. Pure modules take one as an argument."""


def derive(seed: int, *name: object) -> int:
    """Return a seed for one purpose, the same on every machine and in every version of Python.

    Args:
        seed: the seed of the run.
        *name: strings and numbers that name the purpose. Two names with the same `str` give the same seed.
    """
    text = "\x1f".join(map(str, (seed, *name)))
    return int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "big")


class Streams:
    """The random streams of one run.

    Args:
        seed: the seed of the run.
        new: makes each stream from its name and its seed.
    """

    def __init__(
        self,
        seed: int,
        new: Callable[[tuple[object, ...], int], Chance] = lambda name, seed: random.Random(seed),
    ) -> None:
        self.seed = seed
        self._new = new
        self._streams: dict[tuple[object, ...], Chance] = {}

    def stream(self, *name: object) -> Chance:
        """Return the stream of a name. The same name always returns the same object."""
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = self._new(name, derive(self.seed, *name))
        return stream

    def reseed(self, *name: object) -> None:
        """Begin all streams anew from another seed, which depends on the old seed and on `name`.

        Streams that the program already holds begin anew too.
        """
        self.seed = derive(self.seed, "reseed", *name)
        for purpose, stream in self._streams.items():
            stream.seed(derive(self.seed, *purpose))

    def fresh(self, *name: object) -> Chance:
        """Return a new stream of a name, at its beginning."""
        return random.Random(derive(self.seed, *name))
