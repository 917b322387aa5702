"""The queue of a history gives bounded batches, oldest first."""

from __future__ import annotations

import trio

from channels.durable.queue import Queue, Waiting
from channels.durable.storage import NewMessage
from tests.channels.support import settle

MEGABYTE = 1024 * 1024


def queue_of(*sizes: int) -> Queue:
    queue = Queue()
    for size in sizes:
        queue.put(Waiting(NewMessage("a", "", b"x" * size), None, None))
    return queue


async def sizes(queue: Queue, max_batch: int) -> list[int]:
    return [waiting.item.size for waiting in await queue.next_batch(max_batch)]


async def test_a_batch_has_no_more_messages_than_its_bound() -> None:
    queue = queue_of(1, 2, 3)
    assert await sizes(queue, 2) == [1, 2]
    assert await sizes(queue, 2) == [3]
    assert len(queue) == 0


async def test_a_batch_has_no_more_bytes_than_a_storage_on_a_server_can_take() -> None:
    queue = queue_of(MEGABYTE, 3 * MEGABYTE, 1, 9 * MEGABYTE, 1)
    assert await sizes(queue, 100) == [MEGABYTE, 3 * MEGABYTE]
    assert await sizes(queue, 100) == [1]
    assert await sizes(queue, 100) == [9 * MEGABYTE]
    assert await sizes(queue, 100) == [1]


async def test_a_batch_of_an_empty_queue_waits_for_the_first_message() -> None:
    queue = queue_of()
    found: list[list[int]] = []

    async def take() -> None:
        found.append(await sizes(queue, 100))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await settle()
        assert found == []
        queue.put(Waiting(NewMessage("a", "", b"xyz"), None, None))
    assert found == [[3]]


async def test_a_writer_that_waits_beside_a_killed_one_gets_the_next_message() -> None:
    queue = queue_of()
    found: list[list[int]] = []

    async def take() -> None:
        found.append(await sizes(queue, 100))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        killed = trio.CancelScope()

        async def wait() -> None:
            with killed:
                await queue.next_batch(100)

        await settle()
        nursery.start_soon(wait)
        await settle()
        killed.cancel()
        await settle()
        queue.put(Waiting(NewMessage("a", "", b"x"), None, None))
        await settle()
        assert found == [[1]]
        nursery.cancel_scope.cancel()
