"""Costs of channels, compared with the bare Trio server and other servers: `make bench`.

For each figure, a load generator on core 1 measures a new server on core 0. The servers take turns in each row, for
several rounds. docs/topics/performance.md explains the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from attrs import Factory, asdict, define
from rich.console import Console

from tests.benchmarks.channels.generator import arguments_of
from tests.benchmarks.channels.interpreter import warning_about
from tests.benchmarks.channels.machine import allow_files, describe
from tests.benchmarks.channels.report import goal_table, machine_lines, markdown, tables
from tests.benchmarks.channels.results import Results, goals, joined
from tests.benchmarks.channels.rows import ROWS, Row, expected_seconds, load_of, within
from tests.benchmarks.channels.subjects import FLOOR, OWN, SUBJECTS, Subject, at_url, serving
from tests.benchmarks.channels.workloads import Load
from tests.integration.servers import ROOT

QUICK_SECONDS = 100.0
_QUICK_TIMEOUT = 20.0
_QUICK_ROWS = ("echo-100x1", "fanout-100")


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.partition("\n")[0])
    names = [*ROWS, *SUBJECTS]
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=names,
        metavar="NAME",
        help=f"a row or a server; may be repeated: {', '.join(names)}",
    )
    parser.add_argument("--rounds", type=int, help="rounds of each row (default: 5, or 1 if quick)")
    parser.add_argument("--seconds", type=float, help="measured time (default: 3, or 0.7 if quick)")
    parser.add_argument("--quick", action="store_true", help="take at most two minutes")
    parser.add_argument("--url", help="measure the server at this URL too, such as a real Phoenix")
    parser.add_argument("--pid", type=int, help="its process id, for its CPU and memory")
    parser.add_argument("--output", type=Path, default=ROOT / "build/bench", metavar="FOLDER")
    parser.add_argument(
        "--load",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="show earlier runs instead; the rows of a later results.json replace those of an earlier one",
    )
    parser.add_argument("--markdown", action="store_true", help="print the tables of the page")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (0.7 if options.quick else 3.0)
    return options


@define
class Plan:
    """Rows, servers and rounds of a run."""

    rows: list[Row]
    subjects: list[Subject]
    rounds: int
    seconds: float
    is_quick: bool
    deadline: float = float("inf")
    skipped: list[str] = Factory(list)

    def steps(self) -> Iterator[tuple[Row, int, Subject]]:
        """Yield each row, round and server to measure. Each round of a row starts with a different server."""
        for row, turn, subject in self._order():
            if time.monotonic() > self.deadline:
                self.skipped.append(f"{row.name}, round {turn + 1}, {subject.name}")
            else:
                yield row, turn, subject

    def _order(self) -> list[tuple[Row, int, Subject]]:
        order = []
        for row in self.rows:
            takers = [each for each in self.subjects if self.takes_part(row, each)]
            for turn in range(self.rounds):
                first = turn % max(1, len(takers))
                order += [(row, turn, each) for each in takers[first:] + takers[:first]]
        if self.is_quick:
            # A quick run may end early. So the first round of all rows comes before the second round of any row. In
            # each round, the servers of other projects come last.
            order.sort(key=lambda step: (step[1], step[2].is_peer))
        return order

    def expected_seconds(self) -> float:
        """Return an estimate of the seconds that the whole run takes."""
        once = sum(
            expected_seconds(row, self.load_of(row, subject), is_peer=subject.is_peer)
            for row in self.rows
            for subject in self.subjects
            if self.takes_part(row, subject)
        )
        most = QUICK_SECONDS + _QUICK_TIMEOUT if self.is_quick else float("inf")
        return min(most, once * self.rounds)

    def load_of(self, row: Row, subject: Subject) -> Load:
        """Return the size of a row for one server."""
        return load_of(
            row,
            seconds=self.seconds,
            is_quick=self.is_quick,
            is_peer=subject.is_peer,
            few_crashes=subject.notices_late,
        )

    def takes_part(self, row: Row, subject: Subject) -> bool:
        """Return True if the run measures this row on this server."""
        if self.is_quick and (row.is_big or (subject.is_peer and row.name not in _QUICK_ROWS)):
            return False
        return subject.takes_part_in(row)


def plan_of(options: argparse.Namespace) -> Plan:
    """Return the plan for the options. Every plan includes the bare Trio server, because the ratios need it."""
    rows = [ROWS[name] for name in ROWS if name in options.only] or list(ROWS.values())
    named = [SUBJECTS[name] for name in SUBJECTS if name in options.only]
    if options.url:
        named = [at_url(options.url, options.pid), *(named or [SUBJECTS[OWN]])]
    subjects = named or list(SUBJECTS.values())
    if SUBJECTS[FLOOR] not in subjects:
        subjects.append(SUBJECTS[FLOOR])
    deadline = time.monotonic() + QUICK_SECONDS if options.quick else float("inf")
    return Plan(rows, subjects, options.rounds, options.seconds, options.quick, deadline)


def measure(plan: Plan, row: Row, subject: Subject) -> dict[str, Any]:
    """Measure one row on one server. Returns its figures, or the error."""
    wanted = plan.load_of(row, subject)
    load = within(wanted, allow_files())
    pinned = (os.cpu_count() or 1) > 1
    try:
        with serving(subject, row, 0 if pinned else None) as server:
            command = [sys.executable, "-m", "tests.benchmarks.channels.generator", row.workload]
            command += ["--url", server.url, "--dialect", subject.dialect, *arguments_of(load)]
            command += ["--core", "1"] if pinned else []
            command += ["--reconnects"] if subject.crashes == "connection" else []
            command += ["--pids", *map(str, server.pids)]
            done = subprocess.run(
                command,
                check=False,
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=_QUICK_TIMEOUT if plan.is_quick else 300 + 2 * load.seconds,
            )
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}
    if done.returncode:
        return {"error": done.stderr.strip()[-500:]}
    few = {} if load == wanted else {"connections": load.connections}
    return {"figures": json.loads(done.stdout), **few}


def run(plan: Plan, console: Console, folder: Path) -> Results:
    """Measure everything. Write all figures to a file after each one, so that an interrupted run keeps its figures."""
    folder.mkdir(parents=True, exist_ok=True)
    with_django = any(
        plan.takes_part(row, subject)
        for row in plan.rows
        for subject in plan.subjects
        if subject.name.startswith("django")
    )
    results = Results(describe(with_django=with_django))
    warning = warning_about(results.machine["Python"])
    if warning is not None:
        print(warning, file=sys.stderr)
    results.titles = {subject.name: subject.title for subject in plan.subjects}
    for row, turn, subject in plan.steps():
        with console.status(f"{row.name}, round {turn + 1} of {plan.rounds}: {subject.title}"):
            outcome = measure(plan, row, subject)
        sample = {"row": row.name, "subject": subject.name, "round": turn, **outcome}
        results.samples.append(sample)
        (folder / "results.json").write_text(json.dumps(asdict(results), indent=1))
    return results


def plot(results: Results, folder: Path) -> None:
    """Draw the plots, if matplotlib is installed."""
    try:
        from tests.benchmarks.channels.plots import draw
    except ImportError:
        print("No plots: matplotlib is not installed.", file=sys.stderr)
        return
    draw(results, folder)


def duration(seconds: float) -> str:
    """Return a sentence about the time that a run takes."""
    minutes = max(1, round(seconds / 60))
    end = datetime.now().astimezone() + timedelta(seconds=seconds)
    return (
        f"This takes about {minutes} {'minute' if minutes == 1 else 'minutes'}, until {end:%H:%M}."
    )


def main() -> None:
    """Run the benchmark, or show an earlier run."""
    options = options_of()
    # Without this, SIGTERM would leave servers behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Without a terminal, rich would wrap the tables at 80 columns.
    console = Console(stderr=options.markdown, width=None if sys.stdout.isatty() else 120)
    if options.load:
        results = joined([Results(**json.loads(file.read_text())) for file in options.load])
    else:
        plan = plan_of(options)
        console.print(duration(plan.expected_seconds()), highlight=False)
        results = run(plan, console, options.output)
        plot(results, options.output)
        for line in plan.skipped:
            console.print(f"skipped, because the two minutes are over: {line}")
    if options.markdown:
        print(markdown(results))
        return
    console.print("\n".join(machine_lines(results)), highlight=False)
    console.print(tables(results))
    console.print(goal_table(goals(results)))
    for line in results.errors():
        console.print(f"failed: {line}", style="bold", highlight=False, markup=False)
    for line in results.reduced():
        console.print(f"fewer, because of the limit of open files: {line}", highlight=False)
    for line in results.saturated():
        console.print(f"the generator may have been the limit: {line}", highlight=False)
    if not options.load:
        console.print(f"JSON and plots: {options.output}", highlight=False)


if __name__ == "__main__":
    main()
