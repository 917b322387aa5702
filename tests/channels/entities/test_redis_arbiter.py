"""The arbiter in Redis, on a server in memory: leases, lost and late commands, restarts, failovers and clocks."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio

from actors import Runtime, open_runtime
from actors.errors import InvalidOption
from channels import PubSub
from channels.entities.arbiter import ArbiterUnavailable, Owned, OwnedBy
from channels.entities.arbiters import redis_scripts as scripts
from channels.entities.arbiters.choice import arbiter_for
from channels.entities.arbiters.local import LocalArbiter
from channels.entities.arbiters.redis import RedisArbiter
from channels.laboratory import simulated_redis
from channels.laboratory.keyspace import Keyspace, ScriptCall
from channels.pubsub.adapter import LocalAdapter, Node
from channels.pubsub.redis.adapter import RedisAdapter
from channels.pubsub.redis.protocol import Script
from channels.telemetry import ENTITY_ARBITER_CONNECTED, ENTITY_ARBITER_DISCONNECTED
from tests.channels.entities.arbiters import (
    Cluster,
    VirtualEnvironment,
    owned,
    redis_arbiter,
    virtual_environment,
)
from tests.channels.pubsub.redis.resp_server import RespServer
from tests.channels.support import settle

VIRTUAL_CLOCK = True

A, B = Node("a", "i1"), Node("b", "i1")
# The times of the arbiter, in seconds.
LEASE, INTERVAL, MARGIN = 10.0, 2.5, 2.0

Run = Callable[[ScriptCall], Any]


class Server(RespServer):
    """A server that loses answers, holds commands back, fails over to old data, and whose clock jumps.

    Attributes:
        seconds_ahead: seconds by which its clock was set forward.
        lost: scripts of which the next call runs, and then loses its connection before the answer.
        held: scripts of which the next call loses its connection, and runs only when `late` is called.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__(nursery)
        self.seconds_ahead = 0.0
        self.lost: list[Script] = []
        self.held: list[Script] = []
        self.late: Callable[[], Any] = lambda: None
        self._streams: dict[str, trio.abc.Stream] = {}
        self._cut: set[str] = set()

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        if host in self._cut:
            raise ConnectionRefusedError(111, "Connection refused")
        stream = self._streams[host] = await super().connect(host, port)
        return stream

    async def cut(self, name: str) -> None:
        """Cut a node off from the server."""
        self._cut.add(name)
        await trio.aclose_forcefully(self._streams[name])

    def heal(self) -> None:
        """Let all nodes connect again."""
        self._cut.clear()

    def now(self) -> float:
        return super().now() + self.seconds_ahead

    def wrap(self, script: Script, run: Run) -> Run:
        """Return the function of a script with the faults."""

        def wrapped(call: ScriptCall) -> Any:
            if script in self.held:
                self.held.remove(script)
                self.late = lambda: run(call)
                self.close_clients()
                return [0]
            answer = run(call)
            if script in self.lost:
                self.lost.remove(script)
                self.close_clients()
            return answer

        return wrapped

    def data(self) -> dict[int, Any]:
        """Return a copy of all keys."""
        return {
            number: (copy.deepcopy(keys._values), dict(keys._deadlines))
            for number, keys in self._keys.items()
        }

    async def fail_over(self, data: dict[int, Any]) -> None:
        """Let a replica with these data take the place of the server."""
        await self.restart()
        for number, (values, deadlines) in data.items():
            keys = self._keys[number] = Keyspace(self.now)
            keys._values, keys._deadlines = values, deadlines


@pytest.fixture
def environment() -> Any:
    with virtual_environment() as environment:
        yield environment


@pytest.fixture
async def server(
    environment: VirtualEnvironment, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        server = Server(nursery)
        wrapped = {}
        for text, run in simulated_redis.SCRIPTS.items():
            wrapped[text] = server.wrap(Script.of(text.decode()), run)
        monkeypatch.setattr(simulated_redis, "SCRIPTS", wrapped)
        yield server
        nursery.cancel_scope.cancel()


@pytest.fixture
async def runtime(server: Server) -> AsyncIterator[Runtime]:
    async with open_runtime(log=False) as runtime:
        yield runtime


async def _no_wait(name: str) -> None:
    pass


@pytest.fixture
async def cluster(server: Server, runtime: Runtime) -> Cluster:
    return Cluster(lambda name: redis_arbiter(server, name), _no_wait)


async def start(cluster: Cluster, name: str) -> RedisArbiter:
    arbiter = await cluster.start(name)
    assert isinstance(arbiter, RedisArbiter)
    return arbiter


@pytest.fixture
async def a(cluster: Cluster) -> RedisArbiter:
    """A node on a server that grants keys already. Its next renewal is in half an interval."""
    arbiter = await start(cluster, "a")
    await trio.sleep(LEASE + INTERVAL / 2)
    return arbiter


@pytest.fixture
async def b(cluster: Cluster, a: RedisArbiter) -> RedisArbiter:
    return await start(cluster, "b")


def seconds_left(arbiter: RedisArbiter) -> float:
    return round(arbiter.lease.seconds_left, 3)


# The lease


async def test_the_lease_of_a_new_session_ends_a_margin_before_that_of_the_server(
    cluster: Cluster,
) -> None:
    assert seconds_left(await start(cluster, "a")) == LEASE - MARGIN


async def test_the_lease_counts_from_the_moment_before_the_renewal_is_sent(
    server: Server, a: RedisArbiter
) -> None:
    renewals = a.statistics()["renewals"]
    # Just before the next renewal, so that its answer takes a second.
    await trio.sleep(INTERVAL / 2 - 0.1)
    server.pause()
    await trio.sleep(1.1)
    server.resume()
    await settle()
    assert a.statistics()["renewals"] == renewals + 1
    assert seconds_left(a) == LEASE - MARGIN - 1.0


async def test_a_session_that_is_renewed_does_not_end(a: RedisArbiter, b: RedisArbiter) -> None:
    fence = await owned(a, "42")
    await trio.sleep(1000.0)
    assert a.lease.is_valid, a.lease.problem
    assert await b.acquire("42") == OwnedBy(A)
    assert await owned(a, "42") == fence


async def test_a_node_that_is_cut_off_stops_before_another_node_gets_its_keys(
    server: Server, a: RedisArbiter, b: RedisArbiter
) -> None:
    first = await owned(a, "42")
    lease = a.lease
    await server.cut("a")
    while await b.acquire("42") == OwnedBy(A):
        assert lease.is_valid or trio.current_time() > lease.until
        await trio.sleep(0.1)
    assert not lease.is_valid
    assert trio.current_time() >= lease.until + MARGIN
    assert await owned(b, "42") > first
    server.heal()
    await trio.sleep(5.0)
    await a.open_session(A)
    assert await a.acquire("42") == OwnedBy(B)


async def test_the_loss_of_a_lease_is_noticed_without_a_check(
    server: Server, a: RedisArbiter
) -> None:
    await owned(a, "42")
    await server.kill()
    seconds, began = a.lease.seconds_left, trio.current_time()
    problem = await a.lease.wait_lost()
    assert trio.current_time() - began == pytest.approx(seconds, abs=0.001)
    assert problem.startswith("it was not renewed in time: the server is away: ")
    with pytest.raises(ArbiterUnavailable, match="the session has ended: it was not renewed"):
        await a.acquire("43")


async def test_a_lost_session_stays_lost_when_the_server_is_back(
    server: Server, a: RedisArbiter
) -> None:
    lease = a.lease
    await server.kill()
    await lease.wait_lost()
    server.start()
    await trio.sleep(5.0)
    assert not lease.is_valid
    assert (await a.open_session(A)).is_valid
    assert not lease.is_valid


async def test_a_late_renewal_does_not_recreate_a_session(
    server: Server, a: RedisArbiter, b: RedisArbiter
) -> None:
    first = await owned(a, "42")
    server.held.append(scripts.RENEW)
    await trio.sleep(INTERVAL)
    assert server.held == []
    await server.cut("a")
    await trio.sleep(LEASE)
    # The renewal arrives when the session has expired.
    assert server.late() == [0]
    assert await owned(b, "42") > first


async def test_a_renewal_that_waited_too_long_in_the_server_ends_the_session(
    server: Server, a: RedisArbiter, b: RedisArbiter
) -> None:
    await owned(a, "42")
    lease = a.lease
    server.pause()
    await trio.sleep(LEASE + INTERVAL)
    # The server now gets the renewals of all nodes, whose sessions have expired.
    server.resume()
    await trio.sleep(1.0)
    assert not lease.is_valid
    await b.open_session(B)
    assert isinstance(await b.acquire("42"), Owned)


async def test_a_suspended_node_finds_its_lease_invalid_when_it_wakes(
    environment: VirtualEnvironment, a: RedisArbiter
) -> None:
    environment.seconds_suspended += LEASE
    assert not a.lease.is_valid


async def test_a_short_suspend_does_not_end_the_lease(
    environment: VirtualEnvironment, a: RedisArbiter
) -> None:
    environment.seconds_suspended += 1.0
    assert a.lease.is_valid, a.lease.problem
    await trio.sleep(100.0)
    assert a.lease.is_valid, a.lease.problem


async def test_waiting_requests_do_not_delay_renewals(server: Server, runtime: Runtime) -> None:
    cluster = Cluster(lambda name: redis_arbiter(server, name, max_calls=1, timeout=30.0), _no_wait)
    a = await start(cluster, "a")
    await trio.sleep(5.0)
    await server.restart()
    async with trio.open_nursery() as nursery:
        # The first of them waits until the server grants keys again.
        for number in range(10):
            nursery.start_soon(a.acquire, str(number))
        await trio.sleep(LEASE + 1.0)
    assert a.lease.is_valid, a.lease.problem


async def test_an_error_of_the_server_is_the_reason_of_the_loss(
    server: Server, a: RedisArbiter
) -> None:
    server.answers[b"EVALSHA"] = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
    with pytest.raises(ArbiterUnavailable, match="OOM command not allowed"):
        await a.acquire("42")
    assert "OOM command not allowed" in await a.lease.wait_lost()


# Lost answers, and commands that run late


async def test_a_lost_answer_to_acquire_is_no_refusal(
    server: Server, a: RedisArbiter, b: RedisArbiter
) -> None:
    server.lost.append(scripts.ACQUIRE)
    fence = await owned(a, "42")
    assert server.lost == []
    assert await owned(a, "42") == fence
    assert await b.acquire("42") == OwnedBy(A)


async def test_an_acquire_that_runs_late_belongs_to_the_node_that_sent_it(
    server: Server, a: RedisArbiter, b: RedisArbiter
) -> None:
    server.held.append(scripts.ACQUIRE)
    server.is_up = False
    with pytest.raises(ArbiterUnavailable) as caught:
        await a.acquire("42")
    assert caught.value.may_have_run
    server.late()
    server.start()
    await trio.sleep(1.0)
    assert await b.acquire("42") == OwnedBy(A)
    assert isinstance(await a.acquire("42"), Owned)


@pytest.mark.parametrize("runs_before", [True, False])
async def test_a_late_release_does_not_end_the_next_ownership(
    server: Server, a: RedisArbiter, b: RedisArbiter, runs_before: bool
) -> None:
    first = await owned(a, "42")
    server.held.append(scripts.RELEASE)
    with pytest.raises(ArbiterUnavailable) as caught:
        await a.release("42", first)
    assert caught.value.may_have_run
    if runs_before:
        server.late()
    second = await owned(a, "42")
    assert second > first
    if not runs_before:
        server.late()
    assert await b.acquire("42") == OwnedBy(A)
    assert await owned(a, "42") == second


@pytest.mark.parametrize("runs_before", [True, False])
async def test_a_late_transfer_does_not_end_the_next_ownership(
    server: Server, a: RedisArbiter, b: RedisArbiter, runs_before: bool
) -> None:
    first = await owned(a, "42")
    server.held.append(scripts.TRANSFER)
    with pytest.raises(ArbiterUnavailable) as caught:
        await a.transfer("42", first, B)
    assert caught.value.may_have_run
    if runs_before:
        server.late()
        assert await a.acquire("42") == OwnedBy(B)
    else:
        second = await owned(a, "42")
        assert second > first
        server.late()
        assert await b.acquire("42") == OwnedBy(A)


async def test_a_lost_answer_to_release_may_have_run(server: Server, a: RedisArbiter) -> None:
    fence = await owned(a, "42")
    server.lost.append(scripts.RELEASE)
    with pytest.raises(ArbiterUnavailable) as caught:
        await a.release("42", fence)
    assert caught.value.may_have_run


async def test_a_release_that_was_not_sent_has_not_run(server: Server, a: RedisArbiter) -> None:
    fence = await owned(a, "42")
    await server.kill()
    await settle()
    with pytest.raises(ArbiterUnavailable) as caught:
        await a.release("42", fence)
    assert not caught.value.may_have_run
    server.start()
    await trio.sleep(1.0)
    assert await owned(a, "42") == fence


async def test_a_late_command_does_not_end_a_later_session(
    server: Server, a: RedisArbiter, b: RedisArbiter
) -> None:
    server.held.append(scripts.OPEN)
    with pytest.raises(ArbiterUnavailable):
        await a.open_session(A)
    await a.open_session(A)
    fence = await owned(a, "42")
    server.late()
    assert await b.acquire("42") == OwnedBy(A)
    assert await owned(a, "42") == fence


# Restarts and failovers


@pytest.mark.parametrize("appendonly", [True, False])
async def test_owners_keep_their_keys_when_the_server_restarts(
    server: Server, a: RedisArbiter, b: RedisArbiter, appendonly: bool
) -> None:
    server.appendonly = appendonly
    fences = {str(number): await owned(a, str(number)) for number in range(1200)}
    arrived = await b.transfer("x", await owned(b, "x"), A)
    assert arrived is not None
    assert await a.acquire("x") == Owned(arrived, arrived=True)
    await server.restart()
    await trio.sleep(LEASE + 0.5)
    assert a.lease.is_valid, a.lease.problem
    for key, fence in fences.items():
        assert await b.acquire(key) == OwnedBy(A)
        assert await owned(a, key) == fence
    assert await a.acquire("x") == Owned(arrived, arrived=True)


@pytest.mark.parametrize("appendonly", [True, False])
async def test_a_server_that_has_restarted_grants_nothing_for_one_lease(
    server: Server, a: RedisArbiter, b: RedisArbiter, appendonly: bool
) -> None:
    server.appendonly = appendonly
    first = await owned(a, "42")
    assert await a.release("42", first)
    await server.restart()
    began = trio.current_time()
    with pytest.raises(ArbiterUnavailable, match="is new or has restarted") as caught:
        await b.acquire("42")
    assert not caught.value.may_have_run
    assert caught.value.retry_after == pytest.approx(began + LEASE - trio.current_time(), abs=0.1)
    await trio.sleep(began + LEASE - 1.0 - trio.current_time())
    # The rest of the wait is shorter than the time limit of the request.
    assert await owned(b, "42") > first
    assert trio.current_time() - began >= LEASE


@pytest.mark.parametrize("appendonly", [True, False])
async def test_a_node_that_is_cut_off_during_a_restart_stops_before_another_node_gets_its_keys(
    server: Server, a: RedisArbiter, b: RedisArbiter, appendonly: bool
) -> None:
    server.appendonly = appendonly
    await owned(a, "42")
    lease = a.lease
    await server.cut("a")
    await server.restart()
    while True:
        try:
            answer = await b.acquire("42")
        except ArbiterUnavailable:
            await trio.sleep(0.1)
            continue
        if isinstance(answer, Owned):
            break
        await trio.sleep(0.1)
    assert not lease.is_valid
    assert trio.current_time() >= lease.until + MARGIN


async def test_a_node_that_restores_too_late_has_lost_its_session(
    server: Server, a: RedisArbiter, b: RedisArbiter
) -> None:
    await owned(a, "42")
    # The server keeps the session, but it cannot know whether another node got the key.
    server.held.append(scripts.RESTORE)
    await server.restart()
    await trio.sleep(1.0)
    assert a.lease.is_valid, a.lease.problem
    late = server.late
    await trio.sleep(LEASE)
    assert late() == [0]


async def test_a_server_that_lost_its_data_grants_nothing_for_one_lease(
    server: Server, a: RedisArbiter, b: RedisArbiter
) -> None:
    fence = await owned(a, "42")
    # FLUSHALL: the run of the server is the same.
    server._keys.clear()
    with pytest.raises(ArbiterUnavailable, match="is new or has restarted"):
        await b.acquire("42")
    await trio.sleep(LEASE)
    assert a.lease.is_valid, a.lease.problem
    assert await b.acquire("42") == OwnedBy(A)
    assert await owned(a, "42") == fence


@pytest.mark.parametrize("is_away", [False, True])
async def test_a_transfer_during_a_restore_may_have_lost_the_key(
    server: Server,
    a: RedisArbiter,
    b: RedisArbiter,
    monkeypatch: pytest.MonkeyPatch,
    is_away: bool,
) -> None:
    fence = await owned(a, "42")
    request = a._request

    async def slow(session: Any, script: Script, *arguments: Any, **options: Any) -> Any:
        # The node restores its records, but not that of the key, which is about to move.
        server._keys.clear()
        await trio.sleep(LEASE / 2)
        if is_away:
            raise ArbiterUnavailable("redis", "it is away", may_have_run=False)
        return await request(session, script, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(a, "_request", slow)
        with pytest.raises(ArbiterUnavailable) as caught:
            await a.transfer("42", fence, B)
    assert caught.value.may_have_run
    await trio.sleep(LEASE)
    assert a.lease.is_valid, a.lease.problem
    assert isinstance(await b.acquire("42"), Owned)


async def test_after_a_failover_the_greater_fence_wins(
    server: Server, a: RedisArbiter, b: RedisArbiter
) -> None:
    first = await owned(a, "42")
    old = server.data()
    second = await a.transfer("42", first, B)
    assert second is not None
    assert await b.acquire("42") == Owned(second, arrived=True)
    # The replica does not know the transfer.
    await server.fail_over(old)
    await trio.sleep(LEASE + 0.5)
    assert a.lease.is_valid, a.lease.problem
    assert b.lease.is_valid
    assert await a.acquire("42") == OwnedBy(B)
    assert await b.acquire("42") == Owned(second, arrived=True)


async def test_a_node_whose_fence_is_smaller_than_that_of_another_owner_loses_its_session(
    server: Server, a: RedisArbiter, b: RedisArbiter
) -> None:
    first = await owned(a, "42")
    # Another primary has granted the key to `b` while `a` used this one.
    data = server.data()
    owners = data[0][0][scripts.Keys.of("ashtree", "auctions").owners]
    number = str(b._session.number).encode()  # type: ignore[union-attr] # it has one
    owners[b"42"] = owners[b"42"]._replace(
        fence=first + 1, number=number, node=scripts.identity_of(B)
    )
    lease = a.lease
    await server.fail_over(data)
    await trio.sleep(1.0)
    assert lease.problem == "the server restarted, and this node did not restore its records"
    await trio.sleep(LEASE)
    assert b.lease.is_valid
    assert await owned(b, "42") == first + 1


async def test_fences_grow_when_the_server_lost_its_data(
    server: Server, a: RedisArbiter, b: RedisArbiter
) -> None:
    first = await owned(a, "42")
    assert await a.release("42", first)
    await server.restart()
    await trio.sleep(LEASE)
    assert await owned(b, "42") > first


async def test_a_release_and_an_alarm_work_while_the_server_grants_nothing(
    server: Server, a: RedisArbiter, b: RedisArbiter
) -> None:
    first, second = await owned(a, "1"), await owned(a, "2")
    await server.restart()
    await trio.sleep(1.0)
    assert await a.set_alarm("1", 10.0, first)
    assert await a.release("2", second)
    assert await a.owner("1") == A
    await trio.sleep(LEASE)
    assert isinstance(await b.acquire("2"), Owned)
    assert await b.acquire("1") == OwnedBy(A)


async def test_a_server_without_the_scripts_gets_them_again(
    server: Server, a: RedisArbiter
) -> None:
    await owned(a, "42")
    server._scripts.clear()
    assert isinstance(await a.acquire("43"), Owned)


# Clocks


async def test_fences_grow_when_the_clock_of_the_server_is_set_back(
    server: Server, a: RedisArbiter, b: RedisArbiter
) -> None:
    server.seconds_ahead = 3600.0
    await trio.sleep(1.0)
    await a.open_session(A)
    await b.open_session(B)
    first = await owned(a, "42")
    assert await a.release("42", first)
    server.seconds_ahead = 0.0
    assert await owned(b, "42") == first + 1


async def test_a_clock_that_is_set_back_does_not_prolong_the_wait_after_a_restart(
    server: Server, a: RedisArbiter, b: RedisArbiter
) -> None:
    server.seconds_ahead = 3600.0
    await server.restart()
    await trio.sleep(1.0)
    server.seconds_ahead = 0.0
    await trio.sleep(LEASE + 1.0)
    await b.open_session(B)
    assert isinstance(await b.acquire("42"), Owned)


# Memory


async def test_the_records_of_ended_sessions_are_removed(
    server: Server, a: RedisArbiter, b: RedisArbiter
) -> None:
    for number in range(250):
        await owned(a, str(number))
    kept = await owned(b, "kept")
    a.lease.lose("a test ends it")
    await trio.sleep(LEASE + 3 * INTERVAL)
    (keys,) = server._keys.values()
    assert list(keys.get(scripts.Keys.of("ashtree", "auctions").owners)) == [b"kept"]
    assert await owned(b, "kept") == kept


# Options and events


async def test_a_node_without_an_incarnation_is_refused(a: RedisArbiter) -> None:
    with pytest.raises(InvalidOption, match="the PubSub of this endpoint has no other nodes"):
        await a.open_session(PubSub().node)
    assert a.lease.is_valid


async def test_the_arbiter_follows_the_adapter() -> None:
    assert isinstance(arbiter_for(PubSub()), LocalArbiter)
    assert isinstance(arbiter_for(PubSub(RedisAdapter("redis://db"))), RedisArbiter)


async def test_an_adapter_without_an_arbiter_needs_the_option() -> None:
    class Own(LocalAdapter):
        name = "own"

    class Other:
        def __getattr__(self, name: str) -> Any:
            return getattr(Own(), name)

    with pytest.raises(InvalidOption, match="the adapter 'own' has none of its own"):
        arbiter_for(PubSub(Other()))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lease": 0.0}, "lease=0.0"),
        ({"lease": 4.0}, "lease=4.0; write more than renew_interval [+] margin, which is 4.5"),
        ({"timeout": -1.0}, "timeout=-1.0"),
        ({"max_calls": 0}, "max_calls=0"),
    ],
)
async def test_invalid_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidOption, match=text):
        RedisArbiter("redis://db", **options)


async def test_the_connection_reports_its_state(server: Server, runtime: Runtime) -> None:
    events: list[tuple[Any, ...]] = []
    for event in (ENTITY_ARBITER_CONNECTED, ENTITY_ARBITER_DISCONNECTED):
        runtime.telemetry.attach(
            event, lambda event, numbers, about: events.append((event, about["supervisor"]))
        )
    cluster = Cluster(lambda name: redis_arbiter(server, name), _no_wait)
    await start(cluster, "a")
    await server.close_all()
    await trio.sleep(1.0)
    assert events == [
        (ENTITY_ARBITER_CONNECTED, "auctions"),
        (ENTITY_ARBITER_DISCONNECTED, "auctions"),
        (ENTITY_ARBITER_CONNECTED, "auctions"),
    ]
