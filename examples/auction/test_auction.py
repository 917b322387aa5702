"""Tests of the auctions, on one node and in virtual time. Their history is in memory."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors import call, current_runtime, kill
from channels import ConnectInfo, sign
from channels.durable import FenceRefused, MemoryStorage
from channels.pytest_plugin import OpenChannelTest
from channels.testing import ChannelTest, TestChannel
from examples.scenarios.auction_house import evening
from supervision.simulation import simulate

from . import server
from .auction import EXTENSION, Look, Lot, auctions, history


@pytest.fixture
async def case(channel_test: OpenChannelTest, monkeypatch: pytest.MonkeyPatch) -> ChannelTest:
    monkeypatch.setattr(history, "storage", MemoryStorage())
    return await channel_test(server.endpoint)


@pytest.fixture
async def scheduler(case: ChannelTest) -> TestChannel:
    token = sign(server.SECRET, "scheduler", "a test")
    client = await case.connect("/scheduler", connect_info=ConnectInfo(auth_token=token))
    _, channel = await client.subscribe_and_join("auctions")
    return channel


async def schedule(scheduler: TestChannel, key: str, *, seconds: float = 60) -> None:
    auction = {"title": "A bell", "price": 10, "seconds": seconds}
    ref = scheduler.push("open", {"key": key, "auction": auction})
    await scheduler.assert_reply(ref, "ok")


async def enter(case: ChannelTest, user: str, key: str = "bell") -> TestChannel:
    """Join an auction as a new tab."""
    token = sign(server.SECRET, "user socket", user)
    client = await case.connect("/socket", connect_info=ConnectInfo(auth_token=token))
    _, channel = await client.subscribe_and_join(f"auction:{key}")
    await channel.assert_push("lot")
    return channel


async def bid(tab: TestChannel, amount: int, reason: str | None = None) -> None:
    """Bid, and check the answer: a reason, or None if the bid counts."""
    ref = tab.push("bid", {"amount": amount})
    if reason is None:
        await tab.assert_reply(ref, "ok")
    else:
        await tab.assert_reply(ref, "error", {"reason": reason})


async def look() -> Lot:
    answer = await call(auctions.via("bell"), Look(), timeout=5)
    assert isinstance(answer, Lot)
    return answer


def is_led_by(leader: str | None, price: int) -> Any:
    return lambda lot: (lot["leader"], lot["price"]) == (leader, price)


async def owner(key: str = "bell") -> Any:
    """Return the process of an auction."""
    place = await auctions.where(key)
    assert place is not None
    return place.pid


async def test_all_bidders_see_each_bid_and_the_winner(
    case: ChannelTest, scheduler: TestChannel
) -> None:
    await schedule(scheduler, "bell")
    ann, bob = await enter(case, "ann"), await enter(case, "bob")
    await bid(ann, 20)
    await bid(bob, 30)
    for tab in (ann, bob):
        await tab.assert_push("bid", is_led_by("ann", 20))
        await tab.assert_push("bid", is_led_by("bob", 30))
    await bid(ann, 30, "the price is 30 already")
    await trio.sleep(61)
    for tab in (ann, bob):
        await tab.assert_push("sold", is_led_by("bob", 30))
    await bid(ann, 40, "the auction is over")


async def test_a_repeated_bid_counts_once(case: ChannelTest, scheduler: TestChannel) -> None:
    await schedule(scheduler, "bell")
    ann = await enter(case, "ann")
    await bid(ann, 20)
    await bid(ann, 20)
    await ann.assert_push("bid")
    await ann.refute_push("bid")


async def test_a_late_bid_extends_the_auction(case: ChannelTest, scheduler: TestChannel) -> None:
    await schedule(scheduler, "bell")
    ann, bob = await enter(case, "ann"), await enter(case, "bob")
    await trio.sleep(59)
    await bid(ann, 20)
    await trio.sleep(EXTENSION - 1)
    await bid(bob, 30)
    await trio.sleep(EXTENSION - 1)
    await ann.refute_push("sold")
    await trio.sleep(2)
    await ann.assert_push("sold", is_led_by("bob", 30))


async def test_the_bidders_hear_each_second_how_much_time_is_left(
    case: ChannelTest, scheduler: TestChannel
) -> None:
    await schedule(scheduler, "bell", seconds=3)
    ann = await enter(case, "ann")
    seconds = [(await ann.assert_push("countdown", timeout=2))["seconds"] for _ in range(2)]
    assert seconds == [2, 1]


async def test_an_auction_that_is_killed_goes_on_with_the_same_bids(
    case: ChannelTest, scheduler: TestChannel
) -> None:
    await schedule(scheduler, "bell")
    ann, bob = await enter(case, "ann"), await enter(case, "bob")
    await bid(ann, 20)
    before = await owner()
    kill(before)
    await bid(bob, 20, "the price is 20 already")
    await bid(bob, 30)
    assert await owner() != before
    await trio.sleep(61)
    await ann.assert_push("sold", is_led_by("bob", 30))


async def test_an_auction_ends_even_if_it_is_killed_and_nobody_looks(
    case: ChannelTest, scheduler: TestChannel
) -> None:
    await schedule(scheduler, "bell")
    await scheduler.client.disconnect()
    await auctions.stop("bell")
    assert await auctions.where("bell") is None
    await trio.sleep(70)
    (*_, last) = (await history.read("auction:bell")).entries
    assert last.event == "sold"


async def test_the_history_refuses_an_owner_that_another_one_has_replaced(
    case: ChannelTest, scheduler: TestChannel
) -> None:
    await schedule(scheduler, "bell")
    lot = await look()
    with pytest.raises(FenceRefused):
        await history.append("auction:bell", "bid", {"price": 5}, fence=1)
    assert await look() == lot


async def test_an_auction_that_its_scheduler_opens_twice_opens_once(
    case: ChannelTest, scheduler: TestChannel
) -> None:
    await schedule(scheduler, "bell", seconds=30)
    await trio.sleep(20)
    await schedule(scheduler, "bell", seconds=30)
    lot = await look()
    assert lot.ends_at - current_runtime().now() == pytest.approx(10, abs=0.1)


async def test_the_hall_lists_the_auctions_for_a_new_bidder(
    case: ChannelTest, scheduler: TestChannel
) -> None:
    await schedule(scheduler, "bell")
    token = sign(server.SECRET, "user socket", "ann")
    client = await case.connect("/socket", connect_info=ConnectInfo(auth_token=token))
    _, hall = await client.subscribe_and_join("auctions")
    await hall.assert_push("list", lambda it: [each["key"] for each in it["auctions"]] == ["bell"])
    ref = hall.push("open", {"key": "map"})
    await hall.assert_push("phx_error")  # a bidder is no scheduler
    await hall.refute_reply(ref)


async def test_an_auction_that_nobody_has_opened_cannot_be_joined(case: ChannelTest) -> None:
    token = sign(server.SECRET, "user socket", "ann")
    client = await case.connect("/socket", connect_info=ConnectInfo(auth_token=token))
    answer, _ = await client.join("auction:ghost")
    assert (answer.status, answer.response["reason"]) == ("error", "there is no such auction")


@pytest.mark.parametrize("seed", range(1, 4))
def test_the_highest_bid_wins_even_if_the_auction_is_killed_again_and_again(seed: int) -> None:
    simulate(evening, seed=seed).check()
