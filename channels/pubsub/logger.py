"""The log lines of PubSub, under the logger `channels.pubsub`.

The `Exchange` of an adapter calls `attach` while it runs. Other machines can cause some events at any rate. Such events
get at most one line a minute, with the number of events since the last line.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from logging import ERROR, INFO, WARNING

import trio

from actors.instrumentation.logger import Facts, Line, attach_lines
from actors.instrumentation.telemetry import Event, Telemetry
from channels.telemetry import (
    PUBSUB_CONNECTED,
    PUBSUB_DISCONNECTED,
    PUBSUB_DROPPED,
    PUBSUB_LOST,
    PUBSUB_MALFORMED,
    PUBSUB_NAME_TAKEN,
    PUBSUB_NODE_DOWN,
    PUBSUB_NODE_UP,
    PUBSUB_UNDELIVERABLE,
)

__all__ = ["attach"]

_log = logging.getLogger("channels.pubsub")

QUIET = 60.0
"""Seconds between two lines about the same kind of event."""


def attach(telemetry: Telemetry, pubsub: object) -> Callable[[], None]:
    """Log the events of one PubSub, until you call the returned function."""
    outages = _Outages()
    connections = (
        Line(
            PUBSUB_CONNECTED,
            INFO,
            "Connection %(connection)s is connected to %(server)s",
            when=outages.end,
        ),
        Line(
            PUBSUB_DISCONNECTED,
            WARNING,
            (
                "Connection %(connection)s is not connected to %(server)s: %(problem)s; broadcasts reach only this "
                "node meanwhile; the next attempt is in %(delay).1f s"
            ),
            when=outages.is_due,
        ),
    )
    return attach_lines(telemetry, _log, (*connections, *_LINES), only=("pubsub", pubsub))


class _Outages:
    """The connections that are down. Each has a line when its problem changes, and one a minute."""

    def __init__(self) -> None:
        # For each connection that is down: the problem of the last line, and the time for the next one.
        self._down: dict[str, tuple[str, float]] = {}

    def end(self, facts: Facts) -> bool:
        self._down.pop(facts["connection"], None)
        return True

    def is_due(self, facts: Facts) -> bool:
        connection, problem = facts["connection"], facts["problem"]
        before, due = self._down.get(connection, ("", 0.0))
        now = trio.current_time()
        if problem == before and now < due:
            return False
        self._down[connection] = problem, now + QUIET
        return True


def _messages(facts: Facts) -> Facts:
    return {"messages": _counted(facts["count"], "message")}


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _seldom(
    event: Event,
    level: int,
    text: str,
    fields: Callable[[Facts], Facts] | None = None,
    *,
    summed: tuple[str, ...] = (),
) -> Line:
    return Line(event, level, text, fields=fields, every=QUIET, summed=summed)


_LINES = (
    Line(PUBSUB_NODE_UP, INFO, "Node %(node.name)r is up"),
    Line(
        PUBSUB_NODE_DOWN,
        INFO,
        "Node %(node.name)r has stopped",
        when=lambda facts: bool(facts["reason"] == "goodbye"),
    ),
    Line(
        PUBSUB_NODE_DOWN,
        INFO,
        "The earlier start of node %(node.name)r has ended, and a later one runs",
        when=lambda facts: bool(facts["reason"] == "replaced"),
    ),
    Line(
        PUBSUB_NODE_DOWN,
        WARNING,
        "Node %(node.name)r sends no heartbeat any more",
        when=lambda facts: bool(facts["reason"] == "silent"),
    ),
    _seldom(
        PUBSUB_DROPPED,
        WARNING,
        "Dropped %(messages)s for other nodes: %(problem)s",
        _messages,
        summed=("count",),
    ),
    _seldom(
        PUBSUB_LOST,
        WARNING,
        "Lost %(messages)s of other nodes; the latest are numbers %(lost.first)d to %(lost.last)d of node "
        "%(lost.node)r on lane %(lost.lane)r",
        _messages,
        summed=("count",),
    ),
    _seldom(
        PUBSUB_MALFORMED,
        WARNING,
        "Dropped %(messages)s on lane %(lane)r that no node of this version sent: %(problem)s; does another program "
        "publish there?",
        lambda facts: {"messages": _counted(facts["events"], "message")},
    ),
    _seldom(
        PUBSUB_NAME_TAKEN,
        ERROR,
        "Another node also has the name %(node.name)r of this node; give each node a name of its own with node_name=",
    ),
    _seldom(
        PUBSUB_UNDELIVERABLE,
        WARNING,
        "Could not deliver %(broadcasts)s of other nodes to some subscribers: %(error)s",
        lambda facts: {"broadcasts": _counted(facts["events"], "broadcast")},
    ),
)
