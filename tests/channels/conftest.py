"""A runtime, and endpoints in it, for the tests of running channels.

Async tests of this folder run on a virtual clock. The exceptions are tests of transports, and modules with
`REAL_CLOCK = True`, which use real sockets.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from actors import Runtime, open_runtime
from channels import Endpoint
from tests.channels.support import Server, run_on_virtual_clock

Serve = Callable[[Endpoint], Awaitable[Server]]


def pytest_itemcollected(item: pytest.Item) -> None:
    # The fixture `autojump_clock` works only in tests that name it themselves, which is easily forgotten: the test
    # then sleeps for real, and passes.
    module = getattr(item, "module", None)
    if (
        inspect.iscoroutinefunction(getattr(item, "obj", None))
        and item.path.parent.name != "transports"
        and not getattr(module, "REAL_CLOCK", False)
    ):
        item.add_marker(pytest.mark.trio(run=run_on_virtual_clock))


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with open_runtime(log=False) as opened:
        yield opened


@pytest.fixture
async def serve(runtime: Runtime) -> Serve:
    """Start an endpoint, on any free port."""

    async def start(endpoint: Endpoint) -> Server:
        return Server(endpoint, runtime, await endpoint.start_link(port=0))

    return start
