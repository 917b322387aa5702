"""Waits before restarts. By default Ashtree restarts immediately, as OTP always does.

*pure*: this code reads no clock; the time is an argument.
"""

from __future__ import annotations

import math
from typing import final

import msgspec

from actors.arguments import check_number
from actors.errors import InvalidOption

__all__ = ["Backoff", "Delays", "check_backoff"]


def _check_seconds(option: str, value: float) -> None:
    check_number("a supervisor", option, value, "seconds, more than 0", above=0, finite=True)


class Backoff(msgspec.Struct, frozen=True):
    """Increasing waits before the restarts of a child. After a long run of the child, they start again at `initial`.

        Supervisor.start_link([Feed], backoff=Backoff(0.1, 30.0), max_restarts=math.inf)

    The supervisor waits `initial` seconds before the first restart of a child. Each further wait is `factor` times as
    long, up to `maximum`. After the child has run for `reset_after` seconds, its next restart counts as the first.

    Args:
        initial: Seconds, more than 0.
        maximum: Seconds, not less than `initial`.
        factor: A number, 1 or more. With 1 all waits are equal.
        reset_after: Seconds, by default `maximum`.

    Raises:
        InvalidOption: A value is outside these ranges.

    A restart counts towards `max_restarts` from the end of its wait. If the waits are long and `max_seconds` is short,
    the supervisor never gives up. If the strategy restarts a group, the supervisor stops the group before the wait and
    starts the group after it.

    Not part of OTP.
    """

    initial: float
    maximum: float
    factor: float = 2.0
    reset_after: float | None = None

    def __post_init__(self) -> None:
        _check_seconds("backoff.initial", self.initial)
        _check_seconds("backoff.maximum", self.maximum)
        if self.maximum < self.initial:
            expected = f"at least as many seconds as initial, {self.initial:g}"
            raise InvalidOption("a supervisor", "backoff.maximum", self.maximum, expected)
        expected = "a number, 1 or more"
        check_number("a supervisor", "backoff.factor", self.factor, expected, least=1, finite=True)
        if self.reset_after is not None:
            after = self.reset_after
            check_number("a supervisor", "backoff.reset_after", after, "seconds, from 0", least=0)


@final
class Delays:
    """The waits before the restarts of one child."""

    __slots__ = ("_backoff", "_delay", "_due")

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._delay = 0.0
        # The time of the last restart.
        self._due = -math.inf

    def next(self, now: float) -> float:
        """Return the seconds to wait, from `now`, before the restart of the child."""
        backoff = self._backoff
        reset_after = backoff.maximum if backoff.reset_after is None else backoff.reset_after
        # More than 0, so that a start that fails immediately does not count as a run.
        if self._delay == 0.0 or now - self._due >= max(reset_after, math.ulp(0.0)):
            self._delay = backoff.initial
        else:
            self._delay = min(self._delay * backoff.factor, backoff.maximum)
        self._due = now + self._delay
        return self._delay


def check_backoff(backoff: object) -> None:
    """Raise InvalidOption unless this is a Backoff or None."""
    if backoff is not None and not isinstance(backoff, Backoff):
        expected = "Backoff(initial, maximum), or None to restart immediately"
        raise InvalidOption("a supervisor", "backoff", backoff, expected)
