"""The contract of adapters, on a real server: every test of tests/contracts/test_pubsub_adapters.py."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from actors import open_runtime
from channels import PubSub
from channels.pubsub.redis.adapter import RedisAdapter
from tests.contracts import test_pubsub_adapters as contract
from tests.contracts.test_pubsub_adapters import NAMES, Cluster
from tests.integration.valkey import Valkey, valkey

_prefixes = itertools.count()

# The tests only, and not their fixture, which has a server in memory.
globals().update({name: each for name, each in vars(contract).items() if name.startswith("test_")})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with valkey(tmp_path_factory.mktemp("valkey")) as started:
        yield started


@pytest.fixture
async def cluster(server: Valkey) -> AsyncIterator[Cluster]:
    # Each test has its own prefix, and so its own nodes.
    url = f"{server.url}?prefix=test{next(_prefixes)}"

    def adapter(name: str, **options: Any) -> RedisAdapter:
        return RedisAdapter(url, node_name=name, heartbeat=0.05, **options)

    async with open_runtime():
        cluster = Cluster(adapter)
        for name in NAMES:
            await cluster.start(name)
        await cluster.joined()
        yield cluster


@pytest.fixture
def pubsub(cluster: Cluster) -> PubSub:
    return cluster.nodes["a"]
