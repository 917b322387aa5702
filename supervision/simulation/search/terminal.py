"""What `ashtree simulate` does: the corpus first, then the seeds, then a look at each kind of failure."""

from __future__ import annotations

import shlex
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from attrs import define, field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from supervision.simulation.scenario import Scenario, scenario_name
from supervision.simulation.search.corpus import Corpus, Replayed
from supervision.simulation.search.findings import Finding, look_at
from supervision.simulation.search.report import ENOUGH_SEEDS, SweepReport
from supervision.simulation.search.sweep import SeedResult, sweep
from supervision.simulation.search.workers import cores

__all__ = ["Sweeping", "say_finding", "say_inert", "say_replayed", "summary"]


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


_LONG = 40  # lines of a problem that are shown


def summary(report: SweepReport, *, took: float, jobs: int) -> Table:
    """The sweep as a table.

    Args:
        report: what came of it.
        took: real seconds.
        jobs: how many processes it had.
    """
    table = Table(title=report.scenario, title_justify="left", show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row(
        "seeds",
        f"{report.runs:,}, {report.runs - report.failed:,} passed, {report.failed:,} failed",
    )
    for alike in report.failures.values():
        seeds = ", ".join(map(str, alike.seeds[:8])) + (", ..." if alike.count > 8 else "")
        table.add_row("", f"{alike.count:,} x {alike.failure} (seeds {seeds})")
    if took > 0:
        where = f"in {jobs} processes" if jobs > 1 else "in one process"
        table.add_row(
            "speed",
            f"{report.runs / took:,.0f} seeds/s, {report.virtual_seconds / took:,.0f} virtual seconds/s, "
            f"{report.steps / took:,.0f} steps/s, {where}",
        )
    if report.faults:
        table.add_row("faults", _faults(report.faults))
    if report.inert_runs:
        table.add_row("", f"in {report.inert_runs:,} of {report.runs:,} runs none was applied")
    for name, count in report.sometimes.items():
        table.add_row("sometimes", f"{name}: {_seen(count, report.runs)}")
    differ = f"{len(report.diverged)} were another run" if report.diverged else "all the same"
    if report.checked:
        table.add_row("self-check", f"{report.checked:,} repeated in a fresh process, {differ}")
    return table


def _faults(faults: Mapping[str, int]) -> str:
    return ", ".join(
        f"{count:,} {status.replace('_', ' ')}" for status, count in sorted(faults.items())
    )


def _seen(count: int, runs: int) -> str:
    if count:
        return f"in {count:,} of {runs:,} runs"
    if runs < ENOUGH_SEEDS:
        return f"never, in only {runs} runs"
    return "never: the scenario does not reach what it is meant to show"


def say_replayed(console: Console, again: Replayed) -> None:
    """Say what a run of the corpus has come to."""
    how = {
        "fails": f"still fails ({again.run.failure})" + ("" if again.exact else ", by another way"),
        "fixed": f"is fixed ({again.run.failure} before)",
        "changed": f"has changed: it was {again.run.failure}, and now is {_first_line(again.problem)}",
    }
    console.print(f"{again.path} {how[again.status]}")


def say_inert(console: Console, report: SweepReport) -> None:
    """Say what is wrong with a plan that did nothing in any run."""
    if report.is_inert and report.inert is not None:
        console.print("\nthe plan of faults did nothing in any run", style="bold")
        console.print(textwrap.indent(report.inert.problem or "", "  "))


def say_finding(
    console: Console, report: SweepReport, finding: Finding, *, params: Mapping[str, Any]
) -> None:
    """Say what is known of a kind of failure, and how to see it again."""
    first = finding.failures.first
    console.print(f"\n{finding.failures.failure}, first with seed {first.seed}", style="bold")
    lines = (first.problem or "").splitlines()
    shown = [*lines[:_LONG], *(["..."] if len(lines) > _LONG else [])]
    console.print(textwrap.indent("\n".join(shown), "  "))
    if finding.story:
        console.print("  the story:")
        console.print(textwrap.indent(finding.story, "    "))
    if finding.note is not None:
        console.print(f"  {finding.note}")
    _say_divergence(console, first)
    console.print(f"  see it again with: {_command(report, finding, params)}")


def _say_divergence(console: Console, result: SeedResult) -> None:
    if result.diverged is not None:
        console.print("  it is another run in a fresh process:")
        console.print(textwrap.indent(result.diverged, "    "))


def _command(report: SweepReport, finding: Finding, params: Mapping[str, Any]) -> str:
    if finding.path is not None:
        return shlex.join(["ashtree", "replay", str(finding.path)])
    given = [
        part
        for name, value in params.items()
        for part in ("--params", f"{name}={msgspec.json.encode(value).decode()}")
    ]
    seed = str(finding.failures.first.seed)
    return shlex.join(["ashtree", "simulate", report.scenario, "--seeds", seed, *given])


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]
