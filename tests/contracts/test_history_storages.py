"""The contract of every storage of a history."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio

from actors import Pid, open_runtime, stop
from actors.instrumentation.telemetry import Event
from channels.durable.memory import MemoryStorage
from channels.durable.redis import RedisStorage
from channels.durable.sqlite import SQLiteStorage
from channels.durable.storage import MAX_FENCE, NewAnswer, NewMessage, Receiver, Storage
from channels.durable.stream import Entry, Limits
from channels.pubsub.redis.server import RedisServer
from supervision import Supervisor
from tests.channels.pubsub.redis.resp_server import RespServer
from tests.patience import until

Open: TypeAlias = Callable[..., Awaitable[Storage]]
"""Makes a storage and starts its processes; the options are `Limits`, and `receiver`."""


@asynccontextmanager
async def opening(make: Callable[[], Storage]) -> AsyncIterator[Open]:
    """Open storages. At the end, stop their processes and close them."""
    started: list[Pid] = []
    storages: list[Storage] = []

    async def opened(receiver: Receiver | None = None, **limits: Any) -> Storage:
        storage = make()
        storages.append(storage)
        await storage.open(Limits(**limits), fresh_epoch="e")
        processes = storage.processes(receiver or Heard())
        started.append(await Supervisor.start_link(processes, label="storage"))
        return storage

    async with open_runtime(log=False):
        yield opened
        for pid in started:
            await stop(pid)
    for storage in storages:
        storage.close()


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    async with trio.open_nursery() as nursery:
        server = RespServer(nursery)
        makes: dict[str, Callable[[], Storage]] = {
            "memory": MemoryStorage,
            "sqlite": lambda: SQLiteStorage(tmp_path / "history.db"),
            "redis": lambda: RedisStorage(RedisServer("redis://db", connect=server.connect)),
        }
        async with opening(makes[request.param]) as opened:
            yield opened
        nursery.cancel_scope.cancel()


class Heard:
    """A receiver that keeps what it gets."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, Entry]] = []
        self.checks = 0
        self.events: list[tuple[Event, Mapping[str, Any]]] = []

    def receive(self, topic: str, entry: Entry) -> None:
        self.entries.append((topic, entry))

    def check(self) -> None:
        self.checks += 1

    def execute(
        self, event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        self.events.append((event, metadata))


def new(topic: str, body: str = "{}") -> NewMessage:
    return NewMessage(topic, "edited", body.encode())


async def append(storage: Storage, *topics: str, now: float = 0.0) -> list[int]:
    return list((await storage.append([new(topic) for topic in topics], now=now)).offsets)


async def kept(storage: Storage, topic: str = "a", *, after: int = 0, now: float = 0.0) -> Any:
    found = await storage.read(topic, after=after, limit=1000, now=now)
    return found.first, found.last, [entry.offset for entry in found.entries]


async def test_a_topic_without_messages_is_at_offset_zero(opened: Open) -> None:
    storage = await opened()
    found = await storage.read("a", after=0, limit=10, now=0.0)
    assert (found.epoch, found.first, found.last, found.entries) == ("e", 1, 0, ())


async def test_offsets_count_the_messages_of_each_topic_in_the_order_of_the_batch(
    opened: Open,
) -> None:
    storage = await opened()
    assert await append(storage, "a", "b", "a") == [1, 1, 2]
    assert await append(storage, "a") == [3]
    assert await kept(storage) == (1, 3, [1, 2, 3])
    assert await kept(storage, "b") == (1, 1, [1])


async def test_a_message_comes_back_as_it_went_in(opened: Open) -> None:
    storage = await opened()
    message = NewMessage("a\0ü", "évent", '{"ä":1}'.encode())
    await storage.append([message], now=0.0)
    (entry,) = (await storage.read(message.topic, after=0, limit=9, now=0.0)).entries
    assert (entry.epoch, entry.offset) == ("e", 1)
    assert (entry.event, entry.body) == (message.event, message.body)


async def test_a_read_begins_behind_the_offset_and_ends_at_the_limit(opened: Open) -> None:
    storage = await opened()
    await append(storage, *"aaaaa")
    found = await storage.read("a", after=1, limit=3, now=0.0)
    assert [entry.offset for entry in found.entries] == [2, 3, 4]
    assert (found.first, found.last) == (1, 5)
    assert await kept(storage, after=5) == (1, 5, [])


@pytest.mark.parametrize("after", [2**53, 2**63 - 1])
async def test_a_read_behind_the_greatest_offset_of_a_client_finds_nothing(
    opened: Open, after: int
) -> None:
    storage = await opened()
    await storage.append([new("a"), new("a")], now=0.0)
    found = await storage.read("a", after=after, limit=9, now=0.0)
    assert (found.last, found.entries) == (2, ())


async def test_a_topic_keeps_its_last_messages(opened: Open) -> None:
    storage = await opened(max_messages=2)
    await append(storage, *"aaa")
    assert await kept(storage) == (2, 3, [2, 3])
    await append(storage, "a")
    assert await kept(storage) == (3, 4, [3, 4])
    assert storage.statistics()["messages"] == 2


async def test_the_mode_latest_keeps_one_message(opened: Open) -> None:
    storage = await opened(mode="latest")
    await append(storage, *"aab")
    assert await kept(storage) == (2, 2, [2])
    assert await kept(storage, "b") == (1, 1, [1])


async def test_a_topic_keeps_no_more_bytes_than_its_limit(opened: Open) -> None:
    size = new("a").size
    storage = await opened(max_bytes=2 * size)
    await append(storage, *"aaa")
    assert await kept(storage) == (2, 3, [2, 3])
    assert storage.statistics()["bytes"] == 2 * size


async def test_an_old_message_is_not_read_and_leaves_with_the_next_append(opened: Open) -> None:
    storage = await opened(max_age=10.0)
    await append(storage, "a", now=0.0)
    await append(storage, "a", now=5.0)
    assert await kept(storage, now=10.0) == (1, 2, [1, 2])
    assert await kept(storage, now=11.0) == (2, 2, [2])
    assert await kept(storage, now=16.0) == (3, 2, [])
    await append(storage, "a", now=16.0)
    assert storage.statistics()["messages"] == 1
    assert await kept(storage, now=16.0) == (3, 3, [3])


async def test_the_kept_messages_have_no_gap_after_the_clock_was_set_back(opened: Open) -> None:
    storage = await opened(max_age=10.0)
    await append(storage, "a", now=100.0)
    await append(storage, "a", now=50.0)
    await append(storage, "a", now=100.0)
    assert await kept(storage, now=100.0) == (1, 3, [1, 2, 3])


async def test_the_topic_without_messages_for_the_longest_time_is_forgotten_first(
    opened: Open,
) -> None:
    storage = await opened(max_topics=2)
    await append(storage, "a")
    await append(storage, "b")
    await append(storage, "a")
    assert (await storage.append([new("c")], now=0.0)).evicted == 1
    assert (await storage.ends(["a", "b", "c"])).offsets == {"a": 2, "c": 1}
    assert storage.statistics()["topics"] == 2


async def test_an_offset_of_a_forgotten_topic_never_names_another_message(opened: Open) -> None:
    storage = await opened(max_topics=1)
    await append(storage, *"aaa")
    await append(storage, "b")
    # "b" began before "a" was forgotten, so its offsets began at 1.
    assert await append(storage, "a") == [4]
    assert await kept(storage, "never") == (4, 3, [])


async def test_all_topics_together_keep_no_more_bytes_than_the_limit(opened: Open) -> None:
    size = new("a").size
    storage = await opened(max_total_bytes=3 * size)
    assert (await storage.append([new("a"), new("a")], now=0.0)).evicted == 0
    assert (await storage.append([new("b"), new("c")], now=0.0)).evicted == 1
    assert (await storage.ends(["a", "b", "c"])).offsets == {"b": 1, "c": 1}
    assert storage.statistics()["bytes"] == 2 * size


async def test_a_batch_of_many_topics_leaves_the_latest_ones(opened: Open) -> None:
    storage = await opened(max_topics=2)
    await append(storage, "a", "b", "a", "c")
    assert set((await storage.ends(["a", "b", "c"])).offsets) == {"a", "c"}


async def test_the_ends_are_the_last_offsets_and_leave_out_unknown_topics(opened: Open) -> None:
    storage = await opened()
    await append(storage, *"aab")
    ends = await storage.ends(["a", "b", "c", *map(str, range(1000))])
    assert (ends.epoch, dict(ends.offsets)) == ("e", {"a": 2, "b": 1})


async def test_a_storage_that_publishes_gives_each_kept_message_to_its_own_node_too(
    opened: Open,
) -> None:
    heard = Heard()
    storage = await opened(heard)
    await storage.append([new("a", '{"x":1}'), new("ü b")], now=0.0)
    if storage.publishes:
        await until(lambda: len(heard.entries) == 2)
        assert heard.entries == [
            ("a", Entry("e", 1, "edited", b'{"x":1}')),
            ("ü b", Entry("e", 1, "edited", b"{}")),
        ]


async def test_an_empty_batch_changes_nothing(opened: Open) -> None:
    storage = await opened()
    assert await append(storage) == []
    kept = storage.statistics()
    assert (kept["topics"], kept["messages"], kept["bytes"]) == (0, 0, 0)


async def test_closing_twice_is_fine(opened: Open) -> None:
    storage = await opened()
    storage.close()
    storage.close()


# Keys


def keyed(key: str, topic: str = "a", body: str = "{}") -> NewMessage:
    return NewMessage(topic, "edited", body.encode(), key)


async def answered(storage: Storage, *keys: str, now: float = 0.0) -> Any:
    return await storage.append([], now=now, answers=[NewAnswer(key, b"1") for key in keys])


async def test_a_message_with_a_remembered_key_is_not_kept_again(opened: Open) -> None:
    storage = await opened()
    await storage.append([new("a"), keyed("k")], now=0.0)
    found = await storage.append([keyed("k", "other"), keyed("l"), keyed("l")], now=0.0)
    assert (found.offsets, list(found.repeated)) == ([2, 3, 3], [0, 2])
    assert await kept(storage) == (1, 3, [1, 2, 3])
    assert await kept(storage, "other") == (1, 0, [])


async def test_the_key_of_a_message_outlives_the_message(opened: Open) -> None:
    storage = await opened(max_messages=1)
    await storage.append([keyed("k"), new("a")], now=0.0)
    found = await storage.append([keyed("k")], now=0.0)
    assert (found.offsets, list(found.repeated)) == ([1], [0])
    assert await kept(storage) == (2, 2, [2])


async def test_the_first_answer_is_remembered(opened: Open) -> None:
    storage = await opened()
    assert await storage.recall("k", now=0.0) is None
    first, other = NewAnswer("k", b"first"), NewAnswer("k", "sécond".encode())
    assert (await storage.append([new("a")], now=0.0, answers=[first])).answers == [b"first"]
    assert (await storage.append([], now=0.0, answers=[other])).answers == [b"first"]
    assert await storage.recall("k", now=0.0) == b"first"
    assert storage.statistics()["keys"] == 1


async def test_an_old_key_is_forgotten_and_may_be_used_again(opened: Open) -> None:
    storage = await opened(max_answer_age=10.0)
    await storage.append([keyed("k")], now=0.0, answers=[NewAnswer("l", b"1")])
    assert await storage.recall("l", now=10.0) == b"1"
    assert await storage.recall("l", now=11.0) is None
    found = await storage.append([keyed("k")], now=11.0, answers=[NewAnswer("l", b"2")])
    assert (found.offsets, list(found.repeated), found.answers) == ([2], [], [b"2"])
    assert found.forgotten == 0
    assert storage.statistics()["keys"] == 2


async def test_the_oldest_keys_are_forgotten_beyond_their_number(opened: Open) -> None:
    storage = await opened(max_answers=2)
    assert (await answered(storage, "k", "l")).forgotten == 0
    assert (await answered(storage, "m")).forgotten == 1
    found = [await storage.recall(key, now=0.0) for key in "klm"]
    assert found == [None, b"1", b"1"]


async def test_the_oldest_keys_are_forgotten_beyond_their_bytes(opened: Open) -> None:
    storage = await opened(max_answer_bytes=2 * NewAnswer("k", b"1").size)
    assert (await answered(storage, "k", "l", "m")).forgotten == 1
    assert await storage.recall("k", now=0.0) is None
    assert storage.statistics()["keys"] == 2


# Fences


async def fenced(storage: Storage, fence: int | None, *topics: str) -> Any:
    """Append a message with a fence to each topic. Return the offsets, or the refused messages."""
    batch = [NewMessage(topic, "edited", b"{}", fence=fence) for topic in topics or ("a",)]
    appended = await storage.append(batch, now=0.0)
    return dict(appended.refused) if appended.refused else list(appended.offsets)


async def claim(storage: Storage, fence: int, topic: str = "a") -> int | None:
    """Claim a fence. Return None, or the fence that refused it."""
    return (await storage.claim(topic, fence)).refused


async def test_only_a_greater_fence_can_be_claimed(opened: Open) -> None:
    storage = await opened()
    assert await claim(storage, 5) is None
    assert [await claim(storage, fence) for fence in (4, 5)] == [5, 5]
    assert await claim(storage, 6) is None
    assert await claim(storage, 1, "b") is None


async def test_only_exactly_the_last_claimed_fence_may_append(opened: Open) -> None:
    storage = await opened()
    assert await fenced(storage, 5) == {0: 0}
    await claim(storage, 5)
    assert [await fenced(storage, fence) for fence in (4, 6, None)] == [{0: 5}] * 3
    assert await fenced(storage, 5) == [1]
    assert await kept(storage) == (1, 1, [1])


async def test_a_topic_without_a_claimed_fence_takes_messages_without_one(opened: Open) -> None:
    storage = await opened()
    await claim(storage, 5, "other")
    assert await fenced(storage, None) == [1]
    assert await fenced(storage, 5) == {0: 0}


async def test_a_batch_with_a_wrong_fence_is_not_kept_at_all(opened: Open) -> None:
    heard = Heard()
    storage = await opened(heard)
    await claim(storage, 5)
    batch = [new("b"), new("a"), NewMessage("a", "edited", b"{}", "k", 5)]
    appended = await storage.append(batch, now=0.0, answers=[NewAnswer("l", b"1")])
    assert (list(appended.offsets), dict(appended.refused)) == ([], {1: 5})
    assert await kept(storage, "b") == (1, 0, [])
    assert await storage.recall("l", now=0.0) is None
    assert storage.statistics()["messages"] == 0
    assert await append(storage, "b") == [1]
    if storage.publishes:
        await until(lambda: heard.entries != [])
        assert [topic for topic, _ in heard.entries] == ["b"]


async def test_interleaved_appends_of_two_owners_are_kept_only_before_the_later_claim(
    opened: Open,
) -> None:
    storage = await opened()
    await claim(storage, 5)
    assert await fenced(storage, 5) == [1]
    assert await claim(storage, 6) is None
    assert [await fenced(storage, fence) for fence in (5, 6, 5, 6)] == [{0: 6}, [2], {0: 6}, [3]]
    assert await kept(storage) == (1, 3, [1, 2, 3])


async def test_a_read_after_a_claim_has_everything_that_an_earlier_owner_can_append(
    opened: Open,
) -> None:
    storage = await opened()
    await claim(storage, 5)
    await fenced(storage, 5)
    await claim(storage, 6)
    before = await kept(storage)
    assert await fenced(storage, 5) == {0: 6}
    assert await kept(storage) == before == (1, 1, [1])


async def test_a_claim_between_read_and_append_refuses_the_append(opened: Open) -> None:
    storage = await opened()
    await claim(storage, 5)
    assert await kept(storage) == (1, 0, [])
    await claim(storage, 6)
    assert await fenced(storage, 5) == {0: 6}


async def test_owners_on_two_nodes_are_as_two_owners_on_one(opened: Open) -> None:
    one = await opened()
    other = await opened() if one.is_shared else one
    await claim(one, 5)
    assert await fenced(one, 5) == [1]
    assert await claim(other, 5) == 5
    assert await claim(other, 6) is None
    assert (await kept(other))[1] == 1
    assert await fenced(one, 5) == {0: 6}
    assert await fenced(other, 6) == [2]


async def test_an_owner_that_ended_before_its_first_append_still_keeps_its_forerunner_out(
    opened: Open,
) -> None:
    storage = await opened()
    await claim(storage, 5)
    await claim(storage, 6)
    assert await fenced(storage, 5) == {0: 6}
    assert await claim(storage, 7) is None
    assert await fenced(storage, 7) == [1]


@pytest.mark.parametrize(
    "limits", [{"max_topics": 1}, {"max_messages": 1}, {"max_age": 1.0}, {"max_total_bytes": 10}]
)
async def test_a_fence_outlives_the_messages_and_the_topic(
    opened: Open, limits: dict[str, Any]
) -> None:
    storage = await opened(**limits)
    await claim(storage, 5)
    await fenced(storage, 5)
    await append(storage, *"bcd", now=100.0)
    assert [await fenced(storage, fence) for fence in (None, 4)] == [{0: 5}] * 2
    assert await claim(storage, 5) == 5
    assert isinstance(await fenced(storage, 5), list)


async def test_the_greatest_fence_is_exact(opened: Open) -> None:
    storage = await opened()
    await claim(storage, MAX_FENCE - 1)
    assert await fenced(storage, MAX_FENCE) == {0: MAX_FENCE - 1}
    assert await claim(storage, MAX_FENCE) is None
    assert await fenced(storage, MAX_FENCE - 1) == {0: MAX_FENCE}
    assert await fenced(storage, MAX_FENCE) == [1]


async def test_the_oldest_claims_are_forgotten_beyond_their_number(opened: Open) -> None:
    storage = await opened(max_fences=2)
    found = [(await storage.claim(topic, fence)).forgotten for fence, topic in enumerate("abac", 5)]
    assert found == [0, 0, 0, 1]
    assert storage.statistics()["fences"] == 2
    assert await fenced(storage, 6, "b") == {0: 0}
    assert await fenced(storage, 7, "a") == [1]


async def test_a_forgotten_fence_cannot_be_claimed_again(opened: Open) -> None:
    storage = await opened(max_fences=1)
    await claim(storage, 5, "a")
    await claim(storage, 6, "b")
    await claim(storage, 7, "c")
    assert await claim(storage, 5, "a") == 6
    assert await claim(storage, 6, "never") == 6
    assert await claim(storage, 8, "a") is None
