"""The invariants of entities and of fences find planted violations, and nothing in a healthy cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from attrs import evolve

from actors import (
    NORMAL,
    Crash,
    call,
    cast,
    current_pid,
    current_runtime,
    monitor,
    receive,
    spawn,
    wait_exit,
)
from channels import PubSub
from channels.durable import History, MemoryStorage
from channels.durable.storage import Claimed
from channels.durable.stream import Slice
from channels.entities.arbiters.local import LocalArbiter
from channels.entities.errors import Failure
from channels.telemetry import (
    ENTITY_BEGAN,
    ENTITY_ENDED,
    ENTITY_FINISHED,
    ENTITY_HANDED_OVER,
    ENTITY_REQUEST_ACCEPTED,
    ENTITY_REQUEST_ENDED,
    ENTITY_SESSION_OPENED,
    ENTITY_STARTED,
)
from channels.testing import (
    ENTITY_INVARIANTS,
    EntityCastsArrive,
    EntityMonitorsFire,
    FencesHold,
    JoinedNodes,
)
from supervision import Supervisor
from supervision.simulation import InvariantViolated, World, scenario, simulate
from tests.channels.entities.nodes import Counter, Node, cluster

INVARIANTS = (
    "all",
    *[each for each in ENTITY_INVARIANTS if each not in {EntityCastsArrive, EntityMonitorsFire}],
    partial(EntityCastsArrive, within=5.0),
    partial(EntityMonitorsFire, within=5.0),
    FencesHold,
)

Body = Callable[[list[Node]], Awaitable[object]]


def run(body: Body) -> Any:
    """Run a body with two nodes that share an arbiter."""

    @scenario(invariants=INVARIANTS)
    async def nodes(world: World) -> None:
        _, both = await cluster("a", "b")
        reason = await wait_exit(spawn(body, both))
        assert not isinstance(reason, Crash), reason
        await trio.sleep(20.0)

    return simulate(nodes, seed=1)


def violation(outcome: Any) -> tuple[str, str]:
    """Return the name and the problem of the violation of a run."""
    error = outcome.error
    assert isinstance(error, InvariantViolated), error
    return error.invariant, error.problem


def requests() -> list[Any]:
    """Collect the requests that begin from now on."""
    found: list[Any] = []
    current_runtime().telemetry.attach(
        ENTITY_BEGAN, lambda _, __, about: found.append(about["request"])
    )
    return found


def watch() -> Any:
    """Return the observer of the runtime that has the invariants."""
    (found,) = [each for each in current_runtime().instruments if type(each).__name__ == "Watch"]
    return found


def test_entities_that_move_and_stop_violate_nothing() -> None:
    async def body(nodes: list[Node]) -> None:
        one, other = nodes
        for number in range(10):
            key = f"key {number}"
            monitor(one.via(key))
            cast(other.via(key), number)
            assert await call(one.via(key), "add", timeout=5) == 1
        await one.stop()
        for number in range(10):
            await call(other.via(f"key {number}"), "add", timeout=5)
            await other.entities.stop(f"key {number}")
            assert type(await receive(timeout=10)).__name__ == "Down"

    run(body).check()


def test_two_owners_of_one_key_are_found() -> None:
    @scenario(invariants=INVARIANTS)
    async def nodes(world: World) -> None:
        joined = JoinedNodes()
        joined.cut("a", "b")
        both = [Node(PubSub(joined.adapter(name)), Counter, LocalArbiter()) for name in ("a", "b")]
        for each in both:
            await each.start()
        async with trio.open_nursery() as nursery:
            for each in both:
                nursery.start_soon(partial(call, each.via("k"), ["sleep", 1.0], timeout=5))

    name, problem = violation(simulate(nodes, seed=1))
    assert name == "entities_run_once"
    assert "a callback of counters 'k' with fence" in problem


@pytest.mark.parametrize(
    ("event", "fence", "problem"),
    [
        (ENTITY_BEGAN, -1, "has begun before"),
        (ENTITY_BEGAN, 1, "while one with fence"),
        (ENTITY_STARTED, 0, "which an earlier start had"),
    ],
    ids=["an earlier owner", "a second owner", "an equal fence"],
)
def test_a_callback_of_a_second_owner_is_found(event: Any, fence: int, problem: str) -> None:
    async def body(nodes: list[Node]) -> None:
        _, owns = await call(nodes[0].via("k"), "who", timeout=5)
        about = {"key": "k", "fence": owns, "request": None}
        if fence == 1:
            nodes[0].router.execute(ENTITY_BEGAN, about)
        nodes[1].router.execute(event, {**about, "fence": owns + fence})

    found = violation(run(body))
    assert found[0] == "entities_run_once"
    assert problem in found[1]


def test_a_second_run_of_a_request_is_found() -> None:
    async def body(nodes: list[Node]) -> None:
        begun = requests()
        await call(nodes[0].via("k"), "add", timeout=5)
        fence = (await call(nodes[0].via("k"), "who", timeout=5))[1]
        owner = next(each for each in nodes if "k" in each.router.records)
        about = {"key": "k", "fence": fence, "request": begun[1]}
        owner.router.execute(ENTITY_BEGAN, about)
        owner.router.execute(ENTITY_FINISHED, about)

    name, problem = violation(run(body))
    assert name == "entity_requests_run_once"
    assert "and it has begun before" in problem


def test_requests_of_one_sender_that_change_places_are_found() -> None:
    async def body(nodes: list[Node]) -> None:
        begun = requests()
        for _ in range(2):
            await call(nodes[0].via("k"), "who", timeout=5)
        fence = (await call(nodes[0].via("k"), "who", timeout=5))[1]
        owner = next(each for each in nodes if "k" in each.router.records)
        late = begun[1]
        late.number -= 1
        owner.router.execute(ENTITY_BEGAN, {"key": "k", "fence": fence, "request": late})

    name, problem = violation(run(body))
    assert name == "entity_requests_run_once"
    assert "a later request of its sender has begun before" in problem


def test_a_request_that_has_run_and_is_reported_as_never_run_is_found() -> None:
    async def body(nodes: list[Node]) -> None:
        owner = nodes[0]
        begun = requests()
        key = next(
            f"k{n}"
            for n in range(99)
            if owner.router.placement.choose(f"k{n}") == owner.pubsub.node
        )
        await call(owner.via(key), "add", timeout=5)
        failure = Failure("EntityBusy", "planted")
        owner.router.execute(ENTITY_REQUEST_ENDED, {"request": begun[1], "failure": failure})

    name, problem = violation(run(body))
    assert name == "entity_requests_run_once"
    assert "its caller gets EntityBusy" in problem


@pytest.mark.parametrize("event", [ENTITY_REQUEST_ENDED, ENTITY_REQUEST_ACCEPTED])
def test_a_call_that_ends_late_or_never_is_found(event: Any) -> None:
    async def body(nodes: list[Node]) -> None:
        owner = nodes[0]
        begun = requests()
        key = next(
            f"k{n}"
            for n in range(99)
            if owner.router.placement.choose(f"k{n}") == owner.pubsub.node
        )
        await call(owner.via(key), "add", timeout=1)
        await trio.sleep(3.0)
        owner.router.execute(event, {"request": begun[1], "key": key, "failure": None, "fence": 1})

    name, problem = violation(run(body))
    assert name == "entity_calls_end"
    assert "its time limit" in problem


@pytest.mark.parametrize("paused", [True, False])
def test_an_acknowledged_cast_that_never_arrives_is_found_unless_its_node_is_paused(
    paused: bool,
) -> None:
    async def body(nodes: list[Node]) -> None:
        begun = requests()
        cast(nodes[0].via("k"), "hello")
        await trio.sleep(1.0)
        owner = next(each for each in nodes if "k" in each.router.records)
        lost = begun[-1]
        lost.number += 1000
        owner.router.execute(ENTITY_REQUEST_ACCEPTED, {"request": lost, "key": "k", "fence": 1})
        if paused:
            watch().paused(ongoing=True)

    outcome = run(body)
    if paused:
        outcome.check()
        return
    name, problem = violation(outcome)
    assert name == "entity_casts_arrive"
    assert "no callback of counters 'k' has got it" in problem


@pytest.mark.parametrize(
    ("error", "trouble", "is_excused"),
    [
        ("EntityUnavailable", None, False),
        ("EntityUnavailable", "a new session", True),
        ("EntityUnavailable", "a failed start", True),
        ("EntityBusy", None, True),
    ],
)
def test_a_limit_a_failed_start_or_a_new_session_of_the_next_owner_may_lose_a_cast(
    error: str, trouble: str | None, is_excused: bool
) -> None:
    async def body(nodes: list[Node]) -> None:
        begun = requests()
        cast(nodes[0].via("k"), "hello")
        await trio.sleep(1.0)
        owner = next(each for each in nodes if "k" in each.router.records)
        other = next(each for each in nodes if each is not owner)
        lost = begun[-1]
        lost.number += 1000
        about = {"request": lost, "key": "k", "fence": 1}
        owner.router.execute(ENTITY_REQUEST_ACCEPTED, about)
        handed_over = {**about, "to": other.pubsub.node.name}
        owner.router.execute(ENTITY_HANDED_OVER, handed_over, requests=1, bytes=100)
        await trio.sleep(1.0)
        if trouble == "a new session":
            other.router.execute(ENTITY_SESSION_OPENED, {})
        elif trouble == "a failed start":
            ended = {"key": "k", "fence": 1, "pid": None, "reason": NORMAL}
            other.router.execute(ENTITY_ENDED, ended)
        failure = Failure(error, "planted")
        other.router.execute(ENTITY_REQUEST_ENDED, {**about, "failure": failure})

    outcome = run(body)
    if is_excused:
        outcome.check()
    else:
        assert violation(outcome)[0] == "entity_casts_arrive"


def test_a_monitor_without_a_down_is_found() -> None:
    async def body(nodes: list[Node]) -> None:
        await call(nodes[0].via("k"), "add", timeout=5)
        monitor(nodes[0].via("k"))
        await trio.sleep(8.0)
        owner = next(each for each in nodes if "k" in each.router.records)
        process = owner.router.records["k"].process
        assert process is not None
        about = {"key": "k", "fence": 1, "reason": None, "pid": process.pid}
        owner.router.execute(ENTITY_ENDED, about)
        await trio.sleep(10.0)

    name, problem = violation(run(body))
    assert name == "entity_monitors_fire"
    assert "there was no Down" in problem


def test_the_end_of_a_process_that_never_owned_its_key_needs_no_down() -> None:
    async def body(nodes: list[Node]) -> None:
        await call(nodes[0].via("k"), "add", timeout=5)
        monitor(nodes[0].via("k"))
        await trio.sleep(8.0)
        other = next(each for each in nodes if "k" not in each.router.records)
        about = {"key": "k", "fence": 0, "reason": None, "pid": current_pid()}
        other.router.execute(ENTITY_ENDED, about)
        await trio.sleep(10.0)

    run(body).check()


def test_a_second_down_of_a_monitor_is_found() -> None:
    async def body(nodes: list[Node]) -> None:
        await call(nodes[0].via("k"), "add", timeout=5)
        ref = monitor(nodes[0].via("k"))
        await nodes[0].entities.stop("k")
        await receive(timeout=5)
        watch().down_sent(current_pid(), ref)

    name, problem = violation(run(body))
    assert name == "entity_monitors_fire"
    assert "a second Down" in problem


# Fences


class Lax(MemoryStorage):
    """A storage that forgets what a test names."""

    forgets = ""

    async def claim(self, topic: str, fence: int) -> Claimed:
        if self.forgets == "claims":
            self._fences.pop(topic, None)
        claimed = await super().claim(topic, fence)
        if self.forgets == "owners":
            self._fences[topic] = 1
        return claimed

    async def read(self, topic: str, *, after: int, limit: int, now: float) -> Slice:
        found = await super().read(topic, after=after, limit=limit, now=now)
        return evolve(found, last=0) if self.forgets == "messages" else found


@pytest.mark.parametrize(
    ("forgets", "problem"),
    [
        ("", None),
        ("claims", "accepts the claim of 't' with fence 1 after one with 2"),
        ("owners", "accepts an append to 't' with fence 1 after the claim of 2"),
        ("messages", "a read of 't' ends at offset 0, and 1 was accepted before it began"),
    ],
)
def test_a_storage_that_forgets_is_found(forgets: str, problem: str | None) -> None:
    @scenario(invariants=("all", FencesHold))
    async def appends(world: World) -> None:
        storage = Lax()
        storage.forgets = forgets
        history, pubsub = History(storage), PubSub()
        children = [pubsub.child_spec(), history.child_spec(pubsub)]
        await Supervisor.start_link(children)
        await history.claim("t", 1)
        await history.append("t", "said", {"n": 1}, fence=1)
        await history.read("t")
        await history.claim("t", 2)
        if forgets == "owners":
            await history.append("t", "said", {"n": 2}, fence=1)
        if forgets == "claims":
            await history.claim("t", 1)

    outcome = simulate(appends, seed=1)
    if problem is None:
        outcome.check()
    else:
        name, found = violation(outcome)
        assert name == "fences_hold"
        assert problem in found
