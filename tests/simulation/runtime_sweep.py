"""Random trees of supervisors, servers and plain processes, with random actions on them.

The scenario only acts. The built-in invariants and the invariants of supervisors check the run.
"""

from __future__ import annotations

import math
from random import Random
from typing import Any

import trio

from actors import (
    NORMAL,
    SHUTDOWN,
    CallExit,
    Down,
    GenServer,
    Ignore,
    KeyTaken,
    NoReply,
    Pid,
    Registry,
    RegistryClosed,
    Reply,
    Sender,
    StartError,
    StartIgnored,
    Stop,
    call,
    cast,
    demonitor,
    kill,
    monitor,
    receive,
    reply,
    send,
    send_exit,
    trap_exits,
    wait_exit,
)
from supervision import (
    ChildSpec,
    DynamicSupervisor,
    PartitionSupervisor,
    SupervisionError,
    Supervisor,
    TaskSupervisor,
    child_spec,
    process_spec,
)
from supervision.backoff import Backoff
from supervision.laboratory.chaos.faults.plan import EVERYWHERE, Storm
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds

KEYS = tuple("abcdefgh")


class Moods:
    """The data that all processes of one world share: their pids, and their random numbers."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rooms: Registry[str, None] = Registry("unique", name="rooms")
        self.readers: Registry[str, None] = Registry("duplicate", name="readers")
        self.started = 0

    def of(self, what: str) -> Random:
        return self.world.random(what)

    def somebody(self, stream: Random) -> Pid | None:
        pids = self.world.runtime.processes()
        return stream.choice(pids) if pids else None

    def a_supervisor(self, stream: Random) -> tuple[str, Pid]:
        """Return a random process, and its kind."""
        found = []
        for pid in self.world.runtime.processes():
            name = str(self.world.path_of(pid)).rsplit("/", 1)[-1]
            kind = name.rstrip("0123456789")
            if kind in ("sup", "pool", "tasks", "parts"):
                found.append((kind, pid))
        return stream.choice(found) if found else ("none", self.world.runtime.pid)


class Worker(GenServer[int]):
    """A server that obeys its requests, and sometimes acts at random."""

    async def init(self, moods: Moods, id: Any) -> Ignore | None:
        self.state = 0
        self.moods = moods
        self.stream = moods.of(f"worker {id}")
        self.watching: list[Any] = []
        self.owed: list[Sender] = []
        if self.stream.random() < 0.3:
            trap_exits()
        if self.stream.random() < 0.3:
            await trio.sleep(self.stream.random() / 20)
        chance = self.stream.random()
        # At the beginning all children start, because otherwise the run would test nothing.
        if trio.current_time() > 1 and chance < 0.03:
            raise OSError("did not start")
        if chance > 0.95:
            return Ignore()
        if chance < 0.5:
            try:
                moods.rooms.register(self.stream.choice(KEYS))
            except KeyTaken:
                moods.world.sometimes("a key was taken")
            except RegistryClosed:
                moods.world.sometimes("a registry was closed")
        if chance < 0.3:
            moods.readers.register(self.stream.choice(KEYS))
        return None

    async def handle_call(self, request: Any, sender: Sender) -> Reply | NoReply | Stop:
        stream = self.stream
        if request == "slow":
            await trio.sleep(stream.random())
        elif request == "later":
            self.owed.append(sender)
            return NoReply()
        elif request == "never":
            return NoReply()
        elif request == "ask":
            return Reply(await ask(self.moods, stream))
        elif request == "crash":
            raise ValueError("asked to crash")
        elif request == "stop":
            return Stop(NORMAL, reply="stopped")
        return Reply(request)

    async def handle_cast(self, message: Any) -> Stop | None:
        stream = self.stream
        if message == "crash":
            raise ValueError("told to crash")
        if message == "stop":
            return Stop(NORMAL)
        if message == "watch":
            somebody = self.moods.somebody(stream)
            if somebody is not None:
                self.watching.append(monitor(somebody))
        elif message == "forget" and self.watching:
            demonitor(self.watching.pop(), flush=stream.random() < 0.5)
        elif message == "move":
            self.moods.rooms.unregister(stream.choice(KEYS))
        elif message == "answer":
            for sender in self.owed:
                reply(sender, "at last")
            self.owed = []
        return None

    async def handle_info(self, message: Any) -> None:
        if type(message) is Down and message.ref in self.watching:
            self.watching.remove(message.ref)

    async def terminate(self, reason: Any) -> None:
        if self.stream.random() < 0.3:
            await trio.sleep(self.stream.random() / 10)


async def plain(moods: Moods, id: Any) -> None:
    """A plain process."""
    stream = moods.of(f"plain {id}")
    while stream.random() < 0.95:
        try:
            message = await receive(timeout=2)
        except trio.TooSlowError:
            continue
        if message == "crash":
            raise LookupError("told to crash")


async def ask(moods: Moods, stream: Random) -> Any:
    """Call a process, which may not exist, not answer, or end."""
    request = stream.choice(["x", "x", "slow", "later", "never", "crash", "stop"])
    address: Any = moods.somebody(stream)
    if stream.random() < 0.4:
        address = moods.rooms.via(stream.choice(KEYS))
    timeout = stream.choice([0.05, 0.5, 2.0, math.inf if request != "never" else 1.0])
    try:
        return await call(address, request, timeout=timeout)
    except CallExit as error:
        moods.world.sometimes(f"a call ended with {type(error).__name__}")
        return None


def a_tree(moods: Moods, stream: Random, depth: int) -> ChildSpec:
    """Return the child spec of a supervisor with random children."""
    moods.started += 1
    number = moods.started
    if depth > 0 and stream.random() < 0.2:
        return DynamicSupervisor.child_spec(
            id=f"pool{number}", name=f"pool{number}", **settings(stream)
        )
    if depth > 0 and stream.random() < 0.15:
        return PartitionSupervisor.child_spec(
            child_spec(Worker, moods, f"part{number}"),
            name=f"parts{number}",
            partitions=stream.randint(1, 3),
            strategy=stream.choice(["one_for_one", "one_for_all", "rest_for_one"]),
            max_restarts=stream.choice([1, 3, 5]),
        )
    children = [a_child(moods, stream, depth) for _ in range(stream.randint(1, 4))]
    significant = any(child.significant for child in children)
    return Supervisor.child_spec(
        children,
        id=f"sup{number}",
        restart="permanent" if depth == 0 else stream.choice(["permanent", "transient"]),
        strategy=stream.choice(["one_for_one", "one_for_all", "rest_for_one"]),
        auto_shutdown=stream.choice(["any_significant", "all_significant"])
        if significant
        else "never",
        **settings(stream),
    )


def settings(stream: Random) -> dict[str, Any]:
    backoff = Backoff(0.1, 1.0) if stream.random() < 0.2 else None
    return {
        "max_restarts": stream.choice([0, 1, 2, 3, 3, 5, 10]),
        "max_seconds": stream.choice([0.5, 2.0, 5.0]),
        "backoff": backoff,
    }


def a_child(moods: Moods, stream: Random, depth: int) -> ChildSpec:
    if depth < 2 and stream.random() < 0.4:
        return a_tree(moods, stream, depth + 1)
    moods.started += 1
    if stream.random() < 0.1:
        id = f"tasks{moods.started}"
        return TaskSupervisor.child_spec(id=id, name=id, **settings(stream))
    id = f"w{moods.started}"
    fields: dict[str, Any] = {
        "id": id,
        "restart": stream.choice(["permanent", "permanent", "transient", "temporary"]),
        "shutdown": stream.choice([5.0, 0.02, "brutal_kill"]),
    }
    if fields["restart"] != "permanent" and stream.random() < 0.1:
        fields["significant"] = True
    if stream.random() < 0.1:
        fields["start_timeout"] = 0.3
    if stream.random() < 0.2:
        return process_spec(plain, moods, id, **fields)
    named = {"kwargs": {"name": id}} if stream.random() < 0.3 else {}
    return child_spec(Worker, moods, id, **fields, **named)


async def harm(moods: Moods, stream: Random) -> None:
    """Do one random thing to a random process."""
    pid = moods.somebody(stream)
    if pid is None:
        return
    match stream.randrange(10):
        case 0:
            kill(pid)
        case 1:
            send_exit(pid, stream.choice([SHUTDOWN, NORMAL, "enough"]))
        case 2 | 3:
            cast(pid, "crash")
        case 4:
            cast(pid, stream.choice(["stop", "move", "answer"]))
        case 5 | 6:
            cast(pid, stream.choice(["watch", "watch", "forget"]))
        case 7:
            send(pid, "crash")
        case _:
            await request(moods, stream)


async def request(moods: Moods, stream: Random) -> None:
    """Send a random request to a supervisor."""
    kind, supervisor = moods.a_supervisor(stream)
    try:
        with trio.move_on_after(3):
            if kind == "pool":
                restart: Any = stream.choice(["permanent", "transient", "temporary"])
                spec = child_spec(Worker, moods, "pooled", restart=restart)
                pid = await DynamicSupervisor.start_child(supervisor, spec)
                if stream.random() < 0.3:
                    await DynamicSupervisor.terminate_child(supervisor, pid)
            elif kind == "tasks":
                restart = stream.choice(["temporary", "transient"])
                await TaskSupervisor.start_child(supervisor, plain, moods, "task", restart=restart)
            elif kind == "parts":
                most = len(await Supervisor.which_children(supervisor))
                await PartitionSupervisor.resize(supervisor, stream.randint(0, most))
            elif kind == "sup":
                await manage(moods, stream, supervisor)
    except (CallExit, SupervisionError, StartError, StartIgnored):
        moods.world.sometimes("a supervisor refused")


async def manage(moods: Moods, stream: Random, supervisor: Pid) -> None:
    children = await Supervisor.which_children(supervisor)
    if not children or stream.random() < 0.2:
        await Supervisor.start_child(supervisor, a_child(moods, stream, 2))
        return
    id = stream.choice(children).id
    await Supervisor.terminate_child(supervisor, id)
    if stream.random() < 0.5:
        await trio.sleep(stream.random())
    await stream.choice([Supervisor.restart_child, Supervisor.delete_child])(supervisor, id)


async def client(moods: Moods, stream: Random, until: float) -> None:
    while trio.current_time() < until:
        await ask(moods, stream)
        await trio.sleep(stream.random() / 2)


async def keep_trying(spec: ChildSpec) -> None:
    """Start a child under a new supervisor. A fault may hit the start, but the number of faults is limited."""
    while True:
        try:
            await Supervisor.start([spec], max_restarts=1000)
        except StartError:
            continue
        return


@scenario(faults=Storm(["/*"], count=12, within=8.0, kinds=EVERYWHERE))
@small_bounds
async def runtime_sweep(world: World) -> None:
    """Run a random tree with three clients and forty random actions."""
    moods = Moods(world)
    stream = world.random("tree")
    if stream.random() < 0.3:
        await keep_trying(ChildSpec("rooms", moods.rooms.start_link))
    until = world.params.get("seconds", 8.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_a_tree, moods, stream, until)
        for number in range(3):
            nursery.start_soon(client, moods, world.random(f"client {number}"), until)
        harms = world.random("harm")
        while trio.current_time() < until:
            nursery.start_soon(harm, moods, harms)
            await trio.sleep(harms.expovariate(5))
        nursery.cancel_scope.deadline = trio.current_time() + 5


async def keep_a_tree(moods: Moods, stream: Random, until: float) -> None:
    """Start a tree, and another one after its end."""
    while trio.current_time() < until:
        specs = [a_tree(moods, stream, 0) for _ in range(2)]
        top = None
        # A plan can hang an init, or kill a process that the others wait for.
        with trio.move_on_after(3):
            try:
                top = await Supervisor.start(specs, max_restarts=20, max_seconds=5.0)
            except StartError:
                moods.world.sometimes("a tree did not start")
        if top is not None:
            await wait_exit(top)
            moods.world.sometimes("a whole tree ended")
        await trio.sleep(0.1)
