"""The waits before a client tries again to connect or to join: tables of seconds, as in phoenix.js.

*pure*: the caller passes the random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import frozen

from actors.arguments import is_number
from actors.errors import InvalidOption

__all__ = ["RECONNECT", "REJOIN", "RetryTable"]


def _seconds(value: Any) -> bool:
    return is_number(value, least=0, finite=True)


@frozen
class RetryTable:
    """The seconds to wait before each attempt.

        >>> table = RetryTable(steps=(1.0, 2.0), then=10.0)
        >>> [table.delay(attempt) for attempt in (1, 2, 3, 4)]
        [1.0, 2.0, 10.0, 10.0]

    Jitter shortens each wait by a random share, at most by `jitter`. So thousands of clients that lose one server do
    not reconnect at the same moment:

        open_socket(url, reconnect=RetryTable(jitter=0.5))

    Args:
        steps: the waits before the first attempts. The default is the table of phoenix.js for connections.
        then: the wait before every later attempt.
        jitter: a share from 0 (no jitter, as in phoenix.js) to 1 (waits from 0 seconds up to the wait in the table).

    Raises:
        InvalidOption: a wait is negative or not finite, or the jitter is not from 0 to 1.
    """

    steps: tuple[float, ...] = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.0)
    then: float = 5.0
    jitter: float = 0.0

    def __attrs_post_init__(self) -> None:
        for name, value in (*(("steps", step) for step in self.steps), ("then", self.then)):
            if not _seconds(value):
                raise InvalidOption("RetryTable", name, value, "seconds, 0 or more")
        if not _seconds(self.jitter) or self.jitter > 1:
            raise InvalidOption("RetryTable", "jitter", self.jitter, "a share from 0 to 1")

    def delay(self, attempt: int, random: Callable[[], float] = lambda: 0.0) -> float:
        """Return the seconds to wait before an attempt.

        Args:
            attempt: 1 for the first.
            random: returns a number from 0 to 1; called only if there is jitter.
        """
        wait = self.steps[attempt - 1] if attempt <= len(self.steps) else self.then
        return wait * (1.0 - self.jitter * random()) if self.jitter else wait


RECONNECT: Final = RetryTable()
"""The waits of phoenix.js before it connects again."""

REJOIN: Final = RetryTable(steps=(1.0, 2.0, 5.0), then=10.0)
"""The waits of phoenix.js before it joins a topic again."""
