"""Durable topics as clients see them: positions, replay on rejoin, and what a lost history looks like."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from channels.durable import History, MemoryStorage
from channels.testing import ChannelTest, open_channel_test
from tests.channels.durable.documents import TOPIC, Reader, endpoint_of, joined


async def test_a_join_reply_carries_a_position_before_the_topic_has_a_message(
    case: ChannelTest,
) -> None:
    reader = Reader(case)
    response = await reader.join()
    assert response["_recovered"] is False
    assert response["_reason"] == "new"
    assert response["_position"].endswith(":0")


async def test_a_client_that_rejoins_gets_what_it_missed_once_and_in_order(
    ann: Reader, bob: Reader
) -> None:
    await ann.edit("a")
    assert await bob.heard(1) == ["a"]
    await bob.lose()
    await ann.edit("b")
    await ann.edit("c")
    response = await bob.join()
    assert response == {"_position": bob.position, "_recovered": True}
    await ann.edit("d")
    assert await bob.heard(3) == ["b", "c", "d"]
    await bob.hears_nothing()


async def test_the_reply_of_a_recovered_join_repeats_the_position_of_the_client(
    ann: Reader, bob: Reader
) -> None:
    before = bob.position
    await bob.lose()
    await ann.edit("a")
    # A connection that is lost right after this reply must not skip the message behind it.
    assert (await bob.join())["_position"] == before


async def test_an_answered_append_is_at_the_position_of_its_answer(ann: Reader) -> None:
    reply = await ann.edit("a")
    assert await ann.heard(1) == ["a"]
    assert ann.position == reply["position"]


async def test_a_broadcast_without_waiting_is_kept_too(ann: Reader, history: History) -> None:
    await ann.lose()
    history.append_nowait(TOPIC, "edited", {"text": "from outside"})
    await ann.join()
    assert await ann.heard(1) == ["from outside"]


async def test_plain_broadcasts_of_the_topic_arrive_without_a_position_and_are_not_kept(
    ann: Reader, bob: Reader
) -> None:
    ann.channel.push("typing", {"by": "ann"})
    assert (await bob.channel.assert_push("typing")) == {"by": "ann"}
    await bob.lose()
    ann.channel.push("typing", {"by": "ann"})
    await ann.channel.assert_push("typing")
    await ann.channel.assert_push("typing")
    await bob.join()
    await bob.channel.refute_push("typing")


async def lag(ann: Reader, bob: Reader, edits: int) -> None:
    """Let a reader be away for some edits of another, and join again."""
    await bob.lose()
    for number in range(edits):
        await ann.edit(str(number))
    await bob.join()


@pytest.mark.parametrize(
    ("options", "edits", "reason"),
    [
        ({"max_messages": 3}, 4, "too_old"),
        ({"max_bytes": 100}, 20, "too_old"),
        ({"max_replay": 3}, 4, "too_many"),
    ],
)
async def test_a_client_beyond_a_bound_gets_the_reason_and_no_message(
    ann: Reader, bob: Reader, edits: int, reason: str
) -> None:
    await lag(ann, bob, edits)
    assert bob.response["_recovered"] is False
    assert bob.response["_reason"] == reason
    snapshot = await bob.channel.assert_push("snapshot")
    assert snapshot == {"reason": reason}
    await bob.hears_nothing()


@pytest.mark.parametrize(("options", "edits"), [({"max_messages": 3}, 3), ({"max_replay": 3}, 3)])
async def test_a_client_at_a_bound_gets_everything(ann: Reader, bob: Reader, edits: int) -> None:
    await lag(ann, bob, edits)
    assert bob.response["_recovered"] is True
    assert await bob.heard(edits) == [str(number) for number in range(edits)]


async def test_a_restart_that_loses_the_history_changes_the_epoch() -> None:
    async with open_channel_test(endpoint_of(History())) as case:
        bob = await joined(case)
    async with open_channel_test(endpoint_of(History())) as case:
        bob.case = case
        response = await bob.join()
        assert response["_reason"] == "epoch_changed"


@pytest.mark.parametrize(
    "position", ["", ":", "x", "x:1", "x:-1", 7, ["x"], {"x": 1}, "x" * 5000, "x:" + "9" * 400]
)
async def test_a_position_that_is_none_counts_as_one_of_a_lost_history(
    case: ChannelTest, position: Any
) -> None:
    ann = Reader(case)
    ann.position = position
    assert (await ann.join())["_reason"] == "epoch_changed"


async def test_a_position_ahead_of_the_stream_counts_as_one_of_a_lost_history(ann: Reader) -> None:
    ann.position = ann.position[:-1] + "9"
    assert (await ann.join())["_reason"] == "epoch_changed"


@pytest.mark.parametrize("options", [{"mode": "latest"}])
async def test_latest_gives_a_new_client_the_last_state_alone(
    case: ChannelTest, ann: Reader
) -> None:
    await ann.edit("a")
    await ann.edit("b")
    bob = await joined(case)
    assert await bob.heard(1) == ["b"]
    await bob.lose()
    await ann.edit("c")
    await ann.edit("d")
    assert (await bob.join())["_recovered"] is True
    assert await bob.heard(1) == ["d"]
    await bob.hears_nothing()


async def test_a_join_again_on_the_same_connection_repeats_nothing(ann: Reader) -> None:
    await ann.edit("a")
    assert await ann.heard(1) == ["a"]
    assert (await ann.join_again())["_recovered"] is True
    await ann.edit("b")
    assert await ann.heard(1) == ["b"]
    await ann.hears_nothing()


class SlowReads(MemoryStorage):
    """A storage whose reads take a second."""

    async def read(self, *args: Any, **options: Any) -> Any:
        found = await super().read(*args, **options)
        await trio.sleep(1)
        return found


async def test_messages_during_the_read_of_the_history_come_after_it_once() -> None:
    history = History(SlowReads())
    async with open_channel_test(endpoint_of(history), timeout=5) as case:
        bob = await joined(case)
        await bob.lose()
        await history.append(TOPIC, "edited", {"text": "before"})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bob.join)
            await trio.sleep(0.5)
            await history.append(TOPIC, "edited", {"text": "during"})
        # Without a later message, which would show that one is missing.
        assert await bob.heard(2) == ["before", "during"]
        await history.append(TOPIC, "edited", {"text": "after"})
        assert await bob.heard(1) == ["after"]
        # "during" came twice, from the storage and in the mailbox. That is no gap.
        assert history.statistics()["gaps"] == 0
        await bob.hears_nothing()
