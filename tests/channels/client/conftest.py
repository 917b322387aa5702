"""Servers in memory for the tests of clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from channels import Endpoint
from tests.channels.client.world import World, room_endpoint
from tests.channels.support import Server


@pytest.fixture
async def world(serve: Callable[[Endpoint], Awaitable[Server]]) -> World:
    """A running server with rooms."""
    return World(await serve(room_endpoint()))
