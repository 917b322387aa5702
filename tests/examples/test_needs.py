"""An example without its libraries or without phoenix.js ends with one line that contains the command to type."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from examples.needs import check_libraries, run_until_ctrl_c
from tests.architecture.sources import ROOT


def test_a_python_without_the_libraries_gets_one_line_with_the_command(tmp_path: Path) -> None:
    # Without site-packages, this Python has none of the libraries.
    done = subprocess.run(
        [sys.executable, "-S", "-m", "examples.chat"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("The examples need trio and msgspec and starlette, which ")
    assert f"`{shlex.join([sys.executable, '-m', 'pip', 'install', '.[examples]'])}`" in line
    assert "`make -C . run`" in line


def test_a_page_without_phoenix_js_gets_one_line_with_the_command(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("node_modules")
    )
    done = subprocess.run(
        [sys.executable, "-m", "examples.chat", "--port", "0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert f"`npm install --prefix {tmp_path}/examples/chat`" in line


def test_a_python_with_the_libraries_runs_the_examples() -> None:
    check_libraries()


def test_ctrl_c_ends_a_program_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()

    run_until_ctrl_c(main)
    assert capsys.readouterr().out == "bye\n"
