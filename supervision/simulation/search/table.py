"""How a sweep is told: the table, and the paragraphs about what was found."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from supervision.simulation.search.corpus import Replayed
from supervision.simulation.search.findings import Finding
from supervision.simulation.search.report import ENOUGH_SEEDS, SweepReport
from supervision.simulation.search.sweep import SeedResult

__all__ = ["say_finding", "say_inert", "say_replayed", "summary"]

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
