"""The storage in Redis, on a server in memory: two nodes, lost publications, lost answers, and lost histories."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from actors import Runtime, stop
from actors.errors import InvalidOption
from channels import PubSub
from channels.durable import AppendFailed, History, RedisStorage, StorageError
from channels.durable.redis_script import Keys, parse_publication
from channels.durable.storage import NewMessage
from channels.pubsub.redis.server import RedisServer
from channels.telemetry import (
    HISTORY_CHECK_FAILED,
    HISTORY_CONNECTED,
    HISTORY_DISCONNECTED,
    HISTORY_GAP,
)
from channels.testing import ChannelTest, open_channel_test
from supervision import Backoff
from tests.channels.durable.documents import TOPIC, endpoint_of, joined
from tests.channels.durable.test_history import listen
from tests.channels.pubsub.redis.resp_server import RespServer
from tests.channels.support import settle

KEYS = Keys.of("ashtree", "history", 0)
SUBSCRIBE, CALL = b"ashtree:history:subscribe", b"ashtree:history:call"


@pytest.fixture
async def server() -> AsyncIterator[RespServer]:
    async with trio.open_nursery() as nursery:
        yield RespServer(nursery)
        nursery.cancel_scope.cancel()


def storage_on(server: RespServer, **options: Any) -> RedisStorage:
    there = RedisServer("redis://db", backoff=Backoff(1.0, 1.0), connect=server.connect)
    return RedisStorage(there, **options)


@asynccontextmanager
async def nodes(server: RespServer, count: int = 2, **options: Any) -> AsyncIterator[Any]:
    """Nodes that share the server: the history and the channel test of each."""
    async with AsyncExitStack() as stack:
        started: list[tuple[History, ChannelTest]] = []
        for _ in range(count):
            history = History(storage_on(server), **options)
            case = await stack.enter_async_context(open_channel_test(endpoint_of(history)))
            started.append((history, case))
        await settle()
        yield started


@asynccontextmanager
async def running(server: RespServer, **options: Any) -> AsyncIterator[History]:
    history = History(storage_on(server, **options))
    pid = await history.start_link(PubSub())
    await settle()
    yield history
    await stop(pid)


# Delivery


async def test_the_clients_of_all_nodes_get_every_message_once_and_in_one_order(
    runtime: Runtime, server: RespServer
) -> None:
    gaps = listen(runtime, HISTORY_GAP)
    async with nodes(server) as ((here, one), (there, other)):
        ann, bob = await joined(one), await joined(other)
        for number in range(20):
            here.append_nowait(TOPIC, "edited", {"text": f"here {number}"})
            there.append_nowait(TOPIC, "edited", {"text": f"there {number}"})
            if number % 7 == 0:
                await settle()
        heard = await ann.heard(40)
        assert await bob.heard(40) == heard
        for who in ("here", "there"):
            assert [each for each in heard if each.startswith(who)] == [
                f"{who} {number}" for number in range(20)
            ]
        await ann.hears_nothing()
        await bob.hears_nothing()
    assert gaps == []


async def test_a_node_gets_lost_publications_when_its_subscription_is_back(
    runtime: Runtime, server: RespServer
) -> None:
    async with nodes(server, check_interval=1000.0) as ((here, _), (_, other)):
        bob = await joined(other)
        server.close_clients(SUBSCRIBE)
        await settle()
        await here.append(TOPIC, "edited", {"text": "a"})
        await bob.hears_nothing()
        await trio.sleep(1.1)
        assert await bob.heard(1) == ["a"]
        await bob.hears_nothing()


async def test_a_node_gets_its_own_message_when_its_subscription_is_back(
    runtime: Runtime, server: RespServer
) -> None:
    async with nodes(server, 1, check_interval=1000.0) as ((history, case),):
        ann = await joined(case)
        server.close_clients(SUBSCRIBE)
        await settle()
        await history.append(TOPIC, "edited", {"text": "a"})
        await trio.sleep(1.1)
        assert await ann.heard(1) == ["a"]
        await ann.hears_nothing()


async def test_the_periodic_check_finds_a_publication_that_got_lost(
    runtime: Runtime, server: RespServer
) -> None:
    async with nodes(server, check_interval=30.0) as ((here, _), (_, other)):
        bob = await joined(other)
        publish, server.publish = server.publish, lambda *_: 0  # type: ignore[method-assign]
        await here.append(TOPIC, "edited", {"text": "a"})
        server.publish = publish  # type: ignore[method-assign]
        await bob.hears_nothing()
        await trio.sleep(31)
        assert await bob.heard(1) == ["a"]


async def test_a_check_after_a_return_is_repeated_until_it_succeeds(
    runtime: Runtime, server: RespServer
) -> None:
    failed = listen(runtime, HISTORY_CHECK_FAILED)
    async with nodes(server, 1, check_interval=1000.0) as ((history, case),):
        ann = await joined(case)
        await history.append(TOPIC, "edited", {"text": "a"})
        assert await ann.heard(1) == ["a"]
        server.close_clients(SUBSCRIBE)
        await settle()
        await history.append(TOPIC, "edited", {"text": "b"})
        server.answers[b"EVALSHA"] = b"-LOADING the data\r\n"
        await trio.sleep(5)
        assert len(failed) > 2
        assert "LOADING" in str(failed[0]["error"])
        del server.answers[b"EVALSHA"]
        await trio.sleep(1.1)
        assert await ann.heard(1) == ["b"]


async def test_a_publication_of_no_node_is_counted_and_does_no_harm(
    runtime: Runtime, server: RespServer
) -> None:
    async with nodes(server, 1) as ((history, case),):
        ann = await joined(case)
        topic = TOPIC.encode()
        for payload in (b"", b"x", b"e 1 9 9\nx", b"e x 1 1\nxy{}", b"e 1 1 1\n\xff\xff{}"):
            server.publish(KEYS.channel, payload)
        await history.append(TOPIC, "edited", {"text": "a"})
        assert await ann.heard(1) == ["a"]
        assert history.statistics()["malformed"] == 5
        # Of the form of a publication, and of another epoch: the channel looks into the storage, and finds nothing.
        server.publish(KEYS.channel, b"e 7 %d 6\n%bedited{}" % (len(topic), topic))
        await ann.hears_nothing()
        await history.append(TOPIC, "edited", {"text": "b"})
        assert await ann.heard(1) == ["b"]


# Lost histories


async def miss_and_restart(server: RespServer) -> Any:
    """Let a client miss a message, and the server restart. Return the reply to the client's next join."""
    async with nodes(server) as ((here, one), (_, other)):
        ann, bob = await joined(one), await joined(other)
        await here.append(TOPIC, "edited", {"text": "a"})
        assert await ann.heard(1) == await bob.heard(1) == ["a"]
        await bob.lose()
        await here.append(TOPIC, "edited", {"text": "b"})
        assert await ann.heard(1) == ["b"]
        await server.restart()
        await trio.sleep(2)
        response = await bob.join()
        if response["_recovered"]:
            assert await bob.heard(1) == ["b"]
        return response


async def test_a_restart_without_persistence_changes_the_epoch(
    runtime: Runtime, server: RespServer
) -> None:
    assert (await miss_and_restart(server))["_reason"] == "epoch_changed"


async def test_a_restart_with_persistence_recovers(runtime: Runtime, server: RespServer) -> None:
    server.appendonly = True
    assert (await miss_and_restart(server))["_recovered"] is True


async def test_a_joined_channel_notices_a_lost_history_without_a_new_message(
    runtime: Runtime, server: RespServer
) -> None:
    async with nodes(server, 1, check_interval=1000.0) as ((history, case),):
        ann = await joined(case)
        await history.append(TOPIC, "edited", {"text": "a"})
        assert await ann.heard(1) == ["a"]
        await server.restart()
        await trio.sleep(2)
        await ann.channel.assert_push("phx_error")
        assert (await ann.join_again())["_reason"] == "epoch_changed"


async def test_an_epoch_never_returns(runtime: Runtime, server: RespServer) -> None:
    async with running(server) as history:
        positions = []
        for _ in range(5):
            positions.append(await history.append(TOPIC, "edited", {}))
            server.boot()
        assert len({each.partition(":")[0] for each in positions}) == 5
        assert {each.partition(":")[2] for each in positions} == {"1"}


async def test_a_server_that_forgot_its_scripts_gets_them_again(
    runtime: Runtime, server: RespServer
) -> None:
    server.appendonly = True
    async with running(server) as history:
        await history.append(TOPIC, "edited", {})
        # A new start would have another run, which this connection does not have.
        run_id = server.run_id
        server.boot()
        server.run_id = run_id
        assert (await history.append(TOPIC, "edited", {})).endswith(":2")


# Failures


async def test_an_append_whose_answer_was_lost_may_be_kept(
    runtime: Runtime, server: RespServer
) -> None:
    async with running(server) as history, trio.open_nursery() as nursery:
        await history.append(TOPIC, "edited", {"text": "a"})

        async def append() -> None:
            with pytest.raises(AppendFailed) as failed:
                await history.append(TOPIC, "edited", {"text": "b"})
            assert failed.value.may_be_kept

        server.pause()
        nursery.start_soon(append)
        await settle()
        await server.close_all()
        await settle()
        server.resume()


async def test_an_append_that_never_left_is_not_kept(runtime: Runtime, server: RespServer) -> None:
    async with running(server, timeout=3.0) as history:
        await server.kill()
        await settle()
        before = trio.current_time()
        with pytest.raises(AppendFailed) as failed:
            await history.append(TOPIC, "edited", {})
        assert not failed.value.may_be_kept
        assert trio.current_time() - before == 3.0
        server.start()
        assert (await history.append(TOPIC, "edited", {})).endswith(":1")


async def test_a_command_without_an_answer_fails_after_the_timeout(
    runtime: Runtime, server: RespServer
) -> None:
    async with running(server, timeout=3.0) as history:
        server.pause()
        with pytest.raises(AppendFailed) as failed:
            await history.append(TOPIC, "edited", {})
        assert failed.value.may_be_kept
        with pytest.raises(StorageError) as unread:
            await history.storage.read(TOPIC, after=0, limit=1, now=0.0)
        assert (unread.value.storage, unread.value.problem) == (
            "redis",
            "the server did not answer in time",
        )
        server.resume()


async def test_an_error_of_the_server_fails_the_append_with_its_text(
    runtime: Runtime, server: RespServer
) -> None:
    async with running(server) as history:
        server.answers[b"EVALSHA"] = b"-OOM command not allowed\r\n"
        with pytest.raises(AppendFailed, match="OOM command not allowed"):
            await history.append(TOPIC, "edited", {})


async def test_a_malformed_answer_is_a_storage_error(runtime: Runtime, server: RespServer) -> None:
    async with running(server) as history:
        server.answers[b"EVALSHA"] = b"*1\r\n$1\r\nx\r\n"
        for call in (
            lambda: history.storage.append([NewMessage("a", "b", b"{}")], now=0.0),
            lambda: history.storage.read("a", after=0, limit=1, now=0.0),
            lambda: history.storage.ends(["a"]),
        ):
            with pytest.raises(StorageError, match="malformed"):
                await call()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"-NOPERM this user has no permissions\r\n", "the server answered to INFO: NOPERM"),
        (b"$4\r\nnone\r\n", "did not tell its run_id"),
        (b"*0\r\n", "did not tell its run_id"),
    ],
)
async def test_a_server_that_does_not_name_its_run_is_not_used(
    runtime: Runtime, server: RespServer, answer: bytes, problem: str
) -> None:
    server.answers[b"INFO"] = answer
    heard = listen(runtime, HISTORY_DISCONNECTED)
    async with running(server, timeout=1.0) as history:
        with pytest.raises(AppendFailed):
            await history.append(TOPIC, "edited", {})
    assert problem in heard[0]["problem"]


def config_of(appendfsync: bytes, on_rewrite: bytes) -> bytes:
    """The answer to CONFIG GET."""
    values = {
        b"appendonly": b"yes",
        b"appendfsync": appendfsync,
        b"no-appendfsync-on-rewrite": on_rewrite,
    }
    bulks = [b"$%d\r\n%b\r\n" % (len(text), text) for pair in values.items() for text in pair]
    return b"%3\r\n" + b"".join(bulks)


@pytest.mark.parametrize(
    "config",
    [
        b"-NOPERM this user has no permissions\r\n",
        config_of(b"everysec", b"no"),
        config_of(b"always", b"yes"),
    ],
    ids=["unknown", "every second", "not during a rewrite"],
)
@pytest.mark.parametrize(("trusts", "same"), [(True, True), (False, False)])
async def test_a_restart_of_a_server_that_may_lose_messages_counts_as_a_loss_unless_it_is_trusted(
    runtime: Runtime, server: RespServer, trusts: bool, same: bool, config: bytes
) -> None:
    server.appendonly = True
    server.answers[b"CONFIG"] = config
    async with running(server, trust_restarts=trusts) as history:
        before = await history.append(TOPIC, "edited", {})
        await server.restart()
        after = await history.append(TOPIC, "edited", {})
        assert (before.partition(":")[0] == after.partition(":")[0]) is same


async def test_a_node_starts_without_the_server(runtime: Runtime, server: RespServer) -> None:
    await server.kill()
    heard = listen(runtime, HISTORY_CONNECTED)
    async with running(server) as history:
        assert history.statistics()["connected"] == 0
        server.start()
        await trio.sleep(2)
        assert sorted(about["connection"] for about in heard) == ["call", "subscribe"]
        assert history.statistics()["connected"] == 1
        assert (await history.append(TOPIC, "edited", {})).endswith(":1")


async def test_a_storage_that_was_not_started_is_closed() -> None:
    with pytest.raises(StorageError, match="start its history first"):
        await RedisStorage("redis://db").ends(["a"])


async def test_two_histories_on_one_server_have_two_keys(
    runtime: Runtime, server: RespServer
) -> None:
    async with running(server, key="one") as one, running(server, key="other") as other:
        await one.append("a", "edited", {})
        assert (await other.append("a", "edited", {})).endswith(":1")


@pytest.mark.parametrize(
    "option",
    [
        {"key": ""},
        {"key": "a:b"},
        {"timeout": 0},
        {"max_calls": 0},
    ],
    ids=str,
)
def test_an_invalid_option_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption) as refused:
        RedisStorage("redis://db", **option)
    assert refused.value.option == next(iter(option))


def test_a_publication_is_read_as_it_was_written() -> None:
    topic, entry = parse_publication('e.1 17 3 2\nü é{"a":1}'.encode())
    assert (topic, entry.epoch, entry.offset) == ("ü ", "e.1", 17)
    assert (entry.event, entry.body) == ("é", b'{"a":1}')
