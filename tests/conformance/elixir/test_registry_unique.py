"""Elixir's registry/unique_test, with 1 and with 8 partitions."""

from typing import Any

import pytest
import trio

from actors import (
    AlreadyStarted,
    Entry,
    GenServer,
    KeyTaken,
    NameTaken,
    NoProcess,
    NoSuchName,
    Pid,
    Registered,
    Registry,
    RegistryClosed,
    Reply,
    Sender,
    Unregistered,
    call,
    current_pid,
    current_runtime,
    is_alive,
    kill,
    monitor,
    receive,
    register,
    send,
    spawn,
    spawn_monitor,
    stop,
    unregister,
    whereis,
)
from tests.actors.helpers import down, in_process, nothing_arrives, settle

partitioned = pytest.mark.parametrize("partitions", [1, 8])


def unique(partitions: int, **options: Any) -> Registry[Any, Any]:
    return Registry("unique", partitions=partitions, **options)


async def hold(registry: Registry[Any, Any], key: Any, value: Any) -> None:
    registry.register(key, value)
    await trio.sleep_forever()


async def held(registry: Registry[Any, Any], key: Any, value: Any) -> Pid:
    """Another process that has a key."""
    pid = spawn(hold, registry, key, value)
    await settle()
    return pid


@partitioned
@in_process()
async def test_an_empty_registry_counts_0(partitions: int) -> None:
    assert unique(partitions).count() == 0


@partitioned
@in_process()
async def test_entries_are_counted(partitions: int) -> None:
    registry = unique(partitions)
    for key in ("hello", "world"):
        registry.register(key, None)
    assert registry.count() == 2


@pytest.mark.parametrize("partitions", [0, -1, 1.0, True, "8"])
def test_the_number_of_partitions_is_a_whole_number_from_1(partitions: Any) -> None:
    with pytest.raises(ValueError, match=r"partitions=.*; write a whole number, 1 or more"):
        unique(partitions)


@partitioned
@in_process()
async def test_a_key_is_registered_once(partitions: int) -> None:
    registry, me = unique(partitions), current_pid()
    registry.register("hello", "value")
    assert registry.lookup("hello") == [Entry("hello", me, "value")]
    assert registry.keys(me) == ["hello"]
    assert registry.values("hello", me) == ["value"]
    with pytest.raises(KeyTaken) as caught:
        registry.register("hello", "other")
    assert (caught.value.key, caught.value.pid) == ("hello", me)
    assert registry.lookup("hello") == [Entry("hello", me, "value")]
    registry.register("world", "value")
    assert registry.keys(me) == ["hello", "world"]


@partitioned
@in_process()
async def test_a_key_is_taken_while_its_process_lives(partitions: int) -> None:
    registry, me = unique(partitions), current_pid()
    other = await held(registry, "hello", "value")
    with pytest.raises(KeyTaken) as caught:
        registry.register("hello", "mine")
    assert caught.value.pid is other
    assert registry.keys(me) == []
    assert registry.values("hello", me) == []
    assert registry.values("hello", other) == ["value"]
    ref = monitor(other)
    kill(other)
    await down(ref)
    registry.register("hello", "mine")
    assert registry.whereis("hello") is me


@partitioned
@in_process()
async def test_values_are_matched_by_a_function(partitions: int) -> None:
    registry, me = unique(partitions), current_pid()
    registry.register("hello", {1: "atom", 2: "atom"})
    (entry,) = registry.match("hello", lambda value: value[1] == value[2])
    assert entry == Entry("hello", me, {1: "atom", 2: "atom"})
    assert registry.match("hello", lambda value: value[1] == "other") == []
    assert registry.match("world", lambda value: True) == []
    # A guard of Elixir is a plain condition here.
    registry.register("number", ("a", 1))
    assert registry.match("number", lambda value: value[1] > 0)
    assert not registry.match("number", lambda value: value[1] > 1)


@partitioned
@in_process()
async def test_matches_are_counted(partitions: int) -> None:
    registry = unique(partitions)
    registry.register("hello", ("a", 1))
    assert registry.count_match("hello", lambda value: value[0] == "a") == 1
    assert registry.count_match("hello", lambda value: value[0] == "a" and value[1] > 1) == 0
    assert registry.count_match("world", lambda value: True) == 0


@partitioned
@in_process()
async def test_matching_entries_are_unregistered(partitions: int) -> None:
    registry, me = unique(partitions), current_pid()
    registry.register("hello", ("a", 1))
    registry.unregister_match("hello", lambda value: value[0] == "b")
    registry.unregister_match("hello", lambda value: value[0] == "a" and value[1] > 1)
    assert registry.keys(me) == ["hello"]
    registry.unregister_match("hello", lambda value: value[0] == "a" and value[1] > 0)
    assert registry.keys(me) == []
    assert registry.lookup("hello") == []


@partitioned
@in_process()
async def test_keys_are_compared_strictly(partitions: int) -> None:
    registry, me = unique(partitions), current_pid()
    registry.register(1, "int")
    registry.register(1.0, "float")
    registry.register(True, "bool")
    registry.register((1, "a"), "int in a tuple")
    assert registry.lookup(1.0) == [Entry(1.0, me, "float")]
    assert registry.lookup((1.0, "a")) == []
    registry.unregister(1.0)
    assert [entry.value for entry in registry.select()] == ["int", "bool", "int in a tuple"]


@partitioned
@in_process()
async def test_a_process_updates_its_own_value(partitions: int) -> None:
    registry = unique(partitions)
    other = await held(registry, "theirs", 1)
    with pytest.raises(LookupError):
        registry.update_value("nobody's", lambda value: value + 1)
    with pytest.raises(LookupError, match=r"only the process that registered a key"):
        registry.update_value("theirs", lambda value: value + 1)
    assert registry.values("theirs", other) == [1]
    registry.register("mine", 1)
    assert registry.update_value("mine", lambda value: value + 1) == (2, 1)
    assert registry.values("mine", current_pid()) == [2]


@partitioned
@in_process()
async def test_dispatch_calls_in_the_caller_and_only_with_entries(partitions: int) -> None:
    registry, me = unique(partitions), current_pid()
    seen: list[Any] = []
    registry.dispatch("hello", seen.append)
    assert seen == []
    registry.register("hello", "value")
    registry.dispatch("hello", lambda entries: seen.append((current_pid(), entries)))
    assert seen == [(me, [Entry("hello", me, "value")])]

    def fail(entries: object) -> None:
        raise KeyError("asked to")

    with pytest.raises(KeyError, match=r"asked to"):
        registry.dispatch("hello", fail)


@partitioned
@in_process()
async def test_a_process_unregisters_by_key(partitions: int) -> None:
    registry, me = unique(partitions), current_pid()
    registry.register("hello", "value")
    registry.register("world", "value")
    registry.unregister("hello")
    assert registry.keys(me) == ["world"]
    registry.unregister("world")
    assert registry.keys(me) == []


@partitioned
@in_process()
async def test_unregistering_a_key_that_one_does_not_have_does_nothing(partitions: int) -> None:
    registry = unique(partitions)
    other = await held(registry, "theirs", 1)
    registry.unregister("nobody's")
    registry.unregister("theirs")
    assert registry.whereis("theirs") is other


@partitioned
@in_process()
async def test_listeners_get_messages_about_calls_and_not_about_ends(partitions: int) -> None:
    registry, me = unique(partitions, listeners=["listener", "nobody"]), current_pid()
    register("listener")
    registry.register("hello", "world")
    assert await receive(timeout=0) == Registered(registry, "hello", me, "world")
    registry.unregister("hello")
    assert await receive(timeout=0) == Unregistered(registry, "hello", me, "world")
    other = await held(registry, "theirs", 1)
    assert await receive(timeout=0) == Registered(registry, "theirs", other, 1)
    kill(other)
    await nothing_arrives(1)


@partitioned
@in_process()
async def test_entries_make_no_links_and_end_with_their_process(partitions: int) -> None:
    registry, runtime = unique(partitions), current_runtime()
    before = runtime.process_info(current_pid())
    registry.register("hello", "value")
    registry.register("world", "value")
    registry.unregister("hello")
    registry.unregister("world")
    assert runtime.process_info(current_pid()) == before


@partitioned
@in_process()
async def test_an_ended_registry_refuses_every_operation_but_via(partitions: int) -> None:
    registry = unique(partitions, name="rooms")
    await stop(await registry.start_link())
    for use in (
        lambda: registry.register("hello", "value"),
        lambda: registry.unregister("hello"),
        lambda: registry.lookup("hello"),
        lambda: registry.keys(current_pid()),
        registry.count,
        registry.select,
        lambda: registry.dispatch("hello", print),
        lambda: registry.meta,
        lambda: spawn(trio.sleep_forever, name=registry.via("hello")),
    ):
        with pytest.raises(RegistryClosed) as caught:
            use()
        assert caught.value.registry is registry
    assert whereis(registry.via("hello")) is None


class Server(GenServer[Any]):
    async def init(self, state: Any = None) -> None:
        self.state = state

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        return Reply(self.state)


@partitioned
@in_process()
async def test_a_via_is_a_name_and_an_address(partitions: int) -> None:
    registry = unique(partitions)
    name = registry.via("hello")
    pid = await Server.start(0, name=name)
    with pytest.raises(AlreadyStarted) as caught:
        await Server.start(1, name=name)
    assert caught.value.pid is pid
    assert whereis(name) is pid
    assert await call(name, "state") == 0
    with pytest.raises(NameTaken):
        register(name)
    unregister(name)
    assert whereis(name) is None
    with pytest.raises(NoSuchName):
        send(name, "hello")
    register(name)
    send(name, "hello")
    assert await receive(timeout=0) == "hello"
    assert is_alive(pid)


@partitioned
@in_process()
async def test_a_via_is_free_when_its_process_has_ended(partitions: int) -> None:
    registry = unique(partitions)
    name = registry.via("hello")
    pid = await Server.start(name=name)
    ref = monitor(name)
    kill(pid)
    assert (await down(ref)).name == name
    assert registry.count() == 0
    with pytest.raises(NoProcess):
        await call(name, "state")
    assert await Server.start(name=name) is not pid


@partitioned
@in_process()
async def test_a_via_registers_with_the_value_it_was_given(partitions: int) -> None:
    registry = unique(partitions)
    pid = await Server.start(name=registry.via("hello", "value"))
    assert registry.lookup("hello") == [Entry("hello", pid, "value")]
    assert whereis(registry.via("hello", "another value")) is pid


@partitioned
@in_process()
async def test_an_empty_registry_selects_nothing(partitions: int) -> None:
    assert unique(partitions).select() == []


@partitioned
@in_process()
async def test_everything_is_selected(partitions: int) -> None:
    registry, me = unique(partitions), current_pid()
    registry.register("hello", "value")
    registry.register("world", "other")
    assert registry.select() == [Entry("hello", me, "value"), Entry("world", me, "other")]


@partitioned
@in_process()
async def test_entries_are_selected_by_key_pid_and_value(partitions: int) -> None:
    registry, me = unique(partitions), current_pid()
    other = await held(registry, "theirs", 1)
    registry.register("mine", 10)
    registry.register("also mine", 20)
    assert [e.key for e in registry.select(lambda e: e.pid is other)] == ["theirs"]
    assert [e.key for e in registry.select(lambda e: e.value > 5)] == ["mine", "also mine"]
    assert registry.select(lambda e: e.key == "mine" and e.pid is other) == []
    # In place of several specs, a condition with `or`. In place of a body, a comprehension.
    found = registry.select(lambda e: e.key == "theirs" or e.value == 20)
    assert [(e.value, e.pid) for e in found] == [(1, other), (20, me)]


@partitioned
@in_process()
async def test_selected_entries_are_counted(partitions: int) -> None:
    registry = unique(partitions)
    await held(registry, "theirs", 1)
    registry.register("mine", 10)
    assert registry.count_select(lambda e: e.value > 5) == 1
    assert registry.count_select(lambda e: e.value > 5 or e.key == "theirs") == 2
    assert registry.count_select(lambda e: e.key == "nobody's") == 0


RESERVED = [None, "_", "$1", ...]


@partitioned
@in_process()
async def test_no_key_is_special(partitions: int) -> None:
    registry, me = unique(partitions), current_pid()
    for key in RESERVED:
        registry.register(key, "value")
    assert registry.keys(me) == RESERVED
    for key in RESERVED:
        assert registry.lookup(key) == [Entry(key, me, "value")]
        assert registry.match(key, lambda value: value == "value") == registry.lookup(key)
        registry.unregister(key)
    assert registry.count() == 0


@partitioned
@in_process()
async def test_the_first_of_many_at_once_gets_the_key(partitions: int) -> None:
    registry = unique(partitions)

    async def compete() -> None:
        registry.register("hello", "value")
        await trio.sleep(1)

    competitors = [spawn_monitor(compete) for _ in range(20)]
    reasons = [(await down(ref)).reason for _, ref in competitors]
    refused = [reason for reason in reasons if "belongs to" in str(reason)]
    assert len(refused) == len(competitors) - 1
