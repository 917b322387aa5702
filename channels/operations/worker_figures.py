"""The exchange of figures and health between the workers of one server, over Unix sockets.

A scrape or a probe reaches one worker. That worker asks all other workers, so one answer covers all workers. The
parent makes the folder of the sockets, which only the user of the server can read. It removes the socket of each worker
that has ended.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

__all__ = ["WorkerFigures"]

_log = logging.getLogger("channels.operations.metrics")
# Workers that may ask at the same time. Further workers wait in the system's queue.
_CLIENTS = 16
# The most bytes of the figures of one worker. A longer answer is invalid.
_MAX_BYTES = 16 * 1024 * 1024


class WorkerFigures:
    """The figures of this worker, and requests for the figures of other workers.

    Args:
        folder: the folder of the sockets of all workers of this server.
        worker: the id of this worker.
        figures: a function that returns the figures, or the health, of this worker.
        kind: "figures" or "health". Each kind has separate sockets.
        timeout: seconds for another worker to answer.
    """

    def __init__(
        self,
        folder: Path,
        worker: str,
        figures: Callable[[], Awaitable[bytes]],
        *,
        kind: str = "figures",
        timeout: float = 2.0,
    ) -> None:
        self._folder = folder
        self._kind = kind
        self._path = folder / f"{kind}-{worker}.sock"
        self._figures = figures
        self._timeout = timeout

    async def serve(self) -> None:
        """Answer the other workers until cancelled.

        If this worker cannot create its socket, log the problem and return.
        """
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.setblocking(False)
                sock.bind(str(self._path))
                sock.listen(_CLIENTS)
            except OSError as error:
                _log.warning(
                    "Other workers cannot ask this one for its %s: no socket at %s: %s",
                    self._kind,
                    self._path,
                    error.strerror or error,
                )
                return
            try:
                listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
                await trio.serve_listeners(self._answer, [listener])
            finally:
                self._path.unlink(missing_ok=True)

    async def _answer(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                with trio.move_on_after(self._timeout):
                    await stream.send_all(await self._figures())
            except trio.BrokenResourceError:
                # The other worker has stopped waiting.
                pass

    async def ask_all(self) -> dict[str, bytes | None]:
        """Return the figures of all other workers, by their ids.

        The value is None for a worker that did not answer in time.
        """
        answers: dict[str, bytes | None] = {}
        async with trio.open_nursery() as nursery:
            for path in sorted(self._folder.glob(f"{self._kind}-*.sock")):
                if path != self._path:
                    worker = path.stem.removeprefix(f"{self._kind}-")
                    answers[worker] = None
                    nursery.start_soon(self._ask, path, worker, answers)
        return answers

    async def _ask(self, path: Path, worker: str, answers: dict[str, bytes | None]) -> None:
        received = bytearray()
        with trio.move_on_after(self._timeout):
            try:
                async with await trio.open_unix_socket(str(path)) as stream:
                    async for data in stream:
                        received += data
                        if len(received) > _MAX_BYTES:
                            return
            except OSError:
                # The worker has just ended, or does not listen yet.
                return
            except trio.BrokenResourceError:
                return
            answers[worker] = bytes(received)
