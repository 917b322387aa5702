"""Every request to an entity ends long before its time limit, whatever happens to the nodes that have it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from actors import CallExit, Reply, Runtime, Sender, call, kill, stop, trap_exits
from channels.entities.entity import Entity
from channels.entities.errors import (
    EntityCrashed,
    EntityLost,
    EntityUnavailable,
    RequestRefused,
)
from channels.entities.ownership import State
from tests.channels.entities.nodes import Counter, Node, child_of, cluster, late
from tests.channels.entities.test_entities_on_nodes import key_of

VIRTUAL_CLOCK = True

LIMIT = 100
SOON = 15


class Heavy(Counter):
    """An entity whose handover has several parts."""

    async def handle_handoff(self) -> Any:
        return {"count": self.count, "rest": "x" * 900_000}


async def ask(node: Node, key: str, request: Any, ended: list[tuple[Any, float]]) -> None:
    """Add the answer or the error of a call to a list, with its seconds."""
    await end_of(lambda: call(node.via(key), request, timeout=LIMIT), ended)


async def end_of(action: Callable[[], Awaitable[Any]], ended: list[tuple[Any, float]]) -> None:
    began = trio.current_time()
    result: Any
    try:
        result = await action()
    except CallExit as error:
        result = error
    ended.append((result, trio.current_time() - began))


async def call_that_waits(
    nursery: trio.Nursery, first: Node, then: Node, key: str, ended: list[tuple[Any, float]]
) -> None:
    """Let the entity work for a second for one node, while the call of another one waits."""
    nursery.start_soon(ask, first, key, ["sleep", 1], [])
    await trio.sleep(0.2)
    nursery.start_soon(ask, then, key, "add", ended)
    await trio.sleep(0.2)


async def begin_handover(b: Node, key: str, to: Node) -> None:
    """Move a key, and return when the first part of its handover has left."""
    b.router.move(b.router.records[key], to.router.node)
    while key in b.router.records:  # noqa: ASYNC110 - no event for it
        await trio.sleep(0.01)


@pytest.mark.parametrize("how", ["lost", "stopped"])
async def test_a_call_ends_if_the_sender_of_its_handover_ends_between_two_parts(
    runtime: Runtime, how: str
) -> None:
    _, (a, b, c) = await cluster("a", "b", "c", cls=Heavy, latency=0.05)
    await trio.sleep(1)
    key = key_of(b)
    ended: list[tuple[Any, float]] = []
    async with trio.open_nursery() as nursery:
        await call_that_waits(nursery, a, c, key, ended)
        await begin_handover(b, key, a)
        if how == "lost":
            kill(b.supervisor)
            await trio.sleep(0.1)
            assert b.grants is not None
            b.grants.free(1)
        else:
            await stop(b.supervisor)
    ((error, seconds),) = ended
    assert isinstance(error, EntityLost)
    assert error.may_have_run
    assert seconds < SOON


async def test_a_call_ends_if_its_key_moves_to_a_node_that_its_node_cannot_reach(
    runtime: Runtime,
) -> None:
    joined, (a, b, c) = await cluster("a", "b", "c")
    key = key_of(b)
    assert await call(b.via(key), "add") == 1
    joined.cut("a", "c")
    await trio.sleep(90)
    ended: list[tuple[Any, float]] = []
    async with trio.open_nursery() as nursery:
        await call_that_waits(nursery, b, c, key, ended)
        b.router.move(b.router.records[key], a.router.node)
    ((error, seconds),) = ended
    assert isinstance(error, EntityLost)
    assert seconds < SOON


async def test_a_call_ends_if_its_node_has_never_heard_of_the_new_owner(runtime: Runtime) -> None:
    joined, (b, c) = await cluster("b", "c")
    joined.cut("a", "c")
    a = b.another(joined.adapter("a"), holder=7)
    await a.start()
    await trio.sleep(1)
    key = key_of(b)
    ended: list[tuple[Any, float]] = []
    async with trio.open_nursery() as nursery:
        await call_that_waits(nursery, b, c, key, ended)
        b.router.move(b.router.records[key], a.router.node)
    ((error, seconds),) = ended
    assert isinstance(error, EntityLost)
    assert seconds < SOON


async def test_a_call_ends_if_its_key_moves_twice_and_the_last_owner_dies(runtime: Runtime) -> None:
    _, (a, b, d) = await cluster("a", "b", "d", latency=0.1)
    await trio.sleep(2)
    key = key_of(b)
    ended: list[tuple[Any, float]] = []
    async with trio.open_nursery() as nursery:
        for request, results in ((["sleep", 1], []), (["sleep", 0.05], []), (["sleep", 20], ended)):
            nursery.start_soon(ask, a, key, request, results)
            await trio.sleep(0.2)
        b.router.move(b.router.records[key], a.router.node)
        # The key moves on from a before b learns that a has it.
        await running(a, key)
        a.router.move(a.router.records[key], d.router.node)
        await running(d, key)
        await trio.sleep(1)
        kill(d.supervisor)
        await trio.sleep(0.1)
        assert d.grants is not None
        d.grants.free(2)
    ((error, seconds),) = ended
    assert isinstance(error, EntityLost)
    assert seconds < SOON


async def running(node: Node, key: str) -> None:
    """Return when an entity runs on a node."""
    records = node.router.records
    while key not in records or records[key].state is not State.RUNNING:  # noqa: ASYNC110 - no event for it
        await trio.sleep(0.005)


class Leaving(Counter):
    """An entity that needs two seconds for its end, and looks for another one meanwhile."""

    other: tuple[Node, str]
    ended: list[tuple[Any, float]]

    async def init(self, key: str, state: Any = None) -> None:
        trap_exits()
        await super().init(key, state)

    async def terminate(self, reason: Any) -> None:
        node, key = Leaving.other
        if self.key != key:
            await end_of(lambda: node.entities.where(key, timeout=LIMIT), Leaving.ended)
            await trio.sleep(2)


async def test_a_look_up_ends_although_its_node_stops(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", cls=Leaving)
    key, other = key_of(a), key_of(b)
    Leaving.other, Leaving.ended = (a, other), []
    for each in (key, other):
        assert await call(a.via(each), "add") == 1
    ended: list[tuple[Any, float]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop, a.supervisor)
        await trio.sleep(0.5)
        nursery.start_soon(end_of, lambda: a.entities.where(other, timeout=LIMIT), ended)
    for found, seconds in [*Leaving.ended, *ended]:
        assert found.node == b.router.node.name
        assert seconds < 1


async def test_a_look_up_that_waits_when_its_node_stops_ends_as_unavailable(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (a, b) = await cluster("a", "b")
    monkeypatch.setattr(a.router.arbiter, "owner", late(a.router.arbiter.owner))
    ended: list[tuple[Any, float]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_of, lambda: a.entities.where(key_of(b), timeout=LIMIT), ended)
        await trio.sleep(0.1)
        await stop(a.supervisor)
    ((error, _seconds),) = ended
    assert isinstance(error, EntityUnavailable)


async def test_a_look_up_ends_although_the_locator_starts_again(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(b)
    assert await call(b.via(key), "add") == 1
    monkeypatch.setattr(a.router.arbiter, "owner", late(a.router.arbiter.owner))
    ended: list[tuple[Any, float]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_of, lambda: a.entities.where(key, timeout=LIMIT), ended)
        await trio.sleep(0.1)
        kill(await a.child("locator"))
    ((found, seconds),) = ended
    assert found.node == "b"
    assert seconds < SOON


@pytest.mark.parametrize("verb", ["where", "call", "call of a blocked key"])
async def test_a_request_ends_while_the_session_of_its_node_closes(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    joined, (a, b) = await cluster("a", "b")
    key = key_of(b)
    assert await call(b.via(key), "add") == 1
    monkeypatch.setattr(a.router.arbiter, "close_session", late(a.router.arbiter.close_session))
    ended: list[tuple[Any, float]] = []
    async with trio.open_nursery() as nursery:
        if verb == "call of a blocked key":
            joined.cut("a", "b")
            a.router.node_lost(b.router.node)
            nursery.start_soon(ask, a, key, "add", [])
            await trio.sleep(0.5)
        nursery.start_soon(stop, a.supervisor)
        await trio.sleep(0.2)
        if verb == "where":
            nursery.start_soon(end_of, lambda: a.entities.where(key, timeout=LIMIT), ended)
        else:
            nursery.start_soon(ask, a, key, "add", ended)
    ((error, seconds),) = ended
    assert isinstance(error, EntityUnavailable)
    assert seconds < 1


async def test_a_request_that_is_too_large_for_a_message_is_refused(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", max_request_bytes=3_000_000)
    ended: list[tuple[Any, float]] = []
    await ask(a, key_of(b), "x" * 2_000_000, ended)
    ((error, seconds),) = ended
    assert isinstance(error, RequestRefused)
    assert "raise max_bytes of the adapter" in str(error)
    assert seconds < 1


class Wordy(Entity):
    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        if request == "crash":
            raise ValueError("x" * 2_000_000)
        return Reply("y" * request)


@pytest.mark.parametrize(
    ("request_", "expected", "words"),
    [
        ("crash", EntityCrashed, "xxxx... ("),
        (2_000_000, EntityLost, "its answer cannot travel: a message of"),
    ],
)
async def test_a_call_ends_although_its_answer_or_failure_is_too_large_for_a_message(
    runtime: Runtime, request_: Any, expected: type[CallExit], words: str
) -> None:
    _, (a, b) = await cluster("a", "b", cls=Wordy)
    ended: list[tuple[Any, float]] = []
    await ask(a, key_of(b), request_, ended)
    ((error, seconds),) = ended
    assert isinstance(error, expected)
    assert words in str(error)
    assert seconds < 1


async def test_waiting_calls_end_if_the_router_of_their_node_starts_again(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(b)
    ended: list[tuple[Any, float]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, a, key, ["sleep", 5], ended)
        await trio.sleep(0.2)
        for node in (a, b):
            nursery.start_soon(ask, node, key, "add", ended)
        await trio.sleep(0.2)
        kill(await child_of(b.supervisor, "entities counters"))
    assert len(ended) == 3
    assert all(seconds < SOON for _, seconds in ended)
