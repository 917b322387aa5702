"""The Makefile in the environments of its readers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_make_wheel_uses_its_own_environment_whatever_environment_is_active(tmp_path: Path) -> None:
    active = tmp_path / "venv"
    # Without the variables of the make that runs the tests, because they would change the environment.
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    environment = {
        **kept,
        "VENV": str(active),
        "VIRTUAL_ENV": str(active),
        "PATH": f"{active / 'bin'}:{kept['PATH']}",
    }
    # -n prints the commands in place of running them.
    done = subprocess.run(
        ["make", "-n", "wheel"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ".venv/bin/python -m hatchling build -d dist\n" in done.stdout
    assert str(active) not in done.stdout
