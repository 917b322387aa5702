"""A door with a code lock, written as a state machine. Run it with `python -m examples.code_lock`.

The door opens for ten seconds after the right digits. After a pause of five seconds, you must start the code again. If
you press digits while the door is open, the lock keeps them, and reads them when it has locked the door again.
"""

import trio
from attrs import frozen

from actors import (
    CallEvent,
    CastEvent,
    EnterEvent,
    EventTimeout,
    KeepState,
    NextState,
    StateEvent,
    StateMachine,
    StateResult,
    StateTimeout,
    call,
    cast,
    open_runtime,
)


@frozen
class Press:
    """A press of a button."""

    digit: str


class CodeLock(StateMachine):
    """A lock with a code, and the digits that were pressed so far."""

    async def begin(self, code: str) -> NextState:
        self.code = code
        self.pressed = ""
        return NextState(self.locked)

    async def locked(self, event: StateEvent) -> StateResult:
        match event:
            case EnterEvent() | EventTimeout():
                self.pressed = ""
                return KeepState()
            case CastEvent(Press(digit)):
                self.pressed += digit
                if self.pressed == self.code:
                    return NextState(self.open)
                if len(self.pressed) == len(self.code):
                    self.pressed = ""
                return KeepState(event_timeout=5)
            case CallEvent("state"):
                return KeepState(reply="locked")
        return None

    async def open(self, event: StateEvent) -> StateResult:
        match event:
            case EnterEvent():
                return KeepState(state_timeout=10)
            case StateTimeout():
                return NextState(self.locked)
            case CastEvent(Press()):
                return KeepState(postpone=True)
            case CallEvent("state"):
                return KeepState(reply="open")
        return None


async def main() -> None:
    """Press buttons, wait, and print the state of the door."""
    async with open_runtime():
        door = await CodeLock.start_link("123")
        start = trio.current_time()
        for digits, seconds in (("12", 6), ("3", 6), ("123", 1), ("123", 10), ("", 10)):
            for digit in digits:
                cast(door, Press(digit))
            await trio.sleep(seconds)
            state = await call(door, "state")
            now = trio.current_time() - start
            print(
                f"pressed {digits or 'nothing'}, and {seconds} s later, at {now:.0f} s, it is {state}"
            )


if __name__ == "__main__":
    trio.run(main)
