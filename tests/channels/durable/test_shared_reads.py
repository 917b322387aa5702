"""Channels of a topic that read missed messages at the same time share reads of the storage."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from actors import open_runtime, stop
from channels import PubSub
from channels.durable import History, MemoryStorage, StorageError
from channels.durable.stream import Position, Recovery, Slice, parse_position
from tests.channels.durable.documents import TOPIC, Start
from tests.channels.support import settle

OTHER = "document:2"


class Slow(MemoryStorage):
    """A storage that counts its reads, and lets a test hold them up and fail them."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[str, int]] = []
        self.fails = False
        self.hold = trio.Event()

    async def read(self, topic: str, *, after: int, **options: Any) -> Slice:
        self.reads.append((topic, after))
        fails, found = self.fails, await super().read(topic, after=after, **options)
        await self.hold.wait()
        if fails:
            raise StorageError("slow", "the disk is full")
        return found


class Readers:
    """Channels that read at the same time, with their results."""

    def __init__(self, history: History, nursery: trio.Nursery) -> None:
        self.history = history
        self.nursery = nursery
        self.results: dict[int, Recovery | StorageError] = {}

    async def start(
        self, count: int, position: Position | None, topic: str = TOPIC
    ) -> list[trio.CancelScope]:
        """Start readers, and wait until all wait for the storage."""
        return [await self.nursery.start(self._read, position, topic) for _ in range(count)]

    async def _read(
        self, position: Position | None, topic: str, *, task_status: trio.TaskStatus[Any]
    ) -> None:
        number = len(self.results)
        self.results[number] = StorageError("none", "no result")
        with trio.CancelScope() as scope:
            task_status.started(scope)
            try:
                self.results[number] = await self.history.recover(topic, position)
            except StorageError as error:
                self.results[number] = error

    def entries(self) -> list[list[int]]:
        """Return the offsets that each reader got."""
        return [
            [entry.offset for entry in result.entries]
            for result in self.results.values()
            if isinstance(result, Recovery)
        ]


async def filled(start: Start, messages: int = 5) -> tuple[History, Slow, Position]:
    """Start a history with some messages in a topic, and return the position before them."""
    storage = Slow()
    history = await start(History(storage))
    for n in range(messages):
        position = parse_position(await history.append(TOPIC, "edited", {"n": n}))
    assert position is not None
    return history, storage, Position(position.epoch, 0)


async def test_10_000_channels_that_find_a_gap_at_once_share_two_reads(start: Start) -> None:
    history, storage, begin = await filled(start)
    async with trio.open_nursery() as nursery:
        readers = Readers(history, nursery)
        await readers.start(10_000, begin)
        await settle()
        storage.hold.set()
    assert storage.reads == [(TOPIC, 0)] * 2
    assert readers.entries() == [[1, 2, 3, 4, 5]] * 10_000
    assert history.statistics()["shared"] == 9_998


async def test_channels_at_different_positions_share_a_read_and_get_what_each_lacks(
    start: Start,
) -> None:
    history, storage, begin = await filled(start)
    async with trio.open_nursery() as nursery:
        readers = Readers(history, nursery)
        for offset in (4, 2, 5, 1, 2):
            await readers.start(1, Position(begin.epoch, offset))
        await readers.start(1, None)
        storage.hold.set()
    assert storage.reads == [(TOPIC, 4), (TOPIC, 0)]
    assert readers.entries() == [[5], [3, 4, 5], [], [2, 3, 4, 5], [3, 4, 5], []]


async def test_topics_do_not_wait_for_each_other(start: Start) -> None:
    history, storage, begin = await filled(start)
    async with trio.open_nursery() as nursery:
        readers = Readers(history, nursery)
        await readers.start(1, begin)
        await readers.start(1, begin, OTHER)
        assert storage.reads == [(TOPIC, 0), (OTHER, 0)]
        storage.hold.set()


async def test_a_channel_that_asks_during_a_read_gets_the_messages_kept_before_it_asked(
    start: Start,
) -> None:
    history, storage, begin = await filled(start)
    async with trio.open_nursery() as nursery:
        readers = Readers(history, nursery)
        await readers.start(1, begin)
        await history.append(TOPIC, "edited", {"n": 5})
        await readers.start(2, begin)
        storage.hold.set()
    assert readers.entries() == [[1, 2, 3, 4, 5], *[[1, 2, 3, 4, 5, 6]] * 2]


async def test_a_failed_read_fails_for_each_channel_that_shares_it_and_for_no_other(
    start: Start,
) -> None:
    history, storage, begin = await filled(start)
    async with trio.open_nursery() as nursery:
        readers = Readers(history, nursery)
        storage.fails = True
        await readers.start(1, begin)
        await readers.start(3, begin)
        hold, storage.hold = storage.hold, trio.Event()
        hold.set()
        await settle()
        storage.fails = False
        await readers.start(2, begin)
        storage.hold.set()
    errors = [each for each in readers.results.values() if isinstance(each, StorageError)]
    assert [error.problem for error in errors] == ["the disk is full"] * 4
    assert len({*map(id, errors)}) == 4
    assert readers.entries() == [[1, 2, 3, 4, 5]] * 2


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_a_channel_that_ends_does_not_end_the_read_of_the_others(
    cancelled: int, start: Start
) -> None:
    history, storage, begin = await filled(start)
    async with trio.open_nursery() as nursery:
        readers = Readers(history, nursery)
        scopes = await readers.start(4, begin)
        scopes[cancelled].cancel()
        await settle()
        storage.hold.set()
    assert readers.entries() == [[1, 2, 3, 4, 5]] * 3
    assert len(storage.reads) <= 3


async def test_the_last_channel_that_ends_leaves_nothing_behind(start: Start) -> None:
    history, storage, begin = await filled(start)
    async with trio.open_nursery() as nursery:
        readers = Readers(history, nursery)
        for scope in reversed(await readers.start(4, begin)):
            scope.cancel()
        await settle()
        storage.hold.set()
        storage.reads.clear()
        await readers.start(1, Position(begin.epoch, 4))
    assert storage.reads == [(TOPIC, 4)]
    assert readers.entries() == [[5]]


@given(
    offsets=st.lists(st.integers(0, 12), min_size=1, max_size=8),
    replay=st.integers(1, 10),
    mode=st.sampled_from(["stream", "latest"]),
)
def test_a_shared_read_gives_each_channel_what_a_read_of_its_own_gives(
    offsets: list[int], replay: int, mode: Any
) -> None:
    async def compare() -> None:
        async with open_runtime():
            storage = Slow()
            history = History(storage, max_replay=replay, mode=mode, max_messages=8)
            supervisor = await history.start_link(PubSub())
            for n in range(10):
                position = parse_position(await history.append(TOPIC, "edited", {"n": n}))
            assert position is not None
            async with trio.open_nursery() as nursery:
                readers = Readers(history, nursery)
                for offset in offsets:
                    await readers.start(1, Position(position.epoch, offset))
                storage.hold.set()
            alone = [await history.recover(TOPIC, Position(position.epoch, n)) for n in offsets]
            assert [*readers.results.values()] == alone
            await stop(supervisor)

    trio.run(compare)
