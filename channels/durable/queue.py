"""The queue of a history: messages and answers that wait for the storage, in the order of the appends."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
import trio

from channels.durable.answers import KeyedPush
from channels.durable.storage import (
    AnswerNotKept,
    AppendFailed,
    FenceRefused,
    NewAnswer,
    NewMessage,
)
from channels.durable.stream import POSITION, Position
from channels.errors import EncodeError
from channels.messages import Broadcast
from channels.pubsub.adapter import encode

__all__ = ["Queue", "Waiting", "encode_payload"]

# The most bytes of one batch, unless a single message has more. A storage on a server gets a batch in one piece.
_MAX_BATCH_BYTES = 4 * 1024 * 1024
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Waiting:
    """A message or an answer in the queue, and the result for a caller that waits."""

    __slots__ = ("answer", "done", "error", "item", "position", "push")

    def __init__(
        self, item: NewMessage | NewAnswer, done: trio.Event | None, push: KeyedPush | None
    ) -> None:
        self.item = item
        self.done = done
        self.push = push
        self.position: Position | None = None
        self.answer: bytes | None = None
        self.error: AppendFailed | AnswerNotKept | FenceRefused | None = None

    @property
    def topic(self) -> str:
        """The topic of the message, or of the answered push."""
        return self.item.topic if isinstance(self.item, NewMessage) else self._answered.topic

    @property
    def _answered(self) -> KeyedPush:
        assert self.push is not None  # an answer has one
        return self.push

    @property
    def is_settled(self) -> bool:
        """True if it has a result."""
        return self.position is not None or self.answer is not None or self.error is not None

    @property
    def is_in_vain(self) -> bool:
        """True for an answer whose handler appended a message that was not kept.

        The storage must not keep the answer alone.
        """
        push = self.push
        return type(self.item) is NewAnswer and push is not None and push.has_failed

    def settle(self) -> None:
        """Give the waiting caller its result."""
        if self.done is not None:
            self.done.set()

    def fail(self, problem: str, *, may_be_kept: bool) -> AppendFailed | AnswerNotKept:
        """Make the waiting caller raise an error. Return the error."""
        item = self.item
        error: AppendFailed | AnswerNotKept
        if isinstance(item, NewMessage):
            error = AppendFailed(item.topic, item.event, problem, may_be_kept=may_be_kept)
        else:
            error = AnswerNotKept(self.topic, self._answered.event, problem)
        self.raise_soon(error)
        return error

    def raise_soon(self, error: AppendFailed | AnswerNotKept | FenceRefused) -> None:
        """Make the waiting caller raise an error."""
        if self.push is not None and self.done is None:
            self.push.has_failed = True
        self.error = error
        self.settle()


class Queue:
    """Messages and answers that wait for the storage."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._arrived = trio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, waiting: Waiting) -> None:
        """Add a message or an answer."""
        self._waiting.append(waiting)
        self._arrived.set()

    async def next_batch(self, max_batch: int) -> list[Waiting]:
        """Wait for an item. Return the oldest items: at most `max_batch`, and at most a few megabytes."""
        while not self._waiting:
            # All writers share one event. A killed writer may still wait in its storage while the next writer runs.
            if self._arrived.is_set():
                self._arrived = trio.Event()
            await self._arrived.wait()
        batch = [self._waiting.popleft()]
        size = batch[0].item.size
        while self._waiting and len(batch) < max_batch:
            size += self._waiting[0].item.size
            if size > _MAX_BATCH_BYTES:
                break
            batch.append(self._waiting.popleft())
        return batch

    def take_all(self) -> list[Waiting]:
        """Remove and return everything."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting


def encode_payload(topic: str, event: str, payload: Any) -> bytes:
    """Encode the payload of a message.

    Raises:
        EncodeError: the payload is not a JSON object, or already has a key `_position`.
    """
    encoded = encode(topic, Broadcast(topic, event, payload))
    if encoded.binary:
        problem = "its payload is Binary, which has no room for a position; put text or base64 into a dict"
    elif POSITION.encode() in encoded.body and POSITION in _decode_fields(encoded.body):
        problem = f"its payload has the key {POSITION!r}, which is for the position; rename the key"
    else:
        return encoded.body
    raise EncodeError(problem, kind="broadcast", topic=topic, event=event)
