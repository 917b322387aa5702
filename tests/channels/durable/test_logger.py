"""Log lines of histories."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from actors import Runtime, stop
from actors.instrumentation.telemetry import Event
from channels import PubSub
from channels.durable import History, StorageError
from channels.durable.logger import QUIET
from channels.telemetry import (
    HISTORY_CHECK_FAILED,
    HISTORY_EVICTED,
    HISTORY_FENCE_REFUSED,
    HISTORY_FENCES_FORGOTTEN,
    HISTORY_FULL,
    HISTORY_LOST,
    HISTORY_NOT_SENT,
)
from tests.channels.durable.documents import Start
from tests.channels.durable.test_history import Broken
from tests.channels.support import settle


async def test_a_failed_append_that_nobody_waits_for_is_logged_once_a_minute(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    storage = Broken()
    history = await start(History(storage, check_interval=1000.0))
    storage.fails = True
    for wait in (0, 0, QUIET):
        await trio.sleep(wait)
        history.append_nowait("document:1", "edited", {})
        await settle()
    first, second = [each for each in caplog.records if each.name == "channels.durable"]
    assert first.levelno == logging.ERROR
    assert "'edited' for the durable topic 'document:1' failed: the disk is full" in (
        first.getMessage()
    )
    assert second.getMessage().endswith("(and 1 more since the last line)")


async def test_every_other_event_has_a_line_until_the_history_stops(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    history, other = History(), History(name="other")
    pid = await history.start_link(PubSub())
    error = StorageError("memory", "broken")
    events: list[tuple[Event, dict[str, Any], dict[str, Any]]] = [
        (HISTORY_CHECK_FAILED, {}, {"error": error}),
        (HISTORY_FULL, {"waiting": 3}, {"topic": "a"}),
        (HISTORY_EVICTED, {"topics": 2}, {}),
        (HISTORY_FENCE_REFUSED, {}, {"topic": "a", "error": error}),
        (HISTORY_FENCES_FORGOTTEN, {"topics": 2}, {}),
        (HISTORY_NOT_SENT, {}, {"topic": "a", "error": error}),
        (HISTORY_LOST, {}, {"topic": "a", "position": "e:1", "reason": "too_old", "pid": None}),
    ]
    for event, measurements, about in events:
        runtime.telemetry.execute(event, measurements, {"history": history, **about})
        runtime.telemetry.execute(event, measurements, {"history": other, **about})
    assert len(caplog.records) == len(events)
    await stop(pid)
    await trio.sleep(QUIET + 1)
    for event, measurements, about in events:
        runtime.telemetry.execute(event, measurements, {"history": history, **about})
    assert len(caplog.records) == len(events)
