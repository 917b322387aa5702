"""The log lines of arbiters, under the logger `channels.entities`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from logging import INFO, WARNING

from actors.instrumentation.logger import Line, attach_lines
from actors.instrumentation.telemetry import Telemetry
from channels.telemetry import ENTITY_ARBITER_CONNECTED, ENTITY_ARBITER_DISCONNECTED

__all__ = ["attach"]

_log = logging.getLogger("channels.entities")

# Seconds between two lines about a lost server. The next line has the number of events in between.
_QUIET = 60.0


def attach(telemetry: Telemetry, supervisor: str) -> Callable[[], None]:
    """Log the events of the arbiter of one `EntitySupervisor`, until you call the returned function."""
    return attach_lines(telemetry, _log, _LINES, only=("supervisor", supervisor))


_LINES = (
    Line(
        ENTITY_ARBITER_CONNECTED, INFO, "The arbiter of %(supervisor)s is connected to %(server)s"
    ),
    Line(
        ENTITY_ARBITER_DISCONNECTED,
        WARNING,
        "The arbiter of %(supervisor)s is not connected to %(server)s: %(problem)s; the entities of this node stop "
        "when their lease ends; the next attempt is in %(delay).1f s%(earlier)s",
        every=_QUIET,
        earlier=" (and %d more since the last line)",
    ),
)
