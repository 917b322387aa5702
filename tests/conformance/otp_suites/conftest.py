"""Every test of this folder runs on a virtual clock."""

import pytest

from tests.virtual_clock import put_on_virtual_clock


def pytest_itemcollected(item: pytest.Item) -> None:
    put_on_virtual_clock(item)
