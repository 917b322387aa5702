"""The fixture `channel_test`, for pytest with pytest-trio.

    async def test_a_message_reaches_the_client(channel_test):
        case = await channel_test(endpoint)
        client = await case.connect("/socket")

Pytest loads this plugin if Ashtree is installed. Tests with the fixture run on Trio's autojump clock. With this clock,
waits take no real time, and a wait that would never end fails immediately.
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
"""The type of the fixture `channel_test`."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Add the virtual clock to each test that uses the fixture `channel_test`."""
    # pytest-trio finds a clock only among the fixtures that the test itself names, so `channel_test` cannot request it.
    if (
        "channel_test" in getattr(item, "fixturenames", ())
        and inspect.iscoroutinefunction(getattr(item, "obj", None))
        and item.config.pluginmanager.hasplugin("trio")
    ):
        item.add_marker(pytest.mark.trio(run=_run_on_virtual_clock))


@pytest.fixture
async def channel_test() -> AsyncIterator[OpenChannelTest]:
    """Provide a function that starts endpoints for a test. The fixture stops these endpoints after the test.

        case = await channel_test(endpoint)

    The function takes the arguments of `channels.testing.open_channel_test`, and returns a `ChannelTest`.
    """
    # Imported here, so that a pytest run without this fixture starts fast.
    from actors.runtime import open_runtime  # noqa: PLC0415
    from channels.testing.case import open_channel_test  # noqa: PLC0415

    # The runtime belongs to this task, not to the task of the test, which calls `start`.
    async with open_runtime(), AsyncExitStack() as stack:

        async def start(endpoint: Endpoint, *, timeout: float = 0.1) -> ChannelTest:
            return await stack.enter_async_context(open_channel_test(endpoint, timeout=timeout))

        yield start


def _run_on_virtual_clock(*args: Any, **kwargs: Any) -> Any:
    import trio.testing  # noqa: PLC0415 # see above

    if kwargs.get("clock") is None:
        kwargs["clock"] = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(*args, **kwargs)
