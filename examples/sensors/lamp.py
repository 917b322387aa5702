"""A lamp as a state machine. Motion lights the lamp for a while, and a user can hold it on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from attrs import frozen

import actors

SECONDS_LIT = 30.0


@frozen
class Motion:
    """A cast: a sensor has detected motion."""


@frozen
class Switch:
    """A cast: a user holds the lamp on, or makes it automatic again."""

    to: Literal["on", "automatic"]


class Lamp(actors.StateMachine):
    """A lamp that calls `tell` at each change of its state."""

    async def begin(self, name: str, tell: Callable[[dict[str, Any]], object]) -> actors.NextState:
        self.name, self.tell = name, tell
        return actors.NextState(self.dark)

    async def dark(self, event: actors.StateEvent) -> actors.StateResult:
        match event:
            case actors.CastEvent(Motion()):
                return actors.NextState(self.lit)
            case actors.CastEvent(Switch("on")):
                return actors.NextState(self.held)
        return self.report(event, "dark")

    async def lit(self, event: actors.StateEvent) -> actors.StateResult:
        match event:
            case actors.EnterEvent() | actors.CastEvent(Motion()):
                self.tell({"lamp": self.name, "state": "lit"})
                # A new timeout replaces the old one, so the time counts from the last motion.
                return actors.KeepState(state_timeout=SECONDS_LIT)
            case actors.StateTimeout():
                return actors.NextState(self.dark)
            case actors.CastEvent(Switch("on")):
                return actors.NextState(self.held)
        return self.report(event, "lit")

    async def held(self, event: actors.StateEvent) -> actors.StateResult:
        match event:
            case actors.CastEvent(Switch("automatic")):
                return actors.NextState(self.dark)
        return self.report(event, "held")

    def report(self, event: actors.StateEvent, state: str) -> actors.StateResult:
        """Tell the pages about a new state, and answer calls. Ignore other events."""
        found = {"lamp": self.name, "state": state}
        if isinstance(event, actors.EnterEvent):
            self.tell(found)
        if isinstance(event, actors.CallEvent):
            return actors.KeepState(reply=found)
        return actors.KeepState()
