"""`make run` in a fresh clone, on a machine with Python and without Node."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.servers import ROOT
from tests.patience import PATIENCE

_NODE = {"node", "nodejs", "npm", "npx", "corepack"}
_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the tracked files of the work tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    folder = tmp_path / "clone"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder that holds all commands of this machine but Node's, and Python as it came."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for python in ("python", "python3"):
        (folder / python).symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    for source in os.get_exec_path():
        if not Path(source).is_dir():
            continue
        for command in Path(source).iterdir():
            link = folder / command.name
            if command.name not in _NODE and not link.is_symlink():
                link.symlink_to(command)
    return folder


class Run:
    """`make run`, from the typing of it to the Ctrl-C."""

    def __init__(self, clone: Path, tools: Path) -> None:
        self._log = clone.parent / f"run-{len(list(clone.parent.glob('run-*')))}.log"
        # Variables of a `make test` around us are none of its business.
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        # Only what the chat imports is compiled then.
        kept["PIP_NO_COMPILE"] = "1"
        with self._log.open("wb") as log:
            self._make = subprocess.Popen(
                ["make", "run", "ARGS=--port 0"],
                cwd=clone,
                env={**kept, "PATH": str(tools)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.url = self._address()

    def output(self) -> str:
        return self._log.read_text()

    def _address(self) -> str:
        try:
            # No time limit, because an installation may take any time. The limit of the test applies.
            while (found := _ADDRESS.search(self.output())) is None:
                assert self._make.poll() is None, f"make run serves nothing: {self.output()}"
                time.sleep(0.02)
        except BaseException:
            self.end()
            raise
        return found[0]

    def interrupt(self) -> None:
        """Press Ctrl-C: every process of the terminal's foreground group gets SIGINT."""
        os.killpg(self._make.pid, signal.SIGINT)
        self._make.wait(PATIENCE)

    def is_over(self) -> bool:
        """Return True if every process that it started has ended."""
        try:
            os.killpg(self._make.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def end(self) -> None:
        if not self.is_over():
            os.killpg(self._make.pid, signal.SIGKILL)
        self._make.wait(PATIENCE)


@pytest.fixture
def runs(clone: Path, tools: Path) -> Iterator[list[Run]]:
    """Provide a list for the runs of a test, and end them in any case."""
    started: list[Run] = []
    yield started
    for run in started:
        run.end()


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def set_up(output: str) -> list[str]:
    """Return make's lines about creation and installation. Only these steps take seconds."""
    return [line for line in output.splitlines() if line.startswith(("Creating ", "Installing "))]


def test_make_run_serves_the_chat_without_node_and_sets_up_only_once(
    clone: Path, tools: Path, runs: list[Run]
) -> None:
    assert shutil.which("node", path=tools) is None

    first = Run(clone, tools)
    runs.append(first)
    assert "<title>Ashtree chat</title>" in fetch(first.url)
    assert "phx_join" in fetch(f"{first.url}/phoenix/phoenix.mjs")
    first.interrupt()
    assert first.is_over()
    assert "Traceback" not in first.output()

    assert set_up(first.output()) != []

    again = Run(clone, tools)
    runs.append(again)
    assert "<title>Ashtree chat</title>" in fetch(again.url)
    again.interrupt()
    assert set_up(again.output()) == []
