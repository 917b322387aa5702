"""Tests of the channels of the map, and of the routes of its vehicles."""

from __future__ import annotations

import math
from itertools import islice, pairwise
from random import Random
from typing import Any

import pytest
import trio

from channels.pytest_plugin import OpenChannelTest
from channels.testing import ANYTHING, ChannelTest, TestChannel

from .city import AVENUES, STREETS, trip
from .sensors import names
from .server import endpoint, fleet


@pytest.fixture
async def case(channel_test: OpenChannelTest) -> ChannelTest:
    return await channel_test(endpoint)


async def vehicle(case: ChannelTest, name: str) -> TestChannel:
    client = await case.connect("/socket")
    _, channel = await client.subscribe_and_join(f"vehicle:{name}")
    return channel


async def page(case: ChannelTest) -> TestChannel:
    client = await case.connect("/socket")
    _, channel = await client.subscribe_and_join("map")
    return channel


def process_of(name: str) -> Any:
    """Return the number of the process in the presence of a vehicle. There must be exactly one."""
    (meta,) = fleet.snapshot("map")[f"vehicle:{name}"]
    return meta["process"]


# Positions


async def test_a_page_gets_every_position_with_the_count_of_reports(case: ChannelTest) -> None:
    fox, viewer = await vehicle(case, "fox"), await page(case)
    for number in (1, 2):
        fox.push("position", {"x": 7.5, "y": 24})
        await viewer.assert_push(
            "position", {"name": "fox", "x": 7.5, "y": 24.0, "reports": number}
        )


@pytest.mark.parametrize("position", [{"x": -1, "y": 5}, {"x": 5, "y": 65}, {"x": 5}, {"x": "5"}])
async def test_a_position_outside_of_the_city_is_refused(
    case: ChannelTest, position: dict[str, Any]
) -> None:
    fox, viewer = await vehicle(case, "fox"), await page(case)
    ref = fox.push("position", position)
    await fox.assert_reply(ref, "error", lambda response: response["reason"] == "invalid payload")
    await viewer.refute_push("position")


@pytest.mark.parametrize("name", ["", "A fox", "<b>", "f" * 17])
async def test_a_vehicle_without_a_short_plain_name_is_refused_and_not_present(
    case: ChannelTest, name: str
) -> None:
    client = await case.connect("/socket")
    answer, _ = await client.join(f"vehicle:{name}")
    assert (answer.status, answer.response) == ("error", {"reason": "invalid name"})
    assert not fleet.snapshot("map")


# Presence


async def test_a_new_page_sees_all_vehicles_and_viewers(case: ChannelTest) -> None:
    await vehicle(case, "fox")
    await page(case)
    viewer = await page(case)
    state = await viewer.assert_push("presence_state")
    assert set(state) == {"vehicle:fox", "viewers"}
    (fox,) = state["vehicle:fox"]["metas"]
    assert fox == {"node": "local", "process": process_of("fox"), "phx_ref": ANYTHING}
    assert len(state["viewers"]["metas"]) == 2


async def test_a_vehicle_that_does_not_come_back_leaves_after_the_grace(case: ChannelTest) -> None:
    fox, viewer = await vehicle(case, "fox"), await page(case)
    await fox.client.disconnect()
    await trio.sleep(2.9)
    assert "vehicle:fox" in fleet.snapshot("map")
    await trio.sleep(0.2)
    assert "vehicle:fox" not in fleet.snapshot("map")
    await viewer.assert_push("presence_diff", lambda diff: set(diff["leaves"]) == {"vehicle:fox"})


# Crashes


async def test_the_crash_button_ends_the_process_of_one_vehicle(case: ChannelTest) -> None:
    fox, hen, viewer = await vehicle(case, "fox"), await vehicle(case, "hen"), await page(case)
    viewer.push("crash", {"name": "fox"})
    await fox.assert_push("phx_error")
    await hen.refute_push("phx_error")
    hen.push("position", {"x": 1, "y": 1})
    await viewer.assert_push("position", lambda report: report["name"] == "hen")


async def test_a_vehicle_is_present_all_the_time_from_its_crash_to_its_new_process(
    case: ChannelTest,
) -> None:
    fox, viewer = await vehicle(case, "fox"), await page(case)
    await viewer.assert_push("presence_diff", lambda diff: "viewers" in diff["joins"])
    before = process_of("fox")
    fox.push("position", {"x": 1, "y": 1})
    viewer.push("crash", {"name": "fox"})
    await fox.assert_push("phx_error")
    for _ in range(10):
        await trio.sleep(0.1)
        assert process_of("fox") == before

    _, again = await fox.client.join("vehicle:fox")
    assert again is not None
    assert process_of("fox") != before
    # The page gets one diff, in which the vehicle joins and leaves. For phoenix.js, that is an update.
    await viewer.assert_push(
        "presence_diff", lambda diff: list(diff["joins"]) == list(diff["leaves"]) == ["vehicle:fox"]
    )
    await viewer.refute_push("presence_diff", timeout=10.0)

    again.push("position", {"x": 1, "y": 1})
    await viewer.assert_push("position", {"name": "fox", "x": 1.0, "y": 1.0, "reports": 1})


# Routes


@pytest.mark.parametrize("seed", range(5))
def test_a_trip_follows_the_streets_in_short_steps_and_turns_back_nowhere(seed: int) -> None:
    positions = list(islice(trip(Random(seed), step=1.0), 2000))
    xs, ys = set(STREETS.values()), set(AVENUES.values())
    for x, y in positions:
        assert x in xs or y in ys
    for here, there in pairwise(positions):
        assert 0.5 < math.dist(here, there) <= 1.0 + 1e-9
    for first, last in zip(positions, positions[2:], strict=False):
        assert math.dist(first, last) > 0.5


def test_a_long_trip_visits_every_crossing() -> None:
    positions = set(islice(trip(Random(1)), 10_000))
    assert {(x, y) for x in STREETS.values() for y in AVENUES.values()} <= positions


def test_vehicles_have_different_names() -> None:
    assert names(3) == ["ant", "bat", "cat"]
    assert names(14)[11:] == ["lynx", "ant-2", "bat-2"]
    assert len(set(names(100))) == 100
    assert names(0) == []
