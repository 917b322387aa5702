"""The watchdog names the process that holds up the loop."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
import trio

from actors import open_runtime, spawn, wait_exit
from actors.watchdog import BLOCKED


async def test_a_blocking_process_is_named_with_its_stack_while_it_blocks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Mapping[str, Any]] = []
    seen = threading.Event()

    class Handler:
        """Ends the block as soon as the watchdog has spoken, so that nothing here depends on a time."""

        def __call__(self, record: Any) -> bool:
            seen.set()
            return True

    async def blocks_for_a_while() -> None:
        assert seen.wait(20)

    import logging

    watchdog_log = logging.getLogger("actors.watchdog")
    handler = Handler()
    watchdog_log.addFilter(handler)
    try:
        async with open_runtime(watchdog=0.01) as runtime:
            runtime.telemetry.attach(BLOCKED, lambda event, how, about: told.append(about))
            await wait_exit(spawn(blocks_for_a_while))
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
    finally:
        watchdog_log.removeFilter(handler)
    assert "blocks_for_a_while" in caplog.text
    assert "seen.wait(20)" in caplog.text
    (about,) = [each for each in told if "blocks_for_a_while" in each["process"]]
    assert any("seen.wait(20)" in line for line in about["stack"])


async def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0 seconds"):
        async with open_runtime(watchdog=0.0):
            raise AssertionError("not reached")


async def test_no_thread_is_left_when_the_runtime_is_closed() -> None:
    async with open_runtime(watchdog=5.0):
        assert any(thread.name == "actors watchdog" for thread in threading.enumerate())
    assert not any(thread.name == "actors watchdog" for thread in threading.enumerate())
