"""Run all tests in two halves side by side: those with real servers and browsers, and the rest.

`python -m tests` is what `make test` runs. The first half is printed when both are over. Not a line of shell, because
what a shell runs in the background ignores Ctrl-C, and some tests send that.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

WAITING = "tests/integration"


def main() -> int:
    """Return the worse of the two exit codes."""
    pytest = [sys.executable, "-m", "pytest"]
    with tempfile.TemporaryFile("w+") as output:
        waiting = subprocess.Popen([*pytest, WAITING], stdout=output, stderr=subprocess.STDOUT)
        try:
            rest = subprocess.run([*pytest, f"--ignore={WAITING}"], check=False).returncode
            integration = waiting.wait()
        finally:
            # After Ctrl-C, which both processes get, pytest ends without help, and prints its findings.
            waiting.wait()
        output.seek(0)
        print(output.read(), end="", flush=True)
    return max(rest, integration)


if __name__ == "__main__":
    raise SystemExit(main())
