"""State machines: servers whose answers depend on their current state.

    class Door(StateMachine):
        async def begin(self):
            return NextState(self.closed)

        async def closed(self, event):
            match event:
                case CastEvent("open"):
                    return NextState(self.open, state_timeout=10)

        async def open(self, event):
            match event:
                case StateTimeout() | CastEvent("close"):
                    return NextState(self.closed)

    door = await Door.start_link()
    cast(door, "open")

Each state is a method, and the method of the current state gets every event. So all the code for one state is in one
place. If every callback of a server tests the same condition, such as `if self.open`, write a state machine. Otherwise
a `GenServer` is enough.

Source: OTP's gen_statem, with state functions and enter calls. Three of its features do not exist here: named timeouts
(use `actors.timers.send_after`), events that a state sends to itself, and a change of the callback module. Even with an
event timeout of 0 seconds, a waiting message comes first, as with all timeouts of this package.
"""

from __future__ import annotations

import inspect
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, final

import msgspec
import trio

from actors._kernel.current import require_process
from actors.errors import InvalidCallback, InvalidOption, InvalidReturn
from actors.messages import Timeout
from actors.refs import TimerRef
from actors.servers.gen_server import GenServer, Sender, reply
from actors.servers.results import MISSING, Continue, Fail, Ignore, NoReply, Stop, Within
from actors.timers import cancel_timer, send_after

__all__ = [
    "CallEvent",
    "CastEvent",
    "EnterEvent",
    "EventTimeout",
    "InfoEvent",
    "KeepState",
    "NextState",
    "StateEvent",
    "StateMachine",
    "StateResult",
    "StateTimeout",
]

AFTER_EVENT = ("KeepState()", "NextState(self.a_state)", "Stop(reason)", "None")
AFTER_ENTER = ("KeepState() without postpone", "Stop(reason)", "None")
AFTER_BEGIN = ("NextState(self.a_state)", "Ignore()", "Fail(reason)", "Stop(reason)")


class CallEvent(msgspec.Struct, frozen=True):
    """A `call`. Answer it with the `reply` of a result, or later with `actors.reply(sender, value)`."""

    request: Any
    sender: Sender


class CastEvent(msgspec.Struct, frozen=True):
    """A `cast`."""

    message: Any


class InfoEvent(msgspec.Struct, frozen=True):
    """Any other message: a message of `send`, a `Down`, or an `Exit` of a linked process."""

    message: Any


class EnterEvent(msgspec.Struct, frozen=True):
    """The machine has entered this state. `previous` is the name of the previous state; None at the start."""

    previous: str | None


class StateTimeout(msgspec.Struct, frozen=True):
    """The machine has been in this state for the time of `state_timeout`."""


class EventTimeout(msgspec.Struct, frozen=True):
    """No event has happened for the time of `event_timeout`."""


StateEvent: TypeAlias = CallEvent | CastEvent | InfoEvent | EnterEvent | StateTimeout | EventTimeout
"""The argument of a state method."""


class _Handled(msgspec.Struct, frozen=True, kw_only=True):
    reply: Any = MISSING
    state_timeout: float | None = None
    event_timeout: float | None = None
    postpone: bool = False

    def __post_init__(self) -> None:
        for name in ("state_timeout", "event_timeout"):
            seconds = getattr(self, name)
            # This form of the comparison also refuses NaN.
            if seconds is not None and not seconds >= 0:
                raise InvalidOption(
                    type(self).__name__,
                    name,
                    seconds,
                    "a number of seconds from 0, or math.inf for no timeout",
                )
        if self.postpone and self.reply is not MISSING:
            raise ValueError(
                "a postponed event gets its answer when a later state handles it; leave out reply= or postpone="
            )


class KeepState(_Handled, frozen=True, kw_only=True):
    """The event is handled, and the machine stays in its state.

    Attributes:
        reply: The answer, if the event is a call.
        state_timeout: The seconds from now after which this state gets a `StateTimeout`. `math.inf` turns the timeout
            off, None leaves it unchanged. A change of state also turns it off.
        event_timeout: The seconds after which this state gets an `EventTimeout`, unless another event comes first.
        postpone: Handle this event later. The next state gets it again, before any newer event.
    """


class NextState(_Handled, frozen=True):
    """The event is handled, and the machine enters another state: `NextState(self.open)`.

    The new state then gets the postponed events, and the timeout of the old state ends. If the target is the current
    state, the machine stays in it. For the other fields see `KeepState`; the timeouts are for the new state.
    """

    state: State


StateResult: TypeAlias = KeepState | NextState | Stop | None
"""The result of a state method; None if the state does not handle the event."""

State: TypeAlias = Callable[[Any], Awaitable[StateResult]]
"""A state: a method of the machine, `async def open(self, event)`."""


class StateMachine(GenServer[str]):
    """A state machine. Subclass it, write `begin` and a method for each state, and start it with `start_link`.

        async def locked(self, event: StateEvent) -> StateResult:
            match event:
                case CallEvent("unlock"):
                    return NextState(self.unlocked, reply="click")
            return None

    A state method gets one event: a `CallEvent`, `CastEvent`, `InfoEvent`, `EnterEvent`, `StateTimeout` or
    `EventTimeout`. It returns one of:

    - `KeepState(...)`: handled; stay. The fields answer a call, set timeouts, or postpone the event.
    - `NextState(self.other, ...)`: handled; enter another state. That state gets an `EnterEvent` first, then the
      postponed events in their order, then new events.
    - `Stop(reason)`: stop. As in gen_statem, and unlike in a GenServer, the machine sends the `reply` before
      `terminate`.
    - None: this state does not handle the event. This is allowed for an `EnterEvent` or an `InfoEvent`. After any other
      event the machine crashes, and the error message asks you to add a case.

    For an `EnterEvent`, the result cannot change the state again or postpone the event.

    `self.state` is the name of the current state; do not change it. Keep other data in attributes. If a state method
    fails, the machine restores the state, but not the attributes. Everything that works on a `GenServer` works on a
    machine: `call`, `cast`, `stop`, `actors.sys` and supervisors. The rules for `terminate` are the same too.
    """

    async def begin(self, *args: Any, **kwargs: Any) -> NextState | Ignore | Fail | Stop:
        """Set up the machine and return its first state. `start_link` returns after `begin` has returned.

        Args:
            *args: The positional arguments of the start.
            **kwargs: Its keyword arguments.

        Returns:
            `NextState(self.a_state)`, possibly with timeouts; or `Ignore`, `Fail` or `Stop`, as from the `init` of a
            server.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no begin; add one that returns NextState(self.your_first_state)"
        )

    # Callbacks of the server

    @final
    async def init(self, *args: Any, **kwargs: Any) -> Continue | Ignore | Fail | Stop:
        self._waiting: deque[StateEvent] = deque()
        self._postponed: list[StateEvent] = []
        self._event_timeout: float | None = None
        self._state_timer: TimerRef | None = None
        self._alarm: object = None
        result = await self.begin(*args, **kwargs)
        if isinstance(result, (Ignore, Fail, Stop)):
            return result
        where = f"{type(self).__name__}.begin"
        if not isinstance(result, NextState) or result.postpone or result.reply is not MISSING:
            raise InvalidReturn(where, result, AFTER_BEGIN)
        self.state = self._name_of(result, where)
        self._set_timeouts(result)
        return Continue(EnterEvent(None))

    @final
    async def handle_call(self, request: Any, sender: Sender) -> NoReply | Stop:
        return await self._handle(CallEvent(request, sender))

    @final
    async def handle_cast(self, message: Any) -> NoReply | Stop:
        return await self._handle(CastEvent(message))

    @final
    async def handle_info(self, message: Any) -> NoReply | Stop:
        if type(message) is Timeout:
            return await self._handle(EventTimeout())
        if type(message) is _Alarm:
            # This message is of the current timeout, because each new timeout removes an old message from the mailbox.
            self._state_timer = self._alarm = None
            return await self._handle(StateTimeout())
        return await self._handle(InfoEvent(message))

    @final
    async def handle_continue(self, argument: Any) -> NoReply | Stop:
        if type(argument) is not EnterEvent:
            # Two states may postpone an event to each other for ever. Other tasks must still run.
            await trio.lowlevel.checkpoint()
        return await self._handle(argument)

    # The machine handles one event at a time, so `state` names the state that failed

    async def _handle(self, event: StateEvent) -> NoReply | Stop:
        where = f"{type(self).__name__}.{self.state}"
        entering = type(event) is EnterEvent
        if not entering:
            self._event_timeout = None
        state: State = getattr(self, self.state)
        result = await state(event)
        if result is None:
            result = await self._unhandled(event, where)
        if isinstance(result, Stop):
            self._answer(event, result.reply, result, where)
            return Stop(result.reason)
        if not isinstance(result, KeepState | NextState):
            raise InvalidReturn(where, result, AFTER_ENTER if entering else AFTER_EVENT)
        if entering and (isinstance(result, NextState) or result.postpone):
            raise InvalidReturn(where, result, AFTER_ENTER)
        target = self._name_of(result, where) if isinstance(result, NextState) else self.state
        self._answer(event, result.reply, result, where)
        if result.postpone:
            self._postponed.append(event)
        if target != self.state:
            self._go_to(target)
        self._set_timeouts(result)
        if self._waiting:
            return NoReply(then=Continue(self._waiting.popleft()))
        return NoReply(then=None if self._event_timeout is None else Within(self._event_timeout))

    async def _unhandled(self, event: StateEvent, where: str) -> KeepState:
        if isinstance(event, InfoEvent):
            await super().handle_info(event.message)
        elif not isinstance(event, EnterEvent):
            raise NotImplementedError(
                f"{where} returned None for {event!r}; add a case for it, or return KeepState() to "
                "ignore it in this state"
            )
        return KeepState()

    def _answer(self, event: StateEvent, value: Any, result: StateResult, where: str) -> None:
        if value is MISSING:
            return
        if not isinstance(event, CallEvent):
            problem = f"for {event!r}; only a CallEvent can have a reply, so remove `reply=`"
            raise InvalidReturn(where, result, AFTER_EVENT, problem)
        reply(event.sender, value)

    def _go_to(self, target: str) -> None:
        self._waiting.extendleft(reversed(self._postponed))
        self._postponed.clear()
        self._waiting.appendleft(EnterEvent(self.state))
        self._cancel_state_timeout()
        self.state = target

    def _name_of(self, result: NextState, where: str) -> str:
        method: Any = result.state
        name = getattr(method, "__name__", "")
        if getattr(method, "__self__", None) is not self or not hasattr(self, name):
            raise InvalidReturn(
                where, result, ("NextState(self.a_state), a method of the machine",)
            )
        if not inspect.iscoroutinefunction(method):
            raise InvalidCallback(type(self).__name__, name)
        return str(name)

    def _set_timeouts(self, result: KeepState | NextState) -> None:
        if result.event_timeout is not None:
            self._event_timeout = result.event_timeout if result.event_timeout < math.inf else None
        if result.state_timeout is not None:
            self._cancel_state_timeout()
            if result.state_timeout < math.inf:
                self._alarm = _Alarm()
                pid = require_process("state_timeout").pid
                self._state_timer = send_after(pid, self._alarm, result.state_timeout)

    def _cancel_state_timeout(self) -> None:
        timer, alarm = self._state_timer, self._alarm
        self._state_timer = self._alarm = None
        if timer is not None and cancel_timer(timer) is None:
            # The timer has fired, and its message for the old state is in the mailbox.
            require_process("state_timeout").mailbox.flush(lambda message: message is alarm)


class _Alarm:
    """The message of a state timeout."""

    def __repr__(self) -> str:
        return "<state timeout>"
