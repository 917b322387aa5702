"""Bulk wake-ups run in batches, and other tasks run in between."""

from typing import Any

import trio
import trio.testing

from actors import current_pid, kill, open_runtime, receive, send, spawn, wait_exit
from actors._kernel.mailbox import BURST, CALLS, NEWEST, Mailbox, WakeBatches
from tests.actors.helpers import in_process, listen, settle

CROWD = 10 * BURST


class Turns(trio.abc.Instrument):
    """Counts the turns of the scheduler, and the most steps that a turn had."""

    def __init__(self) -> None:
        self.turns = 0
        self.steps = 0
        self.most = 0

    def after_io_wait(self, timeout: float) -> None:
        self.turns += 1
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        self.most = max(self.most, self.steps)


async def append_all(order: list[int], number: int) -> None:
    while True:
        await receive()
        order.append(number)


async def watched(run: Any) -> Turns:
    turns = Turns()
    trio.lowlevel.add_instrument(turns)
    await run()
    trio.lowlevel.remove_instrument(turns)
    return turns


@in_process(debug=False)
async def test_bulk_wake_ups_are_spread_over_turns() -> None:
    woken: list[int] = []
    crowd = [spawn(append_all, woken, number) for number in range(CROWD)]
    await settle()

    async def wake_all() -> None:
        for pid in crowd:
            send(pid, "now")
        await settle()

    turns = await watched(wake_all)
    assert sorted(woken) == list(range(CROWD))
    # Each process takes a second step, for the checkpoint of its next receive. Two batches may be in one turn.
    assert turns.most <= 4 * BURST + 10


@in_process()
async def test_a_bulk_wake_up_does_not_delay_other_tasks() -> None:
    async def echo() -> None:
        while True:
            send(await receive(), "answer")

    bystander = spawn(echo)
    woken: list[int] = []
    crowd = [spawn(append_all, woken, number) for number in range(CROWD)]
    await settle()
    for pid in crowd:
        send(pid, "now")
    send(bystander, current_pid())
    assert await receive() == "answer"
    # The exchange takes a few turns. The bulk wake-up takes a turn for each batch.
    assert len(woken) < CROWD * 3 / 4
    await settle()
    assert len(woken) == CROWD


@in_process(debug=False)
async def test_the_wait_for_a_wake_is_bounded_while_the_backlog_never_ends() -> None:
    turns, waits = Turns(), list[int]()
    rounds = 3

    async def pass_on() -> None:
        for _ in range(rounds):
            to, sent = await receive()
            waits.append(turns.turns - sent)
            send(to, (current_pid(), turns.turns))

    crowd = [spawn(pass_on) for _ in range(2 * CROWD)]
    await settle()
    trio.lowlevel.add_instrument(turns)
    for one, other in zip(crowd[::2], crowd[1::2], strict=True):
        send(one, (other, turns.turns))
    await settle()
    trio.lowlevel.remove_instrument(turns)
    assert len(waits) >= CROWD * rounds
    # At most CROWD processes wait at a time. A wake-up takes one turn, and the step after it takes one more.
    assert max(waits) <= CROWD / (BURST - NEWEST) + 3


@in_process()
async def test_messages_to_a_process_with_a_late_wake_stay_complete_and_in_order() -> None:
    crowd: list[list[Any]] = [[] for _ in range(CROWD)]
    pids = [spawn(listen, heard) for heard in crowd]
    await settle()
    for number in range(3):
        for pid in pids:
            send(pid, number)
    await settle()
    assert crowd == [[0, 1, 2]] * CROWD


@in_process()
async def test_a_process_that_is_killed_before_its_late_wake_ends_once() -> None:
    heard: list[Any] = []
    pids = [spawn(listen, heard) for _ in range(CROWD)]
    await settle()
    for pid in pids:
        send(pid, "now")
    for pid in pids:
        kill(pid)
    await wait_exit(pids[-1])
    await settle()
    assert heard == []


@in_process()
async def test_a_receive_that_is_cancelled_before_its_late_wake_loses_nothing() -> None:
    taken: list[Any] = []
    scope = trio.CancelScope()

    async def patient() -> None:
        with scope:
            taken.append(await receive())
        taken.append(await receive())

    crowd = [spawn(listen, []) for _ in range(CROWD)]
    pid = spawn(patient)
    await settle()
    for other in crowd:
        send(other, "now")
    send(pid, "message")
    scope.cancel()
    await settle()
    assert taken == ["message"]


async def test_a_runtime_ends_while_wakes_are_late() -> None:
    async with open_runtime():
        crowd = [spawn(listen, []) for _ in range(CROWD)]
        await settle()
        for pid in crowd:
            send(pid, "now")


@in_process()
async def test_a_time_limit_that_passes_while_the_wake_is_late_still_finds_the_message() -> None:
    got: list[Any] = []

    async def waits_a_second() -> None:
        got.append(await receive(timeout=1.0))

    crowd = [spawn(listen, []) for _ in range(CROWD)]
    spawn_late = spawn(waits_a_second)
    await settle()
    for pid in crowd:
        send(pid, "now")
    send(spawn_late, "message")
    await trio.sleep(2.0)
    assert got == ["message"]


async def test_a_turn_allows_at_most_three_bursts_of_calls() -> None:
    batches = WakeBatches()
    totals: list[int] = []

    async def call(first: int) -> None:
        for _ in range(first):
            assert batches.allow_call()
        await trio.lowlevel.checkpoint()
        # In this turn, `run` begins a new count. In half of the rounds it has its step between two of these tasks.
        while batches.allow_call():
            totals[-1] += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(batches.run)
        await settle()
        for _ in range(40):
            totals.append(0)
            async with trio.open_nursery() as callers:
                for first in (0, BURST, 0):
                    callers.start_soon(call, first)
            await settle()
        batches.stop()
    assert max(totals) <= BURST + CALLS


async def test_calls_never_stay_used_up() -> None:
    batches = WakeBatches()
    assert all(batches.allow_call() for _ in range(2 * CALLS)), "before `run`"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batches.run)
        await settle()
        for _ in range(5):
            assert sum(batches.allow_call() for _ in range(2 * CALLS)) == CALLS
            await settle()
        batches.begin_new_count()
        assert sum(batches.allow_call() for _ in range(2 * CALLS)) == CALLS
        await settle()
        assert batches.allow_call()
        batches.stop()
        await settle()
        assert all(batches.allow_call() for _ in range(2 * CALLS)), "after `run`"


async def test_a_poller_may_make_a_burst_of_calls_in_every_turn() -> None:
    batches = WakeBatches()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batches.run)
        await settle()
        # In about half of these turns, `run` has its step after this task.
        for _ in range(50):
            assert all(batches.allow_call() for _ in range(BURST))
            await trio.lowlevel.checkpoint()
        batches.stop()


async def test_each_turn_of_a_backlog_allows_calls() -> None:
    batches = WakeBatches()
    mailboxes = [Mailbox(batches) for _ in range(10 * BURST)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(batches.run)
        for mailbox in mailboxes:
            nursery.start_soon(mailbox.park)
        await settle()
        for mailbox in mailboxes:
            mailbox.put("now")
        for _ in range(3):
            while batches.allow_call():
                pass
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            assert batches.waiting() > 0
            assert batches.allow_call()
        await settle()
        batches.stop()
