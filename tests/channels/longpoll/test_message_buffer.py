"""The buffer of transports that carry whole messages: order, bounds, one wake-up for many messages."""

from __future__ import annotations

import pytest

from channels.longpoll.message_buffer import MessageBuffer
from channels.messages import BinaryFrame
from channels.transports.events import Signal


class Buffered:
    """A buffer, with what it has said."""

    def __init__(self, *, max_messages: int = 3, max_bytes: int = 10) -> None:
        self.wakes = 0
        self.told: list[object] = []
        self.out = MessageBuffer(
            self._wake, tell=self.told.append, max_messages=max_messages, max_bytes=max_bytes
        )

    def _wake(self) -> None:
        self.wakes += 1

    def put(self, *frames: bytes) -> None:
        for frame in frames:
            self.out.put(frame)


def test_messages_are_taken_whole_in_order_and_once() -> None:
    buffered = Buffered()
    buffered.put(b"one", BinaryFrame(b"two"))
    taken = buffered.out.take()
    assert taken == [b"one", b"two"]
    assert [type(message) for message in taken] == [bytes, BinaryFrame]
    assert buffered.out.take() == []


def test_it_wakes_for_the_first_message_and_not_again_before_they_are_taken() -> None:
    buffered = Buffered()
    buffered.put(b"1", b"2")
    assert buffered.wakes == 1
    buffered.out.take()
    assert buffered.wakes == 1
    buffered.put(b"3")
    assert buffered.wakes == 2


def test_a_message_too_many_is_dropped_with_all_that_follow_and_told_once() -> None:
    buffered = Buffered()
    buffered.put(b"1", b"2", b"3", b"4", b"5")
    assert buffered.told == [Signal.OVERFLOW]
    statistics = buffered.out.statistics()
    assert (statistics.waiting_messages, statistics.waiting_bytes) == (3, 3)
    assert (statistics.dropped_messages, statistics.overflowed) == (2, True)
    assert buffered.out.take() == [b"1", b"2", b"3"]
    buffered.put(b"6")
    assert buffered.out.take() == []


def test_bytes_are_bounded_too_but_an_empty_buffer_takes_a_message_of_any_size() -> None:
    buffered = Buffered()
    buffered.put(b"x" * 100)
    assert buffered.told == []
    assert buffered.out.take() == [b"x" * 100]
    buffered.put(b"12345", b"67890", b"1")
    assert buffered.told == [Signal.OVERFLOW]
    assert buffered.out.take() == [b"12345", b"67890"]


def test_a_closed_buffer_drops_what_waits_and_what_comes_and_says_nothing() -> None:
    buffered = Buffered()
    buffered.put(b"1")
    buffered.out.close()
    buffered.put(b"2", b"3")
    assert buffered.out.take() == []
    assert buffered.told == []
    assert buffered.wakes == 1
    assert buffered.out.statistics().dropped_messages == 2


def test_a_message_whose_wake_fails_does_not_wait() -> None:
    def wake() -> None:
        wakes.append(len(wakes))
        if len(wakes) == 1:
            raise RuntimeError("a wrong thread")

    wakes: list[int] = []
    out = MessageBuffer(wake, tell=lambda _: None)
    with pytest.raises(RuntimeError, match="a wrong thread"):
        out.put(b"lost")
    assert (out.statistics().waiting_messages, out.statistics().waiting_bytes) == (0, 0)
    out.put(b"found")
    assert len(wakes) == 2
    assert out.take() == [b"found"]
