"""Waits for real processes and sockets, long enough for a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

__all__ = ["PATIENCE", "until", "wait_until"]

PATIENCE = 60.0
"""Seconds after which a test fails that waits for something.

It bounds a test that hangs, and is never what a test is about: what is expected comes within milliseconds, and on a
busy machine within seconds.
"""

_PAUSE = 0.02


def _nothing_more() -> str:
    return "nothing more is known"


def wait_until(holds: Callable[[], object], told: Callable[[], str] = _nothing_more) -> None:
    """Return as soon as `holds()` is true.

    Args:
        holds: the state to wait for; asked again and again.
        told: describes the state that there is instead, for the error.

    Raises:
        AssertionError: it was not true within `PATIENCE` seconds.
    """
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"it did not come to that in {PATIENCE} s: {told()}"
        time.sleep(_PAUSE)


async def until(holds: Callable[[], object], told: Callable[[], str] = _nothing_more) -> None:
    """Return as soon as `holds()` is true: `wait_until` for tests on Trio, with a real clock."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"it did not come to that in {PATIENCE} s: {told()}"
        await trio.sleep(_PAUSE)
