"""The bodies of requests, which arrive in pieces, with limits on size, time, and the memory of all bodies together.

Long polling and the plugs read bodies with `Bodies`. A `Backlog` counts the bytes of the bodies that are not complete,
and gives up the largest when they are too large together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import trio

from channels.wire.fragments import PIECE_OVERHEAD

if TYPE_CHECKING:
    from channels.transports.backlog import Backlog

__all__ = ["Bodies", "Body"]

_TOO_LARGE, _TIMEOUT, _UNAVAILABLE = 413, 408, 503


class Body:
    """The body of a request. It is a context manager: the bytes of a whole body count until the block ends.

    Args:
        incoming: the backlog that counts the bytes.
        on_shed: a function that gets the size in bytes if the backlog gives up the body before it is whole.

    Attributes:
        data: the whole body; empty until it is whole.
        size: the bytes of the body so far.
        reserved: the bytes that count now.
        problem: the HTTP status of a refusal; 0 if there is none.
    """

    def __init__(self, incoming: Backlog, on_shed: Callable[[int], object]) -> None:
        self.data = b""
        self.size = 0
        self.reserved = 0
        self.problem = 0
        self._pieces: list[bytes] = []
        self._is_whole = False
        self._incoming = incoming
        self._on_shed = on_shed

    def add(self, piece: bytes, *, max_bytes: int) -> None:
        """Add the next piece. If the body becomes too large, refuse it. After a refusal, drop the piece."""
        if not piece or self.problem:
            return
        self.size += len(piece)
        if self.size > max_bytes:
            self.refuse(_TOO_LARGE)
        else:
            self._pieces.append(piece)
            self._incoming.replace(self, self.size + PIECE_OVERHEAD * len(self._pieces))

    def refuse(self, status: int) -> None:
        """Drop the body, and note the HTTP status for the answer."""
        self.problem = status
        self._pieces.clear()
        self._incoming.replace(self, 0)

    def complete(self) -> None:
        """Join the pieces. From now on, the backlog cannot give up the body."""
        self.data = b"".join(self._pieces)
        self._pieces.clear()
        self._is_whole = True
        self._incoming.replace(self, len(self.data))

    def shed(self) -> bool:
        """Drop the pieces. The request gets 503. A whole body stays, because its messages may be half delivered."""
        if self._is_whole:
            self._incoming.remove(self)
            self._incoming.keep(self, self.reserved)
            return False
        size = self.size
        self.refuse(_UNAVAILABLE)
        self._on_shed(size)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._incoming.replace(self, 0)


class _Promised:
    """The body of another node's request, which counts in full before it arrives. It cannot be given up."""

    def __init__(self, size: int) -> None:
        self.reserved = size

    def shed(self) -> bool:
        return False


class Bodies:
    """Read the bodies of requests, with limits on size, time, and the memory of all bodies together.

        >>> async def example(receive: Callable[[], Awaitable[Any]]) -> None:
        ...     bodies = Bodies(Backlog(max_bytes=1_000_000), on_shed=print)
        ...     outcome = await bodies.read(receive, max_bytes=8_000_000, timeout=30)
        ...     if isinstance(outcome, Body):
        ...         with outcome:
        ...             print(outcome.data)

    Args:
        incoming: the backlog that limits the bytes of the incomplete messages and bodies of all clients.
        on_shed: a function that gets the size in bytes of each body that the backlog gives up.
    """

    def __init__(self, incoming: Backlog, *, on_shed: Callable[[int], object]) -> None:
        self._incoming = incoming
        self._on_shed = on_shed

    async def read(
        self, receive: Callable[[], Awaitable[Any]], *, max_bytes: int, timeout: float
    ) -> Body | int | None:
        """Read a body to its end.

        If a body is refused, this reads and drops the rest until the timeout, because a client that is still sending
        would not read the answer.

        Args:
            receive: the ASGI `receive` of the request.
            max_bytes: the maximum bytes of this body.
            timeout: seconds for the whole body.

        Returns:
            The body, the HTTP status of a refusal, or None if the client has left.
        """
        body = Body(self._incoming, self._on_shed)
        is_read = False
        try:
            with trio.move_on_after(timeout) as limit:
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body.add(message.get("body", b""), max_bytes=max_bytes)
                    if not message.get("more_body", False):
                        break
            if body.problem or limit.cancelled_caught:
                return body.problem or _TIMEOUT
            body.complete()
            is_read = True
            return body
        finally:
            if not is_read:
                self._incoming.replace(body, 0)

    @contextmanager
    def holding(self, size: int) -> Iterator[bool]:
        """Count the bytes of another node's body while the block runs. Yield False if they do not fit.

        Args:
            size: bytes of the whole body.
        """
        if not self._incoming.has_room(size):
            yield False
            return
        promised = _Promised(size)
        self._incoming.keep(promised, size)
        try:
            yield True
        finally:
            self._incoming.remove(promised)
