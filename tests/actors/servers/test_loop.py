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
async def test_a_server_with_ever_more_to_do_lets_others_run() -> None:
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
async def test_a_server_that_feeds_itself_does_not_stop_the_world() -> None:
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
async def test_a_kill_between_two_messages_is_the_last_thing_a_flooded_server_does() -> None:
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
async def test_a_kill_while_a_continue_is_asked_for_starts_none() -> None:
    started: list[Any] = []

    class Continues(GenServer[None]):
        async def handle_cast(self, message: Any) -> Continue:
            # As somebody else would do it in this moment; `kill` of oneself does not get to the next line.
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
async def test_a_kill_while_init_asks_for_a_continue_starts_none() -> None:
    started: list[Any] = []

    class Continues(GenServer[None]):
        async def init(self) -> Continue:
            return Continue()

        async def handle_continue(self, argument: Any) -> None:
            started.append(argument)

    pid = await Continues.start()
    # The start has returned, and the continue has not run: this is the first step after it.
    ref = monitor(pid)
    kill(pid)
    assert (await down(ref)).reason is KILLED
    assert started == []


class Thing:
    """Something big that a message carries."""


@pytest.mark.parametrize("how", ["call", "cast", "send"])
@in_process()
async def test_an_idle_server_keeps_nothing_of_what_it_did_last(how: str) -> None:
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
