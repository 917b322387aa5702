"""Bugs in programs: registries, queues, locks and protocols with typical mistakes.

These scenarios replace nothing in Ashtree. Each scenario is a program with a bug.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import trio

from actors import (
    CallExit,
    Down,
    GenServer,
    NoReply,
    Pid,
    Reply,
    Sender,
    call,
    cast,
    current_pid,
    is_alive,
    monitor,
    receive,
    reply,
    send,
    spawn,
)
from supervision import DynamicSupervisor, child_spec, process_spec
from supervision.laboratory.chaos.faults.plan import Storm
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.planted.ground import grow
from tests.simulation.planted.planting import Planted

__all__ = ["BUGS"]

THREE = ("a", "b", "c")


# A registry that forgets by name


class Names(GenServer[dict[str, Pid]]):
    """The owner of a table of names. Processes write into the table. The owner removes ended processes, with a bug."""

    async def init(self, table: dict[str, Pid]) -> None:
        self.state = table
        self.watching: dict[Any, str] = {}

    async def handle_cast(self, message: Any) -> None:
        name, pid = message
        self.watching[monitor(pid)] = name

    async def handle_info(self, message: Any) -> None:
        if isinstance(message, Down):
            await trio.lowlevel.checkpoint()
            # The bug: the name may already belong to the successor of the ended process.
            self.state.pop(self.watching.pop(message.ref), None)


class Named(GenServer[None]):
    """A server that writes its name into the table."""

    async def init(self, table: dict[str, Pid], name: str) -> None:
        table[name] = current_pid()
        cast("names", (name, current_pid()))


@scenario(faults=Storm([f"/top/{name}" for name in THREE], count=8, within=8.0))
async def a_registry_that_forgets_by_name(world: World) -> None:
    table: dict[str, Pid] = {}
    await grow(
        child_spec(Names, table, kwargs={"name": "names"}),
        *(child_spec(Named, table, name, id=name) for name in THREE),
    )
    await trio.sleep(9)
    await world.recovered(
        "everybody is found under their name",
        lambda: all(name in table and is_alive(table[name]) for name in THREE),
        within=1,
    )


# A look-up, and a start if it finds nothing


class Room(GenServer[None]):
    """A room. Each topic must have at most one room."""

    async def init(self, topic: str, open_rooms: dict[str, int]) -> None:
        open_rooms[topic] = open_rooms.get(topic, 0) + 1


@scenario()
async def a_lookup_or_start_race(world: World) -> None:
    """Two callers look for a room at the same time. Neither finds a room, so each of them starts one."""
    known: dict[str, Pid] = {}
    open_rooms: dict[str, int] = {}
    world.invariant(
        "one room for each topic",
        lambda: next((f"{n} rooms for {topic}" for topic, n in open_rooms.items() if n > 1), None),
    )
    pool = await DynamicSupervisor.start(name="rooms")

    async def join(chance: Any) -> None:
        await trio.sleep(chance.random() * 3)
        topic = chance.choice(THREE)
        if topic not in known:
            room = child_spec(Room, topic, open_rooms)
            known[topic] = await DynamicSupervisor.start_child(pool, room)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(join, world.random(f"client {number}"))


# A lost wake-up


class Queue:
    """Jobs for one worker, which sleeps while there are no jobs. The queue has the bug."""

    def __init__(self) -> None:
        self.jobs: deque[int] = deque()
        self.sleeping: Pid | None = None

    def put(self, job: int) -> None:
        self.jobs.append(job)
        if self.sleeping is not None:
            send(self.sleeping, "wake up")
            self.sleeping = None

    async def take(self) -> int:
        while not self.jobs:
            # The bug: a job that arrives during this wait wakes no worker.
            await trio.lowlevel.checkpoint()
            self.sleeping = current_pid()
            await receive()
        return self.jobs.popleft()


@scenario(faults=Storm(["/top/worker"], count=5, within=5.0, kinds=("slow", "delay_message")))
async def a_lost_wake_up(world: World) -> None:
    queue, done = Queue(), [0]
    chance = world.random("jobs")

    async def work() -> None:
        while True:
            await queue.take()
            done[0] += 1

    await grow(process_spec(work, id="worker"))
    for job in range(1, 11):
        await trio.sleep(chance.choice([0, 0.01, 0.1, 1]))
        queue.put(job)
    await world.recovered("every job is done", lambda: done[0] == 10, within=10)


# A late answer to an earlier question


class Oracle(GenServer[None]):
    """A server that doubles numbers. Its answers do not contain the question."""

    async def handle_info(self, message: Any) -> None:
        asker, number = message
        send(asker, 2 * number)


@scenario(
    faults=Storm(["/top/oracle"], count=6, within=8.0, kinds=("slow", "delay_message"), longest=2.0)
)
async def a_stale_answer(world: World) -> None:
    """A caller stops waiting for an answer. Then it takes this late answer as the answer to its next question."""
    wrong: list[str] = []
    world.invariant("answers fit their questions", lambda: wrong[0] if wrong else None)

    async def ask() -> None:
        for number in range(16):
            send("oracle", (current_pid(), number))
            try:
                answer = await receive(timeout=0.5)
            except trio.TooSlowError:
                world.sometimes("an answer was late")
                continue
            if answer != 2 * number:
                wrong.append(f"twice {number} is {answer}")
            await trio.sleep(0.5)

    await grow(child_spec(Oracle, kwargs={"name": "oracle"}, id="oracle"))
    spawn(ask)
    await trio.sleep(20)


# A lock whose holder ends


class Lock(GenServer[Any]):
    """A lock for one holder at a time. It has the bug: it does not notice the end of the holder."""

    async def init(self) -> None:
        self.state = None
        self.waiting: deque[Sender] = deque()

    async def handle_call(self, request: Any, sender: Sender) -> NoReply | Reply:
        if request == "give back":
            self.state = None
            while self.waiting:
                following = self.waiting.popleft()
                if reply(following, "yours"):
                    self.state = following.pid
                    break
            return Reply(None)
        if self.state is None:
            self.state = sender.pid
            return Reply("yours")
        self.waiting.append(sender)
        return NoReply()


@scenario(
    faults=Storm([f"/top/{name}" for name in THREE], count=5, within=8.0),
    knobs=Knobs(quantum=0.02),
)
async def a_lock_that_is_never_given_back(world: World) -> None:
    turns = dict.fromkeys(THREE, 0)

    async def work(name: str) -> None:
        while True:
            try:
                await call("lock", "take", timeout=60)
            except CallExit:
                continue
            await trio.sleep(0.1)
            turns[name] += 1
            await call("lock", "give back")
            await trio.sleep(1)

    await grow(
        child_spec(Lock, kwargs={"name": "lock"}, id="lock"),
        *(process_spec(work, name, id=name) for name in THREE),
    )
    await trio.sleep(9)
    before = dict(turns)
    await world.recovered(
        "everybody gets a turn again", lambda: all(turns[n] > before[n] for n in THREE), within=10
    )


BUGS = (
    Planted(
        name="a registry forgets by name, and not by process",
        scenario=a_registry_that_forgets_by_name,
        failure="eventually everybody is found under their name",
    ),
    Planted(
        name="what two look up at a time is started twice",
        scenario=a_lookup_or_start_race,
        failure="invariant one room for each topic",
    ),
    Planted(
        name="a wake-up is lost between the look and the sleep",
        scenario=a_lost_wake_up,
        failure="eventually every job is done",
    ),
    Planted(
        name="a late answer is taken for that to the next question",
        scenario=a_stale_answer,
        failure="invariant answers fit their questions",
    ),
    Planted(
        name="a lock is lost with who holds it",
        scenario=a_lock_that_is_never_given_back,
        failure="eventually everybody gets a turn again",
    ),
)
