"""Fences: owners that claim a topic, appends of earlier owners, and claims whose answers get lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio

from actors import GenServer, Reply, Runtime, call, stop
from actors.errors import InvalidOption
from channels import PubSub
from channels.durable import (
    FenceRefused,
    History,
    HistoryError,
    MemoryStorage,
    RedisStorage,
    StorageError,
)
from channels.durable.storage import Appended, NewMessage
from channels.laboratory.simulated_redis import RedisClient
from channels.pubsub.redis.server import RedisServer
from channels.telemetry import (
    HISTORY_APPEND_FAILED,
    HISTORY_FENCE_REFUSED,
    HISTORY_FENCES_FORGOTTEN,
)
from channels.testing import open_channel_test
from supervision import Backoff
from tests.channels.durable.documents import TOPIC, Start, endpoint_of, joined
from tests.channels.durable.test_history import listen
from tests.channels.durable.test_pushes import Desk, desk_endpoint, edit, join
from tests.channels.pubsub.redis.resp_server import RespServer
from tests.channels.support import settle


class Interrupting(RespServer):
    """A server that closes the connection instead of its next answer to a script.

    Attributes:
        interruption: None, or a text: `"before"` closes the connection before the script runs, `"after"` after it.
    """

    interruption: str | None = None

    def _answer(self, client: RedisClient, command: list[bytes]) -> None:
        interruption = None
        if command[0] in (b"EVAL", b"EVALSHA"):
            interruption, self.interruption = self.interruption, None
        if interruption != "before":
            super()._answer(client, command)
        if interruption is not None:
            # The connection ends before its next checkpoint, where the answer would be sent.
            client.scope.cancel()


@pytest.fixture
async def server() -> AsyncIterator[Interrupting]:
    async with trio.open_nursery() as nursery:
        yield Interrupting(nursery)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def on_redis(server: RespServer, **options: Any) -> AsyncIterator[History]:
    """A history on a server, whose connections come back after a second."""
    storage = RedisStorage(
        RedisServer("redis://db", connect=server.connect, backoff=Backoff(1.0, 1.0)),
        **options,
    )
    history = History(storage)
    pid = await history.start_link(PubSub())
    await settle()
    yield history
    await stop(pid)


# Owners


class Counter(GenServer[int]):
    """An owner of a topic: its state is the number of its messages."""

    async def init(self, history: History, fence: int) -> None:
        self.history, self.fence = history, fence
        await history.claim(TOPIC, fence)
        found = await history.read(TOPIC)
        self.state = 0
        for entry in found.entries:
            self.state += msgspec.json.decode(entry.body)["by"]

    async def handle_call(self, request: Any, sender: Any) -> Any:
        await self.history.append(TOPIC, "edited", request, fence=self.fence)
        self.state += request["by"]
        return Reply(self.state)


async def test_a_later_owner_has_the_state_of_the_earlier_one_which_then_fails(
    runtime: Runtime,
) -> None:
    history = History()
    async with open_channel_test(endpoint_of(history)) as case:
        ann = await joined(case)
        early = await Counter.start(history, 5)
        assert await call(early, {"by": 3, "text": "three"}) == 3
        late = await Counter.start(history, 6)
        with pytest.raises(Exception, match="another owner has claimed the topic with fence 6"):
            await call(early, {"by": 100, "text": "a hundred"})
        assert await call(late, {"by": 4, "text": "four"}) == 7
        assert await ann.heard(2) == ["three", "four"]
        await ann.hears_nothing()


async def test_clients_hear_a_message_of_an_owner_only_after_it_is_kept(runtime: Runtime) -> None:
    class Held(MemoryStorage):
        gate = trio.Event()

        async def append(self, *args: Any, **options: Any) -> Appended:
            await self.gate.wait()
            return await super().append(*args, **options)

    storage = Held()
    history = History(storage)
    async with open_channel_test(endpoint_of(history)) as case, trio.open_nursery() as nursery:
        ann = await joined(case)
        counter = await Counter.start(history, 5)
        nursery.start_soon(call, counter, {"by": 1, "text": "one"})
        await ann.hears_nothing()
        storage.gate.set()
        assert await ann.heard(1) == ["one"]


# Errors


async def refusal(history: History, fence: int | None, *, claim: bool = False) -> FenceRefused:
    with pytest.raises(FenceRefused) as refused:
        if claim:
            assert fence is not None
            await history.claim(TOPIC, fence)
        else:
            await history.append(TOPIC, "edited", {}, fence=fence)
    return refused.value


@pytest.mark.parametrize(
    ("claimed", "fence", "is_claim", "advice"),
    [
        (6, 5, False, "another owner has claimed the topic with fence 6; stop this process"),
        (6, 7, False, "the claimed fence is 6; call History.claim, and then History.read"),
        (0, 7, False, "the storage has no fence for it; call History.claim"),
        (6, None, False, "an owner has claimed the topic with fence 6; send the message through"),
        (6, 5, True, "get a new fence of at least 7 if this process still owns the topic"),
        (6, 6, True, "get a new fence of at least 7 if this process still owns the topic"),
    ],
)
async def test_a_refusal_has_both_fences_and_the_correction(
    start: Start, claimed: int, fence: int | None, is_claim: bool, advice: str
) -> None:
    history = await start(History())
    if claimed:
        await history.claim(TOPIC, claimed)
    error = await refusal(history, fence, claim=is_claim)
    assert (error.topic, error.fence, error.claimed) == (TOPIC, fence, claimed)
    assert error.verb == ("claim" if is_claim else "append")
    assert advice in str(error)


async def test_refusals_are_counted_and_reported(runtime: Runtime, start: Start) -> None:
    failed = listen(runtime, HISTORY_APPEND_FAILED)
    heard = listen(runtime, HISTORY_FENCE_REFUSED)
    history = await start(History())
    await history.claim(TOPIC, 6)
    errors = [await refusal(history, 5), await refusal(history, 6, claim=True)]
    history.append_nowait(TOPIC, "edited", {}, fence=5)
    await settle()
    assert [each["error"] for each in heard[:2]] == errors
    assert (heard[2]["topic"], heard[2]["error"].fence) == (TOPIC, 5)
    assert history.statistics()["fence_refused"] == 3
    assert failed == []


async def test_forgotten_fences_are_counted_and_reported(runtime: Runtime, start: Start) -> None:
    heard = listen(runtime, HISTORY_FENCES_FORGOTTEN)
    history = await start(History(max_fences=1))
    await history.claim("a", 5)
    await history.claim("b", 6)
    assert [each["topics"] for each in heard] == [1]
    assert history.statistics()["fences_forgotten"] == 1


@pytest.mark.parametrize("fence", [0, -1, 1.0, True, 2**53, "5"])
async def test_a_fence_must_be_a_whole_number_that_every_storage_compares_exactly(
    start: Start, fence: Any
) -> None:
    history = await start(History())
    for use in (
        lambda: history.claim(TOPIC, fence),
        lambda: history.append(TOPIC, "edited", {}, fence=fence),
    ):
        with pytest.raises(InvalidOption, match=r"1 to 2\*\*53 - 1"):
            await use()
    with pytest.raises(InvalidOption):
        history.append_nowait(TOPIC, "edited", {}, fence=fence)


async def test_a_history_that_does_not_run_has_no_owners(runtime: Runtime) -> None:
    for use in (lambda: History().claim(TOPIC, 5), lambda: History().read(TOPIC)):
        with pytest.raises(HistoryError, match="not running"):
            await use()


async def test_a_claim_and_a_read_wait_for_the_storage_no_longer_than_the_timeout(
    start: Start,
) -> None:
    class Stuck(MemoryStorage):
        async def claim(self, topic: str, fence: int) -> Any:
            await trio.sleep_forever()

        async def read(self, topic: str, **options: Any) -> Any:
            await trio.sleep_forever()

    history = await start(History(Stuck(), timeout=3.0))
    for use in (lambda: history.claim(TOPIC, 5), lambda: history.read(TOPIC)):
        before = trio.current_time()
        with pytest.raises(StorageError, match=r"did not answer within 3\.0 seconds"):
            await use()
        assert trio.current_time() - before == 3.0


# Reading


async def test_a_read_has_every_kept_message_and_shows_if_the_first_ones_are_gone(
    start: Start,
) -> None:
    history = await start(History(max_messages=3))
    for number in range(3):
        await history.append(TOPIC, "edited", {"n": number})
    found = await history.read(TOPIC)
    assert (found.first, [entry.body for entry in found.entries]) == (
        1,
        [b'{"n":0}', b'{"n":1}', b'{"n":2}'],
    )
    await history.append(TOPIC, "edited", {"n": 3})
    assert (await history.read(TOPIC)).first == 2


# Batches


class Batches(MemoryStorage):
    """A storage that notes the sizes of its batches, and waits for a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = trio.Event()
        self.sizes: list[tuple[int, int]] = []

    async def append(
        self, batch: Sequence[NewMessage], *, now: float, answers: Sequence[Any] = ()
    ) -> Appended:
        await self.gate.wait()
        self.sizes.append((len(batch), len(answers)))
        return await super().append(batch, now=now, answers=answers)


async def test_a_refused_message_does_not_take_its_batch_with_it(start: Start) -> None:
    storage = Batches()
    history = await start(History(storage))
    await history.claim("mine", 6)
    positions: list[str] = []

    async def append(topic: str, fence: int | None) -> None:
        position = await history.append(topic, "edited", {}, fence=fence)
        positions.append(f"{topic} {position.partition(':')[2]}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(append, "first", None)
        await settle()
        for topic, fence in (("free", None), ("mine", 6), ("mine", 6)):
            nursery.start_soon(append, topic, fence)
            await settle()
        history.append_nowait("mine", "edited", {}, fence=5)
        storage.gate.set()
    assert storage.sizes == [(1, 0), (4, 0), (3, 0)]
    assert sorted(positions) == ["first 1", "free 1", "mine 1", "mine 2"]
    assert history.statistics()["appended"] == 4


async def test_an_answer_is_not_kept_if_the_message_of_its_handler_was_refused(
    runtime: Runtime,
) -> None:
    desk, storage = Desk(), Batches()
    storage.gate.set()
    history = History(storage)
    async with open_channel_test(desk_endpoint(history, desk)) as case:
        channel = await join(case)
        await history.claim(TOPIC, 6)
        channel.push("say", edit())
        await channel.assert_push("phx_error")
        assert storage.sizes == [(1, 1)]
        assert (history.statistics()["appended"], history.statistics()["answered"]) == (0, 0)


async def test_a_channel_cannot_write_to_a_topic_that_has_an_owner(runtime: Runtime) -> None:
    history = History()
    async with open_channel_test(endpoint_of(history)) as case:
        ann = await joined(case)
        await ann.edit("before")
        await history.claim(TOPIC, 6)
        ann.channel.push("edit", {"text": "after"})
        await ann.channel.assert_push("phx_error")
        assert await ann.heard(1) == ["before"]
        await history.append(TOPIC, "edited", {"text": "by the owner"}, fence=6)
        await ann.join_again()
        assert await ann.heard(1) == ["by the owner"]


# Claims on a server


@pytest.mark.parametrize("interruption", ["before", "after"])
async def test_a_claim_without_an_answer_is_sent_again_and_the_owner_goes_on(
    runtime: Runtime, server: Interrupting, interruption: str
) -> None:
    async with on_redis(server) as history:
        await history.claim(TOPIC, 5)
        server.interruption = interruption
        await history.claim(TOPIC, 6)
        assert history.statistics()["disconnects"] == 1
        assert (await history.append(TOPIC, "edited", {}, fence=6)).endswith(":1")


@pytest.mark.parametrize(("interruption", "fence"), [("before", 6), ("before", 7), ("after", 7)])
async def test_a_claim_that_is_sent_again_is_refused_if_another_owner_has_claimed_meanwhile(
    runtime: Runtime, server: Interrupting, interruption: str, fence: int
) -> None:
    async with on_redis(server) as one, on_redis(server) as other, trio.open_nursery() as nursery:
        errors: list[FenceRefused] = []

        async def claim() -> None:
            errors.append(await refusal(one, 6, claim=True))

        server.interruption = interruption
        nursery.start_soon(claim)
        await settle()
        await other.claim(TOPIC, fence)
        await trio.sleep(1.1)
        assert [each.claimed for each in errors] == [fence]
        assert (await other.append(TOPIC, "edited", {}, fence=fence)).endswith(":1")


async def test_a_claim_fails_after_the_timeout_while_the_server_is_away(
    runtime: Runtime, server: RespServer
) -> None:
    async with on_redis(server, timeout=3.0) as history:
        await server.kill()
        await settle()
        before = trio.current_time()
        with pytest.raises(StorageError, match="the server is away"):
            await history.claim(TOPIC, 6)
        assert trio.current_time() - before == 3.0
        server.start()
        await history.claim(TOPIC, 6)


async def test_a_server_that_lost_its_data_needs_a_new_claim(
    runtime: Runtime, server: RespServer
) -> None:
    async with on_redis(server) as history:
        await history.claim(TOPIC, 6)
        await history.append(TOPIC, "edited", {}, fence=6)
        await server.restart()
        assert (await refusal(history, 6)).claimed == 0
        await history.claim(TOPIC, 6)
        await history.append(TOPIC, "edited", {}, fence=6)
