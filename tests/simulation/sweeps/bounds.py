"""Small bounds: a swarm option of the sweeps that scales down the inner bounds of the product.

    @scenario()
    @small_bounds
    async def lockstep(world): ...

The short worlds of a sweep never fill a window of 4 MiB, and never need a second turn of 512 buffers. In half of the
runs, the sweep replaces some of these bounds by a tiny number. Each bound here only decides the size of the pieces in
which the product works. It changes no result, so the models of the sweeps ignore it. Bounds that change results, such
as the most buffered bytes, are settings. A sweep draws them itself, and its model knows them.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from random import Random
from typing import Any, TypeVar

from attrs import frozen

from supervision.simulation import World

__all__ = ["BOUNDS", "Bound", "scaled_down", "small_bounds", "small_bounds_except"]

R = TypeVar("R")

_RUNS = 0.5
"""The share of runs in which some bounds are small."""

_BOUNDS = 0.5
"""The share of the bounds that are small in such a run."""


@frozen
class Bound:
    """One bound of the product.

    Attributes:
        name: the name of the constant.
        modules: the modules that have the constant, because they define or import it.
        small: the small values.
    """

    name: str
    modules: tuple[str, ...]
    small: tuple[int, ...]


_CONNECTION = "channels.connection.connection"
_SERVER = "channels.connection.session_server"
_REDIS = "channels.pubsub.redis.connection"
_LINKS = "channels.pubsub.workers.links"
_BUFFER = "channels.transports.out_buffer"

BOUNDS = (
    Bound("_REBUILD_FLOOR", ("actors._kernel.timer_queue",), (0, 3)),
    Bound("_BATCH", ("actors._kernel.thread_queue",), (1, 2)),
    Bound("FAIRNESS", ("actors.servers._loop",), (1, 3)),
    Bound("NEWEST", ("actors._kernel.mailbox",), (1,)),
    Bound("_CHUNK", (_BUFFER,), (16, 60, 1000)),
    Bound("_TURN", (_BUFFER,), (1, 2)),
    Bound("RESERVED_STEP", (_BUFFER,), (1, 50)),
    Bound(
        "READ_SIZE",
        ("channels.transports.stream_transport", "channels.upgrade.first_request"),
        (40, 500),
    ),
    Bound("FREE_FRAMES", (_CONNECTION,), (1, 2)),
    Bound("FRAMES", (_CONNECTION,), (1, 2)),
    Bound("FREE_BYTES", (_CONNECTION, _SERVER), (1, 60)),
    Bound("PIECE", (_SERVER,), (10, 60)),
    Bound("TURN_BUDGET", ("channels.protocol.work_budget",), (1, 20)),
    Bound("INFLATED_PIECE", ("channels.wire.deflate",), (16, 100)),
    Bound("_INPUT", ("channels.wire.deflate",), (4, 40)),
    Bound("_CHUNK", (_LINKS,), (70, 500)),
    Bound("_TURN", (_LINKS,), (1, 2)),
    Bound("_READ_SIZE", (_REDIS,), (50, 500)),
    Bound("_TURN", (_REDIS,), (1, 2)),
    Bound("_REPLIES", (_REDIS,), (1, 2)),
    Bound("_WINDOW", (_REDIS,), (1, 500)),
    Bound("SLICE", ("channels.presence.announcer", "channels.presence.roster"), (1, 2)),
    Bound("PAGE", ("channels.presence.tracker",), (100, 400)),
    Bound("_FULL", ("channels.presence.snapshot",), (16,)),
    Bound("_ENDS", ("channels.durable.redis",), (1, 2)),
    Bound("_ENDS", ("channels.durable.sqlite",), (1, 2)),
    Bound("PART", ("channels.entities.handovers",), (5000, 20_000)),
    Bound("_MAX_BATCH_BYTES", ("channels.durable.queue",), (1, 300)),
    Bound("_LATEST_CHUNK", (_BUFFER,), (16, 1000)),
    Bound("_GAPS", ("channels.transports.latest",), (0, 2)),
)
"""All bounds that a sweep may scale down."""


def small_bounds(scenario: Callable[[World], Awaitable[R]]) -> Callable[[World], Awaitable[R]]:
    """Run a scenario with small bounds in half of its runs."""
    return small_bounds_except()(scenario)


def small_bounds_except(
    *names: str,
) -> Callable[[Callable[[World], Awaitable[R]]], Callable[[World], Awaitable[R]]]:
    """Return a decorator like `small_bounds` that never changes the bounds with these names."""

    def decorate(scenario: Callable[[World], Awaitable[R]]) -> Callable[[World], Awaitable[R]]:
        @wraps(scenario)
        async def scaled(world: World) -> R:
            with scaled_down(world.random("small bounds"), names):
                return await scenario(world)

        return scaled

    return decorate


@contextmanager
def scaled_down(random: Random, kept: Collection[str] = ()) -> Iterator[None]:
    """Scale some bounds down while the block runs, in half of all cases. Never change the bounds named in `kept`."""
    chosen = BOUNDS if random.random() < _RUNS else ()
    before: list[tuple[Any, str, int]] = []
    try:
        for bound in chosen:
            # Draw for every bound, so that a module that is not loaded changes no other draw.
            value, is_small = random.choice(bound.small), random.random() < _BOUNDS
            for name in bound.modules if is_small and bound.name not in kept else ():
                module = sys.modules.get(name)
                if module is not None:
                    before.append((module, bound.name, getattr(module, bound.name)))
                    setattr(module, bound.name, value)
        yield
    finally:
        for module, name, old in before:
            setattr(module, name, old)


def bounds_without_a_constant() -> list[Bound]:
    """Return the bounds whose constant one of their modules lacks."""
    return [
        bound
        for bound in BOUNDS
        if not all(
            isinstance(vars(import_module(name)).get(bound.name), int) for name in bound.modules
        )
    ]
