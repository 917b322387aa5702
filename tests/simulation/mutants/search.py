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
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import asdict, frozen

from supervision.laboratory.simulation.forks import Fork, ForkedSeed
from tests.simulation.campaign import Sweep
from tests.simulation.sweeps.first_failure import first_failure

__all__ = ["Find", "fails", "search"]


@frozen(kw_only=True)
class Find:
    """The first failure of a search.

    Attributes:
        scenario: The scenario that failed.
        seed: The seed of the failed run.
        forks: The forks of the failed run.
        strategy: The strategy that found it.
        failure: The identity of the failure.
        problem: The first line of the error.
        seconds: The processor time of all runs until the failure.
        runs: The number of runs until the failure.
    """

    scenario: str
    seed: int
    forks: tuple[Fork, ...]
    strategy: str
    failure: str
    problem: str
    seconds: float
    runs: int


def search(
    scenarios: Sequence[str],
    seconds: float,
    *,
    is_false: Callable[[str, ForkedSeed], bool] = lambda scenario, start: False,
) -> Find | None:
    """Run the scenarios with the seeds 1, 2, 3 and so on until the first failure. Return the failure, or None.

    All scenarios get about the same processor time.

    Args:
        scenarios: Names of scenarios, `module:name`.
        seconds: The processor time for all runs together.
        is_false: Returns True if the failure of a scenario with a seed and its forks is a false alarm.
    """

    def announce(sweep: Sweep, item: int | ForkedSeed) -> None:
        seed = item if isinstance(item, int) else item.seed
        print(json.dumps({"scenario": sweep.path, "seed": seed}), flush=True)

    found = first_failure(
        [Sweep(each, each) for each in scenarios],
        seconds=seconds,
        before=announce,
        is_false=lambda sweep, result: is_false(sweep.path, ForkedSeed(result.seed, result.forks)),
    )
    if found.sweep is None or found.result is None:
        return None
    return Find(
        scenario=found.sweep.path,
        seed=found.result.seed,
        forks=found.result.forks,
        strategy=found.result.strategy,
        failure=str(found.result.failure),
        problem=str(found.result.problem).partition("\n")[0],
        seconds=found.seconds,
        runs=found.runs,
    )


def fails(scenario: str, start: ForkedSeed, tree: Path) -> bool:
    """Return True if a run fails with the code of another tree."""
    script = (
        "import sys; from tests.simulation.campaign import Sweep; "
        "from supervision.laboratory.simulation.forks import Fork, ForkedSeed; "
        "from tests.simulation.sweeps.first_failure import run_once; "
        f"sys.exit(not run_once(Sweep({scenario!r}, {scenario!r}), {start!r}).passed)"
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
        is_false=lambda scenario, start: healthy is not None and fails(scenario, start, healthy),
    )
    print(json.dumps({"find": None if find is None else asdict(find)}), flush=True)


if __name__ == "__main__":
    main()
