"""No command interprets the text of the user's program."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

from actors.text import printable
from supervision.applications.command_line.console import plain_console
from supervision.laboratory.simulation.search.report import SweepReport
from supervision.laboratory.simulation.search.sweep import SeedResult
from supervision.laboratory.simulation.search.terminal import _summary

TEXT = "room:b: [red]7[/red] :warning:"
HOSTILE = "\x1b[2J\x9b31m\u202e"
PACKAGES = Path(__file__).parents[4]


def shown(thing: Any) -> str:
    out = StringIO()
    plain_console(file=out).print(thing)
    return out.getvalue()


def test_a_console_prints_user_text_as_it_is() -> None:
    assert shown(TEXT).rstrip() == TEXT


def test_a_table_with_user_text_is_printed_as_it_is() -> None:
    rows = Table(title="Rooms")
    rows.add_column("name")
    rows.add_row(TEXT)
    assert TEXT in shown(rows)


def test_the_summary_of_a_sweep_shows_names_as_they_are() -> None:
    report = SweepReport(scenario=f"rooms:{TEXT}")
    result = SeedResult(
        seed=1,
        failure=f"eventually {TEXT}",
        problem=TEXT,
        run=None,
        seconds=1.0,
        steps=1,
        events=1,
        steps_digest="",
        faults={},
        sometimes={f"sometimes {TEXT}": True},
    )
    report.add(result)
    text = shown(_summary(report, took=1.0, jobs=1))
    assert text.count(TEXT) == 3


def test_a_console_prints_no_control_characters_of_user_text() -> None:
    rows = Table(title=HOSTILE)
    rows.add_column(HOSTILE)
    rows.add_row(HOSTILE)
    rows.add_row(Text(HOSTILE, style="bold"))
    for thing in (HOSTILE, Text(HOSTILE), rows):
        text = shown(thing)
        assert r"\x1b[2J" in text
        assert printable(text, lines=True) == text


@pytest.mark.parametrize("package", ["actors", "supervision", "channels"])
def test_every_console_comes_from_one_module(package: str) -> None:
    made = [
        path.relative_to(PACKAGES)
        for path in (PACKAGES / package).rglob("*.py")
        if re.search(
            r"Console\(|\(Console\)|\brich\.print\b|from rich import print|from_markup",
            path.read_text(),
        )
    ]
    assert made == (
        [Path("supervision/applications/command_line/console.py")]
        if package == "supervision"
        else []
    )
