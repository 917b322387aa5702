"""Log lines for the events of presence, under the logger `channels.presence`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import trio

from actors.instrumentation.logger import log_exception
from actors.instrumentation.telemetry import Event, Telemetry
from channels.errors import InvalidResult
from channels.excerpts import brief
from channels.telemetry import (
    PRESENCE_CALLBACK_FAILED,
    PRESENCE_GOSSIP_REFUSED,
    PRESENCE_NODE_DOWN,
    PRESENCE_NODE_UP,
)

__all__ = ["attach"]

_log = logging.getLogger("channels.presence")

QUIET = 60.0
"""Seconds between two lines about messages that were dropped."""


def attach(telemetry: Telemetry, presence: object) -> Callable[[], None]:
    """Log the events of one presence, until you call the returned function."""
    lines = _Lines(presence)
    handlers = (
        (PRESENCE_CALLBACK_FAILED, lines.callback_failed),
        (PRESENCE_GOSSIP_REFUSED, lines.refused),
        (PRESENCE_NODE_UP, lines.node_up),
        (PRESENCE_NODE_DOWN, lines.node_down),
    )
    detaches = [telemetry.attach(event, lines.only(write)) for event, write in handlers]

    def detach() -> None:
        for each in detaches:
            each()

    return detach


class _Lines:
    def __init__(self, presence: object) -> None:
        self._presence = presence
        self._refused = 0
        self._next_refused = -float("inf")

    def only(
        self, write: Callable[[Mapping[str, Any]], None]
    ) -> Callable[[Event, Mapping[str, Any], Mapping[str, Any]], None]:
        def handle(
            event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
        ) -> None:
            if metadata["presence"] is self._presence:
                write(metadata)

        return handle

    def callback_failed(self, about: Mapping[str, Any]) -> None:
        name = f"{type(self._presence).__name__}.{about['callback']}"
        lost = "; clients do not get this diff" if about["callback"] == "fetch" else ""
        error = about["exception"]
        if isinstance(error, InvalidResult):
            # Its text says what to write instead.
            _log.error("%s%s", error, lost)
            return
        log_exception(
            _log, "%s failed for topic %s%s", name, brief(about["topic"]), lost, exception=error
        )

    def refused(self, about: Mapping[str, Any]) -> None:
        self._refused += 1
        now = trio.current_time()
        if now >= self._next_refused:
            self._next_refused = now + QUIET
            count, self._refused = self._refused, 0
            _log.warning(
                "Dropped %d presence messages; the latest is from node %s: %s",
                count,
                brief(about["node"]),
                about["problem"],
            )

    def node_up(self, about: Mapping[str, Any]) -> None:
        _log.info("Presences of node %s are shown", brief(about["node"]))

    def node_down(self, about: Mapping[str, Any]) -> None:
        _log.info("Presences of node %s are not shown: %s", brief(about["node"]), about["reason"])
