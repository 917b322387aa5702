"""A runtime's source of randomness, identifiers and time of day: the real world, or a simulated one.

A program takes all three from its runtime, so that in a simulation the seed decides them:

    runtime = current_runtime()
    delay = runtime.random.uniform(0, 1)
    order_id = runtime.uuid()
    created_at = runtime.now()

For durations use Trio's clock, `trio.current_time()`.
"""

from __future__ import annotations

import random
import time
import uuid
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors._kernel.runtime import Runtime
    from actors.refs import Pid

__all__ = ["Environment", "current_environment"]


class Environment:
    """The real world. A simulation overrides these methods."""

    def opened(self, runtime: Runtime) -> None:
        """Handle the opening of a runtime, which has no processes yet. This is the place to add an instrument."""

    def random(self, process: Pid | None) -> random.Random | None:
        """Return the source for `process` (None outside of processes), or None for the runtime's own source."""
        return None

    def uuid(self, process: Pid | None) -> uuid.UUID:
        """Return a new identifier."""
        return uuid.uuid4()

    def now(self) -> float:
        """Return the seconds since the epoch."""
        return time.time()


current_environment: ContextVar[Environment] = ContextVar(
    "actors_environment",
    default=Environment(),  # noqa: B039 # it has no state
)
"""The environment of the next `open_runtime`. Tasks inherit it, as they do all context variables."""
