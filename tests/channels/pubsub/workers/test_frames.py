"""Frames between workers: whole ones are found in any stream of bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.pubsub.workers.frames import MAX_FRAME, BrokenFrame, cut, frame, unframe

FRAMES = st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=50)), max_size=8)


@given(FRAMES, st.integers(0, 400))
def test_frames_come_out_of_a_stream_as_they_went_in(
    frames: list[tuple[str, bytes]], at: int
) -> None:
    stream = b"".join(frame(lane, data) for lane, data in frames)
    found, rest = [], b""
    for part in (stream[:at], stream[at:]):
        data = rest + part
        ends = cut(data)
        found += list(unframe(data, ends))
        rest = data[ends[-1] :] if ends else data
    assert rest == b""
    assert found == frames


def test_a_declaration_has_a_lane_and_nothing_more() -> None:
    data = frame("@é")
    assert list(unframe(data, cut(data))) == [("@é", b"")]


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\0\0\0",
        b"\0\0\0\2\2ab",
        (MAX_FRAME + 1).to_bytes(4, "big") + b"\0\0",
        b"\0\0\0\1\3",
        b"GET / HTTP/1.1",
    ],
)
def test_bytes_of_a_stranger_are_no_frame(data: bytes) -> None:
    with pytest.raises(BrokenFrame):
        cut(data)
