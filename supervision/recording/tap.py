"""Functions that record the messages between a server and its clients, and the tape that keeps these records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.masking import shown_kind
from actors.process import send
from actors.refs import Pid
from actors.runtime import Runtime
from supervision.recording.conversion import Record
from supervision.recording.schema import kind_of

__all__ = ["Tap", "Tape"]

_KINDS = 1000
_WRITES = 3 * 3


class Tap:
    """The functions that record the messages between a server and its clients. `FlightRecorder.tap` returns a `Tap`.

    `read` and `deliver` also send the message. If the recorder is the only instrument that observes messages, they put
    the message into the mailbox themselves. So a recorded message costs little more than a call of `send`.

    Attributes:
        read: `read(connection, data)` records that a client sent bytes, and sends them to the process of its
            connection.
        deliver: `deliver(connection, channel, message, size)` records a message from the process of a connection to the
            process of a channel, and sends it. `size` is in bytes.
        wrote: `wrote(connection, size, count)` records one write to a client. `connection` is the number of the
            connection's process, `size` the bytes, and `count` the number of frames.
        wrote_all: `wrote_all(written)` records several writes. The list has these three items for each write, one after
            the other.
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
            # Each record holds at most three writes, so that all records have about the same size. The garbage
            # collector does not track a tuple of numbers.
            for start in range(0, len(written), _WRITES):
                few = tuple(written[start : start + _WRITES])
                tape.keep((number(), time, "wrote", few))

        self.read = read
        # With `contents`, `send` calls `message_sent` of the recorder, which records the content. Without `messages`,
        # there is nothing to record.
        self.deliver = _send_only if contents or not messages else deliver
        self.wrote, self.wrote_all = wrote, wrote_all


class Tape:
    """The function that stores records of messages, and the latest time that a reading of the clock returned."""

    __slots__ = ("keep", "now", "time")

    def __init__(self, now: Callable[[], float], keep: Callable[[Record], None]) -> None:
        self.now = now
        self.keep = keep
        self.time = now()

    def look(self) -> float:
        """Read the clock, store the time in `time`, and return it."""
        self.time = time = self.now()
        return time

    def end(self) -> None:
        """Ignore all further records."""
        self.keep = _ignore


def _ignore(record: Record) -> None:
    pass


def _send_only(connection: Pid, channel: Pid, message: Any, size: int) -> None:
    send(channel, message)


def _learn(kinds: dict[str, str], message: Any) -> str:
    """Return the kind of a message. Remember an event's kind, so that all its records share one string."""
    kind = shown_kind(kind_of(message))
    if kind == message.event:
        # Clients choose the names of events, so the number of names has no limit of its own.
        if len(kinds) >= _KINDS:
            kinds.clear()
        kinds[kind] = kind
    return kind
