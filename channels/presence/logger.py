"""The log lines of presence, under the logger `channels.presence`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from logging import ERROR, INFO, WARNING

from actors.instrumentation.logger import Facts, Line, attach_lines
from actors.instrumentation.telemetry import Event, Telemetry
from actors.text import brief
from channels.telemetry import (
    PRESENCE_CALLBACK_FAILED,
    PRESENCE_CALLS_REFUSED,
    PRESENCE_GOSSIP_REFUSED,
    PRESENCE_NODE_DOWN,
    PRESENCE_NODE_UP,
    PRESENCE_NOT_SENT,
)

__all__ = ["attach"]

_log = logging.getLogger("channels.presence")

QUIET = 60.0
"""Seconds between two lines about failures of the same kind. The next line has the number of failures in between."""


def attach(telemetry: Telemetry, presence: object) -> Callable[[], None]:
    """Log the events of one presence, until you call the returned function."""
    return attach_lines(telemetry, _log, _LINES, only=("presence", presence))


def _failed(facts: Facts) -> Facts:
    callback = facts["callback"]
    return {
        "name": f"{type(facts['presence']).__name__}.{callback}",
        "topic": brief(facts["topic"]),
        "lost": "; clients do not get this diff" if callback == "fetch" else "",
    }


def _failure(
    event: Event, level: int, text: str, fields: Callable[[Facts], Facts] | None = None
) -> Line:
    return Line(
        event,
        level,
        f"{text}%(earlier)s",
        fields=fields,
        every=QUIET,
        earlier=" (%d more since the last report)",
    )


_LINES = (
    Line(
        PRESENCE_CALLBACK_FAILED,
        ERROR,
        "%(name)s failed for topic %(topic)s%(lost)s%(earlier)s",
        fields=_failed,
        with_exception=True,
        invalid_return="%(exception)s%(lost)s%(earlier)s",
        every=QUIET,
        apart="callback",
        earlier=" (%d more since the last report)",
    ),
    _failure(PRESENCE_CALLS_REFUSED, WARNING, "Refused a call of a presence: %(error)s"),
    _failure(
        PRESENCE_GOSSIP_REFUSED, WARNING, "Dropped a presence message of node %(node)r: %(problem)s"
    ),
    _failure(PRESENCE_NOT_SENT, ERROR, "Other nodes miss changes of presences: %(error)s"),
    Line(PRESENCE_NODE_UP, INFO, "Showing the presences of node %(node)r"),
    Line(PRESENCE_NODE_DOWN, INFO, "Hiding the presences of node %(node)r: %(reason)s"),
)
