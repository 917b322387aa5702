"""One suite for the server that simulations use, and for a real one: answers, pushes, order, errors and limits.

Here it runs over `SimulatedRedis`, on a virtual clock. tests/integration/test_redis_server_contract.py runs every test
over a real Valkey server.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from random import Random
from typing import Any, Protocol, TypeAlias, cast

import hiredis
import pytest
import trio
import trio.testing

from channels.durable.redis_script import (
    SCRIPT,
    SHA,
    Keys,
    append_arguments,
    parse_ends,
    parse_publication,
    read_arguments,
)
from channels.durable.storage import NewAnswer, NewMessage
from channels.durable.stream import Limits
from channels.laboratory.keyspace import ScriptCall
from channels.laboratory.simulated_redis import SCRIPTS
from channels.testing import SimulatedRedis
from supervision.laboratory.entropy import Streams
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.world.disk import Disk
from supervision.laboratory.simulation.world.network import Network, VirtualListener
from supervision.recording.trace import Trace
from tests.patience import PATIENCE, until

VIRTUAL_CLOCK = True

_INCOMPLETE = object()


class Server(Protocol):
    """A running server."""

    async def connect(self) -> trio.abc.Stream: ...

    async def restart(self) -> None:
        """End it without a goodbye, and start it again."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


Start: TypeAlias = Callable[..., Awaitable[Server]]
"""Starts a server; the options are `password`, `max_output_bytes` and `appendonly`."""


class Simulated:
    """A server on the network of a simulated world."""

    def __init__(self, nursery: trio.Nursery, **options: Any) -> None:
        self._redis = SimulatedRedis(**options)
        self.disk = Disk(Random(1))
        self._network = Network(Knobs(), Streams(7), Trace(lambda: (0.0, 0, 0), keep=False))
        self._nursery = nursery
        self._scope = trio.CancelScope()
        nursery.start_soon(self._run, self._scope)

    async def _run(self, scope: trio.CancelScope) -> None:
        with scope:
            await self._redis.main(self)

    def listen(self, port: int = 0) -> VirtualListener:
        return self._network.listen("redis", port)

    def now(self) -> float:
        return 1_767_225_600.0 + trio.current_time()

    async def connect(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return await self._network.connect("redis", 6379, source="client")

    async def restart(self) -> None:
        self._scope.cancel()
        self._network.host_gone("redis", "killed")
        self._scope = trio.CancelScope()
        self._nursery.start_soon(self._run, self._scope)
        await trio.testing.wait_all_tasks_blocked()

    def pause(self) -> None:
        self._redis.pause()

    def resume(self) -> None:
        self._redis.resume()


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with trio.open_nursery() as nursery:

        async def started(**options: Any) -> Simulated:
            server = Simulated(nursery, **options)
            await trio.testing.wait_all_tasks_blocked()
            return server

        yield started
        nursery.cancel_scope.cancel()


@pytest.fixture
async def server(start: Start) -> Server:
    return await start()


def packed(*command: str | bytes | int) -> bytes:
    return hiredis.pack_command(command)  # type: ignore[arg-type,no-any-return] # a wrong stub


class Client:
    """A client that sends commands and reads what comes back. A push is a tuple, an error a `hiredis.ReplyError`."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._read: deque[Any] = deque()

    async def send(self, *command: str | bytes | int) -> None:
        await self.stream.send_all(packed(*command))

    async def next(self) -> Any:
        """Return the next reply or push; raise EOFError at the end."""
        with trio.fail_after(PATIENCE):
            while not self._read:
                data = await self.stream.receive_some(65536)
                if not data:
                    raise EOFError
                self._reader.feed(bytes(data))
                self._read += iter(self._reader.gets, _INCOMPLETE)
        value = self._read.popleft()
        return tuple(value) if isinstance(value, hiredis.PushNotification) else value

    async def ask(self, *command: str | bytes | int) -> Any:
        await self.send(*command)
        return await self.next()

    async def take(self, count: int) -> list[Any]:
        return [await self.next() for _ in range(count)]

    async def rest(self) -> list[Any]:
        """Return everything up to the end of the connection."""
        values = []
        while True:
            try:
                values.append(await self.next())
            except (EOFError, trio.BrokenResourceError):
                return values

    async def subscribe(self, *channels: str) -> None:
        await self.send("SUBSCRIBE", *channels)
        await self.take(len(channels))


@asynccontextmanager
async def connected(server: Server, *, hello: bool = True) -> AsyncIterator[Client]:
    client = Client(await server.connect())
    try:
        if hello:
            assert (await client.ask("HELLO", 3))[b"proto"] == 3
        yield client
    finally:
        await trio.aclose_forcefully(client.stream)


def _has(values: list[Any], count: int) -> bool:
    return len(values) == count


def message(channel: bytes, payload: bytes) -> tuple[bytes, bytes, bytes]:
    return b"message", channel, payload


# The handshake


async def test_hello_tells_the_server_and_the_protocol(server: Server) -> None:
    async with connected(server, hello=False) as client:
        facts = await client.ask("HELLO", 3)
        assert facts[b"proto"] == 3
        assert facts[b"mode"] == b"standalone"
        assert isinstance(facts[b"server"], bytes)


async def test_an_unknown_version_of_the_protocol_is_refused(server: Server) -> None:
    async with connected(server, hello=False) as client:
        assert str(await client.ask("HELLO", 4)).startswith("NOPROTO ")
        assert str(await client.ask("HELLO", "x")).startswith("ERR ")
        assert str(await client.ask("HELLO", 3, "FOO")).startswith("ERR Syntax error in HELLO")


async def test_a_name_is_plain_text_without_spaces(server: Server) -> None:
    async with connected(server) as client:
        assert await client.ask("CLIENT", "SETNAME", "ashtree:a:publish") == b"OK"
        assert str(await client.ask("CLIENT", "SETNAME", "a b")).startswith("ERR Client names")
        assert str(await client.ask("CLIENT", "NONSENSE")).startswith("ERR unknown subcommand")


async def test_a_database_must_exist(server: Server) -> None:
    async with connected(server) as client:
        assert await client.ask("SELECT", 3) == b"OK"
        assert str(await client.ask("SELECT", 99)) == "ERR DB index is out of range"
        assert str(await client.ask("SELECT", "x")).startswith("ERR ")


async def test_a_ping_is_answered_with_pong_or_its_text(server: Server) -> None:
    async with connected(server, hello=False) as client:
        assert await client.ask("PING") == b"PONG"
        assert await client.ask("ping", "hello") == b"hello"


async def test_unknown_commands_and_wrong_arguments_are_errors_and_the_connection_stays(
    server: Server,
) -> None:
    async with connected(server) as client:
        assert str(await client.ask("NONSENSE", 1)).startswith("ERR unknown command 'NONSENSE'")
        for command in (("PUBLISH", "a"), ("SUBSCRIBE",), ("SELECT",), ("PUBLISH", "a", "b", "c")):
            name = command[0].lower()
            expected = f"ERR wrong number of arguments for '{name}' command"
            assert str(await client.ask(*command)) == expected
        assert await client.ask("PING") == b"PONG"


async def test_a_line_of_words_is_a_command(server: Server) -> None:
    async with connected(server) as client:
        await client.stream.send_all(b"PUBLISH news hello\r\n\r\nPING\r\n")
        assert await client.take(2) == [0, b"PONG"]


@pytest.mark.parametrize(
    ("request_bytes", "problem"),
    [
        (b"*1\r\n!4\r\nPING\r\n", "ERR Protocol error: expected '$', got '!'"),
        (b"*x\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n$x\r\n", "ERR Protocol error: invalid bulk length"),
    ],
    ids=["no bulk", "no count", "no size"],
)
async def test_a_malformed_request_is_an_error_and_the_end(
    server: Server, request_bytes: bytes, problem: str
) -> None:
    async with connected(server) as client:
        await client.stream.send_all(request_bytes)
        assert [str(value) for value in await client.rest()] == [problem]


async def test_a_command_in_pieces_is_one_command(server: Server) -> None:
    async with connected(server) as client:
        for byte in packed("PUBLISH", "news", "x" * 20):
            await client.stream.send_all(bytes([byte]))
        assert await client.next() == 0


# Passwords


async def test_without_the_password_nothing_is_answered_but_an_error(start: Start) -> None:
    server = await start(password="right")
    async with connected(server, hello=False) as client:
        for command in (("PING",), ("PUBLISH", "a", "b"), ("SUBSCRIBE", "a"), ("SELECT", 1)):
            assert str(await client.ask(*command)) == "NOAUTH Authentication required."
        assert str(await client.ask("HELLO", 3)).startswith("NOAUTH HELLO must be called")


async def test_a_wrong_password_or_user_is_refused_and_may_try_again(start: Start) -> None:
    server = await start(password="right")
    async with connected(server, hello=False) as client:
        for credentials in (("default", "wrong"), ("nobody", "right")):
            problem = str(await client.ask("HELLO", 3, "AUTH", *credentials))
            assert problem.startswith("WRONGPASS invalid username-password pair")
        assert str(await client.ask("AUTH", "wrong")).startswith("WRONGPASS")
        hello = await client.ask("HELLO", 3, "AUTH", "default", "right", "SETNAME", "me")
        assert hello[b"proto"] == 3
        assert await client.ask("PING") == b"PONG"
    async with connected(server, hello=False) as client:
        assert await client.ask("AUTH", "right") == b"OK"
        assert await client.ask("PING") == b"PONG"


async def test_without_a_password_of_the_server_any_is_right_for_hello(server: Server) -> None:
    async with connected(server, hello=False) as client:
        assert (await client.ask("HELLO", 3, "AUTH", "default", "any"))[b"proto"] == 3
        assert str(await client.ask("AUTH", "any")).startswith("ERR AUTH <password> called without")


# Publish and subscribe


async def test_a_subscription_is_confirmed_as_a_push_with_the_number_of_channels(
    server: Server,
) -> None:
    async with connected(server) as client:
        await client.send("SUBSCRIBE", "a", "b", "a")
        assert await client.take(3) == [
            (b"subscribe", b"a", 1),
            (b"subscribe", b"b", 2),
            (b"subscribe", b"a", 2),
        ]
        await client.send("UNSUBSCRIBE", "a", "never")
        assert await client.take(2) == [(b"unsubscribe", b"a", 1), (b"unsubscribe", b"never", 1)]
        assert await client.ask("UNSUBSCRIBE") == (b"unsubscribe", b"b", 0)


async def test_a_subscriber_may_send_other_commands(server: Server) -> None:
    async with connected(server) as client:
        await client.subscribe("a")
        assert await client.ask("PING") == b"PONG"
        assert await client.ask("PUBLISH", "other", "x") == 0


async def test_before_hello_messages_are_arrays_and_no_pushes(server: Server) -> None:
    async with connected(server, hello=False) as client, connected(server) as other:
        assert await client.ask("SUBSCRIBE", "a") == [b"subscribe", b"a", 1]
        await other.ask("PUBLISH", "a", "x")
        assert await client.next() == [b"message", b"a", b"x"]


async def test_a_message_reaches_each_subscriber_once_and_nobody_else(server: Server) -> None:
    async with (
        connected(server) as one,
        connected(server) as two,
        connected(server) as other,
        connected(server) as publisher,
    ):
        await one.subscribe("news", "news")
        await two.subscribe("news", "old")
        await other.subscribe("new", "news2", "NEWS")
        assert await publisher.ask("PUBLISH", "news", "hello") == 2
        for client in (one, two):
            assert await client.next() == message(b"news", b"hello")
        for client in (one, two, other):
            assert await client.ask("PING", "nothing more") == b"nothing more"


async def test_the_order_of_each_publisher_holds_and_all_subscribers_see_the_same(
    server: Server,
) -> None:
    async with (
        connected(server) as one,
        connected(server) as two,
        connected(server) as first,
        connected(server) as second,
    ):
        await one.subscribe("news")
        await two.subscribe("news")

        async def publish(client: Client, letter: str) -> None:
            for n in range(300):
                await client.send("PUBLISH", "news", f"{letter}{n}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish, first, "a")
            nursery.start_soon(publish, second, "b")
        heard = [value[2].decode() for value in await one.take(600)]
        assert [value[2].decode() for value in await two.take(600)] == heard
        for letter in "ab":
            assert [each for each in heard if each[0] == letter] == [
                f"{letter}{n}" for n in range(300)
            ]


async def test_replies_come_in_the_order_of_their_commands(server: Server) -> None:
    async with connected(server) as client:
        await client.stream.send_all(
            b"".join(
                packed(*command)
                for command in (("PING", "1"), ("PUBLISH", "a", "x"), ("NONSENSE",), ("PING", "2"))
            )
        )
        first, second, third, fourth = await client.take(4)
        assert (first, second, fourth) == (b"1", 0, b"2")
        assert isinstance(third, hiredis.ReplyError)


async def test_a_publisher_that_has_subscribed_gets_its_own_message(server: Server) -> None:
    async with connected(server) as client:
        await client.subscribe("a")
        await client.send("PUBLISH", "a", "x")
        assert sorted(await client.take(2), key=str) == [message(b"a", b"x"), 1]


async def test_payloads_and_channels_are_any_bytes(server: Server) -> None:
    payload = bytes(range(256)) * 4000
    async with connected(server) as client, connected(server) as publisher:
        await client.send("SUBSCRIBE", b"\xff\r\n")
        assert await client.next() == (b"subscribe", b"\xff\r\n", 1)
        await publisher.send("PUBLISH", b"\xff\r\n", payload)
        assert await client.next() == message(b"\xff\r\n", payload)
        assert await publisher.next() == 1


async def test_who_has_gone_is_no_subscriber_any_more(server: Server) -> None:
    async with connected(server) as publisher:
        async with connected(server) as client:
            await client.subscribe("a")
            assert await publisher.ask("PUBLISH", "a", "x") == 1
        with trio.fail_after(PATIENCE):
            while await publisher.ask("PUBLISH", "a", "x") != 0:
                await trio.lowlevel.checkpoint()


# Trouble


async def test_a_subscriber_that_does_not_read_is_closed_and_its_publisher_is_not(
    start: Start,
) -> None:
    server = await start(max_output_bytes=1024 * 1024)
    async with (
        connected(server) as slow,
        connected(server) as quick,
        connected(server) as publisher,
    ):
        await slow.subscribe("news")
        await quick.subscribe("news")
        heard: list[Any] = []

        async def read() -> None:
            while True:
                heard.append(await quick.next())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            sent, subscribers = 0, 2
            # How much the system takes for the slow one depends on the machine. Messages are small, because Valkey does
            # not count the bytes of large ones that clients share.
            with trio.fail_after(PATIENCE):
                while subscribers == 2:
                    await publisher.stream.send_all(packed("PUBLISH", "news", bytes(5000)) * 100)
                    subscribers = (await publisher.take(100))[-1]
                    sent += 100
                    await until(partial(_has, heard, sent))
            nursery.cancel_scope.cancel()
        assert subscribers == 1
        assert len(await slow.rest()) < sent


async def test_a_server_that_comes_back_has_no_clients_and_no_subscriptions(
    server: Server,
) -> None:
    async with connected(server) as client:
        await client.subscribe("a")
        await server.restart()
        assert await client.rest() == []
    async with connected(server) as publisher:
        assert await publisher.ask("PUBLISH", "a", "x") == 0


async def test_a_paused_server_answers_later_and_loses_nothing(server: Server) -> None:
    async with connected(server) as client, connected(server) as publisher:
        await client.subscribe("a")
        server.pause()
        for n in range(10):
            await publisher.send("PUBLISH", "a", n)
        replies: list[Any] = []

        async def read() -> None:
            replies.extend(await publisher.take(10))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(0.2)
            assert replies == []
            server.resume()
            await until(lambda: len(replies) == 10)
        assert await client.take(10) == [message(b"a", b"%d" % n) for n in range(10)]


# The script of a history


class History:
    """Calls of the script, as a node makes them.

    Attributes:
        run: the run of the server that the node is connected to.
        keeps: True if the node trusts restarts.
    """

    def __init__(self, key: str, **limits: Any) -> None:
        self.keys = Keys.of("contract", key, 0)
        self.limits = Limits(**limits)
        self.run = "1"
        self.keeps = False
        self._epochs = count(1)

    def command(self, verb: str, *arguments: str | int | bytes) -> tuple[str | int | bytes, ...]:
        keys = self.keys
        epoch = f"e{next(self._epochs)}"
        common = (verb, keys.streams, epoch, self.run, int(self.keeps), 60_000)
        return "EVAL", SCRIPT, len(keys.names), *keys.names, *common, *arguments

    def append(
        self, *topics: str, now: float = 0.0, answers: Sequence[NewAnswer] = ()
    ) -> tuple[str | int | bytes, ...]:
        batch = [NewMessage(topic, "edited", b"{}") for topic in topics]
        arguments = append_arguments(batch, answers, self.limits, self.keys.channel, now)
        return self.command("append", *arguments)

    def read(self, topic: str, after: int = 0) -> tuple[str | int | bytes, ...]:
        return self.command("read", *read_arguments(topic, after, 100, 0.0))

    def stream(self, epoch: str, topic: str) -> bytes:
        return self.keys.streams + f"{epoch}:{topic}".encode()


def appended(
    epoch: bytes, topics: int, messages: int, size: int, *offsets: int, appends: int
) -> list[Any]:
    """The answer to an append without keys."""
    return [epoch, [topics, messages, size, 0, appends, 0], list(offsets), 0, [], [], 0, []]


async def test_a_script_is_known_by_its_sha_after_its_first_run(server: Server) -> None:
    async with connected(server) as client:
        await client.ask("SCRIPT", "FLUSH")
        _, _, *rest = History("sha").read("a")
        assert str(await client.ask("EVALSHA", SHA, *rest)).startswith("NOSCRIPT ")
        assert await client.ask("EVAL", SCRIPT, *rest) == [b"e1", 1, 0, 0, []]
        assert await client.ask("EVALSHA", SHA, *rest) == [b"e1", 1, 0, 0, []]
        await client.ask("SCRIPT", "FLUSH")
        assert str(await client.ask("EVALSHA", SHA, *rest)).startswith("NOSCRIPT ")


ANY_SCRIPT = """
redis.call('PUBLISH', ARGV[2], ARGV[1])
return {KEYS[1], ARGV[1], tonumber(redis.call('TIME')[1]), {}, false}
"""


def any_script(call: ScriptCall) -> list[Any]:
    name, payload = call.names[0], call.arguments[0]
    call.publish(call.arguments[1], payload)
    return [name, payload, int(call.now()), [], None]


async def test_every_listed_script_runs_with_its_keys_its_arguments_and_the_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cast("Any", SCRIPTS), ANY_SCRIPT.encode(), any_script)
    sha = hashlib.sha1(ANY_SCRIPT.encode()).hexdigest()
    async with connected(server) as client, connected(server) as other:
        await other.subscribe("any")
        arguments = (1, "a key", b"\xff", "any")
        assert str(await client.ask("EVALSHA", sha, *arguments)).startswith("NOSCRIPT ")
        for command in (("EVAL", ANY_SCRIPT), ("EVALSHA", sha.upper())):
            name, payload, seconds, empty, null = await client.ask(*command, *arguments)
            assert (name, payload, empty, null) == (b"a key", b"\xff", [], None)
            assert seconds > 1_700_000_000
            assert await other.next() == message(b"any", b"\xff")


async def test_an_append_publishes_what_it_keeps_before_its_answer(server: Server) -> None:
    history = History("publishes")
    async with connected(server) as client:
        await client.subscribe(history.keys.channel.decode())
        await client.send(*history.append("a", "b"))
        values = await client.take(3)
        assert [each for each in values if isinstance(each, list)] == [
            appended(b"e1", 2, 2, 16, 1, 1, appends=2)
        ]
        heard = [parse_publication(each[2]) for each in values if isinstance(each, tuple)]
        assert [(topic, entry.offset) for topic, entry in heard] == [("a", 1), ("b", 1)]
        assert (await client.ask(*history.read("a")))[-1] == [b"edited", b"{}"]


@pytest.mark.parametrize("lost", ["meta", "used"])
async def test_the_loss_of_a_key_with_offsets_begins_a_new_epoch(server: Server, lost: str) -> None:
    history = History(f"lost {lost}")
    async with connected(server) as client:
        assert await client.ask(*history.append("a", "a")) == appended(
            b"e1", 1, 2, 16, 1, 2, appends=2
        )
        assert await client.ask("DEL", getattr(history.keys, lost)) == 1
        assert await client.ask(*history.read("a")) == [b"e2", 1, 0, 0, []]
        assert await client.ask(*history.append("a")) == appended(b"e2", 1, 1, 8, 1, appends=1)
        assert await client.ask(*history.read("a")) == [b"e2", 1, 1, 1, [b"edited", b"{}"]]


async def test_the_loss_of_a_stream_keeps_its_offsets(server: Server) -> None:
    history = History("lost stream")
    async with connected(server) as client:
        await client.ask(*history.append("a", "a", "b"))
        assert await client.ask("DEL", history.stream("e1", "a"), "never") == 1
        assert await client.ask(*history.read("a")) == [b"e1", 3, 2, 0, []]
        assert await client.ask(*history.append("a")) == appended(b"e1", 2, 2, 16, 3, appends=4)
        assert await client.ask(*history.read("a")) == [b"e1", 3, 3, 3, [b"edited", b"{}"]]


@pytest.mark.parametrize("lost", ["values", "order"])
async def test_a_lost_key_of_answers_is_as_if_they_were_forgotten(
    server: Server, lost: str
) -> None:
    history = History(f"lost {lost}")
    first, second = [NewAnswer("k", b"1")], [NewAnswer("k", b"2")]
    async with connected(server) as client:
        assert (await client.ask(*history.append("a", answers=first)))[5] == [b"1"]
        assert (await client.ask(*history.append(answers=second)))[5] == [b"1"]
        assert await client.ask("DEL", getattr(history.keys, lost)) == 1
        assert (await client.ask(*history.append(answers=second)))[5] == [b"2"]
        assert await client.ask(*history.command("recall", "k", "0.0")) == [b"e1", [b"2"]]


async def test_a_stream_expires_with_the_age_of_its_last_message(server: Server) -> None:
    history = History("expires", max_age=0.1)
    async with connected(server) as client:
        await client.ask(*history.append("a"))
        assert await client.ask("EXISTS", history.stream("e1", "a"), history.keys.meta) == 2
        with trio.fail_after(PATIENCE):
            while await client.ask("EXISTS", history.stream("e1", "a")):  # noqa: ASYNC110 - no event tells
                await trio.sleep(0.02)
        epoch, offsets, _ = parse_ends(await client.ask(*history.command("ends", "a", "b")))
        assert (epoch, offsets) == ("e1", [1, 0])


@pytest.mark.parametrize(("keeps", "epoch"), [(False, b"e2"), (True, b"e1")])
async def test_another_run_of_the_server_begins_an_epoch_unless_it_is_trusted(
    server: Server, keeps: bool, epoch: bytes
) -> None:
    history = History(f"run {keeps}")
    history.keeps = keeps
    async with connected(server) as client:
        await client.ask(*history.append("a"))
        history.run = "2"
        assert (await client.ask(*history.read("a")))[0] == epoch
        assert (await client.ask(*history.read("a")))[0] == epoch


async def test_everything_is_lost_when_all_keys_are(server: Server) -> None:
    history = History("flush")
    async with connected(server) as client:
        await client.ask(*history.append("a"))
        assert await client.ask("FLUSHALL") == b"OK"
        assert (await client.ask(*history.read("a"))) == [b"e2", 1, 0, 0, []]


@pytest.mark.parametrize("appendonly", [True, False])
async def test_a_restart_has_another_run_and_keeps_the_data_with_appendonly(
    start: Start, appendonly: bool
) -> None:
    server = await start(appendonly=appendonly)
    history = History("restart")
    history.keeps = True
    async with connected(server) as client:
        config = await client.ask("CONFIG", "GET", "*append*")
        assert config[b"appendonly"] == (b"yes" if appendonly else b"no")
        assert config[b"appendfsync"] == b"always"
        assert config[b"no-appendfsync-on-rewrite"] == b"no"
        replication = await client.ask("INFO", "replication")
        assert b"second_repl_offset:-1" in replication.splitlines()
        first = await client.ask("INFO", "server")
        assert _run_id(await client.ask("INFO", "server")) == _run_id(first)
        await client.ask(*history.append("a"))
        await server.restart()
    async with connected(server) as client:
        second = await client.ask("INFO", "server")
        assert _run_id(first) != _run_id(second)
        epoch, _, last, *_ = await client.ask(*history.read("a"))
        assert (epoch, last) == ((b"e1", 1) if appendonly else (b"e2", 0))


def _run_id(info: bytes) -> bytes:
    [line] = [each for each in info.splitlines() if each.startswith(b"run_id:")]
    return line
