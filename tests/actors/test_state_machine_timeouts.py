"""State machines: timeouts."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import trio

from actors import (
    CastEvent,
    EnterEvent,
    EventTimeout,
    KeepState,
    StateEvent,
    StateResult,
    StateTimeout,
    cast,
    current_runtime,
    send,
    sys,
)
from tests.actors.helpers import in_process, settle
from tests.actors.machines import Answer, Script, entered, events, go


def on_cast(**fields: Any) -> Answer:
    """Keep the state with these fields at the cast "set"; otherwise as `go`."""

    def answer(machine: Script, event: StateEvent) -> StateResult:
        return KeepState(**fields) if event == CastEvent("set") else go(machine, event)

    return answer


async def timeouts(machine: object) -> list[Any]:
    return [
        (state, type(event))
        for state, event in await events(machine)
        if isinstance(event, StateTimeout | EventTimeout)
    ]


@in_process()
async def test_a_state_timeout_fires_once_despite_other_events() -> None:
    pid = await Script.start_link(on_cast(state_timeout=5))
    cast(pid, "set")
    await trio.sleep(4)
    cast(pid, "something")
    assert await timeouts(pid) == []
    await trio.sleep(1)
    await settle()
    assert await timeouts(pid) == [("one", StateTimeout)]
    await trio.sleep(100)
    assert len(await timeouts(pid)) == 1


@in_process()
async def test_a_state_timeout_ends_with_its_state() -> None:
    pid = await Script.start_link(on_cast(state_timeout=5))
    cast(pid, "set")
    cast(pid, "go")
    await trio.sleep(100)
    assert await timeouts(pid) == []
    assert current_runtime().statistics()["timers"] == 0


@in_process()
async def test_a_change_of_state_removes_a_fired_state_timeout_from_the_mailbox() -> None:
    pid = await Script.start_link(on_cast(state_timeout=5))
    cast(pid, "set")
    await sys.suspend(pid)
    cast(pid, "go")
    await trio.sleep(10)
    cast(pid, "last")
    await sys.resume(pid)
    assert await events(pid) == [
        ("one", entered(None)),
        ("one", "set"),
        ("one", "go"),
        ("two", entered("one")),
        ("two", "last"),
    ]


@in_process()
async def test_a_state_timeout_can_be_reset_or_cancelled() -> None:
    def answer(machine: Script, event: StateEvent) -> StateResult:
        match event:
            case CastEvent(float(seconds)):
                return KeepState(state_timeout=seconds)
        return KeepState()

    pid = await Script.start_link(answer, state_timeout=5)
    await trio.sleep(4)
    cast(pid, 5.0)
    await trio.sleep(4)
    assert await timeouts(pid) == []
    await trio.sleep(1)
    await settle()
    assert await timeouts(pid) == [("one", StateTimeout)]
    cast(pid, 5.0)
    cast(pid, math.inf)
    await trio.sleep(100)
    assert await timeouts(pid) == [("one", StateTimeout)]


@in_process()
async def test_a_state_timeout_for_the_next_state_starts_with_that_state() -> None:
    def answer(machine: Script, event: StateEvent) -> StateResult:
        return machine.other(state_timeout=5) if event == CastEvent("go") else KeepState()

    pid = await Script.start_link(answer, state_timeout=3)
    await trio.sleep(2)
    cast(pid, "go")
    await trio.sleep(4)
    assert await timeouts(pid) == []
    await trio.sleep(1)
    await settle()
    assert await timeouts(pid) == [("two", StateTimeout)]


@pytest.mark.parametrize("tell", [cast, send])
@in_process()
async def test_any_event_cancels_an_event_timeout(tell: Callable[[object, str], None]) -> None:
    pid = await Script.start_link(on_cast(event_timeout=5))
    cast(pid, "set")
    await trio.sleep(4)
    tell(pid, "something")
    await trio.sleep(100)
    assert await timeouts(pid) == []
    cast(pid, "set")
    await trio.sleep(5)
    await settle()
    assert await timeouts(pid) == [("one", EventTimeout)]
    await trio.sleep(100)
    assert len(await timeouts(pid)) == 1


@in_process()
async def test_an_event_timeout_survives_a_change_of_state_but_not_a_postponed_event() -> None:
    def answer(machine: Script, event: StateEvent) -> StateResult:
        if machine.state == "one" and event == CastEvent("go"):
            return machine.other(event_timeout=5)
        return KeepState() if machine.state == "two" else go(machine, event)

    for messages, expected in (
        (["go"], [("two", EventTimeout)]),
        (["later", "go"], []),
    ):
        pid = await Script.start_link(answer)
        for message in messages:
            cast(pid, message)
        await trio.sleep(6)
        assert await timeouts(pid) == expected


@in_process()
async def test_begin_and_an_enter_event_can_set_timeouts() -> None:
    def answer(machine: Script, event: StateEvent) -> StateResult:
        match event:
            case EnterEvent("one"):
                return KeepState(state_timeout=2)
            case EventTimeout():
                return machine.other()
        return KeepState()

    pid = await Script.start_link(answer, event_timeout=1)
    await trio.sleep(4)
    assert await timeouts(pid) == [("one", EventTimeout), ("two", StateTimeout)]


@pytest.mark.parametrize("seconds", [-1, math.nan])
@pytest.mark.parametrize("field", ["state_timeout", "event_timeout"])
def test_a_negative_timeout_is_refused(field: str, seconds: float) -> None:
    with pytest.raises(ValueError, match=rf" got {field}=.*; write a number of seconds from 0"):
        KeepState(**{field: seconds})  # type: ignore[arg-type] # any of the fields


def test_a_result_cannot_both_postpone_and_reply() -> None:
    with pytest.raises(ValueError, match=r"its answer when a later state handles it"):
        KeepState(postpone=True, reply=1)
