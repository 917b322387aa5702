"""The records of a client: its settings, its channels and pushes, and the effects that the shell carries out.

*pure*.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from attrs import define, field, frozen

from actors.errors import InvalidOption
from channels.client.backoff import RECONNECT, REJOIN, RetryTable
from channels.client.events import Lifecycle
from channels.client.timers import Timer
from channels.client.wire import Frame, TransportName
from channels.messages import Message

__all__ = [
    "Arrived",
    "ChannelRecord",
    "ChannelState",
    "ClientSettings",
    "Close",
    "ConnectionState",
    "Effect",
    "Ended",
    "Left",
    "Open",
    "Pong",
    "PositionTracker",
    "PushRecord",
    "Send",
    "Settled",
    "Tell",
]

ChannelState: TypeAlias = Literal["closed", "joining", "joined", "errored", "leaving"]
ConnectionState: TypeAlias = Literal["closed", "connecting", "open"]


@frozen(kw_only=True)
class ClientSettings:
    """The options of a client. `open_socket` describes and checks them."""

    timeout: float = 10.0
    heartbeat_interval: float = 30.0
    reconnect: RetryTable = RECONNECT
    rejoin: RetryTable = REJOIN
    final_close_codes: tuple[int, ...] = ()
    transport: TransportName = "websocket"
    longpoll_fallback_after: float | None = None
    max_buffered: int = 1000


# The state of channels and pushes


@define(eq=False)
class PushRecord:
    """One push.

    Attributes:
        payload: the payload as `prepare` has encoded it.
        is_repeatable: True if the payload has a key, so that the client sends the push again after a loss.
        ref: the ref of the frame; None while the push waits.
        was_sent: True after the first frame.
        is_settled: True after the answer, the timeout, the end of the channel, or `cancel`.
        is_observed: True if a history records the push.
        waiter: the shell's object for this push.
    """

    channel: ChannelRecord
    event: str
    payload: Any
    timeout: float
    is_repeatable: bool = False
    ref: str | None = None
    timer: Timer | None = None
    was_sent: bool = False
    is_settled: bool = False
    is_observed: bool = False
    waiter: Any = None


@define(eq=False)
class ChannelRecord:
    """One channel.

    Attributes:
        params: the payload of each join, or a function that returns it.
        timeout: seconds for a join, and for a push without its own timeout.
        join_ref: the ref of the last join; None if no membership can exist.
        lost_at: the time at which a joined channel lost its membership.
        response: the response to the last join that the server answered with ok.
        cause: the reason why the channel is closed.
        owner: the shell's object for this channel.
    """

    topic: str
    params: Any
    timeout: float
    state: ChannelState = "closed"
    join_ref: str | None = None
    is_answered: bool = True
    was_joined: bool = False
    joined_once: bool = False
    asked_at: float = 0.0
    lost_at: float | None = None
    response: Any = None
    cause: str | None = None
    tries: int = 0
    join_timer: Timer | None = None
    rejoin_timer: Timer | None = None
    buffer: list[PushRecord] = field(factory=list)
    buffered: int = 0
    pending: dict[str, PushRecord] = field(factory=dict)
    owner: Any = None


# The position in a durable topic, for `channels.durable`

# The name of the position in join params, join replies and messages.
_POSITION = "_position"
# The name of the key in pushes.
_KEY = "_key"
# The bits of a key. Nobody can guess a random key of this length.
_KEY_BITS = 128


class PositionTracker:
    """Adds the last position to the params of each join, and a key to each push.

    >>> tracker = PositionTracker(lambda: {"name": "ann"}, lambda: 0.5)
    >>> tracker.note({"text": "hello", "_position": "5f1c:17"})
    >>> tracker.params()
    {'name': 'ann', '_position': '5f1c:17'}
    >>> tracker.keyed({"text": "hello"})
    {'text': 'hello', '_key': '80000000800000008000000080000000'}

    Args:
        params: the params of the program, or a function that returns them.
        random: returns a number from 0 to 1.
    """

    def __init__(self, params: Any, random: Callable[[], float]) -> None:
        self._params = params
        self._random = random
        self.position: str | None = None

    def params(self) -> dict[str, Any]:
        """Return the payload of the next join.

        Raises:
            InvalidOption: the params of the program are not a dict.
        """
        params = self._params() if callable(self._params) else self._params
        if params is not None and not isinstance(params, dict):
            raise InvalidOption(
                "channel", "params", params, "a dict for durable=True, or a function of one"
            )
        return {**(params or {}), _POSITION: self.position}

    def keyed(self, payload: Any) -> Any:
        """Return the payload of a push with a key. A payload that is not an object stays without a key."""
        if payload is None:
            payload = {}
        if type(payload) is not dict or _KEY in payload:
            return payload
        # Take 32 bits at a time, because a float has only 53.
        parts = [int(self._random() * 2**32) for _ in range(_KEY_BITS // 32)]
        return {**payload, _KEY: "".join(f"{part:08x}" for part in parts)}

    def note(self, payload: Any) -> None:
        """Keep the position from a message or from the reply to a join, if there is one."""
        if isinstance(payload, dict):
            position = payload.get(_POSITION)
            if isinstance(position, str):
                self.position = position


# Effects


@frozen(eq=False)
class Open:
    """Open a connection over this transport, then call `opened` or `failed`."""

    transport: TransportName


@frozen(eq=False)
class Send:
    """Write a frame to the open connection."""

    frame: Frame


@frozen(eq=False)
class Close:
    """Close the connection, or stop opening it, and report no more events about it."""

    code: int
    reason: str


@frozen(eq=False)
class Settled:
    """A push has its result: the status of the answer, "timeout", or "closed"."""

    push: PushRecord
    status: str
    response: Any


@frozen(eq=False)
class Arrived:
    """A message for a channel."""

    channel: ChannelRecord
    message: Message


@frozen(eq=False)
class Left:
    """The server has confirmed a leave, or the connection ended before."""

    channel: ChannelRecord


@frozen(eq=False)
class Ended:
    """A channel is closed, and the protocol has removed it.

    Attributes:
        is_clean: False if the socket ended because of an error.
    """

    channel: ChannelRecord
    is_clean: bool


@frozen(eq=False)
class Pong:
    """The answer to a ping; `seconds` is None if the connection was lost."""

    ref: str
    seconds: float | None


@frozen(eq=False)
class Tell:
    """A lifecycle event, and its channel."""

    event: Lifecycle
    channel: ChannelRecord | None = None


Effect: TypeAlias = Open | Send | Close | Settled | Arrived | Left | Ended | Pong | Tell
