"""The limit of restarts after which a supervisor gives up.

*pure*: the time of an attempt is an argument.
"""

from __future__ import annotations

import math
from collections import deque

from supervision.errors import BadSupervisorOption

__all__ = ["DEFAULT_MAX_RESTARTS", "DEFAULT_MAX_SECONDS", "RestartIntensity"]

DEFAULT_MAX_RESTARTS = 3
"""Restarts within the window that a supervisor makes before it gives up. As in Elixir."""

DEFAULT_MAX_SECONDS = 5.0
"""The length of the window, in seconds. As in OTP and Elixir."""


class RestartIntensity:
    """The restarts of one supervisor within a sliding window.

        intensity = RestartIntensity(max_restarts=3, max_seconds=5.0)
        [intensity.admit(now) for now in (0.0, 1.0, 2.0, 3.0)]      # [True, True, True, False]

    Every restart *attempt* counts: a failed restart as much as a crash, and the restart of a group as much as that of
    one child. An attempt at time `t` counts while `now - t <= max_seconds`.

    Args:
        max_restarts: allowed attempts within the window; 0 allows none.
        max_seconds: length of the window in seconds, more than 0; `math.inf` never forgets.

    Raises:
        BadSupervisorOption: a value is outside these ranges.

    After OTP's restart intensity. OTP counts whole seconds, so its window may be up to one second longer.
    """

    __slots__ = ("_attempts", "max_restarts", "max_seconds")

    def __init__(self, max_restarts: float, max_seconds: float) -> None:
        if not _is_restart_count(max_restarts):
            raise BadSupervisorOption(
                "write a whole number of restarts from 0, or math.inf for no limit",
                option="max_restarts",
                value=max_restarts,
            )
        if not _is_number(max_seconds) or not max_seconds > 0:
            raise BadSupervisorOption(
                "write the length of the restart window in seconds, more than 0",
                option="max_seconds",
                value=max_seconds,
            )
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        # Oldest first, at most max_restarts + 1: at that length the supervisor gives up.
        self._attempts: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Count an attempt at time `now`, in seconds, and return whether it is allowed.

        `now` must not run backwards. After False the supervisor gives up, and the result of a further call is
        undefined.
        """
        if self.max_restarts == math.inf:
            return True
        attempts = self._attempts
        while attempts and now - attempts[0] > self.max_seconds:
            attempts.popleft()
        attempts.append(now)
        return len(attempts) <= self.max_restarts

    def recent(self, now: float) -> int:
        """Return the number of attempts that count at time `now`."""
        return sum(1 for attempt in self._attempts if now - attempt <= self.max_seconds)

    def __repr__(self) -> str:
        return f"RestartIntensity({self.max_restarts!r}, {self.max_seconds!r})"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _is_restart_count(value: object) -> bool:
    return (
        _is_number(value)
        and isinstance(value, int | float)
        and value >= 0
        and (value == math.inf or value == int(value))
    )
