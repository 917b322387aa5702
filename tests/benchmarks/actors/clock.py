"""Timing loops that all subjects share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

__all__ = ["BATCH", "batches", "seconds_each", "seconds_each_async"]

BATCH = 1_000
"""The number of casts before a wait for their handling, and of tasks that start together."""


def batches(count: int) -> list[int]:
    """Split `count` into whole batches and a rest."""
    whole, rest = divmod(count, BATCH)
    return [BATCH] * whole + ([rest] if rest else [])


def seconds_each(count: int, run: Callable[[], object]) -> list[float]:
    """Return the time for each of the `count` repetitions inside `run`."""
    began = time.perf_counter()
    run()
    return [(time.perf_counter() - began) / count]


async def seconds_each_async(count: int, run: Callable[[], Awaitable[object]]) -> list[float]:
    """Return the time for each of the `count` repetitions inside `run`."""
    began = time.perf_counter()
    await run()
    return [(time.perf_counter() - began) / count]
