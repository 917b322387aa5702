"""The adapter of Redis and Valkey: options, the order of its processes, and what others learn of a node.

On a virtual clock, with a server in memory. The contract of all adapters is in tests/contracts.
"""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors import InvalidArgument, Pid, Runtime, kill, stop
from actors.errors import InvalidOption
from channels import PubSub
from channels.pubsub.adapter import Node
from channels.pubsub.redis.adapter import RedisAdapter
from channels.pubsub.redis.server import RedisServer
from channels.telemetry import (
    PUBSUB_CONNECTED,
    PUBSUB_DISCONNECTED,
    PUBSUB_DROPPED,
    PUBSUB_NODE_DOWN,
)
from supervision import Backoff, Supervisor
from tests.channels.pubsub.redis.resp_server import RespServer
from tests.channels.support import Mailbox


class Nodes:
    """Nodes in one runtime, on one server."""

    def __init__(self, server: RespServer, runtime: Runtime) -> None:
        self.server = server
        self.events: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = []
        self._pids: dict[str, Pid] = {}
        for event in (PUBSUB_CONNECTED, PUBSUB_DISCONNECTED, PUBSUB_DROPPED, PUBSUB_NODE_DOWN):
            runtime.telemetry.attach(event, self._happened)

    def _happened(self, event: Any, measurements: Any, metadata: Any) -> None:
        about = dict(metadata)
        node = about.pop("pubsub").node_name
        self.events.append((event[-1], node, measurements, about))

    def of(self, name: str, event: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        return [each[2:] for each in self.events if each[:2] == (event, name)]

    async def start(
        self, name: str, *, there: Mapping[str, Any] | None = None, **options: Any
    ) -> PubSub:
        """Start a node. `there` has options of its `RedisServer`, and `options` those of its adapter."""
        adapter = RedisAdapter(
            RedisServer("redis://:pw@db:1", **{"connect": self.server.connect, **(there or {})}),
            node_name=name,
            **options,
        )
        pubsub = PubSub(adapter)
        self._pids[name] = await Supervisor.start_link([pubsub.child_spec()])
        return pubsub

    def kill(self, name: str) -> None:
        """End a node without a goodbye."""
        self.server.ignore(f"ashtree:{name}:publish".encode())
        kill(self._pids.pop(name))

    async def stop(self, name: str) -> None:
        await stop(self._pids.pop(name))


@pytest.fixture
async def nodes(runtime: Runtime) -> AsyncIterator[Nodes]:
    async with trio.open_nursery() as nursery:
        yield Nodes(RespServer(nursery), runtime)
        nursery.cancel_scope.cancel()


# Options


def test_the_adapter_needs_no_runtime_before_its_start() -> None:
    adapter = RedisAdapter("redis://:secret@db", node_name="a")
    assert adapter.node == Node("a", "")
    assert (adapter.nodes(), adapter.statistics()) == ((), {})
    assert "secret" not in repr(adapter)
    adapter.stop()


@pytest.mark.parametrize(
    "options",
    [
        {"heartbeat": 0},
        {"heartbeat": 30.0, "node_timeout": 30.0},
        {"max_bytes": 0},
        {"max_waiting_bytes": -1},
        {"max_waiting_seconds": 0},
        {"node_name": ""},
        {"node_name": 7},
        {"node_name": "x" * 251},
        {"node_name": "\ud800"},
    ],
    ids=list,
)
def test_an_invalid_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        RedisAdapter("redis://db", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"connect_timeout": -1},
        {"ping_timeout": "10"},
        {"connect": "db:6379"},
        {"backoff": 1.0},
        {"ssl_context": ssl.create_default_context()},
    ],
    ids=list,
)
def test_an_invalid_option_of_a_server_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption) as refused:
        RedisServer("redis://db", **options)
    assert refused.value.option == next(iter(options))


def test_a_url_alone_means_a_server_with_this_url() -> None:
    assert RedisAdapter("redis://db").server == RedisServer("redis://db")


def test_what_is_no_tls_context_is_refused() -> None:
    with pytest.raises(InvalidOption) as refused:
        RedisAdapter(RedisServer("rediss://db", ssl_context=True))  # type: ignore[arg-type]
    assert refused.value.option == "ssl_context"


def test_a_unix_socket_takes_no_function_that_connects() -> None:
    with pytest.raises(InvalidOption) as refused:
        RedisAdapter(RedisServer("unix:///run/valkey.sock", connect=trio.open_tcp_stream))
    assert refused.value.option == "connect"


def test_an_invalid_url_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        RedisAdapter("db:6379")


def test_the_name_of_a_worker_has_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASHTREE_WORKER", "3")
    assert RedisAdapter("redis://db", node_name="web").node.name == "web.3"


def test_importing_channels_does_not_load_hiredis() -> None:
    program = "from channels import *; import sys; print('hiredis' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout == "False\n"


# Start and stop


async def test_a_start_returns_when_the_node_has_subscribed(nodes: Nodes) -> None:
    await nodes.start("a")
    [subscriber] = [client for client in nodes.server.clients if client.channels]
    assert list(subscriber.channels) == [b"ashtree:0", b"ashtree:@a"]


async def test_a_start_without_a_server_returns_too_and_the_node_connects_later(
    nodes: Nodes,
) -> None:
    nodes.server.is_up = False
    a = await nodes.start("a")
    assert a.statistics()["adapter"]["connected"] == 0
    (measured, about), *_ = nodes.of("a", "pubsub_disconnected")
    assert measured["delay"] > 0
    assert about == {
        "adapter": "redis",
        "connection": "subscribe",
        "problem": "the system answered: Connection refused",
        "server": "redis://***@db:1/0",
    }
    nodes.server.is_up = True
    await trio.sleep(10)
    assert a.statistics()["adapter"]["connected"] == 1
    assert len(nodes.of("a", "pubsub_connected")) == 2


async def test_a_frozen_server_delays_a_start_by_the_connect_timeout_only(nodes: Nodes) -> None:
    nodes.server.pause()
    start = trio.current_time()
    await nodes.start("a", there={"connect_timeout": 5.0})
    assert trio.current_time() - start == 5.0


async def test_the_last_messages_and_the_goodbye_get_out_before_the_end(nodes: Nodes) -> None:
    a, b = await nodes.start("a"), await nodes.start("b")
    await wait_all_tasks_blocked()
    mailbox = Mailbox()
    await mailbox.start(lambda: b.subscribe("t"))
    for n in range(100):
        a.broadcast("t", n)
    await nodes.stop("a")
    await wait_all_tasks_blocked()
    assert mailbox.messages == list(range(100))
    assert b.nodes() == ()
    assert [about["reason"] for _, about in nodes.of("b", "pubsub_node_down")] == ["goodbye"]
    assert len(nodes.server.clients) == 2


async def test_a_frozen_server_delays_the_end_by_a_second_only(nodes: Nodes) -> None:
    a = await nodes.start("a")
    await wait_all_tasks_blocked()
    nodes.server.pause()
    a.broadcast("t", 1)
    start = trio.current_time()
    await nodes.stop("a")
    assert trio.current_time() - start == 1.0


async def test_each_start_is_a_new_incarnation_on_the_same_adapter(nodes: Nodes) -> None:
    a = PubSub(
        RedisAdapter(
            RedisServer("redis://db", connect=nodes.server.connect),
            node_name="a",
        )
    )
    seen = set()
    for _ in range(3):
        pid: Pid = await Supervisor.start_link([a.child_spec()])
        seen.add(a.node.incarnation)
        await stop(pid)
        await trio.sleep(0.1)
    assert len(seen) == 3


# Losses


async def test_messages_of_the_first_moment_that_were_dropped_are_counted(nodes: Nodes) -> None:
    b = await nodes.start("b")
    nodes.server.is_up = False
    a = await nodes.start("a", there={"backoff": Backoff(10.0, 10.0)})
    for n in range(30):
        a.broadcast("t", n)
        await trio.sleep(0.1)
    nodes.server.is_up = True
    await trio.sleep(15)
    a.broadcast("t", "later")
    await wait_all_tasks_blocked()
    assert b.statistics()["lost"] == a.statistics()["adapter"]["dropped"] == 30
    assert sum(measured["count"] for measured, _ in nodes.of("a", "pubsub_dropped")) == 30


async def test_heartbeats_that_do_not_get_out_are_no_drops(nodes: Nodes) -> None:
    a = await nodes.start("a")
    await nodes.server.kill()
    await trio.sleep(600)
    assert a.statistics()["adapter"]["dropped"] == 0


async def test_losses_of_a_long_time_without_a_server_are_counted_exactly(nodes: Nodes) -> None:
    a, b = await nodes.start("a"), await nodes.start("b")
    await trio.sleep(1)
    mailbox = Mailbox()
    await mailbox.start(lambda: b.subscribe("t"))
    await nodes.server.kill()
    for n in range(120):
        a.broadcast("t", n)
        await trio.sleep(1)
    assert b.nodes() == ()
    nodes.server.start()
    await trio.sleep(20)
    assert b.nodes() == (a.node,)
    assert b.statistics()["lost"] + len(mailbox.messages) == 120
    assert b.statistics()["lost"] >= 115


async def test_loss_at_the_tail_is_noticed_with_the_next_heartbeat(nodes: Nodes) -> None:
    a, b = await nodes.start("a", heartbeat=2.0), await nodes.start("b")
    await trio.sleep(1)
    [client] = [each for each in nodes.server.clients if b"ashtree:@b" in each.channels]
    await trio.aclose_forcefully(client.stream)
    a.broadcast("t", "lost")
    await trio.sleep(2.1)
    assert b.statistics()["lost"] == 1


async def test_a_node_that_dies_is_dropped_after_the_timeout_and_not_before(nodes: Nodes) -> None:
    a = await nodes.start("a", heartbeat=2.0, node_timeout=30.0)
    b = await nodes.start("b")
    await wait_all_tasks_blocked()
    assert a.nodes() == (b.node,)
    nodes.kill("b")
    await trio.sleep(29.0)
    assert a.nodes() == (b.node,)
    await trio.sleep(7.0)
    assert a.nodes() == ()
    assert [about["reason"] for _, about in nodes.of("a", "pubsub_node_down")] == ["silent"]


async def test_nodes_with_other_prefixes_hear_nothing_of_each_other(nodes: Nodes) -> None:
    connect = nodes.server.connect
    pubsubs = []
    for prefix in ("one", "two"):
        adapter = RedisAdapter(
            RedisServer(f"redis://db?prefix={prefix}", connect=connect),
            node_name=prefix,
        )
        pubsubs.append(PubSub(adapter))
        await Supervisor.start_link([pubsubs[-1].child_spec()])
    await trio.sleep(10)
    assert [pubsub.nodes() for pubsub in pubsubs] == [(), ()]


async def test_a_stranger_can_publish_an_event(nodes: Nodes) -> None:
    a = await nodes.start("a")
    mailbox = Mailbox()
    await mailbox.start(lambda: a.subscribe("room:lobby"))
    nodes.server.publish(b"ashtree:0", b'[1,"cron","",0,"room:lobby","new_msg"]\n{"body":"hi"}')
    nodes.server.publish(b"ashtree:0", b"not an envelope")
    await wait_all_tasks_blocked()
    [message] = mailbox.messages
    assert (message.event, message.payload) == ("new_msg", {"body": "hi"})
    assert a.statistics()["adapter"]["malformed"] == 1
