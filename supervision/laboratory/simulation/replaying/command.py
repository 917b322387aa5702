"""The command `ashtree replay`, which repeats the run of a run file and prints the result."""

from __future__ import annotations

import pdb  # noqa: T100 # what --pdb asks for
import sys
import traceback
from pathlib import Path
from types import TracebackType

from actors.places import is_program
from actors.text import printable
from supervision.laboratory.simulation.outcome import Outcome
from supervision.laboratory.simulation.replaying.debugger import debugger_at
from supervision.laboratory.simulation.replaying.run_file import RunFile, difference, run_again
from supervision.laboratory.simulation.replaying.story import tell
from supervision.recording.reader.page import write_page
from supervision.recording.trace import file_lines

__all__ = ["replay_file"]


def replay_file(
    run: RunFile,
    *,
    trace: bool = False,
    debug: bool = False,
    at: int | None = None,
    html: Path | None = None,
) -> bool:
    """Repeat a run and print the result. Return True if the run passed.

    Args:
        run: the content of the run file.
        trace: print the trace file of the run on standard output, and everything else on standard error.
        debug: open the debugger where the run failed.
        at: open the debugger at the event of this number.
        html: the file for a page with the timeline of the run.

    Raises:
        RunFileError: the scenario of the file cannot be imported.
    """
    out = sys.stderr if trace else sys.stdout
    print(printable(f"{run.scenario}, seed {run.seed}"), file=out, flush=True)
    outcome = run_again(run, on_event=None if at is None else debugger_at(at))
    if trace:
        sys.stdout.buffer.write(b"".join(line + b"\n" for line in file_lines(outcome.trace)))
        sys.stdout.flush()
    print(printable(_comparison(run, outcome)), file=out)
    if at is not None and at >= outcome.events:
        print(
            f"the run has no event {at}; its last event is {outcome.events - 1}",
            file=out,
        )
    error = outcome.error
    if html is not None:
        _write_page(run, outcome, html)
    if error is None:
        print("it passes", file=out)
    else:
        print(printable(tell(outcome), lines=True), file=out)
        lines = traceback.format_exception(type(error), error, _in_program(error.__traceback__))
        print(printable("".join(lines).rstrip(), lines=True), file=out, flush=True)
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


def _comparison(run: RunFile, outcome: Outcome) -> str:
    ran = f"{outcome.events} events in {outcome.steps} steps, {outcome.seconds:g} virtual seconds"
    changed = difference(run, outcome)
    if changed is None:
        return f"{ran}: the same run, to the byte"
    return f"{ran}: this is not the saved run; {changed}"


def _debug(run: RunFile, outcome: Outcome, error: BaseException) -> None:
    trace = _program_part(error.__traceback__)
    if trace is not None:
        pdb.post_mortem(trace)
        return
    # A deadlock or a check between two steps has no line of the program. Use the last event before the failure.
    last = (outcome.events if outcome.failed_at is None else outcome.failed_at[0]) - 1
    sys.stdout.write(
        "no line of the program was running at the failure; repeating the run up to the last event before the failure\n"
    )
    sys.stdout.flush()
    run_again(run, on_event=debugger_at(last))


def _in_program(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback without the frames of Trio above the first line of the program."""
    found = trace
    while found is not None and not is_program(found.tb_frame.f_code.co_filename):
        found = found.tb_next
    return found


def _program_part(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first to the last line of the program, for a debugger."""
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
