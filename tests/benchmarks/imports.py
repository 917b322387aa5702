"""Compare the CPU time of `channels` and of the command `ashtree` with that of the libraries that they import.

    python -m tests.benchmarks.imports [--rounds 21]

Each program runs in a new process. In each round, every program runs once. The first round does not count, because it
writes the bytecode. `import channels` loads no module of its names, because the first use of a name does it. The
libraries of a program are the modules of other distributions that it loads, and `importlib.metadata`, which knows the
version. The rest of the time counts as time of Ashtree, such as that of other modules of the standard library.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from tests.architecture.sources import PACKAGES, ROOT

PROGRAMS: Final = {
    "actors": "from actors import *",
    "actors and supervision": "from actors import *; from supervision import *",
    "channels": "import channels",
    "channels, all names": "from channels import *",
    **{
        f"ashtree {options}": f"import sys; sys.argv[1:] = {options.split()}\n"
        "from channels.cli.command import main\nmain()"
        for options in ("--version", "--help", "workers --help", "token sign --help")
    },
}
LIMITS: Final = {"channels": 1.2, "channels, all names": 1.3, "ashtree --version": 1.2}
"""The highest ratio of a program to its libraries."""

COMMAND_MS: Final = 250
"""The highest CPU time of a command."""

# Without PYTHONDONTWRITEBYTECODE. With it, each process would compile all modules that have no bytecode yet.
_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
    "PYTHONPATH": str(ROOT),
}


def libraries(code: str) -> str:
    """Return a program that imports the modules of the libraries that another program loads, in the same order."""
    printing = "import atexit, sys\natexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
    names = subprocess.run(
        [sys.executable, "-c", printing + code],
        env=_ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    ).stderr.split()
    others = sys.stdlib_module_names | {"__main__", "__mp_main__", *PACKAGES}
    modules = [
        name
        for name in names
        if name == "importlib.metadata" or name.partition(".")[0] not in others
    ]
    return f"from importlib import import_module\nfor name in {modules}: import_module(name)"


def cpu_seconds(code: str) -> float:
    """Run a program in a new process, and return its CPU time in user mode.

    Raises:
        RuntimeError: the program failed.
    """
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(
        sys.executable, [sys.executable, "-c", code], _ENVIRONMENT, file_actions=quiet
    )
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"the program ended with the status {status}: {code}")
    return usage.ru_utime


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the programs, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args(arguments)
    pairs = {name: (code, libraries(code)) for name, code in PROGRAMS.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in pairs}
    for turn in range(options.rounds + 1):
        for name, (code, base) in pairs.items():
            pair = cpu_seconds(code), cpu_seconds(base)
            if turn:
                times[name].append(pair)
    print(f"{'program':26}{'CPU ms':>9}{'lowest':>9}{'libraries':>11}{'ratio':>8}{'limit':>8}")
    for name, rounds in times.items():
        own, other = ([seconds * 1e3 for seconds in each] for each in zip(*rounds, strict=True))
        ratio = statistics.median(mine / its for mine, its in rounds)
        print(
            f"{name:26}{statistics.median(own):9.0f}{min(own):9.0f}{statistics.median(other):11.0f}"
            f"{ratio:8.2f}{LIMITS.get(name, ''):>8}"
        )
    print(f"The limit of a command is {COMMAND_MS} ms.")


if __name__ == "__main__":
    main()
