"""The contract of arbiters on a real Valkey server, and its scripts beside those of the server in memory."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from actors import open_runtime
from channels.entities.arbiter import ArbiterUnavailable, OwnedBy
from channels.entities.arbiters import redis_scripts as scripts
from channels.entities.arbiters.redis import RedisArbiter
from channels.pubsub.adapter import Node
from channels.pubsub.redis.adapter import RedisAdapter
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
    # It waits for one lease, which this call says is very short.
    server.command(*_command(scripts.OWNER, prefix, run, 1, "a", 1, "x"))
    return prefix


@asynccontextmanager
async def cluster_on(server: Valkey, prefix: str, *, user: str = "") -> AsyncIterator[Cluster]:
    url = f"redis://{user}127.0.0.1:{server.port}?prefix={prefix}"

    async def died(name: str) -> None:
        # As if its lease were over.
        node = scripts.identity_of(Node(name, "i1"))
        server.command("DEL", scripts.Keys.of(prefix, "auctions").sessions + node)
        await trio.lowlevel.checkpoint()

    async with open_runtime(log=False):
        yield Cluster(
            lambda name: RedisArbiter(RedisAdapter(url), renew_interval=0.2, timeout=8.0), died
        )


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
    async with cluster_on(server, prefix) as cluster:
        one, other = await cluster.start("a"), await cluster.start("b")
        fences = {str(number): await owned(one, str(number)) for number in range(700)}
        await trio.to_thread.run_sync(server.kill)
        await trio.to_thread.run_sync(server.start)
        with pytest.raises(ArbiterUnavailable, match="is new or has restarted"):
            await other.acquire("0")
        # The rest of the wait fits into the time limit.
        await trio.sleep(4.0)
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


def _command(
    script: Script, prefix: str, run: str, lease: int, node: str, number: int, *arguments: Any
) -> tuple[Any, ...]:
    keys = scripts.Keys.of(prefix, "auctions")
    identity = scripts.identity_of(Node(node, "i"))
    begin = ("EVAL", script.text, len(keys.names), *keys.names)
    return (*begin, run, lease, keys.sessions, identity, number, *arguments)


class _Fences:
    """The fences of one server, in the order in which it granted them, so that the two servers can be compared."""

    def __init__(self) -> None:
        # A fence that no server grants comes first.
        self.granted: list[int] = [1]

    def seen(self, fence: int) -> int:
        if fence not in self.granted:
            assert fence > max(self.granted)
            self.granted.append(fence)
        return self.granted.index(fence)

    def of(self, number: int) -> int:
        return self.granted[number] if number < len(self.granted) else 1


def _comparable(answer: Any, fences: _Fences) -> Any:
    match answer:
        case [scripts.WAIT, int(microseconds)]:
            return [scripts.WAIT, microseconds > 0]
        case [scripts.DONE, int(fence), int(arrived)]:
            return [scripts.DONE, fences.seen(fence), arrived]
        case [scripts.DONE, [*alarms]]:
            # Each server has its own form of numbers.
            return [scripts.DONE, alarms[::2], [float(each) for each in alarms[1::2]]]
        case _:
            return answer


@pytest.mark.parametrize("seed", range(8))
async def test_both_servers_answer_random_calls_of_the_scripts_alike(
    server: Valkey, seed: int
) -> None:
    chance = random.Random(seed)
    prefix = f"test{next(_prefixes)}"
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(SimulatedRedis().serve, theirs)
        real = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", server.port))
        pair = [(Client(real), _Fences()), (Client(ours), _Fences())]
        for client, _ in pair:
            await client.ask("HELLO", 3)
        numbers = dict.fromkeys("abc", 1)
        run, restored = "1", "1"
        # Long enough that no session ends by itself, and the time without grants is short.
        long, short = 100_000, 30
        await _both(pair, lambda fences: _command(scripts.OWNER, prefix, run, short, "a", 1, "x"))
        await trio.sleep(0.05)
        for _ in range(400):
            node, key = chance.choice("abc"), chance.choice("wxyz")
            number = numbers[node] - (chance.random() < 0.05)
            fence, other = chance.randint(0, 60), chance.choice("abcd")
            match chance.choices(_VERBS, _WEIGHTS)[0]:
                case "open":
                    numbers[node] += 1
                    script, number, rest = scripts.OPEN, numbers[node], lambda _: ()
                case "close":
                    script, rest = scripts.CLOSE, lambda _: ()
                case "renew":
                    script, rest = scripts.RENEW, lambda _: (restored, 0, 1000, 10**9)
                case "acquire":
                    script = scripts.ACQUIRE
                    rest = lambda fences: (key, fences.of(fence) + (fence % 3 == 0))  # noqa: E731
                case "release":
                    script, rest = scripts.RELEASE, lambda fences: (key, fences.of(fence))
                case "transfer":
                    identity = scripts.identity_of(Node(other, "i"))
                    script = scripts.TRANSFER
                    rest = lambda fences: (key, fences.of(fence), identity)  # noqa: E731
                case "set_alarm":
                    at = chance.choice(["", repr(chance.uniform(0, 1e9))])
                    script = scripts.SET_ALARM
                    rest = lambda fences: (key, fences.of(fence), at)  # noqa: E731
                case "due":
                    script, rest = scripts.DUE_ALARMS, lambda _: (repr(5e8), 3)
                case "clear":
                    at = repr(chance.uniform(0, 1e9))
                    script, rest = scripts.CLEAR_ALARM, lambda _: (key, at)
                case "owner":
                    script, rest = scripts.OWNER, lambda _: (key,)
                case "restart":
                    run = str(int(run) + 1)
                    keys = scripts.Keys.of(prefix, "auctions")
                    if chance.random() < 0.5:
                        await _both(pair, lambda _: ("DEL", *keys.names))
                    # The first call begins the time without grants.
                    owner = _command(scripts.OWNER, prefix, run, short, "a", 1, key)
                    await _both(pair, lambda _: owner)
                    some = [(each, chance.randint(0, 60)) for each in "wx"]
                    restore = scripts.RESTORE
                    await _both(
                        pair,
                        lambda fences: _command(
                            restore,
                            prefix,
                            run,
                            long,
                            node,
                            number,
                            *itertools.chain(*((k, fences.of(f), 0) for k, f in some)),
                        ),
                    )
                    await _both(
                        pair,
                        lambda fences: _command(
                            scripts.RELEASE, prefix, run, long, node, number, key, fences.of(fence)
                        ),
                    )
                    await trio.sleep(0.05)
                    restored = chance.choice([run, restored])
                    continue
            await _both(
                pair,
                lambda fences: _command(script, prefix, run, long, node, number, *rest(fences)),
            )
        assert len(pair[0][1].granted) == len(pair[1][1].granted) > 20
        nursery.cancel_scope.cancel()


_VERBS = (
    "open",
    "close",
    "renew",
    "acquire",
    "release",
    "transfer",
    "set_alarm",
    "due",
    "clear",
    "owner",
    "restart",
)
_WEIGHTS = (5, 2, 10, 40, 10, 15, 20, 10, 3, 10, 3)


async def _both(pair: list[tuple[Client, _Fences]], command: Any) -> None:
    answers = []
    for client, fences in pair:
        asked = command(fences)
        answers.append(_comparable(await client.ask(*asked), fences))
    assert answers[0] == answers[1], asked[3:]
