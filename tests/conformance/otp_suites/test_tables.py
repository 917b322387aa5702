"""The tables that say which test covers which case of OTP's suites are true."""

from importlib import import_module
from pathlib import Path

import pytest

from tests.conformance.elixir.cases import table_problems

FOLDER = Path(__file__).parent
TABLES = sorted(path.stem for path in FOLDER.glob("*_cases.py"))


def test_there_are_tables() -> None:
    assert "supervisor_cases" in TABLES


@pytest.mark.parametrize("name", TABLES)
def test_every_case_is_covered_by_a_test_that_exists_or_says_why_not(name: str) -> None:
    table = import_module(f"tests.conformance.otp_suites.{name}")
    problems = table_problems(table.CASES, table.COUNTS, FOLDER)
    assert not problems, "\n".join(problems)
