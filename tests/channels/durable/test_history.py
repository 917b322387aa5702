"""Histories: refused and failed appends, their counters and events, and messages that get lost between nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import trio

from actors import Runtime, StartError, open_runtime, stop
from actors.errors import InvalidOption
from actors.runtime import Environment, current_environment
from channels import (
    Binary,
    Channel,
    Endpoint,
    PubSub,
    PushReply,
    Route,
    Socket,
    handle_in,
    handle_out,
)
from channels.durable import (
    AppendFailed,
    DurableChannel,
    History,
    HistoryError,
    HistoryLost,
    MemoryStorage,
    StorageError,
)
from channels.durable.storage import Appended, NewMessage
from channels.durable.stream import Limits
from channels.errors import EncodeError
from channels.telemetry import (
    HISTORY_APPEND_FAILED,
    HISTORY_CHECK_FAILED,
    HISTORY_EVICTED,
    HISTORY_FULL,
    HISTORY_GAP,
    HISTORY_LOST,
    HISTORY_NOT_SENT,
)
from channels.testing import ChannelTest, JoinedNodes, open_channel_test
from tests.channels.durable.documents import TOPIC, Start, endpoint_of, joined
from tests.channels.support import settle


def listen(runtime: Runtime, event: Any) -> list[dict[str, Any]]:
    heard: list[dict[str, Any]] = []
    runtime.telemetry.attach(event, lambda _, counts, about: heard.append({**counts, **about}))
    return heard


class Broken(MemoryStorage):
    """A storage that fails on demand, and can be held up."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False
        self.hold = trio.Event()
        self.hold.set()
        self.batches: list[int] = []

    async def append(self, batch: Sequence[NewMessage], **options: Any) -> Appended:
        self.batches.append(len(batch))
        await self.hold.wait()
        if self.fails:
            raise StorageError("broken", "the disk is full")
        return await super().append(batch, **options)

    async def ends(self, topics: Sequence[str]) -> Any:
        if self.fails:
            raise StorageError("broken", "the disk is full")
        return await super().ends(topics)


# Appending


async def test_an_append_to_a_storage_that_fails_raises_and_says_that_it_may_be_kept(
    runtime: Runtime,
    start: Start,
) -> None:
    storage = Broken()
    heard = listen(runtime, HISTORY_APPEND_FAILED)
    history = await start(History(storage))
    storage.fails = True
    with pytest.raises(AppendFailed, match="the disk is full") as failed:
        await history.append(TOPIC, "edited", {})
    assert failed.value.may_be_kept
    assert [about["error"] for about in heard] == [failed.value]
    storage.fails = False
    assert (await history.append(TOPIC, "edited", {})).endswith(":1")
    assert (history.statistics()["failed"], history.statistics()["appended"]) == (1, 1)


async def test_appends_that_wait_together_are_one_batch_of_a_bounded_size(start: Start) -> None:
    storage = Broken()
    history = await start(History(storage, max_batch=3))
    storage.hold = trio.Event()
    for _ in range(6):
        history.append_nowait(TOPIC, "edited", {})
        await settle()
    storage.hold.set()
    await settle()
    assert storage.batches == [1, 3, 2]


async def test_an_append_beyond_the_bound_of_the_queue_raises_at_once(
    runtime: Runtime, start: Start
) -> None:
    storage = Broken()
    heard = listen(runtime, HISTORY_FULL)
    history = await start(History(storage, max_waiting=2))
    storage.hold = trio.Event()
    history.append_nowait(TOPIC, "edited", {})
    await settle()
    history.append_nowait(TOPIC, "edited", {})
    history.append_nowait(TOPIC, "edited", {})
    with pytest.raises(AppendFailed) as failed:
        history.append_nowait(TOPIC, "edited", {})
    assert not failed.value.may_be_kept
    assert [about["waiting"] for about in heard] == [2]
    assert history.statistics()["refused"] == 1
    storage.hold.set()


async def test_an_append_that_waits_when_the_history_stops_raises(runtime: Runtime) -> None:
    storage = Broken()
    history = History(storage, max_batch=1)
    pid = await history.start_link(PubSub())
    storage.hold = trio.Event()
    errors: list[bool] = []

    async def append() -> None:
        with pytest.raises(AppendFailed) as failed:
            await history.append(TOPIC, "edited", {})
        errors.append(failed.value.may_be_kept)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(append)
        await settle()
        nursery.start_soon(append)
        await settle()
        await stop(pid)
    # The storage had the first one. The second had not left the queue.
    assert sorted(errors) == [False, True]


async def test_a_history_that_does_not_run_refuses_messages(runtime: Runtime) -> None:
    with pytest.raises(AppendFailed, match=r"not running; pass it to the endpoint"):
        History().append_nowait(TOPIC, "edited", {})


async def test_a_message_above_the_limit_of_a_topic_is_refused(start: Start) -> None:
    history = await start(History(max_bytes=20))
    with pytest.raises(AppendFailed):
        history.append_nowait(TOPIC, "e", {"text": "0123456789"})
    history.append_nowait(TOPIC, "e", {"text": "01234567"})
    assert history.statistics()["refused"] == 1


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ({"_position": "x:1"}, "rename the key"),
        (Binary(b"x"), "no room for a position"),
        ([1], "not a JSON object"),
        ({"x": object()}, "object"),
    ],
)
def test_a_payload_without_room_for_a_position_is_refused(payload: Any, problem: str) -> None:
    with pytest.raises(EncodeError, match=problem):
        History().append_nowait(TOPIC, "edited", payload)


async def test_a_payload_may_mention_the_key_of_the_position_deeper_inside(
    start: Start,
) -> None:
    history = await start(History())
    await history.append(TOPIC, "edited", {"old": {"_position": "x:1"}})


async def test_a_forgotten_topic_is_counted_and_reported(runtime: Runtime, start: Start) -> None:
    heard = listen(runtime, HISTORY_EVICTED)
    history = await start(History(max_topics=1))
    await history.append("a", "edited", {})
    await history.append("b", "edited", {})
    assert [about["topics"] for about in heard] == [1]
    assert history.statistics()["evicted"] == 1


# Starting


async def test_a_running_history_cannot_start_again(start: Start) -> None:
    history = await start(History())
    with pytest.raises(HistoryError, match="running already"):
        await history.start_link(PubSub())


async def test_a_history_in_memory_refuses_other_nodes(runtime: Runtime) -> None:
    pubsub = PubSub(JoinedNodes().adapter("a"))
    with pytest.raises(HistoryError, match="a storage that the nodes share"):
        await History().start_link(pubsub)


async def test_two_histories_of_one_endpoint_need_different_names() -> None:
    with pytest.raises(InvalidOption) as refused:
        Endpoint(sockets={}, histories=[History(), History()]).check()
    assert refused.value.option == "histories"


@pytest.mark.parametrize(
    "option",
    [
        *({name: 0} for name in ("max_messages", "max_bytes", "max_topics", "max_total_bytes")),
        *({name: 0} for name in ("max_replay", "max_waiting", "max_batch")),
        *({name: -1.0} for name in ("max_age", "check_interval", "timeout")),
        {"mode": "all"},
        {"name": ""},
    ],
)
def test_an_option_that_bounds_nothing_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption) as refused:
        History(**option)
    assert refused.value.option == next(iter(option))


@pytest.mark.parametrize("way", ["in the class", "nowhere", "in the route"])
async def test_an_endpoint_without_the_history_of_a_channel_does_not_start(way: str) -> None:
    class Document(DurableChannel):
        history = History() if way == "in the class" else None

    class Plain(Channel):
        pass

    class UserSocket(Socket):
        channels = {
            "document:*": Route("document:*", Plain, history=History())
            if way == "in the route"
            else Document
        }

    name = "Plain" if way == "in the route" else "Document"
    history = None if way == "nowhere" else "<history 'history' in memory>"
    endpoint = Endpoint(sockets={"/socket": UserSocket})
    with pytest.raises(HistoryError) as caught:
        endpoint.check()
    assert str(caught.value) == (
        f"{name} is a DurableChannel, and its history is {history}, which does not run in this endpoint; set "
        "`history = History(...)` in the class, and pass it to Endpoint(histories=[...])"
    )
    async with open_runtime(log=False):
        with pytest.raises(HistoryError):
            await endpoint.start_link(port=None)


async def test_endpoints_with_one_pubsub_may_share_a_history() -> None:
    first = endpoint_of(History())
    second = Endpoint(sockets=first.sockets, pubsub=first.pubsub)
    async with open_runtime(log=False):
        await first.start_link(port=None)
        await second.start_link(port=None)


async def test_a_channel_whose_history_does_not_run_refuses_every_join(
    caplog: pytest.LogCaptureFixture,
) -> None:
    endpoint = endpoint_of(History())
    async with open_channel_test(endpoint) as case:
        socket: Any = endpoint.sockets["/socket"]
        socket.channels["document:*"].history = History()
        client = await case.connect("/socket")
        answer, _ = await client.join(TOPIC)
        assert (answer.status, answer.response) == ("error", {"reason": "join crashed"})
    assert "pass it to Endpoint(histories=[...])" in caplog.text


# Channels


async def test_a_method_of_handle_out_gets_live_and_replayed_messages_with_their_positions() -> (
    None
):
    history = History()

    class Loud(DurableChannel):
        @handle_out("edited")
        async def edited(self, payload: Any) -> None:
            self.push("edited", {**payload, "text": payload["text"].upper()})

    Loud.history = history

    class UserSocket(Socket):
        channels = {"*": Loud}

    endpoint = Endpoint(sockets={"/socket": UserSocket}, histories=[history])
    async with open_channel_test(endpoint) as case:
        ann = await joined(case)
        await history.append(TOPIC, "edited", {"text": "a"})
        assert await ann.heard(1) == ["A"]
        await ann.lose()
        await history.append(TOPIC, "edited", {"text": "b"})
        await ann.join()
        assert await ann.heard(1) == ["B"]


async def test_a_durable_channel_broadcasts_to_all_or_not_at_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    history = History()

    class Both(DurableChannel):
        @handle_in("all")
        async def all(self, payload: Any) -> PushReply:
            self.broadcast("edited", payload)
            return PushReply()

        @handle_in("others")
        async def others(self, payload: Any) -> None:
            self.broadcast_from("edited", payload)

        @handle_in("cursor")
        async def cursor(self, payload: Any) -> None:
            self.push_latest("cursor", payload, key="a")
            self.broadcast_latest("cursor", payload, key="a")

    Both.history = history

    class UserSocket(Socket):
        channels = {"*": Both}

    endpoint = Endpoint(sockets={"/socket": UserSocket}, histories=[history])
    async with open_channel_test(endpoint) as case:
        ann = await joined(case)
        ann.channel.push("all", {"text": "a"})
        assert await ann.heard(1) == ["a"]
        ann.channel.push("others", {"text": "b"})
        await settle()
        await ann.join()
        ann.channel.push("cursor", {"at": 1})
        await ann.channel.assert_push("cursor", {"at": 1})
        await settle()
    assert "let the sender's client ignore its own messages" in caplog.text
    assert "called broadcast_latest('cursor', ...) on a durable topic" in caplog.text


# Time


class Clock(Environment):
    """An environment whose time of day is the clock of the test."""

    def now(self) -> float:
        return trio.current_time()


@pytest.mark.parametrize(("away", "reason"), [(9, None), (11, "too_old")])
async def test_a_message_is_kept_for_its_maximum_age(away: float, reason: str | None) -> None:
    history = History(max_age=10.0)
    token = current_environment.set(Clock())
    async with open_runtime(), open_channel_test(endpoint_of(history)) as case:
        ann = await joined(case)
        await ann.lose()
        await history.append(TOPIC, "edited", {"text": "a"})
        await trio.sleep(away)
        assert (await ann.join()).get("_reason") == reason
    current_environment.reset(token)


# Nodes


class Shared(MemoryStorage):
    """A storage in memory that several histories of one test share."""

    is_shared = True

    async def open(self, limits: Limits, *, fresh_epoch: str) -> None:
        if not self._epoch:
            await super().open(limits, fresh_epoch=fresh_epoch)

    def close(self) -> None:
        if not self._epoch:
            super().close()


class Two:
    """Two nodes with one storage, and a reader on each."""

    def __init__(self, **options: Any) -> None:
        self.nodes = JoinedNodes()
        storage = Shared()
        self.here, self.there = (History(storage, **options) for _ in range(2))
        self.endpoints = [
            endpoint_of(history, pubsub=PubSub(self.nodes.adapter(name)), secret_key_base="x" * 64)
            for history, name in ((self.here, "here"), (self.there, "there"))
        ]
        self.cases: list[ChannelTest] = []


@pytest.fixture
async def two(runtime: Runtime, options: dict[str, Any]) -> AsyncIterator[Two]:
    two = Two(**options)
    async with (
        open_channel_test(two.endpoints[0]) as here,
        open_channel_test(two.endpoints[1]) as there,
    ):
        two.cases = [here, there]
        yield two


async def test_a_message_reaches_the_clients_of_another_node(two: Two) -> None:
    ann = await joined(two.cases[1])
    position = await two.here.append(TOPIC, "edited", {"text": "a"})
    assert await ann.heard(1) == ["a"]
    assert ann.position == position


async def test_a_channel_reads_the_messages_that_were_lost_between_nodes(
    runtime: Runtime, two: Two
) -> None:
    gaps = listen(runtime, HISTORY_GAP)
    ann = await joined(two.cases[1])
    two.nodes.cut("here", "there")
    await two.here.append(TOPIC, "edited", {"text": "a"})
    await settle()
    two.nodes.heal()
    await two.here.append(TOPIC, "edited", {"text": "b"})
    assert await ann.heard(2) == ["a", "b"]
    await ann.hears_nothing()
    assert len(gaps) == two.there.statistics()["gaps"] == 1


@pytest.mark.parametrize("options", [{"check_interval": 30.0}])
async def test_the_check_finds_a_lost_message_that_none_follows(two: Two) -> None:
    ann = await joined(two.cases[1])
    two.nodes.cut("here", "there")
    await two.here.append(TOPIC, "edited", {"text": "a"})
    await ann.hears_nothing()
    await trio.sleep(31)
    assert await ann.heard(1) == ["a"]


@pytest.mark.parametrize("options", [{"max_messages": 1}])
async def test_a_channel_crashes_if_the_messages_that_it_missed_are_gone(
    runtime: Runtime, two: Two
) -> None:
    crashes = listen(runtime, ("actors", "process", "crash"))
    lost = listen(runtime, HISTORY_LOST)
    ann = await joined(two.cases[1])
    two.nodes.cut("here", "there")
    await two.here.append(TOPIC, "edited", {"text": "a"})
    await settle()
    two.nodes.heal()
    await two.here.append(TOPIC, "edited", {"text": "b"})
    await ann.channel.assert_push("phx_error")
    assert (await ann.join_again())["_reason"] == "too_old"
    assert [about["reason"] for about in lost] == ["too_old"]
    assert [HistoryLost.__name__ in str(about["reason"]) for about in crashes] == [True]


async def test_a_message_too_large_for_the_adapter_arrives_with_the_next_check(
    runtime: Runtime,
) -> None:
    two = Two(check_interval=30.0)
    two.endpoints[0].pubsub.use(two.nodes.adapter("small", max_bytes=500))
    heard = listen(runtime, HISTORY_NOT_SENT)
    async with (
        open_channel_test(two.endpoints[0]) as here,
        open_channel_test(two.endpoints[1]) as there,
    ):
        ann, bob = await joined(here), await joined(there)
        text = "x" * 1000
        await two.here.append(TOPIC, "edited", {"text": text})
        assert await ann.heard(1) == [text]
        assert len(heard) == two.here.statistics()["not_sent"] == 1
        await trio.sleep(31)
        assert await bob.heard(1) == [text]


async def test_a_check_that_fails_is_reported_and_repeated(runtime: Runtime, start: Start) -> None:
    storage = Broken()
    heard = listen(runtime, HISTORY_CHECK_FAILED)
    await start(History(storage, check_interval=30.0))
    storage.fails = True
    await trio.sleep(61)
    assert len(heard) == 2


async def test_a_storage_that_cannot_be_opened_is_a_start_error() -> None:
    class Absent(MemoryStorage):
        async def open(self, limits: Limits, *, fresh_epoch: str) -> None:
            raise StorageError("absent", "no such disk")

    with pytest.raises(StartError, match="no such disk"):
        async with open_channel_test(endpoint_of(History(Absent()))):
            pass
