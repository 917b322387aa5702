"""Durable topics in a real Valkey server: two nodes, a kill of a node, kills of the server, and the ways to connect.

The clients are unmodified phoenix.js.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from actors import open_runtime, stop
from channels import PubSub
from channels.durable import FenceRefused, History, RedisStorage
from channels.pubsub.redis.server import RedisServer
from channels.pubsub.redis.server_errors import HISTORY_ACL_RULE
from supervision import Backoff
from tests.integration.phoenix_js import PhoenixJs, connected
from tests.integration.servers import Server, serving
from tests.integration.valkey import Valkey, tls_front, valkey
from tests.patience import PATIENCE, until

TOPIC = "document:1"
REFERENCE = Path(__file__).parents[2] / "docs/reference/durable.md"


class Nodes:
    """Two nodes, and the server that both use. It writes every message to its disk."""

    def __init__(self, server: Valkey, a: Server, b: Server) -> None:
        self.server = server
        self.a = a
        self.b = b

    @contextmanager
    def clients(self, topic: str) -> Iterator[tuple[PhoenixJs, PhoenixJs]]:
        """A client of each node, which has joined."""
        with connected(self.a.socket_url) as ann, connected(self.b.socket_url) as bob:
            for client in (ann, bob):
                assert client.join_durably(topic)[0] == "ok"
            yield ann, bob


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("nodes")
    places = [folder / name for name in "ab"]
    for place in places:
        place.mkdir()
    module = "tests.integration.durable_server"
    with valkey(folder / "v", {"appendonly": "yes", "appendfsync": "always"}) as server:
        environment = {"HISTORY": server.url, "MESSAGES": "1000"}
        with (
            serving(module, places[0], environment) as a,
            serving(module, places[1], environment) as b,
        ):
            yield Nodes(server, a, b)


def edits_until(client: PhoenixJs, topic: str, last: str) -> list[str]:
    """Return the edits that the client gets, up to and with this one."""
    got: list[str] = []
    while last not in got:
        got.append(client.message(topic, "edited")["text"])
    return got


def edit(client: PhoenixJs, topic: str, text: str) -> None:
    assert client.request(topic, "edit", {"text": text})[0] == "ok"


def test_the_clients_of_both_nodes_get_every_answered_edit_over_a_kill_of_one_node(
    nodes: Nodes,
) -> None:
    topic = "document:kill"
    with nodes.clients(topic) as (ann, bob):
        mine: dict[str, int] = {}
        others: dict[str, int] = {}
        for number in range(30):
            for name, client, pushes in (("ann", ann, mine), ("bob", bob, others)):
                text = f"{name} {number}"
                pushes[text] = client.push(topic, "edit", {"text": text})
        # The kill comes in the middle of the appends: the first answer has come, others have not.
        assert ann.reply(mine["ann 0"])[0] == "ok"
        nodes.a.kill()
        nodes.a.start()
        assert ann.joined(topic)[1]["_recovered"] is True
        # Bob's node was never away.
        assert {bob.reply(push)[0] for push in others.values()} == {"ok"}
        answered = {"ann 0", *others}
        answered |= {text for text, push in mine.items() if ann.seen("reply", id=push, status="ok")}
        edit(ann, topic, "the end")
        got = edits_until(bob, topic, "the end")
        assert edits_until(ann, topic, "the end") == got
        assert len(set(got)) == len(got)
        assert answered <= set(got)
        for name in ("ann", "bob"):
            numbers = [int(text.split()[1]) for text in got if text.startswith(name)]
            assert numbers == sorted(numbers)


def test_clients_recover_after_a_kill_of_a_server_that_writes_every_message(nodes: Nodes) -> None:
    topic = "document:always"
    with nodes.clients(topic) as (ann, bob):
        edit(ann, topic, "one")
        assert edits_until(bob, topic, "one") == edits_until(ann, topic, "one") == ["one"]
        nodes.server.kill()
        nodes.server.start()
        # Bob's connection is cut. The edit is live or replayed, and comes once.
        bob.tell("cut")
        edit(ann, topic, "two")
        assert bob.joined(topic)[1]["_recovered"] is True
        assert edits_until(bob, topic, "two") == edits_until(ann, topic, "two") == ["two"]


def test_clients_get_the_reason_after_a_kill_of_a_server_without_persistence(nodes: Nodes) -> None:
    topic = "document:never"
    with nodes.clients(topic) as (ann, bob):
        edit(ann, topic, "one")
        assert edits_until(bob, topic, "one") == edits_until(ann, topic, "one") == ["one"]
        nodes.server.kill()
        nodes.server.start(appendonly="no")
        # Their channels notice the loss without a message, and the clients rejoin.
        for client in (ann, bob):
            response = client.joined(topic)[1]
            assert (response["_recovered"], response["_reason"]) == (False, "epoch_changed")
        edit(ann, topic, "two")
        assert edits_until(bob, topic, "two") == edits_until(ann, topic, "two") == ["two"]


# Connecting


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with valkey(tmp_path_factory.mktemp("valkey")) as started:
        yield started


@asynccontextmanager
async def running(
    url: str, *, ssl_context: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[History]:
    history = History(
        RedisStorage(
            RedisServer(url, backoff=Backoff(0.02, 0.2), ssl_context=ssl_context),
            timeout=PATIENCE,
            **options,
        )
    )
    async with open_runtime(log=False):
        pid = await history.start_link(PubSub())
        yield history
        await stop(pid)


async def works(history: History) -> None:
    position = await history.append(TOPIC, "edited", {"text": "a"})
    await until(lambda: history.statistics()["connected"] == 1)
    recovery = await history.recover(TOPIC, None)
    assert str(recovery.start) == position
    assert history.statistics()["messages"] == 1


async def test_a_history_over_a_unix_socket_in_another_database(shared: Valkey) -> None:
    async with running(f"unix://{shared.path}?db=3&prefix=unix") as history:
        await works(history)
    assert shared.commands([("SELECT", 3), ("EXISTS", "unix:history")])[1] == 1


async def test_a_history_over_tls(shared: Valkey) -> None:
    authority = trustme.CA()
    server, client = (
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
        ssl.create_default_context(),
    )
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    async with tls_front(shared, server) as address:
        url = f"rediss://localhost:{address.port}?prefix=tls"
        async with running(url, ssl_context=client) as history:
            await works(history)


async def test_the_documented_acl_rule_suffices(shared: Valkey) -> None:
    assert HISTORY_ACL_RULE.replace("PREFIX", "ashtree") in REFERENCE.read_text()
    rule = HISTORY_ACL_RULE.replace("PREFIX", "acl")
    assert shared.command("ACL", "SETUSER", "node", "on", ">secret", *rule.split()) == b"OK"
    url = f"redis://node:secret@127.0.0.1:{shared.port}?prefix=acl"
    async with running(url) as history:
        await works(history)
        # Also everything that only happens with more messages.
        assert shared.command("DEL", "acl:history:used") == 1
        storage = history.storage
        assert (await storage.ends([TOPIC])).offsets == {}
        await history.claim(TOPIC, 5)
        await history.append(TOPIC, "edited", {}, fence=5)


@pytest.mark.parametrize(
    "lose",
    [
        lambda server: server.command("FLUSHALL"),
        lambda server: server.command("SCRIPT", "FLUSH"),
        lambda server: server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
        lambda server: server.command("CLIENT", "KILL", "TYPE", "pubsub"),
    ],
    ids=["data", "script", "calls", "subscription"],
)
async def test_a_history_goes_on_after_a_loss_of_the_server(
    tmp_path: Path, lose: Callable[[Valkey], object]
) -> None:
    with valkey(tmp_path / "valkey") as server:
        async with running(server.url) as history:
            await works(history)
            lose(server)
            await until(lambda: history.statistics()["connected"] == 1)
            with trio.fail_after(PATIENCE):
                await history.append(TOPIC, "edited", {"text": "b"})


async def test_claims_go_on_while_connections_are_killed(tmp_path: Path) -> None:
    with valkey(tmp_path / "valkey") as server:
        async with running(server.url) as history, trio.open_nursery() as nursery:

            async def kill() -> None:
                while True:
                    await trio.to_thread.run_sync(
                        server.command, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"
                    )
                    await trio.sleep(0.003)

            async def own(topic: str) -> None:
                fence = 0
                while history.statistics()["disconnects"] < 10:
                    fence += 1
                    await history.claim(topic, fence)

            # No claim is refused, although the answers to some of them are lost.
            async with trio.open_nursery() as owners:
                nursery.start_soon(kill)
                for number in range(50):
                    owners.start_soon(own, f"document:{number}")
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_fence_outlives_a_server_that_writes_every_claim_and_else_needs_a_new_claim(
    tmp_path: Path, keeps: bool
) -> None:
    config = {"appendonly": "yes", "appendfsync": "always" if keeps else "everysec"}
    with valkey(tmp_path / "valkey", config) as server:
        async with running(server.url) as history:
            await history.claim(TOPIC, 6)
            await trio.to_thread.run_sync(server.kill)
            await trio.to_thread.run_sync(server.start)
            await until(lambda: history.statistics()["connected"] == 1)
            with pytest.raises(FenceRefused) as refused:
                await history.append(TOPIC, "edited", {}, fence=5)
            assert refused.value.claimed == (6 if keeps else 0)


async def test_a_replica_that_takes_over_begins_a_new_epoch(tmp_path: Path) -> None:
    config = {"appendonly": "yes", "appendfsync": "always", "repl-diskless-sync-delay": "0"}
    with valkey(tmp_path / "a", config) as primary, valkey(tmp_path / "b", config) as replica:
        async with running(primary.url) as history:
            before = await history.append(TOPIC, "edited", {})
        replica.command("REPLICAOF", "127.0.0.1", primary.port)
        await until(lambda: replica.command("EXISTS", "ashtree:history") == 1)
        primary.kill()
        replica.command("REPLICAOF", "NO", "ONE")
        # It has the message here. It cannot know that it has the last one.
        async with running(replica.url) as history:
            after = await history.append(TOPIC, "edited", {})
        assert before.partition(":")[0] != after.partition(":")[0]
