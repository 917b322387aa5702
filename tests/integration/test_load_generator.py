"""The load generator of `make bench` with a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.integration.servers import ROOT, Server, serving
from tests.patience import PATIENCE

SIZES = {
    "echo": "--connections 5 --in-flight 2",
    "fanout": "--connections 5 --in-flight 2",
    "join": "--operations 10 --concurrency 4",
    "crash": "--connections 4 --concurrency 2 --operations 8",
    "idle": "--connections 5",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("load")
    arguments = ("--log-level", "critical")
    with serving("examples.conformance", folder, arguments=arguments) as running:
        yield running


def start(server: Server, workload: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.benchmarks.channels.generator", workload]
    command += ["--url", f"{server.socket_url}/websocket?vsn=2.0.0", "--pids", str(server.pid)]
    command += [*SIZES[workload].split(), "--seconds", "0.1", "--warm-up", "0"]
    command += ["--drain", str(PATIENCE)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_every_workload_ends_without_lost_answers(server: Server) -> None:
    running = {workload: start(server, workload) for workload in SIZES}
    try:
        ended = {workload: each.communicate(timeout=PATIENCE) for workload, each in running.items()}
    finally:
        for each in running.values():
            each.kill()
    assert {name: errors for name, (_, errors) in ended.items() if errors} == {}
    figures = {name: json.loads(output) for name, (output, _) in ended.items()}
    assert {(each["lost"], each["wrong"]) for each in figures.values()} == {(0, 0)}
    # The other workloads are limited by time. On a busy machine, they may count no operation.
    assert [figures[name]["operations"] for name in ("join", "crash", "idle")] == [10, 8, 5]
    assert figures["join"]["p50_ms"] > 0
    assert 0 <= figures["join"]["generator_share"] <= 1.5


def test_a_server_that_refuses_the_upgrade_is_an_error(server: Server) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.channels.generator", "echo"]
    command += ["--url", f"{server.socket_url}/nowhere"]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "WireError: the server answered the upgrade with" in done.stderr
