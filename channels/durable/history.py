"""Histories: the messages of durable topics, numbered, kept for a while, and sent to the clients.

    append, append_nowait ──▶ bounded queue ──▶ writer ──▶ storage.append (one batch at a time)
                                                  │ kept
                                                  ▼
                              channels of this node, then other nodes ──▶ the caller of `append` goes on

A storage with `publishes` delivers the messages itself, to all nodes in one order. The storage keeps every message
before any client gets it. Channels read missed messages from the storage.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import trio
from attrs import evolve

from actors.arguments import check_number, check_positive, check_whole
from actors.errors import InvalidOption, StartIgnored
from actors.instrumentation.telemetry import Event
from actors.process import current_pid, on_exit, send
from actors.refs import Pid
from actors.runtime import Runtime, current_runtime
from actors.threads import run_threadsafe
from channels.durable.answers import KeyedPush
from channels.durable.logger import attach
from channels.durable.memory import MemoryStorage
from channels.durable.queue import Queue, Waiting, encode_payload
from channels.durable.storage import (
    MAX_FENCE,
    AnswerNotKept,
    Appended,
    AppendFailed,
    FenceRefused,
    HistoryError,
    NewAnswer,
    NewMessage,
    Storage,
    StorageError,
)
from channels.durable.stream import (
    Entry,
    Limits,
    Mode,
    Position,
    Recovery,
    Slice,
    recover,
)
from channels.errors import ChannelsError
from channels.pubsub.local import Subscription
from channels.pubsub.pubsub import PubSub
from channels.telemetry import (
    HISTORY_ANSWER_REFUSED,
    HISTORY_ANSWERS_FORGOTTEN,
    HISTORY_APPEND_FAILED,
    HISTORY_CHECK_FAILED,
    HISTORY_EVICTED,
    HISTORY_FENCE_REFUSED,
    HISTORY_FENCES_FORGOTTEN,
    HISTORY_FULL,
    HISTORY_GAP,
    HISTORY_LOST,
    HISTORY_NOT_SENT,
    HISTORY_STARTED,
)
from channels.topics import INTERNAL
from supervision.child_spec import ChildSpec, process_spec
from supervision.supervisor import Supervisor

__all__ = ["End", "History"]

_COUNTED = (
    "appended",
    "failed",
    "refused",
    "evicted",
    "gaps",
    "lost",
    "replayed",
    "shared",
    "not_sent",
    "answered",
    "repeated",
    "forgotten",
    "fence_refused",
    "fences_forgotten",
)
# The storage may have more than `max_messages` of a topic, if a former History had a greater limit.
_ALL = 2**53 - 1
# Seconds until the history repeats a failed check.
_RETRY = 1.0


class _Read:
    """A read for one or more channels of a topic.

    Attributes:
        after: the lowest offset from which a channel reads.
        limit: the maximum number of messages.
        waiting: the number of channels that wait for it.
        ended: set when an attempt has ended. If the channel that made it was cancelled, another one makes the next.
        found: the result.
        error: the failure of the storage.
    """

    __slots__ = ("after", "ended", "error", "found", "limit", "waiting")

    def __init__(self, after: int, limit: int) -> None:
        self.after = after
        self.limit = limit
        self.waiting = 0
        self.ended = trio.Event()
        self.found: Slice | None = None
        self.error: StorageError | None = None


class End:
    """A history's message to the channels of a topic: the last offset in the storage."""

    __slots__ = ("position",)

    def __init__(self, position: Position) -> None:
        self.position = position


class History:
    """The kept messages of durable topics.

        history = History(SQLiteStorage("history.db"))
        endpoint = Endpoint(sockets={"/socket": UserSocket}, histories=[history])

    Args:
        storage: the storage of the messages; by default `MemoryStorage`, whose messages a restart loses.
        name: the name of the history in logs, and between nodes. Give each history of an endpoint a different name.
        mode: `"stream"` replays every message that a client missed. `"latest"` keeps only the last message of each
            topic, and sends it to new clients too.
        max_messages: messages that a topic keeps.
        max_bytes: bytes of messages that a topic keeps. The history refuses a larger message.
        max_age: seconds that a message is kept.
        max_topics: topics that the storage keeps. The storage first forgets the topics whose last message is the
            oldest.
        max_total_bytes: bytes of messages that all topics keep together.
        max_answers: keys of pushes that the storage remembers. Each push has one key for its answer, and one for each
            message that its handler appended. The storage forgets the oldest keys first.
        max_answer_bytes: bytes of these keys and answers. The storage does not remember a larger answer.
        max_answer_age: seconds that the storage remembers these keys.
        max_fences: topics whose claimed fence the storage remembers. The storage forgets the oldest claims first.
        max_replay: messages that one client gets when it rejoins; by default `max_messages`. They count towards the
            limit of the client's out-buffer, `Endpoint(max_buffered_messages=)`.
        max_waiting: messages that wait for the storage. If more would wait, `append` raises.
        max_batch: messages that the storage gets at once.
        check_interval: seconds between two checks of the joined topics for messages that did not arrive.
        timeout: seconds that a join waits for the storage.

    Raises:
        InvalidOption: an option is invalid.
    """

    def __init__(
        self,
        storage: Storage | None = None,
        *,
        name: str = "history",
        mode: Mode = "stream",
        max_messages: int = 100,
        max_bytes: int = 1024 * 1024,
        max_age: float = 300.0,
        max_topics: int = 10_000,
        max_total_bytes: int = 256 * 1024 * 1024,
        max_answers: int = 10_000,
        max_answer_bytes: int = 16 * 1024 * 1024,
        max_answer_age: float = 300.0,
        max_fences: int = 1_000_000,
        max_replay: int | None = None,
        max_waiting: int = 10_000,
        max_batch: int = 100,
        check_interval: float = 30.0,
        timeout: float = 5.0,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise InvalidOption("History", "name", name, "text")
        self.storage: Storage = MemoryStorage() if storage is None else storage
        self.name = name
        self.limits = Limits(
            mode=mode,
            max_messages=max_messages,
            max_bytes=max_bytes,
            max_age=max_age,
            max_topics=max_topics,
            max_total_bytes=max_total_bytes,
            max_answers=max_answers,
            max_answer_bytes=max_answer_bytes,
            max_answer_age=max_answer_age,
            max_fences=max_fences,
        )
        self.max_replay = max_messages if max_replay is None else max_replay
        self.max_waiting = max_waiting
        self.max_batch = max_batch
        self.check_interval = check_interval
        self.timeout = timeout
        for option in ("max_replay", "max_waiting", "max_batch"):
            check_whole("History", option, getattr(self, option))
        for option in ("check_interval", "timeout"):
            check_positive("History", option, getattr(self, option))
        self._pubsub: PubSub | None = None
        self._runtime: Runtime | None = None
        self._queue = Queue()
        # Set if messages may not have arrived.
        self._doubt = trio.Event()
        # The number of joined channels on this node, by topic.
        self._followed: dict[str, int] = {}
        # The pushes with a key whose handlers run on this node. One dict has the event for the end of each push, by the
        # name of the push. The other has the name, by channel.
        self._handled: dict[str, trio.Event] = {}
        self._handlers: dict[Pid, str] = {}
        # The reads for channels, by topic: those under way, and those that have not begun.
        self._reading: dict[str, _Read] = {}
        self._next_reads: dict[str, _Read] = {}
        self._counts = dict.fromkeys(_COUNTED, 0)

    def __repr__(self) -> str:
        return f"<history {self.name!r} in {self.storage.name}>"

    # Starting

    def child_spec(self, pubsub: PubSub) -> ChildSpec:
        """Return a child spec for a supervisor. An endpoint uses it.

        Args:
            pubsub: carries the messages to the channels.
        """
        return ChildSpec(f"history {self.name}", self.start_link, args=(pubsub,), type="supervisor")

    async def start_link(self, pubsub: PubSub) -> Pid:
        """Open the storage, and start the processes of the history under a supervisor.

        Args:
            pubsub: carries the messages to the channels.

        Returns:
            The pid of the supervisor.

        Raises:
            HistoryError: the history is running, or its storage cannot serve several nodes.
            StorageError: the storage cannot be opened.
            StartError: a process did not start.
        """
        if self._pubsub is not None:
            raise HistoryError(f"{self!r} is running already; make another History")
        if not self.storage.is_shared and not pubsub.is_local:
            raise HistoryError(
                f"{self!r} is for one node, but the PubSub has the {pubsub.adapter.name} adapter to others; use a "
                "storage that the nodes share, such as SQLiteStorage for the workers of one machine"
            )
        runtime = current_runtime()
        await self.storage.open(self.limits, fresh_epoch=f"{runtime.random.getrandbits(64):016x}")
        self._runtime, self._pubsub = runtime, pubsub
        self.execute(HISTORY_STARTED, {}, {})
        children = [
            ChildSpec("storage", self._hold, restart="temporary"),
            *self.storage.processes(self),
            process_spec(self._write, id="writer"),
            process_spec(self._check, id="checker"),
        ]
        try:
            return await Supervisor.start_link(children, label=f"history {self.name}")
        except BaseException:
            self._stopped()
            raise

    async def _hold(self) -> Pid:
        """Log events, and close the storage when the supervisor ends.

        Runs in the supervisor's process, and starts none.
        """
        on_exit(attach(current_runtime().telemetry, self))
        on_exit(self._stopped)
        raise StartIgnored

    def _stopped(self) -> None:
        self._pubsub = None
        self._fail(self._queue.take_all(), "the history has stopped")
        self.storage.close()

    def is_running_on(self, pubsub: PubSub) -> bool:
        """Return True if the history runs and sends its messages through this PubSub."""
        return self._pubsub is pubsub

    # Owning a topic

    async def claim(self, topic: str, fence: int) -> None:
        """Become the owner of a topic: from now on, the storage accepts only appends with this fence.

            await history.claim("auction:42", self.fence)
            found = await history.read("auction:42")
            ...
            await history.append("auction:42", "bid", {"price": 100}, fence=self.fence)

        Claim before you read. Otherwise the earlier owner can still append after your read. Each owner needs a fence
        that is greater than the fences of all earlier owners of the topic.

        Args:
            topic: the topic.
            fence: a whole number from 1 to 2**53 - 1, from the authority that chose this owner, such as `Entity.fence`.

        Raises:
            FenceRefused: the topic has this fence or a greater one. Get a fence of at least `claimed + 1`, or stop. An
                `Entity` gets one if its `init` raises this error.
            HistoryError: the history does not run.
            StorageError: the storage failed, or took longer than `timeout`. The fence may or may not be claimed.
            InvalidOption: the fence is not such a number.
        """
        _check_fence("History.claim", fence)
        self._running()
        with self._limited():
            claimed = await self.storage.claim(topic, fence)
        if claimed.forgotten:
            self._counts["fences_forgotten"] += claimed.forgotten
            self.execute(HISTORY_FENCES_FORGOTTEN, {"topics": claimed.forgotten}, {})
        if claimed.refused is not None:
            error = FenceRefused(topic, fence, claimed.refused, verb="claim")
            self._note_fence_refused(error)
            raise error

    async def read(self, topic: str) -> Slice:
        """Read all kept messages of a topic, oldest first.

            for entry in (await history.read("auction:42")).entries:
                apply(entry.event, msgspec.json.decode(entry.body))

        Args:
            topic: the topic.

        Returns:
            The messages, and the bounds of the stream. If `first` is above 1, the storage has forgotten the first
            messages because of the limits of the history, such as `max_age`.

        Raises:
            HistoryError: the history does not run.
            StorageError: the storage failed, or took longer than `timeout`.
        """
        _, runtime = self._running()
        with self._limited():
            return await self.storage.read(topic, after=0, limit=_ALL, now=runtime.now())

    def _running(self) -> tuple[PubSub, Runtime]:
        pubsub, runtime = self._pubsub, self._runtime
        if pubsub is None or runtime is None:
            raise HistoryError(f"{self!r} is not running; pass it to Endpoint(histories=[...])")
        return pubsub, runtime

    def _note_fence_refused(self, error: FenceRefused) -> None:
        self._counts["fence_refused"] += 1
        self.execute(HISTORY_FENCE_REFUSED, {}, {"topic": error.topic, "error": error})

    # Appending

    async def append(
        self,
        topic: str,
        event: str,
        payload: Any,
        *,
        fence: int | None = None,
        push: KeyedPush | None = None,
    ) -> str:
        """Keep a message, send it to every client of the topic, and return its position.

            position = await history.append("document:1", "edited", {"text": "hello"})

        This returns after the storage has kept the message, and all messages before it. If the calling task is
        cancelled, the history may still keep the message.

        Args:
            topic: the topic.
            event: the name of the event.
            payload: a JSON object without the key `_position`.
            fence: the fence that the calling owner has claimed. A topic with a claimed fence needs it.
            push: the push whose handler appends; for `DurableChannel`.

        Raises:
            EncodeError: the payload is not such an object.
            FenceRefused: the fence is not the one that was claimed last. The caller must stop.
            AppendFailed: the history does not run, too many messages wait, the message is too large, or the storage
                failed.
            InvalidOption: the fence is not a whole number from 1 to 2**53 - 1.
        """
        message = _new_message("History.append", topic, event, payload, fence)
        waiting = self._append(message, trio.Event(), push)
        assert waiting.done is not None  # made above
        await waiting.done.wait()
        if waiting.error is not None:
            raise waiting.error
        return str(waiting.position)

    def append_nowait(
        self,
        topic: str,
        event: str,
        payload: Any,
        *,
        fence: int | None = None,
        push: KeyedPush | None = None,
    ) -> None:
        """Keep a message and send it, soon. Any thread can call this.

        The caller does not learn whether the storage failed or refused the message: see `HISTORY_APPEND_FAILED` and
        `HISTORY_FENCE_REFUSED`. The arguments and the other errors are the same as for `append`.
        """
        message = _new_message("History.append_nowait", topic, event, payload, fence)
        runtime = self._runtime
        if runtime is not None and get_ident() != runtime.thread:
            run_threadsafe(runtime, self._append, message, None, None)
        else:
            self._append(message, None, push)

    def _append(
        self, message: NewMessage, done: trio.Event | None, push: KeyedPush | None
    ) -> Waiting:
        topic = message.topic
        most = min(self.limits.max_bytes, self.limits.max_total_bytes)
        problem = self._objection(topic)
        is_too_large = problem is None and message.size > most
        if is_too_large:
            self._counts["refused"] += 1
            problem = (
                f"it has {message.size} bytes, and the limit is {most}; raise History(max_bytes=)"
            )
        if problem is not None:
            raise AppendFailed(topic, message.event, problem, is_too_large=is_too_large)
        if push is not None:
            key = push.next_key()
            message = NewMessage(topic, message.event, message.body, key, message.fence)
        waiting = Waiting(message, done, push)
        self._queue.put(waiting)
        return waiting

    def _objection(self, topic: str) -> str | None:
        """Return the reason why nothing can be appended now; None if there is none."""
        if self._pubsub is None:
            return f"{self!r} is not running; pass it to the endpoint, Endpoint(histories=[...])"
        waiting = len(self._queue)
        if waiting < self.max_waiting:
            return None
        self._counts["refused"] += 1
        self.execute(HISTORY_FULL, {"waiting": waiting}, {"topic": topic})
        return f"{waiting} messages wait for the storage, the limit of History(max_waiting=)"

    async def _write(self) -> None:
        """Give the waiting messages to the storage, in batches. Messages that arrive meanwhile are the next batch."""
        while True:
            batch = self._fail_in_vain(await self._queue.next_batch(self.max_batch))
            if not batch:
                await trio.lowlevel.checkpoint()
                continue
            try:
                while batch:
                    batch = await self._commit(batch)
            except StorageError as error:
                self._fail(batch, error.problem, may_be_kept=error.may_be_kept)
            except BaseException:
                self._fail(batch, "the history has stopped", may_be_kept=True)
                raise

    def _fail_in_vain(self, batch: list[Waiting]) -> list[Waiting]:
        in_vain = [each for each in batch if each.is_in_vain]
        self._fail(in_vain, "a message of its handler was not kept")
        return [each for each in batch if each.error is None]

    async def _commit(self, batch: list[Waiting]) -> list[Waiting]:
        """Give a batch to the storage. Return the rest that the storage must get again, because it kept nothing."""
        runtime = self._runtime
        assert runtime is not None  # set before the writer starts
        messages = [each.item for each in batch if isinstance(each.item, NewMessage)]
        answers = [each.item for each in batch if isinstance(each.item, NewAnswer)]
        appended = await self.storage.append(messages, now=runtime.now(), answers=answers)
        # From here on there is no checkpoint, so that channels get the messages in the order of their offsets.
        if appended.refused:
            self._refuse(batch, appended.refused)
            return self._fail_in_vain([each for each in batch if not each.is_settled])
        self._count_appended(appended, len(messages))
        offsets, kept = enumerate(appended.offsets), iter(appended.answers)
        for waiting in batch:
            item = waiting.item
            if isinstance(item, NewAnswer):
                waiting.answer = next(kept)
            else:
                place, offset = next(offsets)
                waiting.position = Position(appended.epoch, offset)
                if place not in appended.repeated and not self.storage.publishes:
                    entry = Entry(appended.epoch, offset, item.event, item.body)
                    self._send(item.topic, entry)
            waiting.settle()
        return []

    def _refuse(self, batch: list[Waiting], refused: Mapping[int, int]) -> None:
        messages = [(each, each.item) for each in batch if isinstance(each.item, NewMessage)]
        for place, claimed in refused.items():
            waiting, message = messages[place]
            error = FenceRefused(message.topic, message.fence, claimed, verb="append")
            waiting.raise_soon(error)
            self._note_fence_refused(error)

    def _count_appended(self, appended: Appended, messages: int) -> None:
        counts = self._counts
        counts["appended"] += messages - len(appended.repeated)
        counts["answered"] += len(appended.answers)
        if appended.evicted:
            counts["evicted"] += appended.evicted
            self.execute(HISTORY_EVICTED, {"topics": appended.evicted}, {})
        if appended.forgotten:
            counts["forgotten"] += appended.forgotten
            self.execute(HISTORY_ANSWERS_FORGOTTEN, {"keys": appended.forgotten}, {})

    def _fail(self, batch: Iterable[Waiting], problem: str, *, may_be_kept: bool = False) -> None:
        for waiting in batch:
            if not waiting.is_settled:
                error = waiting.fail(problem, may_be_kept=may_be_kept)
                self._counts["failed"] += 1
                about = {"topic": waiting.topic, "error": error}
                self.execute(HISTORY_APPEND_FAILED, {}, about)

    # Pushes with a key

    async def begin(self, push: KeyedPush, channel: Pid) -> bytes | None:
        """Return the answer to an earlier push with the same key. If there is none, begin to handle this one.

        This waits while another channel of this node handles a push with the key. Call `end` afterwards. If the channel
        ends before, the history calls `end`.

        Raises:
            StorageError: the storage failed, or took longer than `timeout`.
        """
        runtime = self._runtime
        assert runtime is not None  # the channel follows its topic
        while (end := self._handled.get(push.name)) is not None:
            await end.wait()
        self._handled[push.name] = trio.Event()
        self._handlers[channel] = push.name
        with self._limited():
            answer = await self.storage.recall(push.name, now=runtime.now())
        if answer is not None:
            self._counts["repeated"] += 1
        return answer

    def end(self, channel: Pid) -> None:
        """End the handling of the push that a channel has begun, if there is one."""
        name = self._handlers.pop(channel, None)
        if name is not None:
            self._handled.pop(name).set()

    async def keep_answer(self, push: KeyedPush, answer: bytes) -> bytes:
        """Remember the answer to a push, and return the first answer for its key.

        If another node has answered the push meanwhile, that answer is the first. The storage keeps
        the answer in the same step as the messages that the handler has appended without waiting.

        Raises:
            AnswerNotKept: the storage did not keep the answer or a message of the handler, or may not have kept it.
        """
        item = NewAnswer(push.name, answer)
        most = self.limits.max_answer_bytes
        if item.size > most:
            self._counts["refused"] += 1
            about = {"topic": push.topic, "event": push.event}
            self.execute(HISTORY_ANSWER_REFUSED, {"bytes": item.size, "limit": most}, about)
            return answer
        problem = self._objection(push.topic)
        if problem is not None:
            raise AnswerNotKept(push.topic, push.event, problem)
        done = trio.Event()
        waiting = Waiting(item, done, push)
        self._queue.put(waiting)
        await done.wait()
        if waiting.error is not None:
            raise waiting.error
        assert waiting.answer is not None  # it is settled
        return waiting.answer

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Limit the time of a channel that waits for the storage."""
        try:
            with trio.fail_after(self.timeout):
                yield
        except trio.TooSlowError:
            problem = f"it did not answer within {self.timeout} seconds"
            raise StorageError(self.storage.name, problem) from None

    # Delivering

    def lane(self, topic: str) -> str:
        """Return the topic of the PubSub that carries the messages of a durable topic."""
        return f"{INTERNAL}history:{self.name}:{topic}"

    def _send(self, topic: str, entry: Entry) -> None:
        pubsub = self._pubsub
        if pubsub is None:
            return
        lane = self.lane(topic)
        pubsub.local_broadcast(lane, entry, dispatcher=self._dispatch)
        if not pubsub.is_local:
            value = [lane, entry.epoch, entry.offset, entry.event, entry.body.decode()]
            try:
                pubsub.broadcast(lane, value, dispatcher=_nobody)
            except ChannelsError as error:
                # The message is too large for the adapter. The other nodes find it in the storage at their next check.
                self._counts["not_sent"] += 1
                self.execute(HISTORY_NOT_SENT, {}, {"topic": topic, "error": error})

    def _dispatch(
        self, subscriptions: Iterable[Subscription], sender: Pid | None, message: Any
    ) -> None:
        # Send only to the channels of this history. A client may have joined a topic with the same name as the lane.
        for subscription in subscriptions:
            if subscription.metadata is self:
                send(subscription.pid, message)

    # For the storage

    def receive(self, topic: str, entry: Entry) -> None:
        """Deliver a message that the storage has kept and published. See `Receiver`."""
        pubsub = self._pubsub
        if pubsub is not None and topic in self._followed:
            pubsub.local_broadcast(self.lane(topic), entry, dispatcher=self._dispatch)

    def check(self) -> None:
        """Check the joined topics for missing messages soon, before `check_interval` is over."""
        self._doubt.set()

    def execute(
        self, event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        """Execute a telemetry event about this history."""
        if self._runtime is not None:
            self._runtime.telemetry.execute(event, measurements, {"history": self, **metadata})

    # For the channels

    def follow(self, topic: str) -> None:
        """Send each `Entry` of a topic to the current process, until it ends."""
        pubsub, _ = self._running()
        pubsub.subscribe(self.lane(topic), metadata=self)
        self._followed[topic] = self._followed.get(topic, 0) + 1
        channel = current_pid()
        on_exit(lambda: self._unfollow(topic, channel))

    def _unfollow(self, topic: str, channel: Pid) -> None:
        self.end(channel)
        left = self._followed[topic] - 1
        if left:
            self._followed[topic] = left
        else:
            del self._followed[topic]

    async def recover(self, topic: str, position: Position | None) -> Recovery:
        """Read the messages that a client gets when it joins with a position.

        Raises:
            StorageError: the storage failed, or took longer than `timeout`.
        """
        after = 0 if position is None or self.limits.mode == "latest" else position.offset
        with self._limited():
            found = await self._read_together(topic, after)
        recovery = recover(position, found, mode=self.limits.mode, max_replay=self.max_replay)
        self._counts["replayed"] += len(recovery.entries)
        return recovery

    async def _read_together(self, topic: str, after: int) -> Slice:
        """Read a stream, together with all channels of the topic that ask before the read begins.

        A read that has begun may lack messages that the storage has kept since. So there is at most one read of a topic
        at a time, and channels that ask meanwhile share the next one.
        """
        read = self._next_reads.get(topic)
        if read is None:
            read = self._next_reads[topic] = _Read(after, self.max_replay)
        elif after != read.after:
            # The bounds of the history bound this read. A channel that is too far behind gets no message of it.
            read.after, read.limit = min(after, read.after), _ALL
        read.waiting += 1
        try:
            while read.found is None:
                if read.error is not None:
                    raise StorageError(read.error.storage, read.error.problem) from read.error
                if (running := self._reading.get(topic)) is not None:
                    await running.ended.wait()
                else:
                    await self._begin_read(topic, read)
        finally:
            read.waiting -= 1
            if not read.waiting and self._next_reads.get(topic) is read:
                del self._next_reads[topic]
        found = read.found
        if after == read.after:
            return found
        begin = bisect_right(found.entries, after, key=lambda entry: entry.offset)
        return evolve(found, entries=found.entries[begin : begin + self.max_replay])

    async def _begin_read(self, topic: str, read: _Read) -> None:
        """Read for all channels that wait for this read."""
        runtime = self._runtime
        assert runtime is not None  # the channel follows the topic
        if self._next_reads.get(topic) is read:
            del self._next_reads[topic]
        self._reading[topic] = read
        try:
            read.found = await self.storage.read(
                topic, after=read.after, limit=read.limit, now=runtime.now()
            )
            self._counts["shared"] += read.waiting - 1
        except StorageError as error:
            read.error = error
        finally:
            del self._reading[topic]
            read.ended.set()
            read.ended = trio.Event()

    def note_gap(self, topic: str, position: Position, end: Position) -> None:
        """Count a channel that missed messages and now reads them from the storage."""
        self._counts["gaps"] += 1
        about = {"topic": topic, "position": str(position), "end": str(end), "pid": current_pid()}
        self.execute(HISTORY_GAP, {}, about)

    def note_lost(self, topic: str, position: Position, reason: str) -> None:
        """Count a channel that missed messages which the storage no longer keeps."""
        self._counts["lost"] += 1
        about = {"topic": topic, "position": str(position), "reason": reason, "pid": current_pid()}
        self.execute(HISTORY_LOST, {}, about)

    # Checking

    async def _check(self) -> None:
        """Tell the channels the ends of their streams at regular times, so that they notice lost messages."""
        while True:
            with trio.move_on_after(self.check_interval):
                await self._doubt.wait()
            doubted = self._doubt.is_set()
            self._doubt = trio.Event()
            topics = list(self._followed)
            try:
                ends = await self.storage.ends(topics)
            except StorageError as error:
                self.execute(HISTORY_CHECK_FAILED, {}, {"error": error})
                if doubted:
                    await trio.sleep(min(_RETRY, self.check_interval))
                    self._doubt.set()
                continue
            pubsub = self._pubsub
            if pubsub is None:
                return
            for topic in topics:
                # For a forgotten topic, the channels only compare the epoch.
                end = End(Position(ends.epoch, ends.offsets.get(topic, 0)))
                pubsub.local_broadcast(self.lane(topic), end, dispatcher=self._dispatch)

    def statistics(self) -> dict[str, int]:
        """Return the numbers of kept and waiting messages, and counters since you created this `History`.

        Counters of messages: `appended`; `failed` in the storage; `refused`, because too many waited or the message was
        too large; `replayed` to clients; `not_sent` to other nodes. Counters of channels: `gaps` found, `lost`
        messages, and reads `shared` with another channel. Counters of pushes: `answered`, with a kept answer;
        `repeated`, with the first answer. `evicted` counts topics. `forgotten` counts keys of pushes that the storage
        forgot before `max_answer_age`, and `fences_forgotten` fences that it forgot because of `max_fences`.
        `fence_refused` counts claims with an old fence, and appends with another fence than the claimed one.
        """
        stored = self.storage.statistics() if self._pubsub is not None else {}
        return {
            **stored,
            "waiting": len(self._queue),
            "followed": len(self._followed),
            "handling": len(self._handled),
            **self._counts,
        }


def _check_fence(owner: str, fence: object) -> None:
    expected = "a whole number from 1 to 2**53 - 1"
    check_number(owner, "fence", fence, expected, least=1, most=MAX_FENCE, whole=True)


def _new_message(owner: str, topic: str, event: str, payload: Any, fence: int | None) -> NewMessage:
    if fence is not None:
        _check_fence(owner, fence)
    return NewMessage(topic, event, encode_payload(topic, event, payload), fence=fence)


def _nobody(subscriptions: Iterable[Subscription], sender: Pid | None, message: Any) -> None:
    """Deliver to no one on this node: the history has already delivered the message here."""
