"""The plan of a run: its servers, their order, and the deadline."""

from collections import Counter

import pytest

from tests.benchmarks.channels.__main__ import Plan, options_of, plan_of
from tests.benchmarks.channels.rows import ROWS
from tests.benchmarks.channels.subjects import SUBJECTS


def plan(*arguments: str) -> Plan:
    return plan_of(options_of(arguments))


def names(found: Plan) -> list[tuple[str, int, str]]:
    return [(row.name, turn, subject.name) for row, turn, subject in found.steps()]


def test_the_floor_takes_part_in_every_run() -> None:
    steps = names(plan("--only", "ashtree", "--only", "join", "--rounds", "1"))
    assert steps == [("join", 0, "ashtree"), ("join", 0, "floor")]


def test_another_server_comes_first_in_each_round() -> None:
    steps = names(plan("--only", "picows", "--only", "join", "--rounds", "2"))
    assert [subject for _, _, subject in steps] == ["picows", "floor", "floor", "picows"]


def test_a_full_run_measures_every_row_of_every_server() -> None:
    steps = names(plan("--rounds", "2"))
    assert {row for row, _, _ in steps} == set(ROWS)
    assert {subject for _, _, subject in steps} == set(SUBJECTS)
    assert set(Counter((row, subject) for row, _, subject in steps).values()) == {2}


def test_a_quick_run_leaves_out_the_big_row_and_compares_peers_in_two_rows() -> None:
    steps = names(plan("--quick"))
    assert {row for row, _, _ in steps} == {name for name, row in ROWS.items() if not row.is_big}
    compared = {row for row, _, subject in steps if subject == "starlette"}
    assert compared == {"echo-100x1", "fanout-100"}


def test_each_row_of_a_quick_run_has_one_round_before_any_has_its_second() -> None:
    turns = [turn for _, turn, _ in names(plan("--quick", "--rounds", "2"))]
    assert turns == sorted(turns)


def test_a_quick_run_measures_ashtree_in_every_row_before_it_measures_other_servers() -> None:
    subjects = [subject for _, _, subject in names(plan("--quick"))]
    first = next(place for place, name in enumerate(subjects) if SUBJECTS[name].is_peer)
    assert all(SUBJECTS[name].is_peer for name in subjects[first:])


def test_after_the_deadline_nothing_more_is_measured() -> None:
    found = plan("--only", "join", "--only", "ashtree", "--rounds", "1")
    found.deadline = 0.0
    assert names(found) == []
    assert found.skipped == ["join, round 1, ashtree", "join, round 1, floor"]


def test_the_estimate_of_a_run_covers_all_its_rounds() -> None:
    once, thrice = (
        plan("--only", "ashtree", "--only", "join", "--rounds", rounds).expected_seconds()
        for rounds in ("1", "3")
    )
    assert thrice == pytest.approx(3 * once)
    assert once < plan("--only", "ashtree", "--only", "pauses", "--rounds", "1").expected_seconds()


def test_a_quick_run_is_expected_to_take_at_most_two_minutes() -> None:
    assert plan("--quick", "--rounds", "9").expected_seconds() == 120.0
    assert plan("--quick").expected_seconds() < 120.0


def test_a_row_for_ashtree_alone_is_not_measured_on_the_floor() -> None:
    steps = names(plan("--only", "pauses", "--only", "never", "--rounds", "1"))
    assert steps == [("pauses", 0, "ashtree"), ("never", 0, "ashtree")]


def test_a_server_at_a_url_is_compared_with_ashtree_and_the_floor() -> None:
    found = plan("--url", "ws://127.0.0.1:4000/socket/websocket", "--pid", "7")
    assert [subject.name for subject in found.subjects] == ["url", "ashtree", "floor"]
    assert found.subjects[0].url == "ws://127.0.0.1:4000/socket/websocket?vsn=2.0.0"
    assert found.subjects[0].pids == (7,)


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options_of(["--only", "nothing"])
    assert "echo-100x1" in capsys.readouterr().err
