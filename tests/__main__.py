"""Run all tests in three parts side by side: those with real servers and browsers, two that compute, and the rest.

`python -m tests` is what `make test` runs. Two cores then have work until the end: one part mostly waits. The output of
the last part is shown while it runs, and that of the others when all are over. Not a line of shell, because what a
shell runs in the background ignores Ctrl-C, and some tests send that.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from typing import IO

ASIDE = (["tests/integration"], ["tests/simulation", "tests/architecture"])
"""The parts that run beside the rest."""


def main() -> int:
    """Return the worst of the exit codes."""
    pytest = [sys.executable, "-m", "pytest"]
    ignored = [f"--ignore={folder}" for part in ASIDE for folder in part]
    with ExitStack() as stack:
        outputs: list[IO[str]] = []
        running: list[subprocess.Popen[bytes]] = []
        for part in ASIDE:
            outputs.append(stack.enter_context(tempfile.TemporaryFile("w+")))
            running.append(
                subprocess.Popen([*pytest, *part], stdout=outputs[-1], stderr=subprocess.STDOUT)
            )
        try:
            codes = [subprocess.run([*pytest, *ignored], check=False).returncode]
            codes += [process.wait() for process in running]
        finally:
            # After Ctrl-C, which all processes get, pytest ends without help, and prints its findings.
            for process in running:
                process.wait()
        for output in outputs:
            output.seek(0)
            print(output.read(), end="", flush=True)
    return max(codes)


if __name__ == "__main__":
    raise SystemExit(main())
