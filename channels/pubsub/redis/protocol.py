"""The protocol of Redis and Valkey, version RESP3, without I/O.

    protocol = Protocol()
    await stream.send_all(protocol.hello(url, client_name="ashtree", channels=[b"news:0"]))
    protocol.feed(await stream.receive_some())
    for event in protocol.events(100):
        ...

*pure*. `Protocol` packs commands, parses what the server sends, and matches each reply to its command. It relies on
hiredis, whose `Reader` and `pack_command` do no I/O. This is the only module that imports it.

Three properties of the protocol decide the form of this class:

- Replies come in the order of their commands, and do not name them. Messages arrive between replies, as pushes.
- SUBSCRIBE succeeds as a push and fails as an ordinary error. So the handshake ends with a PING, whose reply shows that
  every command before it has been answered.
- A server that is loading or cannot save answers PING with an error. Any answer shows that it is alive.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from hashlib import sha1
from typing import Any, Final, NamedTuple, TypeAlias, final

import hiredis
from attrs import frozen

from actors.declared import declared
from actors.text import brief
from channels.errors import ChannelsError
from channels.pubsub.redis.server_errors import ServerError
from channels.pubsub.redis.url import RedisUrl

__all__ = [
    "DEFAULT_MAX_REPLY_BYTES",
    "Event",
    "Message",
    "Pong",
    "Protocol",
    "ProtocolViolation",
    "Ready",
    "Refused",
    "Reply",
    "Script",
    "pack_command",
    "pack_publish",
    "run_id_of",
]

DEFAULT_MAX_REPLY_BYTES: Final = 8 * 1024 * 1024

_RUN: Final = re.compile(rb"^run_id:([0-9a-f]+)\r?$", re.MULTILINE)

Message: TypeAlias = tuple[bytes, bytes]
"""A message of a channel: the channel and the payload. A plain tuple, because there is one for every message."""


@declared("the server does not follow the protocol of Redis: {problem}")
class ProtocolViolation(ChannelsError):
    """The other side does not speak RESP3, or sent a reply above the limit. Close the connection.

    Attributes:
        problem: the mistake of the other side, as text.
    """

    problem: str


@frozen
class Ready:
    """The handshake has succeeded, subscriptions included."""


@frozen
class Refused:
    """The server answered a command with an error.

    Attributes:
        command: the name of the command; empty if the server sent an error that answers no command.
        error: the answer.
    """

    command: str
    error: ServerError


@frozen
class Pong:
    """The server answered a `ping`."""


@frozen
class Reply:
    """The server answered a command of `pack_command`.

    Attributes:
        value: the answer: bytes, a whole number, a list, a dict, None, or a `ServerError`.
    """

    value: Any


Event: TypeAlias = Message | Ready | Refused | Pong | Reply

_PUBLISH: Final = b"PUBLISH"
_MESSAGE: Final = b"message"
# The sentinel of the reader. Its default is False, which is also a value of RESP3.
_INCOMPLETE: Final = object()
_READY: Final = Ready()
_PONG: Final = Pong()
# The PING that ends the handshake.
_LAST: Final = "last"
# A command of `pack_command`.
_CALL: Final = "call"


def pack_publish(channel: bytes, payload: bytes) -> bytes:
    r"""Return the bytes of a PUBLISH command. Announce it with `Protocol.publishing` when you send it.

    >>> pack_publish(b"news", b"hi")
    b'*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n$2\r\nhi\r\n'
    """
    return pack_command(_PUBLISH, channel, payload)


def pack_command(*args: str | int | bytes) -> bytes:
    r"""Return the bytes of any command. Announce it with `Protocol.calling` when you send it.

    >>> pack_command("GET", "a")
    b'*2\r\n$3\r\nGET\r\n$1\r\na\r\n'
    """
    # The stub of hiredis takes tuples of one item only.
    return hiredis.pack_command(args)  # type: ignore[arg-type,no-any-return]


class Script(NamedTuple):
    """A script in Lua, and the name that a server gives it. See `Caller.run`."""

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> Script:
        """Return the script with this text."""
        return cls(text, sha1(text.encode()).hexdigest())  # noqa: S324 - Redis names scripts by it


def run_id_of(info: Any) -> bytes | None:
    r"""Return the id of the server's run, from its answer to `INFO server`. None if the answer has none.

    >>> run_id_of(b"# Server
    run_id:5f1c
    ")
    b'5f1c'
    """
    found = _RUN.search(info) if isinstance(info, bytes) else None
    return None if found is None else found[1]


class _Awaited:
    """A command that waits for its reply, or a run of several PUBLISH commands or calls."""

    __slots__ = ("channels", "command", "count")

    def __init__(self, command: str, *, count: int = 1, channels: Iterable[bytes] = ()) -> None:
        self.command = command
        self.count = count
        # For SUBSCRIBE: the channels that the server has not confirmed. A dict, to keep their order.
        self.channels = dict.fromkeys(channels)


@final
class Protocol:
    """One connection to a server, from its handshake to its end.

    Args:
        max_reply_bytes: the largest reply or message in bytes, up to the size of one `feed`.

    Attributes:
        acknowledged: PUBLISH commands that the server has answered, refused ones included.
        refused: PUBLISH commands that the server has answered with an error.
        ignored: pushes of kinds that this class does not use.
        more: True if the last `events` stopped at its limit, so that the next call may return more at once.
    """

    __slots__ = (
        "_awaited",
        "_last_feed",
        "_max_reply_bytes",
        "_reader",
        "_unfinished",
        "_was_refused",
        "acknowledged",
        "ignored",
        "more",
        "refused",
    )

    def __init__(self, *, max_reply_bytes: int = DEFAULT_MAX_REPLY_BYTES) -> None:
        self._reader = hiredis.Reader(
            replyError=ServerError.parse,  # type: ignore[arg-type]
            notEnoughData=_INCOMPLETE,
        )
        # The limit of the reader covers only the memory that it keeps between messages. This bounds the data of an
        # unfinished reply.
        self._max_reply_bytes = max_reply_bytes
        self._unfinished = 0
        self._last_feed = 0
        self._awaited: deque[_Awaited] = deque()
        self._was_refused = False
        self.acknowledged = 0
        self.refused = 0
        self.ignored = 0
        self.more = False

    # Commands

    def hello(self, url: RedisUrl, *, client_name: str, channels: Sequence[bytes] = ()) -> bytes:
        """Return the bytes of the handshake. The next event is `Ready`, or a `Refused` with the reason.

        Args:
            url: the credentials and the database.
            client_name: the name of this connection in CLIENT LIST. The server may refuse it.
            channels: the channels to subscribe to.
        """
        credentials: tuple[str, ...] = ()
        if url.username is not None or url.password is not None:
            credentials = ("AUTH", url.username or "default", url.password or "")
        parts = [self._command("HELLO", 3, *credentials)]
        parts.append(self._command("CLIENT", "SETNAME", _printable(client_name)))
        if url.database:
            parts.append(self._command("SELECT", url.database))
        if channels:
            parts.append(pack_command("SUBSCRIBE", *channels))
            self._awaited.append(_Awaited("SUBSCRIBE", channels=channels))
        parts.append(pack_command("PING"))
        self._awaited.append(_Awaited(_LAST))
        return b"".join(parts)

    def ping(self) -> bytes:
        """Return the bytes of a PING. `Pong` follows for any answer of the server."""
        self._awaited.append(_Awaited("PING"))
        return pack_command("PING")

    def publishing(self, count: int) -> None:
        """Expect the replies to `count` commands of `pack_publish`. Call this in the order of sending."""
        self._expect("PUBLISH", count)

    def calling(self, count: int) -> None:
        """Expect a `Reply` to each of `count` commands of `pack_command`. Call this in the order of sending."""
        self._expect(_CALL, count)

    def _expect(self, command: str, count: int) -> None:
        awaited = self._awaited
        if awaited and awaited[-1].command == command:
            awaited[-1].count += count
        else:
            awaited.append(_Awaited(command, count=count))

    def _command(self, name: str, *args: str | int) -> bytes:
        self._awaited.append(_Awaited(name))
        return pack_command(name, *args)

    # From the server

    def feed(self, data: bytes) -> None:
        """Take bytes from the server.

        Raises:
            ProtocolViolation: the bytes belong to a reply above the limit.
        """
        self._unfinished += len(data)
        self._last_feed = len(data)
        if self._unfinished > self._max_reply_bytes + len(data):
            raise ProtocolViolation(
                f"a reply has more than {self._max_reply_bytes} bytes, which is max_reply_bytes"
            )
        self._reader.feed(data)

    def events(self, limit: int) -> list[Event]:
        """Return the next events, in the order of their arrival. Replies to PUBLISH are only counted.

        Args:
            limit: the number of replies and messages to look at. If `more` is True afterwards, call again.

        Raises:
            ProtocolViolation: the server sent something other than RESP3, or a reply without a command.
        """
        events: list[Event] = []
        complete = self.more
        gets = self._reader.gets
        push = hiredis.PushNotification
        try:
            for _ in range(limit):
                item = gets()
                if item is _INCOMPLETE:
                    if complete:
                        # `len` includes up to a kilobyte that the reader has already parsed.
                        self._unfinished = min(self._last_feed, self._reader.len())
                    self.more = False
                    return events
                complete = True
                if type(item) is push:
                    if item[0] == _MESSAGE and len(item) == 3 and type(item[2]) is bytes:
                        events.append((item[1], item[2]))
                    else:
                        self._pushed(item)
                else:
                    event = self._replied(item)
                    if event is not None:
                        events.append(event)
        except ChannelsError:
            raise
        except (
            hiredis.HiredisError,
            ArithmeticError,
            LookupError,
            MemoryError,
            TypeError,
            ValueError,
        ) as error:
            # hiredis raises these for bytes that it cannot parse, or that Python cannot represent.
            raise ProtocolViolation(brief(str(error) or type(error).__name__)) from error
        self.more = True
        return events

    def _pushed(self, item: list[Any]) -> None:
        """Take a push that is not a message."""
        if item and item[0] == b"subscribe" and len(item) == 3:
            for awaited in self._awaited:
                if awaited.command == "SUBSCRIBE" and item[1] in awaited.channels:
                    del awaited.channels[item[1]]
                    if not awaited.channels:
                        # All channels are confirmed. A successful SUBSCRIBE has no other reply.
                        self._awaited.remove(awaited)
                    return
        self.ignored += 1

    def _replied(self, value: Any) -> Event | None:
        """Take a reply, and match it to its command."""
        refused = type(value) is ServerError
        if self._was_refused and not refused:
            # The handshake has failed already. An old server answers its remaining commands in RESP2.
            return None
        if not self._awaited:
            if refused:
                return Refused("", value)
            raise ProtocolViolation(f"a reply without a command: {brief(value)}")
        awaited = self._awaited[0]
        awaited.count -= 1
        if awaited.count == 0:
            self._awaited.popleft()
        if awaited.command == "PUBLISH":
            self.acknowledged += 1
            if not refused:
                return None
            self.refused += 1
            return Refused("PUBLISH", value)
        if awaited.command == _CALL:
            return Reply(value)
        return _PONG if awaited.command == "PING" else self._greeted(awaited, value)

    def _greeted(self, awaited: _Awaited, value: Any) -> Event | None:
        """Take a reply of the handshake."""
        refused = type(value) is ServerError
        command = awaited.command
        if command == _LAST:
            # An error is an answer too: see the docstring of the module.
            return None if self._was_refused else _READY
        if command == "CLIENT":
            # The server may refuse CLIENT SETNAME. The connection works without a name.
            return None
        if refused:
            self._was_refused = True
            return Refused(command, value)
        if command == "HELLO":
            if not isinstance(value, dict) or value.get(b"proto") != 3:
                raise ProtocolViolation(f"an unknown reply to HELLO: {brief(value)}")
        elif command == "SUBSCRIBE":
            raise ProtocolViolation(f"an ordinary reply to SUBSCRIBE: {brief(value)}")
        return None


def _printable(name: str) -> str:
    """Return a client name in which each character that a server refuses is replaced."""
    return "".join(each if "!" <= each <= "~" else "-" for each in name)
