"""Copies of one child, and the copy that a key leads to."""

import enum
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import (
    KILLED,
    AlreadyStarted,
    Crash,
    GenServer,
    Ignore,
    InvalidArgument,
    InvalidOption,
    NoProcess,
    NoSuchName,
    Pid,
    Registry,
    Reply,
    Runtime,
    call,
    cast,
    current_pid,
    is_alive,
    kill,
    monitor,
    receive,
    register,
    send,
    send_after,
    stop,
    trap_exits,
    unregister,
    wait_exit,
    whereis,
)
from actors.messages import Down
from supervision import (
    Backoff,
    ChildSpec,
    ChildStartFailed,
    DynamicSupervisor,
    InvalidChildSpec,
    NoPartitions,
    Supervisor,
    SupervisorDeadlock,
    child_spec,
)
from supervision._requests import published
from supervision.child_spec import ChildCounts
from supervision.partitions import (
    PartitionSupervisor,
    Table,
    partition,
    partition_of,
    which_partition,
)
from tests.actors.helpers import in_process, settle
from tests.supervision.workers import Log, Worker, end


class Echo(GenServer[Any]):
    async def init(self, *args: Any) -> None:
        self.state = args

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply((current_pid(), self.state, request))

    async def handle_cast(self, message: Any) -> None:
        self.state = (*self.state, message)

    async def handle_info(self, message: Any) -> None:
        self.state = (*self.state, message)


async def start(count: int | None = 3, **options: Any) -> Pid:
    return await PartitionSupervisor.start(Echo, name="echoes", partitions=count, **options)


async def pids(supervisor: object = "echoes") -> list[Any]:
    return [info.pid for info in reversed(await PartitionSupervisor.which_children(supervisor))]


# Starting


async def test_the_ids_of_the_copies_are_their_numbers(runtime: Runtime) -> None:
    supervisor = await start(3)
    assert whereis("echoes") is supervisor
    assert PartitionSupervisor.partitions("echoes") == 3
    assert PartitionSupervisor.partitions(supervisor) == 3
    infos = await PartitionSupervisor.which_children("echoes")
    assert [info.id for info in infos] == [2, 1, 0]
    assert {info.type for info in infos} == {"worker"}
    assert len(set(await pids())) == 3


async def test_the_default_number_of_partitions_is_the_number_of_cores(runtime: Runtime) -> None:
    await start(None)
    assert PartitionSupervisor.partitions("echoes") == os.cpu_count()


async def test_copies_are_counted_by_their_type(runtime: Runtime) -> None:
    await start(3)
    counts = await PartitionSupervisor.count_children("echoes")
    assert (counts.specs, counts.active, counts.workers, counts.supervisors) == (3, 3, 3, 0)
    await PartitionSupervisor.start(
        child_spec(DynamicSupervisor, id="any"), name="pools", partitions=2
    )
    counts = await PartitionSupervisor.count_children("pools")
    assert (counts.specs, counts.active, counts.workers, counts.supervisors) == (2, 2, 0, 2)


async def test_each_copy_may_have_arguments_of_its_own(runtime: Runtime) -> None:
    await PartitionSupervisor.start(
        child_spec(Echo, "a", "b"),
        name="echoes",
        partitions=2,
        with_arguments=lambda args, number: (*args, number),
    )
    states = [(await call(partition("echoes", number), "?"))[1] for number in range(2)]
    assert states == [("a", "b", 0), ("a", "b", 1)]


async def test_a_partition_supervisor_can_be_a_child_and_its_id_is_its_name(
    runtime: Runtime,
) -> None:
    spec = PartitionSupervisor.child_spec(Echo, name="echoes", partitions=2)
    assert (spec.id, spec.type) == ("echoes", "supervisor")
    assert PartitionSupervisor.child_spec(Echo, name="echoes", id="other").id == "other"
    top = await Supervisor.start([spec])
    first = await pids()
    kill(first[0])
    await settle()
    supervisor = whereis("echoes")
    assert supervisor is not None
    kill(supervisor)
    await settle()
    again = await pids()
    assert not set(again) & set(first)
    assert (await call(partition("echoes", 1), "?"))[0] is again[1]
    await stop(top)


async def test_a_registry_address_can_be_the_name(runtime: Runtime) -> None:
    names: Registry[str, None] = Registry("unique")
    name = names.via("echoes")
    supervisor = await PartitionSupervisor.start(Echo, name=name, partitions=2)
    assert whereis(name) is supervisor
    assert PartitionSupervisor.partitions(name) == 2
    assert (await call(partition(name, 1), "?"))[0] is (await pids(name))[1]
    assert PartitionSupervisor.child_spec(Echo, name=name).id == name
    assert (await PartitionSupervisor.count_children(name)).active == 2
    await stop(name)
    assert whereis(name) is None


async def test_a_name_and_a_child_are_required(runtime: Runtime) -> None:
    anything: Any = PartitionSupervisor
    with pytest.raises(TypeError, match="name"):
        await anything.start(Echo)
    with pytest.raises(InvalidOption) as refused:
        await anything.start(Echo, name=None)
    assert refused.value.option == "name"
    with pytest.raises(TypeError, match="child"):
        await anything.start(name="echoes")
    with pytest.raises(InvalidChildSpec):
        await anything.start("echo", name="echoes")
    await start()
    with pytest.raises(AlreadyStarted):
        await start()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("partitions", 0),
        ("partitions", -1),
        ("partitions", "2"),
        ("partitions", True),
        ("with_arguments", 1),
        ("with_arguments", lambda args, number: number),
    ],
)
async def test_an_invalid_option_is_refused_before_anything_starts(
    runtime: Runtime, option: str, value: Any
) -> None:
    for make in (
        PartitionSupervisor.start,
        PartitionSupervisor.start_link,
        PartitionSupervisor.child_spec,
    ):
        options: Any = {"name": "echoes", option: value}
        with pytest.raises(InvalidOption) as caught:
            made: Any = make(Echo, **options)
            await made
        assert caught.value.option == option
    assert runtime.processes() == []


async def test_there_is_no_auto_shutdown(runtime: Runtime) -> None:
    options: Any = {"auto_shutdown": "any_significant"}
    with pytest.raises(TypeError, match="auto_shutdown"):
        await start(2, **options)
    with pytest.raises(InvalidChildSpec) as refused:
        await PartitionSupervisor.start(
            ChildSpec("x", Echo.start_link, restart="transient", significant=True), name="echoes"
        )
    assert refused.value.field == "significant"


async def test_a_stop_ends_all_copies_and_waits(runtime: Runtime, log: Log) -> None:
    await PartitionSupervisor.start(
        child_spec(Worker, "w", log, kwargs={"stop_takes": 1.0}), name="workers", partitions=2
    )
    await stop("workers")
    assert log.names("stop") == "ww"
    assert runtime.processes() == []
    with pytest.raises(NoProcess):
        PartitionSupervisor.partitions("workers")


# Addresses


async def test_a_key_leads_to_one_copy_and_integers_go_round(runtime: Runtime) -> None:
    await start(3)
    copies = await pids()
    for key in range(-7, 8):
        assert which_partition("echoes", key) is copies[abs(key) % 3]
        assert (await call(partition("echoes", key), "?"))[0] is copies[abs(key) % 3]
    others: list[Any] = ["lobby", b"x", ("room", 7), None, 1.5, copies[0]]
    for key in others:
        assert which_partition("echoes", key) is copies[partition_of(key, 3)]


@in_process()
async def test_the_address_works_in_place_of_a_pid() -> None:
    await start(2)
    address = partition("echoes", 1)
    cast(address, "cast")
    send(address, "sent")
    send_after(address, "later", 0)
    await settle()
    pid: Pid
    pid, state, request = await call(address, "called")
    assert (state, request) == (("cast", "sent", "later"), "called")
    assert whereis(address) == pid
    ref = monitor(address)
    kill(pid)
    assert await receive() == Down(ref, pid, KILLED, address)


async def test_the_address_reaches_a_copy_that_was_restarted(runtime: Runtime) -> None:
    await start(2)
    address = partition("echoes", 1)
    before = which_partition("echoes", 1)
    await end(before, Crash(RuntimeError("x")))
    kill(before)
    await settle()
    after = which_partition("echoes", 1)
    assert after is not before
    assert (await call(address, "?"))[0] is after


async def test_copies_are_restarted_after_the_backoff(
    runtime: Runtime, autojump_clock: MockClock
) -> None:
    await start(2, backoff=Backoff(initial=2.0, maximum=2.0))
    first = which_partition("echoes", 0)
    kill(first)
    await wait_exit(first)
    await trio.sleep(1.9)
    assert partition("echoes", 0).whereis(runtime) is None
    assert is_alive(which_partition("echoes", 1))
    await trio.sleep(0.2)
    assert which_partition("echoes", 0) is not first


async def test_which_partition_raises_for_a_copy_that_is_not_running(runtime: Runtime) -> None:
    await start(2)
    await Supervisor.terminate_child("echoes", 1)
    assert partition("echoes", 1).whereis(runtime) is None
    with pytest.raises(NoProcess):
        which_partition("echoes", 1)
    with pytest.raises(NoProcess):
        await call(partition("echoes", 1), "?")
    assert is_alive(which_partition("echoes", 0))


async def test_a_partition_address_cannot_be_registered(runtime: Runtime) -> None:
    await start(2)
    address = partition("echoes", 1)
    with pytest.raises(TypeError, match="cannot be the name of a process"):
        await Echo.start(name=address)
    with pytest.raises(TypeError, match="cannot be the name of a process"):
        register(address, which_partition("echoes", 1))
    with pytest.raises(TypeError):
        unregister(address)


async def test_addresses_are_values(runtime: Runtime) -> None:
    assert partition("echoes", 1) == partition("echoes", 1)
    assert len({partition("echoes", 1), partition("echoes", 1), partition("echoes", 2)}) == 2


async def test_a_process_that_is_not_a_partition_supervisor_raises_no_process(
    runtime: Runtime,
) -> None:
    other = await Supervisor.start([], name="other")
    unknown = Registry[str, None]("unique").via("nobody")
    for supervisor in ("nobody", unknown, "other", other):
        with pytest.raises(NoProcess):
            PartitionSupervisor.partitions(supervisor)
        with pytest.raises(NoProcess):
            which_partition(supervisor, 1)
        with pytest.raises(NoProcess):
            await call(partition(supervisor, 1), "?")
        with pytest.raises(NoSuchName):
            send(partition(supervisor, 1), "?")
        with pytest.raises(NoProcess):
            await PartitionSupervisor.resize(supervisor, 1)
    with pytest.raises(NoProcess):
        await PartitionSupervisor.count_children("nobody")
    with pytest.raises(NoProcess):
        await PartitionSupervisor.which_children("nobody")


async def test_nothing_is_kept_about_supervisors_that_have_ended(runtime: Runtime) -> None:
    supervisor = await start(2)
    assert published(Table, supervisor, runtime) is not None
    kill(supervisor)
    await wait_exit(supervisor)
    assert published(Table, supervisor, runtime) is None


# Resizing


async def test_resizing_stops_those_at_the_end_and_starts_them_again(runtime: Runtime) -> None:
    await start(4)
    copies = await pids()
    assert await PartitionSupervisor.resize("echoes", 2) == 4
    assert PartitionSupervisor.partitions("echoes") == 2
    assert [is_alive(pid) for pid in copies] == [True, True, False, False]
    assert await pids() == [*copies[:2], None, None]
    assert which_partition("echoes", 2) is copies[0]
    assert await PartitionSupervisor.resize("echoes", 3) == 2
    again = await pids()
    assert again[:2] == copies[:2]
    assert is_alive(again[2])
    assert again[3] is None
    assert which_partition("echoes", 2) is again[2]
    assert await PartitionSupervisor.resize("echoes", 3) == 3
    assert await PartitionSupervisor.resize("echoes", 4) == 3


async def test_a_resize_to_0_stops_every_key_until_the_partitions_are_back(
    runtime: Runtime,
) -> None:
    await start(2)
    assert await PartitionSupervisor.resize("echoes", 0) == 2
    assert PartitionSupervisor.partitions("echoes") == 0
    with pytest.raises(NoPartitions):
        which_partition("echoes", 1)
    with pytest.raises(NoProcess):
        await call(partition("echoes", 1), "?")
    assert whereis(partition("echoes", 1)) is None
    assert await PartitionSupervisor.resize("echoes", 1) == 0
    assert (await call(partition("echoes", 5), "?"))[0] is (await pids())[0]


async def test_a_resize_that_is_refused_leaves_every_key_where_it_was(runtime: Runtime) -> None:
    refused: list[SupervisorDeadlock] = []

    class Resizes(Echo):
        """Send a resize to the supervisor, which waits for this start."""

        async def init(self, *args: Any) -> None:
            await super().init(*args)
            if whereis(partition("echoes", 1)) is not None:
                with pytest.raises(SupervisorDeadlock) as caught:
                    await PartitionSupervisor.resize("echoes", 1)
                refused.append(caught.value)

    await PartitionSupervisor.start_link(Resizes, name="echoes", partitions=3)
    assert len(refused) == 1
    assert PartitionSupervisor.partitions("echoes") == 3
    assert [which_partition("echoes", key) for key in range(3)] == await pids()


@pytest.mark.parametrize("count", [3, -1, 1.5, "2"])
async def test_a_resize_is_limited_to_the_number_at_the_start(runtime: Runtime, count: Any) -> None:
    await start(2)
    with pytest.raises(InvalidOption) as refused:
        await PartitionSupervisor.resize("echoes", count)
    assert refused.value.value == count
    assert PartitionSupervisor.partitions("echoes") == 2


class Slow(Echo):
    async def init(self, *args: Any) -> None:
        trap_exits()
        await trio.sleep(1)

    async def terminate(self, reason: Any) -> None:
        await trio.sleep(1)


async def start_slow(count: int, **options: Any) -> Pid:
    return await PartitionSupervisor.start(Slow, name="echoes", partitions=count, **options)


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1), (2, 3), (4, 3)])
async def test_every_key_leads_to_a_running_copy_while_it_is_resized(
    runtime: Runtime, before: int, after: int
) -> None:
    await start_slow(4)
    await PartitionSupervisor.resize("echoes", before)
    sizes = set()

    async def look() -> None:
        while True:
            sizes.add(PartitionSupervisor.partitions("echoes"))
            for key in range(4):
                assert (await call(partition("echoes", key), key))[2] == key
            await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await trio.sleep(1)
        await PartitionSupervisor.resize("echoes", after)
        nursery.cancel_scope.cancel()
    # No call saw more copies than there were.
    assert sizes == (set(range(before, after)) if after > before else {before, after})
    assert sum(is_alive(pid) for pid in await pids() if pid is not None) == after


@pytest.mark.parametrize("sizes", [(3, 1), (1, 3), (3, 3), (0, 3), (2, 0)])
async def test_resizes_at_the_same_time_are_done_one_after_another(
    runtime: Runtime, sizes: tuple[int, int]
) -> None:
    await start_slow(3)
    await PartitionSupervisor.resize("echoes", 1)
    before: list[int] = []

    async def resize(size: int) -> None:
        before.append(await PartitionSupervisor.resize("echoes", size))

    async with trio.open_nursery() as nursery:
        for size in sizes:
            nursery.start_soon(resize, size)
    size = PartitionSupervisor.partitions("echoes")
    assert sorted([*before, size]) == sorted([1, *sizes])
    assert [pid is not None for pid in await pids()] == [number < size for number in range(3)]
    for key in range(size):
        assert is_alive(which_partition("echoes", key))


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
async def test_a_resize_whose_caller_is_cancelled_is_still_done(
    runtime: Runtime, before: int, after: int
) -> None:
    await start_slow(3)
    await PartitionSupervisor.resize("echoes", before)
    with trio.move_on_after(0.5) as scope:
        await PartitionSupervisor.resize("echoes", after)
    assert scope.cancelled_caught
    assert await PartitionSupervisor.resize("echoes", after) == after
    assert [pid is not None for pid in await pids()] == [number < after for number in range(3)]
    assert await PartitionSupervisor.resize("echoes", 3) == after
    assert None not in await pids()


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_a_restart_of_the_group_does_not_start_partitions_that_a_resize_has_stopped(
    runtime: Runtime, strategy: Any
) -> None:
    await start(3, strategy=strategy)
    await PartitionSupervisor.resize("echoes", 2)
    first = which_partition("echoes", 0)
    kill(first)
    await settle()
    copies = await pids()
    assert is_alive(copies[0])
    assert is_alive(copies[1])
    assert copies[2] is None
    assert await PartitionSupervisor.resize("echoes", 3) == 2
    assert is_alive(which_partition("echoes", 2))


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_a_partition_that_a_resize_has_started_is_restarted_like_others(
    runtime: Runtime, strategy: Any
) -> None:
    await start(4, strategy=strategy)
    await PartitionSupervisor.resize("echoes", 1)
    await PartitionSupervisor.resize("echoes", 4)
    before = await pids()
    kill(which_partition("echoes", 0))
    await settle()
    kill(which_partition("echoes", 3))
    await settle()
    copies = await pids()
    assert all(map(is_alive, copies))
    assert copies == [which_partition("echoes", number) for number in range(4)]
    kept = {"one_for_one": 2, "one_for_all": 0, "rest_for_one": 0}[strategy]
    assert sum(pid in before for pid in copies) == kept
    assert await PartitionSupervisor.count_children("echoes") == ChildCounts(4, 4, 0, 4)
    assert await PartitionSupervisor.resize("echoes", 2) == 4
    assert [is_alive(pid) for pid in copies] == [True, True, False, False]


async def test_copies_that_are_temporary_stop_and_come_back_like_others(runtime: Runtime) -> None:
    child = child_spec(Echo, restart="temporary")
    await PartitionSupervisor.start(child, name="echoes", partitions=3)
    await stop(which_partition("echoes", 2))
    assert await PartitionSupervisor.resize("echoes", 1) == 3
    assert await PartitionSupervisor.resize("echoes", 3) == 1
    assert all(is_alive(which_partition("echoes", number)) for number in range(3))


async def test_a_partition_that_does_not_start_ends_the_resize_before_it(
    runtime: Runtime,
) -> None:
    refused = {2}

    class Choosy(Echo):
        async def init(self, *args: Any) -> None:
            if trio.current_time() > begun and args[0] in refused:
                raise OSError("not now")

    begun = trio.current_time()
    await PartitionSupervisor.start(
        Choosy, name="echoes", partitions=4, with_arguments=lambda args, number: (number,)
    )
    await trio.sleep(1)
    await PartitionSupervisor.resize("echoes", 1)
    with pytest.raises(ChildStartFailed, match="not now"):
        await PartitionSupervisor.resize("echoes", 4)
    assert PartitionSupervisor.partitions("echoes") == 2
    assert [pid is not None for pid in await pids()] == [True, True, False, False]
    refused.clear()
    assert await PartitionSupervisor.resize("echoes", 4) == 2
    assert None not in await pids()


# Keys


class Color(enum.Enum):
    RED = 1


KEYS: Any = st.recursive(
    st.text() | st.binary() | st.integers() | st.none() | st.floats() | st.just(Color.RED),
    lambda parts: st.lists(parts).map(tuple),
)


@given(KEYS, st.integers(1, 64))
def test_every_key_belongs_to_one_partition(key: Any, count: int) -> None:
    assert 0 <= partition_of(key, count) < count
    assert partition_of(key, count) == partition_of(key, count)


@given(st.integers(), st.integers(1, 64))
def test_integers_are_taken_by_their_absolute_value(key: int, count: int) -> None:
    assert partition_of(key, count) == abs(key) % count


def test_similar_keys_of_different_types_are_different() -> None:
    keys: list[Any] = ["1", b"1", ("1",), (("1",),), ("1", ""), ("", "1"), "Color.RED", Color.RED]
    assert len({partition_of(key, 2**32) for key in keys}) == len(keys)


def test_many_keys_are_spread_evenly() -> None:
    counts = [0] * 8
    for number in range(8000):
        counts[partition_of(f"room:{number}", 8)] += 1
    assert min(counts) > 800
    assert max(counts) < 1200


@pytest.mark.parametrize("seed", ["1", "random"])
def test_a_key_leads_to_the_same_partition_in_every_run(seed: str) -> None:
    keys = ("lobby", b"x", ("room", "7"), frozenset({1}), Color.RED.name, 1.5)
    code = (
        f"from supervision.partitions import partition_of\n"
        f"print([partition_of(key, 1000) for key in {keys!r}])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str([partition_of(key, 1000) for key in keys])


@pytest.mark.parametrize("key", [object(), lambda: None, ("a", object())])
def test_a_key_whose_repr_has_a_memory_address_is_refused(key: Any) -> None:
    with pytest.raises(InvalidArgument):
        partition_of(key, 2)
    with pytest.raises(InvalidArgument):
        partition("echoes", key)


async def test_no_key_leads_to_a_copy_that_decides_not_to_run_when_the_supervisor_grows(
    runtime: Runtime,
) -> None:
    runs = True

    class Choosy(GenServer[None]):
        async def init(self) -> Ignore | None:
            return None if runs else Ignore()

    await PartitionSupervisor.start(Choosy, name="choosy", partitions=4)
    await PartitionSupervisor.resize("choosy", 2)
    runs = False
    await PartitionSupervisor.resize("choosy", 4)
    for key in range(8):
        assert is_alive(which_partition("choosy", key))
