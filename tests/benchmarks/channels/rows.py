"""The rows of the table, with their workloads and sizes. *pure*."""

from __future__ import annotations

from attrs import evolve, frozen

from tests.benchmarks.channels.workloads import Load

__all__ = ["ROWS", "Row", "load_of"]


@frozen
class Row:
    """One row.

    Attributes:
        name: the name on the command line.
        title: the title in the table.
        workload: the workload of the load generator.
        load: the size of the workload.
        key: the figure that the table compares.
        is_big: True if a quick run skips the row, and only fast servers take part.
        is_logged: True if the server logs crashes. Then only Ashtree takes part.
    """

    name: str
    title: str
    workload: str
    load: Load
    key: str = "us_per_op"
    is_big: bool = False
    is_logged: bool = False


_ALL = (
    Row("echo-100x1", "echo, 100 connections, 1 in flight", "echo", Load()),
    Row("echo-100x8", "echo, 100 connections, 8 in flight", "echo", Load(in_flight=8)),
    Row("echo-1000x1", "echo, 1,000 connections", "echo", Load(connections=1000)),
    Row(
        "echo-9000x1",
        "echo, 9,000 connections",
        "echo",
        Load(connections=9000, timeout=180.0),
        is_big=True,
    ),
    Row("fanout-100", "broadcast to 100", "fanout", Load(in_flight=4)),
    Row("fanout-1000", "broadcast to 1,000", "fanout", Load(connections=1000, in_flight=2)),
    Row("join", "connect, upgrade, join", "join", Load(operations=4000)),
    Row(
        "crash",
        "crash and rejoin",
        "crash",
        Load(connections=200, concurrency=16, operations=8000),
    ),
    Row(
        "crash-logged",
        "crash and rejoin, logged",
        "crash",
        Load(connections=200, concurrency=16, operations=4000),
        is_logged=True,
    ),
    Row(
        "idle",
        "memory per idle connection",
        "idle",
        Load(connections=5000),
        key="bytes_per_connection",
    ),
)
ROWS = {row.name: row for row in _ALL}
"""The rows by name, in the order of the table."""


def load_of(row: Row, *, seconds: float, is_quick: bool, is_peer: bool) -> Load:
    """Return the size of a row for one run.

    Args:
        row: the row.
        seconds: the measured time of rows that have no fixed number of operations.
        is_quick: True for a quick run: fewer operations and connections, a shorter warm-up.
        is_peer: True for servers that may need milliseconds per operation. They get fewer operations.
    """
    load = evolve(row.load, seconds=seconds)
    if load.operations:
        # Daphne needs a second for each crash.
        few = 400 if is_peer and row.workload == "crash" else 1000
        load = evolve(load, operations=few if is_quick or is_peer else load.operations)
    if row.workload == "idle":
        load = evolve(load, connections=1000 if is_quick or is_peer else load.connections)
    return evolve(load, warm_up=0.2) if is_quick else load
