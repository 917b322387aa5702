"""An ended process leaves nothing behind that only the garbage collector finds.

A program may start and end thousands of processes, and a collection stops the whole program. Each test runs in a
runtime without checks, because the debug build keeps records of its own.
"""

import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio

from actors import (
    CallExit,
    Continue,
    Fail,
    GenServer,
    Reply,
    Sender,
    StartError,
    StartIgnored,
    Stop,
    call,
    cast,
    current_pid,
    current_runtime,
    exit,
    kill,
    link,
    monitor,
    on_exit,
    open_runtime,
    receive,
    send,
    send_after,
    spawn,
    spawn_link,
    spawn_monitor,
    stop,
    trap_exits,
    wait_exit,
)
from tests.actors.helpers import idle, settle

REPEAT = 50


@pytest.fixture(autouse=True)
def _without_automatic_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Server(GenServer[int]):
    async def init(self, first: Any = None) -> Any:
        return first

    async def handle_call(self, request: Any, sender: Sender) -> Reply | Stop:
        if request == "crash":
            raise ValueError
        return Stop() if request == "stop" else Reply(request)

    async def handle_cast(self, message: Any) -> None:
        raise ValueError

    async def handle_continue(self, argument: Any) -> Stop:
        return Stop("short")


async def returns() -> None:
    pass


async def raises() -> None:
    raise ValueError


async def raises_in_a_nursery() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raises)
        nursery.start_soon(trio.sleep_forever)


async def exits() -> None:
    exit("done")


async def has_everything() -> None:
    on_exit(lambda: None)
    me = current_pid()
    send_after(me, "tick", 100)
    monitor(me)
    link(spawn_link(idle))
    pid, _ = spawn_monitor(idle)
    kill(pid)
    send(me, "unread")
    raises_later = spawn_link(raises)
    link(raises_later)
    await trio.sleep_forever()


async def is_called_and_does_not_answer() -> None:
    async def caller(pid: Any) -> None:
        with pytest.raises(CallExit):
            await call(pid, "?")

    spawn(caller, current_pid())
    await trio.sleep(1)


async def is_killed() -> None:
    kill(current_pid())


async def is_killed_while_it_waits() -> None:
    pid = spawn(receive)
    await settle()
    kill(pid)
    await wait_exit(pid)


async def is_killed_before_it_runs() -> None:
    kill(spawn(idle))


async def server_stops() -> None:
    pid = await Server.start()
    await call(pid, "hello")
    await stop(pid)


async def server_crashes_in_a_call() -> None:
    pid = await Server.start()
    try:
        await call(pid, "crash")
    except CallExit:
        pass


async def server_crashes_in_a_cast() -> None:
    trap_exits()
    cast(await Server.start_link(), "crash")
    await receive()


async def server_stops_without_an_answer() -> None:
    try:
        await call(await Server.start(), "stop")
    except CallExit:
        pass


async def call_times_out() -> None:
    pid = spawn(idle)
    try:
        await call(pid, "?", timeout=1)
    except CallExit:
        pass
    kill(pid)


async def start_fails() -> None:
    for first in (Fail("bad"), Stop("bad")):
        try:
            await Server.start(first)
        except (StartError, StartIgnored):
            pass


async def start_times_out() -> None:
    try:
        await Slow.start(timeout=1)
    except StartError:
        pass


class Slow(GenServer[None]):
    async def init(self) -> None:
        await trio.sleep(10)


async def continue_stops() -> None:
    await Server.start(Continue())


LIVES: list[Callable[[], Awaitable[None]]] = [
    returns,
    raises,
    raises_in_a_nursery,
    exits,
    has_everything,
    is_called_and_does_not_answer,
    is_killed,
    is_killed_while_it_waits,
    is_killed_before_it_runs,
    server_stops,
    server_crashes_in_a_call,
    server_crashes_in_a_cast,
    server_stops_without_an_answer,
    call_times_out,
    start_fails,
    start_times_out,
    continue_stops,
]


@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.__name__)
async def test_an_ended_process_leaves_no_reference_cycle(
    life: Callable[[], Awaitable[None]],
) -> None:
    async with open_runtime(log=False, debug=False):

        async def repeat(times: int) -> None:
            for _ in range(times):
                pid = spawn(life)
                await settle()
                kill(pid)
                await settle()
            await trio.sleep(10)

        # Warm up: objects that are made once are not leaks.
        await repeat(2)
        gc.collect()
        await repeat(REPEAT)
        assert gc.collect() < REPEAT


@pytest.mark.parametrize("life", [returns, raises, has_everything], ids=lambda life: life.__name__)
async def test_a_pid_does_not_keep_its_process_in_memory(
    life: Callable[[], Awaitable[None]],
) -> None:
    class Thing:
        pass

    gone: list[weakref.ref[Thing]] = []

    async def carries() -> None:
        thing = Thing()
        gone.append(weakref.ref(thing))
        await life()

    async with open_runtime(log=False, debug=False):
        pid = spawn(carries)
        await settle()
        kill(pid)
        await settle()
        assert gone[0]() is None
        assert pid.number == 1


async def test_a_runtime_leaves_nothing_in_memory() -> None:
    async with open_runtime(log=False, debug=False) as runtime:
        for life in LIVES:
            spawn(life)
        await trio.sleep(20)
        pids = runtime.processes()
        for pid in pids:
            kill(pid)
        await settle()
        counters = ("spawned", "crashed", "dead_letters", "zombies_ever")
        alive = {key: n for key, n in runtime.statistics().items() if key not in counters}
        assert set(alive.values()) == {0}, alive
        assert not any(runtime.graph.links_of(pid) for pid in pids)
        assert not any(runtime.graph.watchers_of(pid) for pid in pids)
        assert len(current_runtime().timers._heap) <= 256
