"""Out-buffers: order, marks and bounds, and the reports to a connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.messages import BinaryFrame
from channels.transports.contract import Event, OutBufferStatistics, Signal
from channels.transports.out_buffer import OutBuffer


class Owner:
    """A connection and its writer. It keeps the reports, and the marked buffers."""

    def __init__(self, *, max_messages: int = 100, max_bytes: int = 1000) -> None:
        self.told: list[Event] = []
        self.marks: list[OutBuffer] = []
        self.finished = 0
        self.out = OutBuffer(
            self,
            tell=self.told.append,
            max_messages=max_messages,
            max_bytes=max_bytes,
        )

    def mark(self, out: OutBuffer) -> None:
        self.marks.append(out)

    def limit_unsent(self, out: OutBuffer) -> None:
        raise AssertionError("there are no values")

    def finish(self, frame: bytes = b"") -> None:
        self.out.finish(frame, self._finished)

    def _finished(self) -> None:
        self.finished += 1

    def write(self, data: bytes) -> None:
        """Take all frames, and report that they were written."""
        assert data == self.out.take()
        if self.out.finished is not None:
            self.out.written()


def test_frames_leave_in_one_piece_and_in_order() -> None:
    owner = Owner()
    for frame in (b"a", b"b", b"c"):
        owner.out.put(frame)
    assert owner.out.take() == b"abc"
    assert owner.out.take() == b""


def test_only_the_first_frame_marks_a_buffer_until_it_is_taken() -> None:
    owner = Owner()
    owner.out.put(b"a")
    owner.out.put(b"b")
    assert owner.marks == [owner.out]
    owner.out.take()
    assert owner.marks == [owner.out]
    owner.out.put(b"c")
    assert owner.marks == [owner.out] * 2


def test_messages_are_listed_separately_until_they_are_dropped() -> None:
    owner = Owner(max_bytes=6)
    owner.out.put(b"one")
    owner.out.put(BinaryFrame(b"two"))
    messages = owner.out.messages
    assert [type(message) for message in messages] == [bytes, BinaryFrame]
    owner.out.drop()
    assert messages == [b"one", b"two"]
    assert owner.out.messages == []
    assert owner.out.statistics().waiting_bytes == 0
    owner.out.put(b"three!")
    assert owner.marks == [owner.out] * 2
    assert owner.told == []


def test_dropping_the_oldest_frames_makes_room_for_as_much_as_they_had() -> None:
    owner = Owner(max_messages=3, max_bytes=10)
    for frame in (b"aaaa", b"bbb", b"cc"):
        owner.out.put(frame)
    owner.out.drop(2)
    assert owner.out.messages == [b"cc"]
    owner.out.put(b"d" * 8)
    assert owner.told == []
    owner.out.put(b"e")
    assert owner.told == [Signal.OVERFLOW]
    assert owner.out.messages == [b"cc", b"d" * 8]


def test_a_frame_whose_mark_fails_is_not_appended() -> None:
    class FailsOnce(Owner):
        def mark(self, out: OutBuffer) -> None:
            super().mark(out)
            if len(self.marks) == 1:
                raise RuntimeError("a wrong thread")

    owner = FailsOnce()
    out = owner.out
    with pytest.raises(RuntimeError, match="a wrong thread"):
        out.put(b"lost")
    assert (out.statistics().waiting_messages, out.statistics().waiting_bytes) == (0, 0)
    out.put(b"found")
    assert len(owner.marks) == 2
    assert out.take() == b"found"


def test_a_buffer_that_catches_up_is_not_marked() -> None:
    owner = Owner()
    owner.out.put(b"abc")
    owner.out.hold(owner.out.take()[1:])
    owner.out.put(b"d")
    assert len(owner.marks) == 1
    assert owner.out.statistics().catching_up
    assert bytes(owner.out.rest) == b"bc"
    owner.out.progress(1)
    assert bytes(owner.out.rest) == b"c"
    owner.out.progress(1)
    assert bytes(owner.out.rest) == b"d"
    owner.out.progress(1)
    assert bytes(owner.out.rest) == b""
    assert not owner.out.statistics().catching_up
    owner.out.put(b"e")
    assert len(owner.marks) == 2


def test_one_message_beyond_the_bound_is_an_overflow_reported_once() -> None:
    owner = Owner(max_messages=2)
    owner.out.put(b"a")
    owner.out.put(b"b")
    assert owner.told == []
    owner.out.put(b"c")
    owner.out.put(b"d")
    assert owner.told == [Signal.OVERFLOW]
    assert owner.out.statistics() == OutBufferStatistics(
        waiting_messages=2,
        waiting_bytes=2,
        dropped_messages=2,
        overflowed=True,
        catching_up=False,
    )


def test_one_byte_beyond_the_bound_is_an_overflow() -> None:
    owner = Owner(max_bytes=5)
    owner.out.put(b"abc")
    owner.out.put(b"de")
    assert owner.told == []
    owner.out.put(b"f")
    assert owner.told == [Signal.OVERFLOW]


def test_after_an_overflow_new_frames_are_refused_but_waiting_ones_leave() -> None:
    owner = Owner(max_messages=1)
    owner.out.put(b"a")
    owner.out.put(b"b")
    assert owner.out.take() == b"a"
    owner.out.put(b"c")
    assert owner.out.take() == b""
    assert owner.told == [Signal.OVERFLOW]
    assert owner.out.statistics().dropped_messages == 2


def test_an_empty_buffer_accepts_one_frame_of_any_size() -> None:
    owner = Owner(max_bytes=5)
    owner.out.put(b"123456789")
    assert owner.told == []
    owner.out.put(b"")
    assert owner.told == [Signal.OVERFLOW], "but nothing beside it"
    assert owner.out.take() == b"123456789"


def test_an_emptied_buffer_has_its_full_bounds_again() -> None:
    owner = Owner(max_messages=2, max_bytes=4)
    for _ in range(10):
        owner.out.put(b"ab")
        owner.out.put(b"cd")
        assert owner.out.take() == b"abcd"
    assert owner.told == []


def test_bytes_of_a_started_write_count_until_they_are_written() -> None:
    owner = Owner(max_bytes=5)
    owner.out.put(b"abcd")
    owner.out.hold(owner.out.take())
    owner.out.put(b"e")
    assert owner.out.statistics().waiting_bytes == 5
    owner.out.progress(1)
    owner.out.put(b"f")
    assert owner.told == []
    owner.out.put(b"g")
    assert owner.told == [Signal.OVERFLOW]


def test_a_large_backlog_is_joined_in_pieces() -> None:
    owner = Owner(max_bytes=10_000_000)
    frames = [bytes([i]) * 50_000 for i in range(5)]
    owner.out.put(b"x")
    owner.out.hold(owner.out.take())
    for frame in frames:
        owner.out.put(frame)
    sizes = []
    written = bytearray()
    while owner.out.rest:
        written += owner.out.rest
        sizes.append(len(owner.out.rest))
        owner.out.progress(len(owner.out.rest))
    assert bytes(written) == b"x" + b"".join(frames)
    assert sizes == [1, 100_000, 100_000, 50_000]


def test_the_last_frame_ignores_the_bounds() -> None:
    owner = Owner(max_messages=1, max_bytes=1)
    owner.out.put(b"a")
    owner.finish(b"last")
    owner.out.put(b"late")
    owner.write(b"alast")
    assert owner.finished == 1
    assert owner.told == []
    assert owner.out.statistics().dropped_messages == 1


def test_the_last_frame_is_accepted_after_an_overflow() -> None:
    owner = Owner(max_messages=1)
    owner.out.put(b"a")
    owner.out.put(b"b")
    owner.finish(b"last")
    owner.write(b"alast")
    assert owner.finished == 1


def test_a_buffer_can_be_finished_without_a_last_frame() -> None:
    owner = Owner()
    owner.finish()
    assert owner.marks == [owner.out]
    owner.write(b"")
    assert owner.finished == 1


def test_the_writing_task_finishes_a_buffer_that_catches_up() -> None:
    owner = Owner()
    owner.out.put(b"ab")
    owner.out.hold(owner.out.take())
    owner.finish(b"last")
    owner.out.progress(2)
    assert bytes(owner.out.rest) == b"last"
    owner.out.progress(4)
    assert bytes(owner.out.rest) == b""
    owner.out.written()
    assert owner.finished == 1


def test_a_buffer_cannot_be_finished_twice() -> None:
    owner = Owner()
    owner.finish()
    with pytest.raises(RuntimeError, match="finish"):
        owner.finish()


def test_a_failed_write_is_reported_once_and_ends_the_buffer() -> None:
    owner = Owner()
    error = BrokenPipeError()
    owner.out.put(b"a")
    owner.out.take()
    owner.out.put(b"b")
    owner.out.fail(error)
    owner.out.fail(error)
    owner.out.put(b"c")
    assert owner.told == [error]
    assert owner.out.take() == b""
    assert owner.out.statistics().dropped_messages == 1


def test_a_failed_write_is_reported_without_its_frames() -> None:
    """A traceback refers to the buffer. Only the garbage collector could free that reference cycle."""
    owner = Owner()
    try:
        raise BrokenPipeError
    except OSError as error:
        owner.out.fail(error)
    (reported,) = owner.told
    assert isinstance(reported, BrokenPipeError)
    assert reported.__traceback__ is None


def test_a_failed_write_finishes_a_buffer_after_finish() -> None:
    owner = Owner()
    owner.finish(b"last")
    owner.out.take()
    owner.out.fail(BrokenPipeError())
    assert owner.finished == 1
    assert owner.told == []


def test_a_buffer_that_failed_can_still_be_finished() -> None:
    owner = Owner()
    owner.out.fail(BrokenPipeError())
    owner.finish(b"last")
    assert owner.marks == [owner.out]
    owner.out.take()
    owner.out.fail(BrokenPipeError())
    assert owner.finished == 1
    assert len(owner.told) == 1


def test_a_closed_buffer_reports_nothing_and_holds_nothing() -> None:
    owner = Owner(max_messages=1)
    owner.out.put(b"a")
    owner.out.close()
    owner.out.close()
    owner.out.put(b"b")
    owner.out.put(b"c")
    owner.finish(b"last")
    owner.out.fail(BrokenPipeError())
    owner.out.written()
    assert owner.out.take() == b""
    assert (owner.told, owner.finished) == ([], 0)
    assert owner.out.statistics().waiting_bytes == 0


actions = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 12)),
    st.tuples(st.just("take"), st.just(0)),
    st.tuples(st.just("short write"), st.integers(0, 12)),
    st.tuples(st.just("progress"), st.integers(1, 12)),
)


@given(st.lists(actions, max_size=60))
def test_a_prefix_of_the_frames_leaves_and_the_bounds_hold(
    steps: list[tuple[str, int]],
) -> None:
    owner = Owner(max_messages=4, max_bytes=20)
    out = owner.out
    put = b""
    left = b""
    for number, (step, size) in enumerate(steps):
        statistics = out.statistics()
        if step == "put":
            frame = bytes([number % 256]) * size
            put += frame
            out.put(frame)
        elif step == "progress" and statistics.catching_up:
            size = min(size, len(out.rest))
            left += out.rest[:size]
            out.progress(size)
        elif not statistics.catching_up:
            data = out.take()
            if step == "take":
                left += data
            elif size < len(data):
                left += data[:size]
                out.hold(data[size:])
            else:
                left += data
        assert put.startswith(left)
        now = out.statistics()
        assert now.waiting_messages <= 4
        assert now.waiting_bytes <= 20
        assert owner.told == ([Signal.OVERFLOW] if now.overflowed else [])
        assert now.overflowed == (now.dropped_messages > 0)
    if not owner.told:
        left += out.rest
        while out.rest:
            out.progress(len(out.rest))
            left += out.rest
        assert left + out.take() == put, "without an overflow nothing is lost"


def test_a_buffer_reports_the_writes_that_are_not_the_flushers() -> None:
    owner = Owner(max_bytes=1_000_000)
    written: list[tuple[int, int]] = []
    owner.out.on_write = (lambda size, count: written.append((size, count)),)
    for frame in (b"aaaa", b"bbb", b"cc"):
        owner.out.put(frame)
    owner.out.drop(2)
    assert written == [(7, 2)]
    owner.out.hold(owner.out.take())
    owner.out.put(b"d")
    owner.out.put(b"ee")
    owner.out.progress(2)
    assert written == [(7, 2), (3, 2)]
    owner.out.progress(3)
    owner.out.drop()
    assert written == [(7, 2), (3, 2)]
