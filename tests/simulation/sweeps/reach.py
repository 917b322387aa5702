"""The share of the product's lines and branches that each sweep reaches, and the modules that no sweep reaches.

    reached = list(measured(SWEEPS, seeds=range(1, 3), jobs=2))
    print(share_of(reached))

Measuring makes a run several times slower. So only a few seeds of each sweep are measured, after the sweeps. Only lines
inside functions count, because an import runs the other lines.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from attrs import field, frozen
from coverage import Coverage
from coverage.parser import PythonParser

from supervision.laboratory.simulation.replaying.run_file import find_scenario
from supervision.laboratory.simulation.search.sweep import knobs_of
from supervision.laboratory.simulation.search.workers import Lost, in_workers
from supervision.laboratory.simulation.simulate import simulate
from tests.simulation.campaign import Sweep

__all__ = ["Reached", "Share", "measured", "modules", "share_of", "unreached"]

_ROOT = Path(__file__).parents[3]
_PACKAGES = ("actors", "supervision", "channels")
_REAL_SECONDS = 300.0  # the most real seconds for the seeds of one sweep

Lines = dict[str, list[int]]
Branches = dict[str, list[tuple[int, int]]]


@frozen
class Reached:
    """The lines and the branches that some runs reached, by the path of the module.

    Attributes:
        lines: the numbers of the lines.
        branches: the lines before and after each jump.
    """

    lines: Lines = field(factory=dict)
    branches: Branches = field(factory=dict)


@frozen
class Module:
    """The lines inside the functions of a module.

    Attributes:
        lines: the numbers of the lines with a statement.
        exits: for each line with a branch, the number of the lines that may follow.
    """

    lines: frozenset[int]
    exits: dict[int, int]


@frozen
class Share:
    """Shares of the product, from 0.0 to 1.0.

    Attributes:
        lines: the share of the lines.
        branches: the share of the branches.
    """

    lines: float
    branches: float


def measured(sweeps: Sequence[Sweep], seeds: Sequence[int], *, jobs: int) -> Iterator[Reached]:
    """Run some seeds of each sweep, and yield the lines that they reach, in the order of the sweeps."""
    for each in sweeps:
        # Import everything before the measurement. The workers inherit it.
        find_scenario(each.path)
    found = in_workers(
        lambda sweep: _measure(sweep, seeds),
        sweeps,
        Reached,
        jobs=jobs,
        real_seconds=_REAL_SECONDS,
        renew=1,
    )
    for reached in found:
        yield Reached() if isinstance(reached, Lost) else reached


def _measure(sweep: Sweep, seeds: Sequence[int]) -> Reached:
    scenario = find_scenario(sweep.path)
    coverage = _coverage()
    coverage.start()
    try:
        for seed in seeds:
            knobs = knobs_of(scenario, seed, None, swarm=True)
            simulate(scenario, seed, knobs=knobs, params=sweep.params)
    finally:
        coverage.stop()
    data, lines, branches = coverage.get_data(), Lines(), Branches()
    for file in data.measured_files():
        name = str(Path(file).relative_to(_ROOT))
        lines[name] = sorted(data.lines(file) or ())
        branches[name] = sorted(data.arcs(file) or ())
    return Reached(lines, branches)


def _coverage() -> Coverage:
    return Coverage(
        data_file=None,
        branch=True,
        config_file=False,
        include=[f"{_ROOT / package}/*" for package in _PACKAGES],
        messages=False,
    )


@cache
def modules() -> dict[str, Module]:
    """Return the modules of the product that have functions, by path."""
    found = {}
    for package in _PACKAGES:
        for path in sorted((_ROOT / package).rglob("*.py")):
            inside = _inside_functions(path)
            parser = PythonParser(filename=str(path))
            parser.parse_source()
            lines = frozenset(parser.statements) & inside
            exits = parser.exit_counts().items()
            if lines:
                found[str(path.relative_to(_ROOT))] = Module(
                    lines, {line: count for line, count in exits if count > 1 and line in inside}
                )
    return found


def _inside_functions(path: Path) -> frozenset[int]:
    functions = (
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return frozenset(
        line
        for function in functions
        for line in range(function.body[0].lineno, (function.end_lineno or 0) + 1)
    )


def share_of(some: Iterable[Reached]) -> Share:
    """Return the share of the product that these runs reached together."""
    some = list(some)
    lines = branches = 0
    for name, module in modules().items():
        lines += len(module.lines & _lines(name, some))
        taken = {jump for each in some for jump in map(tuple, each.branches.get(name, ()))}
        branches += sum(1 for before, _ in taken if before in module.exits)
    all_lines = sum(len(module.lines) for module in modules().values())
    all_branches = sum(sum(module.exits.values()) for module in modules().values())
    return Share(lines / all_lines, branches / all_branches)


def unreached(some: Sequence[Reached]) -> list[str]:
    """Return the paths of the modules of which these runs reached no line inside a function."""
    return [name for name, module in modules().items() if not module.lines & _lines(name, some)]


def _lines(name: str, some: Sequence[Reached]) -> set[int]:
    return {line for each in some for line in each.lines.get(name, ())}
