"""The checks for silent clients, which share timers."""

from __future__ import annotations

import math
from functools import partial
from typing import Protocol

from actors.refs import TimerRef
from actors.runtime import current_runtime

__all__ = ["IdleChecks"]

# The length of the periods whose checks share a timer, in seconds.
_SHARED = 0.25


class Watched(Protocol):
    """A connection. Only `IdleChecks` sets `check_at`, the time of the next check."""

    check_at: float

    def check_silence(self) -> None: ...


class IdleChecks:
    """The times at which the connections of an endpoint look for silent clients.

    A timer for each connection would take 200 bytes more of it. 15,000 connections that send heartbeats need several
    hundred checks each second, and a scheduler turn costs more than a check.
    """

    __slots__ = ("_due", "_timers")

    def __init__(self) -> None:
        self._timers = current_runtime().timers
        self._due: dict[float, tuple[TimerRef, dict[Watched, None]]] = {}

    def add(self, connection: Watched, due: float, now: float) -> None:
        """Call `connection.check_silence()` at `due`, rounded down to a quarter of a second unless that has passed.

        If the client is silent at the earlier time, another check must follow at `due`.
        """
        shared = math.floor(due / _SHARED) * _SHARED
        time = connection.check_at = shared if shared > now else due
        found = self._due.get(time)
        if found is None:
            found = self._due[time] = self._timers.at(time, partial(self._run, time)), {}
        found[1][connection] = None

    def remove(self, connection: Watched) -> None:
        """Cancel the next check of a connection, if there is one."""
        found = self._due.get(connection.check_at)
        if found is None or connection not in found[1]:
            return
        timer, connections = found
        del connections[connection]
        if not connections:
            self._timers.forget(timer)
            del self._due[connection.check_at]

    def _run(self, time: float) -> None:
        for connection in self._due.pop(time)[1]:
            connection.check_silence()
