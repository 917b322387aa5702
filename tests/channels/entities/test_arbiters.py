"""The contract of every arbiter.

Here it runs over the arbiter of one program, that of the workers' parent, and that in Redis, on a server in memory and
a virtual clock. tests/integration/test_redis_arbiter_contract.py runs every test over a real Valkey server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from channels.entities.arbiter import Arbiter, ArbiterUnavailable, Owned, OwnedBy
from channels.pubsub.adapter import Node
from tests.channels.entities import arbiters
from tests.channels.entities.arbiters import Cluster, owned

VIRTUAL_CLOCK = True

A, B, C = Node("a", "i1"), Node("b", "i1"), Node("c", "i1")
KINDS = {
    "local": arbiters.local_cluster,
    "workers": arbiters.workers_cluster,
    "redis": arbiters.redis_cluster,
}


@pytest.fixture(params=KINDS)
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    with arbiters.virtual_environment():
        async with KINDS[request.param]() as started:
            yield started


@pytest.fixture
async def a(cluster: Cluster) -> Arbiter:
    return await cluster.start("a")


@pytest.fixture
async def b(cluster: Cluster) -> Arbiter:
    return await cluster.start("b")


def arrived(arbiter: Arbiter, fence: int, sender: Node) -> Owned:
    """Return the answer to the new owner of a key. Redis does not keep the sender."""
    return Owned(fence, arrived=True, sender=None if arbiter.name == "redis" else sender)


# Ownership


async def test_a_key_has_one_owner(a: Arbiter, b: Arbiter) -> None:
    assert isinstance(await a.acquire("42"), Owned)
    assert await b.acquire("42") == OwnedBy(A)
    assert isinstance(await b.acquire("43"), Owned)
    assert await a.acquire("43") == OwnedBy(B)


async def test_an_owner_that_acquires_again_gets_the_same_fence(a: Arbiter, b: Arbiter) -> None:
    first = await a.acquire("42")
    assert await a.acquire("42") == first
    assert isinstance(first, Owned)
    assert await a.acquire("42", at_least=first.fence) == first
    assert await b.acquire("42") == OwnedBy(A)


async def test_an_owner_can_ask_for_a_greater_fence(a: Arbiter) -> None:
    first = await owned(a, "42")
    second = await owned(a, "42", at_least=first + 1)
    assert second > first
    assert await owned(a, "42") == second


async def test_an_owner_can_ask_for_a_fence_beyond_the_time(a: Arbiter, b: Arbiter) -> None:
    # A storage has seen a fence of a server whose clock was ahead.
    ahead = 2**52
    fence = await owned(a, "42", at_least=ahead)
    assert fence == ahead
    assert await a.release("42", fence)
    assert await owned(b, "42") > fence


async def test_each_owner_of_a_key_has_a_greater_fence(a: Arbiter, b: Arbiter) -> None:
    fences = []
    for _ in range(5):
        for arbiter in (a, b):
            fences.append(await owned(arbiter, "42"))
            assert await arbiter.release("42", fences[-1])
    assert fences == sorted(set(fences))


async def test_concurrent_requests_for_one_key_have_one_winner(a: Arbiter, b: Arbiter) -> None:
    answers: dict[str, list[Owned | OwnedBy]] = {}

    async def acquire(arbiter: Arbiter, key: str) -> None:
        answers.setdefault(key, []).append(await arbiter.acquire(key))

    async with trio.open_nursery() as nursery:
        for number in range(50):
            for arbiter in (a, b):
                nursery.start_soon(acquire, arbiter, str(number))
    assert len(answers) == 50
    for pair in answers.values():
        assert sorted(type(each).__name__ for each in pair) == ["Owned", "OwnedBy"]


async def test_keys_are_any_text(a: Arbiter, b: Arbiter) -> None:
    for key in ("", "with space", "1 0 2 x", "ключ", "\x00\n", "a" * 255):
        fence = await owned(a, key)
        assert await b.acquire(key) == OwnedBy(A)
        assert await a.set_alarm(key, 1.0, fence)
        assert await a.release(key, fence)
        assert await b.due_alarms(2.0, 10) == [(key, 1.0)]
        await b.clear_alarm(key, 1.0)


async def test_nodes_may_have_any_name(cluster: Cluster, a: Arbiter) -> None:
    name = 'web 1 ключ "x"'
    other = await cluster.start(name)
    await owned(other, "42")
    assert await a.acquire("42") == OwnedBy(Node(name, "i1"))
    assert await a.owner("42") == Node(name, "i1")


async def test_supervisors_of_different_names_share_no_keys(cluster: Cluster, a: Arbiter) -> None:
    other = await cluster.start("c", supervisor="games")
    assert isinstance(await a.acquire("42"), Owned)
    assert isinstance(await other.acquire("42"), Owned)


# Release


async def test_a_released_key_is_free(a: Arbiter, b: Arbiter) -> None:
    fence = await owned(a, "42")
    assert await a.release("42", fence)
    assert await a.owner("42") is None
    assert isinstance(await b.acquire("42"), Owned)


async def test_a_release_with_another_fence_does_nothing(a: Arbiter, b: Arbiter) -> None:
    first = await owned(a, "42")
    second = await owned(a, "42", at_least=first + 1)
    assert not await a.release("42", first)
    assert await b.acquire("42") == OwnedBy(A)
    assert await owned(a, "42") == second


async def test_only_the_owner_releases_a_key(a: Arbiter, b: Arbiter) -> None:
    fence = await owned(a, "42")
    assert not await b.release("42", fence)
    assert not await b.release("43", fence)
    assert await b.acquire("42") == OwnedBy(A)


# Transfer


async def test_a_transferred_key_belongs_to_the_other_node(a: Arbiter, b: Arbiter) -> None:
    fence = await owned(a, "42")
    new = await a.transfer("42", fence, B)
    assert new is not None
    assert new > fence
    assert await a.acquire("42") == OwnedBy(B)
    assert not await a.release("42", fence)
    # The target may not have got the first answer.
    for _ in range(2):
        assert await b.acquire("42") == arrived(b, new, A)


async def test_a_key_is_not_arrived_after_its_next_start(a: Arbiter, b: Arbiter) -> None:
    new = await a.transfer("42", await owned(a, "42"), B)
    assert new is not None
    answer = await b.acquire("42", at_least=new + 1)
    assert isinstance(answer, Owned)
    assert answer.fence > new
    assert not answer.arrived


async def test_a_key_can_be_transferred_back(a: Arbiter, b: Arbiter) -> None:
    there = await a.transfer("42", await owned(a, "42"), B)
    assert there is not None
    back = await b.transfer("42", there, A)
    assert back is not None
    assert back > there
    assert await a.acquire("42") == arrived(a, back, B)


async def test_a_key_is_transferred_only_by_its_owner_and_only_with_its_fence(
    a: Arbiter, b: Arbiter
) -> None:
    fence = await owned(a, "42")
    assert await b.transfer("42", fence, B) is None
    assert await a.transfer("42", fence - 1, B) is None
    assert await a.transfer("43", fence, B) is None
    assert await owned(a, "42") == fence


async def test_a_key_is_transferred_only_to_a_living_session_of_another_node(
    cluster: Cluster, a: Arbiter, b: Arbiter
) -> None:
    fence = await owned(a, "42")
    assert await a.transfer("42", fence, C) is None
    assert await a.transfer("42", fence, Node("b", "i2")) is None
    assert await a.transfer("42", fence, A) is None
    await cluster.kill("b")
    assert await a.transfer("42", fence, B) is None
    assert await owned(a, "42") == fence


# Sessions


async def test_requests_fail_without_a_session(a: Arbiter) -> None:
    lease = a.lease
    lease.lose("a test ends it")
    for request in (
        a.acquire("42"),
        a.release("42", 1),
        a.transfer("42", 1, B),
        a.set_alarm("42", 1.0, 1),
        a.owner("42"),
    ):
        with pytest.raises(
            ArbiterUnavailable, match="the session has ended: a test ends it"
        ) as caught:
            await request
        assert not caught.value.may_have_run


async def test_a_new_session_has_none_of_the_keys_of_the_earlier_one(
    a: Arbiter, b: Arbiter
) -> None:
    before = a.lease
    first, kept = await owned(a, "42"), await owned(a, "43")
    lease = await a.open_session(A)
    assert lease is a.lease
    assert lease.is_valid
    assert not before.is_valid
    assert isinstance(await b.acquire("42"), Owned)
    assert not await a.release("43", kept)
    assert await owned(a, "43") > first


async def test_a_closed_session_frees_its_keys_at_once(a: Arbiter, b: Arbiter) -> None:
    await owned(a, "42")
    await a.close_session()
    assert not a.lease.is_valid
    assert isinstance(await b.acquire("42"), Owned)
    # The second call does nothing.
    await a.close_session()


async def test_the_keys_of_a_killed_node_become_free(
    cluster: Cluster, a: Arbiter, b: Arbiter
) -> None:
    fence = await owned(a, "42")
    arrived = await b.transfer("43", await owned(b, "43"), A)
    assert arrived is not None
    await cluster.kill("a")
    assert await b.owner("42") is None
    assert await owned(b, "42") > fence
    assert await owned(b, "43") > arrived


async def test_the_owner_of_a_key_can_be_found(a: Arbiter, b: Arbiter) -> None:
    assert await b.owner("42") is None
    fence = await owned(a, "42")
    assert await a.owner("42") == await b.owner("42") == A
    await a.transfer("42", fence, B)
    assert await a.owner("42") == await b.owner("42") == B


# Alarms


async def test_an_alarm_is_due_on_every_node_from_its_time_on(a: Arbiter, b: Arbiter) -> None:
    assert await a.set_alarm("42", 1000.5, await owned(a, "42"))
    assert await b.due_alarms(1000.25, 10) == []
    for arbiter in (a, b):
        assert await arbiter.due_alarms(1000.5, 10) == [("42", 1000.5)]


async def test_due_alarms_are_limited_and_the_earliest_come_first(a: Arbiter) -> None:
    for number in range(10):
        key = str(number)
        assert await a.set_alarm(key, 100.0 - number, await owned(a, key))
    assert await a.due_alarms(100.0, 3) == [("9", 91.0), ("8", 92.0), ("7", 93.0)]
    assert await a.due_alarms(92.0, 3) == [("9", 91.0), ("8", 92.0)]


async def test_a_cleared_alarm_is_gone_unless_it_was_set_to_another_time(a: Arbiter) -> None:
    fence = await owned(a, "42")
    assert await a.set_alarm("42", 10.0, fence)
    assert await a.set_alarm("42", 20.0, fence)
    await a.clear_alarm("42", 10.0)
    assert await a.due_alarms(30.0, 10) == [("42", 20.0)]
    await a.clear_alarm("42", 20.0)
    assert await a.due_alarms(30.0, 10) == []
    # Nothing is left to clear.
    await a.clear_alarm("42", 20.0)


async def test_an_alarm_set_to_none_is_gone(a: Arbiter) -> None:
    fence = await owned(a, "42")
    assert await a.set_alarm("42", 10.0, fence)
    assert await a.set_alarm("42", None, fence)
    assert await a.set_alarm("42", None, fence)
    assert await a.due_alarms(30.0, 10) == []


async def test_an_alarm_can_be_set_to_an_earlier_and_to_the_same_time(a: Arbiter) -> None:
    fence = await owned(a, "42")
    for at in (20.0, 10.0, 10.0, 30.0, 10.0):
        assert await a.set_alarm("42", at, fence)
        assert await a.due_alarms(at, 10) == [("42", at)]
    assert await a.due_alarms(100.0, 10) == [("42", 10.0)]


async def test_only_the_owner_sets_an_alarm(a: Arbiter, b: Arbiter) -> None:
    fence = await owned(a, "42")
    assert not await b.set_alarm("42", 10.0, fence)
    assert not await a.set_alarm("42", 10.0, fence - 1)
    assert not await a.set_alarm("43", 10.0, fence)
    assert await a.due_alarms(30.0, 10) == []


async def test_an_alarm_outlives_the_ownership_and_the_node(
    cluster: Cluster, a: Arbiter, b: Arbiter
) -> None:
    assert await a.set_alarm("42", 10.0, await owned(a, "42"))
    released = await owned(a, "43")
    assert await a.set_alarm("43", 11.0, released)
    assert await a.release("43", released)
    await cluster.kill("a")
    assert await b.due_alarms(30.0, 10) == [("42", 10.0), ("43", 11.0)]
