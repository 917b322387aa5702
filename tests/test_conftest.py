"""With CI=true, every skip is a failure. Deep tests run in their profile. The order of tests has a seed."""

from pathlib import Path

import hypothesis
import pytest

CONFTEST = Path(__file__).with_name("conftest.py")

SKIPS = {
    "by_mark": "@pytest.mark.skip(reason='no browser')\ndef test_a(): ...",
    "in_the_body": "def test_a():\n    pytest.skip('no browser')",
    "in_a_fixture": (
        "@pytest.fixture\ndef browser():\n    pytest.skip('no browser')\ndef test_a(browser): ..."
    ),
    "at_import": "pytest.skip('no browser', allow_module_level=True)",
    "for_want_of_a_module": "pytest.importorskip('no_such_module', reason='no browser')",
}


@pytest.fixture(params=list(SKIPS))
def suite_with_a_skip(request: pytest.FixtureRequest, pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile(f"import pytest\n{SKIPS[request.param]}")
    return pytester


def test_a_skip_fails_under_ci_and_says_why(
    suite_with_a_skip: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    result = suite_with_a_skip.runpytest()
    assert result.ret in {pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED}
    result.stdout.fnmatch_lines(["*nothing may be skipped under CI=true*no browser*"])


def test_a_skip_stays_a_skip_elsewhere(
    suite_with_a_skip: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    result = suite_with_a_skip.runpytest()
    assert result.parseoutcomes() == {"skipped": 1}


def test_an_expected_failure_is_not_a_skip(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile("import pytest\n@pytest.mark.xfail\ndef test_a():\n    assert False")
    assert pytester.runpytest().parseoutcomes() == {"xfailed": 1}


@pytest.mark.parametrize(("profile", "ran"), [("default", 1), ("deep", 3)])
def test_deep_tests_run_in_the_deep_profile_and_are_counted_elsewhere(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, profile: str, ran: int
) -> None:
    monkeypatch.setenv("HYPOTHESIS_PROFILE", profile)
    ours = hypothesis.settings.get_current_profile_name()
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile(
        "import pytest\n@pytest.mark.deep\n@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_a(n): ...\ndef test_b(): ..."
    )
    try:
        result = pytester.runpytest()
    finally:
        hypothesis.settings.load_profile(ours)
    result.assert_outcomes(passed=ran, deselected=3 - ran)
    said = "2 more tests run only in `make test-deep`" in result.stdout.str()
    assert said == (profile == "default")


def order_of_tests(pytester: pytest.Pytester) -> list[tuple[str, str]]:
    """The module and the name of each test, in the order in which they run."""
    items = pytester.inline_run().getcalls("pytest_runtest_setup")
    return [(call.item.path.name, call.item.name) for call in items]


@pytest.fixture
def suite_of_two_modules(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST.read_text())
    tests = "".join(f"def test_{number}(): ...\n" for number in range(10))
    pytester.makepyfile(test_a=tests, test_b=tests)
    return pytester


def test_tests_run_in_the_order_in_which_they_are_written(
    suite_of_two_modules: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_ORDER_SEED", raising=False)
    order = order_of_tests(suite_of_two_modules)
    assert order == [(f"test_{m}.py", f"test_{n}") for m in "ab" for n in range(10)]


def test_a_seed_shuffles_modules_and_the_tests_of_each_always_in_the_same_way(
    suite_of_two_modules: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = []
    for seed in "1123456":
        monkeypatch.setenv("TEST_ORDER_SEED", seed)
        orders.append(order_of_tests(suite_of_two_modules))
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 6
    assert {order[0][0] for order in orders} == {"test_a.py", "test_b.py"}
    for order in orders:
        assert len({module for module, _ in order[:10]}) == 1, "modules are not mixed"
