"""Tests of the lamps and of their channels."""

from __future__ import annotations

import pytest
import trio

from channels.pytest_plugin import OpenChannelTest
from channels.testing import ChannelTest, TestChannel

from .lamp import SECONDS_LIT
from .server import ROOMS, endpoint


@pytest.fixture
async def case(channel_test: OpenChannelTest) -> ChannelTest:
    return await channel_test(endpoint)


async def page(case: ChannelTest) -> TestChannel:
    client = await case.connect("/socket")
    _, channel = await client.subscribe_and_join("lights")
    for room in ROOMS:
        await channel.assert_push("lamp", {"lamp": room, "state": "dark"})
    return channel


async def sensor(case: ChannelTest, room: str) -> TestChannel:
    client = await case.connect("/devices")
    _, channel = await client.subscribe_and_join(f"sensor:{room}")
    return channel


async def test_motion_lights_one_lamp_until_a_while_after_the_last_motion(
    case: ChannelTest,
) -> None:
    viewer, hall = await page(case), await sensor(case, "hall")
    hall.push("motion")
    await viewer.assert_push("lamp", {"lamp": "hall", "state": "lit"})
    await trio.sleep(SECONDS_LIT - 1)
    hall.push("motion")
    await viewer.assert_push("lamp", {"lamp": "hall", "state": "lit"})
    await viewer.refute_push("lamp", timeout=SECONDS_LIT - 1)
    await viewer.assert_push("lamp", {"lamp": "hall", "state": "dark"}, timeout=2)


async def test_a_lamp_that_is_held_on_ignores_motion_and_time(case: ChannelTest) -> None:
    viewer, porch = await page(case), await sensor(case, "porch")
    viewer.push("switch", {"lamp": "porch", "to": "on"})
    await viewer.assert_push("lamp", {"lamp": "porch", "state": "held"})
    porch.push("motion")
    await viewer.refute_push("lamp", timeout=2 * SECONDS_LIT)
    viewer.push("switch", {"lamp": "porch", "to": "automatic"})
    await viewer.assert_push("lamp", {"lamp": "porch", "state": "dark"})


async def test_a_sensor_that_reports_too_often_is_refused_for_a_moment(case: ChannelTest) -> None:
    hall = await sensor(case, "hall")
    for _ in range(5):
        await hall.assert_reply(hall.push("motion"), "ok")
    answer = await hall.receive_reply(hall.push("motion"))
    assert (answer.status, answer.response["reason"]) == ("error", "rate limited")
    await trio.sleep(answer.response["retry_after_ms"] / 1000)
    await hall.assert_reply(hall.push("motion"), "ok")


async def test_a_sensor_of_an_unknown_room_is_refused(case: ChannelTest) -> None:
    client = await case.connect("/devices")
    answer, _ = await client.join("sensor:attic")
    assert (answer.status, answer.response) == ("error", {"reason": "no such room"})
