"""The contract of arbiters on a real Valkey server, and its scripts beside those of the server in memory."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import pytest
import trio
import trio.testing

from actors import open_runtime
from channels.entities.arbiter import ArbiterUnavailable, OwnedBy
from channels.entities.arbiters import redis_scripts as scripts
from channels.entities.arbiters.redis import RedisArbiter
from channels.pubsub.adapter import Node
from channels.pubsub.redis.protocol import Script, run_id_of
from channels.pubsub.redis.server_errors import ENTITY_ACL_RULE
from channels.testing import SimulatedRedis
from tests.channels.entities import test_arbiters as contract
from tests.channels.entities.arbiters import Cluster, owned
from tests.contracts.test_redis_servers import Client
from tests.integration.valkey import Valkey, valkey
from tests.patience import until

_prefixes = itertools.count()

# The tests only, and not their fixture, which has a server in memory.
globals().update({name: each for name, each in vars(contract).items() if name.startswith("test_")})
a, b = contract.a, contract.b


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with valkey(tmp_path_factory.mktemp("valkey")) as started:
        yield started


def prefix_on(server: Valkey) -> str:
    """Return a new prefix, with which the server grants keys at once."""
    prefix = f"test{next(_prefixes)}"
    run = run_id_of(server.command("INFO", "server"))
    # It waits for one lease, which is very short in this call.
    assert run is not None
    server.command(*_command(_Session(prefix, run.decode(), "a", 1), scripts.OWNER, "x", lease=1))
    return prefix


@asynccontextmanager
async def cluster_on(
    server: Valkey, prefix: str, *, user: str = "", **options: Any
) -> AsyncIterator[Cluster]:
    url = f"redis://{user}127.0.0.1:{server.port}?prefix={prefix}"

    async def died(name: str) -> None:
        # As if its lease were over.
        node = scripts.identity_of(Node(name, "i1"))
        server.command("DEL", scripts.Keys.of(prefix, "auctions").sessions + node)
        await trio.lowlevel.checkpoint()

    async with open_runtime(log=False):
        settings: dict[str, Any] = {"renew_interval": 0.2, "timeout": 8.0, **options}
        yield Cluster(lambda name: RedisArbiter(url, **settings), died)


@pytest.fixture
async def cluster(server: Valkey) -> AsyncIterator[Cluster]:
    async with cluster_on(server, prefix_on(server)) as cluster:
        yield cluster


async def test_records_of_ended_sessions_are_removed_from_a_large_hash(server: Valkey) -> None:
    prefix = prefix_on(server)
    owners = scripts.Keys.of(prefix, "auctions").owners
    async with cluster_on(server, prefix) as cluster:
        one, other = await cluster.start("a"), await cluster.start("b")
        await owned(other, "kept")
        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(one.acquire, str(number))
        assert server.command("HLEN", owners) == 1001
        await cluster.kill("a")
        await until(lambda: server.command("HLEN", owners) == 1)
        assert await other.owner("kept") == Node("b", "i1")


async def test_owners_keep_their_keys_when_a_real_server_restarts(server: Valkey) -> None:
    prefix = prefix_on(server)
    # Longer than the restart takes.
    async with cluster_on(server, prefix, lease=6.0, timeout=4.0) as cluster:
        one, other = await cluster.start("a"), await cluster.start("b")
        fences = {str(number): await owned(one, str(number)) for number in range(700)}
        await trio.to_thread.run_sync(server.kill)
        await trio.to_thread.run_sync(server.start)
        with pytest.raises(ArbiterUnavailable, match="is new or has restarted"):
            await other.acquire("0")
        # The rest of the wait fits into the time limit.
        await trio.sleep(3.0)
        assert await other.acquire("0") == OwnedBy(Node("a", "i1"))
        for key, fence in fences.items():
            assert await owned(one, key) == fence


async def test_the_acl_rule_suffices_for_the_arbiter(server: Valkey) -> None:
    prefix = prefix_on(server)
    rule = ENTITY_ACL_RULE.replace("PREFIX", prefix)
    server.command("ACL", "SETUSER", "arbiter", "on", ">secret", *rule.split())
    async with cluster_on(server, prefix, user="arbiter:secret@") as cluster:
        one, other = await cluster.start("a"), await cluster.start("b")
        fence = await owned(one, "42")
        assert await one.set_alarm("42", 1.0, fence)
        assert await one.set_alarm("42", None, fence)
        assert await one.set_alarm("42", 1.0, fence)
        assert await one.due_alarms(2.0, 1) == [("42", 1.0)]
        await one.clear_alarm("42", 1.0)
        assert await one.transfer("42", fence, Node("b", "i1")) is not None
        assert await other.owner("42") == Node("b", "i1")
        assert await other.release("42", await owned(other, "42"))
        await owned(one, "43")
        await one.close_session()
        # A renewal removes the record of the ended session.
        owners = scripts.Keys.of(prefix, "auctions").owners
        await until(lambda: server.command("HLEN", owners) == 0)
        before = other.statistics()["renewals"]
        server.command("FLUSHALL")
        # The node restores its session.
        await until(lambda: other.statistics()["renewals"] > before)
        assert other.lease.is_valid, other.lease.problem


# The scripts


class _Session(NamedTuple):
    """A session, and the run of the server that its node knows."""

    prefix: str
    run: str
    node: str
    number: int


class _Fence(NamedTuple):
    """A fence by its place among all granted fences, so that two servers can be compared."""

    place: int
    more: int = 0


class _Fences:
    """The fences that one server has granted, in this order."""

    def __init__(self) -> None:
        # A fence that no server grants comes first.
        self._granted = [1]

    def seen(self, fence: int) -> int:
        """Return the place of a fence."""
        if fence not in self._granted:
            assert fence > max(self._granted)
            self._granted.append(fence)
        return self._granted.index(fence)

    def value(self, argument: Any) -> Any:
        """Return the value of an argument for this server."""
        if not isinstance(argument, _Fence):
            return argument
        known = argument.place < len(self._granted)
        return (self._granted[argument.place] if known else 1) + argument.more

    def comparable(self, answer: Any) -> Any:
        """Return an answer without what differs between servers."""
        match answer:
            case [scripts.WAIT, int(microseconds)]:
                return [scripts.WAIT, microseconds > 0]
            case [scripts.DONE, int(fence), int(arrived)]:
                return [scripts.DONE, self.seen(fence), arrived]
            case [scripts.DONE, [*alarms]]:
                # Each server has its own form of numbers.
                return [scripts.DONE, alarms[::2], [float(each) for each in alarms[1::2]]]
            case _:
                return answer


# Milliseconds of a lease: so many that no session ends by itself, and no time without grants.
_LONG = 100_000


def _command(session: _Session, script: Script, *arguments: Any, lease: int = _LONG) -> list[Any]:
    keys = scripts.Keys.of(session.prefix, "auctions")
    identity = scripts.identity_of(Node(session.node, "i"))
    begin = ["EVAL", script.text, len(keys.names), *keys.names]
    return [*begin, session.run, lease, keys.sessions, identity, session.number, *arguments]


class _RandomCalls:
    """Random calls of the scripts by three nodes.

    Args:
        chance: decides.
        prefix: the prefix of the keys.
    """

    def __init__(self, chance: random.Random, prefix: str) -> None:
        self._chance = chance
        self._prefix = prefix
        self._numbers = dict.fromkeys("abc", 1)
        self._run = self._restored = 1

    def session(self) -> _Session:
        chance = self._chance
        node = chance.choice("abc")
        number = self._numbers[node] - (chance.random() < 0.05)
        return _Session(self._prefix, str(self._run), node, number)

    def next(self) -> list[Any]:
        """Return a command."""
        chance = self._chance
        key, fence = chance.choice("wxyz"), _Fence(chance.randint(0, 60))
        to = scripts.identity_of(Node(chance.choice("abcd"), "i"))
        at = repr(chance.uniform(0, 1e9))
        calls: dict[str, tuple[int, Script, tuple[Any, ...]]] = {
            "open": (5, scripts.OPEN, ()),
            "close": (2, scripts.CLOSE, ()),
            "renew": (10, scripts.RENEW, (self._restored, 0, 1000, 10**9)),
            "acquire": (30, scripts.ACQUIRE, (key, 0)),
            "acquire at least": (10, scripts.ACQUIRE, (key, fence._replace(more=1))),
            "release": (10, scripts.RELEASE, (key, fence)),
            "transfer": (15, scripts.TRANSFER, (key, fence, to)),
            "set alarm": (15, scripts.SET_ALARM, (key, fence, at)),
            "no alarm": (5, scripts.SET_ALARM, (key, fence, "")),
            "due alarms": (10, scripts.DUE_ALARMS, (repr(5e8), 3)),
            "clear alarm": (3, scripts.CLEAR_ALARM, (key, at)),
            "owner": (10, scripts.OWNER, (key,)),
        }
        weights = [weight for weight, _, _ in calls.values()]
        verb = chance.choices(list(calls), weights)[0]
        session = self.session()
        if verb == "open":
            self._numbers[session.node] += 1
            session = session._replace(number=self._numbers[session.node])
        _, script, arguments = calls[verb]
        return _command(session, script, *arguments)

    def restart(self) -> list[list[Any]]:
        """Return the commands after a restart of the server, with or without its data."""
        chance = self._chance
        self._run += 1
        session, keys = self.session(), scripts.Keys.of(self._prefix, "auctions")
        records = [(key, _Fence(chance.randint(0, 60)), 0) for key in "wx"]
        commands = [["DEL", *keys.names]] if chance.random() < 0.5 else []
        # The first call begins the time without grants.
        commands.append(_command(session, scripts.OWNER, "w"))
        commands.append(_command(session, scripts.RESTORE, *itertools.chain(*records)))
        commands.append(_command(session, scripts.RELEASE, "w", records[0][1]))
        commands.append(_command(session, scripts.ACQUIRE, "w", 0))
        # A call with a very short lease ends that time.
        commands.append(_command(session, scripts.OWNER, "w", lease=1))
        self._restored = chance.choice([self._run, self._restored])
        return commands


@pytest.mark.parametrize("seed", range(8))
async def test_both_servers_answer_random_calls_of_the_scripts_alike(
    server: Valkey, seed: int
) -> None:
    chance = random.Random(seed)
    calls = _RandomCalls(chance, f"test{next(_prefixes)}")
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(SimulatedRedis().serve, theirs)
        real = await trio.open_tcp_stream("127.0.0.1", server.port)
        await stack.enter_async_context(real)
        pair = [(Client(real), _Fences()), (Client(ours), _Fences())]

        async def ask(command: list[Any]) -> Any:
            answers = []
            for client, fences in pair:
                asked = [fences.value(each) for each in command]
                answers.append(fences.comparable(await client.ask(*asked)))
            assert answers[0] == answers[1], command[2:]
            return answers[0]

        for client, _ in pair:
            await client.ask("HELLO", 3)
        granted = 0
        for number in range(400):
            if number % 40 == 0:
                for command in calls.restart():
                    await ask(command)
                await trio.sleep(0.02)
            answer = await ask(calls.next())
            granted += isinstance(answer, list) and len(answer) == 3
        assert granted > 20
        nursery.cancel_scope.cancel()
