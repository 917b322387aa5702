"""Log lines of presence."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from actors import Runtime, spawn
from channels.presence import Presence, Presences, TooManyCalls
from channels.presence.tracker import gossip_topic
from tests.channels.presence.nodes import TOPIC, alone, cluster, listener
from tests.channels.support import settle


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, "channels.presence")
    return lambda: [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name == "channels.presence"
    ]


class Broken(Presence):
    answer: Any = None

    async def fetch(self, topic: str, presences: Presences) -> Presences:
        if self.answer is None:
            raise LookupError("no database")
        return self.answer  # type: ignore[no-any-return]


def joins(presence: Presence, key: str) -> None:
    presence.track(TOPIC, key, pid=spawn(trio.sleep_forever))


async def test_a_fetch_that_fails_is_logged_once_a_minute_with_its_number(
    runtime: Runtime, lines: Any, caplog: pytest.LogCaptureFixture
) -> None:
    presence = Broken()
    await listener(await alone(presence))
    for n in range(5):
        joins(presence, f"user {n}")
        await trio.sleep(1.0)
    first = "Broken.fetch failed for topic 'room:1'; clients do not get this diff"
    assert lines() == [("ERROR", first)]
    assert "LookupError: no database" in caplog.text
    await trio.sleep(60.0)
    joins(presence, "ann")
    await settle()
    assert lines()[1:] == [("ERROR", f"{first} (4 more since the last report)")]


async def test_the_log_line_of_a_wrong_fetch_names_the_right_result(
    runtime: Runtime, lines: Any
) -> None:
    presence = Broken()
    presence.answer = ["ann"]
    await listener(await alone(presence))
    joins(presence, "ann")
    await settle()
    ((level, text),) = lines()
    assert level == "ERROR"
    assert text.startswith("Broken.fetch returned ['ann']; it may return a dict of the keys")


async def test_calls_beyond_the_limit_are_logged_once(runtime: Runtime, lines: Any) -> None:
    presence = Presence(max_calls_per_second=1)
    await alone(presence)
    pid = spawn(trio.sleep_forever)
    presence.track(TOPIC, "ann", pid=pid)
    for _ in range(3):
        with pytest.raises(TooManyCalls):
            presence.track(TOPIC, "ann", pid=pid)
    ((level, text),) = lines()
    assert level == "WARNING"
    assert "more than 1 times a second" in text


async def test_bad_messages_of_other_nodes_are_logged_once_a_minute(
    runtime: Runtime, lines: Any
) -> None:
    presence = Presence()
    pubsub = await alone(presence)
    for _ in range(3):
        pubsub.local_broadcast(gossip_topic("Presence"), ["b", "nonsense"])
    await settle()
    ((level, text),) = lines()
    assert level == "WARNING"
    assert text.startswith("Dropped a presence message of node 'b': ")


async def test_nodes_that_come_and_go_are_logged(runtime: Runtime, lines: Any) -> None:
    _, (_, b) = await cluster("a", "b")
    await b.stop()
    await settle()
    assert ("INFO", "Showing the presences of node 'b'") in lines()
    assert lines()[-1] == ("INFO", "Hiding the presences of node 'b': goodbye")


async def test_a_presence_that_has_stopped_logs_nothing(runtime: Runtime, lines: Any) -> None:
    _, (a, b) = await cluster("a", "b")
    await a.stop()
    before = len(lines())
    await b.stop()
    await settle()
    assert len(lines()) == before
