"""What happens to a state machine, and what its states may answer: small values with names.

*pure*: it holds records and nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import define, field

from actors.servers.results import MISSING, Stop

if TYPE_CHECKING:
    from actors.servers.gen_server import Sender

__all__ = [
    "CallEvent",
    "CastEvent",
    "EnterEvent",
    "EventTimeout",
    "InfoEvent",
    "KeepState",
    "NextState",
    "State",
    "StateEvent",
    "StateResult",
    "StateTimeout",
]


@define
class CallEvent:
    """A `call`. Answer it with the `reply` of a result, or later with `actors.reply(sender, value)`."""

    request: Any
    sender: Sender


@define
class CastEvent:
    """A `cast`."""

    message: Any


@define
class InfoEvent:
    """Anything else that arrived: what `send` brought, `Down`, `Exit` of a linked process."""

    message: Any


@define
class EnterEvent:
    """The machine has come to this state. `previous` is the name of the one before, None at the very beginning."""

    previous: str | None


@define
class StateTimeout:
    """The machine has been in this state for as long as `state_timeout` said."""


@define
class EventTimeout:
    """Nothing has happened for as long as `event_timeout` said."""


StateEvent: TypeAlias = CallEvent | CastEvent | InfoEvent | EnterEvent | StateTimeout | EventTimeout
"""What a state method gets."""


def _check(result: KeepState | NextState) -> None:
    for name in ("state_timeout", "event_timeout"):
        seconds = getattr(result, name)
        # Written so that NaN, which is neither less nor more than anything, is refused too.
        if seconds is not None and not seconds >= 0:
            raise ValueError(f"{name} is {seconds!r}; write seconds from 0, or math.inf for none")
    if result.postpone and result.reply is not MISSING:
        raise ValueError("an event that is postponed is answered when it is handled: drop reply")


@define(kw_only=True)
class KeepState:
    """The event has been handled, and the machine stays in its state.

    - `reply`: the answer, if the event is a call;
    - `state_timeout`: seconds after which this state gets a `StateTimeout`, from now; `math.inf` for none; None leaves
      the one that is set. It ends with the state;
    - `event_timeout`: seconds after which this state gets an `EventTimeout`, unless anything happens before;
    - `postpone`: not now: this event comes again after the next change of state, before any newer one.
    """

    reply: Any = MISSING
    state_timeout: float | None = None
    event_timeout: float | None = None
    postpone: bool = False

    def __attrs_post_init__(self) -> None:
        _check(self)


@define
class NextState:
    """The event has been handled, and the machine goes to another state: `NextState(self.open)`.

    What was postponed comes next, and the timeout of the old state is over. To go to the state that the machine is in
    is to keep it. The other fields are those of `KeepState`; timeouts are for the new state.
    """

    state: State
    reply: Any = field(default=MISSING, kw_only=True)
    state_timeout: float | None = field(default=None, kw_only=True)
    event_timeout: float | None = field(default=None, kw_only=True)
    postpone: bool = field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        _check(self)


StateResult: TypeAlias = KeepState | NextState | Stop | None
"""What a state method returns; None if the state has nothing to say to the event."""

State: TypeAlias = Callable[[Any], Awaitable[StateResult]]
"""A state: a method of the machine, `async def open(self, event)`."""
