"""What every storage of a history promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from channels.durable.memory import MemoryStorage
from channels.durable.sqlite import SQLiteStorage
from channels.durable.storage import NewAnswer, NewMessage, Storage
from channels.durable.stream import Limits

Make: TypeAlias = Callable[[], Storage]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "memory":
        return MemoryStorage
    return lambda: SQLiteStorage(tmp_path / "history.db")


async def opened(make: Make, **limits: Any) -> Storage:
    storage = make()
    await storage.open(Limits(**limits), fresh_epoch="e")
    return storage


def new(topic: str, body: str = "{}") -> NewMessage:
    return NewMessage(topic, "edited", body.encode())


async def append(storage: Storage, *topics: str, now: float = 0.0) -> list[int]:
    return list((await storage.append([new(topic) for topic in topics], now=now)).offsets)


async def kept(storage: Storage, topic: str = "a", *, after: int = 0, now: float = 0.0) -> Any:
    found = await storage.read(topic, after=after, limit=1000, now=now)
    return found.first, found.last, [entry.offset for entry in found.entries]


async def test_a_topic_without_messages_is_at_offset_zero(make: Make) -> None:
    storage = await opened(make)
    found = await storage.read("a", after=0, limit=10, now=0.0)
    assert (found.epoch, found.first, found.last, found.entries) == ("e", 1, 0, ())
    storage.close()


async def test_offsets_count_the_messages_of_each_topic_in_the_order_of_the_batch(
    make: Make,
) -> None:
    storage = await opened(make)
    assert await append(storage, "a", "b", "a") == [1, 1, 2]
    assert await append(storage, "a") == [3]
    assert await kept(storage) == (1, 3, [1, 2, 3])
    assert await kept(storage, "b") == (1, 1, [1])
    storage.close()


async def test_a_message_comes_back_as_it_went_in(make: Make) -> None:
    storage = await opened(make)
    message = NewMessage("a\0ü", "évent", '{"ä":1}'.encode())
    await storage.append([message], now=0.0)
    (entry,) = (await storage.read(message.topic, after=0, limit=9, now=0.0)).entries
    assert (entry.epoch, entry.offset) == ("e", 1)
    assert (entry.event, entry.body) == (message.event, message.body)
    storage.close()


async def test_a_read_begins_behind_the_offset_and_ends_at_the_limit(make: Make) -> None:
    storage = await opened(make)
    await append(storage, *"aaaaa")
    found = await storage.read("a", after=1, limit=3, now=0.0)
    assert [entry.offset for entry in found.entries] == [2, 3, 4]
    assert (found.first, found.last) == (1, 5)
    assert await kept(storage, after=5) == (1, 5, [])
    storage.close()


async def test_a_topic_keeps_its_last_messages(make: Make) -> None:
    storage = await opened(make, max_messages=2)
    await append(storage, *"aaa")
    assert await kept(storage) == (2, 3, [2, 3])
    await append(storage, "a")
    assert await kept(storage) == (3, 4, [3, 4])
    assert storage.statistics()["messages"] == 2
    storage.close()


async def test_the_mode_latest_keeps_one_message(make: Make) -> None:
    storage = await opened(make, mode="latest")
    await append(storage, *"aab")
    assert await kept(storage) == (2, 2, [2])
    assert await kept(storage, "b") == (1, 1, [1])
    storage.close()


async def test_a_topic_keeps_no_more_bytes_than_its_limit(make: Make) -> None:
    size = new("a").size
    storage = await opened(make, max_bytes=2 * size)
    await append(storage, *"aaa")
    assert await kept(storage) == (2, 3, [2, 3])
    assert storage.statistics()["bytes"] == 2 * size
    storage.close()


async def test_an_old_message_is_not_read_and_leaves_with_the_next_append(make: Make) -> None:
    storage = await opened(make, max_age=10.0)
    await append(storage, "a", now=0.0)
    await append(storage, "a", now=5.0)
    assert await kept(storage, now=10.0) == (1, 2, [1, 2])
    assert await kept(storage, now=11.0) == (2, 2, [2])
    assert await kept(storage, now=16.0) == (3, 2, [])
    await append(storage, "a", now=16.0)
    assert storage.statistics()["messages"] == 1
    assert await kept(storage, now=16.0) == (3, 3, [3])
    storage.close()


async def test_the_kept_messages_have_no_gap_after_the_clock_was_set_back(make: Make) -> None:
    storage = await opened(make, max_age=10.0)
    await append(storage, "a", now=100.0)
    await append(storage, "a", now=50.0)
    await append(storage, "a", now=100.0)
    assert await kept(storage, now=100.0) == (1, 3, [1, 2, 3])
    storage.close()


async def test_the_topic_without_messages_for_the_longest_time_is_forgotten_first(
    make: Make,
) -> None:
    storage = await opened(make, max_topics=2)
    await append(storage, "a")
    await append(storage, "b")
    await append(storage, "a")
    assert (await storage.append([new("c")], now=0.0)).evicted == 1
    assert (await storage.ends(["a", "b", "c"])).offsets == {"a": 2, "c": 1}
    assert storage.statistics()["topics"] == 2
    storage.close()


async def test_an_offset_of_a_forgotten_topic_never_names_another_message(make: Make) -> None:
    storage = await opened(make, max_topics=1)
    await append(storage, *"aaa")
    await append(storage, "b")
    # "b" began before "a" was forgotten, so its offsets began at 1.
    assert await append(storage, "a") == [4]
    assert await kept(storage, "never") == (4, 3, [])
    storage.close()


async def test_all_topics_together_keep_no_more_bytes_than_the_limit(make: Make) -> None:
    size = new("a").size
    storage = await opened(make, max_total_bytes=3 * size)
    assert (await storage.append([new("a"), new("a")], now=0.0)).evicted == 0
    assert (await storage.append([new("b"), new("c")], now=0.0)).evicted == 1
    assert (await storage.ends(["a", "b", "c"])).offsets == {"b": 1, "c": 1}
    assert storage.statistics()["bytes"] == 2 * size
    storage.close()


async def test_a_batch_of_many_topics_leaves_the_latest_ones(make: Make) -> None:
    storage = await opened(make, max_topics=2)
    await append(storage, "a", "b", "a", "c")
    assert set((await storage.ends(["a", "b", "c"])).offsets) == {"a", "c"}
    storage.close()


async def test_the_ends_are_the_last_offsets_and_leave_out_unknown_topics(make: Make) -> None:
    storage = await opened(make)
    await append(storage, *"aab")
    ends = await storage.ends(["a", "b", "c", *map(str, range(1000))])
    assert (ends.epoch, dict(ends.offsets)) == ("e", {"a": 2, "b": 1})
    storage.close()


async def test_an_empty_batch_changes_nothing(make: Make) -> None:
    storage = await opened(make)
    assert await append(storage) == []
    assert storage.statistics() == {"topics": 0, "messages": 0, "bytes": 0, "keys": 0}
    storage.close()


async def test_closing_twice_is_fine(make: Make) -> None:
    storage = await opened(make)
    storage.close()
    storage.close()


# Keys


def keyed(key: str, topic: str = "a", body: str = "{}") -> NewMessage:
    return NewMessage(topic, "edited", body.encode(), key)


async def answered(storage: Storage, *keys: str, now: float = 0.0) -> Any:
    return await storage.append([], now=now, answers=[NewAnswer(key, b"1") for key in keys])


async def test_a_message_with_a_remembered_key_is_not_kept_again(make: Make) -> None:
    storage = await opened(make)
    await storage.append([new("a"), keyed("k")], now=0.0)
    found = await storage.append([keyed("k", "other"), keyed("l"), keyed("l")], now=0.0)
    assert (found.offsets, list(found.repeated)) == ([2, 3, 3], [0, 2])
    assert await kept(storage) == (1, 3, [1, 2, 3])
    assert await kept(storage, "other") == (1, 0, [])
    storage.close()


async def test_the_key_of_a_message_outlives_the_message(make: Make) -> None:
    storage = await opened(make, max_messages=1)
    await storage.append([keyed("k"), new("a")], now=0.0)
    found = await storage.append([keyed("k")], now=0.0)
    assert (found.offsets, list(found.repeated)) == ([1], [0])
    assert await kept(storage) == (2, 2, [2])
    storage.close()


async def test_the_first_answer_is_remembered(make: Make) -> None:
    storage = await opened(make)
    assert await storage.recall("k", now=0.0) is None
    first, other = NewAnswer("k", b"first"), NewAnswer("k", "sécond".encode())
    assert (await storage.append([new("a")], now=0.0, answers=[first])).answers == [b"first"]
    assert (await storage.append([], now=0.0, answers=[other])).answers == [b"first"]
    assert await storage.recall("k", now=0.0) == b"first"
    assert storage.statistics()["keys"] == 1
    storage.close()


async def test_an_old_key_is_forgotten_and_may_be_used_again(make: Make) -> None:
    storage = await opened(make, max_answer_age=10.0)
    await storage.append([keyed("k")], now=0.0, answers=[NewAnswer("l", b"1")])
    assert await storage.recall("l", now=10.0) == b"1"
    assert await storage.recall("l", now=11.0) is None
    found = await storage.append([keyed("k")], now=11.0, answers=[NewAnswer("l", b"2")])
    assert (found.offsets, list(found.repeated), found.answers) == ([2], [], [b"2"])
    assert found.forgotten == 0
    assert storage.statistics()["keys"] == 2
    storage.close()


async def test_the_oldest_keys_are_forgotten_beyond_their_number(make: Make) -> None:
    storage = await opened(make, max_answers=2)
    assert (await answered(storage, "k", "l")).forgotten == 0
    assert (await answered(storage, "m")).forgotten == 1
    found = [await storage.recall(key, now=0.0) for key in "klm"]
    assert found == [None, b"1", b"1"]
    storage.close()


async def test_the_oldest_keys_are_forgotten_beyond_their_bytes(make: Make) -> None:
    storage = await opened(make, max_answer_bytes=2 * NewAnswer("k", b"1").size)
    assert (await answered(storage, "k", "l", "m")).forgotten == 1
    assert await storage.recall("k", now=0.0) is None
    assert storage.statistics()["keys"] == 2
    storage.close()
