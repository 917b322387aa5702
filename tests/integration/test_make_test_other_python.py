"""`make test-other-python` on machines with and without a second Python. The Python is a script that stands for one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.servers import ROOT

_SCRIPT = """#!/bin/sh
case "$*" in
    --version) echo Python 3.77.1 ;;
    *ensurepip*) exit {ensurepip} ;;
    *python%d.%d-venv*) echo python3.77-venv ;;
    *"-m venv"*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    *"-m tests"*) echo "ran $*"; exit {tests} ;;
esac
"""


def make(folder: Path, *, ensurepip: int = 0, tests: int = 0, ci: bool = False) -> tuple[int, str]:
    """Run the target with such a Python, as a user other than root. Return the exit code and the output."""
    tools = folder / "tools"
    tools.mkdir()
    scripts = {
        "python3.77": _SCRIPT.format(ensurepip=ensurepip, tests=tests),
        "id": "#!/bin/sh\necho 1000\n",
    }
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    return run_make("OTHER_PYTHON=python3.77", f"OTHER_VENV={folder / 'venv'}", tools=tools, ci=ci)


def run_make(*arguments: str, tools: Path, ci: bool = False) -> tuple[int, str]:
    """Run `make test-other-python`, and return the exit code and the output."""
    # Without the variables of the make that runs the tests, because they change the output.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "CI" and not name.startswith(("MAKE", "MFLAGS"))
    }
    environment["PATH"] = f"{tools}:{environment['PATH']}"
    done = subprocess.run(
        ["make", "test-other-python", *arguments],
        cwd=ROOT,
        env={**environment, **({"CI": "true"} if ci else {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_the_second_python_runs_the_tests_in_an_environment_of_its_own(tmp_path: Path) -> None:
    code, output = make(tmp_path, ci=True)
    assert code == 0, output
    assert "Tests without integration on Python 3.77.1" in output
    assert output.endswith("ran -m tests --without-integration\n")
    assert (tmp_path / "venv/bin/python").exists()


def test_a_failed_test_fails_the_target_and_shows_how_to_repeat_it(tmp_path: Path) -> None:
    code, output = make(tmp_path, tests=1)
    assert code != 0
    assert (
        "The tests without integration failed on Python 3.77.1. Repeat one of them with: "
        f"{tmp_path / 'venv'}/bin/python -m pytest FILE\n"
    ) in output


@pytest.mark.parametrize("ci", [False, True])
def test_a_missing_python_is_a_skip_that_names_its_package(tmp_path: Path, ci: bool) -> None:
    code, output = run_make("OTHER_PYTHON=python3.77", tools=tmp_path, ci=ci)
    assert code == 0
    assert output.startswith(
        "No python3.77: its tests are skipped. Install the package python3.77, or name another Python: "
    )


@pytest.mark.parametrize("ci", [False, True])
def test_a_python_that_cannot_create_environments_is_a_skip_and_a_failure_in_ci(
    tmp_path: Path, ci: bool
) -> None:
    code, output = make(tmp_path, ensurepip=1, ci=ci)
    assert (code != 0) is ci
    assert (
        "python3.77 cannot create a virtual environment: its tests are skipped. Install the package python3.77-venv."
    ) in output
