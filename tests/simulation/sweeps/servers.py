"""Servers whose callbacks give every possible result, called at random and compared with a model.

Every message carries an `Order`, which tells the callback what to do. A server has one queue, so it must handle the
messages in the order in which they arrived.
"""

from __future__ import annotations

import math
from random import Random
from typing import Any

import trio
from attrs import define, field

from actors import (
    KILL,
    KILLED,
    NORMAL,
    SHUTDOWN,
    TIMEOUT,
    AlreadyStarted,
    CallingSelf,
    CallTimeout,
    Continue,
    Crash,
    Exit,
    Fail,
    GenServer,
    Ignore,
    Instrument,
    InvalidReturn,
    NoProcess,
    NoReply,
    Pid,
    ProcessKilled,
    Reply,
    Sender,
    ServerExit,
    Shutdown,
    StartError,
    StartIgnored,
    Stop,
    Timeout,
    Within,
    call,
    cast,
    current_pid,
    exit,
    receive,
    reply,
    send,
    send_exit,
    spawn,
    stop,
    sys,
    trap_exits,
    wait_exit,
)
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.bounds import small_bounds
from tests.simulation.sweeps.model import Life, Model

__all__ = ["servers"]

NAMES = ("one", "two", None, None)
REASONS: tuple[Any, ...] = (NORMAL, SHUTDOWN, Shutdown("done"), "odd")
NOTHING = object()


class _Invalid:
    """A crash with InvalidReturn. It is equal to any other, because the model does not know the fields."""

    def __eq__(self, other: object) -> bool:
        return type(other) is Crash and type(other.exception) is InvalidReturn

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "Crash(InvalidReturn(...))"


INVALID = _Invalid()
EPSILON = 1e-6


@define(eq=False)
class Order:
    """A message, the action that its callback must take, and the result."""

    number: int
    kind: str
    act: str
    pause: float = 0.0
    seconds: float = 0.0
    reason: Any = NORMAL
    then: Order | None = None
    # For calls.
    deadline: float = math.inf
    sender: Sender | None = None
    answer: Any = NOTHING
    answered_at: float = math.inf
    given_up: bool = False
    # `gave_up` is "timeout" or "cancelled" once the caller has given up. `late` counts the reported late answers.
    gave_up: str | None = None
    late: int = 0
    caller: Life | None = None

    def __repr__(self) -> str:
        return f"<{self.kind} {self.number}: {self.act}>"


@define(eq=False)
class _Starter:
    """A task that waits for the start of a server. `life` is the process of the task, if it has one."""

    life: Life | None


@define(eq=False)
class Desk:
    """The model of one server."""

    label: str
    init: Order
    name: object = None
    traps: bool = False
    link: bool = False
    life: Life = field(init=False)
    # Stop requests from `stop`. The loop of the server handles them without a callback.
    stops: list[Order] = field(factory=list)
    started: bool = False
    start_limit: float = math.inf
    # True if the caller of the start is cancelled at `start_limit`.
    killed_early: bool = False
    obeys: Pid | None = None
    busy: Order | None = None
    state: int = 0
    states: list[int] = field(factory=list)
    # The `handle_continue` that must run next.
    next: Order | None = None
    within: float | None = None
    within_seconds: float = 0.0
    suspended: bool = False
    resumed_at: float = 0.0
    # The number of unanswered system requests. Each may restart the server's timeout at any time.
    asked: int = 0
    # `stopping` is the reason with which the server has decided to stop. `terminated` is the reason that terminate got.
    stopping: Any = NOTHING
    terminated: Any = NOTHING
    # True once `terminate` has returned or raised.
    closed: bool = False
    # The task that waits for the start of this server. None before and after the start.
    starter: _Starter | None = None
    owed: list[Order] = field(factory=list)
    # `taken` counts the messages that the server took, and `answers` the answers that its loop sent. `counted` has both
    # numbers at the start of the statistics.
    taken: int = 0
    answers: int = 0
    counted: tuple[int, int] | None = None
    logging: bool = False

    @property
    def shown(self) -> str:
        """The label of the server's process, as instruments get it."""
        return self.label if self.name is None else repr(self.name)

    @property
    def queue(self) -> list[Any]:
        """The messages that wait for a callback, oldest first."""
        return self.life.mailbox

    @property
    def idle(self) -> bool:
        """True if the server waits for a message and has nothing else to do."""
        life = self.life
        return (
            self.started
            and self.busy is None
            and self.next is None
            and not self.suspended
            and self.stopping is NOTHING
            and self.terminated is NOTHING
            and not life.mailbox
            and not self.stops
            and not life.doomed
            and life.alive
        )


class Office:
    """The data that the servers and clients of one world share."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model = Model(world)
        self.model.at_end.append(self.ends)
        self.count = 0
        self.desks: list[Desk] = []
        self.by_label: dict[str, Desk] = {}
        self.by_life: dict[Life, Desk] = {}
        self.until = world.params.get("seconds", 8.0)
        self.births = _Births(self)
        self.calls: dict[Sender, Order] = {}
        # The orders whose answers came after the callers had given up.
        self.too_late: list[Order] = []
        world.runtime.telemetry.attach(("actors", "call", "late_answer"), self.was_late)

    @property
    def now(self) -> float:
        return trio.current_time()

    def number(self) -> int:
        self.count += 1
        return self.count

    def who(self, desk: Desk) -> str:
        return self.model.who(desk.life)

    def was_late(self, event: Any, measurements: Any, metadata: Any) -> None:
        """Check one report of a late answer."""
        order = self.calls.get(metadata["call"])
        if order is None:
            # This is a request of `actors.sys`, and those have no order.
            return
        order.late += 1
        what = f"the late answer to {order!r}"
        self.model.expect(order.late == 1, f"{what} was reported {order.late} times")
        dying = order.caller is not None and order.caller.doomed
        over = order.gave_up is not None or dying or self.now >= order.deadline - EPSILON
        self.model.expect(over, f"{what} was reported, but the caller waits")
        if order.gave_up is not None:
            self.model.same(
                what, "the way in which the caller gave up", metadata["how"], order.gave_up
            )

    def late(self, order: Order) -> None:
        """Record the answer to an order as late if the caller has given up."""
        if order.gave_up is not None and order not in self.too_late:
            self.too_late.append(order)

    def pick(self, stream: Random) -> Desk | None:
        return stream.choice(self.desks[-5:]) if self.desks else None

    # The model's part of a server

    def sent(self, desk: Desk, order: Order) -> None:
        """Add a message to the modelled mailbox of a server. A server that has ended gets nothing."""
        if desk.life.alive:
            desk.queue.append(order)

    def begins(self, desk: Desk, order: Order, callback: str) -> None:
        """Check that the server may begin this callback for this order now. Record the beginning."""
        model, who = self.model, self.who(desk)
        what = f"{callback} with {order!r}"
        model.expect(not desk.life.doomed, f"{who} began {what} after {desk.life.doom!r}")
        model.expect(desk.stopping is NOTHING, f"{who} began {what} after it decided to stop")
        model.expect(desk.busy is None, f"{who} began {what} during {desk.busy!r}")
        model.expect(not desk.suspended, f"{who} began {what} while it was suspended")
        if callback == "handle_continue":
            model.expect(desk.next is order, f"{who} began {what}, but {desk.next!r} comes next")
            starter = desk.starter
            # Only the continue of `init` must wait for the end of the start. Other continues may run earlier.
            if order is desk.init.then and starter is not None:
                dying = starter.life is not None and starter.life.doomed
                early = self.now < desk.start_limit - EPSILON
                model.expect(dying or not early, f"{who} began {what} before its start returned")
            desk.next = None
        else:
            model.expect(desk.next is None, f"{who} began {what}, but {desk.next!r} comes next")
            first = desk.queue.pop(0) if desk.queue else None
            model.expect(first is order, f"{who} began {what}, but {first!r} came first")
            desk.taken += 1
            desk.within = None
        desk.busy = order

    def ended(self, desk: Desk, order: Order) -> None:
        desk.busy = None

    def stops_for(self, desk: Desk, reason: Any) -> bool:
        """Record a stop that no callback decided. Return False if neither the parent nor `stop` asked for it."""
        exits = [m for m in desk.queue if type(m) is Exit and self.is_parent(desk, m.pid)]
        if not desk.suspended and not desk.asked and exits and desk.queue[0] is not exits[0]:
            exits = []
        causes = [*(each.reason for each in exits[:1]), *(each.reason for each in desk.stops[:1])]
        if reason not in causes:
            return False
        desk.stopping = desk.life.ending = reason
        return True

    def is_parent(self, desk: Desk, pid: Pid) -> bool:
        runtime = self.world.runtime.pid
        return pid is desk.obeys or (desk.obeys is runtime and pid is desk.life.pid)

    def ends(self, life: Life) -> None:
        for desk in self.desks:
            waits = desk.life.parent is life.pid and (not desk.started or desk.starter is not None)
            if waits and self.now < desk.start_limit - EPSILON:
                # The starting process has ended, so it no longer enforces the time limit of the start.
                desk.start_limit = desk.life.killed_at = math.inf
        desk_of = self.by_life.get(life)
        if desk_of is None:
            return
        desk = desk_of
        waits = not desk.started or desk.starter is not None
        if self.now >= desk.start_limit and waits and life.reason is KILLED:
            # The starting process removes its link to the server before it kills the server.
            for peer in tuple(life.links):
                self.model.unlink(life, peer, flush=False)
        if not life.doomed:
            must = desk.stopping is not NOTHING and desk.started
            self.model.expect(
                not must or desk.terminated is not NOTHING,
                f"{self.who(desk)} stopped with {desk.stopping!r} and did not run terminate",
            )
        self.desks = [each for each in self.desks if each is not desk]

    def rest(self) -> None:
        """Check that no server has anything to do. Call this only while no task can run."""
        for desk in self.desks:
            info = self.world.runtime.process_info(desk.life.pid)
            if info is not None and (desk.life.doomed or desk.idle):
                status = "exiting" if desk.life.doomed else "waiting"
                self.model.same(desk.life, "its status in process_info", info["status"], status)
            if desk.life.doomed or not desk.started or desk.busy or desk.terminated is not NOTHING:
                continue
            who = self.who(desk)
            self.model.expect(
                desk.stopping is NOTHING, f"{who} does not stop with {desk.stopping!r}"
            )
            self.model.expect(desk.next is None, f"{who} sleeps although {desk.next!r} is next")
            self.model.expect(not desk.stops, f"{who} sleeps although {desk.stops[:1]} arrived")
            ends = [m for m in desk.queue if type(m) is Exit and self.is_parent(desk, m.pid)]
            self.model.expect(not ends, f"{who} sleeps although its parent sent {ends[:1]}")
            if not desk.suspended:
                self.model.expect(not desk.queue, f"{who} sleeps although {desk.queue[:1]} waits")
            if desk.within is not None and not desk.suspended and not desk.asked:
                due = max(desk.within, desk.resumed_at)
                self.model.expect(
                    self.now <= due + self.model.slack,
                    f"{who} got no Timeout, which was due at {due:g} s",
                )


_FAILED_INIT = ("ignore", "fail", "stop", "raise", "slow", "bad")


class _Births(Instrument):
    """An instrument that adds each new server to the model before the server's first step."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.expected: dict[str, tuple[Desk, Life | None]] = {}
        office.world.runtime.add_instrument(self)

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        desk, starter = self.expected.pop(label, (None, None))
        if desk is not None:
            model = self.office.model
            runtime = self.office.world.runtime.pid
            model.same(label, "its parent", parent, runtime if starter is None else starter.pid)
            desk.life = model.born(pid, desk.label, parent=starter, link=desk.link)
            desk.obeys = runtime if starter is None else starter.pid if desk.link else pid
            if desk.start_limit < math.inf and (desk.init.act == "slow" or desk.killed_early):
                desk.life.killed_at = desk.start_limit
            if desk.name is not None:
                model.give_name(desk.life, desk.name)
            self.office.by_life[desk.life] = desk
            self.office.desks.append(desk)


class Clerk(GenServer[int]):
    """A server that obeys its orders."""

    async def init(self, office: Office, desk: Desk) -> Any:
        self.office, self.desk, self.model = office, desk, office.model
        order = desk.init
        self.model.same(desk.life, "current_pid()", current_pid(), desk.life.pid)
        if desk.traps:
            trap_exits()
            desk.life.trapping = True
        self.state = desk.state
        if order.pause:
            await self.wait(order.pause)
        match order.act:
            case "ignore" | "fail":
                desk.life.ending = NORMAL
                return Ignore() if order.act == "ignore" else Fail(order.reason)
            case "raise":
                desk.life.ending = Crash(error := ValueError(f"init of {desk.label}"))
                raise error
            case "bad":
                return self.bad()
            case "stop":
                desk.life.ending = order.reason
                return Stop(order.reason)
            case "slow":
                await trio.sleep_forever()
        desk.started = True
        return self.then(order)

    async def wait(self, seconds: float) -> None:
        """Sleep. If a fatal signal arrives, end here, sometimes with an error in the clean-up."""
        try:
            await trio.sleep(seconds)
            if self.desk.life.doomed:
                await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            if self.office.world.random("clean-up", self.desk.label).random() < 0.2:
                raise OSError("a clean-up that fails") from None
            raise

    def bad(self) -> Any:
        self.desk.stopping = self.desk.life.ending = INVALID
        return "junk"

    def then(self, order: Order) -> Any:
        """Return the `then` of a result: the handle_continue or the timeout that an order asks for."""
        desk = self.desk
        if order.then is None:
            return None
        if order.then.act == "within":
            desk.within = self.office.now + order.then.seconds
            desk.within_seconds = order.then.seconds
            return Within(order.then.seconds)
        desk.next = order.then
        return Continue(order.then)

    async def handle_call(self, order: Order, sender: Sender) -> Any:
        self.model.expect(order.kind == "call", f"{self.desk.label}: handle_call got {order!r}")
        order.sender = sender
        self.office.calls[sender] = order
        self.office.begins(self.desk, order, "handle_call")
        result = await self.obey(order, "handle_call")
        match order.act:
            case "reply":
                self.answering(order, order.number)
                return Reply(order.number, then=self.then(order))
            case "twice":
                self.reply(order, order.number)
                self.desk.answers += 1
                self.model.expect(
                    not reply(sender, "again"), f"{self.desk.label} answered {order!r} twice"
                )
                # The caller has its answer already, so the loop drops this Reply.
                return Reply("once more", then=self.then(order))
            case "later":
                self.desk.owed.append(order)
                return NoReply(then=self.then(order))
            case "never":
                return NoReply(then=self.then(order))
            case "stop_reply":
                self.desk.stopping = self.desk.life.ending = order.reason
                return Stop(order.reason, reply=order.number)
        return result

    async def handle_cast(self, order: Order) -> Any:
        self.model.expect(order.kind == "cast", f"{self.desk.label}: handle_cast got {order!r}")
        self.office.begins(self.desk, order, "handle_cast")
        return await self.obey(order, "handle_cast")

    async def handle_info(self, message: Any) -> Any:
        desk, model = self.desk, self.model
        if type(message) is Timeout:
            now = self.office.now
            model.expect(
                desk.within is not None, f"{self.office.who(desk)} got a Timeout without Within"
            )
            if desk.within is not None:
                model.expect(
                    now >= desk.within - EPSILON,
                    f"{self.office.who(desk)} got a Timeout {desk.within - now:g} s too early",
                )
                model.expect(
                    not desk.queue, f"{self.office.who(desk)} got a Timeout before {desk.queue[:1]}"
                )
            model.expect(
                not desk.suspended, f"{self.office.who(desk)} got a Timeout while suspended"
            )
            desk.taken += 1
            desk.within = None
            return None
        if type(message) is Exit:
            # The Exit comes from a linked process that is not the parent, or from the sender of a signal.
            known = desk.queue.pop(0) if desk.queue else None
            model.same(desk.life, "the Exit in handle_info", message, known)
            model.expect(
                not self.office.is_parent(desk, message.pid),
                f"{self.office.who(desk)} handles {message!r} of its parent, which must stop it",
            )
            desk.taken += 1
            desk.within = None
            return None
        model.expect(message.kind == "info", f"{desk.label}: handle_info got {message!r}")
        self.office.begins(desk, message, "handle_info")
        return await self.obey(message, "handle_info")

    async def handle_continue(self, order: Order) -> Any:
        self.office.begins(self.desk, order, "handle_continue")
        return await self.obey(order, "handle_continue")

    async def obey(self, order: Order, callback: str) -> Any:
        """Carry out an order. The caller of this method answers calls."""
        desk, before = self.desk, self.state
        desk.state = self.state = before + 1
        desk.states.append(self.state)
        if order.pause:
            await self.wait(order.pause)
        self.model.same(desk.life, "its state", self.state, desk.state)
        self.office.ended(desk, order)
        match order.act:
            case "raise":
                desk.state = before
                error = ValueError(f"{order!r} of {desk.label}")
                desk.stopping = desk.life.ending = Crash(error)
                raise error
            case "bad":
                desk.state = before
                return self.bad()
            case "stop":
                desk.stopping = desk.life.ending = order.reason
                return Stop(order.reason)
            case "answer":
                for owed in desk.owed:
                    self.reply(owed, f"late {owed.number}")
                desk.owed = []
            case "call_self":
                await self.call_self(order)
            case "receive":
                await self.receive_nothing(order)
        return self.then(order)

    async def call_self(self, order: Order) -> None:
        try:
            await call(current_pid(), "myself")
        except CallingSelf:
            return
        self.model.fail(f"{self.desk.label} called itself and got an answer")

    async def receive_nothing(self, order: Order) -> None:
        try:
            await receive(lambda message: message == "for nobody", timeout=0)
        except trio.TooSlowError:
            return
        self.model.fail(f"{self.desk.label} received a message that nobody sent")

    def answering(self, order: Order, value: Any) -> None:
        """Record the answer that the loop sends when the callback returns."""
        self.office.late(order)
        if order.answer is NOTHING:
            order.answer, order.answered_at = value, self.office.now
        self.desk.answers += 1

    def reply(self, order: Order, value: Any) -> None:
        assert order.sender is not None
        first = reply(order.sender, value)
        self.office.late(order)
        if first:
            self.model.expect(
                order.answer is NOTHING and not order.given_up,
                f"{self.desk.label} answered {order!r} a second time, or after its caller had left",
            )
            order.answer, order.answered_at = value, self.office.now
        else:
            left = order.given_up or (order.caller is not None and order.caller.doomed)
            over = left or self.office.now >= order.deadline or order.answer is not NOTHING
            self.model.expect(
                over, f"{self.desk.label} could not answer {order!r}, which is waiting"
            )

    async def terminate(self, reason: Any) -> None:
        desk, model = self.desk, self.model
        who = self.office.who(desk)
        model.expect(desk.terminated is NOTHING, f"{who} ran terminate twice")
        model.expect(not desk.life.doomed, f"{who} ran terminate after {desk.life.doom!r}")
        if desk.stopping is NOTHING:
            model.expect(
                self.office.stops_for(desk, reason),
                f"{who} ran terminate({reason!r}), but no callback, parent or stop asked for that",
            )
        model.same(desk.life, "the reason of terminate", reason, desk.stopping)
        model.same(desk.life, "its state in terminate", self.state, desk.state)
        desk.terminated = reason
        pause = desk.init.seconds
        chance = self.office.world.random("killer", desk.label)
        if pause and chance.random() < 0.4:
            # Sometimes kill the server while it terminates.
            spawn(kill_later, self.office, desk, chance.choice([pause, pause * chance.random()]))
        if pause:
            await self.wait(pause)
        desk.closed = True
        if desk.init.number % 4 == 0:
            error = OSError(f"terminate of {desk.label}")
            desk.life.ending = Crash(error)
            raise error


# Orders


def an_order(office: Office, stream: Random, kind: str, *, depth: int = 0) -> Order:
    acts = {
        "call": ("reply", "reply", "reply", "reply", "twice", "later", "later", "never"),
        "cast": ("nothing", "nothing", "nothing", "answer", "answer", "receive"),
        "info": ("nothing", "nothing", "answer"),
        "continue": ("nothing", "nothing", "call_self"),
    }[kind]
    act = stream.choice(acts)
    if stream.random() < 0.1:
        act = stream.choice(("stop", "raise", "bad", "stop"))
        if kind == "call" and stream.random() < 0.5:
            act = "stop_reply"
    order = Order(office.number(), kind, act, reason=stream.choice(REASONS))
    if stream.random() < 0.35:
        order.pause = stream.choice([0.01, 0.1, 0.1, 0.4])
    if depth < 3 and stream.random() < 0.4:
        if stream.random() < 0.5:
            order.then = an_order(office, stream, "continue", depth=depth + 1)
        else:
            seconds = stream.choice([0.0, 0.05, 0.2, 1.0])
            order.then = Order(office.number(), "within", "within", seconds=seconds)
    return order


def a_desk(office: Office, stream: Random, *, link: bool) -> Desk:
    act = "run"
    if stream.random() < 0.3:
        act = stream.choice(_FAILED_INIT)
    init = Order(office.number(), "init", act, reason=stream.choice(REASONS))
    init.pause = stream.choice([0, 0, 0.05])
    # The seconds that terminate takes.
    init.seconds = stream.choice([0, 0, 0.05, 0.3])
    if act == "run" and stream.random() < 0.4:
        init.then = an_order(office, stream, "continue")
    name = stream.choice(NAMES)
    return Desk(f"clerk{init.number}", init, name=name, traps=stream.random() < 0.4, link=link)


# Clients


async def ask(office: Office, stream: Random, life: Life | None, name: str) -> None:
    """Call a server, and check the result."""
    desk = office.pick(stream)
    if desk is None:
        return
    order = an_order(office, stream, "call")
    # A server that hangs in `init` never answers. Its starter may have ended, and then nothing kills the server.
    answers = order.act == "reply" and desk.started
    timeout = stream.choice([0, 0.05, 0.2, 1, math.inf if answers else 2])
    order.caller = life
    began, alive = office.now, desk.life.alive
    patience = stream.choice([math.inf, math.inf, math.inf, 0.1])
    order.deadline = began + min(timeout, patience)
    address: object = desk.life.pid
    if desk.life.name is not None and stream.random() < 0.5:
        address = desk.life.name
    office.sent(desk, order)
    what = f"{name}: call({office.who(desk)}, {order!r}, timeout={timeout})"
    model = office.model
    try:
        with trio.move_on_after(patience) as scope:
            answer = await call(address, order, timeout=timeout)
    except NoProcess:
        model.expect(not alive, f"{what} says that the server does not exist")
    except CallTimeout:
        order.gave_up = "timeout"
        late = office.now - began
        model.expect(late >= timeout - EPSILON, f"{what} timed out after {late:g} s")
        model.expect(late <= timeout + model.slack, f"{what} timed out only after {late:g} s")
        in_time = order.answered_at < began + timeout - EPSILON
        model.expect(not in_time, f"{what} timed out, but was answered at {order.answered_at:g} s")
    except ServerExit as error:
        model.expect(
            not desk.life.alive, f"{what} failed with {error.reason!r}, but the server lives"
        )
        model.same(what, "the reason of ServerExit", error.reason, desk.life.reason)
        model.expect(order.answer is NOTHING, f"{what} failed, but got the answer {order.answer!r}")
    except ProcessKilled:
        model.expect(life is not None and life.doomed, f"{what} raised ProcessKilled")
        raise
    else:
        if scope.cancelled_caught:
            order.gave_up = "cancelled"
            model.expect(office.now >= began + patience - EPSILON, f"{what} was cancelled early")
        else:
            model.expect(life is None or not life.doomed, f"{what} returned in a killed process")
            if order.act == "stop_reply":
                model.expect(
                    desk.closed and not desk.life.doomed,
                    f"{what} was answered before the end of terminate, or by a killed server",
                )
                order.answer = order.number
            model.same(what, "the answer", answer, order.answer)
            model.expect(alive, f"{what} was answered by a dead server")
    finally:
        order.given_up = True


async def tell(office: Office, stream: Random) -> None:
    desk = office.pick(stream)
    if desk is None:
        return
    kind = stream.choice(["cast", "cast", "info"])
    order = an_order(office, stream, kind)
    office.sent(desk, order)
    (cast if kind == "cast" else send)(desk.life.pid, order)


async def harm(office: Office, stream: Random) -> None:
    """End a server from outside."""
    desk = office.pick(stream)
    if desk is None:
        return
    model, runtime = office.model, office.world.runtime
    reason = stream.choice([KILL, NORMAL, SHUTDOWN, "odd"])
    life = desk.life
    model.signal(runtime.pid, life, reason, linked=False)
    send_exit(life.pid, reason)


async def kill_later(office: Office, desk: Desk, seconds: float) -> None:
    await trio.sleep(seconds)
    if desk.life.alive:
        office.model.signal(current_pid(), desk.life, KILL, linked=False)
        send_exit(desk.life.pid, KILL)


async def end(office: Office, stream: Random) -> None:
    """Stop a server with `stop`, and check the result."""
    desk = office.pick(stream)
    if desk is None:
        return
    model, life = office.model, desk.life
    reason, timeout = stream.choice(REASONS), stream.choice([0.05, 1.0, math.inf])
    if not desk.started:
        # A server that hangs in `init` never stops, if the starter that would have killed it has ended.
        timeout = min(timeout, 1.0)
    began, alive = office.now, life.alive
    order = Order(office.number(), "system", "stop", reason=reason)
    what = f"stop({office.who(desk)}, {reason!r})"
    if alive:
        desk.stops.append(order)
    try:
        await stop(life.pid, reason, timeout=timeout)
    except NoProcess:
        model.expect(not alive, f"{what} says that the server does not exist")
    except CallTimeout:
        model.expect(
            began + timeout - EPSILON <= office.now <= began + timeout + model.slack,
            f"{what} timed out after {office.now - began:g} s",
        )
    except ServerExit as error:
        model.same(what, "the reason of ServerExit", error.reason, life.reason)
        model.expect(life.reason != reason, f"{what} failed, but the server ended with {reason!r}")
    else:
        model.same(what, "the exit reason of the server", life.reason, reason)


async def inspect(office: Office, stream: Random) -> None:
    """Use a function of `actors.sys`, and check the result."""
    desk = office.pick(stream)
    timed = [each for each in office.desks if each.idle and each.within is not None]
    if timed and stream.random() < 0.4:
        # Prefer a server that waits for its timeout, because a random choice rarely finds one.
        desk = stream.choice(timed)
    if desk is None:
        return
    model, pid, idle = office.model, desk.life.pid, desk.idle
    verb = stream.choice([looks, replaces, suspends, suspends, counts, counts, logs, describes])
    if verb is logs and desk.logging:
        # `logs` would send no request to this server, and so not restart its timeout.
        verb = looks
    touched(office, desk)
    desk.asked += 1
    try:
        await verb(office, desk, stream, idle)
    except NoProcess:
        model.expect(not desk.life.alive, f"sys: {pid!r} does not exist, but it lives")
    except (CallTimeout, ServerExit):
        # The request may fail only if the server was busy, or ended before it answered.
        model.expect(not idle or not desk.idle, f"sys: the idle {office.who(desk)} does not answer")
    finally:
        desk.asked -= 1
        desk.resumed_at = office.now + desk.within_seconds


def touched(office: Office, desk: Desk) -> None:
    """Record the effect of a system request: it restarts the timeout of an idle server."""
    if desk.idle and desk.within is not None:
        if desk.within > office.now + office.model.slack:
            desk.within = office.now + desk.within_seconds
        else:
            # The timeout may fire before the server handles the request.
            desk.resumed_at = office.now + desk.within_seconds


async def looks(office: Office, desk: Desk, stream: Random, idle: bool) -> None:
    state = desk.state
    got = await sys.get_state(desk.life.pid, timeout=0.5)
    if idle and desk.state == state:
        office.model.same(desk.life, "the result of get_state", got, state)


async def replaces(office: Office, desk: Desk, stream: Random, idle: bool) -> None:
    def change(state: int) -> int:
        office.model.same(desk.life, "the state in replace_state", state, desk.state)
        office.model.expect(
            desk.busy is None, f"{office.who(desk)}: replace_state during {desk.busy!r}"
        )
        if fails:
            raise error("replace_state")
        desk.state = state + 1000
        return desk.state

    fails = stream.random() < 0.3
    error = stream.choice((LookupError, ValueError, OSError, trio.TooSlowError))
    try:
        got = await sys.replace_state(desk.life.pid, change, timeout=0.5)
    except CallTimeout:
        # It is a TooSlowError too, but not the one of `change`.
        raise
    except (LookupError, ValueError, OSError, trio.TooSlowError):
        office.model.expect(fails, f"{office.who(desk)}: replace_state failed")
    else:
        office.model.expect(
            got % 1000 <= desk.state, f"{office.who(desk)}: replace_state got {got}"
        )
        office.model.expect(not fails, f"{office.who(desk)}: replace_state did not raise")


async def suspends(office: Office, desk: Desk, stream: Random, idle: bool) -> None:
    if desk.suspended:
        return
    pid, model = desk.life.pid, office.model
    await sys.suspend(pid, timeout=60)
    desk.suspended = True
    office.world.sometimes("a server was suspended")
    status = await sys.get_status(pid, timeout=60)
    model.expect(status.suspended or not desk.life.alive, f"{office.who(desk)} is not suspended")
    info = office.world.runtime.process_info(pid)
    if info is not None and not desk.life.doomed and desk.terminated is NOTHING:
        model.same(desk.life, "its status", info["status"], "suspended")
    await trio.sleep(stream.choice([0.05, 0.5]))
    parent = model.lives.get(desk.obeys) if desk.obeys is not None else None
    if stream.random() < 0.3:
        reason = stream.choice(REASONS)
        if desk.obeys is office.world.runtime.pid:
            # The parent itself sends this signal. So the server must stop, even if it traps exits and is suspended.
            model.signal(desk.obeys, desk.life, reason, linked=False)
            send_exit(pid, reason)
        elif parent is not None and parent is not desk.life:
            model.signal(office.world.runtime.pid, parent, KILL, linked=False)
            send_exit(parent.pid, KILL)
        await trio.sleep(0.5)
    desk.suspended, desk.resumed_at = False, office.now
    await sys.resume(pid, timeout=60)


async def counts(office: Office, desk: Desk, stream: Random, idle: bool) -> None:
    if not idle:
        return
    if desk.counted is None:
        desk.counted = (desk.taken, desk.answers)
        await sys.statistics(desk.life.pid, on=True, timeout=0.5)
        return
    expected = (desk.taken - desk.counted[0], desk.answers - desk.counted[1])
    got = await sys.get_statistics(desk.life.pid, timeout=0.5)
    office.model.expect(got is not None, f"{office.who(desk)} has no statistics")
    if got is not None:
        numbers = (got.messages_in, got.messages_out)
        office.model.same(desk.life, "its messages in and out", numbers, expected)
        office.world.sometimes("statistics were compared", expected[0])


async def logs(office: Office, desk: Desk, stream: Random, idle: bool) -> None:
    """Switch on the log and a hook of a server for a while, and compare what they record."""
    if not idle or desk.logging:
        return
    desk.logging = True
    seen: list[str] = []

    def hook(left: int, event: sys.DebugEvent) -> object:
        seen.append(event.kind)
        return left - 1 if left > 1 else sys.DONE

    failed: list[str] = []

    def failing(state: None, event: sys.DebugEvent) -> None:
        failed.append(event.kind)
        raise OSError("a hook that fails")

    began, size = desk.taken, stream.choice([1, 3, 100])
    key = office.number()
    pid = desk.life.pid
    # An earlier log that this function did not read may still be on.
    await sys.log(pid, None, timeout=0.5)
    await sys.log(pid, size, timeout=0.5)
    await sys.install(pid, key, hook, 1000, timeout=0.5)
    await sys.install(pid, (key, "fails"), failing, timeout=0.5)
    installed = desk.taken
    await trio.sleep(0.3)
    desk.logging = False
    office.model.expect(
        len(failed) <= 1, f"{office.who(desk)} called a hook again after it had failed: {failed}"
    )
    if not desk.idle:
        return
    taken = desk.taken
    events = await sys.get_log(pid, timeout=0.5)
    if desk.taken == taken and began == installed and desk.idle:
        office.model.same(
            desk.life, "the messages that its hook saw", seen.count("in"), taken - began
        )
        kinds = [each.kind for each in events]
        office.model.same(desk.life, "its log", kinds, seen[-size:])
    await sys.remove(pid, key, timeout=0.5)
    await sys.log(pid, None, timeout=0.5)


async def describes(office: Office, desk: Desk, stream: Random, idle: bool) -> None:
    status = await sys.get_status(desk.life.pid, timeout=0.5)
    office.model.same(desk.life, "the parent in get_status", status.parent, desk.obeys)
    office.model.same(desk.life, "the server in get_status", status.server, "Clerk")


async def hire(office: Office, stream: Random, life: Life | None) -> None:
    """Start a server, and check the result."""
    link = life is not None and stream.random() < 0.7
    desk, model = a_desk(office, stream, link=link), office.model
    timeout = stream.choice([0.1, 0.3]) if desk.init.act == "slow" else math.inf
    began = office.now
    # Sometimes cancel the task that waits for the start.
    patience = stream.choice([0, 0.05, 0.1]) if stream.random() < 0.15 else math.inf
    desk.start_limit = began + min(timeout, patience)
    desk.killed_early = patience < timeout
    office.births.expected[desk.shown] = (desk, life)
    what = f"the start of {desk.label} ({desk.init!r})"
    if life is not None and link and desk.init.act not in _FAILED_INIT and stream.random() < 0.2:
        try:
            Clerk.spawn_link(office, desk, name=desk.name, label=desk.label)
        except AlreadyStarted:
            model.expect(desk.name in model.names, f"{what}: the name {desk.name!r} is free")
        return
    start = Clerk.start_link if link or (life is None and stream.random() < 0.5) else Clerk.start
    holder = model.names.get(desk.name) if desk.name is not None else None
    desk.starter = _Starter(life)
    pid = None
    try:
        with trio.move_on_after(patience) as scope:
            pid = await start(office, desk, name=desk.name, label=desk.label, timeout=timeout)
        if pid is not None:
            desk.starter, desk.life.killed_at = None, math.inf
    except AlreadyStarted as error:
        model.same(what, "the holder of its name", error.pid, holder and holder.pid)
        model.expect(
            desk.shown in office.births.expected, f"{what} failed, but there was a process"
        )
        office.births.expected.pop(desk.shown, None)
        return
    except StartIgnored:
        model.same(what, "the result", desk.init.act, "ignore")
    except StartError as error:
        failed(office, desk, error.reason, what)
    else:
        if scope.cancelled_caught:
            cancelled(office, desk, life, what)
            return
        model.same(what, "the process", pid, desk.life.pid)
        model.expect(desk.started, f"{what} returned before the end of init")
        took = office.now - began
        most = desk.init.pause + 2 * model.slack
        model.expect(took <= most, f"{what} took {took:g} s instead of {most:g} s")
        return
    model.expect(not desk.life.alive, f"{what} failed, but {office.who(desk)} lives")
    if life is not None:
        model.expect(not life.doomed, f"{model.who(life)} goes on after {what}")
        model.unlink(life, desk.life.pid, flush=True)


def cancelled(office: Office, desk: Desk, life: Life | None, what: str) -> None:
    """Check that a start with a cancelled caller has left no process."""
    model = office.model
    if getattr(desk, "life", None) is None:
        # The cancellation came before the start made a process.
        if office.births.expected.get(desk.shown, (None, None))[0] is desk:
            office.births.expected.pop(desk.shown)
        return
    office.world.sometimes("the caller of a start was cancelled")
    model.expect(not desk.life.alive, f"{what} was cancelled, but {office.who(desk)} lives")
    if life is not None:
        model.unlink(life, desk.life.pid, flush=True)


def failed(office: Office, desk: Desk, reason: Any, what: str) -> None:
    """Check the reason of a start that failed."""
    model, act = office.model, desk.init.act
    model.expect(not desk.started, f"{what} failed with {reason!r} after its init")
    if office.now >= desk.start_limit - EPSILON:
        # Another signal may have killed the server before the time limit, or its init may have failed at that moment.
        right = reason is TIMEOUT or reason == desk.life.reason
        right = right or (act == "fail" and reason == desk.init.reason)
        model.expect(right, f"{what} took too long, and failed with {reason!r}")
    elif act == "fail" and desk.life.reason is NORMAL:
        model.same(what, "the reason of StartError", reason, desk.init.reason)
    else:
        model.same(what, "the reason of StartError", reason, desk.life.reason)


class Boss:
    """A process that starts servers and sends them messages."""

    def __init__(self, office: Office, number: int) -> None:
        self.office = office
        self.label = f"boss{number}"
        self.stream = office.world.random(self.label)
        self.life: Life

    async def run(self) -> None:
        office, stream, life, model = self.office, self.stream, self.life, self.office.model
        if stream.random() < 0.6:
            trap_exits()
            life.trapping = True
        while office.now < office.until and stream.random() < 0.93:
            await trio.sleep(stream.choice([0, 0.05, 0.3]))
            if life.doomed:
                await trio.lowlevel.checkpoint()
            chance = stream.random()
            if chance < 0.35:
                await hire(office, stream, life)
            elif chance < 0.8:
                await ask(office, stream, life, self.label)
            else:
                await self.orders_a_child()
            await self.reads()
        reason = stream.choice(REASONS)
        life.ending = reason
        if reason is not NORMAL:
            exit(reason)
        model.expect(not life.doomed, f"{model.who(life)} ends normally after {life.doom!r}")

    async def orders_a_child(self) -> None:
        """Send an exit signal to a linked server that this process has started."""
        links = list(self.life.links)
        if links and self.stream.random() < 0.5:
            pid, reason = self.stream.choice(links), self.stream.choice(REASONS)
            model = self.office.model
            model.signal(self.life.pid, model.lives.get(pid), reason, linked=False)
            send_exit(pid, reason)

    async def reads(self) -> None:
        """Read the whole mailbox. Only Exits of servers may be in it."""
        life, model = self.life, self.office.model
        while True:
            try:
                message = await receive(timeout=0)
            except trio.TooSlowError:
                model.expect(not life.mailbox, f"{self.label} did not receive {life.mailbox[:1]}")
                return
            model.same(life, "its message", message, life.mailbox.pop(0) if life.mailbox else None)


async def boss(office: Office, number: int) -> None:
    while office.now < office.until:
        one = Boss(office, office.number())
        pid = spawn(one.run, label=one.label)
        one.life = office.model.born(pid, one.label)
        await wait_exit(pid)


async def client(office: Office, number: int) -> None:
    """Start and use servers from a task that is not a process."""
    stream = office.world.random("client", number)
    while office.now < office.until:
        await trio.sleep(stream.choice([0, 0.02, 0.1, 0.5]))
        chance = stream.random()
        if chance < 0.15 or len(office.desks) < 2:
            await hire(office, stream, None)
        elif chance < 0.5:
            await ask(office, stream, None, f"client{number}")
        elif chance < 0.75:
            await tell(office, stream)
        elif chance < 0.92:
            await inspect(office, stream)
        elif chance < 0.96:
            await harm(office, stream)
        else:
            await end(office, stream)


async def auditor(office: Office) -> None:
    stream = office.world.random("auditor")
    while office.now < office.until:
        await trio.sleep(stream.random() / 3)
        await office.world.settle()
        office.rest()


def nothing_is_left(office: Office) -> None:
    """Check that the calls of the run have left no timer, no monitor and no unreported late answer."""
    model, runtime = office.model, office.world.runtime
    for order in office.too_late:
        model.expect(order.late == 1, f"the late answer to {order!r} was not reported")
    model.same("the runtime", "timers", runtime.statistics()["timers"], 0)
    for desk in office.desks:
        left = runtime.graph.watchers_of(desk.life.pid)
        model.expect(not left, f"{office.who(desk)} is still watched for {left}")
    office.world.sometimes("an answer was late", office.too_late)


@scenario()
@small_bounds
async def servers(world: World) -> None:
    """Run servers with random orders, and compare them with the model."""
    office = Office(world)
    crashes: list[Any] = []

    def reported(event: Any, measurements: Any, metadata: Any) -> None:
        desk = office.by_life.get(office.model.lives.get(metadata["pid"], None))  # type: ignore[arg-type]
        crashes.append(metadata)
        if desk is not None and "state" in metadata and desk.started:
            office.model.same(
                desk.life, "the state in its crash report", metadata["state"], desk.state
            )

    world.runtime.telemetry.attach(("actors", "process", "crash"), reported)
    with office.model:
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(client, office, number)
            for number in range(2):
                nursery.start_soon(boss, office, number)
            nursery.start_soon(auditor, office)
        await trio.sleep(6)
        await world.settle()
        office.rest()
        nothing_is_left(office)
        world.sometimes("a server crashed", crashes)
    world.check(office.model.problem is None, str(office.model.problem))
