"""Modules that say `VIRTUAL_CLOCK = True` have their async tests run on one: they may wait, and it takes no time."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator

import pytest

from actors import Runtime
from tests.channels.entities.nodes import virtual_runtime
from tests.channels.support import run_on_virtual_clock


def pytest_itemcollected(item: pytest.Item) -> None:
    module = getattr(item, "module", None)
    if inspect.iscoroutinefunction(getattr(item, "obj", None)) and getattr(
        module, "VIRTUAL_CLOCK", False
    ):
        item.add_marker(pytest.mark.trio(run=run_on_virtual_clock))


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A runtime whose clocks follow the clock of the test."""
    async with virtual_runtime() as opened:
        yield opened
