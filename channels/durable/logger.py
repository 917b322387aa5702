"""Log lines for the events of histories, under the logger `channels.durable`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import trio

from actors.instrumentation.telemetry import Event, Telemetry
from actors.instrumentation.text import printable
from channels.telemetry import (
    HISTORY_ANSWER_REFUSED,
    HISTORY_ANSWERS_FORGOTTEN,
    HISTORY_APPEND_FAILED,
    HISTORY_CHECK_FAILED,
    HISTORY_CONNECTED,
    HISTORY_DISCONNECTED,
    HISTORY_EVICTED,
    HISTORY_FULL,
    HISTORY_LOST,
    HISTORY_NOT_SENT,
)

__all__ = ["QUIET", "attach"]

_log = logging.getLogger("channels.durable")

QUIET = 60.0
"""Seconds between two lines about the same event. The next line has the number of events in between."""

_LINES: dict[Event, tuple[int, str]] = {
    HISTORY_APPEND_FAILED: (logging.ERROR, "{error}"),
    HISTORY_ANSWERS_FORGOTTEN: (
        logging.WARNING,
        "Forgot the keys of pushes early: {keys}; to remember more, raise max_answers or max_answer_bytes",
    ),
    HISTORY_ANSWER_REFUSED: (
        logging.WARNING,
        "The answer to {event!r} for {topic!r} has {bytes} bytes, too many to be remembered; raise max_answer_bytes",
    ),
    HISTORY_CHECK_FAILED: (logging.ERROR, "Cannot look for lost messages: {error}"),
    HISTORY_CONNECTED: (logging.INFO, "Connected to {server} ({connection})"),
    HISTORY_DISCONNECTED: (
        logging.WARNING,
        "No connection to {server} ({connection}): {problem}; the next attempt is in {delay:.1f} s",
    ),
    HISTORY_FULL: (
        logging.ERROR,
        "Refused a message for {topic!r}, because {waiting} messages wait for the storage",
    ),
    HISTORY_EVICTED: (
        logging.WARNING,
        "Forgot the messages of topics: {topics}; to keep more, raise max_topics or max_total_bytes",
    ),
    HISTORY_NOT_SENT: (
        logging.WARNING,
        "Other nodes get a message late, because the adapter did not take it: {error}",
    ),
    HISTORY_LOST: (
        logging.WARNING,
        "A channel for {topic!r} at {position} missed messages that are no longer kept ({reason})",
    ),
}


def attach(telemetry: Telemetry, history: object) -> Callable[[], None]:
    """Log the events of one history, until you call the returned function."""
    # For each event: the time of the next line, and the events without one.
    quiet: dict[Event, tuple[float, int]] = {}

    def write(event: Event, measurements: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        if about["history"] is not history:
            return
        now = trio.current_time()
        until, skipped = quiet.get(event, (now, 0))
        if now < until:
            quiet[event] = (until, skipped + 1)
            return
        quiet[event] = (now + QUIET, 0)
        level, line = _LINES[event]
        more = f" (and {skipped} more since the last line)" if skipped else ""
        text = printable(line.format_map({**measurements, **about}))
        _log.log(level, "%r: %s%s", history, text, more)

    detaches = [telemetry.attach(event, write) for event in _LINES]

    def detach() -> None:
        for each in detaches:
            each()

    return detach
