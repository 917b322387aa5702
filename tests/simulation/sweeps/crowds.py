"""Two scenarios: crowds of more processes than one scheduler turn can wake, and agents that several tasks use."""

from __future__ import annotations

from itertools import zip_longest
from random import Random
from typing import Any

import trio

from actors import (
    KILL,
    NORMAL,
    Agent,
    CallExit,
    Crash,
    GenServer,
    Pid,
    ServerExit,
    cast,
    receive,
    run_threadsafe,
    send,
    send_exit,
    send_threadsafe,
    spawn,
)
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.model import Life, Model

__all__ = ["agents", "crowds"]

# The size of one batch of wake-ups: BURST in actors/_kernel/mailbox.py.
ONE_TURN = 128


class Member:
    """One process of a crowd, and the messages that the process must get."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self.crowd = crowd
        self.life: Life
        self.number = number
        self.got: list[Any] = []
        self.expected: list[Any] = []

    def take(self, message: Any) -> None:
        model, index = self.crowd.model, len(self.got)
        model.expect(not self.life.doomed, f"{model.who(self.life)} got {message!r} after its kill")
        first = self.expected[index] if index < len(self.expected) else None
        model.same(self.life, "its next message", message, first)
        self.got.append(message)
        self.crowd.woken[self] = None

    async def run(self) -> None:
        stream = self.crowd.world.random("member", self.number)
        while True:
            if stream.random() < 0.3:
                try:
                    self.take(await receive(timeout=stream.choice([0.05, 0.5])))
                except trio.TooSlowError:
                    late = len(self.got) < len(self.expected)
                    model = self.crowd.model
                    model.expect(not late, f"{model.who(self.life)} overlooked its message")
            else:
                self.take(await receive())


class Seat(GenServer[None]):
    """A member of a crowd that is a server."""

    async def init(self, member: Member) -> None:
        self.member = member

    async def handle_cast(self, message: Any) -> None:
        self.member.take(message)

    async def handle_info(self, message: Any) -> None:
        self.member.take(message)


class Crowd:
    """Many processes that get the same message at once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model = Model(world)
        self.woken: dict[Member, None] = {}
        self.members: list[Member] = []
        self.sent = 0

    async def fill(self, size: int) -> None:
        for number in range(size):
            member = Member(self, number)
            if number % 3:
                pid = spawn(member.run, label=f"member{number}")
                member.life = self.model.born(pid, f"member{number}")
            else:
                member.life = Life(self.world.runtime.pid, f"seat{number}")
                pid = await Seat.start(member, label=f"seat{number}")
                member.life = self.model.born(pid, f"seat{number}")
            self.members.append(member)

    def broadcast(self, stream: Random) -> None:
        """Send one message to all members, or to a random half of them."""
        self.sent += 1
        share = stream.choice([1.0, 1.0, 0.5])
        for member in stream.sample(self.members, int(len(self.members) * share)):
            if member.life.alive:
                member.expected.append(self.sent)
            if stream.random() < 0.5 and not member.number % 3:
                cast(member.life.pid, self.sent)
            else:
                send(member.life.pid, self.sent)

    def end_some(self, stream: Random) -> None:
        for member in stream.sample(self.members, 9):
            reason = stream.choice([KILL, "enough"])
            self.model.signal(self.world.runtime.pid, member.life, reason, linked=False)
            send_exit(member.life.pid, reason)

    async def watch_turns(self) -> None:
        """Check during 30 turns of the scheduler that each turn wakes only a part of the crowd."""
        for _ in range(30):
            self.woken.clear()
            await trio.lowlevel.checkpoint()
            # The runtime may wake the batches of two turns between two steps of this task.
            self.model.expect(
                len(self.woken) <= 4 * ONE_TURN,
                f"{len(self.woken)} processes took a message in one turn of the scheduler",
            )

    def rest(self) -> None:
        """Check that every living process has taken all of its messages. Call this only while no task can run."""
        for member in self.members:
            if member.life.alive and not member.life.doomed:
                late = member.expected[len(member.got) :]
                self.model.expect(
                    not late, f"{self.model.who(member.life)} sleeps, and has not taken {late[:1]}"
                )


@scenario()
@small_bounds
async def crowds(world: World) -> None:
    """Send messages to many processes at once."""
    crowd, stream = Crowd(world), world.random("crowd")
    with crowd.model:
        await crowd.fill(stream.choice([60, 140, 300, 700]))
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                if stream.random() < 0.4:
                    nursery.start_soon(crowd.watch_turns)
                    # Let the watcher begin before the messages.
                    await trio.lowlevel.checkpoint()
                for _ in range(stream.choice([1, 1, 2, 3])):
                    crowd.broadcast(stream)
                    if stream.random() < 0.3:
                        crowd.end_some(stream)
                    if stream.random() < 0.3:
                        await trio.lowlevel.checkpoint()
                await world.settle()
                crowd.rest()
                await trio.sleep(stream.choice([0.05, 0.5]))
        world.sometimes("a crowd was larger than a turn", len(crowd.members) > 4 * ONE_TURN)
    world.check(crowd.model.problem is None, str(crowd.model.problem))


class Stock:
    """The model of one agent and of its value."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model = Model(world)
        self.until = world.params.get("seconds", 4.0)
        self.life: Life
        self.value = 0

    def add(self, value: int, number: int) -> int:
        self.model.same(self.life, "its value", value, self.value)
        self.value += number
        return value + number

    def swap(self, value: int, number: int) -> Any:
        self.model.same(self.life, "its value", value, self.value)
        self.value = number
        return value, number

    def fail(self, value: int, number: int) -> Any:
        error = ValueError(f"number {number}")
        self.life.ending = Crash(error)
        raise error


async def agent(stock: Stock) -> Pid:
    async def start() -> Pid:
        return await Agent.start(lambda: 0, label="stock")

    stock.value = 0
    pid = await start()
    stock.life = stock.model.born(pid, "stock")
    return pid


async def shopper(stock: Stock, number: int) -> None:
    stream, model = stock.world.random("shopper", number), stock.model
    while trio.current_time() < stock.until:
        await trio.sleep(stream.choice([0, 0.01, 0.1]))
        if not stock.life.alive:
            continue
        amount, life = stream.randrange(100), stock.life
        pid, chance = life.pid, stream.random()
        try:
            if chance < 0.3:
                await Agent.update(pid, stock.add, amount)
            elif chance < 0.5:
                got = await Agent.get_and_update(pid, stock.swap, amount)
                model.expect(type(got) is int, f"get_and_update returned {got!r}")
            elif chance < 0.7:
                Agent.cast(pid, stock.add, amount)
            elif chance < 0.95:
                got = await Agent.get(pid, lambda value: (value, stock.value))
                model.same(life, "the result of get", got[0], got[1])
            else:
                await Agent.update(pid, stock.fail, amount)
                model.fail(f"{model.who(life)} survived a function that raised")
        except ServerExit as error:
            model.same(life, "the reason of ServerExit", error.reason, life.reason)
        except CallExit as error:
            model.expect(not life.alive, f"{model.who(life)} lives, but: {error}")


class Threads:
    """Bursts of calls from other threads. A simulation has no threads, so this class fills the queue of the calls."""

    def __init__(self, world: World, model: Model) -> None:
        self.world, self.model = world, model
        self.stream = world.random("threads")
        self.expected: list[int] = []
        self.made: list[int] = []
        self.failed: list[Any] = []
        self.failures: list[int] = []
        world.runtime.telemetry.attach(
            ("actors", "threads", "failed"), lambda e, m, a: self.failed.append(*a["args"])
        )

    def call(self, number: int) -> None:
        """Record that the runtime makes the call with this number. Some calls fail."""
        self.made.append(number)
        if number in self.failures:
            raise OSError(number)

    def burst(self) -> None:
        """Put some calls into the queue at once, often slightly more or fewer than the runtime makes in one turn."""
        queue, stream = self.world.runtime.from_threads, self.stream
        queue.limit = limit = stream.choice([1024, 1024, 90])
        for _ in range(stream.choice([1, 5, 63, 64, 65, 128, 130, 300])):
            number = len(self.expected)
            waiting = self.world.runtime.statistics()["thread_calls_waiting"]
            if stream.random() < 0.03:
                self.failures.append(number)
            taken = True
            if limit < 1024 or stream.random() < 0.3:
                taken = queue.put_nowait(self.call, number)
                self.model.same(
                    "the queue for threads", f"put_nowait of call {number}", taken, waiting < limit
                )
            else:
                queue.put(self.call, number)
            if taken:
                self.expected.append(number)
            elif number in self.failures:
                self.failures.remove(number)

    async def run(self) -> None:
        """Put bursts into the queue, and check that the runtime makes all calls in order."""
        for _ in range(4):
            self.burst()
            if self.stream.random() < 0.4:
                await trio.lowlevel.checkpoint()
                self.burst()
            if self.stream.random() < 0.5:
                await self.world.runtime.from_threads.caught_up()
            else:
                await trio.sleep(0.1)
                await self.world.settle()
            self.compare()

    def compare(self) -> None:
        same, who = self.model.same, "the queue for threads"
        for made, expected in zip_longest(self.made, self.expected):
            same(who, "the next call", made, expected)
        same(who, "the failed calls", self.failed, self.failures)
        counted = self.world.runtime.statistics()
        same(who, "the waiting calls", counted["thread_calls_waiting"], 0)
        self.world.sometimes("a burst of calls took several turns", len(self.made) > 64)


@scenario()
@small_bounds
async def agents(world: World) -> None:
    """Use agents from several tasks. Also send messages as other threads would."""
    stock = Stock(world)
    model = stock.model
    notes: list[int] = []

    async def reader() -> None:
        while len(notes) < 40:
            notes.append(await receive())
        life.ending = NORMAL

    with model:
        await agent(stock)
        pid = spawn(reader, label="reader")
        life = model.born(pid, "reader")
        await Threads(world, model).run()
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(shopper, stock, number)
            for number in range(40):
                # This is the queue for other threads. A simulation has none, so the scenario uses the queue itself.
                if number % 3:
                    world.runtime.from_threads.put(send, pid, number)
                else:
                    run_threadsafe(world.runtime, world.runtime.from_threads.put, send, pid, number)
                if not number % 7:
                    await trio.sleep(0.05)
            # In the runtime's thread, this message does not use the queue. So it must not overtake the queue.
            await world.runtime.from_threads.caught_up()
            send_threadsafe(world.runtime, pid, 40)
            while trio.current_time() < stock.until:
                await trio.sleep(0.1)
                if not stock.life.alive:
                    await agent(stock)
        await world.settle()
        model.same("reader", "the order of its messages", notes, list(range(40)))
    world.check(model.problem is None, str(model.problem))
