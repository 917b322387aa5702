"""What every test shares: checked runtimes, hypothesis profiles, the order of tests, and that CI skips nothing."""

import os
import random
from collections.abc import Generator

import hypothesis
import pytest

# Every runtime of every test checks its invariants (see actors._kernel.checks); ASHTREE_DEBUG=0 turns it off.
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


def pytest_report_header() -> list[str]:
    """Name the seed of the order, to see the same order again."""
    seed = os.environ.get("TEST_ORDER_SEED")
    return [f"order of the tests: TEST_ORDER_SEED={seed}"] if seed else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shuffle the tests, if the environment has a seed for it: no test may need another one to run before it.

    Modules are shuffled, and the tests of each module. They are not mixed: what a module serves is started once.
    """
    seed = os.environ.get("TEST_ORDER_SEED")
    if seed:
        chance = random.Random(seed)
        chances = {item.path: chance.random() for item in items}
        chance.shuffle(items)
        items.sort(key=lambda item: chances[item.path])


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
