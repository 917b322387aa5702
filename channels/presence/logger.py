"""Log lines for the events of presence, under the logger `channels.presence`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import trio

from actors.instrumentation.telemetry import Event, Telemetry
from actors.instrumentation.text import log_exception, printable
from channels.errors import InvalidResult
from channels.excerpts import brief
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
    lines = _Lines(presence)
    handlers = (
        (PRESENCE_CALLBACK_FAILED, lines.callback_failed),
        (PRESENCE_CALLS_REFUSED, lines.calls_refused),
        (PRESENCE_GOSSIP_REFUSED, lines.gossip_refused),
        (PRESENCE_NOT_SENT, lines.not_sent),
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
        # For each kind of failure: the time of the next line, and the failures without one.
        self._quiet: dict[str, tuple[float, int]] = {}

    def only(
        self, write: Callable[[Mapping[str, Any]], None]
    ) -> Callable[[Event, Mapping[str, Any], Mapping[str, Any]], None]:
        def handle(
            event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
        ) -> None:
            if metadata["presence"] is self._presence:
                write(metadata)

        return handle

    def _earlier(self, kind: str) -> str | None:
        """Return a text with the number of unlogged failures of this kind, or None if this one must not be logged."""
        now = trio.current_time()
        due, silent = self._quiet.get(kind, (-float("inf"), 0))
        if now < due:
            self._quiet[kind] = due, silent + 1
            return None
        self._quiet[kind] = now + QUIET, 0
        return f" ({silent} more since the last report)" if silent else ""

    def callback_failed(self, about: Mapping[str, Any]) -> None:
        callback = about["callback"]
        earlier = self._earlier(callback)
        if earlier is None:
            return
        lost = "; clients do not get this diff" if callback == "fetch" else ""
        error = about["exception"]
        if isinstance(error, InvalidResult):
            # The text of the error contains the correction.
            _log.error("%s%s%s", printable(str(error), lines=True), lost, earlier)
            return
        name = f"{type(self._presence).__name__}.{callback}"
        topic = brief(about["topic"])
        log_exception(
            _log, "%s failed for topic %s%s%s", name, topic, lost, earlier, exception=error
        )

    def calls_refused(self, about: Mapping[str, Any]) -> None:
        earlier = self._earlier("calls")
        if earlier is not None:
            _log.warning(
                "Refused a call of a presence: %s%s", printable(str(about["error"])), earlier
            )

    def gossip_refused(self, about: Mapping[str, Any]) -> None:
        earlier = self._earlier("gossip")
        if earlier is not None:
            node, problem = brief(about["node"]), about["problem"]
            _log.warning(
                "Dropped a presence message of node %s: %s%s", node, printable(problem), earlier
            )

    def not_sent(self, about: Mapping[str, Any]) -> None:
        earlier = self._earlier("sent")
        if earlier is not None:
            _log.error(
                "Other nodes miss changes of presences: %s%s",
                printable(str(about["error"])),
                earlier,
            )

    def node_up(self, about: Mapping[str, Any]) -> None:
        _log.info("Showing the presences of node %s", brief(about["node"]))

    def node_down(self, about: Mapping[str, Any]) -> None:
        _log.info("Hiding the presences of node %s: %s", brief(about["node"]), about["reason"])
