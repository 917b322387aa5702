"""The tables that say which test covers which case of Elixir's suites are true."""

from importlib import import_module
from pathlib import Path

import pytest

from tests.conformance.elixir.cases import FOLDER, Covered, NotPortable, table_problems

TABLES = sorted(path.stem for path in FOLDER.glob("*_cases.py") if path.stem != "test_cases")


@pytest.mark.parametrize("name", TABLES)
def test_every_case_is_covered_by_a_test_that_exists_or_says_why_not(name: str) -> None:
    table = import_module(f"tests.conformance.elixir.{name}")
    problems = table_problems(table.CASES, table.COUNTS)
    assert not problems, "\n".join(problems)


# The check itself, on tables that are not true.


def test_what_is_wrong_with_a_table_is_found(tmp_path: Path) -> None:
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
        "suite: renamed is said to be covered by test_it.py::test_three",
        "suite: no test is said to be covered by test_it.py::no",
        "suite: no file is said to be covered by test_other.py::test_one",
        "suite: no reason gives no reason",
    ]
