"""The contract of storages, and the errors of a history.

A storage keeps the streams of one `History`. Ashtree has three storages: `MemoryStorage`, `SQLiteStorage` and
`RedisStorage`. Every storage passes the suite `tests/contracts/test_history_storages.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen

from actors.instrumentation.telemetry import Event
from actors.text import brief
from channels.durable.stream import Entry, Limits, Slice
from channels.errors import ChannelsError
from supervision.child_spec import ChildSpec

__all__ = [
    "AnswerNotKept",
    "AppendFailed",
    "Appended",
    "Ends",
    "HistoryError",
    "HistoryLost",
    "NewAnswer",
    "NewMessage",
    "Receiver",
    "Storage",
    "StorageError",
]


class HistoryError(ChannelsError, RuntimeError):
    """A mistake in the use of a history. The message states the correction."""


class StorageError(ChannelsError):
    """A storage could not read or write.

    Attributes:
        storage: the name of the storage.
        problem: the cause of the failure, as text.
        may_be_kept: False if the messages of an append are certainly not kept.
    """

    def __init__(self, storage: str, problem: str, *, may_be_kept: bool = True) -> None:
        super().__init__(f"the {storage} storage of a history failed: {problem}")
        self.storage = storage
        self.problem = problem
        self.may_be_kept = may_be_kept


class AppendFailed(ChannelsError):
    """The storage did not keep a message for a durable topic, or may not have kept it.

    Attributes:
        topic: the topic.
        event: the name of the event.
        problem: the cause of the failure, as text.
        may_be_kept: True if the storage may have the message. False if nobody gets it.
    """

    def __init__(self, topic: str, event: str, problem: str, *, may_be_kept: bool = False) -> None:
        outcome = "it may or may not be kept" if may_be_kept else "it is not kept"
        super().__init__(
            f"the message {brief(event)} for the durable topic {brief(topic)} failed: {problem}; {outcome}"
        )
        self.topic = topic
        self.event = event
        self.problem = problem
        self.may_be_kept = may_be_kept


class AnswerNotKept(ChannelsError):
    """The storage may not have kept the answer to a push with a key.

    The channel ends, so that its client repeats the push.

    Attributes:
        topic: the topic.
        event: the name of the event.
        problem: the cause of the failure, as text.
    """

    def __init__(self, topic: str, event: str, problem: str) -> None:
        super().__init__(
            f"the answer to the push {brief(event)} for the durable topic {brief(topic)} was not kept: {problem}; the "
            "channel ends, and handles the push again when the client repeats it"
        )
        self.topic = topic
        self.event = event
        self.problem = problem


class HistoryLost(ChannelsError):
    """A joined channel has missed messages that the history no longer has. The client rejoins and gets the reason.

    Attributes:
        topic: the topic.
        position: the position of the channel.
        reason: the reason, as in the reply to a join.
    """

    def __init__(self, topic: str, position: str, reason: str) -> None:
        super().__init__(
            f"the channel for {brief(topic)} is at {position} and cannot get the messages behind it ({reason}); it "
            "ends, so that its client joins again and gets the reason"
        )
        self.topic = topic
        self.position = position
        self.reason = reason


@frozen
class NewMessage:
    """A message for a storage to keep.

    Attributes:
        topic: the topic.
        event: the name of the event.
        body: the payload as JSON.
        key: identifies the message, if it must be kept only once.
    """

    topic: str
    event: str
    body: bytes
    key: str | None = None

    @property
    def size(self) -> int:
        """The size in bytes that counts for the limits."""
        return len(self.event.encode()) + len(self.body)


@frozen
class NewAnswer:
    """The answer to a push, for a storage to remember under a key."""

    key: str
    body: bytes

    @property
    def size(self) -> int:
        """The size in bytes that counts for the limits."""
        return len(self.key) + len(self.body)


@frozen
class Appended:
    """The result of an append.

    Attributes:
        epoch: the epoch of the storage.
        offsets: the offset of each message, in the order of the batch.
        evicted: the number of topics that the storage dropped to make room.
        repeated: the indexes in the batch of messages whose key the storage remembered. The storage does not keep these
            again. Their offset is the offset of the first message with the key.
        answers: for each answer of the batch, the first answer with the same key.
        forgotten: the number of keys that the storage forgot before `max_answer_age`, to stay within its limits.
    """

    epoch: str
    offsets: Sequence[int]
    evicted: int = 0
    repeated: Collection[int] = ()
    answers: Sequence[bytes] = ()
    forgotten: int = 0


@frozen
class Ends:
    """The ends of some streams: their epoch, and the last offset of each topic."""

    epoch: str
    offsets: Mapping[str, int]


class Receiver(Protocol):
    """The methods of a history that a storage calls. No method blocks or raises."""

    def receive(self, topic: str, entry: Entry) -> None:
        """Deliver a message that a storage with `publishes` has kept, from this node or another one."""
        ...

    def check(self) -> None:
        """Compare the stream ends with the positions of the channels now: messages may not have arrived."""
        ...

    def execute(
        self, event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        """Execute a telemetry event of `channels.telemetry`. Adds `history` to its metadata."""
        ...


class Storage(Protocol):
    """The contract of a storage, where a history keeps its streams.

    The history calls `open` once before the other methods, then starts the `processes`, and calls `close` after they
    have ended. It runs one `append` at a time. Any number of `read` and `ends` calls may run at the same time. `now` is
    the time of day in seconds.

    A storage has one epoch for all its topics. It keeps the epoch as long as it keeps the offsets. When it is new or
    has lost its contents, it begins a new epoch: `fresh_epoch`, or a text that begins with `fresh_epoch`.

    A storage may forget a topic to stay within `max_topics` and `max_total_bytes`. It first forgets the topics whose
    last message is the oldest. The offsets of a forgotten topic, or of a topic without messages, begin after the
    greatest offset of all forgotten topics. So one offset of a topic never names two messages.

    A storage remembers keys with a value. For the key of a message, the value is the offset. For the key of an answer,
    the value is the answer. A key is ASCII text of up to 64 characters. The storage remembers it for `max_answer_age`
    seconds, even if it forgets the message. The storage forgets the oldest keys first, to stay within `max_answers`
    keys and within `max_answer_bytes` bytes of keys and values.
    """

    @property
    def name(self) -> str:
        """The kind of storage, for errors and statistics: `"sqlite"`."""
        ...

    @property
    def is_shared(self) -> bool:
        """True if several processes of the operating system can use the same history."""
        ...

    @property
    def publishes(self) -> bool:
        """True if the storage sends each kept message to all nodes, this one included, through their `Receiver`.

        If False, the history delivers the messages that it appends, and sends them to other nodes through its PubSub.
        """
        ...

    async def open(self, limits: Limits, *, fresh_epoch: str) -> None:
        """Make the storage ready.

        Args:
            limits: the limits of the history.
            fresh_epoch: the name of the epoch, if the storage begins a new one.

        Raises:
            StorageError: the storage cannot be opened.
        """
        ...

    def processes(self, receiver: Receiver) -> Sequence[ChildSpec]:
        """Return child specs of the processes that the storage needs, if any.

        Args:
            receiver: gets the messages that the storage has kept.
        """
        ...

    def close(self) -> None:
        """Release all resources. A second call does nothing."""
        ...

    async def append(
        self, batch: Sequence[NewMessage], *, now: float, answers: Sequence[NewAnswer] = ()
    ) -> Appended:
        """Keep the messages in this order, and then the answers: all or none. Return when they are kept.

        The storage does not keep a message with a remembered key again. An answer with a remembered key changes
        nothing.

        Args:
            batch: the messages.
            now: the time of day, in seconds since 1970.
            answers: the answers to pushes with a key.

        Raises:
            StorageError: the storage failed. The messages and the answers may or may not be kept.
        """
        ...

    async def recall(self, key: str, *, now: float) -> bytes | None:
        """Return the answer that is remembered under a key; None if there is none.

        Args:
            key: the key of the push.
            now: the time of day, in seconds since 1970.

        Raises:
            StorageError: the storage failed.
        """
        ...

    async def read(self, topic: str, *, after: int, limit: int, now: float) -> Slice:
        """Read a stream: its bounds, and the first `limit` kept messages with an offset above `after`.

        Messages older than `max_age` do not count as kept.

        Args:
            topic: the topic.
            after: the offset of the last message that the reader has.
            limit: the maximum number of messages.
            now: the time of day, in seconds since 1970.

        Returns:
            The bounds of the stream, and the messages, oldest first.

        Raises:
            StorageError: the storage failed.
        """
        ...

    async def ends(self, topics: Sequence[str]) -> Ends:
        """Read the last offset of each topic. Leave out topics that are forgotten or never had a message.

        Args:
            topics: the topics.

        Returns:
            The epoch, and the last offset by topic.

        Raises:
            StorageError: the storage failed.
        """
        ...

    def statistics(self) -> dict[str, int]:
        """Return counters; at least the kept `topics`, `messages` and `bytes`."""
        ...
