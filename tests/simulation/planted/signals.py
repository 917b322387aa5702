"""Bugs in the runtime: exit signals, wake-ups, second answers, timers, and tables that keep ended processes."""

from __future__ import annotations

from typing import Any

import trio

from actors import (
    KILL,
    SHUTDOWN,
    CallExit,
    Crash,
    ExitReason,
    GenServer,
    Pid,
    Reply,
    Sender,
    call,
    cancel_timer,
    link,
    monitor,
    receive,
    reply,
    send,
    send_after,
    send_exit,
    spawn,
    trap_exits,
)
from actors._calls import Sender as SenderRecord
from actors._kernel import runtime as runtime_module
from actors._kernel.mailbox import WakeBatches
from actors._kernel.runtime import Process, Runtime, current_process
from actors._kernel.timer_queue import TimerQueue
from actors.refs import TimerRef
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.planted.planting import Planted, planted

__all__ = ["BUGS"]


# Links


async def fragile() -> None:
    """Crash on request."""
    while True:
        if await receive() == "crash":
            raise ValueError("told to crash")


async def friend(other: Pid) -> None:
    """Link to another process, and outlive that process."""
    trap_exits()
    link(other)
    while True:
        await receive()


async def _crash_some(world: World) -> None:
    chance = world.random("friends")
    for _ in range(3):
        pid = spawn(fragile, label="fragile")
        for _ in range(chance.randrange(1, 3)):
            spawn(friend, pid, label="friend")
        await trio.sleep(0.1)
        if chance.random() < 0.5:
            send(pid, "crash")
        else:
            send_exit(pid, chance.choice([KILL, SHUTDOWN]))
        await trio.sleep(0.1)


_signal = Runtime.signal


def _a_crash_as_a_shutdown(
    self: Runtime, sender: Pid, receiver: Pid, reason: ExitReason, *, linked: bool
) -> None:
    # The bug: the author did not want a process to end with the exception of another process as its reason.
    _signal(self, sender, receiver, SHUTDOWN if type(reason) is Crash else reason, linked=linked)


@scenario()
async def a_crash_that_looks_like_a_shutdown(world: World) -> None:
    with planted((Runtime, "signal", _a_crash_as_a_shutdown)):
        await _crash_some(world)


async def guard(target: Pid, seconds: float) -> None:
    """Monitor a process for some time."""
    monitor(target)
    await trio.sleep(seconds)


def _keep_the_monitors(self: Runtime, process: Process, reason: ExitReason) -> None:
    # The bug: when a process ends, its monitors stay in the tables of the monitored processes.
    watching, process.watching = process.watching, None
    _release(self, process, reason)
    process.watching = watching


_release = Runtime._release


@scenario()
async def a_monitor_that_is_left_over(world: World) -> None:
    chance = world.random("guards")
    with planted((Runtime, "_release", _keep_the_monitors)):
        target = spawn(fragile, label="target")
        for _ in range(5):
            spawn(guard, target, chance.random(), label="guard")
            await trio.sleep(chance.random() / 2)


# Messages


async def stubborn(reader: Pid) -> None:
    """After a kill, go on for longer than the kill grace, and then send a message."""
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(7)
        send(reader, "still here")


async def _read() -> None:
    while True:
        await receive()


@scenario()
async def a_zombie_that_sends(world: World) -> None:
    with planted((runtime_module, "acting_process", current_process.get)):
        pid = spawn(stubborn, spawn(_read, label="reader"), label="stubborn")
        await trio.sleep(world.random("kill").random())
        send_exit(pid, KILL)
        await trio.sleep(9)


@scenario()
async def a_wake_that_is_lost(world: World) -> None:
    """Send to more processes than one turn of the scheduler wakes."""
    chance = world.random("letters")

    def nothing(self: WakeBatches) -> None:
        # The bug: when a turn has used up its wake-ups, the runtime does not begin a new count for the next turn.
        return

    with planted((WakeBatches, "begin_new_count", nothing)):
        readers = [spawn(_read, label=f"reader{number}") for number in range(8)]
        for _ in range(25):
            for reader in readers:
                send(reader, "letter")
            await trio.sleep(chance.random())


# Answers


class Eager(GenServer[None]):
    """A server that answers some calls twice."""

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        if request == "twice":
            reply(sender, "first")
        return Reply("second")


_answer = SenderRecord.answer


def _the_last_answer_wins(self: SenderRecord, value: Any) -> bool:
    if _answer(self, value):
        return True
    if self.answered:
        # The bug: if the caller has not run yet, a second answer replaces the first answer.
        self._value = value
        for instrument in self.server.runtime.instruments:
            instrument.call_answered(self, value)
    return False


@scenario()
async def a_call_that_is_answered_twice(world: World) -> None:
    chance = world.random("calls")
    with planted((SenderRecord, "answer", _the_last_answer_wins)):
        server = await Eager.start()
        for _ in range(5):
            try:
                await call(server, chance.choice(["once", "once", "once", "twice"]), timeout=1)
            except CallExit:
                world.sometimes("a call failed")
            await trio.sleep(chance.random())


# Timers


_forget = TimerQueue.forget


def _not_the_next_one(self: TimerQueue, timer: TimerRef) -> None:
    soon = 0 < timer.deadline - trio.current_time() < 0.05
    if not (timer.owner is not None and soon):
        # The bug: the author thought that a timer that is almost due cannot be stopped any more.
        _forget(self, timer)


async def _ticking(world: World) -> None:
    chance = world.random("timers")

    async def process() -> None:
        while True:
            try:
                await receive(timeout=1)
            except trio.TooSlowError:
                continue

    pid = spawn(process, label="clock")
    for _ in range(12):
        timer = send_after(pid, "tick", chance.choice([0.1, 0.3, 1]))
        await trio.sleep(chance.choice([0.07, 0.2, 0.5]))
        if chance.random() < 0.7:
            cancel_timer(timer)


@scenario()
async def a_timer_that_fires_after_its_cancellation(world: World) -> None:
    with planted((TimerQueue, "forget", _not_the_next_one)):
        await _ticking(world)


BUGS = (
    Planted(
        name="a crash goes over a link as a shutdown",
        scenario=a_crash_that_looks_like_a_shutdown,
        failure="invariant exit_signals",
    ),
    Planted(
        name="the monitor of an ended process stays in the table",
        scenario=a_monitor_that_is_left_over,
        failure="invariant nothing_left",
    ),
    Planted(
        name="a process that was declared dead goes on sending",
        scenario=a_zombie_that_sends,
        failure="invariant dead_send_nothing",
    ),
    Planted(
        name="a process is not woken after a full batch of wakes",
        scenario=a_wake_that_is_lost,
        failure="invariant mail_is_taken",
    ),
    Planted(
        name="a second answer replaces the first",
        scenario=a_call_that_is_answered_twice,
        failure="invariant answered_once",
    ),
    Planted(
        name="a timer that is almost due cannot be cancelled",
        scenario=a_timer_that_fires_after_its_cancellation,
        failure="invariant timers",
    ),
)
