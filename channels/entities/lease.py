"""The lease of a session, and the clock that measures it.

A node may run its entities only while the lease of its session is valid. A lease that has become invalid never becomes
valid again: the node stops its entities, and opens another session with another lease.

The clock is `Runtime.since_boot`. It also counts while the machine is suspended, which Trio's clock does not. So a
process that was suspended finds its lease invalid before it handles the next message.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

__all__ = ["Lease"]


class Lease:
    """The right to run entities until a time, which renewals extend.

        lease = Lease(current_runtime().since_boot, until=sent + 8.0)
        if lease.is_valid: ...

    Args:
        clock: the clock of `until`, in seconds.
        until: the time at which the lease ends. `math.inf` is for an arbiter that never grants a key of a living node
            to another node. Such a lease ends only when `lose` is called.
        seconds: the seconds from a renewal until other nodes may get the keys; `math.inf` for such an arbiter.

    Attributes:
        until: the time at which the lease ends.
        problem: the reason why the lease is invalid; None while it is valid.
        delay: the reason why the last renewal failed; None if it succeeded.
        seconds: as above.
    """

    __slots__ = ("_clock", "_lost", "delay", "problem", "seconds", "until")

    def __init__(
        self, clock: Callable[[], float], until: float = math.inf, *, seconds: float = math.inf
    ) -> None:
        self._clock = clock
        self._lost = trio.Event()
        self.until = until
        self.seconds = seconds
        self.problem: str | None = None
        self.delay: str | None = None

    @property
    def is_valid(self) -> bool:
        """True if the node may handle a message now."""
        if self.problem is not None:
            return False
        if self.until == math.inf or self._clock() < self.until:
            return True
        self.lose(f"it was not renewed in time{'' if self.delay is None else f': {self.delay}'}")
        return False

    @property
    def seconds_left(self) -> float:
        """The seconds until the lease ends without a renewal; 0 if it is invalid."""
        if not self.is_valid:
            return 0.0
        return math.inf if self.until == math.inf else max(self.until - self._clock(), 0.0)

    def extend(self, until: float) -> None:
        """Let the lease end later, if it is still valid. An earlier time than the present one changes nothing.

        Args:
            until: the time on the clock of the lease, in seconds.
        """
        if self.is_valid:
            self.until = max(self.until, until)
            self.delay = None

    def lose(self, problem: str) -> None:
        """End the lease for ever. The first problem stays.

        Args:
            problem: the reason, for logs and errors.
        """
        if self.problem is None:
            self.problem = problem
            self._lost.set()

    async def wait_lost(self) -> str:
        """Wait until somebody notices that the lease is invalid. Return the reason."""
        await self._lost.wait()
        assert self.problem is not None, "`lose` sets it first"
        return self.problem
