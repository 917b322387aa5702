"""Run scenarios in turn until one fails, with the code of the tree that contains this module.

    python -m tests.simulation.mutants.search --seconds 60 --healthy ../ashtree MODULE:SCENARIO ...

The program prints a line of JSON before each run, so that the output also names a run that never ends. The last line
has the result. With `--healthy`, a failure counts only if the same run passes in that other tree.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

from attrs import asdict, define, field, frozen

from supervision.simulation.replaying.run_file import find_scenario
from supervision.simulation.search.sweep import SeedResult, sweep

__all__ = ["Find", "fails", "run_once", "search"]


@frozen(kw_only=True)
class Find:
    """The first failure of a search.

    Attributes:
        scenario: The scenario that failed.
        seed: The seed of the failed run.
        failure: The identity of the failure.
        problem: The first line of the error.
        seconds: The processor time of all runs until the failure.
        runs: The number of runs until the failure.
    """

    scenario: str
    seed: int
    failure: str
    problem: str
    seconds: float
    runs: int


@define
class _Source:
    """One scenario, and the processor time of its runs so far."""

    scenario: str
    used: float = 0.0
    seeds: Iterator[int] = field(factory=lambda: count(1))


def search(
    scenarios: Sequence[str],
    seconds: float,
    *,
    is_false: Callable[[str, int], bool] = lambda scenario, seed: False,
) -> Find | None:
    """Run the scenarios with the seeds 1, 2, 3 and so on until the first failure. Return the failure, or None.

    All scenarios get about the same processor time.

    Args:
        scenarios: Names of scenarios, `module:name`.
        seconds: The processor time for all runs together.
        is_false: Returns True if the failure of a scenario with a seed is a false alarm.
    """
    sources = [_Source(name) for name in scenarios]
    began, runs = time.process_time(), 0
    while (spent := time.process_time() - began) < seconds:
        source = min(sources, key=lambda each: each.used)
        seed = next(source.seeds)
        print(json.dumps({"scenario": source.scenario, "seed": seed}), flush=True)
        result = run_once(source.scenario, seed)
        runs += 1
        total = time.process_time() - began
        source.used += total - spent
        if result.failure is not None and not is_false(source.scenario, seed):
            return Find(
                scenario=source.scenario,
                seed=seed,
                failure=result.failure,
                problem=str(result.problem).partition("\n")[0],
                seconds=total,
                runs=runs,
            )
    return None


def run_once(scenario: str, seed: int) -> SeedResult:
    """Run a scenario with one seed."""
    # Run in this process, because the start of a worker would take longer than most runs.
    (result,) = sweep(find_scenario(scenario), [seed], jobs=0, check=0)
    return result


def fails(scenario: str, seed: int, tree: Path) -> bool:
    """Return True if a run fails with the code of another tree."""
    script = (
        f"from tests.simulation.mutants.search import run_once; import sys; "
        f"sys.exit(run_once({scenario!r}, {seed}).failure is not None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        check=False,
    )
    return done.returncode != 0


def main() -> None:
    """Search, and print the find as the last line. It is `null` if no run failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--healthy", type=Path, metavar="FOLDER")
    parser.add_argument("scenarios", nargs="+", metavar="MODULE:SCENARIO")
    options = parser.parse_args()
    healthy = options.healthy
    find = search(
        options.scenarios,
        options.seconds,
        is_false=lambda scenario, seed: healthy is not None and fails(scenario, seed, healthy),
    )
    print(json.dumps({"find": None if find is None else asdict(find)}), flush=True)


if __name__ == "__main__":
    main()
