"""The command `ashtree simulate`. It replays the corpus, runs the seeds, and examines and prints each kind of failure.

The terminal output shows text of the program (names, problems, stories) without interpreting it as markup.
"""

from __future__ import annotations

import shlex
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from attrs import define, field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from supervision.applications.command_line.arguments import params_as_options
from supervision.applications.command_line.console import plain_console
from supervision.laboratory.simulation.forks import described
from supervision.laboratory.simulation.scenario import Scenario
from supervision.laboratory.simulation.search.corpus import Corpus, Replayed
from supervision.laboratory.simulation.search.findings import Finding, look_at
from supervision.laboratory.simulation.search.report import ENOUGH_SEEDS, SweepReport
from supervision.laboratory.simulation.search.searching import Search, Strategy

__all__ = ["Sweeping", "print_divergences", "print_finding", "print_inert"]

_LINES = 10  # progress lines, if the output is not a terminal
_REDRAW = 0.1  # seconds
_DIVERGED = 3  # the most divergences to print in full
_LONG = 40  # the most lines to print of a problem


@define(kw_only=True, eq=False)
class Sweeping:
    """One run of `ashtree simulate`.

    Attributes:
        scenario: the scenario.
        seeds: the seeds.
        jobs: the number of processes; 0 runs everything in this process.
        swarm: draw the knobs for each seed.
        shrink: shrink failures.
        corpus: the folder of run files.
        params: parameters of the scenario.
        stop_after: stop the sweep after this many failures; 0 never stops.
        forks: the number of runs from each rare state.
        strategy: the strategy of the search.
        deviations: the most deviations of a schedule, for the strategy "exhaustive".
        limit: the most schedules, for the strategy "exhaustive".
        bare: the share of runs without instruments.
        check: the share of passing runs that a fresh process repeats.
        real_seconds: the real seconds that a run may take.
        json_file: a file for the report as JSON.
    """

    scenario: Scenario
    seeds: Sequence[int]
    jobs: int
    swarm: bool
    shrink: bool
    corpus: Corpus
    params: dict[str, Any]
    stop_after: int
    forks: int
    strategy: Strategy
    deviations: int
    limit: int
    bare: float
    check: float
    real_seconds: float
    json_file: Path | None
    report: SweepReport = field(init=False)
    _search: Search = field(init=False)
    replayed: list[Replayed] = field(factory=list, init=False)
    findings: list[Finding] = field(factory=list, init=False)
    _out: Console = field(factory=plain_console, init=False)
    _progress: Console = field(factory=lambda: plain_console(stderr=True), init=False)
    _began: float = field(factory=time.perf_counter, init=False)
    _took: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self._search = Search(
            self.scenario,
            self.seeds,
            strategy=self.strategy,
            forks=self.forks,
            deviations=self.deviations,
            limit=self.limit,
            options={
                "jobs": self.jobs,
                "swarm": self.swarm,
                "params": self.params,
                "bare": self.bare,
                "check": self.check,
                "real_seconds": self.real_seconds,
            },
        )
        self.report = self._search.report

    def run(self) -> bool:
        """Replay the corpus, run the seeds, and print the report. Return True if everything passed.

        Raises:
            SimulationError: a file of the corpus is invalid, or JSON cannot express the parameters.
        """
        self._replay_corpus()
        self._began = time.perf_counter()
        self._sweep()
        self._took = time.perf_counter() - self._began
        self._examine_failures()
        self._print()
        return self.passed

    @property
    def passed(self) -> bool:
        """True if all seeds passed and all failures of the corpus are fixed."""
        return self.report.passed and all(again.status == "fixed" for again in self.replayed)

    def interrupted(self) -> None:
        """Print the results so far, after Ctrl-C."""
        self._took = self._took or time.perf_counter() - self._began
        self._progress.print("interrupted")
        self._print()

    def _replay_corpus(self) -> None:
        for again in self.corpus.replayed(
            self.report.scenario, jobs=self.jobs, real_seconds=self.real_seconds
        ):
            self.replayed.append(again)
            _print_replayed(self._out, again)

    def _sweep(self) -> None:
        search = self._search
        with self._shown_progress() as show, closing(search.results()) as results:
            for _ in results:
                show()
                if self._has_failed_enough:
                    self._progress.print(
                        f"stopped after {self.report.failed} failures (--stop-after)"
                    )
                    break

    @property
    def _has_failed_enough(self) -> bool:
        return 0 < self.stop_after <= self.report.failed

    def _examine_failures(self) -> None:
        self.findings += look_at(
            self.report.failures.values(),
            corpus=self.corpus,
            stale=[again.path for again in self.replayed if again.status != "fails"],
            small=self.shrink,
            jobs=self.jobs,
        )

    def _print(self) -> None:
        self._out.print()
        self._out.print(_summary(self.report, took=self._took, jobs=self.jobs))
        if self._search.end:
            self._out.print(f"\n{self._search.end}")
        print_inert(self._out, self.report)
        print_divergences(self._out, self.report)
        for finding in self.findings:
            print_finding(self._out, self.report, finding, self.params)
        if self.json_file is not None:
            self._write(self.json_file)

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

    @contextmanager
    def _shown_progress(self) -> Iterator[Callable[[], None]]:
        """Show the progress of the sweep. Yield the function to call after each result."""
        console, report = self._progress, self.report
        total = self.limit if self.strategy == "exhaustive" else len(self.seeds)
        if not console.is_terminal:
            tenths = 0

            def print_line() -> None:
                nonlocal tenths
                before, tenths = tenths, (report.runs - report.forked) * _LINES // total
                if tenths > before:
                    console.print(
                        f"{report.runs - report.forked} of {total} seeds, {report.failed} failed"
                    )

            yield print_line
            return
        # auto_refresh is off, because its thread would run while the sweep forks workers.
        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        task = bar.add_task("all pass so far", total=total, speed="")
        began, drawn = time.perf_counter(), 0.0

        def draw() -> None:
            nonlocal drawn
            now = time.perf_counter()
            if now - drawn < _REDRAW:
                return
            drawn = now
            bar.update(
                task,
                completed=report.runs - report.forked,
                description=f"{report.failed} failed" if report.failed else "all pass so far",
                speed=f"{report.runs / max(now - began, 1e-9):.0f}/s",
            )
            bar.refresh()

        with bar:
            yield draw


# The report


def counted(strategies: Mapping[str, int]) -> str:
    """Return the number of runs of each strategy as text, the most runs first."""
    return ", ".join(
        f"{name} {count:,}"
        for name, count in sorted(strategies.items(), key=lambda each: (-each[1], each[0]))
    )


def _summary(report: SweepReport, *, took: float, jobs: int) -> Table:
    """Return the sweep as a table. `took` is its duration in real seconds."""
    title = Text(report.scenario, style="italic")
    table = Table(title=title, title_justify="left", show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row(
        "seeds",
        f"{report.runs:,}, {report.runs - report.failed:,} passed, {report.failed:,} failed",
    )
    if report.forked:
        table.add_row("", f"{report.forked:,} of them forked at rare states")
    if len(report.strategies) > 1:
        table.add_row("strategies", counted(report.strategies))
    for alike in report.failures.values():
        seeds = ", ".join(map(str, alike.seeds[:8])) + (", ..." if alike.count > 8 else "")
        table.add_row("", Text(f"{alike.count:,} x {alike.failure} (seeds {seeds})"))
        if len(report.strategies) > 1:
            table.add_row("", f"    found by {counted(alike.strategies)}")
    if took > 0:
        where = f"in {jobs} processes" if jobs > 1 else "in one process"
        table.add_row(
            "speed",
            f"{report.runs / took:,.0f} seeds/s, {report.virtual_seconds / took:,.0f} virtual seconds/s, "
            f"{report.steps / took:,.0f} steps/s, {where}",
        )
    if report.faults:
        faults = sorted(report.faults.items())
        counts = (f"{count:,} {status.replace('_', ' ')}" for status, count in faults)
        table.add_row("faults", ", ".join(counts))
    if report.inert_runs:
        table.add_row("", f"none was applied in {report.inert_runs:,} of {report.runs:,} runs")
    if report.bare:
        table.add_row("bare runs", f"{report.bare:,} without instruments")
    for name, count in report.sometimes.items():
        table.add_row("sometimes", Text(f"{name}: {_seen(report, name, count)}"))
    differ = f"{len(report.diverged)} differed" if report.diverged else "all the same"
    if report.checked:
        table.add_row("self-check", f"{report.checked:,} repeated in a fresh process, {differ}")
    return table


def _seen(report: SweepReport, name: str, count: int) -> str:
    runs, by_forks = report.runs - report.forked, report.forked_sometimes.get(name, 0)
    forks = f", and in {by_forks:,} forks" if by_forks else ""
    if count or forks:
        return f"in {count:,} of {runs:,} runs{forks}"
    if runs < ENOUGH_SEEDS:
        return f"never, but there were only {runs} runs"
    return "never; change the scenario so that it reaches this condition"


def _print_replayed(console: Console, again: Replayed) -> None:
    now = (again.problem or "").partition("\n")[0]
    how = {
        "fails": f"still fails ({again.run.failure})" + ("" if again.exact else ", in another way"),
        "fixed": f"is fixed ({again.run.failure} before)",
        "changed": f"has changed: it was {again.run.failure}, and is now {now}",
    }
    console.print(f"{again.path} {how[again.status]}")


def print_inert(console: Console, report: SweepReport) -> None:
    """If no run applied a fault of its plan, print the reasons."""
    if report.is_inert and report.inert is not None:
        console.print("\nno fault of the plan was applied in any run", style="bold")
        console.print(textwrap.indent(report.inert.problem or "", "  "))


def print_divergences(console: Console, report: SweepReport) -> None:
    """Print the seeds whose runs differ in a fresh process. For the first few, print the first event that differs."""
    for result in report.diverged[:_DIVERGED]:
        console.print(f"\nseed {result.seed} gives another run in a fresh process", style="bold")
        console.print(textwrap.indent(result.diverged or "", "  "))
    if len(report.diverged) > _DIVERGED:
        seeds = ", ".join(str(each.seed) for each in report.diverged[_DIVERGED:])
        console.print(f"\nso do the runs of the seeds {seeds}")


def print_finding(
    console: Console, report: SweepReport, finding: Finding, params: Mapping[str, Any]
) -> None:
    """Print a kind of failure: its seed, its text, its story, and the command that repeats it."""
    first = finding.failures.first
    # The sentence and the story must come from the same run.
    run = finding.run or first
    order = "first with" if first.seed == finding.failures.seeds[0] else "with"
    console.print(f"\n{finding.failures.failure}, {order} seed {first.seed}", style="bold")
    if run.forks:
        console.print(f"  the run has {described(run.forks)}")
    if finding.failures.bare == finding.failures.count:
        console.print("  only runs without instruments fail in this way")
    lines = (run.problem or "").splitlines()
    shown = [*lines[:_LONG], *(["..."] if len(lines) > _LONG else [])]
    console.print(textwrap.indent("\n".join(shown), "  "))
    if finding.story:
        console.print("  the story:")
        console.print(textwrap.indent(finding.story, "    "))
    if finding.note is not None:
        console.print(f"  {finding.note}")
    console.print(f"  repeat it with: {_command(report, finding, params)}")


def _command(report: SweepReport, finding: Finding, params: Mapping[str, Any]) -> str:
    if finding.path is not None:
        return shlex.join(["ashtree", "replay", str(finding.path)])
    seed = str(finding.failures.first.seed)
    words = ["ashtree", "simulate", report.scenario, "--seeds", seed, *params_as_options(params)]
    return shlex.join(words)
