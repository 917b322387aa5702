"""State machines: the state that gets each event, and the order of postponed ones."""

from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from actors import (
    CallEvent,
    CallTimeout,
    CastEvent,
    KeepState,
    NextState,
    StateEvent,
    StateResult,
    StateTimeout,
    call,
    cast,
    kill,
    monitor,
    open_runtime,
    send,
    sys,
)
from tests.actors.helpers import down, in_process, settle
from tests.actors.machines import Script, entered, events, go
from tests.virtual_clock import run_on_virtual_clock


@in_process()
async def test_every_event_goes_to_the_method_of_the_current_state() -> None:
    pid = await Script.start_link(go)
    cast(pid, 1)
    cast(pid, "go")
    send(pid, 2)
    cast(pid, "go")
    cast(pid, 3)
    assert await events(pid) == [
        ("one", entered(None)),
        ("one", 1),
        ("one", "go"),
        ("two", entered("one")),
        ("two", 2),
        ("two", "go"),
        ("one", entered("two")),
        ("one", 3),
    ]


@in_process()
async def test_get_state_returns_the_name_of_the_current_state() -> None:
    pid = await Script.start_link(go)
    assert await sys.get_state(pid) == "one"
    cast(pid, "go")
    assert await sys.get_state(pid) == "two"


@in_process()
async def test_a_transition_to_the_current_state_keeps_it() -> None:
    def stay(machine: Script, event: StateEvent) -> StateResult:
        match event:
            case CastEvent("stay"):
                return NextState(machine.one)
        return go(machine, event)

    pid = await Script.start_link(stay, state_timeout=5)
    cast(pid, "later")
    cast(pid, "stay")
    assert await events(pid) == [("one", entered(None)), ("one", "later"), ("one", "stay")]
    await trio.sleep(5)
    assert (await events(pid))[-1] == ("one", StateTimeout())


# Postponed events


@in_process()
async def test_postponed_events_return_in_order_after_a_change_of_state_before_newer_ones() -> None:
    def answer(machine: Script, event: StateEvent) -> StateResult:
        if machine.state == "two" and isinstance(event, CastEvent):
            return KeepState()
        return go(machine, event)

    pid = await Script.start_link(answer)
    for message in ("later 1", "now", "later 2", "go", "newer"):
        cast(pid, message)
    assert await events(pid) == [
        ("one", entered(None)),
        ("one", "later 1"),
        ("one", "now"),
        ("one", "later 2"),
        ("one", "go"),
        ("two", entered("one")),
        ("two", "later 1"),
        ("two", "later 2"),
        ("two", "newer"),
    ]


@in_process()
async def test_a_postponed_event_that_changes_the_state_returns_the_others_again() -> None:
    def answer(machine: Script, event: StateEvent) -> StateResult:
        match machine.state, event:
            case "two", CastEvent("later 2"):
                return machine.other()
            case "one", CastEvent("later 1") if ("two", "later 2") in machine.events:
                return KeepState()
        return go(machine, event)

    pid = await Script.start_link(answer)
    for message in ("later 1", "later 2", "later 3", "go"):
        cast(pid, message)
    assert await events(pid) == [
        ("one", entered(None)),
        ("one", "later 1"),
        ("one", "later 2"),
        ("one", "later 3"),
        ("one", "go"),
        ("two", entered("one")),
        ("two", "later 1"),
        ("two", "later 2"),
        ("one", entered("two")),
        ("one", "later 1"),
        ("one", "later 3"),
    ]


@in_process()
async def test_a_result_may_postpone_an_event_and_change_the_state() -> None:
    def answer(machine: Script, event: StateEvent) -> StateResult:
        if machine.state == "one" and isinstance(event, CastEvent):
            return machine.other(postpone=True)
        return KeepState()

    pid = await Script.start_link(answer)
    cast(pid, "wake up")
    assert await events(pid) == [
        ("one", entered(None)),
        ("one", "wake up"),
        ("two", entered("one")),
        ("two", "wake up"),
    ]


@in_process()
async def test_a_postponed_call_is_answered_in_a_later_state() -> None:
    def answer(machine: Script, event: StateEvent) -> StateResult:
        match machine.state, event:
            case "one", CallEvent():
                return KeepState(postpone=True)
            case "two", CallEvent(number):
                return KeepState(reply=number + 1)
        return go(machine, event)

    pid = await Script.start_link(answer)
    answers: list[int] = []

    async def ask(number: int) -> None:
        answers.append(await call(pid, number))

    async with trio.open_nursery() as nursery:
        for number in (1, 2):
            nursery.start_soon(ask, number)
            await settle()
        with pytest.raises(CallTimeout):
            await call(pid, 3, timeout=1)
        assert answers == []
        cast(pid, "go")
    assert answers == [2, 3]


@in_process()
async def test_two_states_that_postpone_for_ever_let_other_tasks_run_and_can_be_killed() -> None:
    def answer(machine: Script, event: StateEvent) -> StateResult:
        machine.events.clear()
        return machine.other(postpone=True) if isinstance(event, CastEvent) else KeepState()

    pid = await Script.start(answer)
    cast(pid, "to and fro")
    for _ in range(10):
        await trio.lowlevel.checkpoint()
    ref = monitor(pid)
    kill(pid)
    await down(ref)


Messages = st.lists(st.sampled_from(["go", "a", "b", "c"]), max_size=30)


@given(Messages, st.sets(st.tuples(st.sampled_from(["one", "two"]), st.sampled_from("abc"))))
def test_events_are_handled_in_the_order_of_gen_statem(
    messages: list[str], postponing: set[tuple[str, str]]
) -> None:
    def answer(machine: Script, event: StateEvent) -> StateResult:
        match event:
            case CastEvent(message) if (machine.state, message) in postponing:
                return KeepState(postpone=True)
        return go(machine, event)

    async def play() -> list[tuple[str, Any]]:
        async with open_runtime():
            pid = await Script.start_link(answer)
            for message in messages:
                cast(pid, message)
            return [each for each in await events(pid) if isinstance(each[1], str)]

    expected: list[tuple[str, Any]] = []
    state, postponed, queue = "one", list[str](), list(messages)
    while queue:
        message = queue.pop(0)
        expected.append((state, message))
        if message == "go":
            state = "two" if state == "one" else "one"
            queue, postponed = postponed + queue, []
        elif (state, message) in postponing:
            postponed.append(message)
    assert run_on_virtual_clock(play) == expected
