"""The repository has its required files, and names no machine, no registry and no unfinished work."""

import re
import subprocess

import pytest

from tests.architecture.sources import ROOT, report

TOP_LEVEL = {
    *("actors", "channels", "docs", "examples", "supervision", "tests"),
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "pyproject.toml"),
}

FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.~-])/(?:root|work|home/\w+|Users/\w+)/"),
    "a host that serves packages": re.compile(
        r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|crates\.io|proxy\.golang\.org"
        r"|(?:deb|security|archive|snapshot)\.(?:debian\.org|ubuntu\.com)"
        # The only exception is the published phoenix.js, for users without npm. The browser checks its hash.
        r"|unpkg\.com|jsdelivr\.net(?!/npm/phoenix@)|cdnjs\.|esm\.sh"
    ),
    # In brackets, so that this file does not hold what it looks for.
    "a note of something undone": re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X])\b"),
}
"""Content that no tracked file may hold: its name, and the pattern that finds it."""


def findings(path: str, text: str) -> list[str]:
    """The lines of a file that hold something forbidden."""
    return [
        f"{path}:{number} holds {what}: {match[0]}"
        for number, line in enumerate(text.splitlines(), 1)
        for what, pattern in FORBIDDEN.items()
        if (match := pattern.search(line))
    ]


@pytest.fixture(scope="module", name="tracked")
def list_tracked_files() -> list[str]:
    command = ["git", "ls-files", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for path in listing.split("\0") if (ROOT / path).is_file()]


def test_no_file_names_a_machine_a_registry_or_something_undone(tracked: list[str]) -> None:
    assert "pyproject.toml" in tracked
    texts = {path: (ROOT / path).read_text(errors="ignore") for path in tracked}
    report([found for path, text in texts.items() for found in findings(path, text)])


def test_the_top_level_holds_what_it_should(tracked: list[str]) -> None:
    found = {path.partition("/")[0] for path in tracked}
    report(sorted(name for name in found - TOP_LEVEL if not name.startswith(".")))


# The check itself, on samples that break each rule.


@pytest.mark.parametrize(
    "line",
    [
        "open('/ro|ot/x')",
        "cd /ho|me/ada/ashtree",
        "see /wo|rk/main",
        "https://registry.npm|js.org",
        "https://files.python|hosted.org",
        "https://unp|kg.com/phoenix",
        "https://cdn.jsdel|ivr.net/npm/react@1/react.js",
        "# TO|DO: later",
        "XX|X",
    ],
)
def test_a_forbidden_line_is_found(line: str) -> None:
    line = line.replace("|", "")  # which keeps this file itself free of it
    assert len(findings("a.md", f"fine\n{line}\n")) == 1


@pytest.mark.parametrize(
    "line", ["https://example.com/work/a", "./root/a", "framework/x", "XXL", "MASTODON", "/tmp/x"]
)
def test_a_harmless_line_is_not(line: str) -> None:
    assert findings("a.md", line) == []
