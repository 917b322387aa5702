"""The loop of a server: fairness, its history, and kills between messages."""

import gc
import weakref
from typing import Any

import pytest
import trio

from actors import (
    KILL,
    KILLED,
    Continue,
    GenServer,
    NoReply,
    Reply,
    Sender,
    Within,
    call,
    cast,
    current_pid,
    current_runtime,
    kill,
    monitor,
    send,
    spawn_link,
)
from tests.actors.helpers import down, in_process, settle


class Counter(GenServer[int]):
    async def init(self) -> None:
        self.state = 0

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        return Reply(self.state)

    async def handle_cast(self, message: Any) -> None:
        self.state += 1

    async def handle_info(self, message: Any) -> None:
        self.state += 1


@in_process()
async def test_a_server_with_endless_messages_lets_other_tasks_run() -> None:
    steps = 0

    async def other() -> None:
        nonlocal steps
        while True:
            steps += 1
            await trio.lowlevel.checkpoint()

    pid = await Counter.start()
    spawn_link(other)
    for _ in range(10_000):
        cast(pid, "count")
    assert await call(pid, "?") == 10_000
    assert steps >= 10_000 // 64


@in_process()
async def test_a_server_that_sends_to_itself_lets_other_tasks_run() -> None:
    class Restless(Counter):
        async def handle_info(self, message: Any) -> None:
            await super().handle_info(message)
            send(current_pid(), message)

    pid = await Restless.start()
    send(pid, "again")
    for _ in range(100):
        await trio.lowlevel.checkpoint()
    assert await call(pid, "?") > 1000


@in_process()
async def test_a_flooded_server_handles_no_message_after_a_kill() -> None:
    done: list[int] = []

    class Slow(GenServer[None]):
        async def handle_cast(self, message: int) -> None:
            done.append(message)
            if message == 10:
                kill(pid)

    pid = await Slow.start()
    ref = monitor(pid)
    for number in range(1000):
        cast(pid, number)
    assert (await down(ref)).reason is KILLED
    assert done == list(range(11))


@in_process()
async def test_a_kill_before_a_continue_starts_no_handle_continue() -> None:
    started: list[Any] = []

    class Continues(GenServer[None]):
        async def handle_cast(self, message: Any) -> Continue:
            # As another process would at this moment. With `kill`, the server would not reach its next line.
            runtime = current_runtime()
            runtime.signal(runtime.pid, current_pid(), KILL, linked=False)
            return Continue()

        async def handle_continue(self, argument: Any) -> None:
            started.append(argument)

    pid = await Continues.start()
    ref = monitor(pid)
    cast(pid, "go")
    assert (await down(ref)).reason is KILLED
    assert started == []


@in_process()
async def test_a_kill_in_init_starts_no_handle_continue() -> None:
    started: list[Any] = []

    class Continues(GenServer[None]):
        async def init(self) -> Continue:
            return Continue()

        async def handle_continue(self, argument: Any) -> None:
            started.append(argument)

    pid = await Continues.start()
    # The first step after the start. The continue has not run.
    ref = monitor(pid)
    kill(pid)
    assert (await down(ref)).reason is KILLED
    assert started == []


class Thing:
    """A large part of a message."""


@pytest.mark.parametrize("how", ["call", "cast", "send"])
@in_process()
async def test_an_idle_server_does_not_keep_its_last_message_in_memory(how: str) -> None:
    class Takes(GenServer[None]):
        async def handle_call(self, request: Any, sender: Sender) -> Reply:
            return Reply(Thing())

        async def handle_cast(self, message: Any) -> NoReply:
            return NoReply()

        async def handle_info(self, message: Any) -> Within | None:
            return None

    pid = await Takes.start()
    thing = Thing()
    gone = [weakref.ref(thing)]
    match how:
        case "call":
            gone.append(weakref.ref(await call(pid, thing)))
        case "cast":
            cast(pid, thing)
        case _:
            send(pid, thing)
    del thing
    await settle()
    gc.collect()
    assert [each() for each in gone] == [None] * len(gone)


@pytest.mark.parametrize("how", ["start", "spawn_link"])
@in_process(debug=False)  # with debug=True, the arguments stay in memory
async def test_an_idle_server_does_not_keep_the_arguments_and_the_result_of_init(how: str) -> None:
    class Takes(GenServer[None]):
        async def init(self, thing: Thing, *, other: Thing) -> Continue:
            return Continue(Thing())

        async def handle_continue(self, argument: Any) -> None:
            gone.append(weakref.ref(argument))

    things = [Thing(), Thing()]
    gone = [weakref.ref(thing) for thing in things]
    if how == "start":
        await Takes.start(things.pop(), other=things.pop())
    else:
        Takes.spawn_link(things.pop(), other=things.pop())
    await settle()
    gc.collect()
    assert [each() for each in gone] == [None, None, None]
