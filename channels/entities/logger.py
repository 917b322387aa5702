"""The log lines of entities, under the logger `channels.entities`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from logging import ERROR, INFO, WARNING

from actors.instrumentation.logger import Facts, Line, attach_lines
from actors.instrumentation.telemetry import Event, Telemetry
from channels.telemetry import (
    ENTITY_CRASHED,
    ENTITY_DROPPED,
    ENTITY_HANDOVER_LOST,
    ENTITY_LEASE_LOST,
    ENTITY_MESSAGE_REFUSED,
    ENTITY_NODE_DOWN,
    ENTITY_NODE_UP,
    ENTITY_REFUSED,
    ENTITY_START_FAILED,
)

__all__ = ["attach"]

_log = logging.getLogger("channels.entities")

QUIET = 60.0
"""Seconds between two lines about failures of the same kind. The next line has the number of failures in between."""


def attach(telemetry: Telemetry, router: object) -> Callable[[], None]:
    """Log the events of one router, until you call the returned function."""
    return attach_lines(telemetry, _log, _LINES, only=("router", router))


def _failure(event: Event, level: int, text: str, apart: str | None = None) -> Line:
    return Line(event, level, f"{text}%(earlier)s", every=QUIET, apart=apart)


def _waits(facts: Facts) -> bool:
    # The runtime logs each crash with its traceback. This line is about the wait after too many of them.
    return bool(facts["delay"])


_LINES = (
    Line(
        ENTITY_CRASHED,
        ERROR,
        "%(supervisor)s %(key)r has crashed too often, and waits for %(delay).3g s",
        when=_waits,
    ),
    _failure(ENTITY_START_FAILED, ERROR, "%(supervisor)s %(key)r did not start: %(problem)s"),
    Line(
        ENTITY_LEASE_LOST,
        ERROR,
        "The entities of %(supervisor)s on this node stop, because its lease is lost: %(problem)s",
    ),
    _failure(
        ENTITY_REFUSED,
        WARNING,
        "%(supervisor)s refused a request for %(key)r: %(option)s is %(limit).0f",
        apart="option",
    ),
    _failure(ENTITY_DROPPED, WARNING, "%(supervisor)s dropped a %(verb)s for %(key)r: %(problem)s"),
    _failure(
        ENTITY_HANDOVER_LOST, WARNING, "%(supervisor)s lost the handover of %(key)r: %(problem)s"
    ),
    _failure(
        ENTITY_MESSAGE_REFUSED,
        WARNING,
        "%(supervisor)s dropped a message between nodes: %(problem)s",
    ),
    Line(ENTITY_NODE_UP, INFO, "%(supervisor)s can run on node %(node.name)r"),
    Line(ENTITY_NODE_DOWN, INFO, "%(supervisor)s has lost node %(node.name)r"),
)
