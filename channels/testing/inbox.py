"""The inbox of a test, with the received messages.

An assertion takes its message out of the inbox. The other messages stay, in order. Each wait has a time limit, and
takes no real time on a virtual clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeAlias, TypeVar, final

import trio
import trio.testing

from actors.errors import RuntimeClosed
from actors.runtime import current_runtime
from channels.testing.threads import THREAD_PATIENCE, working_threads

__all__ = ["ANYTHING", "Expected", "Inbox", "Wanted", "fits"]

M = TypeVar("M")

Wanted: TypeAlias = Callable[[Any], object] | Any
"""A value that must be equal, or a function that returns True for an accepted value."""


@final
class _Anything:
    """The type of `ANYTHING`, which equals every value."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "ANYTHING"


ANYTHING: Final = _Anything()
"""A value that equals every other value, also inside a dict or a list: `{"id": ANYTHING, "body": "hello"}`."""


class Expected(AssertionError):
    """An expected message did not arrive in time, or an unwanted one did.

    Attributes:
        expected: the expectation, in words.
        arrived: the messages in the inbox.
        seconds: the seconds that the assertion waited.
        threads: the number of threads that were still at work.
    """

    def __init__(self, expected: str, arrived: tuple[Any, ...], seconds: float) -> None:
        super().__init__(expected, arrived, seconds)
        self.threads = _working_threads()
        self.expected = expected
        self.arrived = arrived
        self.seconds = seconds

    def __str__(self) -> str:
        there = "".join(f"\n  {each!r}" for each in self.arrived) or "\n  nothing"
        threads = ""
        if self.threads:
            threads = (
                f"\nand {self.threads} thread(s) still work: a virtual clock waits at most {THREAD_PATIENCE:g} s of "
                "real time for threads"
            )
        return f"expected {self.expected} within {self.seconds:g} s; the inbox contains:{there}{threads}"


def _working_threads() -> int:
    try:
        return working_threads(current_runtime())
    except RuntimeClosed:
        return trio.testing.active_thread_count() if trio.lowlevel.in_trio_run() else 0


def fits(value: Any, wanted: Any) -> bool:
    """Return True if a value equals the wanted value, or if the wanted function accepts it."""
    if callable(wanted) and not isinstance(wanted, type):
        return bool(wanted(value))
    return bool(wanted == value)


class Inbox(Generic[M]):
    """Messages for a test, oldest first."""

    def __init__(self) -> None:
        self.messages: list[M] = []
        self._arrived = trio.lowlevel.ParkingLot()

    def put(self, message: M) -> None:
        """Add a message, and wake the waiting tasks."""
        self.messages.append(message)
        self._arrived.unpark_all()

    async def take(self, expected: str, match: Callable[[M], bool], *, timeout: float) -> M:
        """Take out the oldest message that `match` accepts, or wait for one.

        Raises:
            Expected: no such message came within `timeout` seconds.
        """
        with trio.move_on_after(timeout):
            while True:
                found = self._find(match)
                if found is not None:
                    self.messages.remove(found)
                    return found
                await self._arrived.park()
        raise Expected(expected, tuple(self.messages), timeout)

    async def refuse(self, unwanted: str, match: Callable[[M], bool], *, timeout: float) -> None:
        """Assert that the inbox gets no message that `match` accepts within `timeout` seconds.

        Raises:
            Expected: the inbox contains such a message.
        """
        with trio.move_on_after(timeout):
            while self._find(match) is None:
                await self._arrived.park()
            raise Expected(f"no {unwanted}", tuple(self.messages), timeout)
        # A message that arrived at the deadline counts.
        if self._find(match) is not None:
            raise Expected(f"no {unwanted}", tuple(self.messages), timeout)

    def _find(self, match: Callable[[M], bool]) -> M | None:
        return next((message for message in self.messages if match(message)), None)
