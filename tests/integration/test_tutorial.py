"""Part 6 of the tutorial, step by step: its programs and commands give the output that the page shows."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from supervision.simulation.tools.commands import add_simulation_commands
from tests.architecture.snippets import Snippet, snippets_in
from tests.architecture.sources import ROOT

PAGE = "docs/tutorial/6-break-it.md"
MODULE = "gate"


def run(command: str) -> str:
    """Run a command of the page in this process, without repeating runs in a fresh process.

    Such repetitions take most of the time of a sweep. They do not change its results.
    """
    sys.modules.pop(MODULE, None)
    app = typer.Typer()
    add_simulation_commands(app)
    arguments = command.removeprefix("$ ashtree ").split()
    if arguments[0] == "simulate":
        arguments += ["--jobs", "0", "--check", "0"]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"}).stdout


def assert_shown(shown: Snippet, output: str) -> None:
    """Compare the lines of an output with those of the page, where a line `...` stands for any lines.

    The width of a column is ignored, because it depends on rows that the page omits.
    """
    lines = _lines(output)
    position = 0
    for part in re.split(r"^ *\.\.\.$", shown.code, flags=re.MULTILINE):
        wanted = _lines(part)
        while wanted and lines[position : position + len(wanted)] != wanted:
            position += 1
            assert position <= len(lines), f"{shown.place}: {part!r} is not in {output}"
        position += len(wanted)


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def test_part_6_finds_the_bug_replays_it_and_sees_it_fixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = snippets_in(PAGE, (ROOT / PAGE).read_text())
    _, broken, fixed = [block for block in blocks if block.language == "python"]
    simulate, replay, again = [block for block in blocks if block.language == "console"]
    found, repeated, passed = [block for block in blocks if block.language == "text"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / f"{MODULE}.py"

    file.write_text(f"{broken.code}\n")
    assert_shown(found, run(simulate.code))
    assert_shown(repeated, run(replay.code))
    # Python would take the compiled file of the first program for that of a second one of the same second and size.
    file.write_text(f"{fixed.code}\n\n# fixed\n")
    assert_shown(passed, run(again.code))
    sys.modules.pop(MODULE, None)
