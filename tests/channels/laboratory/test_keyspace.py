"""The keys of the simulated Redis server."""

from __future__ import annotations

from random import Random

import pytest

from channels.laboratory.keyspace import Keyspace
from channels.testing import SimulatedRedis
from supervision.simulation import Disk


def test_keys_expire_by_the_time_of_day_of_the_server() -> None:
    now = 1000.0
    keys = Keyspace(lambda: now)
    keys.set(b"a", b"1")
    keys.expire(b"a", 5000)
    keys.set(b"b", b"2")
    now = 1004.0
    assert keys.get(b"a") == b"1"
    # An administrator sets the clock forward.
    now = 2000.0
    assert (keys.get(b"a"), keys.get(b"b")) == (None, b"2")


class Node:
    """A node whose clock is ahead."""

    disk = Disk(Random(1))

    def listen(self, port: int = 0) -> None:
        raise OSError("no port is free")

    def now(self) -> float:
        return 12345.0


async def test_a_server_has_the_time_of_day_of_its_node() -> None:
    redis = SimulatedRedis()
    with pytest.raises(OSError, match="no port"):
        await redis.main(Node())
    assert redis.now() == 12345.0
