"""Run all tests and mypy, a few parts at a time, and print a line for each part that is over.

`python -m tests` is what `make test` runs. `make test-other-python` adds `--without-integration`, which also leaves out
mypy. The parts are processes of pytest and mypy, taken from a queue. There are four processes more than the machine has
cores, because the four with real servers and browsers wait for most of their time. The output of a part is printed if
something failed in it. Not a line of shell, because what a shell runs in the background ignores Ctrl-C, and some tests
send that.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from attrs import define, field, frozen

ROOT = Path(__file__).parents[1]


@frozen
class Part:
    """One process: a name, and the module with its arguments."""

    name: str
    arguments: tuple[str, ...]

    @classmethod
    def of_tests(cls, name: str, *arguments: str) -> Part:
        """Return a run of pytest."""
        return cls(name, ("pytest", "-q", *arguments))

    @property
    def slug(self) -> str:
        """Return the name in a form that a path may contain."""
        return re.sub(r"\W+", "-", self.name)


def parts() -> list[Part]:
    """Return all parts. The longest come first: those of integration, which wait for most of their time."""
    processes = ("tests/actors", "tests/supervision")
    apart = ("tests/integration", "tests/simulation", "tests/channels", "tests/architecture")
    # Each part imports the program and its tests again, which takes about five seconds. So there are few parts.
    return [
        *shares("tests/integration", 4),
        Part.of_tests("tests/channels", "tests/channels"),
        *shares("tests/simulation", 2),
        Part.of_tests(" and ".join(processes), *processes),
        Part.of_tests("tests/architecture", "tests/architecture"),
        Part.of_tests("the other tests", *(f"--ignore={each}" for each in (*apart, *processes))),
        # The shortest part comes last, so that no long part runs alone at the end.
        Part("types", ("mypy",)),
    ]


def parts_without_integration() -> list[Part]:
    """Return the parts that need no browser, no Node and no other program, without mypy."""
    return [
        part
        for part in parts()
        if part.name != "types" and not part.name.startswith("tests/integration,")
    ]


def shares(folder: str, count: int) -> list[Part]:
    """Return the tests of a folder as several parts, because one process would need longer than all others.

    Neighbouring files are often equally slow, because each starts a browser or runs a long search. So the function
    spreads neighbours over the parts.
    """
    files = sorted((ROOT / folder).rglob("test_*.py"))
    names = [str(file.relative_to(ROOT)) for file in files if "node_modules" not in file.parts]
    return [
        Part.of_tests(f"{folder}, {first + 1} of {count}", *names[first::count])
        for first in range(count)
    ]


@define
class Run:
    """The state of the run, shared by the threads that wait for the parts."""

    temporary: Path
    started: float = field(factory=time.monotonic)
    failed: list[str] = field(factory=list)
    passed: int = 0
    only_deep: int = 0
    _lock: Lock = field(factory=Lock)

    def do(self, part: Part) -> None:
        """Run a part, and print how it went."""
        # Each run of pytest gets a folder of its own. In pytest's common folder, two runs would delete the old folders
        # at the same moment, and one of them would fail.
        apart = (
            (f"--basetemp={self.temporary / part.slug}",) if part.arguments[0] == "pytest" else ()
        )
        done = subprocess.run(
            [sys.executable, "-m", *part.arguments, *apart],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            check=False,
        )
        with self._lock:
            self._report(part, done.returncode, done.stdout)

    def _report(self, part: Part, code: int, output: str) -> None:
        self.passed += number_in(r"(\d+) passed", output)
        self.only_deep += number_in(r"(\d+) more tests run only in", output)
        if code != 0:
            self.failed.append(part.name)
            print(f"\n{part.name} FAILED with the exit code {code}:\n{output}")
        last = output.strip().rpartition("\n")[2]
        print(f"{self.seconds:4.0f} s  {part.name}: {last}", flush=True)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def summary(self) -> str:
        """Return the last line of the whole run."""
        result = f"failed: {'; '.join(self.failed)}" if self.failed else "all parts passed"
        return (
            f"{result}. {self.passed:,} tests passed in {self.seconds:.0f} s; "
            f"{self.only_deep:,} more run only in `make test-deep`."
        )


def number_in(pattern: str, output: str) -> int:
    """Return the number of the last match, or 0."""
    found = re.findall(pattern, output)
    return int(found[-1]) if found else 0


def main() -> int:
    """Return 0 if all parts passed."""
    parser = argparse.ArgumentParser(prog="python -m tests", description="Run all tests and mypy.")
    parser.add_argument("--without-integration", action="store_true", help="nor mypy")
    options = parser.parse_args()
    todo = parts_without_integration() if options.without_integration else parts()
    workers = (os.cpu_count() or 1) + 4
    print(f"{len(todo)} parts, {workers} at a time", flush=True)
    with (
        tempfile.TemporaryDirectory(
            prefix="ashtree-tests-", ignore_cleanup_errors=True
        ) as temporary,
        ThreadPoolExecutor(workers) as pool,
    ):
        run = Run(Path(temporary))
        try:
            for each in [pool.submit(run.do, part) for part in todo]:
                each.result()
        except KeyboardInterrupt:
            # The parts got the signal too. They end without help, and print their findings.
            pool.shutdown(cancel_futures=True)
            run.failed.append("the run was interrupted")
    print(run.summary(), flush=True)
    return 1 if run.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
