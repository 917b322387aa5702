"""Tables of a run: for the terminal, and in Markdown for docs/topics/performance.md. *pure*."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from tests.benchmarks.channels.figures import Spread
from tests.benchmarks.channels.results import Goal, Results, goals
from tests.benchmarks.channels.rows import ROWS

__all__ = ["command_of", "goal_lines", "goal_table", "machine_lines", "markdown", "tables"]

_COLUMNS = ("CPU µs/op", "range", "to floor", "ops/s", "p50 ms", "p99 ms", "generator")
_OWN_COLUMNS = {
    "flat-echo": (
        ("100 alone, µs", "us_alone"),
        ("100 among all, µs", "us_among"),
        ("100 in flight, all in turn, µs", "us_in_turn"),
        ("all, µs", "us_per_op"),
        ("all to 100 alone", "all_to_alone"),
    ),
    "flat-fanout": (
        ("room of 100, µs", "us_alone"),
        ("room of 100 beside the large one, µs", "us_among"),
        ("large room, µs", "us_per_op"),
        ("large to small", "all_to_alone"),
    ),
    "heartbeats": (
        ("% of a core", "core_percent"),
        ("CPU µs per heartbeat", "us_per_op"),
        ("heartbeats/s", "rate"),
    ),
    "half": (
        ("ops/s when saturated", "saturation_rate"),
        ("ops/s", "rate"),
        ("p50 ms", "p50_ms"),
        ("p99 ms", "p99_ms"),
        ("server's core", "server_share"),
        ("generator late by, p99 ms", "late_ms"),
    ),
    "pauses": (
        ("seconds", "seconds"),
        ("longest pause, ms", "pause_ms"),
        ("longest while 5,000 join, ms", "joining_pause_ms"),
        ("most CPU of a turn, ms", "pause_cpu_ms"),
        ("longest garbage collection, ms", "collector_ms"),
        ("p99 of an echo, ms", "p99_ms"),
        ("server's core", "server_share"),
    ),
    "never": (
        ("closed after MB", "closed_after_mb"),
        ("growth of memory, MB", "growth_mb"),
        ("p99 ms without it", "p99_alone_ms"),
        ("p99 ms with it", "p99_ms"),
        ("ratio", "p99_to_alone"),
    ),
}
_LONG = {"pauses": "--seconds 600 --rounds 1"}


def command_of(row: str, subject: str | None = None) -> str:
    """Return the command that measures one row again, for all servers, or for one server and the bare Trio server."""
    words = [f"--only {name}" for name in ([row] if subject is None else [row, subject])]
    words += [_LONG[row]] if row in _LONG else []
    return f"make bench ARGS='{' '.join(words)}'"


def goal_lines(results: Results, row: str) -> list[str]:
    """Return a line for each goal of a row."""
    return [
        f"{goal.what}: {goal.value:.2f}, goal {goal.limit:g}: {goal.verdict}"
        for goal in goals(results)
        if goal.row == row and goal.limit is not None
    ]


def machine_lines(results: Results) -> list[str]:
    """Return a line for each property of the machine."""
    return [f"{name}: {value}" for name, value in results.machine.items()]


def tables(results: Results) -> RenderableType:
    """Return a table for each row, and the command that repeats it."""
    return Group(*(_table(results, row) for row in results.rows()))


def _table(results: Results, row: str) -> Table:
    table = Table(
        title=ROWS[row].title,
        caption="\n".join([*goal_lines(results, row), command_of(row)]),
        box=box.SIMPLE,
        title_justify="left",
        caption_justify="left",
    )
    columns: Sequence[str]
    if row in _OWN_COLUMNS:
        columns, cells = [name for name, _ in _OWN_COLUMNS[row]], _own_cells
    elif row == "idle":
        columns, cells = ("bytes", "range", "to floor", "kernel's bytes"), _memory
    else:
        columns, cells = _COLUMNS, _cells
    for column in ("server", *columns):
        table.add_column(column, justify="left" if column == "server" else "right")
    for subject in results.subjects(row):
        table.add_row(results.titles[subject], *cells(results, row, subject))
    return table


def _own_cells(results: Results, row: str, subject: str) -> list[str]:
    found = []
    for _, key in _OWN_COLUMNS[row]:
        figure = results.figure(row, subject, key)
        # A median would hide a single long pause in many rounds.
        is_worst = row == "pauses" and figure is not None
        found.append(short(figure.most) if is_worst and figure else number(figure))
    return found


def _cells(results: Results, row: str, subject: str) -> list[str]:
    cost = results.figure(row, subject, "us_per_op")
    ratio = results.ratio(row, subject, "floor", "us_per_op")
    return [
        number(cost),
        f"{short(cost.least)} to {short(cost.most)}" if cost else "",
        f"{ratio.median:.2f}" if ratio else "",
        *(
            number(results.figure(row, subject, key))
            for key in ("rate", "p50_ms", "p99_ms", "generator_share")
        ),
    ]


def _memory(results: Results, row: str, subject: str) -> list[str]:
    cost = results.figure(row, subject, ROWS[row].key)
    ratio = results.ratio(row, subject, "floor", ROWS[row].key)
    return [
        number(cost),
        f"{short(cost.least)} to {short(cost.most)}" if cost else "",
        f"{ratio.median:.2f}" if ratio else "",
        number(results.figure(row, subject, "kernel_bytes")),
    ]


def number(spread: Spread | None) -> str:
    """Return a median without meaningless digits, or an empty text if there is no median."""
    return short(spread.median) if spread else ""


def short(value: float) -> str:
    """Return a number with about three significant digits. Large numbers keep all integer digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def goal_table(found: Sequence[Goal]) -> Table:
    """Return a table of the goals and the measured values."""
    table = Table(title="goals", box=box.SIMPLE, title_justify="left")
    for column in ("goal", "measured", "at most", ""):
        table.add_column(column, justify="right" if column in ("measured", "at most") else "left")
    for goal in found:
        limit = "" if goal.limit is None else f"{goal.limit:g}"
        table.add_row(f"{goal.row}: {goal.what}", f"{goal.value:.2f}", limit, goal.verdict)
    return table


# Markdown


def markdown(results: Results) -> str:
    """Return the tables of the page: CPU per operation, latency, rate, memory and commands."""
    special = [row for row in results.rows() if row in _OWN_COLUMNS]
    rows = [row for row in results.rows() if row != "idle" and row not in special]
    parts = []
    if rows:
        parts += [
            "CPU of the server in µs per operation, and in brackets the ratio to the bare Trio server:",
            _grid(results, rows, _cost),
            "Latency in ms, p50 and p99:",
            _grid(results, rows, _latency),
            "Operations per second on one core:",
            _grid(results, rows, _rate),
        ]
    if "idle" in results.rows():
        parts += ["Bytes of an idle connection that has joined one room:", _memory_grid(results)]
    for row in special:
        parts += [f"{ROWS[row].title}:", _own_grid(results, row)]
    commands = "\n".join(f"| {ROWS[row].title} | `{command_of(row)}` |" for row in results.rows())
    parts.append(f"| figure | command |\n|---|---|\n{commands}")
    parts.append(_goal_grid(results))
    parts.append("Machine: " + "; ".join(machine_lines(results)) + ".")
    return "\n\n".join(parts)


def _grid(results: Results, rows: Sequence[str], cell: Callable[[Results, str, str], str]) -> str:
    lines = [
        "| | " + " | ".join(ROWS[row].title for row in rows) + " |",
        "|---" * (len(rows) + 1) + "|",
    ]
    for subject, title in results.titles.items():
        cells = [cell(results, row, subject) for row in rows]
        if any(cells):
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cost(results: Results, row: str, subject: str) -> str:
    cost = results.figure(row, subject, "us_per_op")
    ratio = results.ratio(row, subject, "floor", "us_per_op")
    if cost is None:
        return ""
    return number(cost) + (f" ({ratio.median:.2f})" if ratio and subject != "floor" else "")


def _latency(results: Results, row: str, subject: str) -> str:
    p50, p99 = (results.figure(row, subject, key) for key in ("p50_ms", "p99_ms"))
    return f"{number(p50)}, {number(p99)}" if p50 and p99 else ""


def _rate(results: Results, row: str, subject: str) -> str:
    rate = results.figure(row, subject, "rate")
    return f"{rate.median:,.0f}" if rate else ""


def _memory_grid(results: Results) -> str:
    lines = ["| | server's | kernel's |", "|---|---|---|"]
    for subject in results.subjects("idle"):
        own = results.figure("idle", subject, "bytes_per_connection")
        kernel = results.figure("idle", subject, "kernel_bytes")
        lines.append(f"| {results.titles[subject]} | {number(own)} | {number(kernel)} |")
    return "\n".join(lines)


def _own_grid(results: Results, row: str) -> str:
    names = [name for name, _ in _OWN_COLUMNS[row]]
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for subject in results.subjects(row):
        cells = _own_cells(results, row, subject)
        lines.append(f"| {results.titles[subject]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _goal_grid(results: Results) -> str:
    lines = ["| figure | goal | measured | |", "|---|---|---|---|"]
    for goal in goals(results):
        if goal.limit is not None:
            what = f"{ROWS[goal.row].title}: {goal.what}"
            lines.append(f"| {what} | {goal.limit:g} | {goal.value:.2f} | {goal.verdict} |")
    return "\n".join(lines)
