"""A wrong start of an example prints one sentence and no traceback."""

from __future__ import annotations

import os
import re
import runpy
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.integration.servers import ROOT
from tests.patience import PATIENCE

PRINTS = [
    ["-m", "examples.chat", "--port", "0"],
    ["-c", "from channels.cli.command import main; main()", "--version"],
    ["-c", "from channels.cli.command import main; main()", "--help"],
]
EXAMPLES = ["examples.chat", "examples.conformance"]


def run(module: str, *options: str) -> tuple[int, str]:
    """Run an example until it ends. Return its exit code and its standard error."""
    command = [sys.executable, "-m", module, *options]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return done.returncode, done.stderr.strip()


def run_here(
    module: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Run an example in this process. It must end before it serves anything."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(sys, "argv", [module, *options])
        # runpy warns that another test has imported the module already.
        warnings.simplefilter("ignore", RuntimeWarning)
        with pytest.raises(SystemExit) as left:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert isinstance(left.value.code, int)
    return left.value.code, capsys.readouterr().err.strip()


def assert_one_sentence(said: str) -> None:
    """Check that the output has no traceback, no usage and no name of an exception."""
    assert len(said.splitlines()) == 1, said
    assert re.search(r"Traceback|\w+(Error|Exception)\b", said) is None, said


@pytest.mark.parametrize("module", EXAMPLES)
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--prot", "4000"], "--prot"),
        (["--port", "many"], "--port"),
        (["--port", "70000"], "65535"),
        (["--port"], "--port"),
        (["--log-level", "loud"], "loud"),
        (["surprise"], "surprise"),
    ],
)
def test_an_invalid_option_is_named_in_one_sentence(
    module: str, options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run_here(module, options, capsys)
    assert code == 2
    assert named in said
    assert_one_sentence(said)


def test_a_program_exits_with_2_after_an_invalid_option() -> None:
    code, said = run("examples.chat", "--prot", "4000")
    assert code == 2
    assert_one_sentence(said)


@pytest.mark.parametrize("module", EXAMPLES)
def test_a_port_in_use_is_named_in_one_sentence(module: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = run(module, "--port", str(port))
    assert code == 1
    assert str(port) in said
    assert "in use" in said
    assert_one_sentence(said)


def test_an_address_of_another_machine_is_named_in_one_sentence() -> None:
    code, said = run("examples.conformance", "--port", "0", "--host", "192.0.2.1")
    assert code == 1
    assert "192.0.2.1" in said
    assert_one_sentence(said)


def test_ctrl_c_during_the_import_of_a_server_ends_the_command_quietly_with_130(
    tmp_path: Path,
) -> None:
    (tmp_path / "slow_shop.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    code = "from channels.cli.command import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "slow_shop:endpoint"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("command", PRINTS if Path("/dev/full").exists() else [])
def test_a_full_disk_at_standard_output_is_named_in_one_sentence(command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=20,
            check=False,
        )
    said = done.stderr.strip()
    assert done.returncode == 1
    assert said == ("cannot write to standard output: No space left on device; send it elsewhere")
