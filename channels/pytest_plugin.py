"""The fixture `channel_test`, for pytest with pytest-trio.

    async def test_what_is_said_is_heard(channel_test):
        case = await channel_test(endpoint)
        client = await case.connect("/socket")

Loaded by pytest itself when Ashtree is installed. Tests that use it run on Trio's autojump clock, so that a wait takes
no time, and one that never ends is noticed at once.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from channels.endpoint.endpoint import Endpoint
    from channels.testing.case import ChannelTest

__all__ = ["OpenChannelTest", "channel_test", "pytest_itemcollected"]

OpenChannelTest = Callable[..., Awaitable["ChannelTest"]]
"""What the fixture `channel_test` is: `await channel_test(endpoint, timeout=0.1)`."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Have tests that use the fixture run on a virtual clock."""
    # Trio's own fixture `autojump_clock` works only in tests that name it themselves, and not through other fixtures.
    if (
        "channel_test" in getattr(item, "fixturenames", ())
        and inspect.iscoroutinefunction(getattr(item, "obj", None))
        and item.config.pluginmanager.hasplugin("trio")
    ):
        item.add_marker(pytest.mark.trio(run=_run_on_virtual_clock))


@pytest.fixture
async def channel_test() -> AsyncIterator[OpenChannelTest]:
    """Runs endpoints for one test, and stops them when it is over.

        case = await channel_test(endpoint)

    Takes what `channels.testing.open_channel_test` takes, and gives what that gives.
    """
    # Not at the top: a pytest run without this fixture should not wait for this import.
    from actors.runtime import open_runtime  # noqa: PLC0415
    from channels.testing.case import open_channel_test  # noqa: PLC0415

    # The runtime belongs to this task, and not to the one that calls `start`, which is the test's.
    async with open_runtime(), AsyncExitStack() as stack:

        async def start(endpoint: Endpoint, *, timeout: float = 0.1) -> ChannelTest:
            return await stack.enter_async_context(open_channel_test(endpoint, timeout=timeout))

        yield start


def _run_on_virtual_clock(*args: Any, **kwargs: Any) -> Any:
    import trio.testing  # noqa: PLC0415 # see above

    if kwargs.get("clock") is None:
        kwargs["clock"] = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(*args, **kwargs)
