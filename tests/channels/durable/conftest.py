"""Documents on a running endpoint with two readers, and histories that run without an endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors import Pid, Runtime, stop
from channels import PubSub
from channels.durable import History
from channels.testing import ChannelTest
from tests.channels.durable.documents import Reader, Start, endpoint_of, joined


@pytest.fixture
def options() -> dict[str, Any]:
    """Options of the history. A test with other options parametrizes them."""
    return {}


@pytest.fixture
def history(options: dict[str, Any]) -> History:
    return History(**options)


@pytest.fixture
async def case(channel_test: Any, history: History) -> ChannelTest:
    """A running endpoint whose documents are on the history."""
    case: ChannelTest = await channel_test(endpoint_of(history))
    return case


@pytest.fixture
async def ann(case: ChannelTest) -> Reader:
    """A reader that has joined."""
    return await joined(case)


@pytest.fixture
async def bob(case: ChannelTest, ann: Reader) -> Reader:
    """Another reader, which joined after ann. The fixtures of a test would otherwise run at the same time."""
    return await joined(case)


@pytest.fixture
async def start(runtime: Runtime) -> AsyncIterator[Start]:
    """Start a history without an endpoint. The fixture stops it after the test."""
    pids: list[Pid] = []

    async def start(history: History) -> History:
        pids.append(await history.start_link(PubSub()))
        return history

    yield start
    for pid in pids:
        await stop(pid)
