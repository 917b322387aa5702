"""Tables of the tests that cover the cases of Elixir's suites, and their check.

A module `..._cases.py` of this folder has two tables. `CASES` has the cases of each suite, `"file group"`, by name,
each with a `Covered` or a `NotPortable`. `COUNTS` has the number of cases of each suite.
"""

import ast
from functools import cache
from pathlib import Path
from typing import TypeAlias

from attrs import frozen

from tests.outcomes import Outcomes

FOLDER = Path(__file__).parent


@frozen
class Covered:
    """A case with a test of this folder, such as `test_registry.py::test_the_same_key_has_one_lock`."""

    test: str


@frozen
class NotPortable:
    """A case without a counterpart here; `reason` gives the cause."""

    reason: str


class Missing(NotPortable):
    """A case that no test covers yet; `reason` gives the cause."""


Cases: TypeAlias = dict[str, dict[str, Covered | NotPortable]]


def table_problems(
    cases: Cases,
    counts: dict[str, int],
    folder: Path = FOLDER,
    outcomes: Outcomes | None = None,
) -> list[str]:
    """Return the mistakes of a table: a test that does not exist or failed, a missing reason, a wrong number.

    Args:
        cases: The table.
        counts: The number of cases of each suite.
        folder: The folder of the tests.
        outcomes: The outcomes of this run; None checks only that the tests exist.
    """
    problems = [f"{suite} is counted but not listed" for suite in counts if suite not in cases]
    for suite, by_name in cases.items():
        if len(by_name) != counts.get(suite):
            problems.append(f"{suite} has {len(by_name)} cases here and {counts.get(suite)} there")
        for name, case in by_name.items():
            if isinstance(case, NotPortable):
                if len(case.reason.split()) < 4:
                    problems.append(f"{suite}: {name} gives no reason")
            elif not _exists(case.test, folder):
                problems.append(f"{suite}: {name} names {case.test}, which does not exist")
            elif outcomes is not None and (why := _why_not(case.test, folder, outcomes)):
                problems.append(f"{suite}: {name} is covered by {case.test}, which {why}")
    return problems


def _why_not(test: str, folder: Path, outcomes: Outcomes) -> str | None:
    file, _, name = test.partition("::")
    return outcomes.problem(folder / file, name)


def _exists(test: str, folder: Path) -> bool:
    file, _, name = test.partition("::")
    return name.startswith("test_") and name in _functions_of(folder / file)


@cache
def _functions_of(path: Path) -> frozenset[str]:
    """Return the names of the functions of a module; a table names the same module many times."""
    if not path.is_file():
        return frozenset()
    return frozenset(
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
