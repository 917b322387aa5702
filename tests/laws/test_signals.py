"""The invariants for exit signals and for messages of dead processes report the right findings."""

from __future__ import annotations

import contextlib
from typing import Any

import outcome
import pytest
import trio
import trio.testing

from actors import (
    KILL,
    KILLED,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    Exit,
    GenServer,
    Pid,
    ProcessKilled,
    Reply,
    Sender,
    call,
    receive,
    send,
    send_exit,
    spawn,
    trap_exits,
)
from actors.runtime import Runtime
from supervision.laboratory.chaos.invariants.base import Violation
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import simulate
from tests.laws.signals import DeadSendNothing, ExitSignals


async def _sleeps() -> None:
    await trio.sleep_forever()


async def _traps() -> None:
    trap_exits()
    await trio.sleep_forever()


class Told:
    """One invariant with three processes: one traps exits, one does not, and one has no task."""

    def __init__(self, invariant: Any, runtime: Runtime) -> None:
        self.invariant = invariant
        self.findings: list[Violation] = []
        invariant.share(self.findings)
        invariant.attach(runtime)
        self.trapping, self.plain, self.gone = spawn(_traps), spawn(_sleeps), Pid(99, runtime)
        for pid in (self.trapping, self.plain, self.gone):
            invariant.process_spawned(pid, runtime.pid, "process")

    def found(self) -> str:
        (violation,) = self.findings
        return violation.problem


@pytest.fixture
async def told(runtime: Runtime) -> Told:
    told = Told(ExitSignals(), runtime)
    await trio.testing.wait_all_tasks_blocked()
    return told


async def test_a_linked_process_must_get_a_signal_in_the_same_step(told: Told) -> None:
    told.invariant.linked(told.plain, told.gone)
    told.invariant.process_exited(told.gone, SHUTDOWN)
    assert "got no exit signal" in str(told.invariant.check())
    told.invariant.signal_sent(told.gone, told.plain, SHUTDOWN, True)
    assert told.invariant.check() is None
    assert told.findings == []


@pytest.mark.parametrize(
    ("reason", "links", "part"),
    [
        (SHUTDOWN, 1, "which ended with 'boom'"),
        ("boom", 0, "they are not linked"),
        ("boom", 2, "they are not linked, or it got one before"),
    ],
)
async def test_a_signal_over_a_link_needs_the_link_and_its_reason(
    told: Told, reason: object, links: int, part: str
) -> None:
    if links:
        told.invariant.linked(told.gone, told.plain)
    told.invariant.process_exited(told.gone, "boom")
    for _ in range(max(links, 1)):
        told.invariant.signal_sent(told.gone, told.plain, reason, True)
    assert part in told.found()


async def test_a_process_ends_with_the_reason_of_its_first_fatal_signal(told: Told) -> None:
    told.invariant.signal_sent(told.plain, told.trapping, KILL, False)
    told.invariant.process_exited(told.trapping, KILLED)
    told.invariant.signal_sent(told.trapping, told.plain, "one", False)
    told.invariant.signal_sent(told.trapping, told.plain, "two", False)
    assert told.findings == []
    told.invariant.process_exited(told.plain, "two")
    assert "its first fatal signal was 'one'" in told.found()


async def test_a_trapped_signal_becomes_one_message(told: Told) -> None:
    told.invariant.signal_sent(told.plain, told.trapping, NORMAL, False)
    assert "its mailbox is empty" in str(told.invariant.at_rest())
    told.invariant.message_received(told.trapping, Exit(told.plain, NORMAL))
    assert told.invariant.at_rest() is None
    assert told.findings == []
    told.invariant.message_received(told.trapping, Exit(told.plain, NORMAL))
    assert "trapped no such signal" in told.found()


async def test_signals_of_one_sender_may_be_received_in_any_order(told: Told) -> None:
    for reason in ("one", "two"):
        told.invariant.signal_sent(told.plain, told.trapping, reason, False)
    for reason in ("two", "one"):
        told.invariant.message_received(told.trapping, Exit(told.plain, reason))
    assert told.findings == []
    assert told.invariant.at_rest() is None
    told.invariant.signal_sent(told.plain, told.trapping, "three", False)
    told.invariant.message_received(told.trapping, Exit(told.plain, "four"))
    assert "the signal was 'three'" in told.found()


async def test_a_signal_with_noproc_is_not_missed(told: Told) -> None:
    told.invariant.signal_sent(told.plain, told.trapping, NOPROC, False)
    told.invariant.message_received(told.trapping, Exit(told.plain, NOPROC))
    assert told.invariant.at_rest() is None
    assert told.findings == []


async def test_exits_from_before_the_watch_are_expected(runtime: Runtime) -> None:
    pid = spawn(_traps)
    await trio.testing.wait_all_tasks_blocked()
    exits = [Exit(runtime.pid, "early"), Exit(runtime.pid, NOPROC)]
    runtime.signal(runtime.pid, pid, "early", linked=False)
    runtime.signal(runtime.pid, pid, NOPROC, linked=False)
    told = Told(ExitSignals(), runtime)
    for message in exits:
        told.invariant.message_received(pid, message)
    assert told.findings == []
    process: Any = pid.process
    process.mailbox.clear()
    assert told.invariant.at_rest() is None
    told.invariant.message_received(pid, exits[0])
    assert "trapped no such signal" in told.found()


async def test_a_process_that_outlives_a_fatal_signal_is_found_at_the_second_rest(
    told: Told, autojump_clock: object
) -> None:
    told.invariant.signal_sent(told.trapping, told.plain, "boom", False)
    await trio.sleep(100)
    assert told.invariant.at_rest() is None
    assert "lives 100 s after the fatal signal 'boom'" in str(told.invariant.at_rest())


async def test_a_flushed_exit_is_not_missed(told: Told) -> None:
    told.invariant.signal_sent(told.plain, told.trapping, SHUTDOWN, True)
    told.findings.clear()
    told.invariant.unlinked(told.trapping, told.plain, True)
    assert told.invariant.at_rest() is None


async def test_a_process_without_a_record_of_its_end_sends_nothing(runtime: Runtime) -> None:
    told = Told(DeadSendNothing(), runtime)
    await trio.testing.wait_all_tasks_blocked()
    told.invariant.message_sent(told.plain, told.trapping, "hello")
    assert told.findings == []
    told.invariant.process_exited(told.plain, SHUTDOWN)
    told.invariant.message_sent(told.plain, told.trapping, "hello")
    assert "sent 'hello'" in told.found()
    assert "after its end with SHUTDOWN" in told.found()


async def test_a_process_that_unwinds_may_send(runtime: Runtime) -> None:
    told = Told(DeadSendNothing(), runtime)
    runtime.add_instrument(told.invariant)

    async def last_words() -> None:
        try:
            await receive()
        finally:
            runtime.admit(told.trapping, "bye")

    pid = spawn(last_words)
    await trio.testing.wait_all_tasks_blocked()
    runtime.signal(runtime.pid, pid, KILL, linked=False)
    await trio.testing.wait_all_tasks_blocked()
    assert pid.process is None
    assert told.findings == []


async def test_a_doomed_process_whose_call_returned_must_not_go_on(runtime: Runtime) -> None:
    told = Told(DeadSendNothing(), runtime)
    await trio.testing.wait_all_tasks_blocked()
    told.invariant.call_started(told.plain, told.trapping, "the call", 5.0)
    told.invariant.signal_sent(told.trapping, told.plain, "boom", False)
    told.invariant.call_ended("the call", "answered")
    # A clean-up may send.
    told.invariant.message_sent(told.plain, told.trapping, "bye")
    assert told.findings == []
    told.invariant.callback_started(told.plain, "handle_cast", "next")
    assert "began handle_cast with 'next', but it got a fatal exit signal" in told.found()
    told.findings.clear()
    told.invariant.call_started(told.plain, told.trapping, "another call", 5.0)
    assert "calls <pid 1>, but it got a fatal exit signal" in told.found()


class Slow(GenServer[None]):
    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        await trio.sleep(1)
        return Reply(request)


async def _keeps_the_outcome(server: Pid, reader: Pid) -> None:
    answer = await outcome.acapture(call, server, "work")
    send(reader, "the call is over")
    answer.unwrap()


async def _raises_later(server: Pid, reader: Pid) -> None:
    error: BaseException | None = None
    try:
        await call(server, "work")
    except BaseException as raised:
        error = raised
    with contextlib.suppress(ProcessKilled):
        await call(server, "more work")
    send(reader, "the call is over")
    assert error is not None
    raise error


@pytest.mark.parametrize("caller", [_keeps_the_outcome, _raises_later])
def test_a_process_that_keeps_the_error_of_its_call_may_send(caller: Any) -> None:
    read = []

    async def reads() -> None:
        read.append(await receive())

    async def program(world: World) -> None:
        pid = spawn(caller, await Slow.start(), spawn(reads))
        # The signal and the answer arrive in the same turn.
        await trio.sleep(1)
        send_exit(pid, "enough")
        await trio.sleep(1)

    for seed in range(5):
        simulate(program, seed).check()
    assert "the call is over" in read
