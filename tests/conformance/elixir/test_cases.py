"""Checks of the tables of tests that cover the cases of Elixir's suites."""

from importlib import import_module
from pathlib import Path
from typing import Literal

import pytest

from tests.conformance.elixir.cases import FOLDER, Covered, NotPortable, table_problems
from tests.outcomes import Outcomes, runs_last

TABLES = sorted(path.stem for path in FOLDER.glob("*_cases.py") if path.stem != "test_cases")


@pytest.mark.parametrize("name", TABLES)
def test_every_case_is_covered_by_a_test_that_passed_or_gives_a_reason(
    name: str, outcomes: Outcomes
) -> None:
    table = import_module(f"tests.conformance.elixir.{name}")
    problems = table_problems(table.CASES, table.COUNTS, outcomes=outcomes)
    assert not problems, "\n".join(problems)


# The check itself, on tables with mistakes.


def test_mistakes_in_a_table_are_found(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "def test_one(): ...\nasync def test_two(): ...\ndef no(): ..."
    )
    table: dict[str, dict[str, Covered | NotPortable]] = {
        "suite": {
            "right": Covered("test_it.py::test_one"),
            "right too": Covered("test_it.py::test_two"),
            "renamed": Covered("test_it.py::test_three"),
            "no test": Covered("test_it.py::no"),
            "no file": Covered("test_other.py::test_one"),
            "no reason": NotPortable("not portable"),
        },
    }
    assert table_problems(table, {"suite": 7, "other": 1}, tmp_path) == [
        "other is counted but not listed",
        "suite has 6 cases here and 7 there",
        "suite: renamed names test_it.py::test_three, which does not exist",
        "suite: no test names test_it.py::no, which does not exist",
        "suite: no file names test_other.py::test_one, which does not exist",
        "suite: no reason gives no reason",
    ]


def report(test: str, outcome: Literal["passed", "failed", "skipped"]) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=f"tests/conformance/elixir/{test}",
        location=("", 0, ""),
        keywords={},
        outcome=outcome,
        longrepr=None,
        when="call",
    )


def test_a_case_whose_test_failed_or_did_not_run_is_not_covered() -> None:
    names = ("first", "second", "third")
    outcomes = Outcomes()
    outcomes.collected = {f"tests/conformance/elixir/test_registry.py::test_{x}" for x in names}
    outcomes.pytest_runtest_logreport(report("test_registry.py::test_first[1]", "passed"))
    outcomes.pytest_runtest_logreport(report("test_registry.py::test_first[2]", "failed"))
    outcomes.pytest_runtest_logreport(report("test_registry.py::test_second", "passed"))
    problems = {x: outcomes.problem(FOLDER / "test_registry.py", f"test_{x}") for x in names}
    assert problems == {"first": "failed in this run", "second": None, "third": "has not run yet"}


def test_a_test_that_was_not_selected_counts() -> None:
    assert Outcomes().problem(FOLDER / "test_registry.py", "test_first") is None


def test_the_tables_are_checked_last(request: pytest.FixtureRequest) -> None:
    last = [runs_last(item) for item in request.session.items]
    assert last == sorted(last)
