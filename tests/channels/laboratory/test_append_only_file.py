"""The append-only file of the simulated Redis server, on the disk of its node."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import trio

from channels.durable import AppendFailed, History, RedisStorage, StorageError
from channels.pubsub.pubsub import PubSub
from channels.pubsub.redis.server import RedisServer
from channels.testing import SimulatedRedis
from supervision.chaos import DiskError, On
from supervision.simulation import Node, World
from tests.laws.scenarios import simulate

LOG = "appendonly.aof"


async def client(node: Node, redis: SimulatedRedis, found: list[Any]) -> None:
    """Append three messages, one in each half second, and then read."""
    storage = RedisStorage(
        RedisServer("redis://redis", connect=node.connect, ping_interval=0.2),
        timeout=0.4,
        trust_restarts=True,
    )
    history = History(storage, timeout=0.4)
    await history.start_link(PubSub())
    for number in range(3):
        try:
            found.append(await history.append("room:1", "e", {"n": number}))
        except AppendFailed as error:
            found.append(type(error))
        await trio.sleep(0.5)
    await trio.sleep(1)
    while True:
        try:
            found.append(len((await history.read("room:1")).entries))
            return
        except StorageError:
            # The first read notices that the connection is half open.
            await trio.sleep(0.1)


def run_of(
    found: list[Any], *, appendfsync: Literal["always", "everysec", "no"], power: bool
) -> Any:
    async def run(world: World) -> None:
        redis = SimulatedRedis(appendonly=True, appendfsync=appendfsync)
        world.nodes.start("redis", redis.main)
        world.nodes.start("a", client, redis, found)
        await trio.sleep(1.9)
        if world.nodes.is_up("redis"):
            world.nodes.kill("redis", power=power)
        world.nodes.boot("redis")
        await trio.sleep(3)
        if world.params.get("damage"):
            world.nodes.kill("redis")
            world.nodes.disk("redis").open(LOG, "r+").write(b"*3\r\n!", 0)
            world.nodes.boot("redis")
            await trio.sleep(1)

    return run


def test_a_killed_server_has_its_data_and_one_without_power_what_it_has_synced() -> None:
    kept: dict[tuple[str, bool], set[int]] = {}
    policies: tuple[Literal["always", "everysec", "no"], ...] = ("always", "everysec", "no")
    for appendfsync in policies:
        for power in (False, True):
            for seed in range(12):
                found: list[Any] = []
                simulate(run_of(found, appendfsync=appendfsync, power=power), seed).check()
                kept.setdefault((appendfsync, power), set()).add(found[-1])
    assert kept["always", False] == kept["always", True] == kept["no", False] == {3}
    # The last append was a second after the first sync.
    assert kept["everysec", True] == {2, 3}
    assert min(kept["no", True]) < 2


def test_a_server_that_cannot_sync_ends_before_it_answers() -> None:
    found: list[Any] = []
    fault = DiskError(target=f"redis/{LOG}", when=On("fsync", nth=3))
    simulate(run_of(found, appendfsync="always", power=False), 1, faults=[fault]).check()
    assert AppendFailed in found


def test_a_server_does_not_start_with_a_damaged_file() -> None:
    run = run_of([], appendfsync="always", power=False)
    error = simulate(run, 1, params={"damage": True}).error
    assert isinstance(error, ValueError)
    with pytest.raises(ValueError, match=r"appendonly\.aof is damaged: expected"):
        raise error


@pytest.mark.parametrize(
    "content",
    [
        b"*2\r\n$1\r\n0\r\n$1\r\n1\r\n",
        b"*3\r\n$1\r\n0\r\n$1\r\nx\r\n$8\r\nFLUSHALL\r\n",
        b"*3\r\n$1\r\n0\r\n$1\r\n1\r\n$3\r\nDEL\r\n",
    ],
)
def test_a_command_that_is_incomplete_in_itself_is_damage_too(content: bytes) -> None:
    async def main(node: Node) -> None:
        node.disk.open(LOG, "a").write(content)
        await SimulatedRedis(appendonly=True).main(node)

    async def run(world: World) -> None:
        world.nodes.start("redis", main)
        await trio.sleep(1)

    error = simulate(run, 1).error
    assert isinstance(error, ValueError)
    assert "appendonly.aof is damaged: " in str(error)
