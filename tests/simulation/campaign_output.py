"""The terminal output of a campaign: a line for each visit, the findings, and the tables at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from supervision.laboratory.simulation.search.findings import Finding
from supervision.laboratory.simulation.search.report import ENOUGH_SEEDS
from supervision.laboratory.simulation.search.terminal import (
    print_divergences,
    print_finding,
    print_inert,
)
from tests.simulation.campaign import Campaign, Part, Sweep
from tests.simulation.sweeps.reach import Reached, modules, share_of, unreached

__all__ = ["as_data", "print_reach", "print_result", "print_visit", "write_json"]


def print_visit(console: Console, part: Part) -> None:
    """Print the state of one sweep after a visit."""
    report = part.report
    kinds = f", {len(report.failures)} kinds" if report.failures else ""
    console.print(
        f"{part.sweep.name}: {report.runs:,} seeds in {part.seconds:.0f} s, {report.failed} failed{kinds}"
    )


def print_result(
    console: Console, campaign: Campaign, findings: Sequence[tuple[Part, Finding]]
) -> None:
    """Print each finding with the command that repeats it, and the tables."""
    for part, finding in findings:
        print_finding(console, part.report, finding, {})
    for part in campaign.parts:
        print_inert(console, part.report)
        print_divergences(console, part.report)
    console.print()
    console.print(_sweeps(campaign))
    _print_table(console, _reached(campaign))
    _print_table(console, _branches(campaign))
    for part in campaign.parts:
        for name in part.report.unseen:
            console.print(_never(part, name))
    console.print("passed" if campaign.passed else "failed", style="bold")


def _sweeps(campaign: Campaign) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("sweep")
    for title in ("seeds", "bare", "forks", "seconds", "CPU s", "runs/CPU s", "failed", "findings"):
        table.add_column(title, justify="right")
    for part in campaign.parts:
        report = part.report
        table.add_row(
            Text(part.sweep.name),
            f"{report.runs - report.forked:,}",
            f"{report.bare:,}",
            f"{report.forked:,}",
            f"{part.seconds:.0f}",
            f"{part.cpu_seconds:.0f}",
            f"{report.runs / part.cpu_seconds:.1f}" if part.cpu_seconds else "",
            f"{report.failed:,}",
            str(len(report.failures)),
        )
    runs = sum(part.report.runs for part in campaign.parts)
    cpu = sum(part.cpu_seconds for part in campaign.parts)
    table.add_row(
        "all",
        f"{runs - sum(part.report.forked for part in campaign.parts):,}",
        f"{sum(part.report.bare for part in campaign.parts):,}",
        f"{sum(part.report.forked for part in campaign.parts):,}",
        f"{sum(part.seconds for part in campaign.parts):.0f}",
        f"{cpu:.0f}",
        f"{runs / cpu:.1f}" if cpu else "",
        f"{sum(part.report.failed for part in campaign.parts):,}",
        str(sum(len(part.report.failures) for part in campaign.parts)),
        style="bold",
    )
    return table


def _reached(campaign: Campaign) -> Table:
    """Return the table with the number of runs that reached each `sometimes` condition."""
    table = _counting("sometimes", "reached in", "of", "and in forks")
    for part in campaign.parts:
        report = part.report
        for name, count in report.sometimes.items():
            counts = count, report.runs - report.forked, report.forked_sometimes.get(name, 0)
            table.add_row(Text(part.sweep.name), Text(name), *(f"{each:,}" for each in counts))
    return table


def _branches(campaign: Campaign) -> Table:
    """Return the table with the outcomes of the faults in each branch of the fault plans."""
    table = _counting("branch of the fault plan", "applied", "masked", "not applicable")
    for part in campaign.parts:
        for branch, counts in sorted(part.report.branches.items()):
            shown = (counts.get(each, 0) for each in ("applied", "masked", "not_applicable"))
            table.add_row(Text(part.sweep.name), Text(branch), *(f"{each:,}" for each in shown))
    return table


def _counting(what: str, *counts: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("sweep")
    table.add_column(what)
    for title in counts:
        table.add_column(title, justify="right")
    return table


def _print_table(console: Console, table: Table) -> None:
    if table.row_count:
        console.print()
        console.print(table)


def _never(part: Part, name: str) -> str:
    runs = part.report.runs - part.report.forked
    if part.has_found_enough:
        why = "but the sweep ended at its failures"
    elif runs < ENOUGH_SEEDS:
        why = f"but there were only {runs} runs"
    else:
        why = "change the scenario so that it reaches this condition"
    return f"{part.sweep.name}: never reached: {name}; {why}"


def print_reach(
    console: Console, sweeps: Sequence[Sweep], reached: Sequence[Reached], seeds: int
) -> None:
    """Print the share of the product that each sweep reaches, and the modules that no sweep reaches.

    Args:
        console: the terminal.
        sweeps: the sweeps.
        reached: the lines that each sweep reached.
        seeds: the number of seeds of each sweep.
    """
    table = _counting("", "lines", "branches")
    for name, some in [
        *((sweep.name, [each]) for sweep, each in zip(sweeps, reached, strict=True)),
        ("all", list(reached)),
    ]:
        share = share_of(some)
        table.add_row(Text(name), "", f"{share.lines:.1%}", f"{share.branches:.1%}")
    console.print(f"\nshare of the product that {seeds} seeds of each sweep reach:")
    console.print(table)
    names = unreached(reached)
    console.print(
        f"\nno sweep reaches a function of these {len(names)} of {len(modules())} modules:"
    )
    for name in names:
        console.print(f"  {name}")


def as_data(campaign: Campaign, findings: Sequence[tuple[Part, Finding]]) -> Mapping[str, Any]:
    """Return the results as data for JSON."""
    return {
        "passed": campaign.passed,
        "sweeps": [
            {
                "name": part.sweep.name,
                "seconds": round(part.seconds, 3),
                "cpu_seconds": round(part.cpu_seconds, 3),
                **part.report.as_data(),
                "findings": [
                    {
                        "failure": finding.failures.failure,
                        "seed": finding.failures.first.seed,
                        "problem": finding.failures.first.problem,
                        "file": None if finding.path is None else str(finding.path),
                        "story": finding.story,
                    }
                    for owner, finding in findings
                    if owner is part
                ],
            }
            for part in campaign.parts
        ],
    }


def write_json(path: Path, campaign: Campaign, findings: Sequence[tuple[Part, Finding]]) -> None:
    """Write the results to a file."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(as_data(campaign, findings))) + b"\n")
