"""What every test shares: checked runtimes, how long hypothesis searches, and that nothing is skipped in CI."""

import os
from collections.abc import Generator

import hypothesis
import pytest

# Every runtime of every test checks its invariants (see actors._invariants); ASHTREE_DEBUG=0 turns it off.
os.environ.setdefault("ASHTREE_DEBUG", "1")

# Derandomized: a run without a change of code is the same run, so a red build is about the change.
hypothesis.settings.register_profile(
    "default", derandomize=True, max_examples=200, deadline=None, print_blob=True
)
# What `make test-deep` uses: other examples every time, and many more of them.
hypothesis.settings.register_profile(
    "deep",
    max_examples=10_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a test that was skipped into a failure where everything must run."""
    report = yield
    # An expected failure is reported as a skip too, and is none.
    if not hasattr(report, "wasxfail"):
        _fail_if_skipped_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a module that was skipped into an error where everything must run."""
    report = yield
    _fail_if_skipped_in_ci(report)
    return report


def _fail_if_skipped_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and os.environ.get("CI") == "true":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: nothing may be skipped under CI=true. {reason}"
