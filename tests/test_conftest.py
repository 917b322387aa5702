"""Under CI=true a skip, wherever it is said, is a failure; elsewhere it stays a skip."""

from pathlib import Path

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
