"""Fixtures of this folder: a virtual clock for every async test, and a runtime on request."""

import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from actors import Runtime, open_runtime
from tests.supervision.workers import Log


def run_on_virtual_clock(*args: Any, **kwargs: Any) -> Any:
    """Run as `trio.run` does, on a virtual clock: sleeping takes no real time."""
    kwargs["clock"] = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(*args, **kwargs)


def pytest_itemcollected(item: pytest.Item) -> None:
    # The fixture `autojump_clock` works only in tests that name it. A test without it would sleep for real and pass.
    if inspect.iscoroutinefunction(getattr(item, "obj", None)):
        item.add_marker(pytest.mark.trio(run=run_on_virtual_clock))


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with open_runtime(log=False) as opened:
        yield opened


@pytest.fixture
def log() -> Log:
    return Log()
