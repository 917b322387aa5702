"""Every async test of a folder on a virtual clock: sleeping takes no time, and exactly as long as it was meant to."""

import inspect
from typing import Any

import pytest
import trio
import trio.testing


def run_on_virtual_clock(*args: Any, **kwargs: Any) -> Any:
    """`trio.run` with a clock that jumps to the next deadline as soon as every task waits."""
    kwargs["clock"] = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(*args, **kwargs)


def put_on_virtual_clock(item: pytest.Item) -> None:
    """Run one collected test so; a conftest calls it from `pytest_itemcollected`.

    The fixture `autojump_clock` does the same, but only for tests that name it themselves, which is easily forgotten:
    the test then sleeps for real, and passes.
    """
    if inspect.iscoroutinefunction(getattr(item, "obj", None)):
        item.add_marker(pytest.mark.trio(run=run_on_virtual_clock))
