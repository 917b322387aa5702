"""Where a runtime gets chance, identifiers and the time of day from: the real world, or a simulated one.

A program takes all three from its runtime, so that a seed decides about them in a simulation:

    runtime = current_runtime()
    delay = runtime.random.uniform(0, 1)
    order_id = runtime.uuid()
    created_at = runtime.now()

Durations are another matter: they are Trio's, `trio.current_time()`.
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
    """The real world. A simulation overrides what it decides about, and is told of every runtime in it."""

    def opened(self, runtime: Runtime) -> None:
        """A runtime was opened here; it has no processes yet. The place to add an instrument."""

    def random(self, process: Pid | None) -> random.Random | None:
        """What `process` draws from (None outside of processes); None is the runtime's own source."""
        return None

    def uuid(self, process: Pid | None) -> uuid.UUID:
        """A new identifier."""
        return uuid.uuid4()

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()


current_environment: ContextVar[Environment] = ContextVar(
    "actors_environment",
    default=Environment(),  # noqa: B039 # it has no state
)
"""What `open_runtime` takes its environment from. Inherited by tasks, as all context variables are."""
