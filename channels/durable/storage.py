"""The contract of storages, and the errors of a history.

A storage keeps the streams of one `History`. Ashtree has three storages: `MemoryStorage`, `SQLiteStorage` and
`RedisStorage`. Every storage passes the suite `tests/contracts/test_history_storages.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

from attrs import field, frozen

from actors.instrumentation.telemetry import Event
from actors.text import brief
from channels.durable.stream import Entry, Limits, Slice
from channels.errors import ChannelsError
from supervision.child_spec import ChildSpec

__all__ = [
    "MAX_FENCE",
    "AnswerNotKept",
    "AppendFailed",
    "Appended",
    "Claimed",
    "Ends",
    "FenceRefused",
    "HistoryError",
    "HistoryLost",
    "NewAnswer",
    "NewMessage",
    "Receiver",
    "Storage",
    "StorageError",
]


MAX_FENCE: Final = 2**53 - 1
"""The greatest fence. Redis compares fences as floating-point numbers, which are exact up to this number."""


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
        is_too_large: True if the message exceeds a limit of the history.
    """

    def __init__(
        self,
        topic: str,
        event: str,
        problem: str,
        *,
        may_be_kept: bool = False,
        is_too_large: bool = False,
    ) -> None:
        outcome = "it may or may not be kept" if may_be_kept else "it is not kept"
        super().__init__(
            f"the message {brief(event)} for the durable topic {brief(topic)} failed: {problem}; {outcome}"
        )
        self.topic = topic
        self.event = event
        self.problem = problem
        self.may_be_kept = may_be_kept
        self.is_too_large = is_too_large


class FenceRefused(ChannelsError):
    """A storage refused a claim, or an append to a topic that has another claimed fence. It has kept nothing.

    Attributes:
        topic: the topic.
        fence: the fence of the caller; None for an append without a fence.
        claimed: the fence that the storage compared it with; 0 if no fence is claimed.
        verb: `"claim"` or `"append"`.
    """

    def __init__(
        self, topic: str, fence: int | None, claimed: int, *, verb: Literal["append", "claim"]
    ) -> None:
        if verb == "claim":
            problem = (
                f"fence {claimed} is claimed already, and a claim needs a greater one; get a new fence of at least "
                f"{claimed + 1} if this process still owns the topic, else stop it"
            )
        elif fence is None:
            problem = (
                f"an owner has claimed the topic with fence {claimed}; send the message through the owner, or use a "
                "topic without an owner"
            )
        elif fence < claimed:
            problem = f"another owner has claimed the topic with fence {claimed}; stop this process"
        else:
            known = (
                f"the claimed fence is {claimed}" if claimed else "the storage has no fence for it"
            )
            problem = f"{known}; call History.claim, and then History.read, before the first append"
        with_fence = "without a fence" if fence is None else f"with fence {fence}"
        super().__init__(
            f"the {verb} {with_fence} for the topic {brief(topic)} was refused: {problem}"
        )
        self.topic = topic
        self.fence = fence
        self.claimed = claimed
        self.verb = verb


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
        fence: the claimed fence of the topic, if it has one.
    """

    topic: str
    event: str
    body: bytes
    key: str | None = None
    fence: int | None = None

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
        refused: by the index of each message with a wrong fence, the claimed fence of its topic, or 0. If there is one,
            the storage has kept nothing of the batch.
    """

    epoch: str
    offsets: Sequence[int]
    evicted: int = 0
    repeated: Collection[int] = ()
    answers: Sequence[bytes] = ()
    forgotten: int = 0
    refused: Mapping[int, int] = field(factory=dict)


@frozen
class Claimed:
    """The result of a claim.

    Attributes:
        refused: None if the storage accepted the claim. Otherwise the fence that the claim must exceed.
        forgotten: the number of topics whose fences the storage forgot, to stay within `max_fences`.
    """

    refused: int | None = None
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

    A topic has at most one claimed fence, which outlives its messages and the topic itself. A storage may forget the
    fences of the oldest claims, or the smallest fences, to stay within `max_fences`. A claim of a topic without a fence
    must exceed the greatest forgotten fence. So a forgotten fence never counts again. When a storage begins a new
    epoch, it forgets all fences, because it may have lost the latest claims.
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

        The fence of each message must equal the claimed fence of its topic. A message without a fence needs a topic
        without one. If one message fails this check, the storage keeps nothing, and returns `Appended.refused`.

        Args:
            batch: the messages.
            now: the time of day, in seconds since 1970.
            answers: the answers to pushes with a key.

        Raises:
            StorageError: the storage failed. The messages and the answers may or may not be kept.
        """
        ...

    async def claim(self, topic: str, fence: int) -> Claimed:
        """Make a fence the claimed fence of a topic, if it is strictly greater than the topic's present fence.

        From then on, the storage refuses appends to the topic with any other fence. An equal fence is refused, because
        two owners may have got the same fence from an arbiter that lost a write. If the storage cannot know whether its
        own attempt arrived, it repeats the attempt. It must then recognize its first attempt, and not count it as the
        claim of another owner.

        Args:
            topic: the topic.
            fence: a whole number from 1 to `MAX_FENCE`.

        Returns:
            The result: accepted, or the fence that refused the claim.

        Raises:
            StorageError: the storage failed. The fence may or may not be claimed.
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
