"""The experiments of docs/study: each gives the figures and the picture that its page claims."""

from __future__ import annotations

import ast
import re
import tokenize
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from docs.site.recordings import RECORDINGS
from examples.study.lab import report

ROOT = Path(__file__).parents[2]
EXPERIMENTS = [
    "examples.study.crash_is_contained",
    "examples.study.intensity_limit",
    "examples.study.three_strategies",
    "examples.study.link_that_kills",
    "examples.study.slow_terminate",
    "examples.study.mailbox_that_fills",
    "examples.study.restart_storm",
    "examples.study.clients_message",
    "examples.study.takeover",
    "examples.study.two_leaders",
]
MAX_LINES = 60
"""Lines of code of one experiment, without imports, docstrings and comments."""


@cache
def results(name: str) -> dict[str, Any]:
    found: dict[str, Any] = import_module(f"examples.study.{name}").experiment()
    return found


@pytest.mark.parametrize("module", EXPERIMENTS)
def test_the_picture_is_the_one_that_the_experiment_draws(module: str) -> None:
    name = module.rpartition(".")[2]
    drawn = import_module(module).picture(results(name))
    assert (ROOT / f"docs/images/study/{name}.svg").read_text() == drawn, (
        f"draw it again: python -m {module} --svg docs/images/study/{name}.svg"
    )


def section(module: str) -> str:
    """Return the section of a page that is about an experiment."""
    pages = "\n".join(path.read_text() for path in sorted((ROOT / "docs/study").glob("*.md")))
    found = [
        each
        for each in re.split(r"^##? ", pages, flags=re.MULTILINE)
        if f"\n$ python -m {module}\n" in each
    ]
    assert len(found) == 1, f"{len(found)} sections of docs/study run {module}"
    return found[0]


@pytest.mark.parametrize("module", EXPERIMENTS)
def test_the_page_asks_for_a_guess_and_then_shows_what_the_experiment_prints(module: str) -> None:
    name = module.rpartition(".")[2]
    text = section(module)
    printed = f"```text\n{report(results(name))}\n```"
    assert text.index("**Guess**") < text.index(printed)
    assert f"](../images/study/{name}.svg)" in text
    recording = name.replace("_", "-")
    assert (f"<!-- recording: {recording} -->" in text) == (recording in RECORDINGS)


@pytest.mark.parametrize("module", EXPERIMENTS)
def test_an_experiment_fits_on_a_page(module: str) -> None:
    path = ROOT / f"{module.replace('.', '/')}.py"
    tree = ast.parse(path.read_text())
    skipped = set[int]()
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, ast.Import | ast.ImportFrom):
            skipped |= set(range(node.lineno, (node.end_lineno or 0) + 1))  # type: ignore[attr-defined]
    with tokenize.open(path) as file:
        code = {
            line
            for token in tokenize.generate_tokens(file.readline)
            if token.string.strip() and token.type not in {tokenize.COMMENT, tokenize.ENDMARKER}
            for line in range(token.start[0], token.end[0] + 1)
        }
    assert len(code - skipped) < MAX_LINES


def test_a_crash_stops_one_process_but_a_whole_nursery() -> None:
    runs = results("crash_is_contained")
    assert runs["one nursery"].stopped == 12
    assert runs["one supervisor"].stopped == 1
    assert runs["one supervisor"].ticks == 119
    dead, replaced = [each for each in runs["one supervisor"].lives if each.name == "room 5"]
    assert dead.end == replaced.start


def test_the_limit_is_a_cliff_at_a_rate() -> None:
    lives = results("intensity_limit")
    assert lives["every 1.6 s"].end == pytest.approx(6.4)
    assert lives["every 1.7 s"].end is None
    assert lives["every 1.7 s"].restarts == 352
    assert all(life.restarts == 3 for life in lives.values() if life.end is not None)


def test_only_strategies_that_restart_the_dependants_repair_the_service() -> None:
    runs = results("three_strategies")
    assert [run.pages for run in runs.values()] == [0, 10, 10]
    assert runs["rest_for_one"].order == (
        "crash database",
        "stop web",
        "start database",
        "start web",
    )
    assert runs["one_for_all"].restarted == ("cache", "database", "web")


def test_links_carry_crashes_as_far_as_the_first_process_that_traps_exits() -> None:
    alive = {name: run.alive for name, run in results("link_that_kills").items()}
    half, rest = [5, 6, 7, 8, 9], [2, 3, 4, 5, 6, 7, 8, 9]
    assert alive == {
        "1 returns": rest,
        "1 crashes": [],
        "1 crashes, 5 traps exits": half,
        "1 is killed, 5 traps exits": half,
        "5 is killed, 5 traps exits": [],
        "1 crashes, 5 monitors 4": half,
    }


def test_a_supervisor_adds_up_the_times_and_a_dynamic_one_does_not() -> None:
    runs = results("slow_terminate")
    assert runs["Supervisor"].seconds == pytest.approx(9)
    assert runs["DynamicSupervisor"].seconds == pytest.approx(5)
    for run in runs.values():
        assert set(run.cleaned) == {"quick", "slow"}
        assert {life.name: life.how for life in run.lives}["stuck"] == "killed"


def test_a_little_too_much_work_ends_all_answers_and_a_refusal_saves_them() -> None:
    runs = results("mailbox_that_fills")
    assert sum(runs["takes every call"].answered[:10]) == 120
    assert sum(runs["takes every call"].answered[20:]) == 0
    assert sum(runs["refuses beyond 5"].answered[20:]) == 203
    assert max(runs["refuses beyond 5"].mailbox) <= 6


def test_the_default_gives_up_and_backoff_costs_a_twentieth_of_the_attempts() -> None:
    runs = results("restart_storm")
    assert runs["3 restarts in 5 s"].connected == 0
    assert runs["no limit"].connected == runs["no limit, backoff"].connected == 5
    assert sum(runs["no limit"].attempts) == 1005
    assert sum(runs["no limit, backoff"].attempts) == 50
    assert runs["no limit, backoff"].back_after == pytest.approx(2.2, abs=0.05)


def test_a_retry_without_a_key_writes_an_order_twice() -> None:
    runs = results("clients_message")
    ten = list(range(1, 11))
    assert runs["no retry"].answered == [1, 2, 3, 8, 9, 10]
    assert runs["no retry"].book == [1, 2, 3, 4, 8, 9, 10]
    assert runs["retry"].book == sorted([*ten, 4])
    assert runs["retry with a key"].book == ten


def test_the_next_owner_goes_on_with_the_countdown_when_the_lease_has_ended() -> None:
    runs = results("takeover")
    assert runs["ann"].text == "10a 9a 8a 7a 4b 3b 2b 1b 0b"
    assert runs["bob"].text == "9a 8a 7a 4b 3b 2b 1b 0b"
    first, second = runs["the story"].lives
    assert (first.name, first.how) == ("owner on a", "killed")
    # The last record of a killed node is a little older than the kill.
    assert second.start - first.end == pytest.approx(3.0, abs=0.15)


def test_only_a_claim_before_the_read_keeps_every_confirmed_write() -> None:
    failed = {kind: len(sweep.failed) for kind, sweep in results("two_leaders").items()}
    assert failed == {"no fence": 38, "fenced writes": 9, "claim, then read": 0}
