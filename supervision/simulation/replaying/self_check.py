"""Is a run really decided by its seed? Repeated in a fresh process, with other hashes and other memory addresses.

    check_determinism(outcome)          # raises Diverged at the first event that differs

What a program iterates over in the order of a set of strings or of processes comes in another order there, and shows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from supervision.recording.trace import read_lines
from supervision.simulation.errors import Diverged, RunFileError, SimulationError
from supervision.simulation.outcome import Outcome
from supervision.simulation.replaying.child import Answer, spot_in, with_steps
from supervision.simulation.replaying.run_file import (
    RunFile,
    describe_run,
    encode_run,
    find_scenario,
    run_again,
    write_run,
)
from supervision.simulation.replaying.trace_diff import compare

__all__ = ["check_determinism", "check_many"]

_LIMIT = 600.0


def check_determinism(
    outcome: Outcome | RunFile, *, hash_seed: int = 4242, junk: int = 1000, limit: float = _LIMIT
) -> None:
    """Repeat a run in a fresh process, and compare event by event.

    Args:
        outcome: of a run, or its run file; its scenario must be a function of a module.
        hash_seed: PYTHONHASHSEED of that process.
        junk: objects that are put on its heap first, so that addresses differ.
        limit: real seconds after which the process is taken for one that hangs.

    Raises:
        Diverged: something in the program is not decided by the seed; shows the first event that differs, the line of
            the program that did it, and the set that it iterates over, if it is one.
        RunFileError: the run cannot be repeated elsewhere.
    """
    for problem in check_many([outcome], hash_seed=hash_seed, junk=junk, limit=limit):
        if problem is not None:
            raise problem


def check_many(
    outcomes: Iterable[Outcome | RunFile],
    *,
    hash_seed: int = 4242,
    junk: int = 1000,
    limit: float = _LIMIT,
) -> list[SimulationError | None]:
    """Repeat runs in one fresh process, one after the other, and compare each event by event.

        problems = check_many(outcomes)         # None for each that was the same

    To start a process takes longer than most runs; so this costs little more than the runs do.

    Args:
        outcomes: as for `check_determinism`.
        hash_seed: PYTHONHASHSEED of that process.
        junk: objects that are put on its heap first, so that addresses differ.
        limit: real seconds after which the process is taken for one that hangs.

    Returns:
        For each what `check_determinism` would raise, or None.
    """
    given = list(outcomes)
    runs = [each if isinstance(each, RunFile) else describe_run(each) for each in given]
    found: list[SimulationError | None] = [_unfit(run) for run in runs]
    fit = [number for number, problem in enumerate(found) if problem is None]
    elsewhere = _Elsewhere(hash_seed, junk, limit)
    for number, (answer, trace) in zip(fit, elsewhere.repeat([runs[n] for n in fit]), strict=True):
        if answer.problem is not None:
            found[number] = RunFileError(answer.problem)
        elif not answer.same:
            found[number] = _diverged(given[number], runs[number], trace, elsewhere)
    return found


def _unfit(run: RunFile) -> RunFileError | None:
    """Why a run cannot be repeated elsewhere."""
    try:
        find_scenario(run.scenario)
        encode_run(run)
    except RunFileError as error:
        return error
    return None


def _diverged(
    given: Outcome | RunFile, run: RunFile, trace: list[bytes], elsewhere: _Elsewhere
) -> Diverged | None:
    """The first difference, and what did it there and here."""
    here = given if isinstance(given, Outcome) and given.trace else run_again(run)
    try:
        compare(with_steps(here), trace)
    except Diverged as error:
        # Another time it may be another event; then this one's line is what there is to see.
        ((there, _),) = elsewhere.repeat([run], error.step)
        error.spots = (spot_in(run, error.step)[1], there.spot)
        return error
    return None


class _Elsewhere:
    """Fresh processes with another hash seed."""

    def __init__(self, hash_seed: int, junk: int, limit: float) -> None:
        self._hash_seed = hash_seed
        self._junk = junk
        self._limit = limit

    def repeat(
        self, runs: list[RunFile], event: int | None = None
    ) -> list[tuple[Answer, list[bytes]]]:
        """Repeat runs in one process; for each the answer, and the trace if it is another one."""
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
        """Run the process to its end; what it said on standard error."""
        command = [
            *(
                sys.executable,
                "-m",
                "supervision.simulation.replaying.child",
                str(folder),
                str(self._junk),
            ),
            *([] if event is None else [str(event)]),
        ]
        path = os.pathsep.join(filter(None, [str(Path.cwd()), *sys.path]))
        environment = {
            **os.environ,
            "PYTHONHASHSEED": str(self._hash_seed),
            "PYTHONPATH": path,
        }
        try:
            done = subprocess.run(  # noqa: S603 # this very program
                command,
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=self._limit,
            )
        except subprocess.TimeoutExpired:
            return f"it was not over after {self._limit:g} s"
        return done.stderr


def _read(file: Path, problem: str) -> tuple[Answer, list[bytes]]:
    answer, trace = file.with_suffix(".answer"), file.with_suffix(".trace")
    if not answer.exists():
        run = msgspec.json.decode(file.read_bytes())
        why = f"{run['scenario']} could not be repeated in a fresh process:\n{problem}"
        return Answer(problem=why), []
    return (
        msgspec.json.decode(answer.read_bytes(), type=Answer),
        read_lines(trace) if trace.exists() else [],
    )
