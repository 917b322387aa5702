"""The fresh process of a self-check: repeats the run of a file and writes its trace."""

from __future__ import annotations

import sys
from pathlib import Path

from supervision.recording.trace import write_lines
from supervision.simulation.run_file import load_run, run_again
from supervision.simulation.self_check import with_steps

__all__: list[str] = []


def main(run: str, trace: str, junk: str) -> None:
    """Repeat the run in the file `run`, with so many other objects on the heap."""
    heap = [object() for _ in range(int(junk))]
    write_lines(Path(trace), with_steps(run_again(load_run(Path(run)))))
    del heap


if __name__ == "__main__":
    main(*sys.argv[1:])
