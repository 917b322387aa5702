"""The rows of the table, with their workloads and sizes. *pure*."""

from __future__ import annotations

from typing import Literal

from attrs import evolve, frozen

from tests.benchmarks.channels.workloads import FEW, Load

__all__ = [
    "RESERVED_FILES",
    "ROWS",
    "Row",
    "Takers",
    "expected_seconds",
    "load_of",
    "within",
]

Takers = Literal["all", "fast", "core", "own"]
"""The servers of a row: all; the fast ones; Ashtree, the bare Trio server and a server at a URL; or only Ashtree."""

RESERVED_FILES = 500
"""The files of a server or a generator that are not connections of the benchmark."""

_FEW_CRASHES, _FEWEST_CRASHES = 400, 160


@frozen
class Row:
    """One row.

    Attributes:
        name: the name on the command line.
        title: the title in the table.
        workload: the workload of the load generator.
        load: the size of the workload.
        key: the figure that the table compares.
        unit: the unit of this figure in the plots.
        scale: the divisor that converts the figure to this unit.
        takers: the servers that take part.
        is_big: True if a quick run skips the row.
        is_logged: True if the server logs crashes.
        is_watched: True if the server measures its own pauses and counts the clients that it closes.
        least_seconds: the shortest measured time that gives a meaningful figure.
        phases: the number of measured times in one run of the workload.
    """

    name: str
    title: str
    workload: str
    load: Load
    key: str = "us_per_op"
    unit: str = "CPU µs per operation"
    scale: float = 1.0
    takers: Takers = "all"
    is_big: bool = False
    is_logged: bool = False
    is_watched: bool = False
    least_seconds: float = 0.0
    phases: int = 1


_ALL = (
    Row("echo-100x1", "echo, 100 connections, 1 in flight", "echo", Load()),
    Row("echo-100x8", "echo, 100 connections, 8 in flight", "echo", Load(in_flight=8)),
    Row("echo-1000x1", "echo, 1,000 connections", "echo", Load(connections=1000)),
    Row(
        "echo-9000x1",
        "echo, 9,000 connections",
        "echo",
        Load(connections=9000, timeout=180.0),
        takers="fast",
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
        takers="own",
        is_logged=True,
    ),
    Row(
        "idle",
        "memory per idle connection",
        "idle",
        Load(connections=5000),
        key="bytes_per_connection",
        unit="KB per connection",
        scale=1024.0,
    ),
    Row(
        "flat-echo",
        f"echo, 15,000 connections, compared with {FEW}",
        "flat-echo",
        Load(connections=15_000, timeout=180.0),
        phases=4,
        takers="core",
        is_big=True,
    ),
    Row(
        "flat-fanout",
        f"broadcast to 15,000, compared with {FEW}",
        "flat-fanout",
        Load(connections=15_000, timeout=180.0),
        phases=3,
        takers="core",
        is_big=True,
    ),
    Row(
        "heartbeats",
        "15,000 connections that only send heartbeats",
        "heartbeats",
        # The server first looks for silent clients after a minute.
        Load(connections=15_000, timeout=180.0, warm_up=65.0),
        key="core_percent",
        unit="% of a core",
        takers="core",
        is_big=True,
        least_seconds=15.0,
    ),
    Row(
        "half",
        "echo, 1,000 connections, half the saturation rate",
        "half",
        Load(connections=1000),
        phases=2,
        key="p99_ms",
        unit="p99 latency in ms",
        takers="core",
        is_big=True,
    ),
    Row(
        "pauses",
        "longest pause of the loop, 5,000 connections",
        "pauses",
        Load(connections=5000, timeout=180.0, warm_up=2.0),
        key="pause_ms",
        unit="longest pause in ms",
        takers="own",
        is_big=True,
        is_watched=True,
        least_seconds=30.0,
    ),
    Row(
        "never",
        "a client that never reads, in a room of 1,000",
        "never",
        Load(connections=1000),
        key="p99_to_alone",
        unit="p99 latency, as a multiple of that without the client",
        takers="own",
        is_big=True,
        is_watched=True,
        least_seconds=20.0,
    ),
)
ROWS = {row.name: row for row in _ALL}
"""The rows by name, in the order of the table."""


def load_of(
    row: Row, *, seconds: float, is_quick: bool, is_peer: bool, few_crashes: bool = False
) -> Load:
    """Return the size of a row for one run.

    Args:
        row: the row.
        seconds: the measured time of rows that have no fixed number of operations.
        is_quick: True for a quick run, which has fewer operations and connections, and a shorter warm-up.
        is_peer: True for servers that may need milliseconds per operation. They get fewer operations.
        few_crashes: True for servers that need a second to notice a crash. They get fewer crashes.
    """
    load = evolve(row.load, seconds=max(seconds, row.least_seconds))
    if load.operations and (is_quick or is_peer):
        few = _FEW_CRASHES if is_peer and row.workload == "crash" else 1000
        load = evolve(load, operations=few)
    if few_crashes and row.workload == "crash":
        load = evolve(load, operations=_FEWEST_CRASHES)
    if row.workload == "idle" and (is_quick or is_peer):
        load = evolve(load, connections=1000)
    return evolve(load, warm_up=0.2, extra=1.0, drain=2.0) if is_quick else load


def within(load: Load, files: int) -> Load:
    """Limit the connections of a load to the number that a process can have with this limit of open files."""
    return evolve(load, connections=max(1, min(load.connections, files - RESERVED_FILES)))


def expected_seconds(row: Row, load: Load, *, is_peer: bool) -> float:
    """Estimate the seconds that one measurement of a row takes, with the start of the server and the connects."""
    join, operation, start = (0.002, 0.003, 3.0) if is_peer else (0.0006, 0.0005, 1.5)
    measured = 0.0 if load.operations else row.phases * (load.warm_up + load.seconds)
    return start + load.connections * join + load.operations * operation + measured
