"""The routers of entities on three nodes in one runtime, under faults that aim at single messages.

    ashtree simulate tests.simulation.sweeps.channels.entity_routers:entity_routers --seeds 1-1000

This world has no Redis and no sockets, so a run takes a fourth of the time of the sweep `entities`. The arbiter is a
table in memory that answers late. Half of the runs are *orderly*: keys move, nodes are replaced and entities stop, but
nothing fails. There each call must be answered, and each cast must run. In the other runs, nodes are killed, lose their
leases and their messages, and the arbiter does not answer.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import trio

from actors import (
    CallExit,
    Crash,
    Down,
    NoReply,
    Pid,
    Reply,
    Sender,
    call,
    cast,
    current_pid,
    current_runtime,
    is_alive,
    kill,
    monitor,
    receive,
    send,
    send_after,
    spawn,
    stop,
)
from actors.servers.gen_server import Cast
from channels import PubSub
from channels.entities.arbiter import ArbiterUnavailable
from channels.entities.arbiters.local import LocalArbiter
from channels.entities.entity import Entity
from channels.entities.errors import (
    EntityError,
)
from channels.entities.ownership import State
from channels.entities.requests import EntityRequest
from channels.entities.router import Router, _request_in
from channels.entities.supervisor import EntitySupervisor
from channels.pubsub.workers.grants import Grants, Request
from channels.telemetry import (
    ENTITY_BEGAN,
    ENTITY_CRASHED,
    ENTITY_FINISHED,
    ENTITY_MOVING,
    ENTITY_REQUEST_ACCEPTED,
    ENTITY_SESSION_OPENED,
    ENTITY_START_FAILED,
    ENTITY_STARTED,
)
from channels.testing import EntityMonitorsFire, JoinedNodes
from supervision import Backoff, Supervisor
from supervision.simulation import World, scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.channels.entities import Do, Log, Sent, until

NAMES = ("a", "b", "c")
KEYS = ("x", "y", "z")


class Refused(Exception):
    """The storage has refused an operation of an earlier owner."""


class ByChance(Exception):
    """An entity crashes, because the scenario wants this."""


class Disk:
    """The fenced storage of all nodes."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.claims: dict[str, list[int]] = {}

    async def claim(self, key: str, fence: int) -> None:
        await self.run.wait(0.01)
        claims = self.claims.setdefault(key, [])
        self.run.check(fence not in claims, f"a second start of {key} claims {fence} of {claims}")
        if claims and fence < claims[-1]:
            raise Refused
        claims.append(fence)
        await self.run.wait(0.01)

    async def append(self, key: str, fence: int, request: str) -> None:
        await self.run.wait(0.003)
        if self.claims[key][-1] != fence:
            self.run.counts["appends refused"] += 1
            raise Refused
        self.run.truth.setdefault(key, []).append(request)
        await self.run.wait(0.003)


class SlowArbiter(LocalArbiter):
    """An arbiter that answers late, and sometimes not at all."""

    run: Run

    async def _ask(self, request: Request) -> Any:
        run = self.run
        chance = run.faults.random() if run.is_arbiter_sick else 1.0
        await run.wait(0.01)
        if chance < 0.2:
            raise ArbiterUnavailable("slow", "it is away", may_have_run=False)
        answer = await super()._ask(request)
        await run.wait(0.01)
        if chance < 0.4:
            raise ArbiterUnavailable("slow", "its answer is lost", may_have_run=True)
        return answer


class Account(Entity):
    """An entity that keeps the ids of its requests on the disk. Each node has a subclass of its own."""

    requests = Do
    answers = Any
    run: ClassVar[Run]
    home: ClassVar[Home]

    async def init(self, key: str, state: Any = None) -> None:
        run = self.run
        disk = run.disk
        await disk.claim(key, self.fence)
        if run.crashes and run.chance.random() < 0.1:
            raise ByChance
        truth = run.truth.get(key, [])
        if disk.claims[key][-1] == self.fence:
            run.check(
                state in (None, truth[-20:]), f"{key} gets the state {state}, and not {truth[-20:]}"
            )
        run.begins(key, has_state=state is not None)
        self.kept = list(truth)
        self.late: list[tuple[Sender, Any]] = []

    async def handle_call(self, request: Any, sender: Sender) -> Any:
        self.run.runs(request.id, self.key, self.home.name)
        await self.act(request)
        answer = {"kept": "append" in request.acts}
        if "late" in request.acts:
            self.late.append((sender, answer))
            send_after(current_pid(), Do("late", []), 0.05)
            return NoReply()
        return Reply(answer)

    async def handle_cast(self, message: Any) -> None:
        self.run.runs(message.id, self.key, self.home.name)
        await self.act(message)

    async def handle_info(self, message: Any) -> None:
        if message.id == "late":
            for sender, answer in self.late:
                sender.answer(answer)
            self.late = []
            return
        self.run.runs(message.id, self.key, self.home.name)
        await self.act(message)

    async def handle_alarm(self, at: float) -> None:
        self.run.alarms_handled.add((self.key, at))
        if self.run.alarms.get(self.key) == at:
            del self.run.alarms[self.key]

    async def handle_handoff(self) -> Any:
        await self.run.wait(0.02)
        return self.kept[-20:] if self.run.hands_off else None

    async def terminate(self, reason: Any) -> None:
        await self.run.wait(0.01)

    async def act(self, request: Do) -> None:
        for act in request.acts:
            match act:
                case "append":
                    await self.run.disk.append(self.key, self.fence, request.id)
                    self.kept.append(request.id)
                case "crash":
                    raise ByChance
                case ["sleep", seconds]:
                    await trio.sleep(seconds)
                case ["finish", seconds]:
                    # A handler that ends its work although its process is killed.
                    with trio.CancelScope(shield=True):
                        await trio.sleep(seconds)
                case ["alarm", seconds]:
                    await self.set(current_runtime().now() + seconds)

    async def set(self, at: float) -> None:
        run = self.run
        run.alarms.pop(self.key, None)
        await self.set_alarm(at)
        # This process may learn late that its alarm was set, and replaced or handled.
        is_handled = (self.key, at) in run.alarms_handled
        if not is_handled and self.fence >= run.alarm_fences.get(self.key, 0):
            run.alarm_fences[self.key] = self.fence
            run.alarms[self.key] = at


class Home:
    """One node, and its clients.

    Attributes:
        name: the name of the node.
        holder: its number at the arbiter.
        is_up: True if its clients may call.
        draining_since: the time at which this node began to drain; infinity if it does not.
        starts: the number of its starts.
        busy: the number of its clients that wait for an answer.
    """

    def __init__(self, run: Run, name: str, number: int) -> None:
        self.run = run
        self.name = name
        self.holder = number
        self.is_up = False
        self.draining_since = math.inf
        self.starts = 0
        self.busy = 0
        self.pids: list[Pid] = []
        arbiter = SlowArbiter(grants=run.grants, holder=number)
        arbiter.run = run
        self.pubsub = PubSub(run.joined.adapter(name))
        self.entities = EntitySupervisor(
            "accounts",
            type("Account", (Account,), {"run": run, "home": self}),
            arbiter=arbiter,
            idle_timeout=run.idle_timeout,
            max_waiting=run.max_waiting,
            handover_timeout=run.handover_timeout,
            max_restarts=2,
            max_seconds=1.0,
            backoff=Backoff(0.3, 0.8),
        )

    @property
    def router(self) -> Router | None:
        """The router; None if the node does not run."""
        try:
            return self.entities.running(self.entities.via("x"), None, 0.0)
        except EntityError:
            return None

    @property
    def has_waiting_cast(self) -> bool:
        """True if a cast is the next message of an entity that handles another message now."""
        router = self.router
        records = () if router is None else router.records.values()
        queues = [each.process.mailbox.queue for each in records if each.process is not None]
        return any(queue and type(next(iter(queue))) is Cast for queue in queues)

    def waiting(self, key: str) -> int:
        """Return the number of requests that wait for a key here."""
        record = None if self.router is None else self.router.records.get(key)
        if record is None:
            return 0
        found = list(record.waiting)
        if record.process is not None:
            found += [each for each in map(_request_in, record.process.mailbox.queue) if each]
        return sum(not each.done for each in found)

    async def start(self) -> None:
        self.starts += 1
        children = [self.pubsub.child_spec(), self.entities.child_spec(self.pubsub)]
        self.top = await Supervisor.start_link(children, label=self.name, max_restarts=100)
        self.draining_since, self.is_up = math.inf, True
        names = [f"{self.name}{self.starts}.{number}" for number in range(3)]
        self.pids = [spawn(self.use, each, label=f"client {each}") for each in names]
        self.pids.append(spawn(self.watch, label=f"watcher {self.name}"))

    async def use(self, name: str) -> None:
        """Be one client."""
        run, chance, number = self.run, self.run.chance, 0
        while not run.is_over:
            await trio.sleep(chance.expovariate(1 / run.pause))
            if not self.is_up or run.is_over:
                continue
            self.busy += 1
            key = chance.choice(KEYS)
            for _ in range(chance.choice((0, 0, 1, 3))):
                number += 1
                sent = run.send(self.name, name, number, key, "cast")
                try:
                    chance.choice((cast, send))(
                        self.entities.via(key), Do(sent.id, run.acts(is_call=False))
                    )
                except CallExit as error:
                    sent.end = error
                if run.spreads:
                    await run.wait(0.01)
            number += 1
            if chance.random() < 0.05:
                await self.manage(key)
            else:
                sent = run.send(self.name, name, number, key, "call")
                await run.call(self, sent, run.acts(is_call=True), chance.choice(run.timeouts))
            self.busy -= 1

    async def manage(self, key: str) -> None:
        """Start, stop or find an entity."""
        entities = self.entities
        try:
            await self.run.chance.choice((entities.start, entities.stop, entities.where))(
                key, timeout=1.0
            )
        except CallExit:
            self.run.counts["start, stop or where failed"] += 1

    async def watch(self) -> None:
        """Monitor entities. `EntityMonitorsFire` checks the result."""
        chance = self.run.chance
        while True:
            if not self.run.is_over:
                try:
                    monitor(self.entities.via(chance.choice(KEYS)))
                except EntityError:
                    self.run.counts["monitor failed"] += 1
            with trio.move_on_after(math.inf if self.run.is_over else chance.expovariate(2.0)):
                while True:
                    down = await receive()
                    self.run.check(type(down) is Down, f"a watcher got {down!r}")

    def end_clients(self) -> None:
        self.is_up, self.busy = False, 0
        for each in self.pids:
            kill(each)


class Run(Log):
    """The common data of one run, and the checks of its events."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        random = world.random("run")
        self.chance = world.random("clients")
        self.faults = world.random("faults")
        self.is_orderly = random.random() < 0.5
        self.crashes = not self.is_orderly and random.random() < 0.5
        self.hands_off = random.random() < 0.7
        self.pause = random.choice((0.01, 0.03, 0.1))
        # A burst takes some time, so that it meets the messages of a move.
        self.spreads = random.random() < 0.6
        self.idle_timeout = random.choice((0.3, 0.6, 300.0))
        self.handover_timeout = 5.0 if self.is_orderly else random.choice((0.1, 0.4, 2.0))
        self.max_waiting = 1000 if self.is_orderly else random.choice((1000, 1000, 3))
        self.timeouts = (20.0,) if self.is_orderly else (0.02, 0.1, 3.0)
        self.latency = random.choice((0.0, 0.005, 0.03))
        self.arbiter_delay = random.choice((0.0, 0.3, 1.0))
        self.is_arbiter_sick = False
        self.is_over = False
        self.disk = Disk(self)
        self.grants = Grants()
        self.joined = JoinedNodes(latency=self.latency, heartbeat=1.0, node_timeout=5.0)
        self.homes = {name: Home(self, name, number) for number, name in enumerate(NAMES)}
        self.alarms: dict[str, float] = {}
        self.alarm_fences: dict[str, int] = {}
        self.alarms_handled: set[tuple[str, float]] = set()
        # The callbacks that run now, by key: the node, the number of its start, and its lease.
        self.running: dict[str, list[tuple[str, Any]]] = {}
        # The casts that the node of an owner has acknowledged.
        self.accepted: set[str] = set()
        self.held: dict[tuple[str, str], float] = {}
        # The keys that move with a state.
        self.moving: set[str] = set()
        attach = current_runtime().telemetry.attach
        for event, handle in (
            (ENTITY_BEGAN, self._began),
            (ENTITY_FINISHED, self._finished),
            (ENTITY_SESSION_OPENED, self._session_opened),
            (ENTITY_REQUEST_ACCEPTED, self._accepted),
            (ENTITY_MOVING, self._moves),
            (ENTITY_CRASHED, self._failed),
            (ENTITY_START_FAILED, self._failed),
            (ENTITY_STARTED, self._started),
        ):
            attach(event, partial(self._handle, handle))

    def _handle(
        self,
        handle: Callable[[Mapping[str, Any]], None],
        _event: object,
        measured: Mapping[str, Any],
        about: Mapping[str, Any],
    ) -> None:
        handle({**measured, **about})

    async def wait(self, most: float) -> None:
        """Wait for an operation of the arbiter, the storage or a callback."""
        await trio.sleep(self.chance.random() * most * (1 + 5 * self.arbiter_delay))

    def acts(self, *, is_call: bool) -> list[Any]:
        random = self.chance
        acts: list[Any] = []
        if random.random() < 0.2:
            acts.append(["sleep", random.choice((0.0, 0.02, 0.1))])
        if random.random() < 0.5:
            acts.append("append")
        if random.random() < 0.02:
            acts.append(["alarm", random.choice((0.1, 0.5, 2.0))])
        if self.is_orderly:
            return acts
        if random.random() < 0.02:
            acts.append(["finish", 0.05])
        if random.random() < 0.04:
            acts.append("crash")
        if is_call and random.random() < 0.05:
            acts.append("late")
        return acts

    # Events

    def _began(self, about: Mapping[str, Any]) -> None:
        router, key, request = about["router"], about["key"], about["request"]
        where = f"{key} with {about['fence']} on {router.node.name}"
        self.check(router.may_run, f"a callback of {where} begins after the loss of the lease")
        others = [each for each in self.running.get(key, []) if each[1].is_valid]
        self.check(not others, f"a callback of {where} begins while one runs on {others}")
        self.running.setdefault(key, []).append((router.node.name, router.lease))
        if isinstance(request, EntityRequest) and request.verb in {"cast", "send"}:
            self.accepted.discard(request.content.id)

    def _finished(self, about: Mapping[str, Any]) -> None:
        running = self.running[about["key"]]
        names = [each[0] for each in running]
        del running[names.index(about["router"].node.name)]

    def _session_opened(self, about: Mapping[str, Any]) -> None:
        router = about["router"]
        alive = [each.key for each in router.records.values() if each.process is not None]
        self.check(not alive, f"{router.node.name} opens a session, and {alive} still run")
        # A session counts failures anew.
        for place in [each for each in self.held if each[0] == router.node.name]:
            del self.held[place]

    def _accepted(self, about: Mapping[str, Any]) -> None:
        request: EntityRequest = about["request"]
        if request.verb in {"cast", "send"}:
            self.accepted.add(request.content.id)

    def _moves(self, about: Mapping[str, Any]) -> None:
        self.moving.add(about["key"])
        to = self.homes[about["to"]]
        now = trio.current_time()
        # The other nodes know soon that a node drains. If all nodes drain, keys may move to any of them.
        if self.is_orderly and any(each.draining_since == math.inf for each in self.homes.values()):
            self.check(
                now < to.draining_since + 0.5, f"{about['key']} moves to {to.name}, which drains"
            )

    def _failed(self, about: Mapping[str, Any]) -> None:
        reason = about["reason"]
        error = reason.exception if isinstance(reason, Crash) else None
        expected = isinstance(error, ByChance | Refused | ArbiterUnavailable | None)
        self.check(expected, f"{about['key']} ends with {reason!r}")
        self.check(not self.is_orderly, f"{about['key']} ends with {reason!r} in an orderly run")
        if about["delay"]:
            place = about["router"].node.name, about["key"]
            self.held[place] = trio.current_time() + about["delay"]

    def _started(self, about: Mapping[str, Any]) -> None:
        until = self.held.pop((about["router"].node.name, about["key"]), 0.0)
        now = trio.current_time()
        self.check(
            now >= until, f"{about['key']} starts at {now:g} s, and should wait until {until:g} s"
        )

    def begins(self, key: str, *, has_state: bool) -> None:
        """Take note that a process begins to run."""
        if key in self.moving:
            self.moving.discard(key)
            if self.is_orderly and self.hands_off:
                self.check(has_state, f"{key} moved, and begins without the state")

    async def call(self, home: Home, sent: Sent, acts: list[Any], timeout: float) -> bool:
        """Call an entity, and check the end of the call. Return True if it is answered."""
        began = trio.current_time()
        end: Any = None
        try:
            end = await call(home.entities.via(sent.key), Do(sent.id, acts), timeout=timeout)
        except CallExit as error:
            end = error
        took = trio.current_time() - began
        self.check(took <= timeout + 0.1, f"{sent.id} took {took:g} s, and not {timeout:g} s")
        self.ended(sent, end)
        is_failed = isinstance(end, CallExit)
        self.check(
            not (self.is_orderly and is_failed),
            f"{sent.id} for {sent.key} fails in an orderly run: {end!r}",
        )
        return not is_failed

    # Faults

    def any_home(self) -> Home:
        return self.faults.choice(list(self.homes.values()))

    async def move(self, home: Home) -> None:
        router = home.router
        to = self.any_home()
        other = to.router
        if router is None or other is None or to is home or to.draining_since < math.inf:
            return
        record = router.records.get(self.faults.choice(KEYS))
        if (
            record is not None
            and record.state is State.RUNNING
            and router.placement.knows(other.node)
        ):
            router.move(record, other.node)

    async def moves(self, home: Home) -> None:
        """Move keys to and fro."""
        for _ in range(self.faults.randint(2, 8)):
            for each in self.homes.values():
                await self.move(each)
            await trio.sleep(self.faults.random() * 0.05)

    async def stop(self, home: Home) -> None:
        for _ in range(self.faults.randint(1, 4)):
            if home.is_up:
                try:
                    await home.entities.stop(self.faults.choice(KEYS), timeout=20.0)
                except CallExit:
                    self.check(not self.is_orderly, "a stop fails in an orderly run")
            await trio.sleep(self.faults.random() * 0.02)

    async def deploy(self, home: Home) -> None:
        home.is_up = False
        with trio.move_on_after(30.0 if self.is_orderly else 1.0):
            await until(lambda: not home.busy)
        home.end_clients()
        home.draining_since = trio.current_time()
        with trio.move_on_after(30.0) as drain:
            await home.entities.drain()
        router = home.router
        if self.is_orderly and router is not None:
            self.check(not drain.cancelled_caught, f"the drain of {home.name} does not end")
            left = [each.key for each in router.records.values() if each.process is not None]
            self.check(not left, f"{left} run on {home.name} after its drain")
        await stop(home.top)
        self.grants.free(home.holder)
        await trio.sleep(self.faults.random() * 0.5)
        await home.start()
        await trio.sleep(0.2)

    async def crash(self, home: Home) -> None:
        """Kill a node. Its keys are free when all its processes have ended."""
        router = home.router
        home.end_clients()
        kill(home.top)
        await trio.sleep(0.06)
        await until(lambda: not is_alive(home.top) and home.router is None)
        self.grants.free(home.holder)
        if router is not None and self.faults.random() < 0.7:
            for each in self.homes.values():
                other = each.router
                if other is not None and each is not home:
                    other.node_lost(router.node)
        await trio.sleep(self.faults.choice((0.0, 0.5, 3.0)))
        await home.start()

    async def kill_entity(self, home: Home) -> None:
        router = home.router
        record = None if router is None else router.records.get(self.faults.choice(KEYS))
        if record is not None and record.process is not None:
            kill(record.process.pid)

    async def kill_process(self, home: Home) -> None:
        names = {"session", "_Server", "keeper", "locator", "mover", "clock"}
        runtime = current_runtime()
        found = [
            pid
            for pid in runtime.processes()
            if (info := runtime.process_info(pid)) and str(info["label"]) in names
        ]
        if found:
            kill(self.faults.choice(found))

    async def lose_lease(self, home: Home) -> None:
        router = home.router
        if router is not None:
            router.arbiter.lease.lose("the scenario wants this")

    async def expire(self, home: Home) -> None:
        """End the lease of a node as a long pause does: the other nodes get its keys before it notices."""
        for _ in range(60):
            busy = [each for each in self.homes.values() if each.has_waiting_cast]
            if busy:
                home = busy[0]
                break
            await trio.sleep(0.005)
        router = home.router
        if router is not None and router.lease.problem is None:
            router.lease.until = -1.0
            self.grants.free(home.holder)
            await trio.sleep(self.faults.random() * 0.5)

    async def split(self, home: Home) -> None:
        self.joined.isolate(home.name)
        await trio.sleep(self.faults.choice((0.05, 1.0, 6.0)))
        self.joined.heal()

    async def lose(self, home: Home) -> None:
        """Lose some messages."""
        self.joined.loses = lambda *_: self.faults.random() < 0.3
        await trio.sleep(self.faults.random() * 0.2)
        self.joined.loses = lambda *_: False

    async def stall(self, home: Home) -> None:
        """Let the messages of a while arrive late, and then all at once."""
        self.joined.latency = self.faults.choice((0.1, 0.6, 1.5))
        await self.moves(home)
        await trio.sleep(self.faults.random() * 0.3)
        self.joined.latency = self.latency

    async def sicken(self, home: Home) -> None:
        self.is_arbiter_sick = True
        await trio.sleep(self.faults.random() * 0.3)
        self.is_arbiter_sick = False

    async def suspect(self, home: Home) -> None:
        """Let a node believe that another one is lost."""
        one, other = home.router, self.any_home().router
        if one is not None and other is not None and one is not other:
            one.node_lost(other.node)


Fault = Callable[[Run, Home], Awaitable[None]]
ORDERLY: dict[Fault, float] = {Run.moves: 4, Run.stop: 2, Run.deploy: 2}
ROUGH: dict[Fault, float] = {
    **ORDERLY,
    Run.crash: 2,
    Run.kill_entity: 2,
    Run.kill_process: 1,
    Run.lose_lease: 1,
    Run.expire: 3,
    Run.split: 1,
    Run.lose: 1,
    Run.stall: 2,
    Run.sicken: 2,
    Run.suspect: 1,
}


async def every_key_answers(run: Run) -> None:
    """Call every key from every node until it answers, soon after the last fault."""
    # On the slowest storage, an entity needs 0.3 s for each request that waits before these.
    homes = run.homes.values()
    within = {key: 6.0 + 0.3 * sum(home.waiting(key) for home in homes) for key in KEYS}
    began = trio.current_time()

    async def probe(home: Home, key: str) -> None:
        for number in range(1000):
            sent = run.send(
                home.name, f"prober {home.name}", 1000 * KEYS.index(key) + number, key, "call"
            )
            if await run.call(home, sent, [], 20.0 if run.is_orderly else 1.0):
                return
            took = trio.current_time() - began
            run.check(took < within[key], f"{key} does not answer {home.name}: {sent.end!r}")
            await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        for home in homes:
            for key in KEYS:
                nursery.start_soon(probe, home, key)
    run.counts["slowest recovery (ms)"] = int((trio.current_time() - began) * 1000)


def check_rest(run: Run) -> None:
    """Check that nothing waits, and that the arbiter and the nodes agree."""
    table = run.grants.table("accounts")
    owned = {
        key: (session.node.name, owner.fence)
        for key, session in table.owners.items()
        for owner in (session.keys[key],)
    }
    here: dict[str, tuple[str, int]] = {}
    for home in run.homes.values():
        router = home.router
        assert router is not None
        for record in router.records.values():
            run.check(record.key not in here, f"{record.key} is on {home.name} and {here}")
            here[record.key] = home.name, record.fence
            run.check(
                record.state in {State.RUNNING, State.HELD},
                f"{record.key} on {home.name} is {record.state} at rest",
            )
        states = [each.state for each in router.records.values()]
        left = {
            "requests to other nodes": len(
                router.streams.late(router.runtime.current_time() - 1.0)
            ),
            "handovers": len(router._unconfirmed),
            "awaited handovers": len(router._awaited),
            "moves": router._moving,
            "running": router._running - states.count(State.RUNNING),
        }
        run.check(not any(left.values()), f"{home.name} has at rest {left}")
    run.check(
        owned == here or run.counts["fault sicken"],
        f"the arbiter has {owned}, and the nodes have {here}",
    )
    for key in owned.keys() & here.keys():
        run.check(owned[key] == here[key], f"{key}: the arbiter has {owned[key]}, not {here[key]}")
    lost = sorted(run.accepted)
    if run.is_orderly:
        run.check(not lost, f"the casts {lost} were acknowledged, and have not run")
        silent = [
            e.id for e in run.sent.values() if e.verb == "cast" and not e.runs and e.end is None
        ]
        run.check(not silent, f"the casts {silent} have not run in an orderly run")
    now = current_runtime().now()
    for key, at in run.alarms.items():
        run.check(now - at < 14.0, f"the alarm of {key} at {at} has not come at {now}")


@scenario(
    invariants=("all", partial(EntityMonitorsFire, within=40.0)),
    params={"troubles": 6},
)
@small_bounds
async def entity_routers(world: World) -> dict[str, int]:
    """Let clients of three nodes use entities while keys move and nodes fail."""
    run = Run(world)
    random = run.faults
    for home in run.homes.values():
        await home.start()
    await trio.sleep(0.3)
    kinds = ORDERLY if run.is_orderly else ROUGH
    for _ in range(world.params["troubles"]):
        await trio.sleep(random.random() * 0.3)
        async with trio.open_nursery() as nursery:
            (fault,) = random.choices(list(kinds), list(kinds.values()))
            home = run.any_home()
            world.note(fault.__name__, node=home.name)
            run.counts[f"fault {fault.__name__}"] += 1
            nursery.start_soon(fault, run, home)
            if random.random() < 0.5:
                nursery.start_soon(Run.moves, run, home)
    run.joined.heal()
    run.is_over = True
    await every_key_answers(run)
    await trio.sleep(60.0 if run.idle_timeout > 1.0 and random.random() < 0.5 else 16.0)
    check_rest(run)
    for home in run.homes.values():
        home.end_clients()
        await stop(home.top)
    return dict(run.counts)
