"""Fixtures of this folder: the virtual clock, and a runtime for tests that are not processes themselves."""

from collections.abc import AsyncIterator

import pytest

from actors import Runtime, open_runtime
from tests.virtual_clock import put_on_virtual_clock


def pytest_itemcollected(item: pytest.Item) -> None:
    put_on_virtual_clock(item)


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with open_runtime(log=False) as opened:
        yield opened
