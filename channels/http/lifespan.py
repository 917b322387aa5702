"""The lifespan of an ASGI application, from before the first connection until after the last.

This replaces Hypercorn's lifespan, which has two faults. The server runs for a moment even if its application refused
to start. The server also fails if an application returns from the lifespan scope.

Source: the ASGI lifespan specification, 2.0.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

from actors.declared import declared
from actors.text import log_exception
from channels.errors import ChannelsError
from channels.transports.asgi_stream import ASGIApplication

__all__ = ["ApplicationStartError", "Lifespan", "serve_lifespan"]

_logger = logging.getLogger("channels.http")


@declared("the mounted application did not start: {problem}")
class ApplicationStartError(ChannelsError):
    """The mounted application reported that it cannot start, or did not answer in time.

    Attributes:
        problem: the reason.
    """

    problem: str


class Lifespan:
    """One run of an application, from its start to its end.

        >>> async def example(nursery: trio.Nursery, app: ASGIApplication) -> None:
        ...     lifespan = Lifespan(app, {}, startup_timeout=60, shutdown_timeout=5)
        ...     nursery.start_soon(lifespan.main, lambda: print("started"))

    Args:
        app: the application.
        state: a dict that the application may fill during its start, for its requests.
        startup_timeout: seconds for the start.
        shutdown_timeout: seconds for the shutdown.
    """

    def __init__(
        self,
        app: ASGIApplication,
        state: MutableMapping[str, Any],
        *,
        startup_timeout: float,
        shutdown_timeout: float,
    ) -> None:
        self._app = app
        self._state = state
        self._startup_timeout = startup_timeout
        self._shutdown_timeout = shutdown_timeout
        self._answered = trio.Event()  # the application has started, refused to start, or returned
        self._stopping = trio.Event()
        self._stopped = trio.Event()
        self._is_told_to_start = False
        self._is_started = False
        self._refusal: str | None = None

    async def main(self, ready: Callable[[], object]) -> None:
        """Start the application, call `ready`, and shut the application down on cancellation.

        An application that raises or returns before it answers has no lifespan, and counts as started. Cancellation
        does not interrupt the shutdown. The shutdown ends after at most `shutdown_timeout` seconds.

        Raises:
            ApplicationStartError: the application did not start.
        """
        problem = None
        # Shielded, because the application must handle the shutdown message. `finally` cancels this scope.
        scope = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run, scope)
            try:
                problem = await self._start()
                if problem is None:
                    ready()
                    await trio.sleep_forever()
            finally:
                if self._is_started:
                    await self._stop()
                scope.cancel()
        if problem is not None:
            raise ApplicationStartError(problem)

    async def _start(self) -> str | None:
        with trio.move_on_after(self._startup_timeout):
            await self._answered.wait()
            return self._refusal
        return f"it did not answer within {self._startup_timeout:g} seconds"

    async def _stop(self) -> None:
        self._stopping.set()
        # Shielded, because this task is cancelled, and the application must still shut down.
        with trio.move_on_after(self._shutdown_timeout, shield=True):
            await self._stopped.wait()
            return
        _logger.error(
            "the mounted application did not shut down within %g seconds", self._shutdown_timeout
        )

    async def _run(self, scope: trio.CancelScope) -> None:
        asgi = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self._state,
        }
        try:
            with scope:
                await self._app(asgi, self._receive, self._send)
        except Exception as error:
            # Broad, because the specification demands that a server continues without a lifespan after any exception.
            if self._is_started:
                log_exception(
                    _logger, "the lifespan of the mounted application failed", exception=error
                )
            else:
                log_exception(
                    _logger,
                    "the mounted application has no lifespan",
                    exception=error,
                    level=logging.DEBUG,
                )
        finally:
            self._is_started = False
            self._answered.set()
            self._stopped.set()

    async def _receive(self) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        if not self._is_told_to_start:
            self._is_told_to_start = True
            return {"type": "lifespan.startup"}
        await self._stopping.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._is_started = True
            self._answered.set()
        elif kind == "lifespan.startup.failed":
            self._refusal = message.get("message") or "it gave no reason"
            self._answered.set()
        elif kind == "lifespan.shutdown.complete":
            self._stopped.set()
        elif kind == "lifespan.shutdown.failed":
            _logger.error(
                "the mounted application failed to shut down: %s", message.get("message", "")
            )
            self._stopped.set()
        else:
            raise ValueError(
                f"the mounted application sent {kind!r} in its lifespan; send lifespan.startup.* or lifespan.shutdown.*"
            )


async def serve_lifespan(
    running: AbstractAsyncContextManager[None], receive: Any, send: Any
) -> None:
    """Run an application until the ASGI server stops it, and report its start and its shutdown to the server.

    Args:
        running: the application, which runs while this context is open.
        receive: the function that returns the server's next event.
        send: the function that takes the application's reports.
    """
    await receive()
    phase = "startup"
    try:
        async with running:
            await send({"type": "lifespan.startup.complete"})
            phase = "shutdown"
            await receive()
    except Exception as error:  # broad, because ASGI demands a report of any failure
        await send({"type": f"lifespan.{phase}.failed", "message": str(error)})
        return
    await send({"type": "lifespan.shutdown.complete"})
