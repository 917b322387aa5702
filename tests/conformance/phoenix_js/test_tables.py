"""The table that says which test covers which of phoenix.js's own tests is true."""

from pathlib import Path

from tests.conformance.elixir.cases import Covered, table_problems
from tests.conformance.phoenix_js.client_cases import CASES, COUNTS, COVERED_AT_LEAST, TOTAL
from tests.outcomes import Outcomes


def test_every_case_is_covered_by_a_test_that_passed_or_gives_a_reason(outcomes: Outcomes) -> None:
    problems = table_problems(CASES, COUNTS, Path(__file__).parent, outcomes)
    assert not problems, "\n".join(problems)


def test_all_portable_cases_are_in_the_table_and_almost_all_are_covered() -> None:
    assert sum(COUNTS.values()) == TOTAL
    cases = [case for by_line in CASES.values() for case in by_line.values()]
    assert len(cases) == TOTAL
    assert sum(type(case) is Covered for case in cases) >= COVERED_AT_LEAST
