"""The lifecycle events of a client, for an async iterator and for telemetry.

*pure*. Every event is one record. `str(event)` describes it in a few words. `socket.events()` yields the records.
Telemetry emits `TELEMETRY[type(event)]`, with the numbers of the event as measurements, and with `url`, `topic` and the
`event` itself as metadata. Durations are in seconds on Trio's clock.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from attrs import frozen

from actors.text import brief

__all__ = [
    "TELEMETRY",
    "ChannelEnded",
    "ChannelLost",
    "ConnectFailed",
    "Connected",
    "Disconnected",
    "Dropped",
    "FellBack",
    "JoinRejected",
    "JoinTimedOut",
    "Joined",
    "Lifecycle",
    "Lost",
    "Malformed",
    "Rejoined",
    "Rejoining",
    "Retrying",
]


@frozen
class Connected:
    """The connection is open.

    Attributes:
        transport: "websocket" or "longpoll".
        count: 1 for the first connection of the socket, 2 for the second, and so on.
        seconds: the seconds since the connection was lost, or since the program opened the socket.
    """

    transport: str
    count: int
    seconds: float

    def __str__(self) -> str:
        return f"connected over {self.transport}"


@frozen
class ConnectFailed:
    """An attempt to connect has failed.

    Attributes:
        cause: in words.
        status: the HTTP status of a refusal; None if the server did not answer.
    """

    cause: str
    status: int | None = None

    def __str__(self) -> str:
        return f"cannot connect: {self.cause}"


@frozen
class Lost:
    """The open connection has ended, but the client did not close it.

    Attributes:
        cause: in words, such as "heartbeat timeout".
        code: the close code; 1006 if the connection ended without one.
    """

    cause: str
    code: int = 1006

    def __str__(self) -> str:
        return f"connection lost: {self.cause}"


@frozen
class Retrying:
    """The client will connect again.

    Attributes:
        delay: seconds until the next attempt.
        attempt: the number of that attempt; 1 for the first attempt since the last open connection.
    """

    delay: float
    attempt: int

    def __str__(self) -> str:
        return f"connecting again in {self.delay:g} s (attempt {self.attempt})"


@frozen
class FellBack:
    """The WebSocket did not work, so the client has changed to long polling.

    Attributes:
        cause: the cause, in words.
    """

    cause: str

    def __str__(self) -> str:
        return f"changing to long polling: {self.cause}"


@frozen
class Disconnected:
    """The socket has ended for good.

    The program closed it, or the server closed it with a code in `final_close_codes`.

    Attributes:
        cause: the cause, in words.
        code: the close code of the WebSocket.
    """

    cause: str
    code: int = 1000

    def __str__(self) -> str:
        return f"disconnected: {self.cause}"


@frozen
class Joined:
    """A channel has joined its topic for the first time.

    Attributes:
        topic: the topic.
        response: the response of the join.
        seconds: the time since the program started the join.
    """

    topic: str
    response: Any
    seconds: float

    def __str__(self) -> str:
        return f"joined {self.topic} in {self.seconds:.3f} s"


@frozen
class Rejoined:
    """A channel is back in its topic.

    Attributes:
        topic: the topic.
        response: the response of the join.
        seconds: the seconds since the channel was lost.
    """

    topic: str
    response: Any
    seconds: float

    def __str__(self) -> str:
        return f"joined {self.topic} again after {self.seconds:.3f} s"


@frozen
class JoinRejected:
    """The server refused a join. The client tries again.

    Attributes:
        topic: the topic.
        status: the status of the answer, "error" by convention.
        response: the response, such as `{"reason": "unauthorized"}`.
    """

    topic: str
    status: str
    response: Any

    def __str__(self) -> str:
        return f"the server refused the join of {self.topic}: {brief(self.response)}"


@frozen
class JoinTimedOut:
    """The server did not answer a join in time. The client leaves the topic and tries again.

    Attributes:
        topic: the topic.
    """

    topic: str

    def __str__(self) -> str:
        return f"no answer to the join of {self.topic}"


@frozen
class ChannelLost:
    """A channel is out of its topic: it crashed on the server, or the connection ended.

    Attributes:
        topic: the topic.
        cause: in words.
        is_crash: True if the server reported a crash; False if the connection ended or did not open.
    """

    topic: str
    cause: str
    is_crash: bool = False

    def __str__(self) -> str:
        return f"{self.topic} lost: {self.cause}"


@frozen
class Rejoining:
    """The client will join a topic again, on the open connection.

    Attributes:
        topic: the topic.
        delay: seconds until the next attempt.
        attempt: 1 for the first attempt since the channel was joined or the connection opened.
    """

    topic: str
    delay: float
    attempt: int

    def __str__(self) -> str:
        return f"joining {self.topic} again in {self.delay:g} s (attempt {self.attempt})"


@frozen
class ChannelEnded:
    """A channel is closed and does not come back: the program left it, or the server closed it.

    Attributes:
        topic: the topic.
        cause: the cause, in words.
    """

    topic: str
    cause: str

    def __str__(self) -> str:
        return f"{self.topic} closed: {self.cause}"


@frozen
class Dropped:
    """A channel dropped a message, because the program reads too slowly.

    The event comes once until the program reads again.

    Attributes:
        topic: the topic.
        limit: the number of messages that the channel keeps.
    """

    topic: str
    limit: int

    def __str__(self) -> str:
        return f"messages of {self.topic} are dropped: {self.limit} wait and nothing reads them"


@frozen
class Malformed:
    """The server sent something that is not a message. The client dropped it.

    Attributes:
        problem: the problem, in words.
    """

    problem: str

    def __str__(self) -> str:
        return self.problem


Lifecycle: TypeAlias = (
    Connected
    | ConnectFailed
    | Lost
    | Retrying
    | FellBack
    | Disconnected
    | Joined
    | Rejoined
    | JoinRejected
    | JoinTimedOut
    | ChannelLost
    | Rejoining
    | ChannelEnded
    | Dropped
    | Malformed
)
"""Any event in the life of a client."""

TELEMETRY: Final[dict[type, tuple[str, ...]]] = {
    Connected: ("channels", "client", "connected"),
    ConnectFailed: ("channels", "client", "connect_failed"),
    Lost: ("channels", "client", "lost"),
    Retrying: ("channels", "client", "retrying"),
    FellBack: ("channels", "client", "fell_back"),
    Disconnected: ("channels", "client", "disconnected"),
    Joined: ("channels", "client", "joined"),
    Rejoined: ("channels", "client", "rejoined"),
    JoinRejected: ("channels", "client", "join_rejected"),
    JoinTimedOut: ("channels", "client", "join_timed_out"),
    ChannelLost: ("channels", "client", "channel_lost"),
    Rejoining: ("channels", "client", "rejoining"),
    ChannelEnded: ("channels", "client", "channel_ended"),
    Dropped: ("channels", "client", "dropped"),
    Malformed: ("channels", "client", "malformed"),
}
"""The telemetry event of each lifecycle event."""
