"""Entities on five nodes with a Redis server, under faults. Each promise of entities is an invariant.

    ashtree simulate tests.simulation.sweeps.channels.entities:entities --seeds 1-1000

Clients on all nodes call the entities, cast to them, monitor them, and set alarms; entities call each other. Each
entity keeps a fenced history, in a store that all nodes share and that executes operations late. Nodes are killed,
paused beyond their lease, suspended, cut off from Redis and replaced; Redis restarts, hangs and loses its data.

The built-in invariants of entities observe telemetry events. `Run` checks the rest by its own log: the clients note
each request and its end, the entities note each request that they handle, and the store notes what it has accepted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Any, ClassVar

import attrs
import msgspec
import trio
from attrs import define, field

from actors import (
    CallExit,
    CallingSelf,
    CallTimeout,
    Down,
    NoReply,
    Pid,
    Reply,
    Sender,
    call,
    cast,
    current_pid,
    current_runtime,
    kill,
    monitor,
    receive,
    send,
    send_after,
    spawn,
)
from channels import PubSub
from channels.durable import History, MemoryStorage
from channels.durable.storage import Appended, Claimed, NewAnswer, NewMessage
from channels.durable.stream import Limits, Slice
from channels.entities.arbiters import redis_scripts
from channels.entities.arbiters.redis import RedisArbiter
from channels.entities.entity import Entity
from channels.entities.errors import EntityCrashed, EntityError
from channels.entities.ownership import State
from channels.entities.supervisor import EntitySupervisor
from channels.pubsub.redis.adapter import RedisAdapter
from channels.pubsub.redis.server import RedisServer
from channels.telemetry import (
    ENTITY_CRASHED,
    ENTITY_HANDED_OVER,
    ENTITY_HANDOVER_LOST,
    ENTITY_LEASE_LOST,
    ENTITY_REFUSED,
    ENTITY_START_FAILED,
    ENTITY_STARTED,
)
from channels.testing import ENTITY_INVARIANTS, EntityCastsArrive, FencesHold, SimulatedRedis
from supervision import Backoff, Supervisor
from supervision.simulation import Node, World, scenario
from tests.simulation.sweeps.bounds import small_bounds_except

NAMES = ("a", "b", "c", "d", "e")
PINNED = "k5!"
KEYS = ("k1", "k2", "k3", "k4", PINNED)
# Only these nodes have the label of the pinned key.
BIG = ("a", "b")
LEASE, RENEW, MARGIN, TIMEOUT = 3.0, 0.6, 0.8, 1.0


class Do(msgspec.Struct, tag=True):
    """A request of a client.

    Attributes:
        id: the sender and the number of the request.
        acts: the actions of the entity, in order.
    """

    id: str
    acts: list[Any]


class Sent:
    """One request in the log.

    Attributes:
        id: the name of the sender and its number.
        node: the label of the sender's node.
        runs: how often an entity has begun to handle it.
        end: the answer or the error; None while the request is open.
    """

    def __init__(self, node: str, sender: str, number: int, key: str, verb: str) -> None:
        self.id = f"{sender}:{number}"
        self.node = node
        self.is_of_entity = sender.startswith(KEYS)
        self.sender = sender
        self.number = number
        self.key = key
        self.verb = verb
        self.runs = 0
        self.end: Any = None


class Log:
    """The log of all requests of a run. It knows what each of them may do.

    Attributes:
        sent: the requests, by id.
        last: the number of the last request of each sender that each key has handled.
        counts: figures for the report.
        truth: the ids of the requests that the storage has accepted, by key.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.sent: dict[str, Sent] = {}
        self.last: dict[tuple[str, str], int] = {}
        self.counts: Counter[str] = Counter()
        self.truth: dict[str, list[str]] = {}
        # The telemetry would swallow the error of a check in a handler of events. The invariant fails the run then.
        self.broken: str | None = None
        world.invariant("log", lambda: self.broken)

    def check(self, holds: object, problem: str) -> None:
        if not holds:
            self.broken = self.broken or problem
            self.world.check(False, problem)

    def send(self, label: str, sender: str, number: int, key: str, verb: str) -> Sent:
        sent = Sent(label, sender, number, key, verb)
        self.sent[sent.id] = sent
        self.counts[f"{verb}s"] += 1
        return sent

    def runs(self, request: str, key: str, where: str) -> None:
        """Note that an entity begins to handle a request."""
        sent = self.sent[request]
        what = f"{request} for {key} runs on {where}"
        self.check(sent.key == key, f"{what}, and is for {sent.key}")
        sent.runs += 1
        self.check(sent.runs == 1, f"{what} for the {sent.runs}nd time")
        if isinstance(sent.end, CallExit):
            self.check(sent.end.may_have_run, f"{what} after {sent.end!r}")
        lane = sent.sender, key
        last = self.last.get(lane, -1)
        self.check(last < sent.number, f"{what} after number {last} of its sender")
        self.last[lane] = sent.number

    def ended(self, sent: Sent, end: Any) -> None:
        """Note the end of a call."""
        self.check(sent.end is None, f"{sent.id} ends twice: {sent.end!r}, {end!r}")
        sent.end = end
        if isinstance(end, CallExit):
            self.counts["calls failed"] += 1
            self.counts[f"calls failed with {type(end).__name__}"] += 1
            expected = isinstance(end, EntityError | CallTimeout | CallingSelf)
            self.check(expected, f"{sent.id} fails with {end!r}")
            if isinstance(end, EntityCrashed):
                self.check(sent.runs, f"{sent.id} has not run, and fails with {end!r}")
            if not end.may_have_run:
                self.check(not sent.runs, f"{sent.id} has run, and fails with {end!r}")
            return
        self.counts["calls answered"] += 1
        self.check(sent.runs == 1, f"{sent.id} is answered, and has run {sent.runs} times")
        if end["kept"]:
            truth = self.truth.get(sent.key, [])
            self.check(sent.id in truth, f"{sent.id} is answered, and {sent.key} has {truth}")


class Store(MemoryStorage):
    """A storage that all nodes share. It executes operations after a delay, also those of a node that was killed.

    Attributes:
        claims: the accepted fences, by topic.
    """

    name = "shared"
    is_shared = True
    # The clients do not read histories, so nothing is published.
    publishes = True

    def __init__(self, run: Log, nursery: trio.Nursery) -> None:
        super().__init__()
        self._run = run
        self._nursery = nursery
        self._random = run.world.random("store")
        self._is_open = False
        self.claims: dict[str, list[int]] = {}

    async def open(self, limits: Limits, *, fresh_epoch: str) -> None:
        if not self._is_open:
            self._is_open = True
            await super().open(limits, fresh_epoch="epoch")
            super().close()

    def close(self) -> None:
        """Stay open, because other nodes use this storage."""

    async def _later(self, operation: Callable[[], Awaitable[Any]]) -> Any:
        """Execute an operation soon, even if the node of the caller is killed or paused meanwhile."""
        done, results = trio.Event(), []
        slow = self._random.random() < 0.03
        delays = [self._random.uniform(0.0, 0.6 if slow else 0.01) for _ in range(2)]

        async def execute() -> None:
            await trio.sleep(delays[0])
            results.append(await operation())
            await trio.sleep(delays[1])
            done.set()

        self._nursery.start_soon(execute)
        await done.wait()
        return results[0]

    async def claim(self, topic: str, fence: int) -> Claimed:
        result: Claimed = await self._later(partial(self._claim, topic, fence))
        return result

    async def _claim(self, topic: str, fence: int) -> Claimed:
        result = await super().claim(topic, fence)
        if result.refused is None:
            claims = self.claims.setdefault(topic, [])
            self._run.check(not claims or claims[-1] < fence, f"{fence} is claimed after {claims}")
            claims.append(fence)
        return result

    async def append(self, batch: Any, *, now: float, answers: Any = ()) -> Appended:
        result: Appended = await self._later(partial(self._append, batch, now, answers))
        return result

    async def _append(
        self, batch: list[NewMessage], now: float, answers: list[NewAnswer]
    ) -> Appended:
        # The storage decides at once, and other operations may come before it returns.
        claimed = {each.topic: list(self.claims.get(each.topic, [0])) for each in batch}
        result = await super().append(batch, now=now, answers=answers)
        if result.refused:
            self._run.counts["appends refused"] += 1
            return result
        for message in batch:
            claims = claimed[message.topic]
            self._run.check(
                message.fence == claims[-1], f"an append with {message.fence} of {claims}"
            )
            self._run.truth.setdefault(message.topic, []).append(
                msgspec.json.decode(message.body)["id"]
            )
        return result

    async def read(self, topic: str, *, after: int, limit: int, now: float) -> Slice:
        operation = partial(super().read, topic, after=after, limit=limit, now=now)
        result: Slice = await self._later(operation)
        return result


class Run(Log):
    """The common data of one run. It outlives the nodes.

    Attributes:
        alarms: the alarms that are set, by key, with the runs of Redis at that time.
        alarm_fences: the fence of the last process that has set an alarm, by key.
        alarms_handled: the key and the time of each alarm that has come.
        supervisors: the `EntitySupervisor` of each node.
        disturbed: the end of the last fault; infinity during a fault.
        resumed: the time of the end of the last pause of each node.
        redis_started: the incarnation of Redis, and the time of its start.
        servers: the entity of each process.
        probing: set when all faults are over.
        lease: the seconds of a lease, with time for a slow network.
        unanswered: the nodes and keys that have not answered since, with the last error.
        exchange: the seconds of a few exchanges over the network.
    """

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        random = world.random("run")
        super().__init__(world)
        self.nursery = nursery
        self.redis = SimulatedRedis(appendonly=random.random() < 0.4)
        self.store = Store(self, nursery)
        self.alarms: dict[str, tuple[float, str]] = {}
        self.alarm_fences: dict[str, int] = {}
        self.alarms_handled: set[tuple[str, float]] = set()
        self.supervisors: dict[str, EntitySupervisor] = {}
        self.tops: dict[str, Pid] = {}
        self.leaving: dict[str, trio.Event] = {}
        self.resumed: dict[str, float] = {}
        self.servers: dict[Pid, Any] = {}
        self.redis_started = 0, -math.inf
        self.probing = trio.Event()
        self.unanswered: dict[tuple[str, str], Any] = {}
        knobs = world.knobs
        self.exchange = 4 * (knobs.latency[1] + 2 * knobs.quantum)
        self.lease = LEASE + 2 * self.exchange
        self.disturbed = -math.inf
        self.idle_timeout = random.choice((0.4, 1.0, 300.0))
        self.max_waiting = random.choice((1000, 1000, 1000, 3))
        self.max_handover_bytes = random.choice((1 << 20, 1 << 20, 1 << 20, 300))
        self.hands_off = random.random() < 0.7
        # In some runs, most requests go to one key.
        self.weights = (random.choice((1, 4, 12)), 1, 1, 1, 1)
        self.pause = random.choice((0.15, 0.3, 0.6))

    def lives(self, label: str) -> bool:
        """Return True if this incarnation of a node runs."""
        nodes = self.world.nodes
        return any(nodes[name].label == label and nodes.is_up(name) for name in NAMES)

    async def call(
        self, node: Node, sent: Sent, supervisor: EntitySupervisor, acts: list[Any], timeout: float
    ) -> bool:
        """Call an entity, and check the end of the call. Return True if it is answered."""
        began = trio.current_time()
        end: Any = None
        try:
            end = await call(supervisor.via(sent.key), Do(sent.id, acts), timeout=timeout)
        except CallExit as error:
            end = error
        began = max(began, self.resumed.get(node.name, 0.0))
        took = trio.current_time() - began
        within = timeout + 0.1 + 2 * self.world.knobs.quantum
        self.check(took <= within, f"{sent.id} took {took:g} s, and its limit was {timeout:g} s")
        self.ended(sent, end)
        return not isinstance(end, CallExit)


class Account(Entity):
    """An entity that keeps the ids of its requests in a fenced history. Each node has a subclass of its own."""

    requests = Do
    answers = Any
    node: ClassVar[Node]
    run: ClassVar[Run]
    history: ClassVar[History]
    random: ClassVar[Random]

    async def init(self, key: str, state: Any = None) -> None:
        self.run.servers[current_pid()] = self
        await self.history.claim(key, self.fence)
        if state is None or self.random.random() < 0.5:
            found = await self.history.read(key)
            kept = [msgspec.json.decode(each.body)["id"] for each in found.entries]
            self.run.check(state in (None, kept), f"{key} got the state {state}, and kept {kept}")
            state = kept
        else:
            self.run.counts["handed-off states"] += 1
        claims, truth = self.run.store.claims[key], self.run.truth.get(key, [])
        if claims[-1] == self.fence:
            self.run.check(
                state == truth, f"{key} on {self.node.label} begins with {state}, not {truth}"
            )
        self.kept: list[str] = state
        self.late: list[tuple[Sender, Any]] = []
        self.calls = 0
        if self.random.random() < 0.02:
            raise RuntimeError("crashed by chance, in init")

    async def handle_call(self, request: Any, sender: Sender) -> Any:
        self.run.runs(request.id, self.key, self.node.label)
        kept = await self.act(request)
        answer = {"kept": kept, "count": len(self.kept)}
        if "late" in request.acts:
            self.late.append((sender, answer))
            send_after(current_pid(), Do("late", []), 0.05)
            return NoReply()
        return Reply(answer)

    async def handle_cast(self, message: Any) -> None:
        self.run.runs(message.id, self.key, self.node.label)
        await self.act(message)

    async def handle_info(self, message: Any) -> None:
        if message.id == "late":
            for sender, answer in self.late:
                sender.answer(answer)
            self.late = []
            return
        self.run.runs(message.id, self.key, self.node.label)
        await self.act(message)

    async def handle_alarm(self, at: float) -> None:
        self.run.alarms_handled.add((self.key, at))
        set_at, _ = self.run.alarms.get(self.key, (None, ""))
        if set_at == at:
            self.run.counts["alarms"] += 1
            del self.run.alarms[self.key]

    async def handle_handoff(self) -> Any:
        if self.random.random() < 0.1:
            await trio.sleep(self.random.uniform(0.0, 0.3))
        return self.kept if self.run.hands_off else None

    async def act(self, request: Do) -> bool:
        """Do what a request demands. Return True if it was appended to the self.history."""
        kept = False
        for act in request.acts:
            match act:
                case "append":
                    await self.history.append(
                        self.key, "done", {"id": request.id}, fence=self.fence
                    )
                    self.kept.append(request.id)
                    kept = True
                case "crash":
                    raise RuntimeError("asked to crash")
                case ["sleep", seconds]:
                    await trio.sleep(seconds)
                case ["call", key]:
                    await self.call(key)
                case ["alarm", seconds]:
                    at = self.node.now() + seconds
                    self.run.alarms.pop(self.key, None)
                    await self.set_alarm(at)
                    # A process that stood still may learn late that its alarm was set, and replaced or handled.
                    is_handled = (self.key, at) in self.run.alarms_handled
                    if not is_handled and self.fence >= self.run.alarm_fences.get(self.key, 0):
                        self.run.alarm_fences[self.key] = self.fence
                        self.run.alarms[self.key] = at, self.run.redis.run_id
        return kept

    async def call(self, key: str) -> None:
        self.calls += 1
        sent = self.run.send(self.node.label, f"{self.key}#{self.fence}", self.calls, key, "call")
        supervisor = self.run.supervisors[self.node.name]
        await self.run.call(self.node, sent, supervisor, ["append"], timeout=0.5)


def account_class(node: Node, run: Run, history: History) -> type[Entity]:
    """Return the class of the entities of one node."""
    attributes = {"node": node, "run": run, "history": history, "random": node.random("entities")}
    return type("Account", (Account,), attributes)


async def until(holds: Callable[[], object]) -> None:
    """Wait until a condition is true."""
    while not holds():  # noqa: ASYNC110 - nodes come and go, and have no event for it
        await trio.sleep(0.05)


@define
class Client:
    """A process of a node that uses the entities."""

    node: Node
    run: Run
    name: str
    supervisor: EntitySupervisor
    random: Random
    number: int = 0
    is_busy: bool = field(default=False)

    async def main(self) -> None:
        # A new server grants no key for one lease.
        await trio.sleep_until(self.run.lease)
        while True:
            await trio.sleep(self.random.expovariate(1 / self.run.pause))
            if self.run.probing.is_set() or self.run.leaving[self.node.label].is_set():
                continue
            (key,) = self.random.choices(KEYS, self.run.weights)
            self.is_busy = True
            await self.random.choices(
                (self.call, self.burst, self.cast, self.where, self.manage),
                (10, 4, 3, 1, 1),
            )[0](key)
            self.is_busy = False

    def send(self, key: str, verb: str) -> Sent:
        self.number += 1
        return self.run.send(self.node.label, self.name, self.number, key, verb)

    def acts(self) -> list[Any]:
        random = self.random
        acts: list[Any] = []
        if random.random() < 0.1:
            acts.append(["sleep", random.choice((0.0, 0.05, 0.2, 0.6))])
        if random.random() < 0.8:
            acts.append("append")
        if random.random() < 0.03:
            acts.append(["call", random.choice(KEYS)])
        if random.random() < 0.05:
            acts.append(["alarm", random.choice((0.2, 1.0, 4.0))])
        if random.random() < 0.03:
            acts.append("crash")
        if random.random() < 0.05:
            acts.append("late")
        return acts

    async def call(self, key: str) -> None:
        timeout = self.random.choice((0.2, 1.0, 3.0))
        sent = self.send(key, "call")
        await self.run.call(self.node, sent, self.supervisor, self.acts(), timeout)

    async def burst(self, key: str) -> None:
        """Cast some messages at once, and then call. The entity must get all in this order."""
        for _ in range(self.random.randint(1, 4)):
            await self.cast(key)
        await self.call(key)

    async def cast(self, key: str) -> None:
        verb = self.random.choice((cast, send))
        sent = self.send(key, "cast")
        try:
            verb(self.supervisor.via(key), Do(sent.id, self.acts()))
        except CallExit as error:
            sent.end = error

    async def where(self, key: str) -> None:
        try:
            await self.supervisor.where(key, timeout=1.0)
        except (EntityError, CallTimeout):
            self.run.counts["where failed"] += 1

    async def manage(self, key: str) -> None:
        verb = self.random.choice((self.supervisor.start, self.supervisor.stop))
        try:
            await verb(key, timeout=1.0)
        except (EntityError, CallTimeout):
            self.run.counts["start or stop failed"] += 1


async def watcher(client: Client) -> None:
    """Monitor entities, and count the `Down` of each monitor."""
    refs: dict[Any, bool] = {}
    while True:
        if not client.run.probing.is_set():
            try:
                refs[monitor(client.supervisor.via(client.random.choice(KEYS)))] = False
            except EntityError:
                client.run.counts["monitor failed"] += 1
        with trio.move_on_after(client.random.expovariate(0.5)):
            while True:
                down = await receive()
                client.run.check(type(down) is Down, f"a watcher got {down!r}")
                client.run.check(not refs[down.ref], f"a second {down!r}")
                refs[down.ref] = True
                client.run.counts["downs"] += 1


def count(run: Run) -> None:
    """Count some events of this node."""
    telemetry = current_runtime().telemetry

    def note(event: Any, measured: Any, about: Any) -> None:
        run.counts[event[-1]] += 1
        run.counts["requests handed over"] += int(measured.get("requests", 0))

    # The time until which each key of this node must not start, after too many failures.
    held: dict[str, float] = {}

    def failed(event: Any, measured: Any, about: Any) -> None:
        if measured["delay"]:
            held[about["key"]] = trio.current_time() + measured["delay"]

    def began(event: Any, measured: Any, about: Any) -> None:
        until = held.pop(about["key"], 0.0)
        now = trio.current_time()
        run.check(
            now >= until, f"{about['key']} starts at {now:g} s, and should wait until {until:g} s"
        )

    telemetry.attach(ENTITY_CRASHED, failed)
    telemetry.attach(ENTITY_START_FAILED, failed)
    telemetry.attach(ENTITY_STARTED, began)
    # The next session of the node counts anew.
    telemetry.attach(ENTITY_LEASE_LOST, lambda *_: held.clear())
    for event in (
        ENTITY_CRASHED,
        ENTITY_HANDED_OVER,
        ENTITY_HANDOVER_LOST,
        ENTITY_LEASE_LOST,
        ENTITY_REFUSED,
        ENTITY_START_FAILED,
        ENTITY_STARTED,
    ):
        telemetry.attach(event, note)


async def serve(node: Node, run: Run) -> None:
    """Run one node, until it is killed or leaves."""
    leaving = run.leaving[node.label] = trio.Event()
    adapter = RedisAdapter(
        RedisServer(
            "redis://redis",
            connect=node.connect,
            connect_timeout=1.0 + run.exchange,
            ping_interval=0.7,
            ping_timeout=0.7 + run.exchange / 2,
            backoff=Backoff(0.05, 0.4),
        ),
        node_name=node.name,
        heartbeat=0.8,
        node_timeout=2.5,
    )
    count(run)
    pubsub = PubSub(adapter)
    history = History(run.store, max_messages=100_000, max_age=3600.0, timeout=3.0)
    supervisor = run.supervisors[node.name] = EntitySupervisor(
        "accounts",
        account_class(node, run, history),
        idle_timeout=run.idle_timeout,
        labels=("big",) if node.name in BIG else (),
        pin=lambda key: "big" if key.endswith("!") else None,
        max_waiting=run.max_waiting,
        max_handover_bytes=run.max_handover_bytes,
        backoff=Backoff(0.2, 0.8),
        arbiter=RedisArbiter(
            adapter.server,
            lease=run.lease,
            renew_interval=RENEW,
            margin=MARGIN,
            timeout=TIMEOUT + run.exchange,
        ),
    )
    children = [pubsub.child_spec(), history.child_spec(pubsub), supervisor.child_spec(pubsub)]
    run.tops[node.name] = await Supervisor.start_link(children, label="top", max_restarts=100)
    clients = [
        Client(node, run, f"{node.label}.{number}", supervisor, node.random("client", number))
        for number in range(3)
    ]
    for each in clients[:2]:
        spawn(each.main, label=f"client {each.name}")
    spawn(watcher, clients[2], label="watcher")
    spawn(prober, clients[2], label="prober")
    await leaving.wait()
    # The clients leave first.
    with trio.move_on_after(5.0):
        await until(lambda: not any(each.is_busy for each in clients))
    calm_since = run.disturbed
    with trio.move_on_after(30.0) as drain:
        await supervisor.drain()
    run.counts["drains"] += 1
    # After a fault, the nodes may not know each other for a while.
    is_calm = run.disturbed == calm_since < trio.current_time() - 2 * run.lease
    if not drain.cancelled_caught and is_calm:
        # The only other node with the label of the pinned key may be away.
        left = [key for _, key, _ in running_on(run, node.name) if key != PINNED]
        run.check(not left, f"{left} run on {node.label} after its drain")


# Faults


async def deploy(run: Run, random: Random, name: str) -> None:
    """Replace a node in an orderly way."""
    nodes = run.world.nodes
    if nodes.is_up(name) and not nodes[name].paused:
        run.leaving[nodes[name].label].set()
        with trio.move_on_after(20.0):
            await until(lambda: not nodes.is_up(name))
    await trio.sleep(random.uniform(0.0, 1.0))
    if not nodes.is_up(name):
        nodes.boot(name)
    # A deploy goes on when the new node is ready, and the others know it.
    with trio.move_on_after(3.0):
        await until(lambda: is_ready(run, name))
        await trio.sleep(run.exchange)


def is_ready(run: Run, name: str) -> bool:
    """Return True if the node has a session at the arbiter."""
    return bool(
        run.world.nodes.is_up(name) and run.supervisors[name].statistics().get("has_session")
    )


async def rolling_deploy(run: Run, random: Random, name: str) -> None:
    """Replace all nodes, one after the other."""
    for each in NAMES:
        await deploy(run, random, each)


async def crash(run: Run, random: Random, name: str) -> None:
    nodes = run.world.nodes
    if nodes.is_up(name):
        nodes.kill(name, power=random.random() < 0.5)
    await trio.sleep(random.choice((0.0, random.uniform(0.0, run.lease), random.uniform(0.0, 6.0))))
    if not nodes.is_up(name):
        nodes.boot(name)


async def busy_node(run: Run, name: str) -> str:
    """Wait for a moment at which messages wait for an entity of some node, and return the node."""
    for _ in range(40):
        for each in NAMES:
            node = run.world.nodes[each]
            if node.up and not node.paused:
                for pid in node.runtime.processes():
                    info = node.runtime.process_info(pid) if pid in run.servers else None
                    if info is not None and info["status"] == "running" and info["queue_length"]:
                        return each
        await trio.sleep(0.02)
    return name


async def pause(run: Run, random: Random, name: str) -> None:
    nodes = run.world.nodes
    if random.random() < 0.8:
        name = await busy_node(run, name)
    if not nodes.is_up(name) or nodes[name].paused:
        return
    nodes.pause(name)
    seconds = (0.5, run.lease - MARGIN, run.lease, run.lease + 1.5, run.lease + 3.0)
    await trio.sleep(random.choice(seconds))
    if nodes[name].paused:
        run.resumed[name] = trio.current_time()
        nodes.resume(name)


async def suspend(run: Run, random: Random, name: str) -> None:
    """Let the clock of a node jump, as after a suspend of its machine."""
    if random.random() < 0.8:
        name = await busy_node(run, name)
    run.world.nodes.suspend(name, random.choice((0.5, run.lease - MARGIN, run.lease, 60.0)))


async def netsplit(run: Run, random: Random, name: str) -> None:
    network = run.world.network
    choice = random.random()
    if choice < 0.6:
        network.partition(name, "redis")
    elif choice < 0.8:
        network.partition_oneway(name, "redis")
    else:
        network.partition_oneway("redis", name)
    await trio.sleep(random.choice((0.5, run.lease - MARGIN, random.uniform(0.0, 8.0))))
    network.heal(name, "redis")


async def late_answers(run: Run, random: Random, name: str) -> None:
    """Let answers of Redis come late to a node, and then cut it off."""
    network = run.world.network
    network.partition_oneway("redis", name)
    await trio.sleep(random.uniform(0.3, TIMEOUT + run.exchange))
    network.heal(name, "redis")
    await trio.sleep(random.choice((0.0, random.uniform(0.0, RENEW))))
    await netsplit(run, random, name)


async def redis_restart(run: Run, random: Random, name: str) -> None:
    nodes = run.world.nodes
    if nodes.is_up("redis"):
        nodes.kill("redis", power=random.random() < 0.3)
    await trio.sleep(random.choice((0.0, random.uniform(0.0, 4.0))))
    if not nodes.is_up("redis"):
        nodes.boot("redis")


async def redis_hang(run: Run, random: Random, name: str) -> None:
    run.redis.pause()
    await trio.sleep(random.uniform(0.1, 4.0))
    run.redis.resume()


async def reset(run: Run, random: Random, name: str) -> None:
    """Close connections of Redis."""
    names = {client.name: None for client in run.redis.clients}
    if names:
        run.redis.close_clients(random.choice(list(names)))


async def kill_process(run: Run, random: Random, name: str) -> None:
    """Kill a process of the router, or an entity."""
    nodes, supervisor = run.world.nodes, run.supervisors[name]
    if not nodes.is_up(name) or nodes[name].paused:
        return
    runtime = nodes[name].runtime
    inner = [
        pid
        for pid in runtime.processes()
        if (info := runtime.process_info(pid)) is not None
        and str(info["label"]).partition(" ")[0]
        in {"Account", "session", "_Server", "keeper", "locator", "mover", "clock", "renewer"}
    ]
    if inner and supervisor.statistics():
        kill(random.choice(inner))


FAULTS: dict[Callable[[Run, Random, str], Awaitable[None]], float] = {
    deploy: 2,
    rolling_deploy: 0.7,
    crash: 2,
    pause: 2,
    suspend: 1,
    netsplit: 2,
    late_answers: 1,
    redis_restart: 1.5,
    redis_hang: 1,
    reset: 1,
    kill_process: 1,
}


async def trouble(run: Run, random: Random) -> None:
    """Inject one fault, or two at once, and undo them."""
    async with trio.open_nursery() as nursery:
        for _ in range(random.choice((1, 1, 2))):
            (fault,) = random.choices(list(FAULTS), list(FAULTS.values()))
            name = random.choice(NAMES)
            run.world.note(fault.__name__, node=name)
            run.counts[f"fault {fault.__name__}"] += 1
            if fault not in {deploy, rolling_deploy}:
                run.disturbed = math.inf
            nursery.start_soon(fault, run, random, name)
            await trio.sleep(random.uniform(0.0, 1.0))
    if run.disturbed == math.inf:
        run.disturbed = trio.current_time()


async def prober(client: Client) -> None:
    """Call every key from this node, from the moment at which all faults are over."""
    await client.run.probing.wait()
    for key in KEYS:
        spawn(probe, client, key, label=f"prober of {key}")
    await trio.sleep_forever()


async def probe(client: Client, key: str) -> None:
    """Call a key until it answers."""
    run, node = client.run, client.node
    for number in range(1000):
        sent = run.send(node.label, f"prober of {key} on {node.label}", number, key, "call")
        if await run.call(node, sent, client.supervisor, [], 3 * run.exchange + 1.0):
            run.unanswered.pop((node.name, key), None)
            return
        run.unanswered[node.name, key] = sent.end
        await trio.sleep(0.1)


def heal(run: Run) -> None:
    """End all faults."""
    world = run.world
    world.network.heal()
    run.redis.resume()
    for name in ("redis", *NAMES):
        world.nodes.resume(name)
        if not world.nodes.is_up(name):
            world.nodes.boot(name)


SOMETIMES = (
    "appends refused",
    "alarms",
    "handed-off states",
    "requests handed over",
    "handover_lost",
    "lease_lost",
    "refused",
    "start_failed",
    "calls failed with EntityBusy",
    "calls failed with EntityCrashed",
    "calls failed with EntityLost",
    "calls failed with EntityStartFailed",
    "calls failed with EntityTimeout",
    "calls failed with EntityUnavailable",
    "calls failed with CallingSelf",
)


async def every_key_answers(run: Run) -> None:
    """Check that every key answers from every node soon after the last fault."""
    began = trio.current_time()
    run.unanswered = {(name, key): None for name in NAMES for key in KEYS}
    run.probing.set()
    # Lost connections come back after a time-out and a backoff.
    within = run.lease + 1.0 + 2.0 + 8 * run.exchange
    with trio.move_on_after(within):
        await until(lambda: not run.unanswered)
    run.check(not run.unanswered, f"no answer within {within:g} s: {run.unanswered}")
    run.counts["slowest recovery (ms)"] = int((trio.current_time() - began) * 1000)


async def watch_records(run: Run) -> None:
    """Check now and then that the arbiter has a record of each process that handles messages."""
    without: dict[tuple[str, str, int], int] = {}
    names = redis_scripts.Keys.of("ashtree", "accounts")
    while True:
        await trio.sleep(0.5)
        redis = run.world.nodes["redis"]
        if not redis.up or redis.incarnation != run.redis_started[0]:
            run.redis_started = redis.incarnation, trio.current_time()
        # After a restart without data, the owners repeat their records.
        has_all = redis.up and trio.current_time() > run.redis_started[1] + run.lease + 2.0
        owners: Any = (has_all and run.redis._keys[0].get(names.owners)) or {}
        before, without = without, {}
        for name in NAMES if has_all else ():
            for place in running_on(run, name):
                record = owners.get(place[1].encode())
                if record is None or record.fence != place[2]:
                    without[place] = before.get(place, 0) + 1
                    run.check(
                        without[place] < 3, f"{place} handles messages, and the record is {record}"
                    )


def running_on(run: Run, name: str) -> list[tuple[str, str, int]]:
    """Return the label of a node, and the keys and fences of its processes that may handle messages."""
    node = run.world.nodes[name]
    if not node.up or node.paused or not run.supervisors[name].statistics().get("has_session"):
        return []
    supervisor = run.supervisors[name]
    records = supervisor.running(supervisor.via("k1"), None, 0.0).records
    return [
        (node.label, key, fence)
        for key, fence in entities_of(run, name)
        if key in records and records[key].state is State.RUNNING
    ]


async def records_match(run: Run) -> None:
    """Check that the records of the arbiter and the processes are the same."""
    keys: Any = run.redis._keys[0]
    names = redis_scripts.Keys.of("ashtree", "accounts")
    owners: dict[bytes, Any] = keys.get(names.owners) or {}
    running: dict[str, tuple[str, int]] = {}
    for name in NAMES:
        for key, fence in entities_of(run, name):
            run.check(key not in running, f"{key} runs on {name} and on {running.get(key)}")
            running[key] = name, fence
    living = {}
    for identity, record in owners.items():
        node = redis_scripts.node_of(record.node)
        if keys.get(names.sessions + record.node) == record.number:
            living[identity.decode()] = node.name, record.fence
    for key in [key for key in living if key not in running]:
        # A node may own a key without a process for a while, after failures of the process.
        supervisor = run.supervisors[living[key][0]]
        router = supervisor.running(supervisor.via(key), None, 0.0)
        if key in router.records:
            del living[key]
    run.check(living == running, f"the arbiter has {living}, and the processes are {running}")


def check_alarms(run: Run) -> None:
    """Check that each alarm has come."""
    world = run.world
    now = world.knobs.epoch + world.seconds
    for key, (at, redis) in run.alarms.items():
        is_lost = redis != run.redis.run_id and not run.redis.appendonly
        run.check(is_lost or now - at < 14.0, f"the alarm of {key} at {at} has not come at {now}")


def entities_of(run: Run, name: str) -> list[tuple[str, int]]:
    """Return the keys and fences of the entity processes on a node, from the processes themselves."""
    runtime = run.world.nodes[name].runtime
    found = []
    for pid in runtime.processes():
        server = run.servers.get(pid)
        if server is not None:
            found.append((server.key, server.fence))
    return found


@scenario(
    invariants=(
        "all",
        *[each for each in ENTITY_INVARIANTS if each is not EntityCastsArrive],
        partial(EntityCastsArrive, within=5.0),
        FencesHold,
    ),
    params={"troubles": 3},
)
@small_bounds_except("_WINDOW")
async def entities(world: World) -> dict[str, int]:
    """Let clients use entities while nodes, the network and Redis fail."""
    async with trio.open_nursery() as nursery:
        # Small pieces would find nothing here that the sweeps of Redis do not find, and take most of the time.
        knobs = attrs.evolve(world.knobs, segment=65_536, window=1 << 20)
        world.network.knobs = knobs
        run = Run(world, nursery)
        random = world.random("faults")
        world.nodes.start("redis", run.redis.main)
        for name in NAMES:
            world.nodes.start(name, serve, run)
        nursery.start_soon(watch_records, run)
        await trio.sleep(run.lease + random.uniform(0.5, 3.0))
        for _ in range(world.params["troubles"]):
            await trio.sleep(random.uniform(0.0, 2.0))
            await trouble(run, random)
        heal(run)
        await every_key_answers(run)
        # Casts arrive, alarms come again, and idle entities stop.
        await trio.sleep(60.0 if random.random() < 0.05 else 11.5)
        for each in run.sent.values():
            # An entity that ends drops its calls.
            is_open = each.verb == "call" and each.end is None and not each.is_of_entity
            run.check(
                not is_open or not run.lives(each.node), f"{each.id} for {each.key} has not ended"
            )
        await records_match(run)
        check_alarms(run)
        for name in SOMETIMES:
            world.sometimes(name, run.counts[name] > 0)
        nursery.cancel_scope.cancel()
    return dict(run.counts)
