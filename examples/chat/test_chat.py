"""Tests of the chat's channel. Copy this file to test your own channels.

`channel_test` is a fixture of Ashtree. It runs the endpoint without a port, on a virtual clock.
"""

from __future__ import annotations

import pytest

from channels.pytest_plugin import OpenChannelTest
from channels.testing import ANYTHING, ChannelTest, TestChannel

from .server import endpoint


@pytest.fixture
async def case(channel_test: OpenChannelTest) -> ChannelTest:
    return await channel_test(endpoint)


async def enter(case: ChannelTest, name: str) -> TestChannel:
    """Join the lobby as a new browser tab."""
    client = await case.connect("/socket")
    _, room = await client.subscribe_and_join("room:lobby", {"name": name})
    return room


async def test_only_the_lobby_may_be_joined(case: ChannelTest) -> None:
    client = await case.connect("/socket")
    answer, _ = await client.join("room:cellar", {"name": "ann"})
    assert (answer.status, answer.response) == ("error", {"reason": "unauthorized"})


async def test_a_message_of_one_tab_reaches_all_tabs(case: ChannelTest) -> None:
    ann, bob = await enter(case, "ann"), await enter(case, "bob")
    ref = ann.push("new_msg", {"body": "hello"})
    await ann.assert_reply(ref, "ok", {"count": 1})
    said = {"body": "hello", "name": "ann", "process": ANYTHING}
    await ann.assert_push("new_msg", said)
    await bob.assert_push("new_msg", said)


async def test_a_new_name_applies_from_the_next_message(case: ChannelTest) -> None:
    ann = await enter(case, "ann")
    ann.push("rename", {"name": "anna"})
    ann.push("new_msg", {"body": "hello"})
    await ann.assert_broadcast("new_msg", lambda payload: payload["name"] == "anna")


async def test_a_crash_affects_one_tab_which_rejoins_with_fresh_state(
    case: ChannelTest,
) -> None:
    ann, bob = await enter(case, "ann"), await enter(case, "bob")
    ann.push("new_msg", {"body": "one"})
    await bob.assert_push("new_msg")
    ann.push("crash")
    await ann.assert_push("phx_error")
    await bob.refute_push("phx_error")

    _, again = await ann.client.join("room:lobby", {"name": "ann"})
    ref = again.push("new_msg", {"body": "one again"})
    await again.assert_reply(ref, "ok", {"count": 1})
    await bob.assert_push("new_msg", {"body": "one again", "name": "ann", "process": ANYTHING})
