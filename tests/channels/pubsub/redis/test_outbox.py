"""The outbox keeps order, and neither its size nor its age exceeds the limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from channels.pubsub.redis.outbox import Outbox


def test_commands_leave_in_their_order() -> None:
    outbox = Outbox(max_bytes=100, max_seconds=1.0)
    for each in (b"a", b"b", b"c"):
        assert outbox.put(each, now=0.0)
    assert outbox.take(0.0, 2) == [b"a", b"b"]
    assert outbox.take(0.0, 2) == [b"c"]
    assert outbox.take(0.0, 2) == []


def test_a_command_that_does_not_fit_is_refused_and_counted() -> None:
    outbox = Outbox(max_bytes=3, max_seconds=1.0)
    assert outbox.put(b"ab", now=0.0)
    assert not outbox.put(b"cd", now=0.0)
    assert outbox.put(b"e", now=0.0)
    assert (outbox.take(0.0, 10), outbox.too_many, outbox.too_late) == ([b"ab", b"e"], 1, 0)


def test_a_command_that_has_waited_too_long_makes_room() -> None:
    outbox = Outbox(max_bytes=3, max_seconds=1.0)
    assert outbox.put(b"abc", now=0.0)
    assert not outbox.put(b"d", now=1.0)
    assert outbox.put(b"d", now=1.01)
    assert (outbox.size, outbox.too_many, outbox.too_late) == (1, 1, 1)


def test_a_command_above_the_size_of_a_batch_leaves_alone() -> None:
    outbox = Outbox(max_bytes=100, max_seconds=1.0)
    for each in (b"abcdef", b"g", b"h"):
        outbox.put(each, now=0.0)
    assert outbox.take(0.0, 3) == [b"abcdef"]
    assert outbox.take(0.0, 3) == [b"g", b"h"]


def test_a_command_above_the_limit_waits_alone() -> None:
    outbox = Outbox(max_bytes=3, max_seconds=1.0)
    assert outbox.put(b"abcdef", now=0.0)
    assert not outbox.put(b"g", now=0.0)
    assert outbox.take(0.0, 100) == [b"abcdef"]


def test_a_command_that_does_not_count_is_dropped_without_a_count() -> None:
    outbox = Outbox(max_bytes=3, max_seconds=1.0)
    assert outbox.put(b"abc", now=0.0, counted=False)
    assert not outbox.put(b"d", now=0.0, counted=False)
    assert outbox.take(2.0, 10) == []
    assert (outbox.too_many, outbox.too_late) == (0, 0)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "take"]), st.integers(0, 8), st.floats(0, 1)), max_size=40
    )
)
def test_everything_is_sent_dropped_or_still_waits(steps: list[tuple[str, int, float]]) -> None:
    outbox = Outbox(max_bytes=20, max_seconds=1.0)
    now, number = 0.0, 0
    taken: list[bytes] = []
    born = {}
    for kind, size, pause in steps:
        now += pause
        if kind == "put":
            number += 1
            command = b"%03d" % number + bytes(size)
            born[command] = now
            outbox.put(command, now)
        else:
            batch = outbox.take(now, size)
            assert all(now - born[each] <= 1.0 for each in batch)
            taken += batch
        assert outbox.size <= 20
    assert taken == sorted(taken)
    assert len(taken) + outbox.too_many + outbox.too_late + len(outbox) == number
    rest = outbox.take(now, 1000)
    assert outbox.size == 0
    assert len(taken) + len(rest) + outbox.too_many + outbox.too_late == number
