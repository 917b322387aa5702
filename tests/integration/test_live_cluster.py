"""Chaos on servers in processes of their own: workers, and nodes with Valkey. One history has all of them."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from channels.testing import LiveNetwork, open_cluster
from examples.scenarios.auction_cluster import OWNER, on_nodes, on_workers
from supervision.chaos import (
    At,
    DrainNode,
    KillNode,
    LiveOutcome,
    LiveWorld,
    Partition,
    PauseNode,
    Phases,
    ServiceLimits,
    run_live,
)
from supervision.laboratory.chaos.injection.surroundings import ClusterControl
from supervision.recording.trace import write_lines
from tests.integration.ashtree import __file__ as ashtree
from tests.integration.valkey import valkey
from tests.patience import PATIENCE, until

ANY_MACHINE = ServiceLimits(
    max_late_share=1.0, max_wait_share=1.0, max_load=math.inf, min_in_time=0.0
)
PHASES = Phases(before=0.2, start_within=PATIENCE, after=0.2, recover_within=PATIENCE)


def events(outcome: LiveOutcome, *kinds: str) -> list[dict[str, Any]]:
    return [each for each in map(json.loads, outcome.trace) if each["kind"] in kinds]


def run(scenario: Any, faults: list[Any], folder: Path, **params: Any) -> LiveOutcome:
    return run_live(
        scenario,
        1,
        # A busy machine needs some time to find the owner of an entity.
        seconds=max(fault.when.seconds for fault in faults) + 2.0,
        faults=faults,
        params={"file": str(folder / "auctions.db"), **params},
        phases=PHASES,
        limits=ANY_MACHINE,
        network=LiveNetwork(),
    )


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> LiveOutcome:
    plan = [
        PauseNode(node=OWNER, seconds=0.5, when=At(0.3)),
        # The kill comes before the drain, because the worker that replaces a drained one may be too young. The
        # recording of a killed process lacks its last half-second.
        KillNode(node=OWNER, when=At(1.5)),
        DrainNode(node=OWNER, when=At(4.0)),
    ]
    return run(on_workers, plan, tmp_path_factory.mktemp("workers"))


def test_two_workers_recover_from_a_kill_a_pause_and_a_drain(workers: LiveOutcome) -> None:
    workers.check()
    assert [each.status for each in workers.fault_reports] == ["applied"] * 3
    paused, killed, drained = [each.where for each in workers.fault_reports]
    assert paused == killed
    assert {killed, drained} <= {"worker.1", "worker.2"}


def test_the_trace_has_the_events_of_the_experiment_and_of_all_workers(
    workers: LiveOutcome,
) -> None:
    [recording] = events(workers, "recording")
    # Two workers, the one after the kill, and the one after the drain.
    assert len(recording["merged"]) == 5
    assert {each["within"] for each in list(recording["merged"].values())[1:]} != {None}
    [killed] = events(workers, "node_killed")
    owners = events(workers, "entity_started")
    before = [each for each in owners if each["n"] < killed["n"]]
    assert before[-1]["node"] == killed["node"]
    assert len(owners) > len(before)
    fences = [each["fence"] for each in owners]
    assert fences == sorted(fences)


def test_the_report_counts_what_ended_with_the_worker_and_what_came_back(
    workers: LiveOutcome,
) -> None:
    pause, kill, drain = workers.measures.faults
    assert kill.ended > 20
    assert kill.not_back == 0
    assert pause.ended == drain.ended == 0
    [takeover] = workers.measures.takeovers
    assert takeover is not None
    assert takeover < PATIENCE


def test_the_command_tells_the_takeover_as_one_story(workers: LiveOutcome, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write_lines(path, workers.trace)
    told = story(path, "--html", str(tmp_path / "page.html"))
    assert "Merged from 5 files by the messages between them: the experiment, worker.1" in told
    assert f"kill the node {workers.fault_reports[1].where} ({OWNER})" in told
    assert "Auction 'bell' on worker." in told
    assert "was joined to auction:bell again" in told or "came back on" in told
    assert (tmp_path / "page.html").stat().st_size > 10_000


def story(*arguments: Path | str) -> str:
    command = [sys.executable, ashtree, "story", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_nodes_recover_from_a_kill_a_pause_and_a_cut_connection_to_valkey(
    tmp_path: Path,
) -> None:
    plan = [
        KillNode(node=OWNER, reboot_after=0.2, when=At(0.5)),
        Partition(one="node2", other="redis", seconds=0.5, when=At(1.0)),
        PauseNode(node="node1", seconds=0.5, when=At(2.0)),
    ]
    with valkey(tmp_path / "valkey", {"maxmemory-policy": "noeviction"}) as redis:
        redis.grant_at_once()
        outcome = run(on_nodes, plan, tmp_path, redis=redis.url).check()
    assert [each.status for each in outcome.fault_reports].count("applied") >= 2
    [killed] = events(outcome, "node_killed")
    [recording] = events(outcome, "recording")
    assert f"{killed['node']}#2" in recording["merged"]
    assert outcome.measures.faults[0].ended > 20


def test_a_node_is_down_from_its_kill_on_and_boots_after_its_process_has_ended() -> None:
    labels = []

    async def evening(world: LiveWorld) -> None:
        # The chat does not use Redis.
        async with open_cluster(
            world, "examples.chat.server:endpoint", nodes=1, redis="redis://127.0.0.1:1"
        ) as cluster:
            assert isinstance(cluster, ClusterControl)
            for _ in range(3):
                cluster.kill("node1")
                assert not cluster.is_up("node1")
                cluster.boot("node1")
                await until(lambda: cluster.is_up("node1"), lambda: "it does not boot")
            cluster.pause("node1")
            labels.append(cluster._servers["node1"].label)  # type: ignore[attr-defined] # of the real cluster
            process = cluster._servers["node1"].process  # type: ignore[attr-defined]
        assert process.returncode is not None

    outcome = run_live(evening, 1, seconds=0.1, limits=ANY_MACHINE, network=LiveNetwork())
    assert outcome.error is None
    assert labels == ["node1#4"]
