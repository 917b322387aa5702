"""Plant a mutant in a copy of the repository, and search for it there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from tests.simulation.mutants.mutant import Mutant, OutdatedMutant, apply

__all__ = ["Measured", "copied", "finding", "measure"]

_FOLDERS = ("actors", "supervision", "channels", "examples", "tests")
_FILES = ("pyproject.toml", "Makefile")
_LINKS = ("docs", ".venv")

Search = Callable[[Mutant], Sequence[str]]
"""A function that returns the command that searches for a mutant. The command runs in the copy."""


@frozen(kw_only=True)
class Measured:
    """The result for one mutant.

    Attributes:
        mutant: The mutant.
        find: The result of the search, with the fields of `tests.simulation.mutants.search.Find`. None if the search
            found nothing.
        outdated: The reason why the mutant no longer applies to the code. None if it applies.
        tests_find: True if the unit tests of the area fail. None if they did not run.
    """

    mutant: Mutant
    find: dict[str, Any] | None = None
    outdated: str | None = None
    tests_find: bool | None = None


@contextmanager
def copied(root: Path) -> Iterator[Path]:
    """Copy the repository into a temporary folder, and yield the folder. Remove the folder after the block."""
    with tempfile.TemporaryDirectory(prefix="ashtree-mutant-") as name:
        tree = Path(name)
        for folder in _FOLDERS:
            if (root / folder).is_dir():
                # This also copies compiled modules. They stay valid, because the copies keep the times of the sources.
                shutil.copytree(
                    root / folder, tree / folder, ignore=shutil.ignore_patterns("node_modules")
                )
        for file in _FILES:
            if (root / file).is_file():
                shutil.copy2(root / file, tree / file)
        for link in _LINKS:
            if (root / link).exists():
                (tree / link).symlink_to((root / link).resolve())
        yield tree


def measure(
    mutant: Mutant,
    root: Path,
    search: Search | None,
    *,
    real_seconds: float,
    with_tests: bool = False,
) -> Measured:
    """Plant a mutant in a copy, run a search and the unit tests there, and return which of them find the mutant.

    Args:
        mutant: The mutant.
        root: The healthy repository.
        search: Returns the command of the search. None to run no search.
        real_seconds: The real seconds for the search. A search that takes longer counts as a find: a run that does not
            end.
        with_tests: Also run the unit tests of the area.
    """
    with copied(root) as tree:
        try:
            apply(mutant, tree)
        except OutdatedMutant as error:
            return Measured(mutant=mutant, outdated=str(error))
        tests_find = _tests_fail(mutant, tree) if with_tests else None
        find = None if search is None else _found(search(mutant), tree, real_seconds)
        return Measured(mutant=mutant, find=find, tests_find=tests_find)


def _found(command: Sequence[str], tree: Path, real_seconds: float) -> dict[str, Any] | None:
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env=_environment(tree),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=real_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
        return finding(
            said.decode() if isinstance(said, bytes) else said, f"none in {real_seconds:g} s"
        )
    return finding(done.stdout, f"exit code {done.returncode}")


def finding(said: str, otherwise: str) -> dict[str, Any] | None:
    """Return the find in the output of a search. Return None if the search ended without a find.

    Args:
        said: The output.
        otherwise: The description of the problem if the output has no result. In this case the last run in the output
            counts as the find.
    """
    last: dict[str, Any] = {}
    for line in said.splitlines():
        if not line.startswith("{"):
            continue
        try:
            last = json.loads(line)
        except ValueError:
            continue
        if "find" in last:
            find: dict[str, Any] | None = last["find"]
            return find
    return {"failure": "the search did not end", "problem": otherwise, **last}


def _tests_fail(mutant: Mutant, tree: Path) -> bool:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests]
    done = subprocess.run(
        command, cwd=tree, env=_environment(tree), capture_output=True, check=False
    )
    return done.returncode != 0


def _environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
