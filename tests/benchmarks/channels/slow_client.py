"""A workload with a client that never reads, in a room at full load."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.channels.clients import Crowd
from tests.benchmarks.channels.workloads import Load
from tests.benchmarks.hostile.room import Room

__all__ = ["never"]


def never(crowd: Crowd, load: Load) -> dict[str, Any]:
    """Measure a room with and without a client that never reads.

    The first member broadcasts as fast as the others receive. The server must close the slow client at its limit of
    waiting bytes.
    """
    (pid, *_) = load.pids
    room = Room(crowd.address[1], pid, members=load.connections)
    # This round warms the server up, and determines the number of messages for the next round.
    chunks = room.with_slow_client().chunks
    alone, crowded = room.alone(chunks), room.with_slow_client()
    return {
        "operations": crowded.messages * load.connections,
        "p99_ms": crowded.p99,
        "p99_alone_ms": alone.p99,
        "p99_to_alone": crowded.p99 / alone.p99,
        "growth_mb": crowded.memory - alone.memory,
        "closed_after_mb": None
        if crowded.closed_after is None
        else crowded.closed_after * room.size / 2**20,
        "not_closed": float(crowded.closed_after is None),
        "lost": 0,
        "wrong": 0,
    }
