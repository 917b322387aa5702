"""Entities when something goes wrong: restarted routers, stale caches, pauses, stalled lines, and lost nodes."""

from __future__ import annotations

from collections import Counter as Counts
from functools import partial
from typing import Any

import pytest
import trio

from actors import (
    NORMAL,
    SHUTDOWN,
    CallExit,
    CallTimeout,
    GenServer,
    NoReply,
    Pid,
    Reply,
    Runtime,
    Sender,
    Stop,
    call,
    cast,
    current_pid,
    kill,
    monitor,
    send,
    send_after,
    spawn,
    stop,
    trap_exits,
)
from channels.entities.arbiter import ArbiterUnavailable, Owned
from channels.entities.entity import Entity
from channels.entities.errors import EntityLost, EntityStartFailed
from channels.entities.handovers import Handovers
from channels.entities.messages import Accepted, Ask, GaveUp, Handover, Verb, Withdraw
from channels.entities.ownership import Record, State
from channels.entities.placement import winner
from channels.pubsub.adapter import Node as NodeName
from channels.telemetry import (
    ENTITY_ALARM,
    ENTITY_BEGAN,
    ENTITY_DROPPED,
    ENTITY_HANDED_OVER,
    ENTITY_REFUSED,
    ENTITY_STARTED,
)
from supervision import Backoff, Supervisor
from tests.channels.entities.nodes import Counter, Node, alone, cluster, late, listen
from tests.channels.entities.test_entities_on_nodes import Post, key_of
from tests.channels.support import settle

VIRTUAL_CLOCK = True


class Slow(Entity):
    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        answer, seconds = request
        await trio.sleep(seconds)
        return Reply(answer)


async def restart(node: Node) -> None:
    """Restart the EntitySupervisor of a node, with a new router."""
    children = await Supervisor.which_children(node.supervisor)
    (pid,) = [each.pid for each in children if each.id == "entities counters"]
    assert isinstance(pid, Pid)
    kill(pid)
    await trio.sleep(1)


async def outcome(node: Node, key: str, request: Any, results: list[Any]) -> None:
    """Add the answer or the error of a call to a list."""
    try:
        results.append(await call(node.via(key), request, timeout=20))
    except CallExit as error:
        results.append(error)


async def test_an_answer_to_a_router_before_its_restart_answers_no_later_request(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b", cls=Slow)
    key, other = key_of(b), key_of(b, "other")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome, a, key, ["old answer", 3], [])
        await trio.sleep(0.5)
        await restart(a)
        assert await call(a.via(other), ["new answer", 5], timeout=10) == "new answer"
        nursery.cancel_scope.cancel()


async def test_a_restarted_router_reaches_keys_that_were_refused_to_the_earlier_one(
    runtime: Runtime,
) -> None:
    _, (a, b, _c) = await cluster("a", "b", "c")
    for number in range(30):
        await call(a.via(key_of(b, f"x{number}-")), "add")
    key = key_of(b)
    sent: list[Ask] = []
    post = a.router.post

    def overhear(node: Any, message: Any) -> None:
        sent.append(message)
        post(node, message)

    a.router.post = overhear  # type: ignore[method-assign]
    assert await call(a.via(key), "add") == 1
    b.router.refusals.add(a.router.node, key, sent[0].generation, sent[0].turn)
    await restart(a)
    assert await call(a.via(key), "add") == 2


async def test_a_refused_generation_stays_refused_although_its_node_seemed_lost(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(b)
    b.router.refusals.add(a.router.node, key, 10_000_000, 1)
    b.router.node_lost(a.router.node)
    # The line of the other node had stalled, and this request was sent to another node meanwhile.
    a.router.post(b.router.node, Ask(id=1, turn=2, generation=10_000_000, key=key, verb="start"))
    await trio.sleep(1)
    assert key not in b.router.records


async def test_an_alarm_wakes_its_entity_although_a_node_remembers_another_owner(
    runtime: Runtime,
) -> None:
    joined, (b,) = await cluster("b")
    names = [NodeName("a", ""), NodeName("b", "")]
    keys = [f"k{number}" for number in range(100)]
    key = next(each for each in keys if winner(each, names) == names[0])
    await b.entities.start(key)
    a = b.another(joined.adapter("a"), holder=7)
    await a.start()
    await trio.sleep(0.5)
    # The key stops before it moves. So a should own it, but remembers b, and b knows that a should own it.
    assert await call(a.via(key), "add") == 1
    await b.router.set_alarm(b.router.records[key], runtime.now() + 100)
    await b.entities.stop(key)
    alarms = listen(runtime, ENTITY_ALARM)
    await trio.sleep(150)
    assert [each["key"] for each in alarms] == [key]
    assert a.router._alarms_sent == b.router._alarms_sent == {}


async def test_alarms_that_no_node_can_wake_hold_up_no_others(runtime: Runtime) -> None:
    node = await alone(pin=lambda key: "gone" if key.startswith("x") else None)
    router = node.router
    for number in range(1000):
        await set_alarm_of(node, f"x{number}", runtime.now() + 1)
    await call(node.via("k"), "add")
    await router.set_alarm(router.records["k"], runtime.now() + 2)
    alarms = listen(runtime, ENTITY_ALARM)
    await trio.sleep(5)
    assert [each["key"] for each in alarms] == ["k"]


async def test_alarms_that_are_refused_hold_up_no_others(runtime: Runtime) -> None:
    node = await alone(max_entities=1)
    for number in range(6500):
        await set_alarm_of(node, f"x{number}", runtime.now() + 1)
    await call(node.via("k"), "add")
    await node.router.set_alarm(node.router.records["k"], runtime.now() + 2)
    refused = listen(runtime, ENTITY_REFUSED)
    await trio.sleep(60)
    assert len(await call(node.via("k"), "heard")) == 1
    assert len(refused) <= 6500 * 60 / 10 + 6500


async def test_alarms_that_no_node_can_wake_slow_down_no_others(runtime: Runtime) -> None:
    node = await alone(pin=lambda key: "gone" if key.startswith("x") else None)
    for number in range(199):
        await set_alarm_of(node, f"x{number}", runtime.now() + 1)
    for number in range(60):
        await call(node.via(f"k{number}"), "add")
        await node.router.set_alarm(node.router.records[f"k{number}"], runtime.now() + 2)
    alarms = listen(runtime, ENTITY_ALARM)
    await trio.sleep(5)
    assert len(alarms) == 60


@pytest.mark.parametrize("why", ["backoff", "full"])
async def test_an_alarm_that_is_refused_comes_again_soon(runtime: Runtime, why: str) -> None:
    node = await alone(max_restarts=0, max_waiting=2, backoff=Backoff(1, 1))
    assert await call(node.via("k"), "add") == 1
    await node.router.set_alarm(node.router.records["k"], runtime.now() + 0.5)
    began = listen(runtime, ENTITY_BEGAN)
    async with trio.open_nursery() as nursery:
        if why == "backoff":
            cast(node.via("k"), "crash")
        else:
            nursery.start_soon(outcome, node, "k", ["sleep", 1], [])
            await trio.sleep(0.1)
            for number in range(2):
                cast(node.via("k"), number)
        await trio.sleep(3)
    assert "alarm" in [each["request"].verb for each in began if each["request"]]


async def set_alarm_of(node: Node, key: str, at: float) -> None:
    """Set the alarm of a key that runs nowhere."""
    arbiter = node.router.arbiter
    owned = await arbiter.acquire(key)
    assert isinstance(owned, Owned)
    await arbiter.set_alarm(key, at, owned.fence)
    await arbiter.release(key, owned.fence)


async def test_a_cast_that_the_owner_has_accepted_waits_as_long_as_a_local_one(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(b)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(call, b.via(key), ["sleep", 40], timeout=100))
        await trio.sleep(0.1)
        cast(a.via(key), "remote")
        await trio.sleep(0.1)
        cast(b.via(key), "local")
    await trio.sleep(1)
    assert await call(b.via(key), "heard") == [["cast", "remote"], ["cast", "local"]]


class Witness(Counter):
    """An entity that notes its callbacks around a move."""

    ran: list[str] = []

    async def init(self, key: str, state: Any = None) -> None:
        self.ran.append(f"init {self.fence}")
        await super().init(key, state)

    async def handle_handoff(self) -> Any:
        self.ran.append("handoff")
        return await super().handle_handoff()


async def test_no_callback_of_a_move_runs_after_a_pause_beyond_the_lease(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", cls=Witness)
    key = key_of(a)
    await a.entities.start(key)
    a.router.move(a.router.records[key], b.router.node)
    Witness.ran.clear()
    # The process was suspended until now.
    lease = a.router.lease
    assert lease is not None
    lease.until = -1.0
    await trio.sleep(1)
    assert Witness.ran == []


async def test_a_start_that_waits_for_a_handover_ends_if_the_lease_is_lost_meanwhile(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b", cls=Witness, handover_timeout=5)
    key = key_of(a)
    await a.entities.start(key)
    post = a.router.post
    a.router.post = lambda node, message: (  # type: ignore[method-assign]
        None if isinstance(message, Handover) else post(node, message)
    )
    a.router.move(a.router.records[key], b.router.node)
    await trio.sleep(0.5)
    Witness.ran.clear()
    send(b.via(key), "wake")
    await trio.sleep(1)
    arrival, lease = b.router.records[key].arrival, b.router.lease
    assert arrival is not None
    assert lease is not None
    # The process was suspended until now, and is the first to run.
    lease.until = -1.0
    arrival.set()
    await trio.sleep(1)
    assert Witness.ran == []


async def begun_handover() -> tuple[Node, Node, str]:
    """Return nodes a and b, and a key that a has transferred to b without its state."""
    _, (a, b) = await cluster("a", "b", handover_timeout=5)
    key = key_of(a)
    assert await call(a.via(key), "add") == 1
    post = a.router.post
    a.router.post = lambda node, message: (  # type: ignore[method-assign]
        None if isinstance(message, Handover) else post(node, message)
    )
    a.router.move(a.router.records[key], b.router.node)
    await trio.sleep(0.5)
    return a, b, key


async def test_a_start_waits_for_no_handover_of_a_node_that_is_lost_meanwhile(
    runtime: Runtime,
) -> None:
    a, b, key = await begun_handover()
    began, results = trio.current_time(), list[Any]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome, b, key, "add", results)
        await trio.sleep(1)
        # The start goes on to wait, although another node is lost.
        b.router.node_lost(NodeName("c", "1"))
        await trio.sleep(1)
        assert results == []
        b.router.node_lost(a.router.node)
    assert results == [1]
    assert trio.current_time() - began < 2.1


async def test_a_start_waits_for_no_handover_of_a_node_that_was_lost_before(
    runtime: Runtime,
) -> None:
    a, b, key = await begun_handover()
    b.router.node_lost(a.router.node)
    began = trio.current_time()
    assert await call(b.via(key), "add") == 1
    assert trio.current_time() - began < 0.1


async def test_a_start_waits_for_the_handover_of_a_node_that_seemed_lost(runtime: Runtime) -> None:
    a, b, key = await begun_handover()
    b.router.node_lost(a.router.node)
    a.router._say_hello()
    await trio.sleep(0.1)
    began = trio.current_time()
    assert await call(b.via(key), "add", timeout=10) == 1
    assert trio.current_time() - began > 4.9


async def test_a_look_up_lets_no_later_request_overtake_one_that_waits_for_its_key(
    runtime: Runtime,
) -> None:
    joined, (a,) = await cluster("a", latency=0.05)
    names = [NodeName("a", ""), NodeName("c", "")]
    key = next(each for each in map(str, range(100)) if winner(each, names) == names[1])
    await a.entities.start(key)
    c = a.another(joined.adapter("c"), holder=7)
    await c.start()
    await trio.sleep(0.5)
    owner, acquire = c.router.arbiter.owner, c.router.arbiter.acquire

    async def late_owner(key: str) -> Any:
        await trio.sleep(0.2)
        return await owner(key)

    async def late_acquire(key: str, *, at_least: int = 0) -> Any:
        await trio.sleep(0.5)
        return await acquire(key, at_least=at_least)

    c.router.arbiter.owner = late_owner  # type: ignore[method-assign]
    c.router.arbiter.acquire = late_acquire  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(c.entities.where, key)
        await trio.sleep(0.1)
        # The key should live on c, so the first cast waits there for the arbiter.
        cast(c.via(key), 1)
        await trio.sleep(0.15)
        cast(c.via(key), 2)
    await trio.sleep(0.3)
    assert await call(c.via(key), "heard") == [["cast", 1], ["cast", 2]]


async def test_a_start_that_was_planned_before_too_many_crashes_waits_for_the_backoff(
    runtime: Runtime,
) -> None:
    node = await alone(max_restarts=0, backoff=Backoff(10, 10))
    away = True
    acquire = node.router.arbiter.acquire

    async def unavailable_acquire(key: str, *, at_least: int = 0) -> Any:
        if away:
            raise ArbiterUnavailable("local", "it is away", may_have_run=False)
        return await acquire(key, at_least=at_least)

    node.router.arbiter.acquire = unavailable_acquire  # type: ignore[method-assign]
    record = node.router.records["x"] = Record("x")
    record.fence = 1
    # The arbiter does not answer, so the key starts again after one or two seconds.
    node.router._start(record)
    await trio.sleep(0.5)
    away = False
    await node.entities.start("x")
    cast(node.via("x"), "crash")
    await trio.sleep(5)
    assert record.state is State.HELD


async def test_requests_wait_while_their_key_travels_to_a_node_that_has_drained(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b", latency=0.1)
    await trio.sleep(0.5)
    key = key_of(a)
    assert await call(a.via(key), "add") == 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(b.entities.drain)
        # a does not know yet that b drains.
        a.router.move(a.router.records[key], b.router.node)
        await trio.sleep(0.15)
        await settle()
        assert await call(a.via(key), "add") == 2
    assert key in a.router.records


async def test_a_key_does_not_move_to_a_node_that_has_begun_to_drain_meanwhile(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(a)
    handed_over = listen(runtime, ENTITY_HANDED_OVER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, a.via(key), ["sleep", 1])
        await trio.sleep(0.1)
        a.router.move(a.router.records[key], b.router.node)
        await b.entities.drain()
    assert await call(a.via(key), "add") == 2
    assert key in a.router.records
    assert not handed_over


async def test_an_entity_runs_on_its_new_node_although_the_callers_there_have_given_up(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(a)
    assert await call(a.via(key), "add") == 1
    # b learns from the arbiter that a owns the key, and believes that a has ended.
    b.router.node_lost(a.router.node)
    with pytest.raises(CallTimeout):
        await call(b.via(key), "add", timeout=0.01)
    a.router.move(a.router.records[key], b.router.node)
    await trio.sleep(0.5)
    assert b.router.records[key].state is State.RUNNING
    assert await call(b.via(key), "handed over")
    assert await call(b.via(key), "add") == 2


async def start_on(node: Node, key: str) -> None:
    """Start an entity on a node, although another node should have its key."""
    node.router._take(node.router._new(key, "cast", 0, 5.0))
    await trio.sleep(0.1)


def hold(node: Node, key: str, fence: int = 1) -> Record[Any]:
    """Let a node own a key without a process."""
    record: Record[Any] = Record(key)
    record.state, record.fence = State.HELD, fence
    node.router.records[key] = record
    return record


class Trapping(Counter):
    """An entity that runs `terminate` when its node stops, and hands over what it has heard."""

    async def init(self, key: str, state: Any = None) -> None:
        trap_exits()
        await super().init(key, state)
        self.heard = [] if state is None else state["heard"]

    async def handle_handoff(self) -> Any:
        return {"count": self.count, "heard": self.heard}


async def test_a_node_that_stops_moves_its_key_even_to_a_node_that_drains(runtime: Runtime) -> None:
    _, (a, b, c) = await cluster("a", "b", "c", cls=Trapping)
    key = key_of(a)
    results: list[Any] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome, a, key, ["sleep", 2], [])
        await trio.sleep(0.1)
        a.router.move(a.router.records[key], b.router.node)
        nursery.start_soon(b.entities.drain)
        await trio.sleep(0.1)
        cast(c.via(key), 1)
        nursery.start_soon(outcome, c, key, "add", results)
        await trio.sleep(0.1)
        await stop(a.supervisor)
    assert await call(c.via(key), "heard") == [["cast", 1]]
    assert [type(each) for each in results] == [int]


async def test_a_state_is_not_used_after_another_node_may_have_owned_the_key(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (a, b) = await cluster("a", "b", handover_timeout=0.5)
    key = key_of(b)
    await start_on(a, key)
    assert await call(a.via(key), "add") == 1
    transfer = a.router.arbiter.transfer

    async def lost(*args: Any) -> Any:
        await transfer(*args)
        raise ArbiterUnavailable("local", "its answer is lost", may_have_run=True)

    monkeypatch.setattr(a.router.arbiter, "transfer", lost)
    a.router.move(a.router.records[key], b.router.node)
    a.router.node_lost(b.router.node)
    monkeypatch.setattr(a.router, "_greeted", lambda sender, hello: None)
    async with trio.open_nursery() as nursery:
        results: list[Any] = []
        nursery.start_soon(outcome, a, key, "handed over", results)
        await trio.sleep(0.2)
        assert await call(b.via(key), ["count", 100])
        await b.entities.stop(key)
    assert results == [False]


async def move_without_handover(node: Node, to: Node, key: str, *, sender: Node) -> Post:
    """Move a busy key with an accepted cast, and hold its handover back."""
    post = Post(node.router, Handover, 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, node.via(key), ["sleep", 1])
        await trio.sleep(0.1)
        cast(sender.via(key), 1)
        await trio.sleep(0.05)
        node.router.move(node.router.records[key], to.router.node)
    return post


async def test_a_late_handover_sends_no_cast_to_the_owner_after_it(runtime: Runtime) -> None:
    _, (a, b, c) = await cluster("a", "b", "c")
    key, dropped = key_of(b), listen(runtime, ENTITY_DROPPED)
    # The node to which the key moves does not know that its own cast was accepted, so it could send it again.
    Post(b.router, Accepted, 0)
    post = await move_without_handover(b, a, key, sender=a)
    [(_, handover)] = post.held
    # The key leaves a while the handover is on its way there.
    await a.router.arbiter.release(key, handover.fence)
    await c.router.arbiter.acquire(key)
    post.release()
    await trio.sleep(0.1)
    assert [each["verb"] for each in dropped] == ["cast"]
    assert await call(c.via(key), "heard") == []


@pytest.mark.parametrize("trouble", ["a kill", "a lost lease"])
async def test_a_handover_of_an_earlier_ownership_runs_no_request(
    runtime: Runtime, trouble: str
) -> None:
    _, (a, b, c) = await cluster("a", "b", "c")
    key = key_of(b)
    post = await move_without_handover(b, a, key, sender=c)
    # a waits for the handover, because c sends it a request.
    cast(c.via(key), 2)
    await trio.sleep(0.1)
    if trouble == "a kill":
        process = a.router.records[key].process
        assert process is not None
        kill(process.pid)
    else:
        a.router.lease.lose("the test wants this")
    await trio.sleep(0.2)
    await call(c.via(key), "add")
    await c.entities.stop(key)
    dropped = listen(runtime, ENTITY_DROPPED)
    post.release()
    await trio.sleep(0.5)
    assert await call(c.via(key), "heard") == []
    assert ["too late" in each["problem"] for each in dropped] == [True]


class FailsOnce(Counter):
    """An entity whose start fails while `fails` is True."""

    fails = False

    async def init(self, key: str, state: Any = None) -> None:
        if FailsOnce.fails:
            FailsOnce.fails = False
            raise ValueError("the storage is away")
        await super().init(key, state)


async def test_a_late_handover_is_taken_if_no_process_has_run_since(runtime: Runtime) -> None:
    _, (a, b, c) = await cluster("a", "b", "c", cls=FailsOnce, handover_timeout=0.5)
    key = key_of(b)
    post = await move_without_handover(b, a, key, sender=c)
    FailsOnce.fails = True
    with pytest.raises(EntityStartFailed):
        await call(a.via(key), "add")
    assert a.router.records[key].state is State.HELD
    post.release()
    await trio.sleep(0.1)
    assert await call(a.via(key), "heard") == [["cast", 1]]


class Heavy(Counter):
    """An entity with a large state."""

    async def handle_handoff(self) -> Any:
        return {"count": self.count, "rest": "x" * 900_000}


async def test_a_sweep_keeps_a_key_that_starts_again_soon(runtime: Runtime) -> None:
    _, (a, _b) = await cluster("a", "b", cls=FailsOnce, idle_timeout=5.0)
    key = key_of(a)
    assert await call(a.via(key), "add") == 1
    FailsOnce.fails = True
    cast(a.via(key), "crash")
    await trio.sleep(3.5)
    assert a.router.records[key].state is State.RUNNING


@pytest.mark.parametrize("has_arrived", [False, True])
async def test_a_drain_moves_a_key_that_starts_again_soon(
    runtime: Runtime, has_arrived: bool
) -> None:
    _, (a, b) = await cluster("a", "b", cls=FailsOnce)
    key = key_of(b if has_arrived else a)
    assert await call(a.via(key), "add") == 1
    FailsOnce.fails = True
    if has_arrived:
        b.router.move(b.router.records[key], a.router.node)
    else:
        cast(a.via(key), "crash")
    await trio.sleep(0.1)
    assert a.router.records[key].state is State.HELD
    await a.stop()
    assert b.router.records[key].state is State.RUNNING


class FailsForEver(Counter):
    fails = False

    async def init(self, key: str, state: Any = None) -> None:
        if FailsForEver.fails:
            raise ValueError("the storage is away")
        await super().init(key, state)


async def test_a_drain_ends_although_an_entity_fails_to_start_again_and_again(
    runtime: Runtime,
) -> None:
    FailsForEver.fails = False
    _, (a, _b) = await cluster("a", "b", cls=FailsForEver, max_restarts=10)
    key = key_of(a)
    assert await call(a.via(key), "add") == 1
    FailsForEver.fails = True
    cast(a.via(key), "crash")
    await trio.sleep(0.1)
    with trio.fail_after(10):
        await a.entities.drain()
    assert key not in a.router.records


async def test_a_drain_waits_for_a_key_that_has_arrived_and_cannot_start_yet(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(b)
    assert await call(b.via(key), "add") == 1
    async with trio.open_nursery() as nursery:
        with monkeypatch.context() as patch:
            patch.setattr(a.router.arbiter, "acquire", away())
            b.router.move(b.router.records[key], a.router.node)
            await trio.sleep(0.2)
            nursery.start_soon(a.entities.drain)
            await trio.sleep(4)
    await stop(a.supervisor)
    assert await call(b.via(key), "add") == 2


async def test_a_drain_does_not_wait_for_ever_for_a_key_that_has_arrived(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(b)
    assert await call(b.via(key), "add") == 1
    monkeypatch.setattr(a.router.arbiter, "acquire", away())
    b.router.move(b.router.records[key], a.router.node)
    await trio.sleep(0.2)
    with trio.fail_after(20):
        await a.entities.drain()


@pytest.mark.parametrize("how", ["failed", "cut off"])
async def test_an_entity_starts_again_although_its_release_in_a_drain(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(a)
    assert await call(a.via(key), "add") == 1
    release, calls = a.router.arbiter.release, 0

    async def slow(key: str, fence: int) -> bool:
        nonlocal calls
        calls += 1
        if calls == 1:
            await trio.sleep(2.5)
            raise ArbiterUnavailable("local", "it is away", may_have_run=False)
        return await release(key, fence)

    with monkeypatch.context() as patch:
        patch.setattr(a.router.arbiter, "acquire", away())
        patch.setattr(a.router.arbiter, "release", slow)
        kill(await a.pid_of(key))
        await trio.sleep(0.1)
        with trio.move_on_after(4 if how == "cut off" else 20):
            await a.entities.drain()
    await trio.sleep(5)
    records = [each.router.records.get(key) for each in (a, b)]
    assert State.RUNNING in [each.state for each in records if each is not None]


@pytest.mark.parametrize("end", ["stop", "idle stop"])
async def test_an_entity_that_came_with_a_handover_and_stopped_does_not_start_again(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    _, (a, b) = await cluster("a", "b", idle_timeout=5 if end == "idle stop" else 600)
    key = key_of(b)
    assert await call(b.via(key), "add") == 1
    post = Post(b.router, Handover, 0)
    b.router.move(b.router.records[key], a.router.node)
    await trio.sleep(0.3)
    a.router._take(a.router._new(key, "start", None, 30))
    await trio.sleep(0.2)
    post.release()
    await trio.sleep(0.5)
    assert a.router.records[key].state is State.RUNNING
    started = listen(runtime, ENTITY_STARTED)
    monkeypatch.setattr(a.router.arbiter, "release", away())
    # It stays on a.
    monkeypatch.setattr(a.router, "_next_owner", lambda record: None)
    if end == "stop":
        await a.entities.stop(key)
    await trio.sleep(7)
    assert started == []


@pytest.mark.parametrize("then", ["call", "drain"])
async def test_a_key_whose_release_was_cut_off_is_usable(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(a)
    record = hold(a, key)
    monkeypatch.setattr(a.router.arbiter, "release", late(a.router.arbiter.release))
    while record.state is not State.RELEASING:  # noqa: ASYNC110 - no event for it
        await trio.sleep(0.05)
    kill(await a.child("keeper"))
    await trio.sleep(1)
    with trio.fail_after(10):
        if then == "call":
            assert await call(b.via(key), "add") == 1
        else:
            await a.entities.drain()


async def test_requests_to_a_node_that_stops_while_it_releases_a_key_go_to_the_next_owner(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (a, b) = await cluster("a", "b", cls=Lingering)
    key, other = key_of(b), key_of(b, "other")
    assert await call(a.via(key), "add") == 1
    record = hold(b, other)
    release = b.router.arbiter.release

    async def slow(key: str, fence: int) -> bool:
        await trio.sleep(0.5 if key == other else 0)
        return await release(key, fence)

    monkeypatch.setattr(b.router.arbiter, "release", slow)
    while record.state is not State.RELEASING:  # noqa: ASYNC110 - no event for it
        await trio.sleep(0.05)
    results: list[Any] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop, b.supervisor)
        await trio.sleep(1)
        nursery.start_soon(outcome, a, key, "add", results)
    assert results == [1]


class Lingering(Counter):
    """An entity whose end takes two seconds."""

    async def init(self, key: str, state: Any = None) -> None:
        trap_exits()
        await super().init(key, state)

    async def terminate(self, reason: Any) -> None:
        await trio.sleep(2)


class Quitting(Counter):
    heard_by_all: list[Any]

    async def handle_cast(self, message: Any) -> Any:
        Quitting.heard_by_all.append(message)
        return Stop(NORMAL) if message == "quit" else NoReply()


async def test_accepted_casts_survive_a_move_and_a_stop(runtime: Runtime) -> None:
    Quitting.heard_by_all = []
    _, (a, b, c) = await cluster("a", "b", "c", cls=Quitting, max_waiting=3)
    key = key_of(b)
    messages = ["quit", 1, 2, 3, 4, 5]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome, c, key, ["sleep", 1], [])
        await trio.sleep(0.1)
        for message in messages[:3]:
            cast(c.via(key), message)
        await trio.sleep(0.1)
        post = Post(b.router, Handover, 0)
        b.router.move(b.router.records[key], a.router.node)
        await trio.sleep(1)
    for message in messages[3:]:
        cast(c.via(key), message)
    await trio.sleep(0.1)
    post.release()
    await trio.sleep(3)
    assert Quitting.heard_by_all == messages


async def test_an_entity_that_moves_takes_as_many_requests_as_before(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", max_waiting=1)
    key = key_of(b)
    assert await call(b.via(key), "add") == 1
    b.router.move(b.router.records[key], a.router.node)
    assert await call(b.via(key), "add") == 2


class Never(Counter):
    starts = 0

    async def init(self, key: str, state: Any = None) -> None:
        Never.starts += 1
        raise ValueError("there is no such room")


async def test_an_entity_that_has_never_run_starts_only_for_requests(runtime: Runtime) -> None:
    Never.starts = 0
    node = await alone(Never)
    # The first sweep would forget the key.
    await trio.sleep(2)
    with pytest.raises(EntityStartFailed):
        await call(node.via("x"), "add")
    await trio.sleep(25)
    assert Never.starts == 1


@pytest.mark.parametrize("how", ["lost", "refused"])
async def test_an_entity_runs_again_after_its_handover_is(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    _, (a, b) = await cluster("a", "b", cls=Heavy)
    key = key_of(b)
    assert await call(b.via(key), "add") == 1
    if how == "lost":
        Post(b.router, Handover, 0)
    else:
        monkeypatch.setattr(a.router, "_handovers", Handovers(1))
    b.router.move(b.router.records[key], a.router.node)
    await trio.sleep(30)
    assert a.router.records[key].state is State.RUNNING


async def test_requests_that_wait_stay_bounded_although_their_key_moves_often(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b", max_waiting=3, latency=0.05)
    await trio.sleep(1)
    key, here, there = key_of(b), b, a
    lengths = []
    async with trio.open_nursery() as nursery:

        def ask(node: Node, number: int) -> None:
            for _ in range(number):
                nursery.start_soon(outcome, node, key, ["sleep", 0.5], [])

        ask(here, 1)
        for _ in range(6):
            await trio.sleep(0.1)
            ask(here, 4)
            await trio.sleep(0.05)
            here.router.move(here.router.records[key], there.router.node)
            ask(here, 4)
            while key in here.router.records:  # noqa: ASYNC110 - no event for it
                await trio.sleep(0.01)
            ask(there, 4)
            await trio.sleep(0.4)
            record = there.router.records[key]
            assert record.state is State.RUNNING
            lengths.append(record.in_mailbox)
            here, there = there, here
        nursery.cancel_scope.cancel()
    assert max(lengths) <= 2 * 3


class Beginning(Counter):
    """An entity that sends itself a message at each start."""

    async def init(self, key: str, state: Any = None) -> None:
        await super().init(key, state)
        send(current_pid(), "begin")


@pytest.mark.parametrize("how", ["move", "crash"])
async def test_accepted_casts_survive_although_the_start_sends_itself_a_message(
    runtime: Runtime, how: str
) -> None:
    _, (a, b) = await cluster("a", "b", cls=Beginning, max_waiting=3)
    key = key_of(b)
    dropped = listen(runtime, ENTITY_DROPPED)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome, a, key, ["sleep", 1], [])
        await trio.sleep(0.2)
        for number in range(3):
            cast(a.via(key), number)
        await trio.sleep(0.1)
        if how == "move":
            b.router.move(b.router.records[key], a.router.node)
        else:
            kill(await b.pid_of(key))
    await trio.sleep(0.5)
    heard = await call(a.via(key), "heard")
    assert [each for each in heard if each[0] == "cast"] == [["cast", n] for n in range(3)]
    assert dropped == []


async def test_accepted_casts_survive_a_drain_of_many_large_states(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", cls=Heavy, latency=0.1)
    await trio.sleep(1)
    keys = [key_of(b, f"{number}-") for number in range(20)]
    results: list[Any] = []
    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(outcome, a, key, ["sleep", 1], [])
        await trio.sleep(0.3)
        for key in keys:
            cast(a.via(key), 1)
        await trio.sleep(0.3)
        nursery.start_soon(b.entities.drain)
        await trio.sleep(1)
        # These let the keys start on a, before their handovers have left b.
        for key in keys:
            nursery.start_soon(outcome, a, key, "heard", results)
    assert results == [[["cast", 1]]] * 20


async def test_a_slow_request_to_a_node_that_seemed_lost_does_not_run_after_a_newer_one(
    runtime: Runtime,
) -> None:
    _, (a, b, c) = await cluster("a", "b", "c", cls=SlowStart)
    key = key_of(a)
    began = listen(runtime, ENTITY_BEGAN)
    await start_on(a, key)
    await trio.sleep(0.5)
    posts = [Post(c.router, kind, 0) for kind in (Ask, GaveUp)]
    results: list[Any] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome, c, key, "old", results)
        await trio.sleep(0.1)
        c.router.node_lost(a.router.node)
        a.router.move(a.router.records[key], b.router.node)
        await trio.sleep(1)
        b.router.move(b.router.records[key], a.router.node)
        await trio.sleep(0.1)
        assert a.router.records[key].state is State.STARTING
        for post in posts:
            post.release()
    assert isinstance(results[0], EntityLost)
    await trio.sleep(1)
    assert a.router.records[key].state is State.RUNNING
    requests = [each["request"] for each in began]
    assert "old" not in [each.content for each in requests if each]


async def test_a_request_that_its_node_has_given_up_does_not_run_after_a_newer_one(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined, (a, b, c) = await cluster("a", "b", "c")
    key = key_of(b)
    began = listen(runtime, ENTITY_BEGAN)
    await start_on(c, key)
    # b waits for the end of the session of c, with a cast.
    monkeypatch.setattr(b.router.arbiter, "owner", away())
    joined.isolate("c")
    for node in (a, b):
        node.router.node_lost(c.router.node)
    cast(a.via(key), 1)
    await trio.sleep(0.1)
    a.router.node_lost(b.router.node)
    assert c.grants is not None
    c.grants.free(2)
    cast(a.via(key), 2)
    # a hears from b again.
    await trio.sleep(3)
    if key in a.router.records:
        a.router.move(a.router.records[key], b.router.node)
    await trio.sleep(0.5)
    assert b.router.records[key].state is State.RUNNING
    requests = [each["request"] for each in began]
    assert [each.content for each in requests if each and each.verb == "cast"] == [0, 2]


async def test_a_drained_node_starts_no_key_for_its_own_request(runtime: Runtime) -> None:
    _, (a, b, _c) = await cluster("a", "b", "c")
    await trio.sleep(2)
    key = key_of(b)
    async with trio.open_nursery() as nursery:
        for request in (["sleep", 1], "add"):
            nursery.start_soon(outcome, a, key, request, [])
            await trio.sleep(0.1)
        b.router.move(b.router.records[key], a.router.node)
    await trio.sleep(0.5)
    await a.entities.stop(key)
    await trio.sleep(0.5)
    await a.entities.drain()
    await trio.sleep(1)
    await call(a.via(key), "add")
    assert key in b.router.records


async def test_a_start_waits_no_longer_for_its_lost_handover_while_many_others_arrive(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b", max_moves_per_second=50)
    await trio.sleep(1)
    keys = [key_of(b, f"{number}-") for number in range(300)]
    for key in keys:
        await b.entities.start(key)
    post, lost = b.router.post, trio.Event()

    def lossy(node: Any, message: Any) -> None:
        if isinstance(message, Handover) and message.key == keys[0]:
            lost.set()
        else:
            post(node, message)

    b.router.post = lossy  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(b.entities.drain)
        await lost.wait()
        assert await call(a.via(keys[0]), "add", timeout=3) == 1


@pytest.mark.parametrize("state", ["running", "starting"])
async def test_a_call_whose_caller_has_given_up_does_not_begin(
    runtime: Runtime, state: str
) -> None:
    _, (a, b) = await cluster("a", "b", cls=SlowStart)
    key = key_of(b)
    began = listen(runtime, ENTITY_BEGAN)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome, b, key, ["sleep", 1], [])
        await trio.sleep(1 if state == "running" else 0.1)
        with trio.move_on_after(0.2):
            await call(a.via(key), "add", timeout=30)
    requests = [each["request"] for each in began]
    assert "add" not in [each.content for each in requests if each]


async def test_a_slow_call_does_not_run_after_newer_requests(runtime: Runtime) -> None:
    _, (a, _b, c) = await cluster("a", "b", "c", cls=SlowStart)
    key = key_of(a)
    began = listen(runtime, ENTITY_BEGAN)
    await a.entities.start(key)
    asks = Post(c.router, Ask, 0)
    withdrawals = Post(c.router, Withdraw, 0)
    with trio.move_on_after(0.2):
        await call(c.via(key), "old", timeout=30)
    a.router.move(a.router.records[key], c.router.node)
    await trio.sleep(1)
    cast(c.via(key), "new")
    await trio.sleep(0.1)
    c.router.move(c.router.records[key], a.router.node)
    await trio.sleep(0.2)
    assert a.router.records[key].state is State.STARTING
    for slow in (asks, withdrawals):
        slow.release()
    await trio.sleep(1)
    assert a.router.records[key].state is State.RUNNING
    requests = [each["request"] for each in began]
    assert [each.content for each in requests if each] == ["new"]


@pytest.mark.parametrize("how", ["crash", "refused move"])
async def test_an_accepted_cast_survives_a_short_loss_of_its_node(
    runtime: Runtime, how: str
) -> None:
    _, (a, b) = await cluster("a", "b", cls=SlowStart)
    key = key_of(b)
    assert await call(b.via(key), "add") == 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome, b, key, ["sleep", 1], [])
        await trio.sleep(0.1)
        cast(a.via(key), 1)
        await trio.sleep(0.1)
        if how == "crash":
            kill(await b.pid_of(key))
        else:
            b.router.move(b.router.records[key], NodeName("ghost", "1"))
            await trio.sleep(0.9)
        await trio.sleep(0.1)
        assert b.router.records[key].state is State.STARTING
        a.router.node_lost(b.router.node)
        b.router._say_hello()
    assert await call(b.via(key), "heard") == [["cast", 1]]


async def test_requests_that_were_given_up_leave_their_places_to_others(runtime: Runtime) -> None:
    joined, (a, b, c) = await cluster("a", "b", "c", max_waiting=3)
    key = key_of(b)
    await start_on(c, key)
    joined.isolate("c")
    for node in (a, b):
        node.router.node_lost(c.router.node)
    for number in range(3):
        cast(a.via(key), number)
    await trio.sleep(0.1)
    a.router.node_lost(b.router.node)
    b.router._say_hello()
    await trio.sleep(0.1)
    results: list[Any] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome, a, key, "heard", results)
        await trio.sleep(0.2)
        assert c.grants is not None
        c.grants.free(2)
    assert results == [[]]


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.1, 0.15])
async def test_a_router_that_starts_again_takes_no_request_that_it_has_refused(
    runtime: Runtime, seconds: float
) -> None:
    _, (a, b, _c) = await cluster("a", "b", "c", latency=0.3)
    await trio.sleep(2)
    key = key_of(b)
    began = listen(runtime, ENTITY_BEGAN)
    # b begins to drain, and a does not know it yet.
    b.router._is_draining = True
    b.router._update_placement()
    await trio.sleep(0.05)
    cast(a.via(key), 1)
    await trio.sleep(0.2)
    cast(a.via(key), 2)
    await trio.sleep(0.1 + seconds)
    await restart(b)
    await trio.sleep(10)
    requests = [each["request"] for each in began]
    assert [each.content for each in requests if each and each.verb == "cast"] == [1, 2]


@pytest.mark.parametrize("fence", [0, 1])
async def test_a_key_may_arrive_while_its_last_ownership_is_released(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, fence: int
) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(b)
    assert await call(b.via(key), "add") == 1
    record = hold(a, key, fence)
    for name in ("acquire", "release"):
        monkeypatch.setattr(a.router.arbiter, name, late(getattr(a.router.arbiter, name)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.router._release, record)
        nursery.start_soon(call, b.via(key), ["sleep", 0.1])
        await trio.sleep(0.05)
        cast(b.via(key), 1)
        b.router.move(b.router.records[key], a.router.node)
    assert await call(a.via(key), "heard") == [["cast", 1]]
    assert await call(a.via(key), "add") == 3
    assert key in a.router.records


class SlowStart(Counter):
    async def init(self, key: str, state: Any = None) -> None:
        await trio.sleep(0.5)
        await super().init(key, state)


@pytest.mark.parametrize("verb", ["locate", "stop"])
async def test_requests_behind_one_that_needs_no_entity_run_once_after_a_release(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, verb: Verb
) -> None:
    _, (a, b, c) = await cluster("a", "b", "c", cls=SlowStart)
    key = key_of(b)
    record = hold(b, key)
    # The key was on c before, and b has not forgotten this.
    b.router._remember(key, c.router.node)
    monkeypatch.setattr(b.router.arbiter, "release", late(b.router.arbiter.release))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(b.router._release, record)
        await trio.sleep(0.1)
        a.router.submit(a.router._new(key, verb, None, 9.0))
        cast(a.via(key), 1)
    assert await call(a.via(key), "heard") == [["cast", 1]]


def away(*, may_have_run: bool = False) -> Any:
    """Return a function that raises `ArbiterUnavailable`."""

    async def raises(*args: Any, **options: Any) -> Any:
        await trio.sleep(0.01)
        raise ArbiterUnavailable("local", "it is away", may_have_run=may_have_run)

    return raises


@pytest.mark.parametrize(("fence", "may_have_run"), [(0, False), (0, True), (1, False)])
async def test_a_key_that_has_arrived_and_could_not_start_is_not_released(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, fence: int, may_have_run: bool
) -> None:
    _, (a, b) = await cluster("a", "b")
    key = key_of(b)
    assert await call(b.via(key), "add") == 1
    if fence:
        hold(a, key, fence)
    with monkeypatch.context() as patch:
        patch.setattr(a.router.arbiter, "acquire", away(may_have_run=may_have_run))
        b.router.move(b.router.records[key], a.router.node)
        await trio.sleep(0.2)
        await a.router._release(a.router.records[key])
    assert await call(a.via(key), "add") == 2


async def test_a_key_whose_transfer_was_refused_and_that_could_not_start_is_not_released(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (a, _b) = await cluster("a", "b")
    key = key_of(a)
    assert await call(a.via(key), "add") == 1
    with monkeypatch.context() as patch:
        patch.setattr(a.router.arbiter, "acquire", away())
        a.router.move(a.router.records[key], NodeName("ghost", "1"))
        await trio.sleep(0.2)
        await a.router._release(a.router.records[key])
    await trio.sleep(3)
    assert await call(a.via(key), "add") == 2


async def test_a_key_that_arrived_long_ago_starts_no_process_when_it_is_released(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (a, b) = await cluster("a", "b", idle_timeout=5.0)
    key = key_of(a)
    await start_on(b, key)
    post = Post(b.router, Handover, 0)
    b.router.move(b.router.records[key], a.router.node)
    await trio.sleep(0.1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, a.via(key), "add")
        await trio.sleep(0.1)
        post.release()
    record = a.router.records[key]
    with monkeypatch.context() as patch:
        patch.setattr(a.router.arbiter, "release", away())
        while record.state is not State.HELD:  # noqa: ASYNC110 - no event for it
            await trio.sleep(0.05)
    started = a.router.counts["started"]
    await trio.sleep(2)
    assert a.router.counts["started"] == started


async def test_a_sweep_releases_no_key_that_has_started_in_a_later_session(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (a, _b) = await cluster("a", "b")
    one, other = key_of(a, "one"), key_of(a, "other")
    for key in (one, other):
        a.router.records[key] = Record(key)
        a.router.records[key].state = State.HELD
    acquire = a.router.arbiter.acquire

    async def slow(key: str, **options: Any) -> Any:
        if key == one:
            await trio.sleep(3)
        return await acquire(key, **options)

    monkeypatch.setattr(a.router.arbiter, "acquire", slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.router._sweep, a.router._now())
        await trio.sleep(0.1)
        a.router.lease.lose("the test wants this")
        await trio.sleep(0.5)
        assert await call(a.via(other), "add") == 1
    assert await a.router.arbiter.owner(other) == a.router.node
    assert await call(a.via(other), "add") == 2


async def test_a_handover_starts_its_key_after_the_start_that_waited_for_it_was_killed(
    runtime: Runtime,
) -> None:
    _, (a, b, c) = await cluster("a", "b", "c", max_restarts=0)
    key = key_of(b)
    assert await call(b.via(key), "add") == 1
    post = Post(b.router, Handover, 0)
    b.router.move(b.router.records[key], a.router.node)
    await trio.sleep(0.1)
    cast(c.via(key), 2)
    await trio.sleep(0.1)
    record = a.router.records[key]
    assert record.process is not None
    kill(record.process.pid)
    await trio.sleep(0.1)
    post.release()
    await trio.sleep(0.5)
    assert record.state is State.RUNNING


async def test_a_cast_that_its_node_still_knows_is_dropped_once(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (a, b, c) = await cluster("a", "b", "c")
    key = key_of(b)
    assert await call(b.via(key), "add") == 1
    dropped = listen(runtime, ENTITY_DROPPED)
    monkeypatch.setattr(a.router.arbiter, "acquire", away())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, b.via(key), ["sleep", 1])
        await trio.sleep(0.1)
        b.router.move(b.router.records[key], a.router.node)
        # It waits outside the mailbox, so nobody has accepted it.
        cast(c.via(key), 1)
    await trio.sleep(0.3)
    assert len(dropped) == 1


async def test_a_key_that_comes_by_handover_waits_for_no_other_key(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (a, b) = await cluster("a", "b")
    one, other = key_of(a, "one"), key_of(a, "other")
    for key in (one, other):
        assert await call(a.via(key), "add") == 1
    # b learns from the arbiter that a owns both, and believes that a has ended.
    monkeypatch.setattr(b.router, "_greeted", lambda sender, hello: None)
    b.router.node_lost(a.router.node)
    results: list[Any] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome, b, one, "add", [])
        await trio.sleep(0.1)
        nursery.start_soon(outcome, b, other, "add", results)
        await trio.sleep(0.1)
        a.router.move(a.router.records[other], b.router.node)
        await trio.sleep(0.1)
        assert results == [2]
        nursery.cancel_scope.cancel()


async def test_a_key_whose_move_was_given_up_moves_to_another_node(runtime: Runtime) -> None:
    _, (a, b, c) = await cluster("a", "b", "c")
    nodes = [each.router.node for each in (a, b, c)]
    key = next(
        key
        for n in range(1000)
        if winner(key := f"k{n}", nodes) == nodes[1]
        and winner(key, [nodes[0], nodes[2]]) == nodes[2]
    )
    await start_on(a, key)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, a.via(key), ["sleep", 4])
        await trio.sleep(0.1)
        a.router.move(a.router.records[key], nodes[1])
        nursery.start_soon(b.entities.drain)
    await trio.sleep(10)
    assert key in c.router.records


async def test_keys_of_a_lost_node_start_no_processes_while_its_lease_lasts(
    runtime: Runtime,
) -> None:
    joined, (a, b) = await cluster("a", "b")
    keys = [key for n in range(300) if (key := key_of(b, f"{n}-"))]
    for key in keys:
        await b.entities.start(key)
    # a does not hear of b any more, but the arbiter does.
    joined.cut("a", "b")
    a.router.node_lost(b.router.node)
    before = runtime.statistics()["spawned"]
    results: list[Any] = []
    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(outcome, a, key, "add", results)
        await trio.sleep(8)
        spawned = runtime.statistics()["spawned"] - before
        await b.router.arbiter.close_session()
        began = trio.current_time()
    assert results == [1] * len(keys)
    assert trio.current_time() - began < 0.5
    assert spawned < 1.2 * len(keys)


class Parent(Entity):
    """An entity whose helper process calls it."""

    results: list[Any] = []

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        if request == "spawn":
            spawn(call_later, self.results)
        elif request == "slow":
            await trio.sleep(5)
        return Reply(request)


NODES: list[Node] = []


async def call_later(results: list[Any]) -> None:
    await trio.sleep(1)
    await outcome(NODES[0], "x", "plain", results)


async def test_a_process_that_an_entity_has_spawned_may_call_it(runtime: Runtime) -> None:
    NODES[:] = [await alone(Parent)]
    address = NODES[0].via("x")
    await call(address, "spawn")
    assert await call(address, "slow", timeout=20) == "slow"
    await trio.sleep(1)
    assert Parent.results == ["plain"]


class Polite(Entity):
    """An entity that says goodbye."""

    async def init(self, key: str, state: Any = None) -> None:
        trap_exits()

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        self.peer = sender.pid
        return Reply(request)

    async def terminate(self, reason: Any) -> None:
        assert self.peer is not None
        cast(self.peer, "bye")


class Peer(GenServer[list[Any]]):
    async def init(self, address: Any) -> None:
        self.state = []
        await call(address, "hello")
        self.ref = monitor(address)

    async def handle_cast(self, message: Any) -> None:
        self.state.append(message)

    async def handle_info(self, message: Any) -> None:
        assert message.ref is self.ref
        self.state.append(message.reason)

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        return Reply(self.state)


async def test_an_entity_of_a_node_that_stops_reaches_other_nodes_until_its_end(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b", cls=Polite)
    peer = await Peer.start(a.via(key_of(b)))
    await trio.sleep(0.1)
    await stop(b.supervisor)
    await trio.sleep(1)
    assert await call(peer, "state") == ["bye", SHUTDOWN]


async def test_requests_to_a_node_that_stops_go_to_the_next_owner(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", cls=Lingering)
    key = key_of(b)
    assert await call(a.via(key), "add") == 1
    ours: list[Any] = []
    theirs: list[Any] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop, b.supervisor)
        await trio.sleep(1)
        nursery.start_soon(outcome, a, key, "add", theirs)
        nursery.start_soon(outcome, b, key, "add", ours)
        await trio.sleep(1.1)
    assert [type(each) for each in theirs] == [int]
    assert key in a.router.records
    # The node that stops cannot wait for the answer to its own request.
    assert [type(each) for each in ours] == [EntityLost]


async def test_a_drain_that_is_cut_off_leaves_no_key_behind(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b")
    # More handlers do not end than keys can move at a time.
    stuck, free = [key_of(b, f"{number}-") for number in range(70)], key_of(b, "free")
    results: list[Any] = []
    async with trio.open_nursery() as nursery:
        for key in stuck:
            nursery.start_soon(outcome, a, key, ["sleep", 1000], results)
        await trio.sleep(0.1)
        await call(a.via(free), "add")
        with trio.move_on_after(15) as scope:
            await b.entities.drain()
        assert scope.cancelled_caught
        # They hold up no other key.
        assert await call(a.via(free), "handed over")
        await stop(b.supervisor)
        await trio.sleep(0.1)
        # The session has ended, so nobody waits for its lease.
        assert await call(a.via(stuck[0]), "add") == 1
    assert {type(each) for each in results} == {EntityLost}


async def test_many_large_states_move_without_a_flood_between_the_nodes(runtime: Runtime) -> None:
    joined, (a, b) = await cluster("a", "b", cls=Heavy, latency=0.02)
    keys = [key_of(b, f"{number}-") for number in range(20)]
    for key in keys:
        await call(a.via(key), "add")
    sent: Counts[float] = Counts()

    def count(one: str, _other: str, _lane: str, data: bytes) -> bool:
        if one == "b":
            sent[trio.current_time()] += len(data)
        return False

    joined.loses = count
    await b.entities.drain()
    await stop(b.supervisor)
    # The messages that the other node has not confirmed fit into the smallest outbox of an adapter.
    assert max(sent.values()) < 500_000
    assert [await call(a.via(key), "handed over") for key in keys] == [True] * len(keys)


async def test_a_node_that_drains_takes_the_requests_of_a_key_on_its_way_to_it(
    runtime: Runtime,
) -> None:
    _, nodes = await cluster("a", "b", "c", cls=Heavy, latency=0.05)
    await trio.sleep(0.5)
    a, b, c = nodes
    key = key_of(b)
    counts = [await call(each.via(key), "add") for each in nodes]
    other = key_of(a)
    await call(a.via(other), "add")
    b.router.move(b.router.records[key], a.pubsub.node)
    while key in b.router.records:  # noqa: ASYNC110 - no event for it
        await trio.sleep(0.01)

    async def call_now(node: Node) -> None:
        counts.append(await call(node.via(key), "add"))

    async with trio.open_nursery() as nursery:
        # Another entity holds the drain up.
        nursery.start_soon(call, a.via(other), ["sleep", 0.3])
        await trio.sleep(0.001)
        nursery.start_soon(a.entities.drain)
        # The handover has four parts, and each of them waits for the receipt of the last one.
        for _ in range(40):
            await trio.sleep(0.01)
            nursery.start_soon(call_now, b)
            nursery.start_soon(call_now, c)
    assert sorted(counts) == list(range(1, 84))
    assert await call(b.via(key), "handed over")
    assert key not in a.router.records


async def test_a_drain_waits_for_a_handover_that_arrives_in_parts(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", cls=Heavy, latency=0.2)
    await trio.sleep(0.5)
    key = key_of(b)
    assert await call(b.via(key), "add") == 1
    b.router.move(b.router.records[key], a.pubsub.node)
    while key in b.router.records:  # noqa: ASYNC110 - no event for it
        await trio.sleep(0.01)
    await a.stop()
    assert await call(b.via(key), "handed over")
    assert b.router.statistics()["handovers_lost"] == 0


class Late(Entity):
    """An entity that answers a call later, or never."""

    async def init(self, key: str, state: Any = None) -> None:
        self.owed: list[Sender] = []

    async def handle_call(self, request: Any, sender: Sender) -> Reply | NoReply:
        match request:
            case ["later", seconds]:
                self.owed.append(sender)
                send_after(current_pid(), "answer", seconds)
                return NoReply()
            case ["sleep", seconds]:
                await trio.sleep(seconds)
            case "never":
                return NoReply()
        return Reply(request)

    async def handle_info(self, message: Any) -> None:
        self.owed.pop().answer(self.fence)


async def test_a_drain_waits_for_the_answers_that_entities_owe(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", cls=Late, handover_timeout=5)
    key = key_of(b)
    owed: list[Any] = []
    others: list[Any] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome, a, key, ["later", 3], owed)
        await trio.sleep(0.1)
        nursery.start_soon(b.entities.drain)
        # Requests go on until the answer is given, and after it.
        for number in range(40):
            await trio.sleep(0.1)
            nursery.start_soon(outcome, a, key, number, others)
    assert [type(each) for each in owed] == [int]
    assert sorted(others) == list(range(40))
    assert key in a.router.records


async def test_a_move_waits_for_owed_answers_although_a_call_is_in_the_mailbox(
    runtime: Runtime,
) -> None:
    _, (a, b) = await cluster("a", "b", cls=Late)
    key = key_of(b)
    owed: list[Any] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome, a, key, ["later", 2], owed)
        await trio.sleep(0.1)
        fence = b.router.records[key].fence
        for request in (["sleep", 0.5], "plain"):
            nursery.start_soon(outcome, a, key, request, [])
            await trio.sleep(0.1)
        nursery.start_soon(b.entities.drain)
    assert owed == [fence]


async def test_a_drain_does_not_wait_for_ever_for_an_answer(runtime: Runtime) -> None:
    _, (a, b) = await cluster("a", "b", cls=Late, handover_timeout=5)
    key = key_of(b)
    results: list[Any] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome, a, key, "never", results)
        await trio.sleep(0.1)
        began = trio.current_time()
        await b.entities.drain()
        assert 5 <= trio.current_time() - began < 7
    assert [type(each) for each in results] == [EntityLost]
    assert key not in b.router.records
