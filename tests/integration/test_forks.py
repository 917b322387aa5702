"""A forked program has its own process, surroundings and exit code, and has loaded Ashtree already."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.forks import ROOT, Program
from tests.patience import PATIENCE, wait_until

MODULE = "tests.integration.forked_program"


def start(log: Path, *arguments: str, environment: dict[str, str] | None = None) -> Program:
    with log.open("wb") as file:
        return Program(MODULE, *arguments, stdout=file.fileno(), environment=environment)


def printed(log: Path) -> Any:
    return json.loads(log.read_text())


def test_a_program_gets_its_arguments_and_environment_and_returns_its_exit_code(
    tmp_path: Path,
) -> None:
    log, environment = tmp_path / "log", {"COLOUR": "green"}
    program = start(log, "end", "it", environment=environment)
    assert program.wait(PATIENCE) == 3
    assert program.poll() == 3
    assert printed(log) == {
        "pid": program.pid,
        "arguments": ["end", "it"],
        "environment": environment,
        "folder": str(ROOT),
        "preloaded": True,
    }


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_a_program_and_gives_a_negative_exit_code(
    tmp_path: Path, signum: signal.Signals
) -> None:
    log = tmp_path / "log"
    program = start(log, "wait")
    wait_until(log.read_text)
    assert program.poll() is None
    with pytest.raises(TimeoutError):
        program.wait(0)
    program.send_signal(signum)
    assert program.wait(PATIENCE) == -signum


def test_ctrl_c_is_an_exception_in_a_program(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = start(log, "wait")
    wait_until(log.read_text)
    program.send_signal(signal.SIGINT)
    assert program.wait(PATIENCE) == 1
    assert "KeyboardInterrupt" in log.read_text()


def test_a_program_reads_its_input_and_writes_its_errors_apart(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("said")
    out, err = tmp_path / "out", tmp_path / "err"
    with source.open() as stdin, out.open("w") as stdout, err.open("w") as stderr:
        program = Program(
            MODULE,
            "read",
            stdin=stdin.fileno(),
            stdout=stdout.fileno(),
            stderr=stderr.fileno(),
        )
    assert program.wait(PATIENCE) == 1
    assert printed(out)["arguments"] == ["read"]
    assert err.read_text() == "said\n"
