"""The runtime reports a mailbox that grows too long, and does not limit it."""

from __future__ import annotations

import logging

import pytest
import trio

from actors import kill, open_runtime, send, spawn
from actors.instrumentation.logger import MAILBOX_ALARM


async def test_the_alarm_fires_above_its_limit_and_at_every_doubling(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lengths: list[int] = []

    async def busy_elsewhere() -> None:
        await trio.sleep_forever()

    async with open_runtime(mailbox_alarm=10) as runtime:
        runtime.telemetry.attach(
            MAILBOX_ALARM, lambda event, how, about: lengths.append(how["queue_length"])
        )
        pid = spawn(busy_elsewhere)
        with caplog.at_level(logging.WARNING, "actors"):
            for number in range(100):
                send(pid, number)
        info = runtime.process_info(pid)
        assert info is not None
        assert info["queue_length"] == 100
        kill(pid)
    assert lengths == [11, 23, 47, 95]
    assert "11 messages wait for process" in caplog.text
    assert "busy_elsewhere" in caplog.text
