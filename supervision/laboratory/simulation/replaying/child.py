"""The fresh process of a self-check. It repeats runs and writes the traces of the runs that differ.

It also compares the data that a run leaves behind in the process: globals of the program's modules, and attributes of
its classes.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from attrs import define

from actors.places import is_program
from supervision.laboratory.simulation.errors import RunFileError
from supervision.laboratory.simulation.frames import SourceLine, source_line_above
from supervision.laboratory.simulation.outcome import Outcome
from supervision.laboratory.simulation.replaying.run_file import (
    RunFile,
    find_scenario,
    load_run,
    run_again,
)
from supervision.recording.describe import describe
from supervision.recording.trace import write_lines

__all__ = [
    "RepeatedRun",
    "repeat",
    "source_line_in",
    "with_steps",
]


@define(kw_only=True)
class RepeatedRun:
    """The result of one run in the fresh process.

    Attributes:
        same: True if the digests are the same as in the run file. Otherwise the trace is in a file beside the run file.
        digests: the digests of the run.
        problem: the reason why the process could not repeat the run; None if it repeated the run.
        line: the line of the program that caused the requested event.
        left_behind: the names of the globals and class attributes that the first run in the process changed, if a
            second run there differed; None if it did not differ, or if no event was requested.
    """

    same: bool = True
    digests: tuple[str, str] = ("", "")
    problem: str | None = None
    line: SourceLine | None = None
    left_behind: tuple[str, ...] | None = None


def with_steps(outcome: Outcome) -> list[bytes]:
    """Return the lines of the trace, and a line with the digest of the order in which the tasks ran."""
    return [*outcome.trace, msgspec.json.encode({"steps_digest": outcome.steps_digest})]


def source_line_in(run: RunFile, event: int) -> tuple[Outcome, SourceLine | None]:
    """Repeat a run, and find the line of the program that causes an event."""
    found: list[SourceLine | None] = []

    def look(number: int) -> None:
        if number == event:
            found.append(source_line_above())

    outcome = run_again(run, on_event=look)
    return outcome, found[0] if found else None


def repeat(run: RunFile, event: int | None) -> tuple[RepeatedRun, list[bytes]]:
    """Repeat a run. Return the result, and the trace if the run differs."""
    left_behind = None
    if event is None:
        outcome, line = run_again(run), None
    else:
        # Import the program before the call of `program_data`, so that `before` contains its data.
        find_scenario(run.scenario)
        before = program_data()
        outcome, line = source_line_in(run, event)
        after = program_data()
        if run_again(run).digest != outcome.digest:
            left_behind = changed_between(before, after)
    digests = outcome.digest, outcome.steps_digest
    same = digests == (run.digest, run.steps_digest)
    repeated = RepeatedRun(same=same, digests=digests, line=line, left_behind=left_behind)
    return repeated, [] if same else with_steps(outcome)


def main(folder: Path, junk: int, event: int | None) -> None:
    """Repeat the runs in `folder`, with `junk` other objects on the heap."""
    heap: list[Any] = [object() for _ in range(junk)]
    for file in sorted(folder.glob("*.run")):
        try:
            repeated, trace = repeat(load_run(file), event)
        except RunFileError as error:
            repeated, trace = RepeatedRun(problem=str(error)), []
        if trace:
            write_lines(file.with_suffix(".trace"), trace)
        file.with_suffix(".answer").write_bytes(msgspec.json.encode(repeated))
    del heap


# Data that a run leaves behind

_MOST = 5


def program_data() -> dict[str, str]:
    """Return the values of the program's globals and class attributes, as text by name."""
    return {name: _text(value) for name, value in _values()}


def changed_between(before: dict[str, str], after: dict[str, str]) -> tuple[str, ...]:
    """Return the first few names with changed values. A name that `before` does not contain counts as unchanged."""
    changed = [name for name, text in after.items() if before.get(name, text) != text]
    return tuple(changed[:_MOST])


def _values() -> Iterator[tuple[str, Any]]:
    for module in list(sys.modules.values()):
        if not is_program(getattr(module, "__file__", None) or "<frozen"):
            continue
        for name, value in list(vars(module).items()):
            if inspect.isclass(value):
                if value.__module__ == module.__name__:
                    for inner, attribute in list(vars(value).items()):
                        if _is_data(inner, attribute):
                            yield f"{module.__name__}.{name}.{inner}", attribute
            elif _is_data(name, value):
                yield f"{module.__name__}.{name}", value


def _is_data(name: str, value: object) -> bool:
    return not name.startswith("__") and not callable(value) and not isinstance(value, ModuleType)


def _text(value: object) -> str:
    size = len(value) if isinstance(value, list | dict | set | tuple | str | bytes) else None
    return f"{describe(value)} {size}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
