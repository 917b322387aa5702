"""Reads the bodies of requests: bounded in size, in time, and all together in memory.

    outcome = await bodies.read(receive, max_bytes=8_000_000, timeout=30)
    if isinstance(outcome, Body):
        with outcome:
            ...                          # outcome.data

What was read counts as held until the end of the `with` block.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import trio

__all__ = ["MAX_TOGETHER", "Bodies", "Body"]

MAX_TOGETHER = 256 * 1024 * 1024
"""Bytes of bodies that may be in memory at a time; requests beyond that are answered 503."""

_BAD_REQUEST, _TIMEOUT, _UNAVAILABLE = 400, 408, 503


class Body:
    """A body that was read whole. Its bytes count as held until the end of the `with` block."""

    def __init__(self, bodies: Bodies, data: bytes) -> None:
        self.data = data
        self._bodies = bodies

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bodies.held -= len(self.data)


class Bodies:
    """The bodies of requests that are being read or dealt with.

        >>> async def example(receive: Callable[[], Awaitable[Any]]) -> None:
        ...     outcome = await Bodies().read(receive, max_bytes=8_000_000, timeout=30)
        ...     if isinstance(outcome, Body):
        ...         with outcome:
        ...             print(outcome.data)

    - `max_together`: bytes that may be held at a time.

    Field: `held`, the bytes that are.
    """

    def __init__(self, *, max_together: int = MAX_TOGETHER) -> None:
        self.held = 0
        self._max = max_together

    async def read(
        self, receive: Callable[[], Awaitable[Any]], *, max_bytes: int, timeout: float
    ) -> Body | int | None:
        """Read a body to its end.

        - `receive`: of the request, as ASGI has it;
        - `max_bytes`: of this body;
        - `timeout`: seconds for all of it.

        Returns the body, or the HTTP status of an answer, or None if the client has gone. What follows a body that is
        too big is read and dropped for the rest of the time: a client that is still sending would not see the answer.
        """
        pieces: list[bytes] = []
        size, problem = 0, 0
        try:
            with trio.move_on_after(timeout) as limit:
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    piece = message.get("body", b"")
                    if piece and not problem:
                        size += len(piece)
                        self.held += len(piece)
                        pieces.append(piece)
                        if size > max_bytes:
                            problem = _BAD_REQUEST
                        elif self.held > self._max:
                            problem = _UNAVAILABLE
                        if problem:
                            size = self._drop(pieces, size)
                    if not message.get("more_body", False):
                        break
            if problem or limit.cancelled_caught:
                return problem or _TIMEOUT
            body = Body(self, b"".join(pieces))
            size = 0
            return body
        finally:
            self.held -= size

    def _drop(self, pieces: list[bytes], size: int) -> int:
        pieces.clear()
        self.held -= size
        return 0
