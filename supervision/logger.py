"""Log lines for the events of supervisors.

`supervision.applications.application` attaches them. For other lines, attach your own handlers to the events of
`supervision.events`. These lines report the actions of supervisors. `actors.instrumentation.logger` reports crashes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from actors.exits import ExitReason
from actors.instrumentation.logger import bounded, log_exception
from actors.instrumentation.telemetry import Event, Telemetry
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


def attach(telemetry: Telemetry) -> Callable[[], None]:
    """Log restarts and failures of supervisors, until the returned function is called.

    A restart is a warning. A failed restart or stop, and a supervisor that gives up, are errors. Ordinary starts and
    ends are not logged. A failed first start is not logged either, because its caller gets the error.
    """
    detaches = [
        telemetry.attach(CHILD_RESTARTED, _restarted),
        telemetry.attach(CHILD_START_FAILED, _start_failed),
        telemetry.attach(CHILD_STOP_FAILED, _stop_failed),
        telemetry.attach(GAVE_UP, _gave_up),
        telemetry.attach(APPLICATION_ENDED, _application_ended),
        telemetry.attach(APPLICATION_CALLBACK_FAILED, _application_callback_failed),
    ]

    def detach() -> None:
        for each in detaches:
            each()

    return detach


def _why(reason: ExitReason) -> str:
    return bounded(describe_reason(reason))


def _restarted(event: Event, measurements: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    _log.warning(
        "Supervisor %r restarted child %r as %r after: %s",
        about["supervisor"],
        about["id"],
        about["pid"],
        _why(about["reason"]),
    )


def _start_failed(event: Event, measurements: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    if about["restart"]:
        _log.error(
            "Supervisor %r could not restart child %r and tries again: %s",
            about["supervisor"],
            about["id"],
            _why(about["reason"]),
        )


def _stop_failed(event: Event, measurements: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    _log.error(
        "Child %r %r of supervisor %r did not stop as it was asked to: %s",
        about["id"],
        about["pid"],
        about["supervisor"],
        _why(about["reason"]),
    )


def _gave_up(event: Event, measurements: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    _log.error(
        "Supervisor %r gave up: more than %g restarts within %g s; the last child was %r: %s",
        about["supervisor"],
        about["max_restarts"],
        about["max_seconds"],
        about["id"],
        _why(about["reason"]),
    )


def _application_ended(
    event: Event, measurements: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    if not about["stopped"]:
        _log.error(
            "Application %r (%s) ended: %s",
            about["name"],
            about["type"],
            _why(about["reason"]),
        )


def _application_callback_failed(
    event: Event, measurements: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    log_exception(
        _log,
        "%s of application %r raised",
        about["callback"],
        about["name"],
        exception=about["exception"],
    )
