"""The invariants for mailboxes, answers, timers and leftover entries report the right findings."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from actors import (
    NORMAL,
    GenServer,
    Pid,
    Ref,
    Sender,
    TimerRef,
    cast,
    monitor,
    receive,
    send,
    send_after,
    send_every,
    spawn,
)
from actors._kernel.runtime import record_of
from actors.runtime import Runtime
from supervision.laboratory.chaos.invariants.base import Violation
from tests.laws.mail import (
    AnsweredOnce,
    MailIsTaken,
    NothingLeft,
    Timers,
    sleeping_before_a_message,
)


def observed(invariant: Any, runtime: Runtime) -> list[Violation]:
    findings: list[Violation] = []
    invariant.share(findings)
    invariant.attach(runtime)
    return findings


async def test_a_process_that_sleeps_before_a_message_is_found_at_the_second_rest(
    runtime: Runtime,
) -> None:
    mail = MailIsTaken()
    observed(mail, runtime)

    async def picky() -> None:
        await receive(lambda message: message == "wanted")

    pid = spawn(picky)
    await trio.testing.wait_all_tasks_blocked()
    send(pid, "unwanted")
    await trio.testing.wait_all_tasks_blocked()
    assert mail.at_rest() is None
    assert mail.at_rest() is None
    # Simulate a lost wake-up: put a matching message into the mailbox without a wake-up of the process.
    process: Any = pid.process
    process.mailbox.queue.append("wanted")
    assert sleeping_before_a_message(runtime) == [(pid, "unwanted")]
    assert mail.at_rest() is None
    assert "sleeps, although" in str(mail.at_rest())


async def test_a_process_without_a_match_must_take_every_message(runtime: Runtime) -> None:
    async def reads() -> None:
        while True:
            await receive()

    pid = spawn(reads)
    await trio.testing.wait_all_tasks_blocked()
    process: Any = pid.process
    process.mailbox.queue = ["lost"]
    assert sleeping_before_a_message(runtime) == [(pid, "lost")]
    process.mailbox.queue = ()
    assert sleeping_before_a_message(runtime) == []


async def test_a_server_that_waits_elsewhere_does_not_sleep_before_a_message(
    runtime: Runtime,
) -> None:
    class Busy(GenServer[None]):
        async def handle_cast(self, message: Any) -> None:
            await trio.sleep_forever()

    server = await Busy.start()
    await trio.testing.wait_all_tasks_blocked()
    for message in ("first", "second"):
        cast(server, message)
    await trio.testing.wait_all_tasks_blocked()
    assert sleeping_before_a_message(runtime) == []


class Call:
    value: object = None


@pytest.mark.parametrize(
    ("events", "part"),
    [
        ([], None),
        (["answer", "end answered"], None),
        (["end timeout"], None),
        (["answer", "answer"], "a second answer"),
        (["answer", "end timeout"], "ended as 'timeout'"),
        (["end answered"], "as if it had an answer"),
        (["answer", "change", "end answered"], "lost its first answer"),
    ],
)
async def test_a_call_gets_one_answer(
    runtime: Runtime, events: list[str], part: str | None
) -> None:
    once, call = AnsweredOnce(), Call()
    findings = observed(once, runtime)
    once.call_started(None, runtime.pid, call, 5.0)
    for event in events:
        if event == "answer":
            call.value = "first"
            once.call_answered(call, "first")
        elif event == "change":
            call.value = "second"
        else:
            once.call_ended(call, event.removeprefix("end "))
    if part is None:
        assert findings == []
    else:
        assert part in findings[0].problem


@pytest.mark.parametrize(
    ("events", "part"),
    [
        (["1", "2"], None),
        (["2", "1"], "fires after a timer of"),
        (["1", "1"], "has fired"),
        (["cancel 1", "1"], "was cancelled"),
        (["end", "2"], "its process has ended"),
        (["early"], "too early"),
    ],
)
async def test_a_timer_fires_once_and_in_order(
    runtime: Runtime, autojump_clock: object, events: list[str], part: str | None
) -> None:
    timers, now = Timers(), trio.current_time()
    findings, owner = observed(timers, runtime), Pid(7, runtime)
    refs = {str(number): TimerRef(number, now + number, lambda: None) for number in (1, 2)}
    timers.timer_started(refs["1"], "a name", None)
    timers.timer_started(refs["2"], owner, None)
    await trio.sleep(0 if events == ["early"] else 5)
    for event in events:
        if event == "end":
            timers.process_exited(owner, NORMAL)
        elif event.startswith("cancel"):
            timers.timer_cancelled(refs[event[-1]])
        else:
            timers.timer_fired(refs["1" if event == "early" else event])
    if part is None:
        assert findings == []
    else:
        assert part in findings[-1].problem


async def test_a_timer_from_before_the_watch_is_not_checked(
    runtime: Runtime, autojump_clock: object
) -> None:
    send_after(spawn(receive), "tick", 1)
    repeated = send_every("nobody", "tock", 1)
    timers = Timers()
    findings = observed(timers, runtime)
    runtime.add_instrument(timers)
    await trio.sleep(1.5)
    late = send_after(spawn(receive), "tick", 1)
    await trio.sleep(2)
    assert findings == []
    timers.timer_fired(repeated)
    assert findings == []
    timers.timer_fired(late)
    assert "has fired" in findings[0].problem


async def test_a_timer_that_never_fires_is_found_at_the_second_rest(
    runtime: Runtime, autojump_clock: object
) -> None:
    timers = Timers()
    observed(timers, runtime)
    timers.timer_started(TimerRef(1, trio.current_time() + 1, lambda: None), "a name", None)
    assert timers.at_rest() is None
    await trio.sleep(2)
    assert timers.at_rest() is None
    assert "has not fired" in str(timers.at_rest())


async def test_a_left_over_link_or_monitor_is_found(runtime: Runtime) -> None:
    left = NothingLeft()
    observed(left, runtime)

    async def watches(target: Pid) -> None:
        monitor(target)
        await receive()

    target = spawn(trio.sleep_forever)
    guard = spawn(watches, target)
    await trio.testing.wait_all_tasks_blocked()
    left.monitored(guard, Ref(1), target)
    left.process_exited(guard, NORMAL)
    assert "still monitors" in str(left.at_rest())
    left.process_exited(target, NORMAL)
    assert "still linked or watched" in str(left.at_rest())
    assert left.at_rest() is None


async def test_a_call_that_has_ended_and_still_watches_its_server_is_found(
    runtime: Runtime,
) -> None:
    left = NothingLeft()
    observed(left, runtime)
    server = await GenServer.start()
    process = record_of(server)
    assert process is not None
    sender: Any = Sender(None, process, trio.lowlevel.current_task())
    left.call_ended(sender, "timeout")
    assert left.at_rest() is None
    runtime.graph.watch(server, sender)
    left.call_ended(sender, "timeout")
    assert "still watches the server" in str(left.at_rest())
    runtime.graph.unwatch(server, sender)
