"""Connections return after every loss, report it, and bound what waits, how long, and how much they do at once.

On a virtual clock, with a server in memory. tests/integration/test_redis_connections.py has the real one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import evolve
from trio.testing import wait_all_tasks_blocked

from actors import Runtime
from actors.errors import InvalidOption
from channels.pubsub.redis.connection import Options, Publisher, RedisConnection, Subscriber
from channels.pubsub.redis.server import RedisServer
from supervision import Backoff
from tests.channels.pubsub.redis.resp_server import RespServer

# The options of `Options`. All others are options of `RedisServer`.
OWN = {"client_name", "max_waiting_bytes", "max_waiting_seconds", "max_reply_bytes"}


class Reported:
    """The reports of the connections, with their times."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.times: list[float] = []

    def report(self, kind: str, numbers: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        match kind:
            case "connected":
                event: tuple[Any, ...] = (about["connection"], numbers["attempts"])
            case "disconnected":
                event = about["connection"], about["problem"], numbers["delay"]
            case "dropped":
                event = numbers["count"], about["problem"]
        self.events.append((kind, *event))
        self.times.append(trio.current_time())

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [event[1:] for event in self.events if event[0] == kind]

    @property
    def problems(self) -> list[str]:
        return [problem for _, problem, _ in self.of("disconnected")]


@asynccontextmanager
async def running(
    make: Callable[[Options], RedisConnection], **options: Any
) -> AsyncIterator[tuple[Any, RespServer, Reported]]:
    """A connection, its server and its reports."""
    reported = Reported()
    async with trio.open_nursery() as nursery:
        server = RespServer(nursery, password=options.pop("server_password", None))
        own = {name: options.pop(name) for name in OWN & options.keys()}
        url = options.pop("url", "redis://db")
        there = RedisServer(url, **{"connect": server.connect, **options})
        settings = {"client_name": "ashtree", **own}
        connection = make(Options(server=there, report=reported.report, **settings))
        nursery.start_soon(connection.main)
        await wait_all_tasks_blocked()
        yield connection, server, reported
        nursery.cancel_scope.cancel()


class Inbox:
    """The messages that a subscriber delivers."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def message(self, channel: bytes, payload: bytes) -> None:
        assert channel == b"news"
        self.payloads.append(payload)

    def subscriber(self, options: Options) -> Subscriber:
        return Subscriber(options, [b"news"], self.message)


# Both kinds


@pytest.mark.parametrize("make", [Publisher, Inbox().subscriber], ids=["publish", "subscribe"])
class TestBothKinds:
    async def test_a_connection_reports_that_it_is_up(self, runtime: Runtime, make: Any) -> None:
        async with running(make) as (connection, server, reported):
            assert reported.events == [("connected", connection.name, 1)]
            assert connection.is_connected
            [client] = server.clients
            assert client.name == f"ashtree:{connection.name}".encode()

    async def test_a_lost_connection_returns_and_both_are_reported(
        self, runtime: Runtime, make: Any
    ) -> None:
        async with running(make, backoff=Backoff(1.0, 8.0)) as (connection, server, reported):
            await server.close_all()
            await wait_all_tasks_blocked()
            assert not connection.is_connected
            [(name, problem, delay)] = reported.of("disconnected")
            assert (name, 0.5 <= delay <= 1.0) == (connection.name, True)
            assert problem == "the server closed the connection"
            await trio.sleep(1.1)
            assert reported.events[-1] == ("connected", connection.name, 1)
            assert (connection.connects, connection.losses, connection.failures) == (2, 1, 0)

    async def test_the_waits_between_attempts_grow_up_to_their_maximum(
        self, runtime: Runtime, make: Any
    ) -> None:
        async with running(make, backoff=Backoff(1.0, 8.0)) as (connection, server, reported):
            await server.kill()
            await trio.sleep(60)
            delays = [delay for _, _, delay in reported.of("disconnected")]
            for delay, longest in zip(delays, [1.0, 2.0, 4.0, 8.0, 8.0, 8.0], strict=False):
                assert longest / 2 <= delay <= longest
            assert set(reported.problems[1:]) == {"the system answered: Connection refused"}
            server.start()
            await trio.sleep(8.1)
            assert connection.is_connected
            assert reported.events[-1] == ("connected", connection.name, len(delays))

    async def test_a_server_that_stops_is_lost_after_the_interval_and_the_timeout(
        self, runtime: Runtime, make: Any
    ) -> None:
        options: dict[str, Any] = {"ping_interval": 5.0, "ping_timeout": 10.0}
        async with running(make, **options) as (connection, server, reported):
            server.pause()
            start = trio.current_time()
            await trio.sleep(14.5)
            assert connection.is_connected
            await trio.sleep(1.5)
            assert not connection.is_connected
            assert 15.0 <= reported.times[1] - start <= 16.0
            assert "PING within 10 s" in reported.problems[0]
            server.resume()
            await trio.sleep(20)
            assert connection.is_connected

    async def test_a_pause_within_the_timeout_is_no_loss(self, runtime: Runtime, make: Any) -> None:
        async with running(make) as (connection, server, _):
            for _ in range(5):
                server.pause()
                await trio.sleep(9.9)
                server.resume()
                await trio.sleep(10)
            assert connection.losses == 0

    async def test_an_idle_connection_stays_up(self, runtime: Runtime, make: Any) -> None:
        async with running(make) as (connection, server, _):
            await trio.sleep(3600)
            assert connection.losses == 0
            assert server.received.count([b"PING"]) > 100

    async def test_a_ping_that_is_answered_with_an_error_is_answered(
        self, runtime: Runtime, make: Any
    ) -> None:
        async with running(make) as (connection, server, _):
            server.answers[b"PING"] = b"-MISCONF cannot save\r\n"
            await trio.sleep(3600)
            assert connection.losses == 0
            await server.close_all()
            await trio.sleep(10)
            assert connection.is_connected

    async def test_a_wrong_password_is_reported_with_advice_and_tried_again(
        self, runtime: Runtime, make: Any
    ) -> None:
        url = "redis://:wrong@db"
        async with running(make, server_password="right", url=url) as (
            connection,
            server,
            reported,
        ):
            assert "WRONGPASS" in reported.problems[0]
            assert "correct the URL" in reported.problems[0]
            assert not connection.is_connected
            await trio.sleep(60)
            assert connection.failures > 10
            server.password = None
            await trio.sleep(5)
            assert connection.is_connected

    async def test_the_password_of_the_url_is_used(self, runtime: Runtime, make: Any) -> None:
        url = "redis://:right@db/3"
        async with running(make, server_password="right", url=url) as (connection, server, _):
            assert connection.is_connected
            assert [b"SELECT", b"3"] in server.received

    async def test_a_server_that_accepts_and_says_nothing_is_left_after_the_timeout(
        self, runtime: Runtime, make: Any
    ) -> None:
        async with running(make, connect_timeout=5.0) as (connection, server, reported):
            server.pause()
            await server.close_all()
            await trio.sleep(5.9)
            assert "within 5 s, which is connect_timeout" in reported.problems[-1]
            assert not server.clients or connection.failures == 1

    async def test_a_connect_that_never_returns_is_left_after_the_timeout(
        self, runtime: Runtime, make: Any
    ) -> None:
        async def connect(host: str, port: int) -> trio.abc.Stream:
            await trio.sleep_forever()
            raise AssertionError

        async with running(make, connect=connect) as (_, _, reported):
            await trio.sleep(5.0)
            await wait_all_tasks_blocked()
            assert "connect_timeout" in reported.problems[0]

    async def test_a_server_of_another_kind_is_reported(self, runtime: Runtime, make: Any) -> None:
        async with running(make) as (_, server, reported):
            server.answers[b"HELLO"] = b"HTTP/1.1 400 Bad Request\r\n\r\n"
            await server.close_all()
            await trio.sleep(1)
            assert "does not follow the protocol" in reported.problems[-1]

    async def test_an_old_server_is_reported(self, runtime: Runtime, make: Any) -> None:
        async with running(make) as (_, server, reported):
            server.answers[b"HELLO"] = b"-ERR unknown command `HELLO`\r\n"
            await server.close_all()
            await trio.sleep(1)
            assert "Redis 6 or Valkey 7" in reported.problems[-1]

    async def test_the_end_of_the_process_closes_the_connection(
        self, runtime: Runtime, make: Any
    ) -> None:
        async with trio.open_nursery() as outer:
            server = RespServer(outer)
            options = Options(
                server=RedisServer("redis://db", connect=server.connect),
                client_name="a",
                report=Reported().report,
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(make(options).main)
                await wait_all_tasks_blocked()
                assert len(server.clients) == 1
                nursery.cancel_scope.cancel()
            await wait_all_tasks_blocked()
            assert not server.clients


@pytest.mark.parametrize("option", ["max_waiting_bytes", "max_waiting_seconds", "max_reply_bytes"])
def test_an_option_that_is_not_positive_is_refused(option: str) -> None:
    options = Options(server=RedisServer("redis://db"), client_name="a", report=Reported().report)
    with pytest.raises(InvalidOption):
        evolve(options, **{option: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["connect_timeout", "ping_interval", "ping_timeout"])
def test_a_time_of_a_server_that_is_not_positive_is_refused(option: str) -> None:
    with pytest.raises(InvalidOption):
        RedisServer("redis://db", **{option: 0})  # type: ignore[arg-type]


# Subscribing


async def test_a_subscriber_delivers_in_order(runtime: Runtime) -> None:
    inbox = Inbox()
    async with running(inbox.subscriber) as (subscriber, server, _):
        for n in range(1000):
            server.publish(b"news", b"%d" % n)
        server.publish(b"other", b"x")
        await wait_all_tasks_blocked()
        assert inbox.payloads == [b"%d" % n for n in range(1000)]
        assert subscriber.messages == 1000


async def test_a_subscriber_subscribes_again_after_a_loss(runtime: Runtime) -> None:
    inbox = Inbox()
    async with running(inbox.subscriber) as (subscriber, server, _):
        server.publish(b"news", b"1")
        await wait_all_tasks_blocked()
        await server.close_all()
        server.publish(b"news", b"lost")
        await trio.sleep(1)
        server.publish(b"news", b"2")
        await wait_all_tasks_blocked()
        assert inbox.payloads == [b"1", b"2"]
        assert subscriber.connects == 2


async def test_a_subscriber_handles_few_messages_between_two_checkpoints(runtime: Runtime) -> None:
    inbox = Inbox()
    async with running(inbox.subscriber) as (_, server, _):
        most = before = 0

        async def watch() -> None:
            nonlocal most, before
            while True:
                await trio.lowlevel.checkpoint()
                most = max(most, len(inbox.payloads) - before)
                before = len(inbox.payloads)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            for _ in range(50_000):
                server.publish(b"news", b"")
            while len(inbox.payloads) < 50_000:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        # The watching task may run first in one turn and last in the next.
        assert 0 < most <= 2 * 64


async def test_a_message_above_the_limit_is_a_loss_and_the_connection_returns(
    runtime: Runtime,
) -> None:
    inbox = Inbox()
    async with running(inbox.subscriber, max_reply_bytes=100_000) as (subscriber, server, reported):
        server.publish(b"news", bytes(1_000_000))
        await trio.sleep(1)
        assert "max_reply_bytes" in reported.problems[0]
        server.publish(b"news", b"small")
        await wait_all_tasks_blocked()
        assert inbox.payloads == [b"small"]
        assert subscriber.is_connected


async def test_a_forbidden_channel_is_reported_and_tried_again(runtime: Runtime) -> None:
    inbox = Inbox()
    async with running(inbox.subscriber) as (subscriber, server, reported):
        server.answers[b"SUBSCRIBE"] = b"-NOPERM No permissions to access a channel\r\n"
        await server.close_all()
        await trio.sleep(1)
        assert "answered to SUBSCRIBE: NOPERM" in reported.problems[-1]
        server.answers.clear()
        await trio.sleep(10)
        assert subscriber.is_connected


# Publishing


async def test_a_publisher_sends_what_waits_at_once(runtime: Runtime) -> None:
    async with running(Publisher) as (publisher, server, _):
        [client] = server.clients
        sends = 0
        receive_some = client.stream.receive_some

        async def counting(max_bytes: int | None = None) -> Any:
            nonlocal sends
            data = await receive_some(10_000_000)
            sends += 1
            return data

        client.stream.receive_some = counting  # type: ignore[method-assign]
        await wait_all_tasks_blocked()
        publisher.publish(b"news", b"first")
        await wait_all_tasks_blocked()
        for n in range(1000):
            assert publisher.publish(b"news", b"%d" % n)
        await wait_all_tasks_blocked()
        assert server.published == 1001
        assert publisher.published == 1001
        # The server was reading already when `first` came.
        assert sends == 1


async def test_what_is_published_during_a_short_loss_is_sent_after_it(runtime: Runtime) -> None:
    async with running(Publisher) as (publisher, server, reported):
        await server.close_all()
        await wait_all_tasks_blocked()
        assert not publisher.is_connected
        assert publisher.publish(b"news", b"1")
        await trio.sleep(0.5)
        assert server.published == 1
        assert not reported.of("dropped")


async def test_what_waits_for_too_long_is_dropped_counted_and_reported(runtime: Runtime) -> None:
    options: dict[str, Any] = {"max_waiting_seconds": 1.0, "backoff": Backoff(10.0, 10.0)}
    async with running(Publisher, **options) as (publisher, server, reported):
        await server.close_all()
        await wait_all_tasks_blocked()
        for _ in range(30):
            publisher.publish(b"news", b"x")
            await trio.sleep(0.1)
        await trio.sleep(10)
        assert publisher.is_connected
        assert server.published == 0
        assert publisher.too_late == 30
        assert sum(count for count, _ in reported.of("dropped")) == 30
        assert "max_waiting_seconds" in reported.of("dropped")[0][1]
        # At most once a second.
        assert len(reported.of("dropped")) <= 5


async def test_what_does_not_fit_is_dropped_counted_and_reported(runtime: Runtime) -> None:
    options: dict[str, Any] = {"max_waiting_bytes": 1000, "max_waiting_seconds": 100.0}
    async with running(Publisher, **options) as (publisher, server, reported):
        await server.close_all()
        await wait_all_tasks_blocked()
        kept = [publisher.publish(b"news", bytes(100)) for _ in range(20)]
        assert publisher.waiting_bytes <= 1000
        assert kept == sorted(kept, reverse=True)
        await trio.sleep(10)
        assert server.published == sum(kept) == 7
        publisher.publish(b"news", b"more")
        await wait_all_tasks_blocked()
        assert publisher.too_many == 13
        assert sum(count for count, _ in reported.of("dropped")) == 13


async def test_what_is_sent_and_not_confirmed_is_bounded(runtime: Runtime) -> None:
    options: dict[str, Any] = {"max_waiting_bytes": 10_000_000, "max_waiting_seconds": 100.0}
    async with running(Publisher, **options) as (publisher, server, _):
        server.pause()
        for _ in range(80):
            publisher.publish(b"news", bytes(100_000))
        await wait_all_tasks_blocked()
        assert publisher.waiting_bytes > 3_500_000
        server.resume()
        await wait_all_tasks_blocked()
        assert publisher.waiting_bytes == 0
        assert server.published == publisher.published == 80


async def test_what_was_sent_and_not_confirmed_counts_as_unconfirmed(runtime: Runtime) -> None:
    async with running(Publisher) as (publisher, server, _):
        publisher.publish(b"news", b"1")
        await wait_all_tasks_blocked()
        server.pause()
        for _ in range(5):
            publisher.publish(b"news", b"2")
        await wait_all_tasks_blocked()
        await server.close_all()
        await wait_all_tasks_blocked()
        assert (publisher.published, publisher.unconfirmed) == (1, 5)


async def test_a_refused_publish_is_counted_and_reported_and_no_loss(runtime: Runtime) -> None:
    async with running(Publisher) as (publisher, server, reported):
        server.answers[b"PUBLISH"] = b"-NOPERM No permissions to access a channel\r\n"
        for _ in range(100):
            publisher.publish(b"news", b"x")
        await trio.sleep(1)
        assert (publisher.refused, publisher.published, publisher.losses) == (100, 0, 0)
        server.answers.clear()
        publisher.publish(b"news", b"x")
        await trio.sleep(1)
        assert publisher.published == 1
        assert sum(count for count, _ in reported.of("dropped")) == 100
        assert "NOPERM" in reported.of("dropped")[0][1]


async def test_flush_waits_until_everything_is_confirmed(runtime: Runtime) -> None:
    async with running(Publisher) as (publisher, server, _):
        await publisher.flush()
        server.pause()
        publisher.publish(b"news", b"x")
        with trio.move_on_after(5) as scope:
            await publisher.flush()
        assert scope.cancelled_caught
        server.resume()
        await publisher.flush()
        assert publisher.published == 1


async def test_flush_returns_when_the_connection_is_lost(runtime: Runtime) -> None:
    async with running(Publisher) as (publisher, server, _):
        server.pause()
        publisher.publish(b"news", b"x")
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publisher.flush)
            await wait_all_tasks_blocked()
            await server.close_all()


async def test_what_is_first_is_sent_before_everything_that_waits(runtime: Runtime) -> None:
    inbox = Inbox()
    async with running(inbox.subscriber) as (_, server, reported):
        options = Options(
            server=RedisServer("redis://db", connect=server.connect),
            client_name="a",
            report=reported.report,
            max_waiting_seconds=9,
        )
        publisher = Publisher(options, [(b"news", b"first"), (b"news", b"second")])
        publisher.publish(b"news", b"third")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publisher.main)
            await trio.sleep(1)
            assert inbox.payloads == [b"first", b"second", b"third"]
            for client in list(server.clients):
                if client.name == b"a:publish":
                    await trio.aclose_forcefully(client.stream)
            await trio.sleep(1)
            publisher.publish(b"news", b"again")
            await wait_all_tasks_blocked()
            assert inbox.payloads[3:] == [b"again"]
            nursery.cancel_scope.cancel()


async def test_what_is_first_is_sent_again_if_its_connection_was_lost(runtime: Runtime) -> None:
    async with trio.open_nursery() as nursery:
        server = RespServer(nursery)
        options = Options(
            server=RedisServer("redis://db", connect=server.connect),
            client_name="a",
            report=Reported().report,
        )
        publisher = Publisher(options, [(b"news", b"first")])
        nursery.start_soon(publisher.main)
        while not publisher.is_connected:
            await trio.lowlevel.checkpoint()
        server.pause()
        await wait_all_tasks_blocked()
        await server.close_all()
        server.resume()
        await trio.sleep(1)
        assert publisher.published == 1
        nursery.cancel_scope.cancel()


async def test_the_first_attempt_is_known_to_have_succeeded_or_failed(runtime: Runtime) -> None:
    async with trio.open_nursery() as nursery:
        server = RespServer(nursery)
        for up in (True, False):
            server.is_up = up
            options = Options(
                server=RedisServer("redis://db", connect=server.connect),
                client_name="a",
                report=Reported().report,
            )
            publisher = Publisher(options)
            nursery.start_soon(publisher.main)
            await publisher.tried.wait()
            assert publisher.is_connected == up
        nursery.cancel_scope.cancel()
