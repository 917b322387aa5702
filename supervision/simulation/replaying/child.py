"""The fresh process of a self-check: repeats runs, and writes the traces of those that came out as others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
from attrs import define

from supervision.recording.trace import write_lines
from supervision.simulation.errors import RunFileError
from supervision.simulation.outcome import Outcome
from supervision.simulation.pins.set_loops import Spot, spot_above
from supervision.simulation.replaying.run_file import RunFile, load_run, run_again

__all__ = ["Answer", "answer_of", "spot_in", "with_steps"]


@define(kw_only=True)
class Answer:
    """What came of one run in that process.

    - `same`: whether digests are those of the file; if not, the trace is beside it;
    - `problem`: why it could not be run at all;
    - `spot`: the line of the program that did the event that was asked about.
    """

    same: bool = True
    problem: str | None = None
    spot: Spot | None = None


def with_steps(outcome: Outcome) -> list[bytes]:
    """The trace, and at its end the digest of who ran when."""
    return [*outcome.trace, msgspec.json.encode({"steps_digest": outcome.steps_digest})]


def spot_in(run: RunFile, event: int) -> tuple[Outcome, Spot | None]:
    """Run it again, and see which line of the program does an event."""
    found: list[Spot | None] = []

    def look(number: int) -> None:
        if number == event:
            found.append(spot_above())

    outcome = run_again(run, on_event=look)
    return outcome, found[0] if found else None


def answer_of(run: RunFile, event: int | None) -> tuple[Answer, list[bytes]]:
    """Run it again; the answer and the trace, which is empty if it is the same."""
    if event is None:
        outcome, spot = run_again(run), None
    else:
        outcome, spot = spot_in(run, event)
    same = (outcome.digest, outcome.steps_digest) == (run.digest, run.steps_digest)
    return Answer(same=same, spot=spot), [] if same else with_steps(outcome)


def main(folder: Path, junk: int, event: int | None) -> None:
    """Repeat the runs in `folder`, with so many other objects on the heap."""
    heap: list[Any] = [object() for _ in range(junk)]
    for file in sorted(folder.glob("*.run")):
        try:
            answer, trace = answer_of(load_run(file), event)
        except RunFileError as error:
            answer, trace = Answer(problem=str(error)), []
        if trace:
            write_lines(file.with_suffix(".trace"), trace)
        file.with_suffix(".answer").write_bytes(msgspec.json.encode(answer))
    del heap


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
