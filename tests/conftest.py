"""Shared fixtures and hooks: checked runtimes, profiles, the order of tests, and no skips in CI."""

import gc
import os
import random
import signal
from collections.abc import Generator

import hypothesis
import pytest

from tests.outcomes import Outcomes, runs_last

# Every runtime of every test checks its invariants (see actors._checks); ASHTREE_DEBUG=0 turns it off.
os.environ.setdefault("ASHTREE_DEBUG", "1")

# A shell makes background programs ignore Ctrl-C. The tests and their programs would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Derandomized: a run without a change of code is the same run, so a red build is about the change.
hypothesis.settings.register_profile(
    "default", derandomize=True, max_examples=30, deadline=None, print_blob=True
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


# These tests need nginx and Caddy, and take minutes: `make test-proxies`. Those need packages of others, and are run by
# `make test-clients`.
collect_ignore = [
    folder for folder in ("proxies", "clients") if not os.environ.get(f"ASHTREE_{folder.upper()}")
]

# Almost all that importing the tests creates lives until the end. Looking for garbage there would take a third of the
# time. `pytest_collection_finish` turns the collector on again.
gc.disable()

_OUTCOMES = pytest.StashKey[Outcomes]()
_ONLY_DEEP = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Note the outcomes of all tests, for the tests that ask for `outcomes`."""
    config.stash[_OUTCOMES] = outcomes = Outcomes()
    config.pluginmanager.register(outcomes)
    config.addinivalue_line(
        "markers",
        "deep: runs in `make test-deep` only, because a cheaper test shows almost as much",
    )


@pytest.fixture
def outcomes(pytestconfig: pytest.Config) -> Outcomes:
    """The outcomes of the tests that have run so far."""
    return pytestconfig.stash[_OUTCOMES]


def pytest_report_header() -> list[str]:
    """Name the seed of the order, to see the same order again."""
    seed = os.environ.get("TEST_ORDER_SEED")
    return [f"order of the tests: TEST_ORDER_SEED={seed}"] if seed else []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the deep tests to the deep profile, and put the others in order."""
    if os.environ.get("HYPOTHESIS_PROFILE") != "deep":
        only_deep = [item for item in items if item.get_closest_marker("deep")]
        if only_deep:
            items[:] = [item for item in items if not item.get_closest_marker("deep")]
            config.hook.pytest_deselected(items=only_deep)
        config.stash[_ONLY_DEEP] = len(only_deep)
    _order(items)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how many tests were left to the deep profile."""
    if count := config.stash.get(_ONLY_DEEP, 0):
        terminalreporter.write_line(f"{count} more tests run only in `make test-deep`")


def pytest_collection_finish() -> None:
    """Take all that exists before the first test out of the garbage collector's work.

    A collection then takes milliseconds instead of a quarter of a second, and many tests collect.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


def _order(items: list[pytest.Item]) -> None:
    """Shuffle the tests if TEST_ORDER_SEED is set: no test may need another one to run before it.

    The modules are shuffled, and the tests within each module. Modules are not mixed, because a module starts what its
    tests share only once. Tests about the outcomes of other tests run last.
    """
    seed = os.environ.get("TEST_ORDER_SEED")
    if seed:
        chance = random.Random(seed)
        chances = {item.path: chance.random() for item in items}
        chance.shuffle(items)
        items.sort(key=lambda item: chances[item.path])
    items.sort(key=runs_last)


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
