"""The outcomes of the tests of this run, for tests that are about other tests."""

from __future__ import annotations

from pathlib import Path

import pytest

__all__ = ["Outcomes", "runs_last"]

ROOT = Path(__file__).parents[1]

_LAST = ("tests/conformance/",)
_LAST_MODULES = ("test_tables.py", "test_cases.py")


def runs_last(item: pytest.Item) -> bool:
    """Return True if a test reads the outcomes of others, and must therefore run after them."""
    return item.nodeid.startswith(_LAST) and item.path.name in _LAST_MODULES


class Outcomes:
    """A pytest plugin that notes which tests run, and which of them pass.

    All cases of a parametrized test are one test here.
    """

    def __init__(self) -> None:
        self.collected: set[str] = set()
        self.finished: set[str] = set()
        self.not_passed: set[str] = set()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note the tests that are about to run."""
        self.collected = {_name(item.nodeid) for item in session.items}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the outcome of one phase of a test."""
        # A skip in the set-up has no call.
        if report.when == "call" or report.skipped:
            self.finished.add(_name(report.nodeid))
        if report.failed:
            self.not_passed.add(_name(report.nodeid))

    def problem(self, file: Path, name: str) -> str | None:
        """Return why a test does not count as passed, or None.

        A test that was not selected for this run counts, and so does one that this machine has to skip: with
        `CI=true` a skip is a failure.
        """
        test = f"{file.resolve().relative_to(ROOT)}::{name}"
        if test in self.not_passed:
            return "failed in this run"
        if test in self.collected and test not in self.finished:
            return "has not run yet"
        return None


def _name(nodeid: str) -> str:
    return nodeid.partition("[")[0]
