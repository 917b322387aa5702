"""Pins for hidden entropy.

During a simulation, the seed and the virtual clock replace these sources:

- `os.urandom`, and with it `secrets`, `random.SystemRandom` and `uuid.uuid4`;
- `uuid.uuid1`; the functions of `random`; `random.Random()` without a seed;
- the functions of `time` and `datetime` that read a clock (see `clocks`). Libraries get the virtual time. In the
  program, these functions raise an `Escape`, because the program should use the clock of its runtime.
- the order of the names that `os.listdir` and `os.scandir` return, which the file system decides otherwise;
- the generators that modules hold as globals, and the global generator of numpy (see `generators`).
- the functions that wait in real time, such as `queue.Queue.get` (see `waits`). Within the fence, they raise an
  `Escape`.
- the garbage collector. It is off, because it runs finalizers at moments that depend on the whole process.

The pins also replace a function in the modules that have imported it by name. At the end they restore everything. Other
threads always see the real functions.

A library such as time-machine is not enough: only this thread may see the virtual time, and only library code may read
it.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from operator import attrgetter
from typing import Any, Self

import trio.testing

from actors.places import is_program
from supervision.laboratory.entropy import Streams
from supervision.laboratory.simulation.frames import imports
from supervision.laboratory.simulation.pins.clocks import pinned_clocks, pinned_dates
from supervision.laboratory.simulation.pins.fence import OnEscape
from supervision.laboratory.simulation.pins.generators import seed_generators, seeded_generators
from supervision.laboratory.simulation.pins.waits import guarded_waits, pinned_waits

__all__ = ["pinned", "seed_modules"]


@contextmanager
def pinned(
    streams: Streams,
    now: Callable[[], float],
    on_escape: OnEscape,
    settle: Callable[[], Awaitable[None]] | None = None,
) -> Iterator[None]:
    """Replace every source of entropy in this thread while the `with` block runs.

    Args:
        streams: the random streams of the run.
        now: returns the virtual time, in seconds since the epoch.
        on_escape: gets the `Escape` of a program that reads the wall clock.
        settle: the replacement of `trio.testing.wait_all_tasks_blocked`, which does not work with a clock that jumps.
    """
    pairs = [
        *_entropy(streams),
        *_listings(streams),
        *pinned_clocks(now, on_escape),
        *pinned_dates(now, on_escape),
        *pinned_waits(),
        *(() if settle is None else _waiting_for_all(settle)),
    ]
    replacements = {id(original): replacement for original, replacement in pairs}
    with ExitStack() as stack:
        originals = {id(replacement): original for original, replacement in pairs}
        stack.callback(_restore_in_new_modules, set(sys.modules), originals)
        if gc.isenabled():
            stack.callback(gc.enable)
            gc.disable()
        # The default handler writes warnings to stderr. The trace contains them anyway.
        stack.callback(setattr, logging, "lastResort", logging.lastResort)
        logging.lastResort = logging.NullHandler()
        stack.enter_context(_seeded_module(streams))
        stack.enter_context(seeded_generators(streams))
        stack.enter_context(guarded_waits())
        for space, name, original in _uses(imports(), frozenset(replacements)):
            if space.get(name) is original:
                stack.callback(space.__setitem__, name, original)
                space[name] = replacements[id(original)]
        yield


def _entropy(streams: Streams) -> Iterator[tuple[object, object]]:
    """Yield each function that asks the operating system for random numbers, with its replacement."""
    thread = threading.get_ident()
    draws = streams.stream("os.urandom")
    real_urandom, real_uuid1 = os.urandom, uuid.uuid1

    def urandom(size: int, /) -> bytes:
        if threading.get_ident() != thread:
            return real_urandom(size)
        return draws.randbytes(size)

    def uuid1(node: int | None = None, clock_seq: int | None = None) -> uuid.UUID:
        if threading.get_ident() != thread:
            return real_uuid1(node, clock_seq)
        return uuid.UUID(int=draws.getrandbits(128), version=1)

    yield real_urandom, urandom
    yield real_uuid1, uuid1


def _listings(streams: Streams) -> Iterator[tuple[object, object]]:
    """Yield each function that lists a folder, with its replacement. The seed decides the order of every call."""
    thread = threading.get_ident()
    real_listdir, real_scandir = os.listdir, os.scandir

    def listdir(path: Any = None) -> list[Any]:
        names: list[Any] = real_listdir(path)
        if threading.get_ident() == thread:
            names.sort()
            # Draw from a new stream each time, because an import lists folders too.
            streams.fresh("listings").shuffle(names)
        return names

    def scandir(path: Any = None) -> Any:
        if threading.get_ident() != thread:
            return real_scandir(path)
        with real_scandir(path) as entries:
            found = sorted(entries, key=attrgetter("name"))
        streams.fresh("listings").shuffle(found)
        return _Entries(found)

    yield real_listdir, listdir
    yield real_scandir, scandir


class _Entries:
    """The result of `os.scandir`: an iterator and a context manager."""

    def __init__(self, entries: list[os.DirEntry[Any]]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> os.DirEntry[Any]:
        return next(self._entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())


def _waiting_for_all(settle: Callable[[], Awaitable[None]]) -> Iterator[tuple[object, object]]:
    thread = threading.get_ident()
    real = trio.testing.wait_all_tasks_blocked

    async def wait_all_tasks_blocked(cushion: float = 0.0) -> None:
        await (settle() if threading.get_ident() == thread else real(cushion))

    yield real, wait_all_tasks_blocked


def seed_modules(streams: Streams) -> None:
    """Seed the functions of `random` and the generators in globals from the streams of a run."""
    random.seed(streams.fresh("random").getrandbits(128))
    seed_generators(streams)


@contextmanager
def _seeded_module(streams: Streams) -> Iterator[None]:
    """Seed the functions of `random`, and every `random.Random()` without a seed."""
    draws = streams.stream("random.Random")
    thread = threading.get_ident()
    real_seed = random.Random.seed

    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None and threading.get_ident() == thread:
            a = draws.getrandbits(128)
        real_seed(self, a, version)

    state = random.getstate()
    random.seed(streams.fresh("random").getrandbits(128))
    random.Random.seed = seed  # type: ignore[method-assign]
    try:
        yield
    finally:
        random.Random.seed = real_seed  # type: ignore[method-assign]
        random.setstate(state)


# The pins keep the originals in these modules, because the replacements call the originals. The import of a module
# takes locks, so the modules of the import system keep the originals too.
_UNCHANGED = frozenset(
    (
        *(__name__, "_thread", "_frozen_importlib", "importlib._bootstrap"),
        *(
            f"supervision.laboratory.simulation.pins.{name}"
            for name in ("clocks", "fence", "waits")
        ),
    )
)


# The modules that define the replaced types.
_HOMES = ("datetime", "queue", "threading")


@lru_cache(maxsize=2)
def _uses(_: object, originals: frozenset[int]) -> list[tuple[dict[str, Any], str, object]]:
    """Return the module globals that hold an original function or type, under any name.

    The first argument is the result of `imports`, because a further import makes the result invalid.
    """
    return [
        (space, name, value)
        for module_name, space in _namespaces(list(sys.modules))
        if module_name not in _UNCHANGED
        for name, value in list(space.items())
        if id(value) in originals
        and not _is_type_for_others(module_name, value)
        and (module_name != "threading" or not name.startswith("_"))
    ]


def _restore_in_new_modules(known: set[str], originals: dict[int, object]) -> None:
    """Restore the originals in modules that the simulation imported, because they hold the replacements."""
    for _, space in _namespaces(sys.modules.keys() - known):
        for name, value in list(space.items()):
            if id(value) in originals:
                space[name] = originals[id(value)]


def _namespaces(names: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in names:
        space = getattr(sys.modules.get(name), "__dict__", None)
        if type(space) is dict:
            yield name, space


def _is_type_for_others(module_name: str, value: object) -> bool:
    """Return True for a type in a library, because the library may compare the type by identity."""
    if not isinstance(value, type) or module_name in _HOMES:
        return False
    file = getattr(sys.modules[module_name], "__file__", None)
    return file is None or not is_program(file)
