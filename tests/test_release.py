"""The checks before a release."""

from __future__ import annotations

from tests.release import problems

SETTINGS = '[project]\nversion = "0.2.0"\n'


def test_a_version_that_changelog_and_tag_name_can_be_released() -> None:
    assert problems(SETTINGS, "# Changelog\n\n## 0.2.0 (2027-01-02)\n", ["v0.2.0"], "") == []


def test_a_release_without_changelog_tag_or_commit_is_refused_with_each_reason() -> None:
    found = problems(SETTINGS, "# Changelog\n\n## Unreleased\n", ["v0.1.0"], " M README.md\n")
    assert [each.partition(";")[0] for each in found] == [
        "CHANGELOG.md begins with Unreleased, and pyproject.toml has 0.2.0",
        "the commit has no tag v0.2.0",
        "these files are not committed",
    ]
