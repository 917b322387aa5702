"""`ashtree simulate` in a separate process: Ctrl-C and kill, which also end its workers."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.servers import ROOT
from tests.patience import PATIENCE, wait_until

COMMAND = [sys.executable, "-c", "from channels.cli.command import main; main()"]
SCENARIO = """
import os
from pathlib import Path

import trio


async def leaves_a_trace(world):
    Path(world.params["folder"], str(os.getpid())).touch()
    await trio.sleep(1)


async def hangs(world):
    Path(world.params["folder"], str(os.getpid())).touch()
    while True:
        pass
"""

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scenes.py").write_text(SCENARIO)
    (tmp_path / "pids").mkdir()
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Start a sweep that would take long, and answer its process when both workers are at work."""
    started: list[subprocess.Popen[str]] = []

    def call(scenario: str) -> subprocess.Popen[str]:
        options = ["--seeds", "1-1000000", "--jobs", "2", "--check", "0", "--real-seconds", "3600"]
        params = ["--params", f"folder={folder / 'pids'}"]
        process = subprocess.Popen(
            [*COMMAND, "simulate", f"scenes:{scenario}", *options, *params],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # As a shell starts it: Ctrl-C goes to the whole process group.
            process_group=0,
        )
        started.append(process)
        wait_until(lambda: len(list((folder / "pids").iterdir())) >= 2)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


def alive(folder: Path) -> list[int]:
    found = []
    for file in (folder / "pids").iterdir():
        try:
            os.kill(int(file.name), 0)
        except ProcessLookupError:
            continue
        found.append(int(file.name))
    return found


@pytest.mark.parametrize("scenario", ["leaves_a_trace", "hangs"])
def test_ctrl_c_ends_a_sweep_at_once_with_the_results_so_far(
    start: Start, folder: Path, scenario: str
) -> None:
    process = start(scenario)
    os.killpg(process.pid, signal.SIGINT)
    # The limit of a run is an hour.
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert "seeds" in out
    # A killed process may still exist for a moment. One that goes on would run for an hour.
    wait_until(lambda: alive(folder) == [])


def test_workers_end_when_the_command_is_killed(start: Start, folder: Path) -> None:
    process = start("leaves_a_trace")
    process.kill()
    process.wait()
    wait_until(lambda: not alive(folder))


def test_on_a_terminal_there_is_a_progress_bar(folder: Path) -> None:
    leader, follower = pty.openpty()
    params = ["--params", f"folder={folder / 'pids'}", "--check", "0", "--seeds", "1-300"]
    process = subprocess.Popen(
        [*COMMAND, "simulate", "scenes:leaves_a_trace", *params],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            data = os.read(leader, 4096)
        except OSError:
            # The other end is closed.
            break
        if not data:
            break
        shown += data
    os.close(leader)
    assert process.wait(PATIENCE) == 0
    assert b"all pass so far" in shown
    assert b"/300" in shown
