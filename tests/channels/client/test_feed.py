"""Feeds: order, bounds, and ends."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from channels.client.errors import ChannelClosed, MessagesDropped
from channels.client.feed import Feed


async def test_items_come_in_order_and_the_end_comes_after_them() -> None:
    feed: Feed[int] = Feed("numbers", 10)
    for number in range(3):
        feed.put(number)
    feed.end()
    assert [number async for number in feed] == [0, 1, 2]


async def test_an_end_with_an_error_is_raised_after_the_items() -> None:
    feed: Feed[int] = Feed("numbers", 10)
    feed.put(1)
    feed.end(ChannelClosed("t", "over"))
    assert await anext(feed) == 1
    for _ in range(2):
        with pytest.raises(ChannelClosed):
            await anext(feed)


async def test_a_reader_waits_for_the_next_item_and_each_goes_to_one_reader() -> None:
    feed: Feed[int] = Feed("numbers", 10)
    got: list[int] = []

    async def read() -> None:
        got.append(await anext(feed))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        feed.put(1)
        feed.put(2)
    assert sorted(got) == [1, 2]


async def test_a_reader_that_is_too_slow_loses_the_oldest_and_gets_one_error() -> None:
    feed: Feed[int] = Feed("numbers", 2)
    feed.put(0)
    assert await anext(feed) == 0
    assert [feed.put(number) for number in range(1, 6)] == [False, False, True, False, False]
    with pytest.raises(MessagesDropped) as caught:
        await anext(feed)
    assert (caught.value.topic, caught.value.count) == ("numbers", 3)
    assert [await anext(feed), await anext(feed)] == [4, 5]
    assert feed.dropped == 3


async def test_a_feed_that_nobody_has_read_keeps_nothing_after_it_overflows() -> None:
    feed: Feed[int] = Feed("numbers", 2)
    assert [feed.put(number) for number in range(5)] == [False, False, True, False, False]
    assert len(feed) == 0
    with pytest.raises(MessagesDropped) as caught:
        await anext(feed)
    assert caught.value.count == 5
    feed.put(7)
    assert await anext(feed) == 7


async def test_closing_a_feed_ends_its_readers_and_drops_its_items() -> None:
    closed: list[Feed[int]] = []
    feed: Feed[int] = Feed("numbers", 2, on_close=closed.append)
    with feed:
        feed.put(1)
    assert [number async for number in feed] == []
    assert closed == [feed]


async def test_a_waiting_reader_is_ended() -> None:
    feed: Feed[int] = Feed("numbers", 2)
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            assert [number async for number in feed] == []

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        feed.end()
