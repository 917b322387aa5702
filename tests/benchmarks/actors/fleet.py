"""The subjects in their processes, and the rounds in which they take turns.

The processes wait for each other: one works, the others sleep. A machine that becomes slower or faster in the middle,
because somebody else uses it, does so for all subjects alike, and a ratio is taken within each round.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from attrs import define, field

__all__ = ["Member", "Samples", "TooSlow", "fleet", "in_rounds"]

# Seconds that one command may take. A library that needs more is left out of that case.
PATIENCE = 30.0
# Seconds that one turn should take: long against the clock's grain, short against the drift of a machine.
TURN = 0.06

LEAST = 5
# The cases that leave actors behind until they are over.
STARTS = ("start", "supervised")

Samples: TypeAlias = dict[tuple[str, str], list[list[float]]]
"""The measurements of each round, by case and subject."""


class TooSlow(Exception):
    """A subject did not answer in time, or ended."""


@define
class Member:
    """One subject, in a process of its own."""

    module: str
    process: subprocess.Popen[str] = field(init=False)
    about: dict[str, Any] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.actors.worker", self.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.about = self._read("its start")

    @property
    def name(self) -> str:
        return str(self.about["name"])

    def ask(self, command: str, count: int) -> Any:
        """Have the subject do something so many times."""
        if self.process.poll() is not None:
            self._start()
        assert self.process.stdin is not None
        # One that ends meanwhile is found out by what can be read.
        with contextlib.suppress(OSError):
            print(command, count, file=self.process.stdin, flush=True)
        return self._read(command)

    def _read(self, what: str) -> Any:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if readable else ""
        if not line:
            self.stop()
            why = "ended" if readable else f"needed more than {PATIENCE:g} s"
            print(f"{self.module} {why} at {what}, and is left out of it", file=sys.stderr)
            raise TooSlow
        return json.loads(line)

    def stop(self) -> None:
        """End the process and all its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


@contextlib.contextmanager
def fleet(modules: Sequence[str]) -> Iterator[list[Member]]:
    """Start subjects; those that cannot start are left out."""
    members: list[Member] = []
    try:
        for module in modules:
            with contextlib.suppress(TooSlow):
                members.append(Member(module))
        yield members
    finally:
        for member in members:
            member.stop()


def in_rounds(members: Sequence[Member], cases: Sequence[str], rounds: int) -> Samples:
    """Measure every case with every subject that has it, in turns, so many times."""
    samples: Samples = {}
    counts = {
        (case, member.name): _fitting_count(member, case)
        for case in cases
        for member in members
        if case in member.about["cases"]
    }
    for _ in range(rounds):
        for case in cases:
            for member in members:
                key = (case, member.name)
                if not counts.get(key):
                    continue
                try:
                    samples.setdefault(key, []).append(member.ask(case, counts[key]))
                except TooSlow:
                    counts[key] = 0
    return samples


def _fitting_count(member: Member, case: str) -> int:
    """Return the number of repetitions that fit into one turn. The first tries also warm the subject up."""
    count, most = LEAST, member.about["most"] if case in STARTS else math.inf
    try:
        while True:
            each = statistics.fmean(member.ask(case, count))
            fitting = int(min(max(LEAST, TURN / each), most))
            if fitting <= 4 * count:
                return fitting
            count = min(fitting, 10 * count)
    except TooSlow:
        return 0
