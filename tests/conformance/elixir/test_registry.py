"""Elixir's registry_test: clean-up and locks, for both kinds of keys."""

import math
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest
import trio

from actors import (
    KILL,
    Crash,
    Pid,
    Registry,
    current_pid,
    kill,
    monitor,
    receive,
    send,
    spawn,
    spawn_monitor,
)
from tests.actors.helpers import down, in_process, settle

Kind = Literal["unique", "duplicate"]

kinds = pytest.mark.parametrize("kind", ["unique", "duplicate"])
partitioned = pytest.mark.parametrize("partitions", [1, 8])


@kinds
@partitioned
@in_process()
async def test_a_crash_removes_the_entries_of_the_process(kind: Kind, partitions: int) -> None:
    registry = Registry[str, str](kind, partitions=partitions)

    async def crash() -> None:
        registry.register("hello", "world")
        registry.register("world", "hello")
        await receive()
        raise ValueError("asked to")

    pid, ref = spawn_monitor(crash)
    await settle()
    registry.register("mine", "mine")
    assert registry.keys(pid) == ["hello", "world"]
    send(pid, "crash")
    assert isinstance((await down(ref)).reason, Crash)
    assert registry.keys(pid) == []
    assert registry.lookup("hello") == registry.lookup("world") == []
    assert registry.count() == 1


async def held(
    registry: Registry[Any, Any], key: Any, said: list[str], name: str, hold: float
) -> None:
    async with registry.lock(key):
        said.append(f"{name} in at {trio.current_time():g}")
        await trio.sleep(hold)
        said.append(f"{name} out at {trio.current_time():g}")


def start_both(registry: Registry[Any, Any], *keys: Any) -> tuple[list[str], list[Pid]]:
    said: list[str] = []
    return said, [
        spawn(held, registry, key, said, name, 1) for name, key in zip("abc", keys, strict=False)
    ]


@kinds
@partitioned
@in_process()
async def test_different_keys_have_different_locks(kind: Kind, partitions: int) -> None:
    registry = Registry[Any, None](kind, partitions=partitions)
    # The comparison is strict, as for all keys.
    said, _ = start_both(registry, "one", 1, 1.0)
    start = trio.current_time()
    await trio.sleep(10)
    assert sorted(said) == sorted(
        f"{name} {way} at {start + when:g}"
        for name in "abc"
        for way, when in (("in", 0), ("out", 1))
    )


@kinds
@partitioned
@in_process()
async def test_the_same_key_has_one_lock(kind: Kind, partitions: int) -> None:
    registry = Registry[Any, None](kind, partitions=partitions)
    said, _ = start_both(registry, "one", "one", "one")
    await trio.sleep(10)
    assert [line.split()[1] for line in said] == ["in", "out"] * 3
    assert len({line.split()[0] for line in said}) == 3


Ending = Callable[[], Awaitable[None]]


async def raising() -> None:
    raise ValueError("asked to")


async def killed() -> None:
    kill(current_pid())
    await trio.sleep_forever()


@kinds
@partitioned
@pytest.mark.parametrize("end", [raising, killed])
@in_process()
async def test_a_lock_is_released_when_its_holder_fails(
    kind: Kind, partitions: int, end: Ending
) -> None:
    registry = Registry[str, None](kind, partitions=partitions)

    async def hold() -> None:
        async with registry.lock("key"):
            await trio.sleep(1)
            await end()

    _, ref = spawn_monitor(hold)
    await settle()
    with trio.fail_after(1.5):
        async with registry.lock("key"):
            await down(ref)
    assert len(registry._here().locks) == 0


@kinds
@partitioned
@in_process(kill_grace=2.0)
async def test_a_lock_is_released_when_its_holder_is_declared_dead(
    kind: Kind, partitions: int
) -> None:
    registry = Registry[str, None](kind, partitions=partitions)
    may_end = trio.Event()

    async def hold() -> None:
        async with registry.lock("key"):
            with trio.CancelScope(shield=True):  # the process resists its kill
                await may_end.wait()

    pid, ref = spawn_monitor(hold)
    await settle()
    kill(pid)
    start = trio.current_time()
    async with registry.lock("key"):
        assert trio.current_time() == start + 2.0
        await down(ref)
        # The late end of the zombie does not release the lock of another process.
        may_end.set()
        await settle()
        taken, _ = spawn_monitor(held, registry, "key", [], "other", 1)
        await settle()
        assert registry._here().locks.holds("key")
        kill(taken)


@kinds
@partitioned
@in_process()
async def test_a_lock_skips_a_process_that_ended_while_it_waited(
    kind: Kind, partitions: int
) -> None:
    registry = Registry[str, None](kind, partitions=partitions)
    said: list[str] = []
    spawn(held, registry, "key", said, "a", 3)
    await settle()
    waiter = spawn(held, registry, "key", said, "b", math.inf)
    await settle()
    spawn(held, registry, "key", said, "c", 1)
    await trio.sleep(1)
    ref = monitor(waiter)
    kill(waiter)
    assert (await down(ref)).reason is not KILL
    await trio.sleep(10)
    assert [line[:5].strip() for line in said] == ["a in", "a out", "c in", "c out"]
    assert len(registry._here().locks) == 0
