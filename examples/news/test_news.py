"""Tests of the channels of the news."""

from __future__ import annotations

import pytest

from channels import ConnectInfo, sign
from channels.pytest_plugin import OpenChannelTest
from channels.testing import ChannelTest, ConnectionRefused, TestChannel

from .server import SECRET, endpoint


@pytest.fixture
async def case(channel_test: OpenChannelTest) -> ChannelTest:
    return await channel_test(endpoint)


async def reader(case: ChannelTest, *sections: str) -> TestChannel:
    client = await case.connect("/socket")
    _, channel = await client.subscribe_and_join("news", {"sections": sections})
    await channel.assert_push("latest")
    return channel


async def publisher(case: ChannelTest) -> TestChannel:
    token = sign(SECRET, "newsroom", "ann")
    client = await case.connect("/socket", connect_info=ConnectInfo(auth_token=token))
    _, channel = await client.subscribe_and_join("newsroom")
    return channel


async def publish(channel: TestChannel, section: str, headline: str, number: int) -> None:
    ref = channel.push("publish", {"section": section, "headline": headline})
    await channel.assert_reply(ref, "ok", {"number": number})


async def test_each_reader_gets_the_stories_of_the_chosen_sections_only(case: ChannelTest) -> None:
    fan, scholar = await reader(case, "sport"), await reader(case, "science", "world")
    editor = await publisher(case)
    await publish(editor, "sport", "Ash wins", 1)
    await publish(editor, "science", "Trees talk", 2)
    await fan.assert_push("story", {"number": 1, "section": "sport", "headline": "Ash wins"})
    await scholar.assert_push(
        "story", {"number": 2, "section": "science", "headline": "Trees talk"}
    )
    await fan.refute_push("story")
    await scholar.refute_push("story")


async def test_a_late_reader_gets_the_latest_twenty_stories_of_the_chosen_sections(
    case: ChannelTest,
) -> None:
    editor = await publisher(case)
    for number in range(1, 26):
        await publish(editor, "world" if number % 2 else "sport", f"Story {number}", number)
    client = await case.connect("/socket")
    _, late = await client.subscribe_and_join("news", {"sections": ["sport"]})
    latest = await late.assert_push("latest")
    assert [story["number"] for story in latest["stories"]] == list(range(6, 26, 2))


async def test_another_choice_applies_from_the_next_story(case: ChannelTest) -> None:
    fan, editor = await reader(case, "sport"), await publisher(case)
    fan.push("choose", {"sections": ["world"]})
    await fan.assert_push("latest", {"stories": []})
    await publish(editor, "sport", "Ash wins", 1)
    await publish(editor, "world", "Peace", 2)
    await fan.assert_push("story", {"number": 2, "section": "world", "headline": "Peace"})
    await fan.refute_push("story")


async def test_a_reader_cannot_publish(case: ChannelTest) -> None:
    client = await case.connect("/socket")
    answer, _ = await client.join("newsroom")
    assert (answer.status, answer.response) == ("error", {"reason": "unauthorized"})


async def test_a_publisher_with_another_secret_is_refused(case: ChannelTest) -> None:
    token = sign("another secret, which is as long as it must be", "newsroom", "ann")
    with pytest.raises(ConnectionRefused):
        await case.connect("/socket", connect_info=ConnectInfo(auth_token=token))


async def test_a_story_without_a_known_section_is_refused(case: ChannelTest) -> None:
    editor = await publisher(case)
    ref = editor.push("publish", {"section": "gossip", "headline": "Hm"})
    await editor.assert_reply(
        ref, "error", lambda response: response["reason"] == "invalid payload"
    )
