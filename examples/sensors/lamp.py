"""A lamp as a state machine. Motion lights the lamp for a while, and a user can hold it on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from attrs import frozen

from actors import (
    CallEvent,
    CastEvent,
    EnterEvent,
    KeepState,
    NextState,
    StateEvent,
    StateMachine,
    StateResult,
    StateTimeout,
)

SECONDS_LIT = 30.0


@frozen
class Motion:
    """A cast: a sensor has detected motion."""


@frozen
class Switch:
    """A cast: a user holds the lamp on, or makes it automatic again."""

    to: Literal["on", "automatic"]


class Lamp(StateMachine):
    """A lamp that calls `tell` at each change of its state."""

    async def begin(self, name: str, tell: Callable[[dict[str, Any]], object]) -> NextState:
        self.name, self.tell = name, tell
        return NextState(self.dark)

    async def dark(self, event: StateEvent) -> StateResult:
        match event:
            case EnterEvent():
                self.tell(self.report("dark"))
            case CastEvent(Motion()):
                return NextState(self.lit)
            case CastEvent(Switch("on")):
                return NextState(self.held)
            case CallEvent():
                return KeepState(reply=self.report("dark"))
        return KeepState()

    async def lit(self, event: StateEvent) -> StateResult:
        match event:
            case EnterEvent() | CastEvent(Motion()):
                self.tell(self.report("lit"))
                # A new timeout replaces the old one, so the time counts from the last motion.
                return KeepState(state_timeout=SECONDS_LIT)
            case StateTimeout():
                return NextState(self.dark)
            case CastEvent(Switch("on")):
                return NextState(self.held)
            case CallEvent():
                return KeepState(reply=self.report("lit"))
        return KeepState()

    async def held(self, event: StateEvent) -> StateResult:
        match event:
            case EnterEvent():
                self.tell(self.report("held"))
            case CastEvent(Switch("automatic")):
                return NextState(self.dark)
            case CallEvent():
                return KeepState(reply=self.report("held"))
        return KeepState()

    def report(self, state: str) -> dict[str, Any]:
        """Return the state in the form that the pages expect."""
        return {"lamp": self.name, "state": state}
