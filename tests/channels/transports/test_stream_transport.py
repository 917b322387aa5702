"""A transport of any stream that fails in a way that no stream should."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from channels.transports.transports import Transports
from tests.channels.transports.readers import Heard


class FaultyStream(trio.abc.Stream):
    """A stream that raises a forbidden error on request."""

    def __init__(self) -> None:
        self.fail = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await self.fail.wait()
        raise RuntimeError("a bug in somebody's stream")

    async def send_all(self, data: Any) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_transport_that_fails_reports_to_its_connection() -> None:
    heard, stream = Heard(), FaultyStream()
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            transport = Transports(spawn=nursery.start_soon, use_poller=False).attach(stream, heard)
            await wait_all_tasks_blocked()
            stream.fail.set()
    (event,) = heard.events
    assert isinstance(event, ConnectionAbortedError)
    transport.finish(b"")
    transport.close()
    assert len(heard.events) == 1


async def test_a_transport_whose_task_is_cancelled_reports_to_its_connection() -> None:
    heard = Heard()
    async with trio.open_nursery() as nursery:
        Transports(spawn=nursery.start_soon, use_poller=False).attach(FaultyStream(), heard)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    (event,) = heard.events
    assert isinstance(event, ConnectionAbortedError)
