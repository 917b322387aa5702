"""What has arrived at a test, and waiting for it.

Whatever is asserted is taken out; the rest stays, in order. Waiting is bounded and costs nothing on a virtual clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeAlias, TypeVar, final

import trio
import trio.testing

from channels.testing.threads import THREAD_PATIENCE

__all__ = ["ANYTHING", "Expected", "Inbox", "Wanted", "fits"]

M = TypeVar("M")

Wanted: TypeAlias = Any
"""A value, which must be equal; or a function that returns whether a value is right."""


@final
class _Anything:
    """Compares equal to every value."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "ANYTHING"


ANYTHING: Final = _Anything()
"""Stands for a value that does not matter, also inside of others: `{"id": ANYTHING, "body": "hello"}`."""


class Expected(AssertionError):
    """What a test waited for did not come in time, or what must not come did.

    Fields: `expected`, in words; `arrived`, what is there instead; `seconds`, how long it was waited; `threads`, how
    many threads were still at work.
    """

    def __init__(self, expected: str, arrived: tuple[Any, ...], seconds: float) -> None:
        super().__init__(expected, arrived, seconds)
        self.threads = trio.testing.active_thread_count() if trio.lowlevel.in_trio_run() else 0
        self.expected = expected
        self.arrived = arrived
        self.seconds = seconds

    def __str__(self) -> str:
        there = "".join(f"\n  {each!r}" for each in self.arrived) or "\n  nothing"
        threads = ""
        if self.threads:
            threads = (
                f"\nand {self.threads} thread(s) are still at work: a virtual clock waits {THREAD_PATIENCE:g} s of "
                "real time for threads, and no longer"
            )
        return (
            f"expected {self.expected} within {self.seconds:g} s; what has arrived:{there}{threads}"
        )


def fits(value: Any, wanted: Any) -> bool:
    """Whether a value is what a test wants: equal to it, or, for a function, accepted by it."""
    if callable(wanted) and not isinstance(wanted, type):
        return bool(wanted(value))
    return bool(wanted == value)


class Inbox(Generic[M]):
    """Messages for a test, oldest first."""

    def __init__(self) -> None:
        self.messages: list[M] = []
        self._arrived = trio.lowlevel.ParkingLot()

    def put(self, message: M) -> None:
        """Add a message, and wake whoever waits."""
        self.messages.append(message)
        self._arrived.unpark_all()

    async def take(self, expected: str, match: Callable[[M], bool], *, timeout: float) -> M:
        """Take out the oldest message that `match` accepts, waiting for one if need be.

        Raises:
            Expected: none came within `timeout` seconds.
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
        """Wait for `timeout` seconds; what `match` accepts must not be there, nor come.

        Raises:
            Expected: it is, or it did.
        """
        with trio.move_on_after(timeout):
            while self._find(match) is None:
                await self._arrived.park()
            raise Expected(f"no {unwanted}", tuple(self.messages), timeout)
        # What came at the very last moment counts.
        if self._find(match) is not None:
            raise Expected(f"no {unwanted}", tuple(self.messages), timeout)

    def _find(self, match: Callable[[M], bool]) -> M | None:
        return next((message for message in self.messages if match(message)), None)
