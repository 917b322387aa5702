"""Frames between workers and their hub: whole ones are found in any stream of bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.pubsub.workers.frames import (
    DECLARE,
    EVERYBODY,
    MAX_FRAME,
    ONE,
    BrokenFrame,
    cut,
    ends_that_fit,
    frame,
    lane_in,
    unframe,
)

FRAMES = st.lists(
    st.tuples(st.text(max_size=20), st.binary(max_size=50), st.sampled_from([EVERYBODY, ONE])),
    max_size=8,
)


@given(FRAMES, st.integers(0, 400))
def test_frames_come_out_of_a_stream_as_they_went_in(
    frames: list[tuple[str, bytes, int]], at: int
) -> None:
    stream = b"".join(frame(lane, data, kind=kind) for lane, data, kind in frames)
    found, rest = [], b""
    for part in (stream[:at], stream[at:]):
        data = rest + part
        whole = cut(data)
        found += list(unframe(data, whole.ends))
        rest = data[whole.end :]
    assert rest == b""
    assert found == [(lane, data) for lane, data, _ in frames]


@given(FRAMES)
def test_kinds_are_told_if_one_frame_is_not_for_everybody(
    frames: list[tuple[str, bytes, int]],
) -> None:
    kinds = [kind for *_, kind in frames]
    stream = b"".join(frame(lane, data, kind=kind) for lane, data, kind in frames)
    assert cut(stream).kinds == (kinds if any(kinds) else None)


def test_a_declaration_has_a_lane_and_nothing_more() -> None:
    data = frame("@é", kind=DECLARE)
    assert lane_in(data) == "@é".encode()
    assert cut(data).kinds == [DECLARE]


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\0\0\0",
        b"\0\0\0\3\0\2ab",
        (MAX_FRAME + 1).to_bytes(4, "big") + b"\0\0",
        b"\0\0\0\2\3\0",
        b"GET / HTTP/1.1",
    ],
)
def test_bytes_of_a_stranger_are_no_frame(data: bytes) -> None:
    with pytest.raises(BrokenFrame):
        cut(data)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.data())
def test_only_whole_frames_are_kept_and_as_many_as_fit(
    sizes: list[int], data: st.DataObject
) -> None:
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    sent = data.draw(st.integers(0, ends[-1]))
    room = data.draw(st.integers(0, 20))
    kept = ends_that_fit(ends, sent, room)
    end = ends[kept - 1] if kept else 0
    assert end >= sent, "what is on its way in part is finished"
    if end - sent > room:
        assert kept == 1 or ends[kept - 2] < sent, "only that frame goes beyond the room"
    if kept < len(ends):
        assert ends[kept] - sent > room, "the next one has no room"
