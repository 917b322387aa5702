"""The tables that say which test covers which case of Phoenix's own tests are true."""

from importlib import import_module
from pathlib import Path

import pytest

from tests.conformance.elixir.cases import Cases, Covered, NotPortable, table_problems
from tests.conformance.phoenix.portable import COVERED_AT_LEAST, PORTABLE, PORTABLE_TOTAL, TOTAL
from tests.outcomes import Outcomes

FOLDER = Path(__file__).parent
TABLES = sorted(path.stem for path in FOLDER.glob("*_cases.py"))


def all_cases() -> Cases:
    cases: Cases = {}
    for name in TABLES:
        cases |= import_module(f"tests.conformance.phoenix.{name}").CASES
    return cases


def line_of(case: str) -> str:
    return case.partition(" ")[0]


@pytest.mark.parametrize("name", TABLES)
def test_every_case_is_covered_by_a_test_that_passed_or_gives_a_reason(
    name: str, outcomes: Outcomes
) -> None:
    table = import_module(f"tests.conformance.phoenix.{name}")
    problems = table_problems(table.CASES, table.COUNTS, FOLDER, outcomes)
    assert not problems, "\n".join(problems)


def test_every_portable_case_is_in_a_table_and_all_are_as_many_as_there_are() -> None:
    cases = all_cases()
    assert sum(len(by_name) for by_name in cases.values()) == TOTAL
    for suite, lines in PORTABLE.items():
        assert set(lines.split()) <= {line_of(case) for case in cases[suite]}
    assert sum(len(lines.split()) for lines in PORTABLE.values()) == PORTABLE_TOTAL


def test_all_are_covered_but_what_has_no_use_here() -> None:
    cases = all_cases()
    covered = [case for each in cases.values() for case in each.values() if type(case) is Covered]
    assert len(covered) >= COVERED_AT_LEAST
    left_out = {
        suite: [name for name in lines.split() if type(by_line(cases[suite])[name]) is not Covered]
        for suite, lines in PORTABLE.items()
    }
    of_pubsub = [name for suite, names in left_out.items() if "pubsub" in suite for name in names]
    assert (sum(map(len, left_out.values())) - len(of_pubsub), len(of_pubsub)) == (5, 8)


def by_line(cases: dict[str, Covered | NotPortable]) -> dict[str, Covered | NotPortable]:
    return {line_of(name): case for name, case in cases.items()}
