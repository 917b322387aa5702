"""Measure how many realistic bugs in Ashtree the sweeps find.

    python -m tests.simulation.mutants --minutes-each 1 --jobs 2

For each bug, the program plants the bug in a copy of the repository. There it runs the sweeps of the bug's layer and of
the layers above until the first failure. It reports a bug that no longer applies to the code, but does not count it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from attrs import asdict

from tests.simulation.mutants.everything import MUTANTS
from tests.simulation.mutants.held_out import HELD_OUT
from tests.simulation.mutants.measuring import Measured, measure
from tests.simulation.mutants.mutant import Mutant
from tests.simulation.sweeps import SWEEPS

ROOT = Path(__file__).parents[3]

LAYERS = ("actors", "supervision", "channels")

# A sweep belongs to a layer above actors if its path contains one of these parts.
_OF_SUPERVISION = (".supervision.", "runtime_sweep")
_OF_CHANNELS = (".channels.", "chat", "client", "longpoll", "cluster", "durable", "redis")

# On a busy machine, a search may take this many times its processor time in real time.
_PATIENCE = 15.0


def layer_of(path: str) -> str:
    """Return the layer of a sweep. The path of its scenario decides."""
    if any(part in path for part in _OF_CHANNELS):
        return "channels"
    return "supervision" if any(part in path for part in _OF_SUPERVISION) else "actors"


def scenarios_for(mutant: Mutant) -> list[str]:
    """Return the sweeps of a mutant's layer and of the layers above, the lowest layer first."""
    paths = [each.path for each in SWEEPS]
    layers = LAYERS[LAYERS.index(mutant.layer) :]
    return [path for layer in layers for path in paths if layer_of(path) == layer]


def command_for(mutant: Mutant, *, seconds: float) -> list[str]:
    """Return the command that searches for a mutant."""
    options = ["--seconds", f"{seconds:g}", "--healthy", str(ROOT)]
    module = "tests.simulation.mutants.search"
    return [sys.executable, "-m", module, *options, *scenarios_for(mutant)]


def line(measured: Measured) -> str:
    """Return the result for one mutant as a line of text."""
    mutant, find = measured.mutant, measured.find
    if measured.outdated is not None:
        result = f"outdated: {measured.outdated}"
    elif find is None:
        result = "not found"
    else:
        where = str(find.get("scenario", "?")).rpartition(":")[2]
        seconds = f", {find['seconds']:.1f} s" if "seconds" in find else ""
        result = f"{where}, seed {find.get('seed', '?')}{seconds}: {find['failure']}"
    tests = {None: "", True: "; the unit tests find it", False: "; no unit test finds it"}
    return f"{mutant.layer:<12} {mutant.name}: {result}{tests[measured.tests_find]}"


def figure(results: Sequence[Measured]) -> str:
    """Return a sentence with the number of bugs that the sweeps found."""
    counted = [each for each in results if each.outdated is None]
    found = sum(each.find is not None for each in counted)
    return f"The sweeps found {found} of {len(counted)} bugs."


def main(arguments: list[str] | None = None) -> None:
    """Measure all mutants. Print a line for each mutant, and the number of found bugs."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="names, or parts of names")
    parser.add_argument(
        "--held-out", action="store_true", help="measure the held-out bugs, not the mutants"
    )
    parser.add_argument(
        "--minutes-each", type=float, default=1.0, help="processor time for each mutant"
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="mutants at a time")
    parser.add_argument("--tests", action="store_true", help="also run the area's unit tests")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results as JSON")
    options = parser.parse_args(arguments)
    seconds = options.minutes_each * 60
    chosen = [
        each
        for each in (HELD_OUT if options.held_out else MUTANTS)
        if options.only is None or any(part in each.name for part in options.only)
    ]
    work = partial(
        measure,
        root=ROOT,
        search=partial(command_for, seconds=seconds) if seconds > 0 else None,
        real_seconds=seconds * _PATIENCE + 60,
        with_tests=options.tests,
    )
    results: list[Measured] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for measured in pool.map(work, chosen):
            results.append(measured)
            print(line(measured), flush=True)
            if options.json is not None:
                data = [asdict(each) for each in results]
                options.json.write_text(json.dumps(data, indent=2))
    print(figure(results))


if __name__ == "__main__":
    main()
