"""The examination of failures: shrink each kind, tell its story, and keep it in the corpus."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import partial
from pathlib import Path

from attrs import frozen

from supervision.laboratory.simulation.errors import SimulationError
from supervision.laboratory.simulation.replaying.run_file import RunFile
from supervision.laboratory.simulation.search.corpus import Corpus
from supervision.laboratory.simulation.search.report import Failures
from supervision.laboratory.simulation.search.workers import Lost, in_workers
from supervision.laboratory.simulation.shrinking.shrink import shrink

__all__ = ["Finding", "look_at"]

_SECONDS = 60.0  # real seconds to shrink one failure
_REAL_SECONDS = 300.0  # real seconds to examine one failure
_MOST = 20  # the most kinds of failures to shrink in one sweep


@frozen(kw_only=True)
class Finding:
    """A kind of failure.

    Attributes:
        failures: the runs that failed alike.
        run: the run that the report shows, which is the shrunk run if shrinking succeeded; None if no run was kept.
        path: the run file, if there is one.
        story: the story of the shrunk run, with its difference from the nearest run that passes; empty without
            shrinking.
        note: the reason why shrinking failed; None if it did not fail.
    """

    failures: Failures
    run: RunFile | None = None
    path: Path | None = None
    story: str = ""
    note: str | None = None


def look_at(
    kinds: Iterable[Failures],
    *,
    corpus: Corpus,
    stale: Collection[Path],
    small: bool,
    jobs: int,
    seconds: float = _SECONDS,
) -> Iterator[Finding]:
    """Examine each kind of failure, and keep a run file for each.

    Args:
        kinds: the kinds of failures.
        corpus: the folder for the run files.
        stale: files of the corpus to ignore, because their runs no longer fail in the same way.
        small: shrink failures first.
        jobs: the number of processes for shrinking; 0 shrinks in this process.
        seconds: the most real seconds for shrinking one failure.
    """
    kinds = list(kinds)
    runs = [kind.first.run for kind in kinds]
    some = [run for run in runs if run is not None][:_MOST]
    made_small = _all_small(some, jobs, seconds) if small else iter(())
    for kind, run in zip(kinds, runs, strict=True):
        if run is None:
            yield Finding(failures=kind)
            continue
        made = next(made_small, _Small())
        shown = made.run or run
        path = corpus.keep(shown, stale=stale)
        yield Finding(failures=kind, run=shown, path=path, story=made.story, note=made.note)


@frozen(kw_only=True)
class _Small:
    run: RunFile | None = None
    story: str = ""
    note: str | None = None


def _all_small(runs: list[RunFile], jobs: int, seconds: float) -> Iterator[_Small]:
    small = partial(_small, seconds=seconds)
    for answer in in_workers(small, runs, _Small, jobs=jobs, real_seconds=_REAL_SECONDS, renew=1):
        if isinstance(answer, Lost):
            yield _Small(note=f"it could not be shrunk: {answer.why}")
        else:
            yield answer


def _small(run: RunFile, seconds: float) -> _Small:
    try:
        shrunk = shrink(run, max_seconds=seconds)
    except SimulationError as error:
        return _Small(note=f"it could not be shrunk: {error}")
    return _Small(run=shrunk.run, story=f"{shrunk.story}\n{shrunk.difference}".rstrip())
