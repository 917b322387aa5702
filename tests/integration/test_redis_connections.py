"""Connections to a real Valkey server come back after everything that can happen to it.

tests/channels/pubsub/redis/test_connection.py has the details, on a virtual clock.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from actors import open_runtime
from channels.pubsub.redis.connection import Options, Publisher, Subscriber
from channels.pubsub.redis.server import RedisServer
from channels.pubsub.redis.server_errors import ACL_RULE
from channels.pubsub.redis.url import RedisUrl
from supervision import Backoff
from tests.integration.valkey import Valkey, tls_front, valkey
from tests.patience import PATIENCE, until

CHANNEL = b"ashtree:0"


class Pair:
    """The two connections of a node, and everything that they report and deliver."""

    def __init__(self, url: RedisUrl | str, **options: Any) -> None:
        self.problems: list[str] = []
        self.drops = 0
        self.payloads: list[bytes] = []
        settings: dict[str, Any] = {
            "server": RedisServer(url, backoff=Backoff(0.02, 0.2), **options),
            "client_name": "ashtree:test",
            "report": self.report,
        }
        self.publisher = Publisher(Options(**settings))
        self.subscriber = Subscriber(
            Options(**settings), [CHANNEL], lambda _, payload: self.payloads.append(payload)
        )

    def report(self, kind: str, numbers: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        if kind == "disconnected":
            self.problems.append(about["problem"])
        elif kind == "dropped":
            self.drops += numbers["count"]

    @property
    def are_up(self) -> bool:
        return self.publisher.is_connected and self.subscriber.is_connected

    def publish(self, payload: bytes) -> None:
        self.publisher.publish(CHANNEL, payload)

    async def reach(self, payload: bytes) -> None:
        """Publish again and again until it arrives."""
        with trio.fail_after(PATIENCE):
            while payload not in self.payloads:
                self.publish(payload)
                await trio.sleep(0.02)

    def state(self) -> str:
        return f"{self.problems} {len(self.payloads)}"


@asynccontextmanager
async def connected(url: RedisUrl | str, *, up: bool = True, **options: Any) -> AsyncIterator[Pair]:
    pair = Pair(url, **options)
    async with open_runtime(log=False), trio.open_nursery() as nursery:
        nursery.start_soon(pair.publisher.main)
        nursery.start_soon(pair.subscriber.main)
        if up:
            await until(lambda: pair.are_up, pair.state)
        yield pair
        nursery.cancel_scope.cancel()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A server that tests do not hurt."""
    with valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


async def test_everything_that_is_published_arrives_once_and_in_order(shared: Valkey) -> None:
    async with connected(shared.url) as pair:
        sent = [b"%d" % n for n in range(20_000)]
        for n, payload in enumerate(sent):
            pair.publish(payload)
            if n % 1000 == 0:
                await trio.lowlevel.checkpoint()
        await until(lambda: len(pair.payloads) >= len(sent), pair.state)
        assert pair.payloads == sent
        await pair.publisher.flush()
        assert pair.publisher.published == len(sent)


async def test_both_connections_have_names(shared: Valkey) -> None:
    async with connected(shared.url):
        names = {client["name"] for client in shared.clients()}
    assert names >= {"ashtree:test:publish", "ashtree:test:subscribe"}


async def test_a_unix_socket_serves_as_well_as_a_port(shared: Valkey) -> None:
    async with connected(f"unix://{shared.path}?db=3") as pair:
        await pair.reach(b"hello")


async def test_an_unknown_database_is_refused_with_advice(shared: Valkey) -> None:
    async with connected(f"{shared.url}/99", up=False) as pair:
        await until(lambda: pair.problems)
    assert "write a lower number" in pair.problems[0]


async def test_tls_protects_a_connection_and_a_stranger_is_refused(shared: Valkey) -> None:
    authority = trustme.CA()
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(theirs)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    async with tls_front(shared, theirs) as url:
        async with connected(url, ssl_context=ours) as pair:
            await pair.reach(b"secret")
        async with connected(url, up=False) as pair:
            await until(lambda: pair.problems)
    assert pair.problems[0].startswith("TLS failed: ")
    assert "CERTIFICATE_VERIFY_FAILED" in pair.problems[0]


async def test_the_acl_rule_of_the_documentation_suffices(shared: Valkey) -> None:
    rule = ACL_RULE.replace("PREFIX", "ashtree").split()
    shared.command("ACL", "SETUSER", "node", "reset", "on", ">pw", *rule)
    async with connected(f"redis://node:pw@127.0.0.1:{shared.port}/1") as pair:
        await pair.reach(b"hello")


async def test_a_revoked_channel_closes_the_connection_and_a_granted_one_brings_it_back(
    shared: Valkey,
) -> None:
    rule = ACL_RULE.replace("PREFIX", "ashtree").split()
    shared.command("ACL", "SETUSER", "other", "reset", "on", ">pw", *rule)
    async with connected(f"redis://other:pw@127.0.0.1:{shared.port}") as pair:
        shared.command("ACL", "SETUSER", "other", "resetchannels")
        await until(lambda: any("answered to SUBSCRIBE: NOPERM" in each for each in pair.problems))
        pair.publish(b"refused")
        await until(lambda: pair.publisher.refused == 1)
        shared.command("ACL", "SETUSER", "other", "&ashtree:*")
        await until(lambda: pair.are_up, pair.state)
        await pair.reach(b"back")


async def test_a_password_that_is_wrong_and_then_right(tmp_path: Path) -> None:
    with valkey(tmp_path, {"requirepass": "right"}) as server:
        url = f"redis://:wrong@127.0.0.1:{server.port}"
        async with connected(url, up=False) as pair:
            await until(lambda: len(pair.problems) >= 2)
            assert "WRONGPASS" in pair.problems[0]
            server.command("CONFIG", "SET", "requirepass", "wrong")
            await until(lambda: pair.are_up, pair.state)
            await pair.reach(b"in")
        async with connected(server.url, up=False) as pair:
            await until(lambda: pair.problems)
        assert "NOAUTH" in pair.problems[0]


async def test_a_server_that_is_killed_and_started_again(tmp_path: Path) -> None:
    with valkey(tmp_path) as server:
        async with connected(server.url) as pair:
            await pair.reach(b"before")
            await trio.to_thread.run_sync(server.kill)
            await until(lambda: not pair.publisher.is_connected)
            await until(lambda: not pair.subscriber.is_connected)
            await trio.to_thread.run_sync(server.start)
            await until(lambda: pair.are_up, pair.state)
            await pair.reach(b"after")


async def test_a_server_that_is_frozen_is_noticed_and_found_again(tmp_path: Path) -> None:
    with valkey(tmp_path) as server:
        options: dict[str, Any] = {
            "ping_interval": 0.2,
            "ping_timeout": 0.4,
            "connect_timeout": 0.4,
        }
        async with connected(server.url, **options) as pair:
            server.stop()
            await until(lambda: pair.publisher.losses and pair.subscriber.losses, pair.state)
            await until(lambda: pair.publisher.failures and pair.subscriber.failures, pair.state)
            server.cont()
            await until(lambda: pair.are_up, pair.state)
            await pair.reach(b"after")
        assert any("PING within 0.4 s" in problem for problem in pair.problems)
        assert any("connect_timeout" in problem for problem in pair.problems)


async def test_a_server_that_closes_a_slow_subscriber(tmp_path: Path) -> None:
    config = {"client-output-buffer-limit": "pubsub 1mb 1mb 0"}
    with valkey(tmp_path, config) as server:
        async with connected(f"unix://{server.path}") as pair:
            # Nothing reads meanwhile, because this blocks the thread. The system buffers little for a Unix socket.
            server.commands([("PUBLISH", CHANNEL, bytes(5000))] * 1000)
            await until(lambda: pair.subscriber.losses == 1, pair.state)
            await until(lambda: pair.are_up, pair.state)
            await pair.reach(b"after")
            assert pair.publisher.losses == 0


async def test_a_server_without_room_for_another_client(tmp_path: Path) -> None:
    with valkey(tmp_path, {"maxclients": "5"}) as server:
        async with connected(server.url):
            pass
        async with trio.open_nursery() as nursery:
            others = [await trio.open_tcp_stream("127.0.0.1", server.port) for _ in range(5)]
            async with connected(server.url, up=False) as pair:
                await until(lambda: pair.problems)
                # A client that is turned away may send first, and then finds the connection broken.
                await until(
                    lambda: any("raise it, or close connections" in each for each in pair.problems),
                    pair.state,
                )
                for each in others:
                    nursery.start_soon(each.aclose)
                await until(lambda: pair.are_up, pair.state)


async def test_a_server_that_cannot_save_to_its_disk_still_carries_messages(tmp_path: Path) -> None:
    config = {"save": "3600 1", "stop-writes-on-bgsave-error": "yes"}
    with valkey(tmp_path, config) as server:
        gone = tmp_path / "gone"
        gone.mkdir()
        server.command("CONFIG", "SET", "dir", str(gone))
        gone.rmdir()
        server.command("SET", "key", "value")
        server.command("BGSAVE")
        await until(lambda: "MISCONF" in str(server.command("PING")))
        options: dict[str, Any] = {"ping_interval": 0.1, "ping_timeout": 0.5}
        async with connected(server.url, **options) as pair:
            await pair.reach(b"hello")
            before = server.calls("ping")
            await until(lambda: server.calls("ping") >= before + 4, pair.state)
            await pair.reach(b"again")
            assert pair.problems == []
