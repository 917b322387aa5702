"""Checks of the tables of tests that cover the cases of OTP's suites."""

from importlib import import_module
from pathlib import Path

import pytest

from tests.conformance.elixir.cases import Cases, Covered, table_problems
from tests.conformance.otp_suites.portable import (
    COVERED_AT_LEAST,
    PORTABLE,
    PORTABLE_COUNTS,
    PORTABLE_TOTAL,
    TOTAL,
)
from tests.outcomes import Outcomes

FOLDER = Path(__file__).parent
TABLES = sorted(path.stem for path in FOLDER.glob("*_cases.py"))


def all_cases() -> Cases:
    cases: Cases = {}
    for name in TABLES:
        cases |= import_module(f"tests.conformance.otp_suites.{name}").CASES
    return cases


def uncovered(cases: Cases, portable: dict[str, str]) -> list[str]:
    """Return the portable cases that no test covers, those that are in no table included."""
    return [
        f"{suite}: {name}"
        for suite, names in portable.items()
        for name in names.split()
        if not isinstance(cases.get(suite, {}).get(name), Covered)
    ]


@pytest.mark.parametrize("name", TABLES)
def test_every_case_is_covered_by_a_test_that_passed_or_gives_a_reason(
    name: str, outcomes: Outcomes
) -> None:
    table = import_module(f"tests.conformance.otp_suites.{name}")
    problems = table_problems(table.CASES, table.COUNTS, FOLDER, outcomes)
    assert not problems, "\n".join(problems)


def test_every_suite_has_a_table_with_every_case() -> None:
    cases = all_cases()
    assert set(cases) == set(PORTABLE_COUNTS)
    assert sum(len(by_name) for by_name in cases.values()) == TOTAL


def test_all_portable_cases_are_in_the_tables() -> None:
    cases = all_cases()
    for suite, names in PORTABLE.items():
        assert set(names.split()) <= set(cases[suite])
    counts = {suite: len(set(names.split())) for suite, names in PORTABLE.items()}
    assert counts == PORTABLE_COUNTS
    assert sum(counts.values()) == PORTABLE_TOTAL


def test_nearly_all_portable_cases_are_covered() -> None:
    missing = uncovered(all_cases(), PORTABLE)
    assert PORTABLE_TOTAL - len(missing) >= COVERED_AT_LEAST, "\n".join(missing)


def test_a_case_without_a_test_or_a_table_is_found() -> None:
    cases: Cases = {"suite": {"covered": Covered("test_it.py::test_it")}}
    portable = {"suite": "covered forgotten", "other": "unknown"}
    assert uncovered(cases, portable) == ["suite: forgotten", "other: unknown"]
