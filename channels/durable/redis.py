"""The storage in Redis or Valkey, for the nodes of several machines.

    history = History(RedisStorage("redis://127.0.0.1:6379"))

    append ──▶ script: number, keep, drop what is too old, publish ──▶ the answer: the caller of `append` goes on
                                                          └──▶ subscriptions of all nodes ──▶ their channels

Append and publish are one step of the server, so no node sees a message that is not kept. All nodes see the messages of
a topic in the order of their offsets. A node gets its own messages through its subscription too.

All topics share one epoch. Centrifugo has one epoch for each topic, because it keeps the offset of each topic in a
separate key, and the server may lose a single key. Here, one key has the epoch and all offsets: see `redis_script`. So
a join of a topic without messages writes nothing, and a forgotten topic needs no memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import trio

from actors.arguments import check_positive, check_whole
from actors.errors import InvalidOption
from actors.runtime import current_runtime
from channels.durable.redis_connections import RedisConnections
from channels.durable.redis_script import (
    Kept,
    Keys,
    append_arguments,
    claim_arguments,
    parse_appended,
    parse_claimed,
    parse_ends,
    parse_recalled,
    parse_slice,
    read_arguments,
)
from channels.durable.storage import (
    Appended,
    Claimed,
    Ends,
    NewAnswer,
    NewMessage,
    Receiver,
    StorageError,
)
from channels.durable.stream import Limits, Slice
from channels.pubsub.redis.server import RedisServer
from supervision.child_spec import ChildSpec

__all__ = ["RedisStorage"]

T = TypeVar("T")

_KEY = re.compile(r"[A-Za-z0-9_.-]{1,100}")
# The most topics in one call.
_ENDS = 1000
# Bytes of an answer beside the bodies: for the whole answer, and for each message in it.
_ROOM, _ROOM_PER_MESSAGE = 64 * 1024, 64


class RedisStorage:
    """A history in Redis or Valkey.

        History(RedisStorage("redis://:secret@db.example:6379?prefix=shop"))

    An append returns after the server has kept the messages. Their safety then depends on the persistence of the
    server: see the how-to "Lose no message".

    Args:
        server: the server, or its URL: Redis 6, Valkey 7, or later.
        key: the name of the history, after the prefix of the URL. Give each history a different name.
        timeout: seconds for each command.
        max_calls: commands in flight. Further commands wait for their turn, within `timeout`.
        trust_restarts: True keeps the epoch when the server restarts, or another server takes its place, although the
            last messages may be lost. False keeps the epoch only if the server writes each message to its disk, with
            `appendonly yes` and `appendfsync always`.

    Raises:
        InvalidArgument: the URL has another form.
        InvalidOption: an option has an invalid value.

    A node starts whether the server is there or not. While it is away, appends and joins fail after `timeout`. Clients
    then try to join again. Redis Cluster is not supported.
    """

    name = "redis"
    is_shared = True
    publishes = True

    def __init__(
        self,
        server: RedisServer | str,
        *,
        key: str = "history",
        timeout: float = 5.0,
        max_calls: int = 100,
        trust_restarts: bool = False,
    ) -> None:
        self.server = RedisServer.of(server)
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            expected = "1 to 100 letters, digits and _.-"
            raise InvalidOption("RedisStorage", "key", key, expected)
        check_whole("RedisStorage", "max_calls", max_calls)
        check_positive("RedisStorage", "timeout", timeout)
        self.key = key
        self.timeout = timeout
        self.max_calls = max_calls
        self.trust_restarts = trust_restarts
        url = self.server.url
        self._keys = Keys.of(url.prefix, key, url.database)
        self._connections: RedisConnections | None = None
        self._limits = Limits()
        self._fresh_epoch = ""
        # The latest known epoch and size of the history.
        self._epoch = ""
        self._kept = Kept()

    def __repr__(self) -> str:
        return f"<RedisStorage {self.server.url} key {self.key!r}>"

    async def open(self, limits: Limits, *, fresh_epoch: str) -> None:
        """Take note of the limits. The processes connect to the server."""
        self._limits, self._fresh_epoch = limits, fresh_epoch
        self._kept = Kept()
        await trio.lowlevel.checkpoint()

    def processes(self, receiver: Receiver) -> Sequence[ChildSpec]:
        """Return the child specs of two connections: one for commands, and one for the publications of the nodes."""
        limits = self._limits
        self._connections = RedisConnections(
            self.server,
            self._keys,
            receiver,
            fresh_epoch=self._fresh_epoch,
            trust_restarts=self.trust_restarts,
            max_calls=self.max_calls,
            # The answer to a read contains the messages of a topic. The answer to an append contains new and old
            # answers to pushes.
            max_reply_bytes=limits.max_bytes
            + 2 * limits.max_answer_bytes
            + limits.kept * _ROOM_PER_MESSAGE
            + _ROOM,
        )
        return self._connections.children()

    def close(self) -> None:
        """Forget the connections, whose processes have ended."""
        self._connections = None

    async def append(
        self, batch: Sequence[NewMessage], *, now: float, answers: Sequence[NewAnswer] = ()
    ) -> Appended:
        """Keep messages and answers, and publish the messages to all nodes.

        Raises:
            StorageError: the server was away, answered with an error, or did not answer in time.
        """
        channel = self._keys.channel
        arguments = append_arguments(batch, answers, self._limits, channel, now)
        appended, kept = await self._run("append", arguments, parse_appended)
        self._note(appended.epoch, kept)
        return appended

    async def claim(self, topic: str, fence: int) -> Claimed:
        """Claim a topic. If the connection is lost, send the claim again within `timeout`.

        Raises:
            StorageError: as for `append`.
        """
        # The server recognizes a claim that it gets twice by its ID. To read the fence back would not be enough,
        # because another owner may have claimed an equal one.
        id = current_runtime().uuid().hex
        arguments = claim_arguments(topic, fence, self._limits, id, 2 * self.timeout)
        answer = await self._run("claim", arguments, parse_claimed, is_repeatable=True)
        epoch, claimed, kept = answer
        self._note(epoch, kept)
        return claimed

    async def recall(self, key: str, *, now: float) -> bytes | None:
        """Return a remembered answer.

        Raises:
            StorageError: as for `append`.
        """
        oldest = now - self._limits.max_answer_age
        return await self._run("recall", [key, repr(oldest)], parse_recalled)

    async def read(self, topic: str, *, after: int, limit: int, now: float) -> Slice:
        """Read a stream.

        Raises:
            StorageError: as for `append`.
        """
        oldest = now - self._limits.max_age
        return await self._run("read", read_arguments(topic, after, limit, oldest), parse_slice)

    async def ends(self, topics: Sequence[str]) -> Ends:
        """Read the last offset of each kept topic.

        Raises:
            StorageError: as for `append`.
        """
        epoch, offsets = "", dict[str, int]()
        for start in range(0, len(topics) or 1, _ENDS):
            some = topics[start : start + _ENDS]
            found, lasts, kept = await self._run("ends", [*some], parse_ends)
            self._note(found, kept)
            if found != epoch:
                # The server lost the history between two of these calls.
                epoch, offsets = found, {}
            offsets.update((each, last) for each, last in zip(some, lasts, strict=True) if last)
        return Ends(epoch, offsets)

    def _note(self, epoch: str, kept: Kept) -> None:
        """Note the size of the history, unless a later size is already noted."""
        if epoch != self._epoch or kept.appends >= self._kept.appends:
            self._epoch, self._kept = epoch, kept

    async def _run(
        self,
        verb: str,
        arguments: Sequence[str | int | bytes],
        parse: Callable[[Any], T],
        *,
        is_repeatable: bool = False,
    ) -> T:
        if self._connections is None:
            problem = "it is closed; start its history first"
            raise StorageError("redis", problem, may_be_kept=False)
        value = await self._connections.run(
            verb, arguments, self.timeout, is_repeatable=is_repeatable
        )
        try:
            return parse(value)
        except ValueError as error:
            raise StorageError("redis", f"the server sent {error}") from error

    def statistics(self) -> dict[str, int]:
        """Return the size of the history at the last append or check, and counters of the connections.

        `connected` is 1 if both connections are up. `disconnects` counts lost connections. `malformed` counts
        publications that did not come from a node.
        """
        kept, connections = self._kept, self._connections
        return {
            "topics": kept.topics,
            "messages": kept.messages,
            "bytes": kept.bytes,
            "keys": kept.keys,
            "fences": kept.fences,
            **({} if connections is None else connections.statistics()),
        }
