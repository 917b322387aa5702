"""Positions, recoveries and cursors: the decisions about what a client gets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.durable.stream import (
    Cursor,
    Entry,
    Mode,
    Position,
    Recovery,
    Slice,
    parse_position,
    recover,
    take_position,
    with_position,
)

MODES: list[Mode] = ["stream", "latest"]


def stream(first: int, last: int, *, after: int, limit: int = 1000, epoch: str = "e") -> Slice:
    """The slice from a storage that keeps the messages from `first` to `last`."""
    offsets = [each for each in range(first, last + 1) if each > after][:limit]
    entries = tuple(Entry(epoch, offset, "edited", b"{}") for offset in offsets)
    return Slice(epoch, first, last, entries)


def offsets_of(recovery: Recovery) -> list[int]:
    return [entry.offset for entry in recovery.entries]


def test_a_position_is_read_as_it_was_written() -> None:
    for position in (Position("e", 0), Position("0123456789abcdef", 2**63 - 1), Position("a:b", 1)):
        assert parse_position(str(position)) == position


@given(st.one_of(st.text(), st.integers(), st.none(), st.lists(st.text()), st.floats()))
def test_no_value_of_a_client_raises(value: Any) -> None:
    position = parse_position(value)
    assert (position is None) is (value is None)


@given(st.from_regex(r"\A\w*:\d+\Z"))
def test_digits_that_are_not_ascii_or_too_many_are_no_position(text: str) -> None:
    position = parse_position(text)
    assert position is not None
    assert position.offset < 2**63


def test_the_position_is_taken_out_of_the_params_which_stay_as_they_are() -> None:
    params = {"name": "ann", "_position": "e:1"}
    assert take_position(params) == (Position("e", 1), {"name": "ann"})
    assert params == {"name": "ann", "_position": "e:1"}
    assert take_position([1]) == (None, [1])


@given(st.dictionaries(st.text(), st.integers()))
def test_the_position_is_added_to_any_object(payload: dict[str, int]) -> None:
    payload.pop("_position", None)
    for body in (json.dumps(payload), json.dumps(payload, indent=1)):
        encoded = with_position(body.encode(), Position("e", 7))
        assert json.loads(encoded) == {"_position": "e:7", **payload}


@given(
    st.integers(0, 30), st.integers(0, 30), st.integers(0, 40), st.integers(1, 40), st.booleans()
)
def test_a_recovery_of_a_stream_is_all_or_nothing(
    kept: int, last: int, offset: int, max_replay: int, is_same_epoch: bool
) -> None:
    first = max(1, last - kept + 1)
    found = stream(first, last, after=offset, limit=max_replay)
    position = Position("e" if is_same_epoch else "other", offset)
    recovery = recover(position, found, mode="stream", max_replay=max_replay)
    if recovery.recovered:
        assert recovery.start == position
        assert offsets_of(recovery) == list(range(offset + 1, last + 1))
        assert recovery.reason is None
    else:
        assert recovery.start == Position("e", last)
        assert not recovery.entries
        assert recovery.reason in ("epoch_changed", "too_old", "too_many")
    # It recovers whenever it can.
    can = is_same_epoch and first - 1 <= offset <= last <= offset + max_replay
    assert recovery.recovered is can


@pytest.mark.parametrize("mode", MODES)
def test_a_client_without_a_position_is_new_and_begins_at_the_end(mode: Mode) -> None:
    recovery = recover(None, Slice("e", 4, 3), mode=mode, max_replay=10)
    assert (recovery.reason, recovery.start, recovery.entries) == ("new", Position("e", 3), ())


@pytest.mark.parametrize(
    ("position", "recovered", "start", "offsets"),
    [
        (None, False, 4, [5]),
        (Position("other", 5), False, 4, [5]),
        (Position("e", 9), False, 4, [5]),
        (Position("e", 0), True, 0, [5]),
        (Position("e", 4), True, 4, [5]),
        (Position("e", 5), True, 5, []),
    ],
)
def test_latest_sends_the_last_message_to_every_client_without_it(
    position: Position | None, recovered: bool, start: int, offsets: list[int]
) -> None:
    found = stream(5, 5, after=0)
    recovery = recover(position, found, mode="latest", max_replay=1)
    assert (recovery.recovered, recovery.start) == (recovered, Position("e", start))
    assert offsets_of(recovery) == offsets


def test_latest_tells_a_client_that_the_last_message_is_gone() -> None:
    recovery = recover(Position("e", 3), Slice("e", 6, 5), mode="latest", max_replay=1)
    assert (recovery.recovered, recovery.reason) == (False, "too_old")


def test_the_reply_contains_a_reason_only_if_the_client_was_not_recovered() -> None:
    yes = recover(Position("e", 5), stream(1, 5, after=5), mode="stream", max_replay=9)
    assert yes.response() == {"_position": "e:5", "_recovered": True}
    no = recover(None, stream(1, 5, after=0), mode="stream", max_replay=9)
    assert no.response() == {"_position": "e:5", "_recovered": False, "_reason": "new"}


@pytest.mark.parametrize(
    ("mode", "at", "verdict"),
    [
        ("stream", Position("e", 7), "duplicate"),
        ("stream", Position("e", 6), "duplicate"),
        ("stream", Position("e", 8), "deliver"),
        ("stream", Position("e", 9), "gap"),
        ("stream", Position("f", 8), "changed"),
        ("latest", Position("e", 7), "duplicate"),
        ("latest", Position("e", 9), "deliver"),
        ("latest", Position("f", 8), "changed"),
    ],
)
def test_a_cursor_tells_the_next_message_from_others(
    mode: Mode, at: Position, verdict: str
) -> None:
    assert Cursor(Position("e", 7), mode).look(at) == verdict
