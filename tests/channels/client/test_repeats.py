"""Pushes with a key, which the client sends again after a rejoin."""

from __future__ import annotations

from typing import Any

from channels.client.records import ChannelRecord, PositionTracker
from tests.channels.client.driving import Driver


def connected() -> Driver:
    client = Driver()
    client.open()
    client.effects = []
    return client


def rejoin(client: Driver) -> None:
    """Open the next connection, and join again."""
    client.wait(client.protocol.deadline - client.now)
    client.opened()
    *_, join = client.frames()
    assert join[3] == "phx_join"
    client.answer(join)


def sent(client: Driver) -> list[Any]:
    return [frame[4]["n"] for frame in client.frames()]


def lost_with_pushes(client: Driver) -> ChannelRecord:
    """A channel that lost its connection with a push that can be repeated, and one that cannot."""
    channel = client.joined()
    client.push(channel, "new", {"n": 1}, is_repeatable=True, timeout=8)
    client.push(channel, "new", {"n": 2}, timeout=8)
    assert sent(client) == [1, 2]
    client.lose()
    return channel


def test_a_push_without_an_answer_is_sent_again_after_the_rejoin_if_it_has_a_key() -> None:
    client = connected()
    channel = lost_with_pushes(client)
    client.push(channel, "new", {"n": 3}, timeout=8)
    rejoin(client)
    frames = client.frames()
    assert [frame[4]["n"] for frame in frames] == [1, 3]
    assert {frame[0] for frame in frames} == {channel.join_ref}
    client.answer(frames[0], "ok", {"first": True})
    assert [response for _, _, response in client.settled()] == [{"first": True}]


def test_a_push_is_sent_again_after_a_crash_of_its_channel() -> None:
    client = connected()
    channel = client.joined()
    client.push(channel, "new", {"n": 1}, is_repeatable=True)
    client.hear(channel.join_ref, channel.join_ref, "room:a", "phx_error", {})
    client.frames()
    client.wait(1)
    (join,) = client.frames()
    client.answer(join)
    assert sent(client) == [1]


def test_the_timeout_of_a_push_covers_all_its_attempts() -> None:
    client = connected()
    lost_with_pushes(client)
    rejoin(client)
    rest = 8 - client.now
    client.settled()
    client.wait(rest - 0.1)
    assert client.settled() == []
    client.wait(0.1)
    settled = [(push.is_repeatable, status) for push, status, _ in client.settled()]
    assert sorted(settled) == [(False, "timeout"), (True, "timeout")]


def test_a_push_that_timed_out_or_was_answered_is_not_sent_again() -> None:
    client = connected()
    channel = client.joined()
    client.push(channel, "new", {"n": 1}, is_repeatable=True, timeout=1)
    client.push(channel, "new", {"n": 2}, is_repeatable=True)
    _, second = client.frames()
    client.answer(second)
    client.wait(1)
    client.lose()
    rejoin(client)
    assert client.frames() == []
    assert channel.buffered == 0


def test_a_push_that_is_cancelled_while_it_waits_again_is_not_sent() -> None:
    client = connected()
    channel = client.joined()
    push = client.push(channel, "new", {"n": 1}, is_repeatable=True)
    client.lose()
    assert channel.buffered == 1
    client.protocol.cancel(push)
    assert channel.buffered == 0
    client.frames()
    rejoin(client)
    assert client.frames() == []


def test_each_push_gets_a_key_of_its_own_and_keeps_one_that_the_program_chose() -> None:
    numbers = iter([0.0, 0.25, 0.5, 0.75] * 2)
    tracker = PositionTracker(lambda: None, lambda: next(numbers))
    assert tracker.keyed(None) == {"_key": "000000004000000080000000c0000000"}
    assert tracker.keyed({"_key": "mine", "n": 1}) == {"_key": "mine", "n": 1}
    assert tracker.keyed([1]) == [1]
