"""Log lines for the events of PubSub, under the logger `channels.pubsub`.

The `Exchange` of an adapter calls `attach` while it runs. Other machines can cause some events at any rate. Such events
get at most one line a minute, with the number of events since the last line.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import trio

from actors.instrumentation.telemetry import Event, Telemetry
from actors.instrumentation.text import printable
from channels.excerpts import brief
from channels.telemetry import (
    PUBSUB_CONNECTED,
    PUBSUB_DISCONNECTED,
    PUBSUB_DROPPED,
    PUBSUB_LOST,
    PUBSUB_MALFORMED,
    PUBSUB_NAME_TAKEN,
    PUBSUB_NODE_DOWN,
    PUBSUB_NODE_UP,
    PUBSUB_SHARDS_DIFFER,
    PUBSUB_UNDELIVERABLE,
)

__all__ = ["attach"]

_log = logging.getLogger("channels.pubsub")

QUIET = 60.0
"""Seconds between two lines about the same kind of event."""


def attach(telemetry: Telemetry, pubsub: object) -> Callable[[], None]:
    """Log the events of one PubSub, until you call the returned function."""
    connections = _Connections()
    handlers: tuple[tuple[Event, Callable[..., None]], ...] = (
        (PUBSUB_CONNECTED, connections.connected),
        (PUBSUB_DISCONNECTED, connections.disconnected),
        (PUBSUB_NODE_UP, _node_up),
        (PUBSUB_NODE_DOWN, _node_down),
        (PUBSUB_DROPPED, _Rarely("count", _dropped)),
        (PUBSUB_LOST, _Rarely("count", _lost)),
        (PUBSUB_MALFORMED, _Rarely(None, _malformed)),
        (PUBSUB_NAME_TAKEN, _Rarely(None, _name_taken)),
        (PUBSUB_SHARDS_DIFFER, _Rarely(None, _shards_differ)),
        (PUBSUB_UNDELIVERABLE, _Rarely(None, _undeliverable)),
    )
    detaches = [telemetry.attach(event, _only(pubsub, handler)) for event, handler in handlers]

    def detach() -> None:
        for each in detaches:
            each()

    return detach


def _only(pubsub: object, handler: Callable[..., None]) -> Callable[..., None]:
    def handle(event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        if metadata["pubsub"] is pubsub:
            handler(measurements, metadata)

    return handle


class _Rarely:
    """Write a line at once, and after that at most one in a minute, with the number of events since the last line."""

    def __init__(
        self, measured: str | None, write: Callable[[int, Mapping[str, Any]], None]
    ) -> None:
        self._measured = measured
        self._write = write
        self._waiting = 0
        self._next = -float("inf")

    def __call__(self, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        self._waiting += 1 if self._measured is None else measurements[self._measured]
        now = trio.current_time()
        if now >= self._next:
            self._next = now + QUIET
            count, self._waiting = self._waiting, 0
            self._write(count, {**metadata, "measurements": measurements})


class _Connections:
    """Log each loss and each return of a connection. While it is down, repeat the problem once a minute."""

    def __init__(self) -> None:
        # For each connection that is down: the problem of the last line, and the time for the next one.
        self._down: dict[str, tuple[str, float]] = {}

    def connected(self, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        self._down.pop(metadata["connection"], None)
        _log.info("Connection %s is connected to %s", metadata["connection"], metadata["server"])

    def disconnected(self, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        connection, problem = metadata["connection"], metadata["problem"]
        before, due = self._down.get(connection, ("", 0.0))
        now = trio.current_time()
        if problem == before and now < due:
            return
        self._down[connection] = problem, now + QUIET
        _log.warning(
            "Connection %s is not connected to %s: %s; broadcasts reach only this node meanwhile; the next attempt is "
            "in %.1f s",
            connection,
            metadata["server"],
            printable(problem),
            measurements["delay"],
        )


def _node_up(measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    _log.info("Node %s is up", brief(metadata["node"].name))


def _node_down(measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    name = brief(metadata["node"].name)
    if metadata["reason"] == "goodbye":
        _log.info("Node %s has stopped", name)
    else:
        _log.warning("Node %s sends no heartbeat any more", name)


def _dropped(count: int, metadata: Mapping[str, Any]) -> None:
    _log.warning(
        "Dropped %s for other nodes: %s", _counted(count, "message"), printable(metadata["problem"])
    )


def _lost(count: int, metadata: Mapping[str, Any]) -> None:
    lost = metadata["lost"]
    _log.warning(
        "Lost %s of other nodes; the latest are numbers %d to %d of node %s on lane %s",
        _counted(count, "message"),
        lost.first,
        lost.last,
        brief(lost.node),
        brief(lost.lane),
    )


def _malformed(count: int, metadata: Mapping[str, Any]) -> None:
    _log.warning(
        "Dropped %s on lane %s that no node of this version sent: %s; does another program publish there?",
        _counted(count, "message"),
        brief(metadata["lane"]),
        printable(metadata["problem"]),
    )


def _name_taken(count: int, metadata: Mapping[str, Any]) -> None:
    _log.error(
        "Another node also has the name %s of this node; give each node a name of its own with node_name=",
        brief(metadata["node"].name),
    )


def _shards_differ(count: int, metadata: Mapping[str, Any]) -> None:
    _log.error(
        "Node %s uses shards=%d and this node shards=%d, so they miss messages of each other; use the same number "
        "everywhere",
        brief(metadata["node"].name),
        metadata["measurements"]["other_shards"],
        metadata["measurements"]["shards"],
    )


def _undeliverable(count: int, metadata: Mapping[str, Any]) -> None:
    _log.warning(
        "Could not deliver %s of other nodes to some subscribers: %s",
        _counted(count, "broadcast"),
        printable(str(metadata["error"])),
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
