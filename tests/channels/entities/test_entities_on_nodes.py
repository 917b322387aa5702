"""Entities on several nodes: requests between nodes, moves, drains, lost nodes, and the order of requests."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import pytest
import trio

from actors import (
    KILLED,
    NOCONNECTION,
    NOPROC,
    CallExit,
    CallingSelf,
    Down,
    Reply,
    Runtime,
    Sender,
    as_process,
    call,
    cast,
    current_pid,
    demonitor,
    kill,
    monitor,
    receive,
    send,
)
from channels import PubSub
from channels.entities.arbiter import ArbiterUnavailable, Owned
from channels.entities.arbiters.local import LocalArbiter
from channels.entities.codec import Codec
from channels.entities.entity import Entity
from channels.entities.errors import (
    EntityBusy,
    EntityCrashed,
    EntityError,
    EntityLost,
    EntityStartFailed,
    EntityTimeout,
    EntityUnavailable,
)
from channels.entities.handovers import Handovers
from channels.entities.messages import Ask, Handover, Hello, Moved
from channels.entities.ownership import State
from channels.entities.placement import winner
from channels.entities.remote import ProcessAddress
from channels.entities.router import Router
from channels.pubsub.adapter import Node as NodeName
from channels.pubsub.workers.grants import Grants
from channels.telemetry import (
    ENTITY_BEGAN,
    ENTITY_CRASHED,
    ENTITY_DROPPED,
    ENTITY_HANDOVER_LOST,
    ENTITY_MESSAGE_REFUSED,
    ENTITY_REFUSED,
    ENTITY_REQUEST_ACCEPTED,
    ENTITY_STARTED,
)
from channels.testing import JoinedNodes
from supervision import Backoff
from tests.channels.entities.nodes import Counter, Node, child_of, cluster, late, listen
from tests.channels.support import settle

VIRTUAL_CLOCK = True


def key_of(node: Node, like: str = "k") -> str:
    """A key that belongs to a node."""
    placement = node.router.placement
    return next(key for n in range(1000) if placement.choose(key := f"{like}{n}") == placement.me)


async def test_every_node_reaches_the_one_process_of_a_key(runtime: Runtime) -> None:
    _, nodes = await cluster("a", "b", "c")
    started = listen(runtime, ENTITY_STARTED)
    for number in range(10):
        for turn, node in enumerate(nodes):
            assert await call(node.via(f"key {number}"), "add") == turn + 1
    assert len(started) == 10
    assert len({each["router"].node for each in started}) == 3
    for node in nodes:
        place = await node.entities.where("key 0")
        assert place is not None
        assert place.node == started[0]["router"].node.name
    await nodes[0].entities.stop("key 0")
    assert [await each.entities.where("key 0") for each in nodes] == [None] * 3
    await nodes[1].entities.start("key 0")
    assert await nodes[2].entities.where("key 0") is not None


async def test_errors_of_another_node_arrive_with_their_fields(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", max_waiting=1, max_restarts=0, max_seconds=60)
    key = key_of(b)
    with pytest.raises(EntityCrashed, match="asked to crash") as crashed:
        await call(a.via(key), "crash")
    assert crashed.value.may_have_run
    with pytest.raises(EntityStartFailed) as waits:
        await call(a.via(key), "add")
    assert not waits.value.may_have_run
    assert 0.9 < waits.value.retry_after <= 1
    await trio.sleep(2)
    async with trio.open_nursery() as nursery:
        for request in (["sleep", 1], "add"):
            nursery.start_soon(call, a.via(key), request)
            await trio.sleep(0.1)
        with pytest.raises(EntityBusy, match="max_waiting is 1") as busy:
            await call(a.via(key), "add")
        assert not busy.value.may_have_run


async def test_casts_and_messages_of_one_sender_arrive_in_order(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(b)
    for number in range(50):
        (cast if number % 3 else send)(a.via(key), number)
    heard = await call(a.via(key), "heard")
    assert [each[1] for each in heard] == list(range(50))


async def test_the_loss_of_a_node_ends_the_requests_that_it_has(runtime: Runtime) -> None:
    joined, (a, b) = await cluster("a", "b")
    key = key_of(b)
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(EntityLost, match="'b'") as lost:
                await call(a.via(key), ["sleep", 30], timeout=100)
            assert lost.value.may_have_run

        nursery.start_soon(ask)
        await trio.sleep(0.1)
        joined.cut("a", "b")
    # The silence of b lasted for as long as a lease.
    assert 9 < trio.current_time() < 14
    # Another node may not own the key while b lives.
    with pytest.raises(EntityTimeout) as late:
        await call(a.via(key), "add")
    assert not late.value.may_have_run
    joined.heal()
    await trio.sleep(20)
    assert await call(a.via(key), "add") == 2


async def test_with_a_shorter_lease_a_silent_node_is_lost_earlier(runtime: Runtime) -> None:
    joined, (a, b) = await cluster("a", "b")
    for node in (a, b):
        assert node.router.lease is not None
        node.router.lease.seconds = 2.0
    await trio.sleep(5)
    joined.cut("a", "b")
    began = trio.current_time()
    with pytest.raises(EntityLost):
        await call(a.via(key_of(b)), "add", timeout=100)
    assert 1.4 < trio.current_time() - began < 2.2


async def test_the_key_of_a_node_that_ended_starts_elsewhere(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(b)
    fence = (await call(a.via(key), "who"))[1]
    kill(b.supervisor)
    await trio.sleep(0.1)
    # The session of a killed node may stay open, so the parent of the workers ends it.
    assert a.grants is not None
    a.grants.free(1)
    assert (await call(a.via(key), "who"))[1] > fence


async def test_a_late_hello_does_not_bring_back_a_node_that_has_ended(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    node, hello = b.router.node, b.router._hello()
    kill(b.supervisor)
    await trio.sleep(0.1)
    a.router._greeted(node, hello)
    assert not a.router.placement.knows(node)


async def test_a_request_follows_its_key(runtime: Runtime) -> None:
    _, (a, b, c) = await cluster("a", "b", "c")
    key = key_of(b)
    assert await call(a.via(key), "add") == 1
    record = b.router.records[key]
    b.router.move(record, c.router.node)
    await trio.sleep(0.1)
    moved = listen(runtime, ENTITY_BEGAN)
    assert await call(a.via(key), "add") == 2
    assert await call(b.via(key), "add") == 3
    assert await call(c.via(key), "add") == 4
    assert {each["router"].node.name for each in moved} == {"c"}


async def test_a_handover_keeps_the_state_and_the_order_of_the_requests(runtime: Runtime) -> None:
    _, nodes = await cluster("a", "b", "c", cls=Listing)
    a, b = nodes[:2]
    key = key_of(b)
    await b.entities.start(key)
    sent = {node.pubsub.node_name: 0 for node in nodes}
    answers: list[Any] = []

    async def ask(node: Node, number: int) -> None:
        answers.append(await call(node.via(key), [node.pubsub.node_name, number], timeout=60))

    async with trio.open_nursery() as nursery:
        for turn in range(60):
            for node in nodes:
                name = node.pubsub.node_name
                sent[name] += 1
                if turn % 2:
                    cast(node.via(key), [name, sent[name]])
                else:
                    nursery.start_soon(ask, node, sent[name])
            await trio.sleep(0.013)
            if turn in (10, 30, 45):
                owner = next(each for each in nodes if key in each.router.records)
                record = owner.router.records[key]
                to = nodes[(nodes.index(owner) + 1) % 3]
                if record.state is State.RUNNING:
                    owner.router.move(record, to.router.node)
    heard = await call(a.via(key), "all", timeout=60)
    for name, count in sent.items():
        assert [number for each, number in heard if each == name] == list(range(1, count + 1))
    assert sum(each.router.counts["handed_over"] for each in nodes) >= 2
    assert len(answers) == 90


async def test_the_rows_of_the_observer_tell_where_a_key_is_and_was(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(a)
    for _ in range(3):
        await call(b.via(key), "add")
    [row] = a.entities.rows(10)
    assert row == {
        "key": key,
        "node": "a",
        "state": "running",
        "messages": row["messages"],
        "pid": (await a.pid_of(key)).number,
        "born": pytest.approx(runtime.now(), abs=1),
    }
    assert row["messages"] >= 3
    assert a.entities.statistics()["entities"] == 1
    a.router.move(a.router.records[key], b.router.node)
    await trio.sleep(1)
    [row] = a.entities.rows(10)
    moved = {"to": "b", "at": pytest.approx(runtime.now(), abs=2)}
    assert row == {"key": key, "node": "b", "state": "moved", "handover": moved}
    [row] = b.entities.rows(10)
    assert (row["state"], row["handover"]["from"]) == ("running", "a")
    assert [each.entities.statistics()["entities"] for each in (a, b)] == [0, 1]
    for number in range(20):
        await b.entities.start(f"{key}.{number}")
    assert sum(row["node"] == "b" for row in b.entities.rows(3)) == 3
    kill(await b.pid_of(key))
    await trio.sleep(1)
    owned = [each.entities.statistics() for each in (a, b)]
    assert [each["entities"] for each in owned] == [each["keys"] for each in owned]


async def test_a_key_whose_new_owner_cannot_ask_the_arbiter_starts_later_with_its_state(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(a)
    assert await call(a.via(key), "add") == 1
    acquire, away = b.router.arbiter.acquire, True

    async def unavailable_acquire(key: str, *, at_least: int = 0) -> Any:
        if away:
            raise ArbiterUnavailable("local", "it is away", may_have_run=False, retry_after=2.5)
        return await acquire(key, at_least=at_least)

    b.router.arbiter.acquire = unavailable_acquire  # type: ignore[method-assign] # the real one follows
    a.router.move(a.router.records[key], b.router.node)
    await trio.sleep(5)
    with pytest.raises(EntityUnavailable) as failed:
        await call(a.via(key), "add")
    assert failed.value.retry_after == 2.5
    away = False
    await trio.sleep(5)
    # No request was needed.
    assert b.router.records[key].state is State.RUNNING
    assert await call(a.via(key), "add") == 2
    away = True
    cast(a.via(key), "crash")
    await trio.sleep(5)
    assert b.router.records[key].state is not State.RUNNING
    away = False
    await trio.sleep(5)
    assert b.router.records[key].state is State.RUNNING


class Listing(Entity):
    """An entity that keeps its requests, and takes some time for each."""

    async def init(self, key: str, state: Any = None) -> None:
        self.heard = state or []

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        if request == "all":
            return Reply(self.heard)
        await trio.sleep(0.004)
        self.heard.append(request)
        return Reply(len(self.heard))

    async def handle_cast(self, message: Any) -> None:
        await trio.sleep(0.004)
        self.heard.append(message)

    async def handle_handoff(self) -> Any:
        return self.heard


async def test_a_drain_moves_all_keys_and_their_callers_notice_only_a_delay(
    runtime: Runtime,
) -> None:
    _, (a, b, c) = await cluster("a", "b", "c")
    keys = [f"key {number}" for number in range(60)]
    for key in keys:
        assert await call(a.via(key), "add") == 1
    calls = 0

    async def go_on() -> None:
        nonlocal calls
        while True:
            for key in keys:
                assert await call(a.via(key), "add") >= 2
                calls += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        await trio.sleep(0.05)
        await b.stop()
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert calls > 60
    total = sum([await call(c.via(key), "add") - 1 for key in keys])
    # The last call may have run, although the test has cancelled it.
    assert total - calls - len(keys) in (0, 1)
    assert await call(a.via(keys[0]), "handed over") in (True, False)
    assert b.entities.statistics() == {}


async def test_a_new_node_gets_its_share_of_the_keys(runtime: Runtime) -> None:
    joined, (a, b) = await cluster("a", "b")
    keys = [f"key {number}" for number in range(90)]
    for key in keys:
        assert await call(a.via(key), "add") == 1
    late = a.another(joined.adapter("late"), holder=7)
    await late.start()
    await trio.sleep(10)
    share = late.entities.statistics()["entities"]
    assert 15 < share < 45
    assert sum(each.entities.statistics()["entities"] for each in (a, b)) == 90 - share
    for key in keys:
        assert await call(a.via(key), "add") == 2


async def test_a_lost_handover_loads_the_state_again_and_ends_its_requests(
    runtime: Runtime,
) -> None:
    joined, (a, b) = await cluster("a", "b")
    key = key_of(b)
    await call(a.via(key), "add")
    record = b.router.records[key]
    results: list[Any] = []

    async def ask() -> None:
        try:
            results.append(await call(b.via(key), "add", timeout=20))
        except EntityError as error:
            results.append((type(error), error.may_have_run))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, b.via(key), ["sleep", 1])
        await trio.sleep(0.1)
        nursery.start_soon(ask)
        await settle()
        joined.loses = lambda sender, *_: sender == "b"
        b.router.move(record, a.router.node)
        await trio.sleep(2)
        joined.loses = lambda *_: False
        nursery.start_soon(ask_from, a, key, results)
        nursery.cancel_scope.deadline = trio.current_time() + 30
    assert (EntityLost, True) in results


async def ask_from(node: Node, key: str, results: list[Any]) -> None:
    results.append(await call(node.via(key), "add"))


async def test_a_sender_is_an_address_that_the_entity_can_use(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", cls=Room)
    key = key_of(b)
    async with as_process():
        me = current_pid()
        await call(a.via(key), Enter(me))
        assert await receive(timeout=1) == ["welcome"]
        assert await call(a.via(key), Leave()) == [0]
    await trio.sleep(1)
    # The entity monitors its guests, and this process has ended.
    assert await call(a.via(key), Leave()) == [1]


class Enter(msgspec.Struct, tag=True):
    guest: ProcessAddress


class Leave(msgspec.Struct, tag=True):
    pass


class Room(Entity):
    requests = Enter | Leave

    async def init(self, key: str, state: Any = None) -> None:
        self.gone = 0

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        if isinstance(request, Enter):
            assert sender.pid == request.guest
            monitor(request.guest)
            send(request.guest, ["welcome"])
        return Reply([self.gone])

    async def handle_info(self, message: Any) -> None:
        assert isinstance(message, Down)
        self.gone += 1


async def test_monitors_of_entities_on_other_nodes_fire_once(runtime: Runtime) -> None:
    joined, (a, b) = await cluster("a", "b")
    key = key_of(b)
    async with as_process():
        idle = monitor(a.via(key))
        assert await receive() == Down(idle, None, NOPROC, a.via(key))
        await a.entities.start(key)
        gone, ref = monitor(a.via(key)), monitor(a.via(key))
        await trio.sleep(0.1)
        assert demonitor(gone)
        kill(await b.pid_of(key))
        assert await receive() == Down(ref, None, KILLED, a.via(key))
        await a.entities.start(key)
        lost = monitor(a.via(key))
        await trio.sleep(1)
        joined.cut("a", "b")
        assert await receive() == Down(lost, None, NOCONNECTION, a.via(key))
        with pytest.raises(trio.TooSlowError):
            await receive(timeout=100)


async def test_calls_through_several_nodes_in_a_circle_are_an_error(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", cls=Chained)
    Chained.ways = {"x": a, "y": b}
    first, second = key_of(a, "x"), key_of(b, "y")
    assert await call(a.via(first), [second, first, "end"]) == "a circle"
    assert await call(a.via(first), [second, "end"]) == "end"
    assert trio.current_time() < 2


class Chained(Entity):
    """An entity that passes its request on to the next key in it."""

    ways: dict[str, Node] = {}

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        following, *rest = request
        if following == "end":
            return Reply("end")
        try:
            return Reply(await call(Chained.ways[self.key[0]].via(following), rest))
        except CallingSelf:
            return Reply("a circle")


async def test_too_many_requests_for_one_node_are_refused(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", max_remote_waiting=3)
    key = key_of(b)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(call, a.via(key), ["sleep", 1])
            await settle()
        with pytest.raises(EntityBusy, match="max_remote_waiting is 3"):
            await call(a.via(key), "add")
    assert a.entities.statistics()["remote_waiting"] == 0
    assert await call(a.via(key), "add") == 4


async def test_pinned_keys_run_only_on_nodes_with_their_label(runtime: Runtime) -> None:
    joined, grants = JoinedNodes(), Grants()
    nodes = []
    for number, labels in enumerate([(), ("gpu",), ()]):
        arbiter = LocalArbiter(grants=grants, holder=number)
        pubsub = PubSub(joined.adapter(f"n{number}"))
        nodes.append(Node(pubsub, Counter, arbiter, labels=labels, pin=lambda key: key or None))
        await nodes[-1].start()
    await trio.sleep(0.1)
    for node in nodes:
        await call(node.via("gpu"), "add")
        place = await node.entities.where("gpu")
        assert place is not None
        assert place.node == "n1"
        with pytest.raises(EntityUnavailable, match="no node has the label 'tpu'"):
            await call(node.via("tpu"), "add")


async def test_the_loss_of_the_lease_on_one_node_moves_its_keys(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(b)
    await call(a.via(key), "add")
    b.router.arbiter.lease.lose("a test")
    await trio.sleep(0.2)
    assert await call(a.via(key), "add") == 1


async def test_a_message_from_another_version_is_counted_and_dropped(runtime: Runtime) -> None:
    _, (_a, b) = await cluster("a", "b")
    part = b'{"type":"handover","key":"k","fence":1,"part":5,"parts":2,"data":""}'
    for message in (b'{"type":"news"}', b'{"type":"ask"}', part, b"\xff"):
        b.router.receive(b'[{"name":"x","incarnation":""},"",%b]' % message)
    b.router.receive(b"")
    assert b.entities.statistics()["messages_refused"] == 5


class Post:
    """The messages of one kind that a router sends, which a test repeats or holds back."""

    def __init__(self, router: Router, kind: type, copies: int) -> None:
        self.held: list[tuple[Any, Any]] = []
        self.post = router.post
        self.kind = kind
        self.copies = copies
        router.post = self  # type: ignore[method-assign]

    def __call__(self, node: Any, message: Any) -> None:
        copies = self.copies if isinstance(message, self.kind) else 1
        if not copies:
            self.held.append((node, message))
        for _ in range(copies):
            self.post(node, message)

    def release(self) -> None:
        for node, message in self.held:
            self.post(node, message)


class Large(Counter):
    """An entity with a state of the size that its request demands."""

    async def handle_handoff(self) -> Any:
        return {"count": self.count, "rest": "x" * self.count}


async def moving(
    node: Node,
    to: Node,
    key: str,
    *requests: Any,
    target: NodeName | None = None,
    asking: Node | None = None,
) -> list[Any]:
    """Move a busy key, while requests wait for it. Return the results of the requests."""
    results: list[Any] = [None] * len(requests)

    async def ask(number: int, request: Any) -> None:
        try:
            results[number] = await call((asking or to).via(key), request, timeout=30)
        except CallExit as error:
            results[number] = type(error), error.may_have_run

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(call, node.via(key), ["sleep", 1], timeout=30))
        await trio.sleep(0.1)
        for number, request in enumerate(requests):
            nursery.start_soon(ask, number, request)
            await trio.sleep(0.01)
        node.router.move(node.router.records[key], target or to.router.node)
    return results


async def test_a_repeated_handover_runs_its_requests_once(runtime: Runtime) -> None:
    _, (a, b, c) = await cluster("a", "b", "c")
    key = key_of(b)
    Post(b.router, Handover, 3)
    assert await moving(b, a, key, "add", "add", "handed over", asking=c) == [2, 3, True]
    assert await call(b.via(key), "add") == 4


async def test_a_direct_request_does_not_overtake_a_handover(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(b)
    post = Post(b.router, Handover, 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, b.via(key), ["sleep", 1])
        await trio.sleep(0.1)
        for number in (1, 2):
            cast(b.via(key), number)
        b.router.move(b.router.records[key], a.router.node)
        await trio.sleep(1)
        # The key belongs to a, which waits for the state and for the casts.
        cast(a.via(key), 3)
        await trio.sleep(0.5)
        post.release()
    assert await call(a.via(key), "heard") == [["cast", 1], ["cast", 2], ["cast", 3]]
    assert await call(a.via(key), "handed over")


async def test_requests_on_their_way_to_the_former_owner_stay_in_order(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(b)
    await call(a.via(key), "add")
    post = Post(a.router, Ask, 0)
    for number in (1, 2):
        cast(a.via(key), number)
    b.router.move(b.router.records[key], a.router.node)
    await trio.sleep(1)
    assert a.router.records[key].state is State.RUNNING
    # The first two are still on their way to b, although the entity runs here now.
    cast(a.via(key), 3)
    post.release()
    await trio.sleep(0.1)
    assert await call(b.via(key), "heard") == [["cast", 1], ["cast", 2], ["cast", 3]]


async def test_a_node_that_has_refused_a_request_refuses_the_rest_of_its_generation(
    runtime: Runtime,
) -> None:
    _, (_a, b, c) = await cluster("a", "b", "c")
    key = key_of(b)
    answers = Post(b.router, Moved, 0)
    sender = NodeName("x", "1")

    def ask(turn: int, generation: int) -> None:
        message = Ask(
            id=turn,
            turn=turn,
            generation=generation,
            key=key,
            verb="cast",
            body=msgspec.Raw(b"%d" % turn),
            seconds=9.0,
        )
        b.router.receive(msgspec.json.encode((sender, "", message)))

    await c.router.arbiter.acquire(key)
    ask(1, 1)
    await trio.sleep(0.1)
    # Now the key comes to b, while the rest of the generation is on its way.
    owned = await c.router.arbiter.acquire(key)
    assert isinstance(owned, Owned)
    await c.router.arbiter.release(key, owned.fence)
    b.router._owners.clear()
    await b.entities.start(key)
    ask(2, 1)
    ask(3, 2)
    assert await call(b.via(key), "heard") == [["cast", 3]]
    moved = [(message.turn, message.generation) for _, message in answers.held]
    assert moved == [(1, 1), (1, 1)]


async def test_a_handover_that_comes_too_late_ends_its_requests(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", handover_timeout=0.5)
    key = key_of(b)
    post = Post(b.router, Handover, 0)
    results = await moving(b, a, key, "add")
    # The new owner did not wait for ever, and has no state.
    assert results == [(EntityLost, True)]
    assert await call(a.via(key), "add") == 1
    post.release()
    await trio.sleep(1)
    assert await call(a.via(key), "add") == 2


async def test_a_handover_comes_too_late_for_a_key_that_has_started_and_crashed_since(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (a, b, c) = await cluster("a", "b", "c", handover_timeout=0.5)
    key = key_of(b)
    post = Post(b.router, Handover, 0)
    assert await moving(b, a, key, "add", asking=c) == [(EntityLost, True)]
    assert await call(a.via(key), "add") == 1
    monkeypatch.setattr(a.router.arbiter, "acquire", late(a.router.arbiter.acquire))
    cast(a.via(key), "crash")
    await trio.sleep(0.1)
    assert a.router.records[key].state is State.STARTING
    post.release()
    await trio.sleep(0.1)
    assert await call(a.via(key), "add") == 1


async def test_a_large_state_moves_in_parts_and_one_above_the_limit_is_loaded_again(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b", cls=Large, max_handover_bytes=1_000_000)
    refused, key = listen(runtime, ENTITY_REFUSED), key_of(b)
    for size, arrives in ((900_000, True), (1_000_001, False)):
        await call(a.via(key), ["count", size])
        owner, other = (b, a) if key in b.router.records else (a, b)
        assert await moving(owner, other, key, "handed over") == [arrives]
    assert [each["option"] for each in refused] == ["max_handover_bytes"]


async def slow_cluster(*names: str, **options: Any) -> list[Node]:
    """Start nodes between which a part of a handover needs 0.4 seconds until it is confirmed."""
    _, nodes = await cluster(
        *names,
        cls=Large,
        max_handover_bytes=1_000_000,
        latency=0.2,
        **{"handover_timeout": 0.5, **options},
    )
    await trio.sleep(1)  # until they know each other
    return nodes


@pytest.mark.parametrize("knows_sender", [True, False])
@pytest.mark.parametrize("is_asked", [True, False])
async def test_each_part_extends_the_time_of_a_handover(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, is_asked: bool, knows_sender: bool
) -> None:
    a, b = await slow_cluster("a", "b")
    key, lost = key_of(b), listen(runtime, ENTITY_HANDOVER_LOST)
    await call(b.via(key), ["count", 900_000])
    if not knows_sender:
        acquire = a.router.arbiter.acquire

        async def without_sender(*args: Any, **options: Any) -> Any:
            return msgspec.structs.replace(await acquire(*args, **options), sender=None)

        monkeypatch.setattr(a.router.arbiter, "acquire", without_sender)
    # Four parts need longer than twice the timeout.
    b.router.move(b.router.records[key], a.router.node)
    if is_asked:
        await trio.sleep(0.1)
        assert await call(a.via(key), "handed over")
    await trio.sleep(3)
    assert await call(a.via(key), "handed over")
    assert lost == []


async def test_a_handover_whose_parts_stop_arriving_is_lost_and_holds_up_no_other(
    runtime: Runtime,
) -> None:
    a, b, c = await slow_cluster("a", "b", "c")
    large, small = key_of(b, "large"), key_of(b, "small")
    lost = listen(runtime, ENTITY_HANDOVER_LOST)
    await call(b.via(large), ["count", 900_000])
    await b.entities.start(small)
    b.router.move(b.router.records[large], a.router.node)
    await trio.sleep(0.1)
    post = Post(
        b.router, Handover, 0
    )  # only the first part arrives, which is confirmed after 0.4 seconds
    await trio.sleep(1.2)
    assert lost == []
    await trio.sleep(0.2)
    assert [each["key"] for each in lost] == [large]
    b.router.post = post.post  # type: ignore[method-assign]
    b.router.move(b.router.records[small], c.router.node)
    await trio.sleep(0.5)
    assert await call(c.via(small), "handed over")
    assert not await call(a.via(large), "handed over")


async def test_large_handovers_that_wait_for_each_other_are_not_lost(runtime: Runtime) -> None:
    a, b, _ = await slow_cluster("a", "b", "c")
    lost, keys = listen(runtime, ENTITY_HANDOVER_LOST), [key_of(b, like) for like in "pqrst"]
    for key in keys:
        await call(b.via(key), ["count", 900_000])
    for key in keys:
        b.router.move(b.router.records[key], a.router.node)
    # Each of them needs longer than twice the timeout.
    await trio.sleep(10)
    assert lost == []
    assert all([await call(a.via(key), "handed over") for key in keys])


async def test_requests_in_a_handover_that_is_given_up_have_certainly_not_run(
    runtime: Runtime,
) -> None:
    a, b, c = await slow_cluster("a", "b", "c", handover_timeout=2.0)
    key, dropped = key_of(b), listen(runtime, ENTITY_DROPPED)
    await call(b.via(key), ["count", 900_000])
    post = Post(b.router, Handover, 0)
    results: list[Any] = []

    async def move() -> None:
        results.extend(await moving(b, a, key, "add", asking=c))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(move)
        await trio.sleep(0.05)
        cast(c.via(key), 1)
        await trio.sleep(2)
        assert not await call(a.via(key), "handed over")
        post.release()
    assert results == [(EntityUnavailable, False)]
    problem = "the handover of the key came too late"
    assert [(each["verb"], each["problem"]) for each in dropped] == [("cast", problem)]


async def test_a_small_handover_does_not_wait_for_all_parts_of_a_large_one(
    runtime: Runtime,
) -> None:
    a, b, c = await slow_cluster("a", "b", "c")
    large, small = key_of(b, "large"), key_of(b, "small")
    await call(b.via(large), ["count", 900_000])
    await b.entities.start(small)
    b.router.move(b.router.records[large], a.router.node)
    b.router.move(b.router.records[small], c.router.node)
    await trio.sleep(0.9)
    assert await call(c.via(small), "handed over")
    assert await call(a.via(large), "handed over")


async def test_no_more_parts_are_sent_to_a_node_that_has_started_without_them(
    runtime: Runtime,
) -> None:
    a, b = await slow_cluster("a", "b", handover_timeout=2.0)
    key, lost = key_of(b), listen(runtime, ENTITY_HANDOVER_LOST)
    await call(b.via(key), ["count", 900_000])
    post = Post(b.router, Handover, 0)
    b.router.move(b.router.records[key], a.router.node)
    assert not await call(a.via(key), "handed over")
    post.release()
    await trio.sleep(0.5)
    assert [each["key"] for each in lost] == [key]
    assert len(post.held) == 1


@pytest.mark.parametrize("silent", ["the small", "the large"])
async def test_a_handover_to_a_silent_node_holds_up_none_to_another_node(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    a, b, c = await slow_cluster("a", "b", "c")
    large, small = key_of(b, "large"), key_of(b, "small")
    await call(b.via(large), ["count", 900_000])
    await b.entities.start(small)
    dead, living = (c, a) if silent == "the small" else (a, c)
    post = b.router.post

    def post_to_living(node: NodeName, message: Any) -> None:
        if not isinstance(message, Handover) or node != dead.router.node:
            post(node, message)

    monkeypatch.setattr(b.router, "post", post_to_living)
    b.router.move(b.router.records[large], a.router.node)
    await trio.sleep(0.1)
    b.router.move(b.router.records[small], c.router.node)
    await trio.sleep(0.1)
    kept = large if silent == "the small" else small
    assert await call(living.via(kept), "handed over")


async def test_a_node_refuses_a_handover_above_its_limit_at_once(runtime: Runtime) -> None:
    a, b = await slow_cluster("a", "b", handover_timeout=5.0)
    lost = listen(runtime, ENTITY_HANDOVER_LOST)
    a.router._handovers = Handovers(max_bytes=100)
    for like in "pqrs":
        key = key_of(b, like)
        await call(b.via(key), ["count", 900_000])
        b.router.move(b.router.records[key], a.router.node)
    await trio.sleep(3)
    assert len(lost) == 4


async def test_a_lost_handover_without_any_time_does_not_hold_up_the_next_one(
    runtime: Runtime,
) -> None:
    a, b = await slow_cluster("a", "b", handover_timeout=0.0)
    first, second = key_of(b, "first"), key_of(b, "second")
    post = Post(b.router, Handover, 0)
    for key in (first, second):
        await call(b.via(key), ["count", 200_000])
        b.router.move(b.router.records[key], a.router.node)
        await trio.sleep(2)
        b.router.post = post.post  # type: ignore[method-assign]
    assert await call(a.via(second), "handed over")


async def test_requests_above_the_limit_of_a_handover_are_refused(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", max_handover_bytes=2000)
    key = key_of(b)
    refused = EntityBusy, False
    assert await moving(b, a, key, "x" * 1000, "y" * 1000) == [refused, refused]
    assert await call(a.via(key), "handed over")


async def test_a_refused_transfer_starts_the_entity_again_with_its_state(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(b)
    ghost = NodeName("ghost", "1")
    assert await moving(b, a, key, "add", "handed over", target=ghost) == [2, True]
    assert key in b.router.records


class Unreadable(Counter):
    handoff = dict[str, int]

    async def handle_handoff(self) -> Any:
        return {"count": self.count}


async def test_a_state_of_another_version_is_loaded_again(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", cls=Unreadable)
    key = key_of(b)
    a.router._handoffs = Codec("handoff", dict[str, str])
    lost = listen(runtime, ENTITY_HANDOVER_LOST)
    assert await moving(b, a, key, "handed over", "add") == [False, 1]
    assert ["`handoff`" in each["problem"] for each in lost] == [True]


class Stuck(Counter):
    async def handle_handoff(self) -> Any:
        return object()


async def test_a_state_that_cannot_travel_crashes_the_entity_on_its_node(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", cls=Stuck)
    key = key_of(b)
    crashed = listen(runtime, ENTITY_CRASHED)
    assert await moving(b, a, key, "add") == [1]
    assert "Stuck.handle_handoff returned" in str(crashed[0]["reason"])
    assert key in b.router.records


async def test_a_stop_and_a_look_up_follow_a_key_that_moves(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(b)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, b.via(key), ["sleep", 1])
        await trio.sleep(0.1)
        b.router.move(b.router.records[key], a.router.node)
        place = await a.entities.where(key)
        assert place is not None
        assert place.node == "a"
        await b.entities.stop(key)
    assert await b.entities.where(key) is None


async def test_numbers_go_on_when_only_the_supervisor_of_the_entities_starts_again(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(b)
    seen: list[int] = []
    runtime.telemetry.attach(
        ENTITY_BEGAN, lambda _, __, about: seen.append(about["request"].number)
    )
    for _ in range(3):
        await call(a.via(key), "add")
        router = a.router
        kill(await a.child("session"))
        kill(await child_of(a.supervisor, "entities counters"))
        await trio.sleep(0.1)
        assert a.router is not router
    assert seen == sorted(set(seen))
    assert await call(b.via(key), "add") == 4


class Alarmed(Counter):
    """An entity that sets its alarm as a cast demands."""

    async def handle_cast(self, message: Any) -> None:
        await self.set_alarm(message)


async def test_an_alarm_comes_although_each_node_takes_another_one_for_the_owner(
    runtime: Runtime,
) -> None:
    _, nodes = await cluster("a", "b", "c", cls=Alarmed, idle_timeout=5)
    cast(nodes[0].via("k"), runtime.now() + 30)
    await trio.sleep(20)
    assert await nodes[0].entities.where("k") is None
    for node, owner in zip(nodes, (*nodes[1:], nodes[0]), strict=True):
        node.router._owners["k"] = owner.pubsub.node
    await trio.sleep(12)
    assert [kind for kind, _ in await call(nodes[0].via("k"), "heard")] == ["alarm"]


class Unready(Alarmed):
    """An entity whose start fails twice."""

    starts = 0

    async def init(self, key: str, state: Any = None) -> None:
        await super().init(key, state)
        Unready.starts += 1
        if Unready.starts in {2, 3}:
            raise ValueError("not ready")


async def test_an_alarm_whose_entity_did_not_start_comes_again_soon(runtime: Runtime) -> None:
    _, (a, _) = await cluster("a", "b", cls=Unready, idle_timeout=1)
    cast(a.via("k"), runtime.now() + 5)
    await trio.sleep(4)
    assert await a.entities.where("k") is None
    await trio.sleep(3.9)
    assert [kind for kind, _ in await call(a.via("k"), "heard")] == ["alarm"]


async def test_a_cast_in_the_mailbox_of_an_entity_that_stops_is_not_lost(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(a)
    arbiter: Any = a.router.arbiter
    release = arbiter.release

    async def release_to_b(key: str, fence: int) -> bool:
        released: bool = await release(key, fence)
        await b.router.arbiter.acquire(key)
        return released

    arbiter.release = release_to_b
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, a.via(key), ["sleep", 1.0])
        await trio.sleep(0.1)
        nursery.start_soon(a.entities.stop, key)
        await trio.sleep(0.1)
        cast(b.via(key), "hello")
    await trio.sleep(1.0)
    assert await call(b.via(key), "heard") == [["cast", "hello"]]


async def test_an_acknowledged_cast_that_returns_to_its_own_node_in_a_handover_arrives(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(b)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, b.via(key), ["sleep", 1.0])
        await trio.sleep(0.1)
        cast(a.via(key), "hello")
        await trio.sleep(0.1)
        assert len(a.router.streams) == 0
        b.router.move(b.router.records[key], a.pubsub.node)
    await trio.sleep(0.5)
    assert await call(a.via(key), "heard") == [["cast", "hello"]]


class Named(Counter):
    """An entity with attributes that a router might use."""

    async def init(self, key: str, state: Any = None) -> None:
        await super().init(key, state)
        self.calls = self.host = self.record = 0

    async def handle_call(self, request: Any, sender: Sender) -> Any:
        if request == "ask":
            return Reply(await call(TARGETS[0], "add"))
        return await super().handle_call(request, sender)


TARGETS: list[Any] = []


async def test_an_entity_may_have_attributes_of_any_name(runtime: Runtime) -> None:
    _, (a, _) = await cluster("a", "b", cls=Named)
    TARGETS[:] = [a.via("other")]
    assert await call(a.via("k"), "ask") == 1


async def test_an_entity_whose_move_is_postponed_gets_no_request_of_a_caller_that_gave_up(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(a)
    accepted = listen(runtime, ENTITY_REQUEST_ACCEPTED)
    with trio.move_on_after(1.5):
        async with trio.open_nursery() as nursery:
            # The entity owes the first answer, so it does not move after the second call.
            nursery.start_soon(partial(call, a.via(key), "keep", timeout=60))
            await trio.sleep(0.1)
            nursery.start_soon(partial(call, a.via(key), ["sleep", 1.0], timeout=60))
            await trio.sleep(0.1)
            a.router.move(a.router.records[key], b.pubsub.node)
            with pytest.raises(EntityTimeout):
                await call(a.via(key), "add", timeout=0.1)
    assert [each["request"].content for each in accepted] == ["keep", ["sleep", 1.0]]


async def test_a_key_that_is_given_back_starts_for_no_caller_that_gave_up(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (a, _) = await cluster("a", "b", max_restarts=0, backoff=Backoff(0.1, 0.1), idle_timeout=1)
    key = key_of(a)
    release = a.router.arbiter.release

    async def slow(key: str, fence: int) -> bool:
        await trio.sleep(1.0)
        return await release(key, fence)

    monkeypatch.setattr(a.router.arbiter, "release", slow)
    with pytest.raises(EntityCrashed):
        await call(a.via(key), "crash")
    started = listen(runtime, ENTITY_STARTED)
    while a.router.records[key].state is not State.RELEASING:  # noqa: ASYNC110 - no event for it
        await trio.sleep(0.1)
    with pytest.raises(EntityTimeout):
        await call(a.via(key), "add", timeout=0.1)
    await trio.sleep(2.0)
    assert key not in a.router.records
    assert not started


async def test_a_key_that_arrives_on_a_drained_node_moves_on(runtime: Runtime) -> None:
    _, (a, b, c) = await cluster("a", "b", "c", latency=0.05)
    without_a = (b.pubsub.node, c.pubsub.node)
    key = next(
        key
        for n in range(1000)
        if a.router.placement.choose(key := f"k{n}") == a.pubsub.node
        and winner(key, without_a) == b.pubsub.node
    )
    assert await call(a.via(key), "add") == 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.entities.drain)
        # The key is on its way to b.
        await trio.sleep(0.04)
        assert not b.router.records
        await b.entities.drain()
        assert not b.router.records
    assert await call(c.via(key), "add") == 2
    assert key in c.router.records


async def test_a_drain_sends_back_the_requests_for_a_key_that_has_arrived_and_moved_on(
    runtime: Runtime,
) -> None:
    _, (a, b, c, d) = await cluster("a", "b", "c", "d", latency=0.02)
    without_a = (b.pubsub.node, c.pubsub.node, d.pubsub.node)
    keys = [
        key
        for n in range(300)
        if a.router.placement.choose(key := f"k{n}") == a.pubsub.node
        and winner(key, without_a) == b.pubsub.node
        and winner(key, without_a[1:]) == c.pubsub.node
    ]
    for key in keys:
        assert await call(d.via(key), "add") == 1
    # The keys are on b when its keeper says hello at 3 s, so that d sends it requests again.
    await trio.sleep_until(2.7)
    counts = []

    async def call_later(key: str, seconds: float) -> None:
        await trio.sleep(seconds)
        counts.append(await call(d.via(key), "add"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.entities.drain)
        await trio.sleep(0.015)
        assert not b.router.records
        nursery.start_soon(b.stop)
        await trio.sleep_until(3.05)
        for key in keys:
            nursery.start_soon(call_later, key, 0.0)
        while b.router.records:  # noqa: ASYNC110 - no event for it
            await trio.sleep(0.01)
        assert counts == [2] * len(keys)
        for number, key in enumerate(keys):
            nursery.start_soon(call_later, key, number * 0.1 / len(keys))
    assert counts == [2] * len(keys) + [3] * len(keys)


async def test_a_handover_counts_more_than_an_older_answer_of_the_arbiter(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined, (a,) = await cluster("a")
    b = a.another(joined.adapter("b"), holder=1)
    nodes = a.pubsub.node, b.pubsub.node
    key = next(key for n in range(100) if winner(key := f"k{n}", nodes) == b.pubsub.node)
    counts = [await call(a.via(key), "add")]
    await b.start()
    await trio.sleep(0.1)
    acquire = b.router.arbiter.acquire

    async def late(*args: Any, **options: Any) -> Any:
        answer = await acquire(*args, **options)
        await trio.sleep(0.5)
        return answer

    monkeypatch.setattr(b.router.arbiter, "acquire", late)

    async def call_now(node: Node) -> None:
        counts.append(await call(node.via(key), "add"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call_now, b)
        # The arbiter has answered that a owns the key, and b does not know this yet.
        await trio.sleep(0.1)
        a.router.move(a.router.records[key], b.pubsub.node)
        nursery.start_soon(call_now, a)
    assert sorted(counts) == [1, 2, 3]
    assert await call(b.via(key), "handed over")
    assert key in b.router.records


async def test_a_drained_node_has_no_key_whose_process_waits_after_crashes(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b", max_restarts=0)
    key = key_of(a)
    with pytest.raises(EntityCrashed):
        await call(a.via(key), "crash")
    assert a.router.records[key].state is State.HELD
    await a.entities.drain()
    assert key not in a.router.records
    assert await call(a.via(key), "add") == 1
    assert key in b.router.records


async def test_a_node_of_another_version_is_refused_with_an_error(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    refused = listen(runtime, ENTITY_MESSAGE_REFUSED)
    stranger = NodeName("c", "i1")
    a.router.receive(_encoded(stranger, Hello(version=99)))
    assert not a.router.placement.knows(stranger)
    assert "'c' speaks version 99" in refused[0]["problem"]
    assert a.router.placement.knows(b.router.node)


def _encoded(sender: NodeName, message: Any) -> bytes:
    return msgspec.json.encode((sender, "", message))
