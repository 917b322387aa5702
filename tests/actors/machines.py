"""A state machine under the control of a test."""

import math
from collections.abc import Callable
from typing import Any

from actors import (
    CallEvent,
    CastEvent,
    EnterEvent,
    InfoEvent,
    KeepState,
    NextState,
    StateEvent,
    StateMachine,
    StateResult,
    call,
)

Answer = Callable[["Script", StateEvent], StateResult]


class Script(StateMachine):
    """A machine with two states that records every event and lets the test decide."""

    async def begin(self, answer: Answer, **fields: Any) -> NextState:
        self.answer = answer
        self.events: list[tuple[str, Any]] = []
        return NextState(self.one, **fields)

    def note(self, state: str, event: StateEvent) -> StateResult:
        what: Any = event
        if isinstance(event, CastEvent | InfoEvent):
            what = event.message
        elif isinstance(event, CallEvent):
            what = event.request
        if what == "events":
            return KeepState(reply=self.events)
        self.events.append((state, what))
        return self.answer(self, event)

    async def one(self, event: StateEvent) -> StateResult:
        return self.note("one", event)

    async def two(self, event: StateEvent) -> StateResult:
        return self.note("two", event)

    def other(self, **fields: Any) -> NextState:
        return NextState(self.two if self.state == "one" else self.one, **fields)


def entered(previous: str | None) -> EnterEvent:
    return EnterEvent(previous)


async def events(machine: object) -> list[tuple[str, Any]]:
    noted = await call(machine, "events", timeout=math.inf)
    assert isinstance(noted, list)
    return noted


def go(machine: Script, event: StateEvent) -> StateResult:
    """Change the state at "go", postpone "later", keep everything else."""
    match event:
        case CastEvent("go"):
            return machine.other()
        case CastEvent(str(message)) if message.startswith("later"):
            return KeepState(postpone=True)
    return KeepState()
