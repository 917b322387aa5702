"""Single and repeated timers, and their cancellation. A model predicts the time of each message."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Any

import trio
from attrs import define

from actors import (
    KILL,
    NORMAL,
    Instrument,
    Pid,
    TimerRef,
    alias,
    cancel_timer,
    read_timer,
    receive,
    register,
    send_after,
    send_every,
    send_exit,
    spawn,
    unalias,
    unregister,
)
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.model import Life, Model

__all__ = ["timers"]

NAMES = ("x", "y")
EPSILON = 1e-6
DELAYS = (0, 0.001, 0.01, 0.05, 0.05, 0.1, 0.3, 1.0, 3.0, math.inf)


@define(eq=False)
class Alarm:
    """One timer in the model."""

    number: int
    address: object
    due: float
    # The position among timers with the same deadline. 0 if the model does not know it.
    order: int
    interval: float | None
    ref: TimerRef | None = None
    pending: bool = True
    # The timers that an instrument cancels when this timer fires.
    cancels: Sequence[TimerRef] = ()

    def __repr__(self) -> str:
        every = "" if self.interval is None else f" every {self.interval:g} s"
        return f"<timer {self.number} for {self.address!r}, due at {self.due:g} s{every}>"


class Clockwork(Instrument):
    """The timers of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model = Model(world)
        self.model.watch_all = True
        # A stall of the loop delays the end of a process.
        self.model.patience = 1.0
        self.alarms: dict[int, Alarm] = {}
        self.dead: list[Pid] = []
        self.hoarders: list[Life] = []
        self.aliases: dict[Any, Life | None] = {}
        self.orders = 0
        self.count = 0
        self.until = world.params.get("seconds", 8.0)
        # A timer may be late by the quantum of the clock, and later only until the loop has recovered from a stall.
        self.stalled_until = 0.0
        self.stalls = world.random("stalls").random() < 0.5
        world.runtime.add_instrument(self)
        self.model.at_end.append(self.ends)

    @property
    def now(self) -> float:
        return trio.current_time()

    def ends(self, life: Life) -> None:
        self.dead.append(life.pid)
        for alarm in self.alarms.values():
            if alarm.address is life.pid:
                alarm.pending = False
        for address, owner in self.aliases.items():
            if owner is life:
                self.aliases[address] = None

    def owner(self, address: Any) -> Life | None:
        if address in self.aliases:
            return self.aliases[address]
        return self.model.resolve(address)

    def order(self) -> int:
        self.orders += 1
        return self.orders

    # Messages that arrive

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> None:
        if not (isinstance(message, tuple) and message[0] == "alarm"):
            return
        alarm, model, now = self.alarms.get(message[1]), self.model, self.now
        if alarm is None:
            model.fail(f"the timer {message[1]} fires at {now:g} s, but it was cancelled")
            return
        model.expect(alarm.pending, f"{alarm!r} fires, but it has fired or was cancelled")
        model.expect(now >= alarm.due - EPSILON, f"{alarm!r} fires too early, at {now:g} s")
        self.in_time(alarm)
        roughly = now < self.stalled_until + 0.5
        for other in self.alarms.values():
            if roughly and not (alarm.order and other.order):
                # A repeated timer may have skipped firings in a stall, so the model cannot compare the two deadlines.
                continue
            if other.pending and other is not alarm and self.owner(other.address) is not None:
                first = other.due < alarm.due - EPSILON or (
                    other.due == alarm.due and 0 < other.order < alarm.order
                )
                model.expect(not first, f"{alarm!r} fires before {other!r}")
        owner = self.owner(alarm.address)
        model.same(alarm, "the receiver", receiver, owner and owner.pid)
        if owner is not None:
            owner.mailbox.append(message)
        self.fired(alarm)
        if alarm.cancels:
            # The runtime is still firing its due timers. Even then, an instrument may cancel any timer.
            for ref in alarm.cancels:
                cancel_timer(ref)
            alarm.cancels = ()
            self.world.sometimes("a timer cancelled many others")

    def in_time(self, alarm: Alarm) -> None:
        due = max(alarm.due, self.stalled_until) + self.world.knobs.quantum + EPSILON
        self.model.expect(self.now <= due, f"{alarm!r} is late, at {self.now:g} s")

    def fired(self, alarm: Alarm) -> None:
        """Record one firing. Read the new due time of a repeated timer."""
        if alarm.interval is None:
            alarm.pending = False
            return
        assert alarm.ref is not None
        left = read_timer(alarm.ref)
        if left is None:
            self.model.fail(f"{alarm!r} has fired and does not run any more")
            return
        due = self.now + left
        if left <= EPSILON:
            # The next firing is due now, or a stall has made it late. Compute its due time from the interval.
            due = alarm.due + (self.now - alarm.due + EPSILON) // alarm.interval * alarm.interval
        times = (due - alarm.due) / alarm.interval
        self.model.expect(
            times > 0.5 and abs(times - round(times)) < 1e-3,
            f"{alarm!r} drifts: it is due next at {due:g} s",
        )
        self.model.expect(
            left <= alarm.interval + EPSILON,
            f"{alarm!r} has fired, and is due again only after {left:g} s",
        )
        # The new due time is only approximate, so the position among equal deadlines is unknown.
        alarm.due, alarm.order = due, 0

    # What the processes and tasks do

    def an_address(self, stream: Random) -> object:
        chance = stream.random()
        if chance < 0.2:
            return stream.choice(NAMES)
        if chance < 0.3 and self.aliases:
            return stream.choice(list(self.aliases)[-3:])
        if chance < 0.4 and self.dead:
            return stream.choice(self.dead[-3:])
        return stream.choice(list(self.model.lives)) if self.model.lives else "x"

    def begin(self, stream: Random) -> None:
        self.count += 1
        address, seconds = self.an_address(stream), stream.choice(DELAYS)
        repeats = stream.random() < 0.3 and 0 < seconds < math.inf
        if self.stalls and not isinstance(address, Pid):
            # The model could not notice a firing that a stall skips, because the address may have no process.
            repeats = False
        if repeats:
            seconds = max(seconds, 0.05)
        alarm = Alarm(
            self.count,
            address,
            self.now + seconds,
            self.order(),
            seconds if repeats else None,
        )
        alarm.pending = not isinstance(address, Pid) or address in self.model.lives
        self.alarms[alarm.number] = alarm
        begin = send_every if repeats else send_after
        alarm.ref = begin(address, ("alarm", alarm.number), seconds)

    def begin_many(self, stream: Random) -> None:
        """Start many timers and cancel most of them, so that the runtime removes cancelled timers from its queue."""
        for _ in range(600):
            self.count += 1
            seconds = stream.choice([0.3, 1.0, 2.0])
            address = stream.choice(list(self.model.lives)) if self.model.lives else None
            if address is None:
                return
            alarm = Alarm(self.count, address, self.now + seconds, self.order(), None)
            alarm.ref = send_after(address, ("alarm", alarm.number), seconds)
            if stream.random() < 0.95:
                cancel_timer(alarm.ref)
            else:
                self.alarms[alarm.number] = alarm
        self.world.sometimes("many timers were cancelled")

    def cancel_in_a_timer(self, stream: Random) -> None:
        """Start some timers that are due together. When the first timer fires, an instrument cancels 300 others."""
        lives = [pid for pid, each in self.model.lives.items() if not each.doomed]
        if not lives:
            return
        # All these timers have the same receiver, so the end of that process cancels all of them.
        pid, refs = stream.choice(lives), []
        for _ in range(300):
            self.count += 1
            refs.append(send_after(pid, ("alarm", self.count), 2.0))
        seconds = stream.choice([0.05, 0.1, 0.3])
        first = self.start_one(pid, seconds, False)
        first.cancels = refs
        for _ in range(6):
            self.start_one(stream.choice(lives), seconds, stream.random() < 0.5)

    def hoard(self, stream: Random) -> None:
        """Start a process that has many timers, and that outlives its kill grace when it is killed.

        After the kill grace, the runtime declares the process dead. It does so when one of its own timers fires, and
        it cancels all timers of the process at that moment.
        """
        self.count += 1
        label = f"hoarder{self.count}"
        grace = self.world.knobs.kill_grace

        async def run() -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(3 * grace)

        pid = spawn(run, label=label)
        life = self.model.born(pid, label)
        life.stubborn = 3 * grace
        for _ in range(300):
            self.start_one(pid, grace + stream.choice([0.0, 0.5, 1.0]), stream.random() < 0.1)
        self.hoarders.append(life)

    def end_a_hoarder(self, stream: Random) -> None:
        """Kill a hoarder, and start other timers that are due at its end or soon after."""
        life = self.hoarders.pop()
        self.model.signal(self.world.runtime.pid, life, KILL, linked=False)
        send_exit(life.pid, KILL)
        others = [pid for pid, each in self.model.lives.items() if not each.doomed]
        for _ in range(8 if others else 0):
            seconds = self.world.knobs.kill_grace + stream.choice([0.0, 0.0, 0.05])
            self.start_one(stream.choice(others), seconds, stream.random() < 0.4)
        self.world.sometimes("a process with many timers became a zombie")

    def start_one(self, pid: Pid, seconds: float, repeats: bool) -> Alarm:
        self.count += 1
        interval = seconds if repeats else None
        alarm = Alarm(self.count, pid, self.now + seconds, self.order(), interval)
        self.alarms[alarm.number] = alarm
        begin = send_every if repeats else send_after
        alarm.ref = begin(pid, ("alarm", alarm.number), seconds)
        return alarm

    def look(self, stream: Random) -> None:
        """Read or cancel a timer."""
        if not self.alarms:
            return
        alarm = stream.choice(list(self.alarms.values())[-12:])
        assert alarm.ref is not None
        cancels = stream.random() < 0.6
        self.settle(alarm)
        left = (cancel_timer if cancels else read_timer)(alarm.ref)
        what = "cancel_timer" if cancels else "read_timer"
        if not alarm.pending:
            self.model.expect(left is None, f"{what}({alarm!r}) is {left}, but it does not run")
        elif left is None:
            self.model.fail(f"{what}({alarm!r}) is None, but it runs")
        else:
            expected = max(0.0, alarm.due - self.now)
            right = left == expected or abs(left - expected) < EPSILON
            self.model.expect(right, f"{what}({alarm!r}) is {left:g}, expected {expected:g}")
        if cancels:
            alarm.pending = False

    def settle(self, alarm: Alarm) -> None:
        """Record the firing of a timer whose address has no process. Only `read_timer` shows this firing."""
        due = alarm.pending and alarm.due <= self.now + EPSILON
        if not due or self.owner(alarm.address) is not None or alarm.ref is None:
            return
        left = read_timer(alarm.ref)
        moved = left is None or self.now + left - alarm.due > (alarm.interval or math.inf) / 2
        if moved:
            self.fired(alarm)

    def settle_all(self, address: object) -> None:
        """Call `settle` for the timers of an address. Use this before the address gets a process."""
        for alarm in self.alarms.values():
            if alarm.address == address:
                self.settle(alarm)

    def rest(self) -> None:
        for alarm in self.alarms.values():
            self.settle(alarm)
            if alarm.pending and self.owner(alarm.address) is not None:
                due = max(alarm.due, self.stalled_until) + self.world.knobs.quantum + EPSILON
                self.model.expect(self.now <= due, f"{alarm!r} has not fired at {self.now:g} s")


class Sleeper:
    """A process that starts timers and receives their messages."""

    def __init__(self, clockwork: Clockwork, number: int) -> None:
        self.clockwork = clockwork
        self.model = clockwork.model
        self.stream = clockwork.world.random("sleeper", number)
        self.life: Life

    async def run(self) -> None:
        clockwork, stream, life = self.clockwork, self.stream, self.life
        while clockwork.now < clockwork.until and stream.random() < 0.96:
            await self.receive()
            chance = stream.random()
            if chance < 0.5:
                clockwork.begin(stream)
            elif chance < 0.8:
                clockwork.look(stream)
            elif chance < 0.85:
                self.names(stream.choice(NAMES))
            elif chance < 0.9:
                clockwork.aliases[alias()] = life
            elif clockwork.aliases:
                address = stream.choice(list(clockwork.aliases))
                mine = clockwork.aliases[address] is life
                self.model.same(life, f"unalias({address!r})", unalias(address), mine)
                if mine:
                    clockwork.aliases[address] = None
        life.ending = NORMAL

    def names(self, name: str) -> None:
        clockwork, model, life = self.clockwork, self.model, self.life
        if name in model.names:
            unregister(name)
            model.free_name(name)
        elif life.name is None:
            clockwork.settle_all(name)
            register(name)
            model.give_name(life, name)

    async def receive(self) -> None:
        life, clockwork = self.life, self.clockwork
        timeout = self.stream.choice([0, 0.02, 0.1, 0.5])
        began = clockwork.now
        try:
            message = await receive(timeout=timeout)
        except trio.TooSlowError:
            self.model.expect(
                not life.mailbox, f"{self.model.who(life)} overlooked {life.mailbox[:1]}"
            )
            early = clockwork.now < began + timeout - EPSILON
            self.model.expect(not early, f"{self.model.who(life)} gave up early")
        else:
            known = life.mailbox.pop(0) if life.mailbox else None
            self.model.same(life, "its message", message, known)


async def controller(clockwork: Clockwork) -> None:
    """Start and kill processes, use timers from a plain task, and stall the loop."""
    stream, model = clockwork.world.random("controller"), clockwork.model
    crowded = stream.random() < 0.25
    hoards = stream.random() < 0.08
    while clockwork.now < clockwork.until:
        await trio.sleep(stream.choice([0, 0.05, 0.1, 0.3]))
        if crowded and clockwork.now > 1:
            crowded = False
            if stream.random() < 0.5:
                clockwork.begin_many(stream)
            else:
                clockwork.cancel_in_a_timer(stream)
        if hoards and clockwork.now > 0.5:
            hoards = False
            clockwork.hoard(stream)
        elif clockwork.hoarders:
            clockwork.end_a_hoarder(stream)
        if len(model.lives) < 3:
            clockwork.count += 1
            sleeper = Sleeper(clockwork, clockwork.count)
            pid = spawn(sleeper.run, label=f"sleeper{clockwork.count}")
            sleeper.life = model.born(pid, f"sleeper{clockwork.count}")
        chance = stream.random()
        if chance < 0.35:
            clockwork.begin(stream)
        elif chance < 0.6:
            clockwork.look(stream)
        elif chance < 0.68:
            pid = stream.choice(list(model.lives))
            model.signal(clockwork.world.runtime.pid, model.lives[pid], KILL, linked=False)
            send_exit(pid, KILL)
        elif chance < 0.72 and clockwork.stalls:
            seconds = stream.choice([0.07, 0.5])
            clockwork.world.stall(seconds)
            clockwork.stalled_until = clockwork.now
            clockwork.world.sometimes("the loop was stalled")
        else:
            await clockwork.world.settle()
            model.rest()
            clockwork.rest()


@scenario()
@small_bounds
async def timers(world: World) -> None:
    """Start, read and cancel timers at random, and compare them with the model."""
    clockwork = Clockwork(world)
    with clockwork.model:
        await controller(clockwork)
        await trio.sleep(4)
        await world.settle()
        clockwork.rest()
        for alarm in clockwork.alarms.values():
            assert alarm.ref is not None
            cancel_timer(alarm.ref)
            alarm.pending = False
        await trio.sleep(6)
        await world.settle()
        clockwork.model.same("the runtime", "timers", world.runtime.statistics()["timers"], 0)
    world.check(clockwork.model.problem is None, str(clockwork.model.problem))
