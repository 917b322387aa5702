"""Promises of the registry beyond the cases of Elixir's suites."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from actors import (
    KILL,
    KILLED,
    NORMAL,
    SHUTDOWN,
    AlreadyStarted,
    DeadProcess,
    GenServer,
    InvalidOperation,
    NotAProcess,
    NotRegistered,
    Pid,
    Registered,
    Registry,
    RegistryClosed,
    Shutdown,
    Unregistered,
    current_pid,
    current_runtime,
    is_alive,
    kill,
    monitor,
    on_exit,
    open_runtime,
    receive,
    register,
    send,
    send_exit,
    spawn,
    spawn_link,
    spawn_monitor,
    stop,
    trap_exits,
    unregister,
    whereis,
)
from actors.text import brief
from supervision import ChildSpec, Supervisor, child_spec
from tests.actors.helpers import dead_process, down, idle, in_process, nothing_arrives, settle


async def hold(registry: Registry[Any, Any], *keys: Any) -> None:
    for key in keys:
        registry.register(key, 7)
    await trio.sleep_forever()


@in_process()
async def test_the_key_is_free_when_the_end_of_its_process_is_known() -> None:
    registry = Registry[str, None]("unique")
    pid = spawn(hold, registry, "key")
    await settle()
    ref = monitor(pid)
    send_exit(pid, "enough")
    await down(ref)
    registry.register("key")
    assert registry.whereis("key") is current_pid()


@in_process(kill_grace=1.0)
async def test_the_key_of_a_zombie_is_free() -> None:
    registry = Registry[str, None]("unique")
    may_end = trio.Event()

    async def stubborn() -> None:
        registry.register("key")
        with trio.CancelScope(shield=True):  # the point of the test
            await may_end.wait()

    pid, ref = spawn_monitor(stubborn)
    await settle()
    kill(pid)
    assert (await down(ref)).reason is KILLED
    registry.register("key")
    may_end.set()
    await settle()
    assert registry.whereis("key") is current_pid()


Unregister = Callable[[Registry[Any, Any], Any], object]

UNREGISTER: dict[str, Unregister] = {
    "unregister": lambda registry, key: registry.unregister(key),
    "unregister_match": lambda registry, key: registry.unregister_match(key, lambda value: True),
    "via": lambda registry, key: unregister(registry.via(key)),
}


@pytest.mark.parametrize("reason", [NORMAL, KILL, "boom"], ids=str)
@pytest.mark.parametrize("given_up", ["a", "b", "c", "ab", "ca", "abc"])
@pytest.mark.parametrize(
    ("keys", "how"),
    [
        ("unique", "unregister"),
        ("unique", "unregister_match"),
        ("unique", "via"),
        ("duplicate", "unregister"),
        ("duplicate", "unregister_match"),
    ],
)
@in_process()
async def test_the_end_of_a_process_frees_its_remaining_keys(
    keys: Any, how: str, given_up: str, reason: Any
) -> None:
    registry, other = Registry[str, int](keys), Registry[str, int]("unique")

    async def give_some_up() -> None:
        other.register("other")
        for key in "abc":
            registry.register(key, 7)
        for key in given_up:
            UNREGISTER[how](registry, key)
        await receive()
        if reason == "boom":
            raise ValueError

    pid = spawn(give_some_up)
    await settle()
    kept = [key for key in "abc" if key not in given_up]
    assert registry.keys(pid) == kept
    ref = monitor(pid)
    if reason is KILL:
        kill(pid)
    else:
        send(pid, "end")
    await down(ref)
    assert registry.count() == other.count() == 0
    assert [registry.lookup(key) for key in "abc"] == [[], [], []]
    assert other.whereis("other") is None


@in_process()
async def test_the_end_of_a_process_frees_a_key_that_it_has_several_times() -> None:
    registry = Registry[str, int]("duplicate")

    async def give_one_up() -> None:
        for value in (1, 2, 3):
            registry.register("key", value)
        registry.unregister_match("key", lambda value: value == 2)
        registry.register("late", 4)
        await trio.sleep_forever()

    pid = spawn(give_one_up)
    await settle()
    assert registry.values("key", pid) == [1, 3]
    ref = monitor(pid)
    kill(pid)
    await down(ref)
    assert registry.count() == 0
    assert registry.select() == []


@in_process()
async def test_the_end_of_a_process_without_its_former_name_frees_its_keys() -> None:
    registry = Registry[str, int]("unique")

    async def give_the_name_up() -> None:
        register("plain")
        registry.register("key")
        unregister("plain")
        await trio.sleep_forever()

    pid = spawn(give_the_name_up)
    await settle()
    ref = monitor(pid)
    kill(pid)
    await down(ref)
    assert registry.count() == 0


@in_process()
async def test_the_end_of_a_process_without_an_entry_sends_no_message() -> None:
    registry = Registry[str, None]("duplicate", listeners=[current_pid()], notify_on_exit=True)

    async def come_and_go() -> None:
        registry.register("key")
        registry.unregister("key")

    spawn(come_and_go)
    await settle()
    assert type(await receive()) is Registered
    assert type(await receive()) is Unregistered
    await nothing_arrives(1)


@in_process()
async def test_listeners_get_messages_about_ends_with_notify_on_exit() -> None:
    registry = Registry[str, int]("duplicate", listeners=["listener"], notify_on_exit=True)
    pid = spawn(hold, registry, "one", "two")
    await settle()
    register("listener")
    ref = monitor(pid)
    kill(pid)
    assert await receive() == Unregistered(registry, "one", pid, 7)
    assert await receive() == Unregistered(registry, "two", pid, 7)
    assert (await down(ref)).pid is pid
    await nothing_arrives()


@in_process()
async def test_an_ending_process_cannot_register_again() -> None:
    registry = Registry[str, None]("unique")
    refused: list[BaseException] = []

    def clean_up() -> None:
        try:
            registry.register("last wish")
        except NotAProcess as error:
            refused.append(error)

    async def leave() -> None:
        registry.register("key")
        on_exit(clean_up)

    _, ref = spawn_monitor(leave)
    await down(ref)
    assert len(refused) == 1
    with pytest.raises(DeadProcess):
        registry.via("key").register(await dead_process())
    assert registry.count() == 0


async def test_reading_works_in_any_task_and_registering_does_not() -> None:
    registry = Registry[str, int]("unique", name="rooms")
    async with open_runtime():
        pid = spawn(hold, registry, "key")
        await settle()
        assert registry.whereis("key") is pid
        assert registry.values("key", pid) == [7]
        registry.meta["limit"] = 3
        for use in (registry.register, registry.unregister):
            with pytest.raises(NotAProcess) as refused:
                use("other")
            assert refused.value.verb == f"Registry.{use.__name__}"
        with pytest.raises(NotAProcess):
            registry.update_value("key", lambda value: value)


async def test_each_runtime_has_entries_of_its_own() -> None:
    registry = Registry[str, None]("unique")
    async with open_runtime():
        spawn(hold, registry, "key")
        registry.meta["limit"] = 3
        await settle()
        async with open_runtime():
            assert registry.whereis("key") is None
            assert registry.meta == {}
        assert registry.count() == 1
        await stop(await registry.start_link())
    async with open_runtime():
        assert registry.count() == 0


@in_process()
async def test_a_helper_task_registers_for_its_process() -> None:
    registry = Registry[str, None]("unique")

    async def help_out() -> None:
        registry.register("key")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(help_out)
    assert registry.whereis("key") is current_pid()


def test_an_invalid_option_of_a_registry_is_refused_with_advice() -> None:
    with pytest.raises(ValueError, match=r"Registry got keys='uniqe'; write \"unique\" or"):
        Registry("uniqe")  # type: ignore[arg-type] # the point of the test
    with pytest.raises(TypeError, match=r"listeners is 'me'; write a sequence"):
        Registry("unique", listeners="me")


def test_the_repr_of_a_registry_has_its_kind_and_name() -> None:
    registry = Registry[str, None]("unique", name="rooms")
    assert repr(registry) == "<unique registry 'rooms'>"
    assert repr(registry.via("lobby")) == "<'lobby' in <unique registry 'rooms'>>"
    assert repr(Registry[str, None]("duplicate")) == "<duplicate registry>"


def test_addresses_are_equal_if_they_lead_to_the_same_key() -> None:
    registry, other = Registry[Any, int]("unique"), Registry[Any, int]("unique")
    assert registry.via(1) == registry.via(1, 5)
    assert hash(registry.via(1)) == hash(registry.via(1, 5))
    different = {registry.via(1), registry.via(1.0), registry.via(True), other.via(1)}
    assert len(different) == 4
    assert registry.via("plain") != object()


@in_process()
async def test_an_update_that_unregisters_its_key_is_refused() -> None:
    registry = Registry[str, int]("unique")
    registry.register("key", 1)

    def give_up(value: int) -> int:
        registry.unregister("key")
        return value

    with pytest.raises(NotRegistered) as caught:
        registry.update_value("key", give_up)
    assert caught.value.pid is current_pid()
    assert registry.count() == 0


@in_process()
async def test_a_task_that_asks_again_for_its_lock_is_refused() -> None:
    registry = Registry[str, None]("unique")
    async with registry.lock("key"), registry.lock("other"):
        with pytest.raises(InvalidOperation) as refused:
            async with registry.lock("key"):
                pytest.fail("it has the lock twice")
        assert f"already holds the lock of 'key' in {registry!r}" in str(refused.value)
    async with registry.lock("key"):
        pass


# With an owner


@in_process()
async def test_the_end_of_the_owner_ends_the_registered_processes_with_its_reason() -> None:
    registry = Registry[str, None]("duplicate", name="rooms")
    owner = await registry.start_link()
    assert whereis("rooms") is owner
    _, plain = spawn_monitor(hold, registry, "one", "two")
    _, stranger = spawn_monitor(idle)

    async def trapping() -> None:
        trap_exits()
        registry.register("one")
        send(test, await receive())
        await trio.sleep_forever()

    test, trapper = current_pid(), spawn(trapping)
    await settle()
    trap_exits()
    send_exit(owner, Shutdown("moving"))
    assert (await down(plain)).reason == Shutdown("moving")
    exits = [await receive(), await receive()]
    assert [(exit.pid, exit.reason) for exit in exits] == [(owner, Shutdown("moving"))] * 2
    assert is_alive(trapper)
    with pytest.raises(RegistryClosed):
        registry.lookup("one")
    await nothing_arrives(1)
    assert stranger is not None


@in_process()
async def test_a_normal_end_of_the_owner_is_a_shutdown_for_the_registered_processes() -> None:
    registry = Registry[str, None]("unique")
    owner = await registry.start_link()
    _, ref = spawn_monitor(hold, registry, "key")
    await settle()
    await stop(owner, NORMAL)
    assert (await down(ref)).reason is SHUTDOWN


@in_process()
async def test_a_registry_has_one_owner_and_opens_again_with_the_next() -> None:
    trap_exits()
    registry = Registry[str, None]("unique")
    first = await registry.start_link()
    registry.meta["limit"] = 3
    with pytest.raises(AlreadyStarted) as caught:
        await registry.start_link()
    assert caught.value.pid is first
    ref = monitor(first)
    kill(first)
    await down(ref)
    second = await registry.start_link()
    assert registry.meta == {}
    registry.register("key")
    assert registry.count() == 1
    assert is_alive(second)


@in_process()
async def test_a_process_that_survives_the_end_of_the_owner_can_register_again() -> None:
    trap_exits()
    registry = Registry[str, None]("unique")
    registry.register("key")
    await stop(await registry.start_link())
    await registry.start_link()
    registry.register("key")

    async def other() -> None:
        registry.register("other")

    _, ref = spawn_monitor(other)
    await down(ref)
    assert registry.keys(current_pid()) == ["key"]
    assert registry.count() == 1


class Room(GenServer[None]):
    pass


@in_process()
async def test_a_supervised_registry_comes_back_empty_and_its_processes_with_it() -> None:
    trap_exits()
    rooms = Registry[str, None]("unique", name="rooms")
    children = [
        ChildSpec("rooms", rooms.start_link),
        ChildSpec("lobby", Room.start_link, kwargs={"name": rooms.via("lobby")}),
    ]
    top = await Supervisor.start_link(children, strategy="rest_for_one")
    first = rooms.whereis("lobby")
    owner = whereis("rooms")
    assert first is not None
    assert owner is not None
    ref = monitor(first)
    kill(owner)
    await down(ref)
    await settle()
    second = rooms.whereis("lobby")
    assert second is not None
    assert second is not first
    # A crash of the room does not affect the registry.
    kill(second)
    await settle()
    assert rooms.whereis("lobby") not in (None, first, second)
    assert is_alive(top)


@in_process()
async def test_a_linked_child_with_a_taken_key_does_not_start_and_harms_no_other() -> None:
    rooms = Registry[str, None]("unique")
    holder = spawn(hold, rooms, "lobby")
    await settle()
    with pytest.raises(AlreadyStarted) as caught:
        spawn_link(idle, name=rooms.via("lobby"))
    assert caught.value.pid is holder
    await trio.sleep(1)


@in_process()
async def test_a_supervisor_and_its_child_can_be_named_by_a_via() -> None:
    trees = Registry[str, None]("unique")
    room = child_spec(Room, kwargs={"name": trees.via("lobby")})
    top = await Supervisor.start_link([room], name=trees.via("top"))
    (child,) = await Supervisor.which_children(trees.via("top"))
    assert child.id == trees.via("lobby")
    assert child.pid is trees.whereis("lobby")
    await Supervisor.terminate_child(trees.via("top"), trees.via("lobby"))
    assert trees.keys(top) == ["top"]
    assert trees.count() == 1


@pytest.mark.parametrize(
    ("key", "label"),
    [
        (42, "Counter 42"),
        ("lobby", "Counter lobby"),
        (("game", 7), "Counter ('game', 7)"),
        ("\x1b[2J", r"Counter '\x1b[2J'"),
        ("x" * 5_000_000, f"Counter {brief('x' * 5_000_000)}"),
    ],
)
@in_process()
async def test_a_server_is_labelled_with_its_class_and_its_key(key: Any, label: str) -> None:
    class Counter(GenServer[None]):
        pass

    def label_of(pid: Pid) -> Any:
        info = current_runtime().process_info(pid)
        assert info is not None
        return info["label"]

    registry = Registry[Any, None]("unique", name="counters")
    for start in (Counter.start, Counter.start_link):
        pid = await start(name=registry.via(key))
        assert label_of(pid) == label
        await stop(pid)
    pid = Counter.spawn_link(name=registry.via(key))
    assert label_of(pid) == label
    await stop(pid)
    assert label_of(await Counter.start(name=registry.via(key), label="first")) == "first"
