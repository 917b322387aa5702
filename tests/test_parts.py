"""`python -m tests`: every file of tests is in one part, and a failure is shown and counted."""

from pathlib import Path

import pytest

from tests.__main__ import ROOT, Part, Run, number_in, parts, parts_without_integration


def selects(part: Part, file: str) -> bool:
    """Return True if pytest collects the file in a part."""
    arguments = [each for each in part.arguments if "/" in each]
    ignored = [each.removeprefix("--ignore=") for each in arguments if each.startswith("--ignore=")]
    if ignored:
        return not any(file.startswith(f"{folder}/") for folder in ignored)
    return any(file == each or file.startswith(f"{each}/") for each in arguments)


def test_every_file_of_tests_is_in_one_part() -> None:
    files = [
        path.relative_to(ROOT).as_posix()
        for folder in ("tests", "examples")
        for path in (ROOT / folder).rglob("test_*.py")
        if "node_modules" not in path.parts
    ]
    assert len(files) > 100
    runs = [part for part in parts() if part.arguments[0] == "pytest"]
    chosen = {file: [part.name for part in runs if selects(part, file)] for file in files}
    assert {file: names for file, names in chosen.items() if len(names) != 1} == {}


def test_a_run_without_integration_has_all_other_tests() -> None:
    chosen = parts_without_integration()
    assert [part.name for part in parts() if part not in chosen] == [
        "tests/integration, 1 of 4",
        "tests/integration, 2 of 4",
        "tests/integration, 3 of 4",
        "tests/integration, 4 of 4",
        "types",
    ]
    assert len(chosen) == 6


def test_a_failed_part_is_shown_in_full_and_makes_the_run_fail(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = Run(tmp_path)
    run.do(Part("works", ("platform",)))
    assert run.failed == []
    assert "works: " in capsys.readouterr().out
    run.do(Part("breaks", ("no_such_module",)))
    assert run.failed == ["breaks"]
    shown = capsys.readouterr().out
    assert "breaks FAILED with the exit code 1:" in shown
    assert "No module named no_such_module" in shown
    assert run.summary().startswith("failed: breaks. ")


def test_the_runs_of_pytest_have_temporary_folders_of_their_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # Each run leaves a test's folder behind, and the other one does not delete it.
    test = tmp_path / "test_a.py"
    test.write_text("def test_a(tmp_path): pass")
    run = Run(tmp_path)
    for name in ("one / of two", "two of two"):
        run.do(Part.of_tests(name, "-p", "no:cacheprovider", str(test)))
    assert run.passed == 2, capsys.readouterr().out
    assert {each.name for each in tmp_path.iterdir()} >= {"one-of-two", "two-of-two"}


def test_the_summary_adds_the_numbers_of_all_parts(tmp_path: Path) -> None:
    run = Run(tmp_path, passed=1200, only_deep=30)
    assert run.summary().startswith("all parts passed. 1,200 tests passed in ")
    assert run.summary().endswith("; 30 more run only in `make test-deep`.")
    output = "2 failed, 17 passed, 3 deselected in 5.00s"
    assert (number_in(r"(\d+) passed", output), number_in(r"(\d+) passed", "no tests")) == (17, 0)
