"""The functions that record what the clients of a server send and get, and the tape that they write to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.process import send
from actors.refs import Pid
from actors.runtime import Runtime
from supervision.recording.conversion import Record
from supervision.recording.fields import KIND_LENGTH
from supervision.recording.schema import kind_of

__all__ = ["Tap", "Tape"]

_KINDS = 1000
_WRITES = 3 * 3


class Tap:
    """The functions that record what the clients of a server send and get. `FlightRecorder.tap` makes one.

    `read` and `deliver` also send the message. If the recorder is the only one that looks at messages, they put the
    message into the mailbox themselves. So a recorded message costs little more than a call of `send`.

    Attributes:
        read: takes the process of a connection and the bytes of its client, and sends the bytes to the process.
        deliver: takes the process of a connection, the process of a channel, a message and its size in bytes, and sends
            the message to the channel.
        wrote: takes the number of a connection's process, and the bytes and the number of the frames of one write.
        wrote_all: takes a list of any number of writes, with these three items for each.
    """

    __slots__ = ("deliver", "read", "wrote", "wrote_all")

    def __init__(
        self,
        runtime: Runtime,
        number: Callable[[], int],
        tape: Tape,
        *,
        sent: Callable[[Pid | None, Pid, Any], bool | None],
        contents: bool,
        messages: bool,
        frames: bool,
    ) -> None:
        alone = (sent,)
        now = tape.now
        kinds: dict[str, str] = {}

        def read(connection: Pid, data: bytes) -> None:
            process = connection.process
            is_plain = process is not None and (
                not runtime.guarded or (runtime.on_sent == alone and not runtime.zombies)
            )
            if frames and (is_plain or not messages):
                tape.time = time = now()
                tape.keep((number(), time, "read", connection.number, len(data)))
            if is_plain:
                process.mailbox.put(data)  # type: ignore[union-attr]  # a plain connection has a process
            else:
                send(connection, data)

        def deliver(connection: Pid, channel: Pid, message: Any, size: int) -> None:
            process = channel.process
            if process is None or runtime.on_sent != alone or runtime.zombies:
                send(channel, message)
                return
            try:
                kind = kinds[message.event]
            except (KeyError, TypeError):
                kind = _learn(kinds, message)
            source, target = connection.number, channel.number
            tape.keep((number(), tape.time, "delivered", source, target, kind, size, id(message)))
            process.mailbox.put(message)

        def wrote(connection: int, size: int, count: int) -> None:
            wrote_all([connection, size, count])

        def wrote_all(written: list[int]) -> None:
            time = tape.look()
            # Short tuples, so that all records have about the same size. The collector ignores a tuple of numbers.
            for start in range(0, len(written), _WRITES):
                few = tuple(written[start : start + _WRITES])
                tape.keep((number(), time, "wrote", few))

        self.read = read
        # `send` asks the recorder, which records the content too, or no message at all.
        self.deliver = _send_only if contents or not messages else deliver
        self.wrote, self.wrote_all = wrote, wrote_all


class Tape:
    """The function that keeps a record of a message, and the time of the latest reading of the clock."""

    __slots__ = ("keep", "now", "time")

    def __init__(self, now: Callable[[], float], keep: Callable[[Record], None]) -> None:
        self.now = now
        self.keep = keep
        self.time = now()

    def look(self) -> float:
        """Return the time."""
        self.time = time = self.now()
        return time

    def end(self) -> None:
        """Keep no more records."""
        self.keep = _ignore


def _ignore(record: Record) -> None:
    pass


def _send_only(connection: Pid, channel: Pid, message: Any, size: int) -> None:
    send(channel, message)


def _learn(kinds: dict[str, str], message: Any) -> str:
    """Return the kind of a message, and remember it. All records of a kind share one text, which saves memory."""
    kind = kind_of(message)[:KIND_LENGTH]
    if kind == message.event:
        # Clients choose the events, so there can be any number of them.
        if len(kinds) >= _KINDS:
            kinds.clear()
        kinds[kind] = kind
    return kind
