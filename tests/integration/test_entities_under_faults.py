"""Entities on real servers, from which processes are killed, stopped and replaced, while all nodes call them.

The notes of all callers and entities, and the fenced history, show each broken promise. `make soak-entities` runs the
same for longer, with more processes and with time limits.
"""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.entities.__main__ import (
    DEPLOY,
    KILL,
    RESTART,
    STOP,
    Run,
    run,
    serving_nodes,
    serving_workers,
)

RATE = 60.0
KEYS = 30
LEASE = 2.0


def failed(found: Run) -> list[str]:
    """Return the failed checks. The time of a takeover depends on the load of the machine."""
    return [
        f"{check.what}: {check.figures}"
        for check in found.checks
        if not check.passed and "have a new owner within" not in check.what
    ]


def test_workers_keep_the_promises_under_kills_and_a_rolling_deploy(tmp_path: Path) -> None:
    with serving_workers(tmp_path, 2, rate=RATE, keys=KEYS) as cluster:
        found = run(cluster, faults=(KILL, DEPLOY), keys=KEYS, pause=3.0)
        assert failed(found) == [], cluster.output()
    assert found.account.takeovers[KILL]
    assert found.account.handovers


def test_nodes_keep_the_promises_under_kills_pauses_and_restarts(tmp_path: Path) -> None:
    with serving_nodes(tmp_path, 2, rate=RATE, keys=KEYS, lease=LEASE) as cluster:
        found = run(cluster, faults=(KILL, STOP, DEPLOY, RESTART), keys=KEYS, pause=3.0)
        assert failed(found) == [], cluster.output()
    assert found.account.takeovers[KILL]
    assert found.account.handovers
