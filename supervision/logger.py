"""The log lines of supervisors and applications, under the logger `supervision`.

`supervision.applications.application` attaches these lines. For other lines, attach your own handlers to the events
of `supervision.events`. `actors.instrumentation.logger` writes the lines about crashes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from logging import ERROR, WARNING

from actors.instrumentation.logger import Facts, Line, attach_lines
from actors.instrumentation.telemetry import Telemetry
from actors.text import bounded, printable
from supervision.errors import describe_reason
from supervision.events import (
    APPLICATION_CALLBACK_FAILED,
    APPLICATION_ENDED,
    CHILD_RESTARTED,
    CHILD_START_FAILED,
    CHILD_STOP_FAILED,
    GAVE_UP,
)

__all__ = ["attach", "reason_in_words"]

_log = logging.getLogger("supervision")


def attach(telemetry: Telemetry) -> Callable[[], None]:
    """Log restarts and failures of supervisors, until the caller calls the returned function.

    A restart is a warning. A failed restart, a failed stop and a supervisor that gives up are errors. Ordinary starts
    and ends have no log line. A failed first start also has no log line, because its caller gets the error.
    """
    return attach_lines(telemetry, _log, _LINES)


def reason_in_words(facts: Facts) -> Facts:
    """Return the exit reason of an event as a field of its log line."""
    return {"reason": printable(bounded(describe_reason(facts["reason"])))}


_LINES = (
    Line(
        CHILD_RESTARTED,
        WARNING,
        "Supervisor %(supervisor)r restarted child %(id)r as %(pid)r after: %(reason)s",
        fields=reason_in_words,
    ),
    Line(
        CHILD_STOP_FAILED,
        ERROR,
        "Child %(id)r %(pid)r of supervisor %(supervisor)r did not stop in order: %(reason)s",
        fields=reason_in_words,
    ),
    Line(
        GAVE_UP,
        ERROR,
        (
            "Supervisor %(supervisor)r gave up: more than %(max_restarts)g restarts within %(max_seconds)g s; "
            "the last child was %(id)r: %(reason)s"
        ),
        fields=reason_in_words,
    ),
    Line(
        CHILD_START_FAILED,
        ERROR,
        "Supervisor %(supervisor)r could not restart child %(id)r and tries again: %(reason)s",
        fields=reason_in_words,
        when=lambda facts: bool(facts["restart"]),
    ),
    Line(
        APPLICATION_ENDED,
        ERROR,
        "Application %(name)r (%(type)s) ended: %(reason)s",
        fields=reason_in_words,
        when=lambda facts: not facts["stopped"],
    ),
    Line(
        APPLICATION_CALLBACK_FAILED,
        ERROR,
        "%(callback)s of application %(name)r raised",
        with_exception=True,
    ),
)
