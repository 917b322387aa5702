"""What `ashtree simulate` does: the corpus first, then the seeds, then a look at each kind of failure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from attrs import define, field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from supervision.simulation.scenario import Scenario, scenario_name
from supervision.simulation.search.corpus import Corpus, Replayed
from supervision.simulation.search.findings import Finding, look_at
from supervision.simulation.search.report import SweepReport
from supervision.simulation.search.sweep import SeedResult, sweep
from supervision.simulation.search.table import say_finding, say_inert, say_replayed, summary
from supervision.simulation.search.workers import cores

__all__ = ["Sweeping"]

_LINES = 10  # how many lines of progress there are where there is no terminal
_FILE_WIDTH = 120
_REDRAW = 0.1  # seconds


@define(kw_only=True)
class _Asked:
    jobs: int
    swarm: bool
    shrink: bool
    params: dict[str, Any]
    stop_after: int
    check: float
    limit: float
    json_file: Path | None


class Sweeping:
    """One `ashtree simulate`.

    Args:
        scenario: what runs.
        seeds: with which.
        jobs: processes; one per core if None.
        swarm: whether knobs are drawn for each seed.
        shrink: whether failures are made small.
        corpus: where run files are kept.
        params: for the scenario.
        stop_after: how many failures are enough; 0 for no end before the last seed.
        check: share of passing runs that is repeated in a fresh process.
        limit: real seconds that a run may take.
        json_file: where the report is written, too.
    """

    def __init__(
        self,
        scenario: Scenario,
        seeds: Sequence[int],
        *,
        jobs: int | None,
        swarm: bool,
        shrink: bool,
        corpus: Path,
        params: dict[str, Any],
        stop_after: int,
        check: float,
        limit: float,
        json_file: Path | None,
    ) -> None:
        self.scenario = scenario
        self.seeds = seeds
        self.corpus = Corpus(corpus)
        self.asked = _Asked(
            jobs=cores() if jobs is None else jobs,
            swarm=swarm,
            shrink=shrink,
            params=params,
            stop_after=stop_after,
            check=check,
            limit=limit,
            json_file=json_file,
        )
        self.report = SweepReport(scenario=scenario_name(scenario))
        self.replayed: list[Replayed] = []
        self.findings: list[Finding] = []
        self.out = _console(stderr=False)
        self.progress = _console(stderr=True)
        self._began = time.perf_counter()
        self._took = 0.0

    def run(self) -> bool:
        """Do it all; answers whether nothing was found.

        Raises:
            SimulationError: a file of the corpus cannot be used, or the parameters cannot be written down.
        """
        self._replay_corpus()
        self._began = time.perf_counter()
        self._sweep()
        self._took = time.perf_counter() - self._began
        self._look_at_failures()
        self._say()
        return self.passed

    @property
    def passed(self) -> bool:
        """Whether nothing was found, neither by the seeds nor in the corpus."""
        return self.report.passed and all(again.status == "fixed" for again in self.replayed)

    def interrupted(self) -> None:
        """Say what there was until Ctrl-C."""
        self._took = self._took or time.perf_counter() - self._began
        self.progress.print("interrupted")
        self._say()

    def _replay_corpus(self) -> None:
        asked = self.asked
        for again in self.corpus.replayed(self.report.scenario, jobs=asked.jobs, limit=asked.limit):
            self.replayed.append(again)
            say_replayed(self.out, again)

    def _sweep(self) -> None:
        asked = self.asked
        results = sweep(
            self.scenario,
            self.seeds,
            jobs=asked.jobs,
            swarm=asked.swarm,
            params=asked.params,
            check=asked.check,
            limit=asked.limit,
        )
        # Closed, so that the workers end now, and not when nobody has a reference any more.
        with closing(results), self._progress() as shown:
            for result in results:
                self.report.add(result)
                shown(result)
                if asked.stop_after and self.report.failed >= asked.stop_after:
                    self.progress.print(
                        f"stopped after {self.report.failed} failures (--stop-after)"
                    )
                    break

    def _look_at_failures(self) -> None:
        self.findings += look_at(
            self.report.failures.values(),
            corpus=self.corpus,
            stale=[again.path for again in self.replayed if again.status != "fails"],
            small=self.asked.shrink,
            jobs=self.asked.jobs,
        )

    def _say(self) -> None:
        self.out.print()
        self.out.print(summary(self.report, took=self._took, jobs=self.asked.jobs))
        say_inert(self.out, self.report)
        for finding in self.findings:
            say_finding(self.out, self.report, finding, params=self.asked.params)
        if self.asked.json_file is not None:
            self._write(self.asked.json_file)

    def _write(self, path: Path) -> None:
        data = {
            **self.report.as_data(),
            "passed": self.passed,
            "corpus": [
                {"file": str(again.path), "status": again.status, "exact": again.exact}
                for again in self.replayed
            ],
            "findings": [
                {
                    "failure": finding.failures.failure,
                    "file": None if finding.path is None else str(finding.path),
                    "story": finding.story,
                }
                for finding in self.findings
            ],
        }
        path.write_bytes(msgspec.json.format(msgspec.json.encode(data)) + b"\n")

    # Progress

    @contextmanager
    def _progress(self) -> Iterator[Any]:
        if self.progress.is_terminal:
            with self._bar() as shown:
                yield shown
        else:
            yield _Lines(self.progress, len(self.seeds), self.report)

    @contextmanager
    def _bar(self) -> Iterator[Any]:
        # Redrawn from here: a thread that redraws would be there when workers are forked.
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self.progress,
            auto_refresh=False,
            transient=True,
        )
        with bar:
            task = bar.add_task("all pass so far", total=len(self.seeds), speed="")
            yield _Bar(bar, task, self.report)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        # Nobody's window says how wide a file is.
        console.width = _FILE_WIDTH
    return console


@define(eq=False)
class _Bar:
    bar: Progress
    task: Any
    report: SweepReport
    began: float = field(factory=time.perf_counter)
    drawn: float = 0.0

    def __call__(self, result: SeedResult) -> None:
        now = time.perf_counter()
        if now - self.drawn < _REDRAW:
            return
        self.drawn = now
        failed = self.report.failed
        self.bar.update(
            self.task,
            completed=self.report.runs,
            description=f"{failed} failed" if failed else "all pass so far",
            speed=f"{self.report.runs / max(now - self.began, 1e-9):.0f}/s",
        )
        self.bar.refresh()


@define(eq=False)
class _Lines:
    console: Console
    total: int
    report: SweepReport
    said: int = 0

    def __call__(self, result: SeedResult) -> None:
        tenth = self.report.runs * _LINES // self.total
        if tenth > self.said:
            self.said = tenth
            self.console.print(
                f"{self.report.runs} of {self.total} seeds, {self.report.failed} failed"
            )
