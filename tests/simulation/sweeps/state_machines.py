"""State machines with postponed events and both kinds of timeouts. A model predicts the order of their events.

The state methods return random results. The model predicts the next event, its time, and the state that handles it.
"""

from __future__ import annotations

import math
from collections import deque
from random import Random
from typing import Any

import trio
from attrs import define

from actors import (
    KILL,
    NORMAL,
    CallEvent,
    CallExit,
    CallTimeout,
    CastEvent,
    Crash,
    EnterEvent,
    EventTimeout,
    Fail,
    Ignore,
    InfoEvent,
    Instrument,
    KeepState,
    NextState,
    Pid,
    ServerExit,
    StartError,
    StartIgnored,
    StateMachine,
    StateTimeout,
    Stop,
    call,
    cast,
    send,
    send_exit,
    sys,
)
from actors.instrumentation.instrument import payload_of
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.model import Life, Model

__all__ = ["state_machines"]

EPSILON = 1e-6
STATES = ("red", "green", "blue")
NOTHING = object()
ALARM = "the message of the state timeout"


@define(eq=False)
class Order:
    """One event that a client sends."""

    number: int
    kind: str
    answer: Any = NOTHING
    answered_at: float = math.inf

    def __repr__(self) -> str:
        return f"<{self.kind} {self.number}>"


class Queue:
    """The model of one machine."""

    def __init__(self, plant: Plant, label: str) -> None:
        self.plant = plant
        self.model = plant.model
        self.label = label
        self.life: Life
        self.state = ""
        # Enter events and postponed events. The machine handles them before the messages in its mailbox.
        self.waiting: deque[Any] = deque()
        self.postponed: list[Any] = []
        self.mailbox: list[Any] = []
        self.state_due: float | None = None
        self.event_seconds: float | None = None
        self.event_due: float | None = None
        self.stopping: Any = NOTHING
        self.busy = True

    @property
    def who(self) -> str:
        return self.model.who(self.life)

    def arrived(self, message: Any) -> None:
        """Record a message in the machine's mailbox. A message that is no `Order` is a state timeout."""
        payload = payload_of(message)
        if isinstance(payload, Order):
            self.mailbox.append(payload)
        elif type(message).__name__ == "_Alarm":
            now = trio.current_time()
            due = self.state_due
            self.model.expect(
                due is not None, f"{self.who}: a state timeout fires that was cancelled"
            )
            self.model.expect(
                due is None or due - EPSILON <= now <= due + self.model.slack,
                f"{self.who}: a state timeout of {due} s fires at {now:g} s",
            )
            self.state_due = None
            self.mailbox.append(ALARM)

    def delivered(self, state: str, event: Any) -> None:
        """Check that this event is the next one."""
        model, what = self.model, f"{self.who} handles {event!r} in {state}"
        model.expect(self.stopping is NOTHING, f"{what} after it decided to stop")
        model.expect(not self.life.doomed, f"{what} after {self.life.doom!r}")
        model.same(self.life, f"its state for {event!r}", state, self.state)
        identity = self._identity(event)
        if type(event) is not EnterEvent:
            due, self.event_due, self.event_seconds = self.event_due, None, None
        if self.waiting:
            expected = self.waiting.popleft()
            model.same(self.life, "its next event", identity, expected)
            return
        if type(event) is EventTimeout:
            now = trio.current_time()
            early = due is None or now < due - EPSILON
            model.expect(not early, f"{what} at {now:g} s, but it is due at {due}")
            model.expect(not self.mailbox, f"{what} before {self.mailbox[:1]}")
            return
        expected = self.mailbox.pop(0) if self.mailbox else None
        model.same(self.life, "its next event", identity, expected)

    @staticmethod
    def _identity(event: Any) -> Any:
        match event:
            case CallEvent(request):
                return request
            case CastEvent(message) | InfoEvent(message):
                return message
            case StateTimeout():
                return ALARM
        return event

    def decided(self, event: Any, result: Any) -> None:
        """Apply the result of a state method to the model."""
        if isinstance(result, KeepState | NextState):
            if result.postpone:
                self.postponed.append(self._identity(event))
            target = result.state.__name__ if isinstance(result, NextState) else self.state
            if target != self.state:
                self.waiting.extendleft(reversed(self.postponed))
                self.postponed.clear()
                self.waiting.appendleft(EnterEvent(self.state))
                self._cancel_state_timeout()
                self.state = target
            if result.event_timeout is not None:
                limited = result.event_timeout < math.inf
                self.event_seconds = result.event_timeout if limited else None
            if result.state_timeout is not None:
                self._cancel_state_timeout()
                if result.state_timeout < math.inf:
                    self.state_due = trio.current_time() + result.state_timeout
        if not self.waiting and self.event_seconds is not None:
            self.event_due = trio.current_time() + self.event_seconds

    def _cancel_state_timeout(self) -> None:
        self.state_due = None
        if ALARM in self.mailbox:
            self.mailbox.remove(ALARM)
            self.plant.world.sometimes("a state timeout was cancelled after it fired")

    def rest(self) -> None:
        if self.busy or self.life.doomed or self.stopping is not NOTHING or not self.life.alive:
            return
        now = trio.current_time()
        self.model.expect(not self.waiting, f"{self.who} sleeps although {self.waiting} wait")
        self.model.expect(not self.mailbox, f"{self.who} sleeps although {self.mailbox[:1]} waits")
        for what, due in (("StateTimeout", self.state_due), ("EventTimeout", self.event_due)):
            late = due is not None and now > due + self.model.slack
            self.model.expect(not late, f"{self.who} got no {what}, which was due at {due} s")


class Light(StateMachine):
    """A machine with three states that all behave alike and return random results."""

    async def begin(self, plant: Plant, queue: Queue) -> Any:
        self.plant, self.queue, self.model = plant, queue, plant.model
        self.stream = plant.world.random(queue.label)
        chance = self.stream.random()
        if chance < 0.1:
            queue.life.ending = NORMAL
            return Ignore() if chance < 0.05 else Fail("no power")
        queue.state = self.stream.choice(STATES)
        queue.waiting.append(EnterEvent(None))
        result = NextState(getattr(self, queue.state), **self.timeouts())
        state = queue.state
        queue.decided(None, result)
        self.model.same(queue.life, "its first state", state, queue.state)
        queue.busy = False
        return result

    async def red(self, event: Any) -> Any:
        return await self.handle("red", event)

    async def green(self, event: Any) -> Any:
        return await self.handle("green", event)

    async def blue(self, event: Any) -> Any:
        return await self.handle("blue", event)

    def timeouts(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in ("state_timeout", "event_timeout"):
            if self.stream.random() < 0.35:
                found[name] = self.stream.choice([0, 0.05, 0.2, 0.2, 1, math.inf])
        return found

    async def handle(self, state: str, event: Any) -> Any:
        stream, queue = self.stream, self.queue
        queue.delivered(state, event)
        queue.busy = True
        if stream.random() < 0.2:
            await trio.sleep(stream.choice([0, 0.1, 0.3]))
            if queue.life.doomed:
                await trio.lowlevel.checkpoint()
        result = self.choose(event)
        queue.busy = False
        queue.decided(event, result)
        return result

    def choose(self, event: Any) -> Any:
        stream, queue, entering = self.stream, self.queue, type(event) is EnterEvent
        chance = stream.random()
        if chance < 0.02:
            error = ValueError(f"{queue.label} fails")
            queue.stopping = queue.life.ending = Crash(error)
            raise error
        reply = self.reply(event) if stream.random() < 0.7 else {}
        if chance < 0.04:
            queue.stopping = queue.life.ending = reason = stream.choice([NORMAL, "odd"])
            return Stop(reason, **reply)
        if chance < 0.15 and isinstance(event, EnterEvent | InfoEvent):
            return None
        if entering:
            return KeepState(**self.timeouts())
        order = queue._identity(event)
        if isinstance(order, Order) and stream.random() < 0.3:
            if reply:
                order.answer, order.answered_at = NOTHING, math.inf
            reply = {"postpone": True}
        if chance < 0.5:
            return KeepState(**reply, **self.timeouts())
        target = getattr(self, stream.choice(STATES))
        return NextState(target, **reply, **self.timeouts())

    def reply(self, event: Any) -> dict[str, Any]:
        if not isinstance(event, CallEvent):
            return {}
        event.request.answer = event.request.number
        event.request.answered_at = trio.current_time()
        return {"reply": event.request.number}

    async def terminate(self, reason: Any) -> None:
        queue = self.queue
        self.model.same(queue.life, "the reason of terminate", reason, queue.stopping)
        self.model.same(queue.life, "its state in terminate", self.state, queue.state)
        if self.stream.random() < 0.5:
            await trio.sleep(0.1)


class Plant(Instrument):
    """The machines of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model = Model(world)
        self.count = 0
        self.queues: dict[Pid, Queue] = {}
        self.expected: dict[str, Queue] = {}
        self.until = world.params.get("seconds", 8.0)
        world.runtime.add_instrument(self)

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        queue = self.expected.pop(label, None)
        if queue is not None:
            queue.life = self.model.born(pid, label)
            self.queues[pid] = queue

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> None:
        queue = self.queues.get(receiver)
        if queue is not None:
            queue.arrived(message)

    def living(self) -> list[Queue]:
        return [queue for queue in self.queues.values() if queue.life.alive]


async def client(plant: Plant, number: int) -> None:
    stream, model = plant.world.random("client", number), plant.model
    while trio.current_time() < plant.until:
        await trio.sleep(stream.choice([0, 0.05, 0.1, 0.3]))
        living = plant.living()
        if len(living) < 2:
            await build(plant)
            continue
        queue = stream.choice(living)
        chance = stream.random()
        plant.count += 1
        if chance < 0.4:
            await ask(plant, stream, queue)
        elif chance < 0.65:
            cast(queue.life.pid, Order(plant.count, "cast"))
        elif chance < 0.9:
            send(queue.life.pid, Order(plant.count, "info"))
        elif chance < 0.93:
            model.signal(plant.world.runtime.pid, queue.life, KILL, linked=False)
            send_exit(queue.life.pid, KILL)
        else:
            await look(plant, queue)


async def build(plant: Plant) -> None:
    plant.count += 1
    queue = Queue(plant, f"light{plant.count}")
    plant.expected[queue.label] = queue
    try:
        await Light.start_link(plant, queue, label=queue.label)
    except (StartError, StartIgnored):
        plant.model.expect(queue.busy, f"{queue.who} began, and its start failed")
        plant.model.expect(not queue.life.alive, f"{queue.who} lives, but its start failed")


async def ask(plant: Plant, stream: Random, queue: Queue) -> None:
    order, timeout = Order(plant.count, "call"), stream.choice([0.05, 0.2, 2.0])
    began, model = trio.current_time(), plant.model
    what = f"call({queue.who}, {order!r}, timeout={timeout})"
    try:
        answer = await call(queue.life.pid, order, timeout=timeout)
    except CallTimeout:
        in_time = order.answered_at < began + timeout - EPSILON and not queue.life.doomed
        model.expect(not in_time, f"{what} timed out, but was answered at {order.answered_at:g} s")
    except ServerExit as error:
        model.same(what, "the reason of ServerExit", error.reason, queue.life.reason)
        in_time = order.answer is not NOTHING and not queue.life.doomed
        model.expect(not in_time, f"{what} failed, but was answered at {order.answered_at:g} s")
    else:
        model.same(what, "the answer", answer, order.answer)


async def look(plant: Plant, queue: Queue) -> None:
    """Read the state of a machine."""
    calm = not queue.busy and not queue.mailbox and not queue.waiting
    if queue.event_due is not None:
        # Send no system request now, because it would restart the event timeout.
        return
    expected = queue.state
    try:
        got = await sys.get_state(queue.life.pid)
    except CallExit:
        return
    if calm and queue.state == expected:
        plant.model.same(queue.life, "the result of get_state", got, expected)


async def auditor(plant: Plant) -> None:
    stream = plant.world.random("auditor")
    while trio.current_time() < plant.until:
        await trio.sleep(stream.random() / 3)
        await plant.world.settle()
        for queue in plant.living():
            queue.rest()


@scenario()
@small_bounds
async def state_machines(world: World) -> None:
    """Send events to random machines, and compare them with the model."""
    plant = Plant(world)
    with plant.model:
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(client, plant, number)
            nursery.start_soon(auditor, plant)
        await trio.sleep(3)
        await world.settle()
        for queue in plant.living():
            queue.rest()
    world.check(plant.model.problem is None, str(plant.model.problem))
