"""Timing loops that all subjects share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

__all__ = ["BATCH", "batches", "seconds_each", "seconds_each_async"]

BATCH = 1_000
"""How many casts are sent before somebody waits until they have been handled, and how many tasks start together."""


def batches(count: int) -> list[int]:
    """Split `count` into whole batches and a rest."""
    whole, rest = divmod(count, BATCH)
    return [BATCH] * whole + ([rest] if rest else [])


def seconds_each(count: int, run: Callable[[], object]) -> list[float]:
    """How long each of `count` things took that `run` does."""
    began = time.perf_counter()
    run()
    return [(time.perf_counter() - began) / count]


async def seconds_each_async(count: int, run: Callable[[], Awaitable[object]]) -> list[float]:
    """How long each of `count` things took that `run` does."""
    began = time.perf_counter()
    await run()
    return [(time.perf_counter() - began) / count]
