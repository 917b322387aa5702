"""Pins for generators of random numbers that modules hold as globals.

All runs of a process share a generator in a global. So its numbers would depend on earlier runs, or on the operating
system. A simulation therefore seeds these generators from the seed of the run and the name of the global. After the
run, it restores their states:

- each `random.Random` in a global of a module, of the program or of a library;
- if numpy is imported, the functions of `numpy.random`, and each `Generator` and `RandomState` in a global.

The simulation does not change a generator in an attribute of a class or an object, or a generator of another library.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any

from supervision.laboratory.entropy import Streams
from supervision.laboratory.simulation.frames import imports

__all__ = ["seed_generators", "seeded_generators"]

_OF_FUNCTIONS: object = random.random.__self__  # type: ignore[attr-defined]
_NUMPY = "numpy.random"


@contextmanager
def seeded_generators(streams: Streams) -> Iterator[None]:
    """Seed all generators in globals, and restore their states after the block."""
    with ExitStack() as stack:
        for generator in _generators(imports()).values():
            stack.callback(_restorer(generator))
        seed_generators(streams)
        yield


def seed_generators(streams: Streams) -> None:
    """Seed all generators in globals from the streams of a run."""
    for name, generator in _generators(imports()).items():
        _seed(generator, streams.fresh("global", name))


@lru_cache(maxsize=1)
def _generators(_: object) -> dict[str, Any]:
    """Return the generators of all modules, by name. The argument is the result of `imports`."""
    names: dict[int, tuple[str, Any]] = {}
    for module_name, module in list(sys.modules.items()):
        space = getattr(module, "__dict__", None)
        if type(space) is not dict:
            continue
        for name, value in list(space.items()):
            if _is_generator(value):
                # Several modules may hold the same generator. Its name must not depend on the order of imports.
                full = f"{module_name}.{name}"
                names[id(value)] = min(
                    names.get(id(value), (full, value)), (full, value), key=_name
                )
    found = dict(sorted(names.values(), key=_name))
    if _NUMPY in sys.modules:
        found[_NUMPY] = sys.modules[_NUMPY]
    return found


def _name(named: tuple[str, Any]) -> str:
    return named[0]


def _is_generator(value: object) -> bool:
    kind = type(value)
    # `isinstance` would ask a proxy for its object, which may not exist now. So this uses `issubclass`.
    if issubclass(kind, random.Random):
        # The generator of the functions of `random` has its own pin. A SystemRandom has no state.
        return value is not _OF_FUNCTIONS and not issubclass(kind, random.SystemRandom)
    return kind.__name__ in ("Generator", "RandomState") and str(kind.__module__).startswith(_NUMPY)


def _seed(generator: Any, stream: random.Random) -> None:
    if isinstance(generator, random.Random):
        generator.seed(stream.getrandbits(128))
    elif type(generator).__name__ == "Generator":
        bits = generator.bit_generator
        bits.state = type(bits)(stream.getrandbits(64)).state
    else:
        generator.seed(stream.getrandbits(32))


def _restorer(generator: Any) -> Callable[[], None]:
    if isinstance(generator, random.Random):
        state = generator.getstate()
        return lambda: generator.setstate(state)
    if type(generator).__name__ == "Generator":
        bits = generator.bit_generator
        before = bits.state

        def restore() -> None:
            bits.state = before

        return restore
    words = generator.get_state()
    return lambda: generator.set_state(words)
