"""Tests of the channel of the document, with its history in memory."""

from __future__ import annotations

from typing import Any

import pytest

from channels.durable import MemoryStorage
from channels.pytest_plugin import OpenChannelTest
from channels.testing import ChannelTest, TestChannel

from .server import CHECKPOINT_EVERY, endpoint, history
from .text import MAX_PARAGRAPHS, Text, apply, new_text


@pytest.fixture
async def case(channel_test: OpenChannelTest, monkeypatch: pytest.MonkeyPatch) -> ChannelTest:
    monkeypatch.setattr(history, "storage", MemoryStorage())
    return await channel_test(endpoint)


def change(id: str, text: str | None, after: str | None = None) -> dict[str, Any]:
    return {"id": id, "after": after, "text": text}


async def enter(case: ChannelTest) -> tuple[TestChannel, Any]:
    """Join the document as a new browser tab. Return the tab and the text that it gets."""
    client = await case.connect("/socket")
    _, channel = await client.subscribe_and_join("document:minutes", {"wants_text": True})
    ready = await channel.assert_push("ready")
    return channel, ready["text"]


async def come_back(case: ChannelTest, position: str, *, wants_text: bool = False) -> TestChannel:
    """Join the document as a tab that returns with this position."""
    client = await case.connect("/socket")
    params = {"_position": position, "wants_text": wants_text}
    _, channel = await client.subscribe_and_join("document:minutes", params)
    return channel


async def write(tab: TestChannel, id: str, *changes: dict[str, Any]) -> str:
    """Make an edit. Return the position of the edit in the message that the tab gets."""
    ref = tab.push("edit", {"id": id, "changes": list(changes)})
    await tab.assert_reply(ref, "ok")
    edited = await tab.assert_push("edited", lambda payload: payload["id"] == id)
    position: str = edited["_position"]
    return position


async def test_only_the_one_document_may_be_joined(case: ChannelTest) -> None:
    client = await case.connect("/socket")
    answer, _ = await client.join("document:secrets")
    assert (answer.status, answer.response) == ("error", {"reason": "there is no such document"})


async def test_an_edit_of_one_tab_reaches_all_tabs(case: ChannelTest) -> None:
    (ann, text), (bob, _) = await enter(case), await enter(case)
    assert text == new_text()
    await write(ann, "1", change("first", "hello"))
    edited = await bob.assert_push("edited")
    assert edited["changes"] == [change("first", "hello")]


async def test_a_new_tab_gets_the_text_after_all_edits(case: ChannelTest) -> None:
    ann, _ = await enter(case)
    await write(ann, "1", change("first", "one"))
    await write(ann, "2", change("a", "two", after="first"), change("first", "One"))
    _, text = await enter(case)
    assert text == [{"id": "first", "text": "One"}, {"id": "a", "text": "two"}]


async def test_a_tab_that_was_away_gets_the_edits_that_it_missed_and_then_is_ready(
    case: ChannelTest,
) -> None:
    (ann, _), (bob, _) = await enter(case), await enter(case)
    position = await write(ann, "1", change("first", "one"))
    await bob.client.disconnect()
    await write(ann, "2", change("first", "two"))
    again = await come_back(case, position)
    await again.assert_push("edited", lambda payload: payload["id"] == "2")
    await again.assert_push("ready", {"text": None})


async def test_a_tab_that_lost_its_connection_before_it_had_the_text_gets_it_where_it_is(
    case: ChannelTest,
) -> None:
    ann, _ = await enter(case)
    position = await write(ann, "1", change("first", "one"))
    bob = await come_back(case, position, wants_text=True)
    await bob.assert_push("ready", {"text": [{"id": "first", "text": "one"}]})
    await write(ann, "2", change("first", "two"))
    eve = await come_back(case, position, wants_text=True)
    await eve.assert_push("edited")
    await eve.assert_push("ready", {"text": [{"id": "first", "text": "two"}]})


async def test_the_text_of_a_tab_that_was_away_too_long_survives_many_checkpoints(
    case: ChannelTest,
) -> None:
    ann, _ = await enter(case)
    position = await write(ann, "1", change("first", "oldest"))
    expected: Text = new_text()
    apply(expected, [change("first", "oldest")])
    for number in range(8 * CHECKPOINT_EVERY):
        changes = [change(f"p{number % 7}", str(number), after="first")]
        apply(expected, changes)
        await write(ann, f"e{number}", *changes)
    assert history.statistics()["messages"] == 5 * CHECKPOINT_EVERY
    late = await come_back(case, position)
    ready = await late.assert_push("ready")
    assert ready["text"] == expected


async def test_an_edit_that_a_tab_repeats_is_made_once(case: ChannelTest) -> None:
    (ann, _), (bob, _) = await enter(case), await enter(case)
    edit = {"id": "1", "changes": [change("first", "one")], "_key": "1"}
    await ann.assert_reply(ann.push("edit", edit), "ok")
    await write(bob, "2", change("first", "two"))
    await ann.assert_reply(ann.push("edit", edit), "ok")
    _, text = await enter(case)
    assert text == [{"id": "first", "text": "two"}]


@pytest.mark.parametrize(
    "changes",
    [[change("", "no id")], [change("a", "x" * 1001)], [change("a", "x")] * 21, [{"id": "a"}]],
    ids=["no id", "too long", "too many", "no text"],
)
async def test_an_edit_beyond_the_bounds_is_refused_and_nobody_gets_it(
    case: ChannelTest, changes: list[dict[str, Any]]
) -> None:
    ann, _ = await enter(case)
    ref = ann.push("edit", {"id": "1", "changes": changes})
    await ann.assert_reply(ref, "error", lambda response: response["reason"] == "invalid payload")
    await ann.refute_push("edited")


# The text


def test_a_paragraph_whose_predecessor_is_gone_goes_to_the_end() -> None:
    text = [{"id": "a", "text": "A"}, {"id": "b", "text": "B"}]
    apply(text, [change("a", None), change("c", "C", after="a")])
    assert [paragraph["id"] for paragraph in text] == ["b", "c"]


def test_an_edit_of_a_removed_paragraph_brings_it_back() -> None:
    text = [{"id": "a", "text": "A"}, {"id": "b", "text": "B"}]
    apply(text, [change("b", None), change("b", "still here", after="a")])
    assert text[1] == {"id": "b", "text": "still here"}


def test_a_text_has_a_limited_number_of_paragraphs() -> None:
    text = new_text()
    apply(text, [change(str(number), "", after="first") for number in range(2 * MAX_PARAGRAPHS)])
    assert len(text) == MAX_PARAGRAPHS
