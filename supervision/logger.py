"""Telemetry handlers that write the events of supervisors to the log.

`supervision.applications.application` attaches these handlers. For other lines, attach your own handlers to the events
of `supervision.events`. `actors.instrumentation.logger` writes the lines about crashes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from actors.instrumentation.telemetry import Event, Telemetry
from actors.instrumentation.text import bounded, log_exception, printable
from supervision.errors import describe_reason
from supervision.events import (
    APPLICATION_CALLBACK_FAILED,
    APPLICATION_ENDED,
    CHILD_RESTARTED,
    CHILD_START_FAILED,
    CHILD_STOP_FAILED,
    GAVE_UP,
)

__all__ = ["attach"]

_log = logging.getLogger("supervision")

Measures: TypeAlias = Mapping[str, Any]


def attach(telemetry: Telemetry) -> Callable[[], None]:
    """Log restarts and failures of supervisors, until the caller calls the returned function.

    A restart is a warning. A failed restart, a failed stop and a supervisor that gives up are errors. Ordinary starts
    and ends have no log line. A failed first start also has no log line, because its caller gets the error.
    """
    detaches = [
        *(telemetry.attach(event, _writer(level, text)) for event, level, text in _LINES),
        telemetry.attach(CHILD_START_FAILED, _restart_failed),
        telemetry.attach(APPLICATION_ENDED, _application_ended),
        telemetry.attach(APPLICATION_CALLBACK_FAILED, _application_callback_failed),
    ]

    def detach() -> None:
        for each in detaches:
            each()

    return detach


_LINES = (
    (
        CHILD_RESTARTED,
        logging.WARNING,
        "Supervisor %(supervisor)r restarted child %(id)r as %(pid)r after: %(reason)s",
    ),
    (
        CHILD_STOP_FAILED,
        logging.ERROR,
        "Child %(id)r %(pid)r of supervisor %(supervisor)r did not stop in order: %(reason)s",
    ),
    (
        GAVE_UP,
        logging.ERROR,
        (
            "Supervisor %(supervisor)r gave up: more than %(max_restarts)g restarts within %(max_seconds)g s; "
            "the last child was %(id)r: %(reason)s"
        ),
    ),
)


def _writer(level: int, text: str) -> Callable[[Event, Measures, Measures], None]:
    def write(event: Event, measurements: Measures, about: Measures) -> None:
        _log.log(
            level, text, {**about, "reason": printable(bounded(describe_reason(about["reason"])))}
        )

    return write


_write_failed_restart = _writer(
    logging.ERROR,
    "Supervisor %(supervisor)r could not restart child %(id)r and tries again: %(reason)s",
)
_write_application_end = _writer(logging.ERROR, "Application %(name)r (%(type)s) ended: %(reason)s")


def _restart_failed(event: Event, measurements: Measures, about: Measures) -> None:
    if about["restart"]:
        _write_failed_restart(event, measurements, about)


def _application_ended(event: Event, measurements: Measures, about: Measures) -> None:
    if not about["stopped"]:
        _write_application_end(event, measurements, about)


def _application_callback_failed(event: Event, measurements: Measures, about: Measures) -> None:
    log_exception(
        _log,
        "%s of application %r raised",
        about["callback"],
        about["name"],
        exception=about["exception"],
    )
