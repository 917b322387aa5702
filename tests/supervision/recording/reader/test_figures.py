"""The recovery figures of a story, in each of their forms."""

from __future__ import annotations

import csv
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervision.laboratory.story.svg import draw_figures
from supervision.recording.reader.figures import BOUNDS, Durations, RecoveryFigures, figures_of
from supervision.recording.reader.story import tell_story
from tests.supervision.laboratory.story.staged import play


@pytest.fixture(scope="module")
def figures() -> RecoveryFigures:
    return figures_of(tell_story(play("channel_crash")))


def durations(values: list[float]) -> Durations:
    return Durations(values=values, median=None, p99=None, longest=max(values, default=None))


def test_the_times_from_the_fault_to_the_joined_client_are_measured(
    figures: RecoveryFigures,
) -> None:
    assert figures.rejoined.values == [1.0]
    assert (figures.messages_lost, figures.restarted.values) == (2, [])


def test_restarts_are_counted_for_each_child() -> None:
    found = figures_of(tell_story(play("intensity_exceeded")))
    assert found.restarts == {"/shop/branch/store": 3, "/shop/branch": 1}
    assert len(found.restarted.values) == 4


@given(st.lists(st.floats(0, 1000)))
def test_every_time_is_in_one_bar(values: list[float]) -> None:
    bars = durations(values).histogram()
    assert [bound for bound, _ in bars] == [*BOUNDS, None]
    assert sum(count for _, count in bars) == len(values)


def test_a_time_at_a_bound_belongs_to_the_bar_below() -> None:
    assert dict(durations([0.1]).histogram())[0.1] == 1


def test_csv_and_json_lines_have_the_same_rows(figures: RecoveryFigures) -> None:
    (row,) = csv.DictReader(figures.to_csv().splitlines())
    (line,) = figures.to_json_lines().splitlines()
    data: dict[str, Any] = msgspec.json.decode(line)
    assert row == {name: "" if value is None else str(value) for name, value in data.items()}


def test_the_table_has_every_figure(figures: RecoveryFigures) -> None:
    assert "fault to joined again  1      1.000 s" in figures.table()
    assert "messages lost: 2" in figures.table()


def test_the_picture_has_a_bar_for_each_count_and_escapes_its_title(
    figures: RecoveryFigures,
) -> None:
    picture = draw_figures(figures, title="<run & fall>")
    assert picture.count("<rect") == 1
    assert "&lt;run &amp; fall&gt;" in picture
