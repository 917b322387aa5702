"""The programs and commands in parts 3 and 6 of the tutorial print the output that the pages show."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from supervision.laboratory.simulation.tools.commands import add_simulation_commands
from tests.architecture.console_checks import missing_output
from tests.architecture.programs import Programs
from tests.architecture.snippets import Snippet, snippets_in
from tests.architecture.sources import ROOT
from tests.patience import PATIENCE

MODULE = "gate"


def blocks_of(page: str, *languages: str) -> list[list[Snippet]]:
    """Return the blocks of a page, in a list for each of the languages."""
    blocks = snippets_in(page, (ROOT / page).read_text())
    return [[block for block in blocks if block.language == one] for one in languages]


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    with Programs() as programs:
        yield programs


def run(command: str) -> str:
    """Run a command of the page in this process, and return its output.

    By default, `ashtree simulate` repeats some runs in a fresh process. This function turns these repetitions off,
    because they take most of the time of a sweep, and do not change its results.

    `ashtree replay` asks before it imports a module. `--import` answers for the reader, because a test has no terminal.
    """
    sys.modules.pop(MODULE, None)
    app = typer.Typer()
    add_simulation_commands(app)
    arguments = command.removeprefix("$ ashtree ").split()
    if arguments[0] == "simulate":
        arguments += ["--jobs", "0", "--check", "0"]
    if arguments[0] == "replay":
        arguments.append("--import")
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"}).stdout


def assert_shown(shown: Snippet, output: str) -> None:
    """Compare an output with the output on the page, where `...` stands for any text.

    Ignore the widths of columns, because they depend on rows that the page omits.
    """
    problem = missing_output(_narrow(shown.code), _narrow(output))
    assert problem is None, f"{shown.place}: {problem}"


def _narrow(text: str) -> str:
    return re.sub(" +", " ", text)


def test_part_3_shows_the_log_of_a_crash(tmp_path: Path, programs: Programs) -> None:
    blocks, shown = blocks_of("docs/tutorial/3-a-supervised-server.md", "python", "text")
    (log,) = shown
    file = tmp_path / "shift.py"
    file.write_text(f"{blocks[-1].code}\n")
    done = programs.run(file, cwd=tmp_path, time_limit=PATIENCE)
    assert_shown(log, done.stderr.replace(str(tmp_path), "/srv/mine"))


def test_part_6_finds_the_bug_replays_it_and_sees_it_fixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, commands, outputs = blocks_of(
        "docs/tutorial/6-break-it.md", "python", "console", "text"
    )
    (broken, fixed), (simulate, replay, again) = programs, commands
    found, repeated, passed = outputs
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / f"{MODULE}.py"

    file.write_text(f"{broken.code}\n")
    assert_shown(found, run(simulate.code))
    assert_shown(repeated, run(replay.code))
    # The comment changes the size of the file. A file with the same size, saved in the same second, would make Python
    # run the compiled file of the first program.
    file.write_text(f"{fixed.code}\n\n# fixed\n")
    assert_shown(passed, run(again.code))
    sys.modules.pop(MODULE, None)
