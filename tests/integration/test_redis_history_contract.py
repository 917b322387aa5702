"""The contract of storages, on a real server: every test of tests/contracts/test_history_storages.py."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from channels.durable.redis import RedisStorage
from tests.contracts import test_history_storages as contract
from tests.contracts.test_history_storages import Open, opening
from tests.integration.valkey import Valkey, valkey

_keys = itertools.count()

# The tests only, and not their fixture, which has a server in memory.
globals().update({name: each for name, each in vars(contract).items() if name.startswith("test_")})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with valkey(tmp_path_factory.mktemp("valkey")) as started:
        yield started


@pytest.fixture
async def opened(server: Valkey) -> AsyncIterator[Open]:
    # Each test has its own history.
    key = f"test{next(_keys)}"
    async with opening(lambda: RedisStorage(server.url, key=key)) as opened:
        yield opened
