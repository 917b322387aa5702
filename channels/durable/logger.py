"""The log lines of histories, under the logger `channels.durable`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from logging import ERROR, INFO, WARNING

from actors.instrumentation.logger import Line, attach_lines
from actors.instrumentation.telemetry import Event, Telemetry
from channels.telemetry import (
    HISTORY_ANSWER_REFUSED,
    HISTORY_ANSWERS_FORGOTTEN,
    HISTORY_APPEND_FAILED,
    HISTORY_CHECK_FAILED,
    HISTORY_CONNECTED,
    HISTORY_DISCONNECTED,
    HISTORY_EVICTED,
    HISTORY_FENCE_REFUSED,
    HISTORY_FENCES_FORGOTTEN,
    HISTORY_FULL,
    HISTORY_LOST,
    HISTORY_NOT_SENT,
)

__all__ = ["QUIET", "attach"]

_log = logging.getLogger("channels.durable")

QUIET = 60.0
"""Seconds between two lines about the same event. The next line has the number of events in between."""


def attach(telemetry: Telemetry, history: object) -> Callable[[], None]:
    """Log the events of one history, until you call the returned function."""
    return attach_lines(telemetry, _log, _LINES, only=("history", history))


def _line(event: Event, level: int, text: str) -> Line:
    return Line(
        event,
        level,
        f"%(history)r: {text}%(earlier)s",
        every=QUIET,
        earlier=" (and %d more since the last line)",
    )


_LINES = (
    _line(HISTORY_APPEND_FAILED, ERROR, "%(error)s"),
    _line(
        HISTORY_ANSWERS_FORGOTTEN,
        WARNING,
        "Forgot the keys of pushes early: %(keys)s; to remember more, raise max_answers or max_answer_bytes",
    ),
    _line(
        HISTORY_ANSWER_REFUSED,
        WARNING,
        "The answer to %(event)r for %(topic)r has %(bytes)s bytes, too many to be remembered; raise max_answer_bytes",
    ),
    _line(HISTORY_CHECK_FAILED, ERROR, "Cannot look for lost messages: %(error)s"),
    _line(HISTORY_CONNECTED, INFO, "Connected to %(server)s (%(connection)s)"),
    _line(
        HISTORY_DISCONNECTED,
        WARNING,
        "No connection to %(server)s (%(connection)s): %(problem)s; the next attempt is in %(delay).1f s",
    ),
    _line(
        HISTORY_FULL,
        ERROR,
        "Refused a message for %(topic)r, because %(waiting)s messages wait for the storage",
    ),
    _line(
        HISTORY_EVICTED,
        WARNING,
        "Forgot the messages of topics: %(topics)s; to keep more, raise max_topics or max_total_bytes",
    ),
    _line(HISTORY_FENCE_REFUSED, WARNING, "%(error)s"),
    _line(
        HISTORY_FENCES_FORGOTTEN,
        WARNING,
        "Forgot the fences of topics: %(topics)s; their owners must claim again; to keep more, raise max_fences",
    ),
    _line(
        HISTORY_NOT_SENT,
        WARNING,
        "Other nodes get a message late, because the adapter did not take it: %(error)s",
    ),
    _line(
        HISTORY_LOST,
        WARNING,
        "A channel for %(topic)r at %(position)s missed messages that are no longer kept (%(reason)s)",
    ),
)
