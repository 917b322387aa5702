"""One subject in a process of its own: `python -m tests.benchmarks.actors.worker NAME`.

Reads a line with a command and a number, does it, writes a line of JSON. Between two commands it waits in a read, so
it takes no time from the others.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from tests.benchmarks.actors.subject import Fill, Subject

__all__ = ["main"]


def resident_memory() -> int | None:
    """Bytes of memory of this process and its children, what several of them share being divided between them."""
    try:
        return sum(_resident(pid) for pid in _family(os.getpid()))
    except OSError:  # only Linux tells
        return None


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task").glob("*/children")
    below = [int(child) for path in children for child in path.read_text().split()]
    return [pid, *(each for child in below for each in _family(child))]


def _resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def traced_memory() -> int:
    """Bytes that Python objects take."""
    return tracemalloc.get_traced_memory()[0]


def growth(fill: Fill, count: int, measure: Callable[[], int | None]) -> float | None:
    """Bytes for each of `count` idle actors."""
    # Twice, so that what is made once, whatever the number, is there before the first look.
    fill(1, lambda: None)
    gc.collect()
    before = measure()
    seen: list[int | None] = []

    def weigh() -> None:
        gc.collect()
        seen.append(measure())

    fill(count, weigh)
    (after,) = seen
    return None if before is None or after is None else (after - before) / count


def answer(subject: Subject, command: str, count: int) -> Any:
    """Execute a command."""
    if command == "resident":
        return growth(subject.fill, min(count, subject.most), resident_memory)
    if command == "traced":
        tracemalloc.start()
        return growth(subject.fill, min(count, subject.most), traced_memory)
    gc.collect()
    return subject.cases[command](count)


def main(name: str) -> None:
    """Serve commands until there are no more."""
    subject: Subject = importlib.import_module(f"tests.benchmarks.actors.subjects.{name}").SUBJECT
    answers = sys.stdout
    about = {
        "name": subject.name,
        "callee": subject.callee,
        "apart": subject.apart,
        "cases": list(subject.cases),
        "most": subject.most,
    }
    # Whatever a library prints must not be taken for an answer.
    with redirect_stdout(sys.stderr):
        print(json.dumps(about), file=answers, flush=True)
        for line in sys.stdin:
            command, count = line.split()
            print(json.dumps(answer(subject, command, int(count))), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
