"""Parts 3, 4 and 6 of the tutorial, step by step: programs, pages and commands do what the tutorial says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from playwright.sync_api import Browser, Page, expect
from typer.testing import CliRunner

from supervision.simulation.tools.commands import add_simulation_commands
from tests.architecture.console_checks import missing_output
from tests.architecture.programs import Programs
from tests.architecture.snippets import Snippet, snippets_in
from tests.architecture.sources import ROOT
from tests.integration.browsers import chromium
from tests.integration.test_quickstart import FROM_TREE, PHOENIX_JS, note_states
from tests.patience import PATIENCE, wait_until

MODULE = "gate"
SERVING = re.compile(r"Serving on (http://\S+)")


def blocks_of(page: str, *languages: str) -> list[list[Snippet]]:
    """Return the blocks of a page in each of the languages."""
    blocks = snippets_in(page, (ROOT / page).read_text())
    return [[block for block in blocks if block.language == one] for one in languages]


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    with Programs() as programs:
        yield programs


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
    """Compare an output with that of the page, where `...` stands for any text.

    The width of a column is ignored, because it depends on rows that the page omits.
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


@pytest.fixture
def shaft(tmp_path: Path) -> Iterator[str]:
    """Serve the program and the page of part 4, and return the address."""
    programs, pages = blocks_of("docs/tutorial/4-a-channel.md", "python", "html")
    (program,) = [block for block in programs if "static=" in block.code]
    (page,) = pages
    (tmp_path / "page").mkdir()
    (tmp_path / "page/index.html").write_text(page.code)
    (tmp_path / "shaft.py").write_text(f"{program.code}\n")
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*FROM_TREE, "serve", "shaft:endpoint", "--port", "0"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: SERVING.search(log.read_text()) is not None, log.read_text)
        found = SERVING.search(log.read_text())
        assert found is not None
        yield found[1]
    finally:
        server.kill()
        server.wait(PATIENCE)


def opened(browser: Browser, url: str) -> Page:
    """Open a page whose phoenix.js comes from this machine. The browser still checks its hash."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    page.route(
        "https://cdn.jsdelivr.net/npm/phoenix@*/**",
        lambda route: route.fulfill(path=PHOENIX_JS, headers={"access-control-allow-origin": "*"}),
    )
    page.goto(url)
    expect(page.locator("#state")).to_have_text("joined")
    return page


def test_the_page_of_part_4_asks_cheers_and_survives_a_crash(shaft: str) -> None:
    with chromium() as browser:
        ann, bob = opened(browser, shaft), opened(browser, shaft)
        for page in (ann, bob):
            page.get_by_role("button", name="How deep?").click()
            expect(page.get_by_role("log")).to_have_text("40 m for each, answer 1")
        ann.get_by_role("button", name="Cheer").click()
        expect(bob.get_by_role("log")).to_contain_text("Rosa cheers")

        states = note_states(ann)
        ann.get_by_label("People").fill("0")
        ann.get_by_role("button", name="How deep?").click()
        ann.wait_for_function("window.states.length == 2")
        assert states() == ["lost, joining again", "joined"]
        for page, answer in ((ann, 1), (bob, 2)):
            page.get_by_label("People").fill("2")
            page.get_by_role("button", name="How deep?").click()
            expect(page.get_by_role("log")).to_contain_text(f"60 m for each, answer {answer}")


def test_part_6_finds_the_bug_replays_it_and_sees_it_fixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, commands, outputs = blocks_of(
        "docs/tutorial/6-break-it.md", "python", "console", "text"
    )
    (_, broken, fixed), (simulate, replay, again) = programs, commands
    found, repeated, passed = outputs
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
