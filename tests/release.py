"""Check a release and build its files: `python -m tests.release`, which `make release` runs.

It refuses a version that pyproject.toml, CHANGELOG.md and the tag of the commit do not all name. It builds the wheel
and the source distribution twice, and refuses them if their bytes differ, because then nobody could check them.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def problems(settings: str, changelog: str, tags: list[str], changes: str) -> list[str]:
    """Return the reasons against a release, each with its correction. *pure*.

    Args:
        settings: the text of pyproject.toml.
        changelog: the text of CHANGELOG.md.
        tags: the tags of the current commit.
        changes: the output of `git status --porcelain`.
    """
    version = tomllib.loads(settings)["project"]["version"]
    heading = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    found = []
    if heading is None or heading[1] != version:
        newest = "no version" if heading is None else heading[1]
        found.append(
            f"CHANGELOG.md begins with {newest}, and pyproject.toml has {version}; write the heading "
            f"'## {version}' with the date"
        )
    if f"v{version}" not in tags:
        found.append(
            f"the commit has no tag v{version}; after the last commit, run `git tag v{version}`"
        )
    if changes.strip():
        found.append(f"these files are not committed; commit them first:\n{changes.rstrip()}")
    return found


def build(folder: Path) -> dict[str, str]:
    """Build the wheel and the source distribution in a folder, and return their SHA-256 by name."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=ROOT,
        # The time of the commit, and not of the build, so that the same commit gives the same bytes.
        env={**os.environ, "SOURCE_DATE_EPOCH": _git("log", "-1", "--format=%ct").strip()},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def main() -> int:
    """Return 0 if the files are in `dist/`."""
    found = problems(
        (ROOT / "pyproject.toml").read_text(),
        (ROOT / "CHANGELOG.md").read_text(),
        _git("tag", "--points-at", "HEAD").split(),
        _git("status", "--porcelain"),
    )
    if found:
        print("\n".join(f"No release: {each}" for each in found), file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as first:
        digests = build(Path(first))
    (ROOT / "dist").mkdir(exist_ok=True)
    for old in (ROOT / "dist").iterdir():
        old.unlink()
    if build(ROOT / "dist") != digests:
        print("No release: two builds of this commit have different bytes", file=sys.stderr)
        return 1
    print("\n".join(f"{digest}  dist/{name}" for name, digest in digests.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
