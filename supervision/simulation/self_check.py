"""Is a run really decided by its seed? Repeated in a fresh process, with other hashes and other memory addresses.

    check_determinism(outcome)          # raises Diverged at the first event that differs

What a program iterates over in the order of a set of strings or of processes comes in another order there, and shows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from supervision.recording.trace import read_lines
from supervision.simulation._compare import compare
from supervision.simulation.errors import RunFileError
from supervision.simulation.outcome import Outcome
from supervision.simulation.run_file import find_scenario, save_run

__all__ = ["check_determinism", "with_steps"]


def check_determinism(outcome: Outcome, *, hash_seed: int = 4242, junk: int = 1000) -> None:
    """Repeat a run in a fresh process, and compare event by event.

    Args:
        outcome: of a run with its trace; its scenario must be a function of a module.
        hash_seed: PYTHONHASHSEED of that process.
        junk: objects that are put on its heap first, so that addresses differ.

    Raises:
        Diverged: something in the program is not decided by the seed; shows the first event that differs.
        RunFileError: the run cannot be repeated elsewhere.
    """
    find_scenario(outcome.scenario)
    with TemporaryDirectory() as folder:
        run, trace = Path(folder) / "run.json", Path(folder) / "trace"
        save_run(outcome, run)
        command = [
            sys.executable,
            "-m",
            "supervision.simulation._child",
            str(run),
            str(trace),
            str(junk),
        ]
        path = os.pathsep.join(filter(None, [str(Path.cwd()), *sys.path]))
        environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": path}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 # this very program
        if done.returncode:
            raise RunFileError(
                f"{outcome.scenario} could not be repeated in a fresh process:\n{done.stderr}"
            )
        compare(with_steps(outcome), read_lines(trace))


def with_steps(outcome: Outcome) -> list[bytes]:
    """The trace, and at its end the digest of who ran when."""
    return [*outcome.trace, msgspec.json.encode({"steps_digest": outcome.steps_digest})]
