"""Every block of code that a document shows runs, or is an excerpt of a file that does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.programs import Programs
from tests.architecture.snippets import Snippet, snippet_problem, snippets_in
from tests.architecture.sources import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SNIPPETS = [
    snippet
    for path in DOCUMENTS
    for snippet in snippets_in(path.relative_to(ROOT).as_posix(), path.read_text())
]


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    # Each run of pytest imports Hypothesis, which has a plugin for pytest.
    with Programs("hypothesis") as programs:
        yield programs


@pytest.mark.parametrize("snippet", SNIPPETS, ids=[snippet.place for snippet in SNIPPETS])
def test_a_snippet_keeps_its_promise(snippet: Snippet, programs: Programs, tmp_path: Path) -> None:
    problem = snippet_problem(snippet, tmp_path, programs)
    assert problem is None, problem


# The check itself, on samples that break each rule.


def python(code: str) -> Snippet:
    return Snippet("a.md:1", "python", code)


def test_blocks_are_found_with_their_place_and_without_their_indentation() -> None:
    text = "A\n```python\nx = 1\n\n```\n- B\n  ````text\n  ```\n    y\n  ````"
    assert snippets_in("a.md", text) == [
        Snippet("a.md:2", "python", "x = 1\n"),
        Snippet("a.md:7", "text", "```\n  y"),
    ]


def test_a_program_knows_the_output_that_stands_behind_it() -> None:
    text = "```python\nprint(1)\n```\nprints\n```output\n1\n```\n```python\nprint(2)\n```"
    assert [snippet.output for snippet in snippets_in("a.md", text)] == ["1", None, None]


def test_output_behind_anything_but_a_program_is_found(programs: Programs, tmp_path: Path) -> None:
    problem = snippet_problem(Snippet("a.md:1", "text", "x", output="1"), tmp_path, programs)
    assert problem is not None
    assert "is no program" in problem


@pytest.mark.parametrize(("output", "fine"), [("1\n2", True), ("1", False), ("1\n2 ", False)])
def test_the_output_of_a_program_must_be_equal(
    output: str, fine: bool, programs: Programs, tmp_path: Path
) -> None:
    code = "import sys\nprint(1)\nprint(2)\nprint('a log line', file=sys.stderr)"
    problem = snippet_problem(Snippet("a.md:1", "python", code, output=output), tmp_path, programs)
    assert (problem is None) is fine


def test_a_fence_that_is_never_closed_is_found() -> None:
    with pytest.raises(ValueError, match=r"a\.md:3 opens a fence"):
        snippets_in("a.md", "A\n\n```python\nx = 1\n")


@pytest.mark.parametrize("language", ["", "py", "python notest", "Python", "bash"])
def test_a_language_that_would_not_be_run_is_found(
    language: str, programs: Programs, tmp_path: Path
) -> None:
    problem = snippet_problem(Snippet("a.md:1", language, "1 / 0"), tmp_path, programs)
    assert problem is not None
    assert "use one of" in problem


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import warnings\nwarnings.warn('old', DeprecationWarning)", "DeprecationWarning: old"),
        ("def test_a():\n    assert 1 == 2", "assert 1 == 2"),
        ("async def test_a():\n    import trio\n    await trio.sleep('x')", "TypeError"),
        ("# examples/no_such_file.py\nx = 1", "does not exist"),
        ("# tests/architecture/sources.py\nROOT = 1", "differs from"),
    ],
)
def test_a_block_that_does_not_keep_its_promise_is_found(
    code: str, what: str, programs: Programs, tmp_path: Path
) -> None:
    problem = snippet_problem(python(code), tmp_path, programs)
    assert problem is not None
    assert what in problem


@pytest.mark.parametrize(
    ("language", "code"), [("json", "{'a': 1}"), ("toml", "a = "), ("typescript", "const a = 1")]
)
def test_data_that_cannot_be_read_and_typescript_that_no_test_compiles_are_found(
    language: str, code: str, programs: Programs, tmp_path: Path
) -> None:
    assert snippet_problem(Snippet("a.md:1", language, code), tmp_path, programs) is not None


def test_a_program_that_does_not_end_is_found(programs: Programs, tmp_path: Path) -> None:
    endless = python("import time\ntime.sleep(3600)")
    problem = snippet_problem(endless, tmp_path, programs, time_limit=0.5)
    assert problem == "a.md:1 did not end within 0.5 seconds"


@pytest.mark.parametrize(
    "code",
    [
        "# The smallest program\nimport trio\ntrio.run(trio.lowlevel.checkpoint)",
        "import trio\nasync def test_a(autojump_clock):\n    await trio.sleep(3600)",
        "# tests/architecture/sources.py\nPACKAGES = LAYERS[:3]\n",
    ],
)
def test_a_block_that_keeps_its_promise_is_fine(
    code: str, programs: Programs, tmp_path: Path
) -> None:
    assert snippet_problem(python(code), tmp_path, programs) is None
