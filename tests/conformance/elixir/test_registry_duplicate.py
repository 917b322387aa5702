"""Elixir's registry/duplicate_test, with 1 and with 8 partitions.

Elixir has two ways to divide entries into partitions, by process and by key. Ashtree has one.
"""

from functools import partial
from typing import Any

import pytest
import trio

from actors import (
    Entry,
    InvalidOperation,
    Pid,
    Registered,
    Registry,
    RegistryClosed,
    Unregistered,
    current_pid,
    current_runtime,
    kill,
    receive,
    register,
    send,
    spawn,
    stop,
)
from tests.actors.helpers import in_process, nothing_arrives, settle

partitioned = pytest.mark.parametrize("partitions", [1, 8])


def duplicate(partitions: int, **options: Any) -> Registry[Any, Any]:
    return Registry("duplicate", partitions=partitions, **options)


async def hold(registry: Registry[Any, Any], key: Any, value: Any) -> None:
    registry.register(key, value)
    await trio.sleep_forever()


async def held(registry: Registry[Any, Any], key: Any, value: Any) -> Pid:
    """Another process that has a key."""
    pid = spawn(hold, registry, key, value)
    await settle()
    return pid


def values(entries: list[Entry[Any, Any]]) -> list[Any]:
    return [entry.value for entry in entries]


@partitioned
@in_process()
async def test_an_empty_registry_counts_0(partitions: int) -> None:
    assert duplicate(partitions).count() == 0


@partitioned
@in_process()
async def test_entries_are_counted_and_not_keys(partitions: int) -> None:
    registry = duplicate(partitions)
    for key in ("hello", "hello", "world"):
        registry.register(key, None)
    assert registry.count() == 3


@partitioned
@in_process()
async def test_a_process_registers_a_key_several_times(partitions: int) -> None:
    registry, me = duplicate(partitions), current_pid()
    for value in ("value", "value", "other"):
        registry.register("hello", value)
    assert registry.lookup("hello") == [Entry("hello", me, v) for v in ("value", "value", "other")]
    assert registry.keys(me) == ["hello", "hello", "hello"]
    assert registry.values("hello", me) == ["value", "value", "other"]


@partitioned
@in_process()
async def test_several_processes_register_a_key(partitions: int) -> None:
    registry, me = duplicate(partitions), current_pid()
    other = await held(registry, "hello", "theirs")
    registry.register("hello", "mine")
    assert registry.lookup("hello") == [
        Entry("hello", other, "theirs"),
        Entry("hello", me, "mine"),
    ]
    assert registry.values("hello", other) == ["theirs"]
    assert registry.keys(other) == registry.keys(me) == ["hello"]


@partitioned
@in_process()
async def test_keys_are_compared_strictly(partitions: int) -> None:
    registry, me = duplicate(partitions), current_pid()
    for key in (1, 1.0, True, (1,), (1.0,), frozenset({1}), frozenset({True})):
        registry.register(key, repr(key))
    for key in (1, 1.0, True, (1,), (1.0,), frozenset({1}), frozenset({True})):
        assert registry.lookup(key) == [Entry(key, me, repr(key))]
    registry.unregister(1)
    assert registry.values(1.0, me) == ["1.0"]


@partitioned
@in_process()
async def test_dispatch_calls_once_for_each_partition_that_has_entries(partitions: int) -> None:
    registry = duplicate(partitions)
    calls: list[list[Entry[Any, Any]]] = []
    registry.dispatch("hello", calls.append)
    assert calls == []
    pids = [await held(registry, "hello", number) for number in range(20)]
    registry.register("other", None)
    registry.dispatch("hello", calls.append)
    assert len(calls) == partitions
    assert sorted(value for entries in calls for value in values(entries)) == list(range(20))
    for entries in calls:
        assert entries
        assert values(entries) == sorted(values(entries))
    # A process stays in one partition.
    again: list[list[Entry[Any, Any]]] = []
    registry.dispatch("hello", again.append)
    assert again == calls
    assert {entry.pid for entries in calls for entry in entries} == set(pids)


@partitioned
@in_process()
async def test_a_dispatch_function_may_raise_or_change_the_registry(partitions: int) -> None:
    registry = duplicate(partitions)
    for number in range(20):
        await held(registry, "hello", number)
    called = 0

    def fail(entries: object) -> None:
        nonlocal called
        called += 1
        registry.register("hello", "late")
        raise KeyError("asked to")

    with pytest.raises(KeyError, match=r"asked to"):
        registry.dispatch("hello", fail)
    assert called == 1
    assert registry.count() == 21


@partitioned
@in_process()
async def test_dispatch_starts_work_in_a_nursery_of_the_caller(partitions: int) -> None:
    registry = duplicate(partitions)
    for number in range(20):
        await held(registry, "hello", number)
    done: list[int] = []

    async def work(number: int) -> None:
        await trio.sleep(1)
        done.append(number)

    start = trio.current_time()
    async with trio.open_nursery() as nursery:

        def start_work(entries: list[Entry[Any, Any]]) -> None:
            for entry in entries:
                nursery.start_soon(work, entry.value)

        registry.dispatch("hello", start_work)
    assert trio.current_time() == start + 1
    assert sorted(done) == list(range(20))


@partitioned
@in_process()
async def test_all_entries_of_a_key_are_unregistered(partitions: int) -> None:
    registry, me = duplicate(partitions), current_pid()
    for key in ("hello", "hello", "world"):
        registry.register(key, "value")
    other = await held(registry, "hello", "theirs")
    registry.unregister("hello")
    assert registry.keys(me) == ["world"]
    assert registry.lookup("hello") == [Entry("hello", other, "theirs")]
    registry.unregister("world")
    assert registry.keys(me) == []


@partitioned
@in_process()
async def test_unregistering_a_key_that_one_does_not_have_does_nothing(partitions: int) -> None:
    registry = duplicate(partitions)
    await held(registry, "hello", "theirs")
    registry.unregister("hello")
    registry.unregister("world")
    assert registry.count() == 1


@partitioned
@in_process()
async def test_values_are_matched_by_a_function(partitions: int) -> None:
    registry = duplicate(partitions)
    registry.register("hello", ("a", 1))
    registry.register("hello", ("b", 2))
    assert values(registry.match("hello", lambda value: value[0] == "b")) == [("b", 2)]
    assert values(registry.match("hello", lambda value: value[1] > 0)) == [("a", 1), ("b", 2)]
    assert values(registry.match("hello", lambda value: value[0] == "a" and value[1] > 1)) == []
    assert registry.match("world", lambda value: True) == []


@partitioned
@in_process()
async def test_keys_of_any_complexity_are_looked_up(partitions: int) -> None:
    registry, me = duplicate(partitions), current_pid()
    for key in (("_", 1), ("a", 1), ("a", ("_", None))):
        registry.register(key, repr(key))
    for key in (("_", 1), ("a", 1), ("a", ("_", None))):
        assert registry.lookup(key) == [Entry(key, me, repr(key))]
        assert values(registry.match(key, lambda value: True)) == [repr(key)]
    assert registry.lookup(("_", 2)) == []


@partitioned
@in_process()
async def test_matches_are_counted(partitions: int) -> None:
    registry = duplicate(partitions)
    for value in (("a", 1), ("a", 2), ("b", 3)):
        registry.register("hello", value)
    assert registry.count_match("hello", lambda value: value[0] == "a") == 2
    assert registry.count_match("hello", lambda value: value[0] == "a" and value[1] > 1) == 1
    assert registry.count_match("world", lambda value: True) == 0


@partitioned
@in_process()
async def test_matching_entries_are_unregistered(partitions: int) -> None:
    registry, me = duplicate(partitions), current_pid()
    for value in (("a", 1), ("a", 2), ("b", 3)):
        registry.register("hello", value)
    await held(registry, "hello", ("a", 4))
    registry.unregister_match("hello", lambda value: value[0] == "a" and value[1] > 1)
    assert registry.values("hello", me) == [("a", 1), ("b", 3)]
    registry.unregister_match("hello", lambda value: value[0] == "a")
    assert registry.values("hello", me) == [("b", 3)]
    assert registry.count() == 2


@partitioned
@in_process()
async def test_listeners_get_messages_about_calls_and_not_about_ends(partitions: int) -> None:
    registry, me = duplicate(partitions, listeners=["listener"]), current_pid()
    register("listener")
    registry.register("hello", 1)
    registry.register("hello", 2)
    registry.unregister("hello")
    assert [await receive(timeout=0) for _ in range(4)] == [
        Registered(registry, "hello", me, 1),
        Registered(registry, "hello", me, 2),
        Unregistered(registry, "hello", me, 1),
        Unregistered(registry, "hello", me, 2),
    ]
    registry.unregister("hello")
    await nothing_arrives()
    other = await held(registry, "hello", 3)
    assert await receive(timeout=0) == Registered(registry, "hello", other, 3)
    kill(other)
    await nothing_arrives(1)


@partitioned
@in_process()
async def test_entries_make_no_links_and_end_with_their_process(partitions: int) -> None:
    registry, runtime = duplicate(partitions), current_runtime()
    before = runtime.process_info(current_pid())
    registry.register("hello", 1)
    registry.register("hello", 2)
    registry.unregister_match("hello", lambda value: value == 1)
    registry.unregister("hello")
    assert runtime.process_info(current_pid()) == before


@partitioned
@in_process()
async def test_an_ended_registry_refuses_every_operation(partitions: int) -> None:
    registry = duplicate(partitions)
    await stop(await registry.start_link())
    with pytest.raises(RegistryClosed):
        registry.register("hello", "value")
    with pytest.raises(RegistryClosed):
        registry.lookup("hello")


@partitioned
@in_process()
async def test_a_duplicate_key_has_no_via_whereis_or_update_value(partitions: int) -> None:
    registry = duplicate(partitions)
    registry.register("hello", 1)
    with pytest.raises(InvalidOperation) as refused:
        registry.via("hello")
    assert refused.value.verb == "Registry.via"
    with pytest.raises(InvalidOperation) as refused:
        registry.whereis("hello")
    assert refused.value.verb == "Registry.whereis"
    with pytest.raises(InvalidOperation) as refused:
        registry.update_value("hello", lambda value: value + 1)
    assert refused.value.verb == "Registry.update_value"
    assert registry.values("hello", current_pid()) == [1]


@partitioned
@in_process()
async def test_an_empty_registry_selects_nothing(partitions: int) -> None:
    assert duplicate(partitions).select() == []


@partitioned
@in_process()
async def test_everything_is_selected(partitions: int) -> None:
    registry, me = duplicate(partitions), current_pid()
    registry.register("hello", 1)
    registry.register("world", 2)
    registry.register("hello", 3)
    # The entries of one key are together.
    assert registry.select() == [
        Entry("hello", me, 1),
        Entry("hello", me, 3),
        Entry("world", me, 2),
    ]


@partitioned
@in_process()
async def test_entries_are_selected_by_key_pid_and_value(partitions: int) -> None:
    registry, me = duplicate(partitions), current_pid()
    other = await held(registry, "hello", 1)
    registry.register("hello", 10)
    registry.register("world", 20)
    assert values(registry.select(lambda e: e.key == "hello")) == [1, 10]
    assert values(registry.select(lambda e: e.pid is me and e.value > 15)) == [20]
    # In place of several specs, a condition with `or`. In place of a body, a comprehension.
    found = registry.select(lambda e: e.pid is other or e.key == "world")
    assert [(e.key, e.pid) for e in found] == [("hello", other), ("world", me)]


@partitioned
@in_process()
async def test_selected_entries_are_counted(partitions: int) -> None:
    registry = duplicate(partitions)
    for value in (1, 10):
        registry.register("hello", value)
    registry.register("world", 20)
    assert registry.count_select(lambda e: e.key == "hello") == 2
    assert registry.count_select(lambda e: e.key == "hello" and e.value > 5) == 1
    assert registry.count_select(lambda e: e.key == "world" or e.value == 1) == 2


def has_key(key: Any, entry: Entry[Any, Any]) -> bool:
    return entry.key is key


RESERVED = [None, "_", "$1", ...]


@partitioned
@in_process()
async def test_no_key_is_special(partitions: int) -> None:
    registry, me = duplicate(partitions), current_pid()
    for key in RESERVED:
        registry.register(key, "value")
    for key in RESERVED:
        assert registry.lookup(key) == [Entry(key, me, "value")]
        is_it = partial(has_key, key)
        assert registry.select(is_it) == registry.lookup(key)
        assert registry.count_select(is_it) == 1
    assert registry.keys(me) == RESERVED


@partitioned
@in_process()
async def test_a_message_reaches_every_process_of_a_key(partitions: int) -> None:
    registry = duplicate(partitions)
    heard: list[Any] = []

    async def subscribe(name: str) -> None:
        registry.register("news", name)
        heard.append((name, await receive()))

    for name in "abc":
        spawn(subscribe, name)
    await settle()

    def tell(entries: list[Entry[Any, Any]]) -> None:
        for entry in entries:
            send(entry.pid, entry.value)

    registry.dispatch("news", tell)
    await settle()
    assert sorted(heard) == [("a", "a"), ("b", "b"), ("c", "c")]
    assert registry.count() == 0
