"""Check that the seed decides a run: repeat the run in a fresh process with other hashes and other memory addresses.

    check_determinism(outcome)          # raises Diverged at the first different event

The check finds a program that iterates over a set of strings or of processes, because the set has another order in the
fresh process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from supervision.laboratory.simulation.errors import Diverged, RunFileError, SimulationError
from supervision.laboratory.simulation.outcome import Outcome
from supervision.laboratory.simulation.replaying.child import (
    RepeatedRun,
    source_line_in,
    with_steps,
)
from supervision.laboratory.simulation.replaying.parting import first_difference
from supervision.laboratory.simulation.replaying.run_file import (
    RunFile,
    describe_run,
    encode_run,
    find_scenario,
    run_again,
    write_run,
)
from supervision.laboratory.simulation.replaying.story import Story
from supervision.recording.trace import read_lines

__all__ = ["check_determinism", "check_many", "compare"]

_REAL_SECONDS = 600.0


def check_determinism(
    outcome: Outcome | RunFile,
    *,
    hash_seed: int = 4242,
    junk: int = 1000,
    real_seconds: float = _REAL_SECONDS,
) -> None:
    """Repeat a run in a fresh process, and compare the two runs event by event.

    Args:
        outcome: the outcome of a run, or its run file. The scenario must be a function of a module.
        hash_seed: the PYTHONHASHSEED of the process.
        junk: the number of objects that the process first creates, so that memory addresses differ.
        real_seconds: the real seconds after which the process counts as hanging.

    Raises:
        Diverged: the seed does not decide everything in the program. The error has the first different event and the
            line of the program that caused it. If that line is in a loop over a set, the error names the loop too.
        RunFileError: another process cannot repeat the run.
    """
    for problem in check_many([outcome], hash_seed=hash_seed, junk=junk, real_seconds=real_seconds):
        if problem is not None:
            raise problem


def check_many(
    outcomes: Iterable[Outcome | RunFile],
    *,
    hash_seed: int = 4242,
    junk: int = 1000,
    real_seconds: float = _REAL_SECONDS,
) -> list[SimulationError | None]:
    """Repeat runs in one fresh process, one after the other, and compare each run event by event.

        problems = check_many(outcomes)         # None for each run without a difference

    Most runs are shorter than the start of a process, so all runs share one process.

    Args:
        outcomes: the outcomes of runs, or their run files.
        hash_seed: the PYTHONHASHSEED of the process.
        junk: the number of objects that the process first creates, so that memory addresses differ.
        real_seconds: the real seconds after which the process counts as hanging. It holds for all runs together.

    Returns:
        For each run, the error that `check_determinism` would raise, or None.
    """
    given = list(outcomes)
    runs = [each if isinstance(each, RunFile) else describe_run(each) for each in given]
    found: list[SimulationError | None] = [_unfit(run) for run in runs]
    fit = [number for number, problem in enumerate(found) if problem is None]
    elsewhere = _Elsewhere(hash_seed, junk, real_seconds)
    repeated = elsewhere.repeat([runs[number] for number in fit])
    for number, (result, trace) in zip(fit, repeated, strict=True):
        if result.problem is not None:
            found[number] = RunFileError(result.problem)
        elif not result.same:
            found[number] = _diverged(given[number], runs[number], result, trace, elsewhere)
    return found


def compare(first: list[bytes], second: list[bytes], *, context: int = 5) -> None:
    """Compare two traces byte by byte.

    Args:
        first: the lines of one run.
        second: the lines of the other run.
        context: the number of earlier events that the error shows.

    Raises:
        Diverged: the traces differ. The error has the first different event.
    """
    if first == second:
        return
    step = first_difference(first, second)
    raise Diverged(
        step,
        first[step].decode() if step < len(first) else None,
        second[step].decode() if step < len(second) else None,
        tuple(line.decode() for line in first[max(0, step - context) : step]),
        (_said(first, step), _said(second, step)),
    )


def _said(lines: list[bytes], step: int) -> str | None:
    """Return an event as a sentence; None if there is no sentence for it."""
    if step >= len(lines):
        return None
    event = msgspec.json.decode(lines[step])
    if "steps_digest" in event:
        return "the events are the same, but other tasks ran, or ran in another order or at other times"
    story = Story(lines[: step + 1], None)
    return story.sentence(story.events[step])


def _unfit(run: RunFile) -> RunFileError | None:
    """Return the reason why another process cannot repeat a run, if there is one."""
    try:
        find_scenario(run.scenario)
        encode_run(run)
    except RunFileError as error:
        return error
    return None


def _diverged(
    given: Outcome | RunFile,
    run: RunFile,
    result: RepeatedRun,
    trace: list[bytes],
    elsewhere: _Elsewhere,
) -> Diverged | None:
    """Return the first difference, with the lines of the program that caused it in both processes."""
    here = given if isinstance(given, Outcome) and given.trace else run_again(run)
    try:
        compare(with_steps(here), trace)
    except Diverged as error:
        # The second repetition may differ first at another event. The line of event `error.step` is still useful.
        ((there, _),) = elsewhere.repeat([run], error.step)
        # If the first runs of two fresh processes differ too, no earlier run is the reason.
        if there.digests == result.digests:
            error.left_behind = there.left_behind
        error.source_lines = (source_line_in(run, error.step)[1], there.line)
        return error
    return None


class _Elsewhere:
    """Start fresh processes with another hash seed, and repeat runs in them."""

    def __init__(self, hash_seed: int, junk: int, real_seconds: float) -> None:
        self._hash_seed = hash_seed
        self._junk = junk
        self._real_seconds = real_seconds

    def repeat(
        self, runs: list[RunFile], event: int | None = None
    ) -> list[tuple[RepeatedRun, list[bytes]]]:
        """Repeat runs in one process. Return each result, with the trace if the run differs."""
        if not runs:
            return []
        with TemporaryDirectory() as name:
            folder = Path(name)
            files = [folder / f"{number:06}.run" for number in range(len(runs))]
            for file, run in zip(files, runs, strict=True):
                write_run(run, file)
            problem = self._start(folder, event)
            return [_read(file, problem) for file in files]

    def _start(self, folder: Path, event: int | None) -> str:
        """Run the process to its end, and return its standard error."""
        module = "supervision.laboratory.simulation.replaying.child"
        command = [sys.executable, "-m", module, str(folder), str(self._junk)]
        path = os.pathsep.join(filter(None, [str(Path.cwd()), *sys.path]))
        environment = {
            # Another order, and one variable more: the check finds a program that reads all variables.
            **dict(reversed(list(os.environ.items()))),
            "PYTHONHASHSEED": str(self._hash_seed),
            "PYTHONPATH": path,
            "ASHTREE_SELF_CHECK": "1",
        }
        try:
            done = subprocess.run(  # noqa: S603 # this very program
                command if event is None else [*command, str(event)],
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=self._real_seconds,
            )
        except subprocess.TimeoutExpired:
            return f"the process was not over after {self._real_seconds:g} s"
        return done.stderr


def _read(file: Path, problem: str) -> tuple[RepeatedRun, list[bytes]]:
    result, trace = file.with_suffix(".answer"), file.with_suffix(".trace")
    if not result.exists():
        run = msgspec.json.decode(file.read_bytes())
        why = f"{run['scenario']} could not be repeated in a fresh process:\n{problem}"
        return RepeatedRun(problem=why), []
    return (
        msgspec.json.decode(result.read_bytes(), type=RepeatedRun),
        read_lines(trace) if trace.exists() else [],
    )
