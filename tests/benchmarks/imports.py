"""Compare the CPU time of `import channels` with that of the libraries that it uses.

    python -m tests.benchmarks.imports [--rounds 21]

Each import runs in a new process. In each round, every kind of import runs once. The first round does not count,
because it writes the bytecode. The libraries are trio, attrs, msgspec, and the modules of websockets and Hypercorn that
`import channels` loads. The rest of the time counts as time of Ashtree.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from tests.integration.servers import ROOT

LIBRARIES: Final = ("attr", "attrs", "h11", "h2", "hypercorn", "msgspec", "trio", "websockets")
LIMIT: Final = 1.3
"""The highest ratio of `import channels` to its libraries."""

# Without PYTHONDONTWRITEBYTECODE. With it, each process would compile all modules that have no bytecode yet.
_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
    "PYTHONPATH": str(ROOT),
}


def libraries() -> str:
    """Return a program that imports the modules of the libraries that `import channels` loads, in the same order."""
    code = "import sys, channels; print(*sys.modules)"
    names = subprocess.run(
        [sys.executable, "-c", code], env=_ENVIRONMENT, capture_output=True, text=True, check=True
    ).stdout.split()
    return "\n".join(f"import {name}" for name in names if name.partition(".")[0] in LIBRARIES)


def cpu_seconds(code: str) -> float:
    """Run a program in a new process, and return its CPU time in user mode.

    Raises:
        RuntimeError: the program failed.
    """
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], _ENVIRONMENT)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"the program ended with the status {status}: {code}")
    return usage.ru_utime


def measure(programs: dict[str, str], rounds: int) -> dict[str, list[float]]:
    """Return the CPU time of each program in each round."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(rounds + 1):
        for name, code in programs.items():
            seconds = cpu_seconds(code)
            if turn:
                times[name].append(seconds)
    return times


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the imports, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args(arguments)
    base = "libraries"
    programs = {
        "nothing": "pass",
        base: libraries(),
        "actors": "import actors",
        "actors and supervision": "import actors, supervision",
        "channels": "import channels",
    }
    times = measure(programs, options.rounds)
    print(f"{'import':24}{'user ms':>9}{'lowest':>9}{'highest':>9}{'ratio':>8}")
    for name, all_times in times.items():
        ratio = statistics.median(
            own / other for own, other in zip(all_times, times[base], strict=True)
        )
        figures = statistics.median(all_times), min(all_times), max(all_times)
        print(f"{name:24}{''.join(f'{seconds * 1e3:9.0f}' for seconds in figures)}{ratio:8.2f}")
    print(f"The limit for the ratio of channels is {LIMIT}.")


if __name__ == "__main__":
    main()
