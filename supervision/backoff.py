"""Waiting before a child is restarted: an extension. OTP restarts at once, and so does Ashtree unless told to wait.

Pure: the time is an argument, so a test or a simulation decides what time it is.
"""

from __future__ import annotations

import math
from typing import Any, final

from attrs import field, frozen

from supervision.errors import BadSupervisorOption

__all__ = ["Backoff", "Delays", "check_backoff"]


def _seconds(instance: Any, attribute: Any, value: float) -> None:
    if not _is_number(value) or not 0 < value < math.inf:
        raise BadSupervisorOption(
            "write seconds, more than 0", option=f"backoff.{attribute.name}", value=value
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@frozen
class Backoff:
    """How long a supervisor waits before it restarts a child: longer each time, until the child has run for a while.

        Supervisor.start_link([Feed], backoff=Backoff(0.1, 30.0), max_restarts=math.inf)

    The first restart is made after `initial` seconds, each further one of the same child after `factor` times as many
    as the one before, and never after more than `maximum`. A child that goes on running for `reset_after` seconds is
    taken to be well: its next restart is a first one again.

    Args:
        initial: seconds, more than 0.
        maximum: seconds, not less than `initial`.
        factor: 1 or more; 1 waits equally long each time.
        reset_after: seconds; by default `maximum`.

    Raises:
        BadSupervisorOption: a value outside these ranges.

    Restarts count as ever, each when it is made: `max_restarts` in `max_seconds`. So a window that is short next to
    the waits is never exhausted, and the supervisor never gives up; choose it with that in mind. Where the strategy
    restarts a group, the group is stopped at once and started together after the wait.

    Not part of OTP.
    """

    initial: float = field(validator=_seconds)
    maximum: float = field(validator=_seconds)
    factor: float = 2.0
    reset_after: float | None = None

    def __attrs_post_init__(self) -> None:
        if self.maximum < self.initial:
            raise BadSupervisorOption(
                f"write at least as many seconds as initial, {self.initial:g}",
                option="backoff.maximum",
                value=self.maximum,
            )
        if not _is_number(self.factor) or not 1 <= self.factor < math.inf:
            raise BadSupervisorOption(
                "write a number from 1", option="backoff.factor", value=self.factor
            )
        if self.reset_after is not None and (
            not _is_number(self.reset_after) or not self.reset_after >= 0
        ):
            raise BadSupervisorOption(
                "write seconds, from 0", option="backoff.reset_after", value=self.reset_after
            )


@final
class Delays:
    """The waits of one child."""

    __slots__ = ("_backoff", "_delay", "_due")

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._delay = 0.0
        # When the restart that was asked for last is to be made; the child runs, if at all, since then.
        self._due = -math.inf

    def next(self, now: float) -> float:
        """Seconds to wait, from `now`, before a restart of the child, which has just ended or failed to start."""
        backoff = self._backoff
        well = backoff.maximum if backoff.reset_after is None else backoff.reset_after
        # More than nothing: a start that failed, and that took no time, has not run at all.
        if self._delay == 0.0 or now - self._due >= max(well, math.ulp(0.0)):
            self._delay = backoff.initial
        else:
            self._delay = min(self._delay * backoff.factor, backoff.maximum)
        self._due = now + self._delay
        return self._delay


def check_backoff(backoff: object) -> None:
    """Raise BadSupervisorOption unless this is a Backoff, or None."""
    if backoff is not None and not isinstance(backoff, Backoff):
        raise BadSupervisorOption(
            "write Backoff(initial, maximum), or None to restart at once",
            option="backoff",
            value=backoff,
        )
