"""Repeating the run of a run file for somebody to look at."""

from __future__ import annotations

import pdb  # noqa: T100 # what --pdb asks for
import sys
import traceback
from pathlib import Path
from types import TracebackType

from supervision.chaos.reports.page import write_page
from supervision.simulation.outcome import Outcome
from supervision.simulation.pins.places import is_program
from supervision.simulation.replaying.debugger import debugger_at
from supervision.simulation.replaying.run_file import RunFile, difference, load_run, run_again
from supervision.simulation.replaying.story import tell

__all__ = ["replay_file"]


def replay_file(
    path: Path,
    *,
    trace: bool = False,
    debug: bool = False,
    at: int | None = None,
    html: Path | None = None,
) -> bool:
    """Repeat a run and say what it does; answers whether it passed.

    Args:
        path: of the run file.
        trace: whether every event is printed, as a line of JSON on standard output; what else is said goes to
            standard error then.
        debug: whether the debugger opens where the run failed.
        at: the number of an event, at which the debugger opens, too.
        html: where to write the page with the timeline of the run.

    Raises:
        RunFileError: the file cannot be used.
    """
    run = load_run(path)
    said = sys.stderr if trace else sys.stdout
    print(f"{run.scenario}, seed {run.seed}", file=said, flush=True)
    outcome = run_again(run, on_event=None if at is None else debugger_at(at))
    if trace:
        sys.stdout.buffer.write(b"".join(line + b"\n" for line in outcome.trace))
        sys.stdout.flush()
    print(_said_of(run, outcome), file=said)
    if at is not None and at >= outcome.events:
        print(f"there is no event {at} to stop at; the last one is {outcome.events - 1}", file=said)
    error = outcome.error
    if html is not None:
        _write_page(run, outcome, html)
    if error is None:
        print("it passes", file=said)
    else:
        print(tell(outcome), file=said)
        lines = traceback.format_exception(type(error), error, _in_program(error.__traceback__))
        print("".join(lines).rstrip(), file=said, flush=True)
        if debug:
            _debug(run, outcome, error)
    return outcome.passed


def _write_page(run: RunFile, outcome: Outcome, path: Path) -> None:
    write_page(
        outcome.trace,
        path,
        title=run.scenario,
        subtitle=f"seed {run.seed}, {outcome.seconds:g} virtual seconds",
        problems=() if outcome.error is None else [str(outcome.error)],
    )


def _said_of(run: RunFile, outcome: Outcome) -> str:
    ran = f"{outcome.events} events in {outcome.steps} steps, {outcome.seconds:g} virtual seconds"
    changed = difference(run, outcome)
    if changed is None:
        return f"{ran}: the same run, to the byte"
    return f"{ran}: another run than the one that was saved; {changed}"


def _debug(run: RunFile, outcome: Outcome, error: BaseException) -> None:
    trace = _program_part(error.__traceback__)
    if trace is not None:
        pdb.post_mortem(trace)
        return
    # A deadlock, or an invariant that was checked between two steps: the last that happened before is what there is.
    last = (outcome.events if outcome.failed_at is None else outcome.failed_at[0]) - 1
    sys.stdout.write(
        "no line of the program was running when this was found; the run is repeated up to the last event before it\n"
    )
    sys.stdout.flush()
    run_again(run, on_event=debugger_at(last))


def _in_program(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from where the program begins: how Trio came there is of no interest."""
    found = trace
    while found is not None and not is_program(found.tb_frame.f_code.co_filename):
        found = found.tb_next
    return found


def _program_part(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first to the last line of the program, which is where a debugger should open."""
    parts = []
    while trace is not None:
        parts.append(trace)
        trace = trace.tb_next
    while parts and not is_program(parts[-1].tb_frame.f_code.co_filename):
        parts.pop()
    found = None
    for part in reversed(parts):
        found = TracebackType(found, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return _in_program(found)
