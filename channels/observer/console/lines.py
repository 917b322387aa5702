"""The rows of an observer as lines of text, for terminals.

*pure*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from actors.text import printable
from channels.observer.model import Row

__all__ = ["Board", "entity_lines", "figures", "line_of"]


class Board:
    """The rows that a page has got so far, in the order of the tree."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def apply(self, tick: Mapping[str, Any]) -> bool:
        """Apply the changes of a tick. Return True if there were any."""
        if tick.get("all"):
            self.rows.clear()
        for key in tick.get("gone", ()):
            self.rows.pop(key, None)
        for row in tick.get("set", ()):
            self.rows[row["key"]] = row
        return bool(tick.get("all") or tick.get("gone") or tick.get("set"))

    def lines(self) -> list[tuple[int, Row]]:
        """Return the depth and the row of each line, from the top."""
        below: dict[str | None, list[Row]] = {}
        for row in self.rows.values():
            parent = row["parent"] if row["parent"] in self.rows else None
            below.setdefault(parent, []).append(row)
        found: list[tuple[int, Row]] = []
        waiting = [(0, row) for row in _last_first(below.get(None, []))]
        while waiting:
            depth, row = waiting.pop()
            found.append((depth, row))
            waiting += [(depth + 1, each) for each in _last_first(below.get(row["key"], []))]
        return found


def _last_first(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: float(row["order"]), reverse=True)


def line_of(depth: int, row: Row) -> str:
    """Return one row as text."""
    parts = [f"{'  ' * depth}{printable(row['title'])}"]
    if row["type"] == "group":
        parts.append(f"× {row['count']:,}")
    if row.get("kind"):
        parts.append(f"({printable(row['kind'])})")
    if row.get("pid"):
        parts.append(f"<pid {row['pid']}>")
    if row.get("status"):
        parts.append(printable(str(row["status"])))
    if row.get("restarts"):
        parts.append(f"restarted {row['restarts']}×")
    if row.get("mailbox"):
        parts.append(f"{row['mailbox']:,} waiting")
    return " ".join(parts)


def figures(point: Mapping[str, Any]) -> str:
    """Return the figures of one moment as one line."""
    p99, memory = point.get("p99"), point.get("memory")
    parts = [
        f"{point['processes']:,} processes",
        f"{point['pushes']:g} pushes/s",
        f"p99 {'–' if p99 is None else f'{p99:g} ms'}",
        f"{point['mailboxes']:,} waiting",
        f"{point['restarts']} restarts",
        f"{point['crashes']} crashes",
        f"{point['gave_up']} gave up",
    ]
    if memory is not None:
        parts.append(f"{memory / 2**20:.0f} MB")
    return " · ".join(parts)


def entity_lines(tables: Iterable[Mapping[str, Any]], now: float) -> list[str]:
    """Return the tables of entities as lines."""
    lines = []
    for table in tables:
        lines.append(f"{printable(table['name'])}: {table['count']:,} running")
        for row in table["rows"]:
            parts = [f"  {printable(row['key'])} on {printable(row['node'])}"]
            if row["state"] not in ("running", "moved"):
                parts.append(row["state"])
            if "born" in row:
                parts.append(f"{max(0.0, now - row['born']):.0f} s old")
            if "messages" in row:
                parts.append(f"{row['messages']:,} messages")
            if "handover" in row:
                way, node = next(iter(row["handover"].items()))
                ago = max(0.0, now - row["handover"]["at"])
                parts.append(f"moved {way} {printable(node)} {ago:.0f} s ago")
            lines.append(", ".join(parts))
    return lines
