"""The corpus: a folder with the run files of failures. Later sweeps replay them first.

    corpus = Corpus(Path(".ashtree/corpus"))
    corpus.keep(run)                                     # one file for each kind of failure of a scenario
    for again in corpus.replayed("shop:opening_day", jobs=0):
        print(again.path, again.status)                  # fails, fixed or changed

Runs that fail alike share one file. The name of the file contains the scenario, the failure and the seed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from attrs import frozen

from supervision.laboratory.simulation.errors import RunFileError
from supervision.laboratory.simulation.outcome import identify, problem_of
from supervision.laboratory.simulation.replaying.run_file import (
    RunFile,
    find_scenario,
    load_run,
    run_again,
    write_run,
)
from supervision.laboratory.simulation.search.workers import Lost, in_workers

__all__ = ["DEFAULT_CORPUS", "Corpus", "Replayed", "Status"]

DEFAULT_CORPUS = Path(".ashtree/corpus")

_RENEW = 50  # runs after which a worker is replaced

Status: TypeAlias = Literal["fails", "fixed", "changed"]


@frozen(kw_only=True)
class Replayed:
    """The result of replaying a run of the corpus.

    Attributes:
        path: the run file.
        run: the content of the file.
        status: "fails" if the run fails as before; "fixed" if it passes; "changed" if it fails in another way.
        exact: True if the run is the same, byte for byte.
        problem: the failure of this replay; None if it passed.
    """

    path: Path
    run: RunFile
    status: Status
    exact: bool
    problem: str | None


class Corpus:
    """The run files of a folder. The first failure creates the folder."""

    def __init__(self, folder: Path = DEFAULT_CORPUS) -> None:
        self.folder = folder

    def entries(self, scenario: str | None = None) -> list[tuple[Path, RunFile]]:
        """Return the files of one scenario or of all, in the order of their names.

        Args:
            scenario: the scenario, as `module:function`; None takes all.

        Raises:
            RunFileError: a file in the folder is not a run file.
        """
        found = [(path, load_run(path)) for path in sorted(self.folder.glob("*.json"))]
        return [(path, run) for path, run in found if scenario in (None, run.scenario)]

    def find(self, scenario: str, failure: str, *, stale: Collection[Path] = ()) -> Path | None:
        """Return the first file that has this kind of failure and is not in `stale`; None if there is no such file.

        Args:
            scenario: the scenario, as `module:function`.
            failure: the name of the failure.
            stale: the files to leave out.
        """
        for path, run in self.entries(scenario):
            if run.failure == failure and path not in stale:
                return path
        return None

    def keep(self, run: RunFile, *, stale: Collection[Path] = ()) -> Path:
        """Return the path of the file for this kind of failure. Write the file if the corpus has none.

        Args:
            run: the failed run.
            stale: files to ignore, because their runs no longer fail in the same way.

        Raises:
            ValueError: the run passed.
            RunFileError: another file in the folder is not a run file, or the file cannot be written.
        """
        if run.failure is None:
            raise ValueError(
                f"the run of {run.scenario} with seed {run.seed} passed, and a corpus contains only failures; use "
                "save_run"
            )
        known = self.find(run.scenario, run.failure, stale=stale)
        if known is not None:
            return known
        path = self.folder / f"{_slug(run.scenario)}--{_slug(run.failure)}--{run.seed}.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_run(run, path)
        except OSError as error:
            raise RunFileError(
                f"{path} cannot be written: {error.strerror or error}; name another folder for the corpus"
            ) from error
        return path

    def replayed(
        self, scenario: str, *, jobs: int = 1, real_seconds: float = 60.0
    ) -> Iterator[Replayed]:
        """Replay every file of a scenario.

        Args:
            scenario: `module:function`.
            jobs: the number of processes; 0 replays the runs in this process, without a limit.
            real_seconds: the real seconds that a run may take.

        Returns:
            An iterator over the results, one for each file. It replays while the caller iterates.

        Raises:
            RunFileError: a file is not a run file, or its scenario does not exist.
        """
        entries = self.entries(scenario)
        if entries:
            find_scenario(scenario)
        runs = [run for _, run in entries]
        answers = in_workers(_again, runs, _Now, jobs=jobs, real_seconds=real_seconds, renew=_RENEW)
        for (path, run), answer in zip(entries, answers, strict=True):
            now = answer
            if isinstance(now, Lost):
                now = _Now(failure=now.kind, problem=now.why)
            yield Replayed(
                path=path,
                run=run,
                status=_status(run.failure, now.failure),
                exact=now.exact,
                problem=now.problem,
            )


@frozen(kw_only=True)
class _Now:
    failure: str | None
    problem: str | None
    exact: bool = False


def _again(run: RunFile) -> _Now:
    outcome = run_again(run)
    error = outcome.error
    return _Now(
        failure=identify(error),
        problem=None if error is None else problem_of(error),
        exact=(outcome.digest, outcome.steps_digest) == (run.digest, run.steps_digest),
    )


def _status(then: str | None, now: str | None) -> Status:
    if now is None:
        return "fixed"
    return "fails" if now == then else "changed"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")[:80] or "run"
