"""The state of one endpoint that decides about new clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio

from actors.refs import Pid
from channels.transports.listener import Listening

__all__ = ["Admission"]


class Admission:
    """The state of one endpoint that decides about new clients.

    Attributes:
        listener: the listener that accepts connections; None if there is no port.
        accepting: False after `Endpoint.stop_accepting`, when another endpoint takes over the port.
        leaving: True if the endpoint is about to drain, or drains. Readiness probes get 503.
        draining: True if the endpoint refuses new clients.
        closed: True if the endpoint has stopped.
        ending: the scopes that `drain` cancels.
        answering: the processes of connections that have not become a WebSocket, as keys. They read or answer HTTP
            requests.
        polling: the processes of polling sessions, by the name in the session's token.
        queued: a function that returns how many accepted connections still wait in the listener.
    """

    __slots__ = (
        "_all_served",
        "_unserved",
        "accepting",
        "answering",
        "closed",
        "draining",
        "ending",
        "leaving",
        "listener",
        "polling",
        "queued",
    )

    def __init__(self) -> None:
        self.listener: Listening | None = None
        self.accepting = True
        self.leaving = False
        self.draining = False
        self.closed = False
        self.ending: dict[trio.CancelScope, None] = {}
        self.answering: dict[Pid, None] = {}
        self.polling: dict[str, Pid] = {}
        self.queued: Callable[[], int] = int
        # Accepted connections that no process serves yet, by their stream.
        self._unserved: dict[object, Any] = {}
        # Set when there are none; None while nobody waits.
        self._all_served: trio.Event | None = None

    def listening(self, listener: Listening) -> None:
        """Store the listener. A restarted listener replaces the earlier one."""
        self.listener = listener

    @contextmanager
    def ending_at_drain(self, scope: trio.CancelScope) -> Iterator[None]:
        """Register `scope` while the body of this context manager runs, so that `drain` can cancel it.

        The body reads the head of a first request, or waits for another node on behalf of a client.
        """
        self.ending[scope] = None
        try:
            yield
        finally:
            del self.ending[scope]

    def hand_over(self, stream: object, accepted: Any) -> None:
        """Remember an accepted connection that a new process is about to serve.

        Args:
            stream: the stream for the process.
            accepted: the object to close if no process takes over.
        """
        self._unserved[stream] = accepted

    def take_over(self, stream: object) -> None:
        """Forget a connection that a process now serves, or that has been closed."""
        self._unserved.pop(stream, None)
        if self._all_served is not None and not self._unserved:
            self._all_served.set()

    async def wait_all_served(self) -> None:
        """Wait until processes have taken over all accepted connections. Only one task may wait."""
        if self._unserved:
            self._all_served = trio.Event()
            await self._all_served.wait()

    @property
    def is_quiet(self) -> bool:
        """True if every accepted connection has sent the head of its first request, and no request waits for a node."""
        return not (self.ending or self._unserved or self.queued())

    def drain(self) -> None:
        """Refuse new clients. Stop reading unfinished first requests, and stop waiting for other nodes."""
        self.leaving = self.draining = True
        for scope in list(self.ending):
            scope.cancel()

    def close(self) -> None:
        """Forget the listener, and close the connections that no process took over."""
        self.listener = None
        self.leaving = self.closed = True
        self.abandon()

    def abandon(self) -> None:
        """Close each accepted connection whose process ended before it took over the connection."""
        for accepted in self._unserved.values():
            accepted.close()
        self._unserved.clear()
        if self._all_served is not None:
            self._all_served.set()
