"""Random programs of applications, compared with a model.

Each run starts applications with random dependencies, types and callbacks. Then it starts, stops and crashes some of
them, one after another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import trio
from attrs import define, field

from actors import (
    NORMAL,
    SHUTDOWN,
    GenServer,
    Pid,
    Reply,
    Sender,
    StartError,
    Stop,
    call,
    cast,
    current_pid,
    is_alive,
    kill,
    spawn,
    stop,
    trap_exits,
    wait_exit,
)
from actors.exits import ExitReason, Shutdown
from supervision import (
    ApplicationNotStarted,
    Applications,
    ApplicationSpec,
    ApplicationStartFailed,
    Supervisor,
    SupervisorDeadlock,
    child_spec,
)
from supervision.applications.applications import ApplicationEnded
from supervision.events import (
    APPLICATION_CALLBACK_FAILED,
    APPLICATION_ENDED,
    APPLICATION_STARTED,
)
from supervision.laboratory.simulation.world.world import World
from tests.laws.scenarios import scenario
from tests.simulation.sweeps.supervision.diary import short

__all__ = ["applications"]


@define(eq=False)
class Plan:
    """One application: its type, its dependencies, and the behaviour of its callbacks and starts."""

    name: str
    type: Any
    depends_on: list[Plan]
    bare: bool
    """True if the top process is a server and not a supervisor."""
    callbacks: dict[str, str]
    fails: list[bool]
    slow: bool
    starts: int = 0
    pids: list[Pid] = field(factory=list)
    strays: list[Pid] = field(factory=list)

    def closure(self) -> list[Plan]:
        """Return all dependencies in the order of their start, and then this application."""
        found: dict[str, Plan] = {}
        for other in self.depends_on:
            found.update((each.name, each) for each in other.closure())
        found[self.name] = self
        return list(found.values())


class Worker(GenServer[None]):
    """The only worker of an application. It also starts a process outside of the supervision tree."""

    async def init(self, plan: Plan, lines: list[Any]) -> None:
        trap_exits()
        self.plan, self.lines = plan, lines
        plan.starts += 1
        plan.strays.append(spawn(leaves_another, plan) if plan.slow else spawn(trio.sleep_forever))
        if plan.starts <= len(plan.fails) and plan.fails[plan.starts - 1]:
            raise OSError("did not start")
        plan.pids.append(current_pid())

    async def handle_call(self, top: Pid, sender: Sender) -> Reply:
        """Ask `Applications` from an ordinary callback. It must answer, because it waits for nothing."""
        try:
            return Reply(await Applications.which_applications(top))
        except SupervisorDeadlock as error:
            return Reply(f"deadlock: {error}")

    async def handle_cast(self, message: str) -> Stop:
        if message == "crash":
            raise ValueError("told to crash")
        return Stop({"normal": NORMAL, "shutdown": SHUTDOWN, "detail": Shutdown("detail")}[message])

    async def terminate(self, reason: ExitReason) -> None:
        self.lines.append(("terminate", self.plan.name, short(reason)))
        if self.plan.slow:
            await trio.sleep(1)


async def leaves_another(plan: Plan) -> None:
    """Start another process during a kill. The end of the application must kill the other process too."""
    try:
        await trio.sleep_forever()
    finally:
        plan.strays.append(spawn(trio.sleep_forever))


class Program:
    """The real applications, and the model of their events."""

    def __init__(self, world: World, stream: Random) -> None:
        self.world, self.stream = world, stream
        self.lines: list[Any] = []
        self.expected: list[Any] = []
        self.plans: list[Plan] = []
        self.specs: dict[str, ApplicationSpec] = {}
        self.running: dict[str, Plan] = {}
        self.starts: dict[str, int] = {}
        # The expected and the real exit reason of the program.
        self.ended: str | None = None
        self.reason: str | None = None
        self.top: Pid | None = None
        self.history: list[str] = []
        attach = world.runtime.telemetry.attach
        self.detach = [
            attach(APPLICATION_STARTED, lambda e, m, a: self.lines.append(("started", a["name"]))),
            attach(
                APPLICATION_ENDED,
                lambda e, m, a: self.lines.append(
                    ("ended", a["name"], short(a["reason"]), a["stopped"], a["type"])
                ),
            ),
            attach(
                APPLICATION_CALLBACK_FAILED,
                lambda e, m, a: self.lines.append(("failed", a["name"], a["callback"])),
            ),
        ]
        for name in "abcde"[: stream.randint(1, 5)]:
            self.add(name)

    def add(self, name: str) -> None:
        stream = self.stream
        others = stream.sample(self.plans, stream.randint(0, min(2, len(self.plans))))
        plan = Plan(
            name,
            stream.choice(("permanent", "transient", "temporary", "temporary")),
            others,
            stream.random() < 0.3,
            {
                each: stream.choice(("fine", "fine", "raises"))
                for each in ("prep_stop", "stop")
                if stream.random() < 0.7
            },
            [stream.random() < 0.08, stream.random() < 0.3, stream.random() < 0.3],
            stream.random() < 0.2,
        )
        self.plans.append(plan)
        worker = child_spec(Worker, plan, self.lines)
        top: Any = [worker]
        if plan.bare:
            top = worker_starter(plan, self.lines)
        elif stream.random() < 0.7:
            top = supervisor_starter(worker)
        else:
            # With its default options, the supervisor restarts the worker.
            plan.callbacks["restarts"] = "yes"
        self.specs[name] = ApplicationSpec(
            name=name,
            top=top,
            type=plan.type,
            depends_on=[self.specs[each.name] for each in others],
            prep_stop=self.callback(plan, "prep_stop"),
            stop=self.callback(plan, "stop"),
        )

    def callback(self, plan: Plan, which: str) -> Callable[[], Awaitable[None]] | None:
        how = plan.callbacks.get(which)
        if how is None:
            return None

        async def run() -> None:
            alive = [pid for pid in plan.pids + plan.strays if is_alive(pid)]
            self.world.check(
                bool(alive) == (which == "prep_stop"),
                f"in {which} of the application {plan.name}, {len(alive)} of its processes live",
            )
            self.lines.append((which, plan.name))
            if how == "raises":
                raise OSError(which)

        return run

    # What must happen

    def starts_of(self, plans: list[Plan]) -> str | None:
        """Expect starts in order. If a start fails, expect the stop of the started applications. Return the reason."""
        begun: list[Plan] = []
        for plan in plans:
            number = self.starts[plan.name] = self.starts.get(plan.name, 0) + 1
            if number <= len(plan.fails) and plan.fails[number - 1]:
                for other in reversed(begun):
                    self.stops(other)
                below = "crash:OSError" if plan.bare else "shutdown:Worker:crash:OSError"
                return f"shutdown:{plan.name}:{below}"
            self.expected.append(("started", plan.name))
            self.running[plan.name] = plan
            begun.append(plan)
        return None

    def calls_back(self, plan: Plan, which: str) -> None:
        how = plan.callbacks.get(which)
        if how is not None:
            self.expected.append((which, plan.name))
        if how == "raises":
            self.expected.append(("failed", plan.name, which))

    def stops(self, plan: Plan) -> None:
        """Expect the stop of an application."""
        self.calls_back(plan, "prep_stop")
        self.expected.append(("terminate", plan.name, "shutdown"))
        self.calls_back(plan, "stop")
        self.expected.append(("ended", plan.name, "shutdown", True, plan.type))
        del self.running[plan.name]

    def ends(self, plan: Plan, how: str) -> None:
        """Expect the effects of the end of an application's worker."""
        reason = {
            "crash": "crash:ValueError",
            "normal": "normal",
            "shutdown": "shutdown",
            "detail": "shutdown:detail",
            "kill": "killed",
        }[how]
        if how != "kill":
            self.expected.append(("terminate", plan.name, reason))
        if "restarts" in plan.callbacks:
            return
        if not plan.bare:
            reason = "shutdown"
        self.calls_back(plan, "stop")
        self.expected.append(("ended", plan.name, reason, False, plan.type))
        del self.running[plan.name]
        if plan.type == "permanent" or (plan.type == "transient" and reason != "normal"):
            for other in reversed(list(self.running.values())):
                self.stops(other)
            self.ended = f"ended:{plan.name}:{reason}"

    # What is done

    async def boot(self) -> None:
        chosen = self.stream.sample(self.plans, self.stream.randint(0, len(self.plans)))
        wanted: dict[str, Plan] = {}
        for plan in chosen:
            wanted.update((each.name, each) for each in plan.closure())
        refused = self.starts_of(list(wanted.values()))
        self.history.append(f"start of {[each.name for each in chosen]}")
        got = None
        try:
            self.top = await Applications.start([self.specs[each.name] for each in chosen])
        except StartError as error:
            got = short(error.reason)
        self.world.check(
            got == refused, f"{self.told()} ended with {got or 'success'}; expected {refused}"
        )

    async def step(self, top: Pid) -> None:
        """Take one random action, and compare its answer with the model."""
        stream = self.stream
        plan = stream.choice(self.plans)
        verb = stream.choice(
            (
                "start",
                "start",
                "ensure",
                "stop",
                "stop",
                "which",
                "crash",
                "crash",
                "normal",
                "shutdown",
                "detail",
                "kill",
            )
        )
        self.history.append(f"{verb} {plan.name}")
        if verb in ("crash", "normal", "shutdown", "detail", "kill"):
            if plan.name not in self.running or not is_alive(plan.pids[-1]):
                return
            self.ends(plan, verb)
            if verb == "kill":
                kill(plan.pids[-1])
            else:
                cast(plan.pids[-1], verb)
            if "restarts" in plan.callbacks:
                self.starts_again(plan)
            return
        expected = self.answer_of(verb, plan)
        got = await self.ask(verb, plan, top)
        self.world.check(got == expected, f"{self.told()}: returned {got}; expected {expected}")

    def starts_again(self, plan: Plan) -> None:
        """Expect the restart of a worker. Restarts may fail before one succeeds."""
        self.history.append("(restarts)")
        self.starts[plan.name] += 1
        number = self.starts[plan.name]
        if number <= len(plan.fails) and plan.fails[number - 1]:
            # The supervisor tries again. It does not give up, because it allows more restarts than can fail.
            self.starts_again(plan)

    def answer_of(self, verb: str, plan: Plan) -> Any:
        running, name = plan.name in self.running, plan.name
        match verb:
            case "which":
                return list(reversed(self.running))
            case "stop":
                if not running:
                    return f"ApplicationNotStarted:{name}:None"
                self.stops(plan)
                return None
            case "ensure":
                missing = [each for each in plan.closure() if each.name not in self.running]
                refused = self.starts_of(missing)
                return [each.name for each in missing] if refused is None else refused
        if running:
            return False
        for other in plan.depends_on:
            if other.name not in self.running:
                return f"ApplicationNotStarted:{other.name}:{name}"
        return self.starts_of([plan]) or True

    async def ask(self, verb: str, plan: Plan, top: Pid) -> Any:
        spec = self.specs[plan.name]
        try:
            match verb:
                case "which":
                    return await Applications.which_applications(top)
                case "stop":
                    return await Applications.stop_application(top, plan.name)
                case "ensure":
                    return await Applications.ensure_all_started(top, spec)
            return await Applications.start_application(top, spec)
        except ApplicationNotStarted as error:
            return f"ApplicationNotStarted:{error.name}:{error.dependent}"
        except ApplicationStartFailed as error:
            return short(error.reason)

    # What must hold

    def told(self) -> str:
        return "; ".join(
            [
                ", ".join(
                    f"{each.name} ({each.type}, needs {[other.name for other in each.depends_on]})"
                    for each in self.plans
                ),
                *self.history,
            ]
        )

    async def compare(self) -> None:
        await trio.sleep(20)
        for number in range(max(len(self.lines), len(self.expected))):
            got, wanted = (
                each[number] if number < len(each) else None for each in (self.lines, self.expected)
            )
            self.world.check(got == wanted, f"{self.told()}: got {got}; expected {wanted}")
        self.world.check(
            self.reason == self.ended,
            f"{self.told()}: the program ended with {self.reason}; expected {self.ended}",
        )
        running = [plan for plan in self.running.values() if is_alive(plan.pids[-1])]
        if self.top is not None and running and self.ended is None:
            answer = await call(self.stream.choice(running).pids[-1], self.top)
            expected = list(reversed(self.running))
            self.world.check(
                answer == expected,
                f"{self.told()}: a worker asked for the applications and got {answer}; expected {expected}",
            )
        for plan in self.plans:
            alive = sum(map(is_alive, (*plan.pids, *plan.strays)))
            self.world.check(
                (alive > 0) == (plan.name in self.running),
                f"{self.told()}: {alive} processes of {plan.name} live",
            )


def worker_starter(plan: Plan, lines: list[Any]) -> Callable[[], Awaitable[Pid]]:
    async def start() -> Pid:
        return await Worker.start_link(plan, lines)

    return start


def supervisor_starter(worker: Any) -> Callable[[], Awaitable[Pid]]:
    async def start() -> Pid:
        # Any end of the worker ends the supervisor.
        return await Supervisor.start_link([worker], max_restarts=0)

    return start


@scenario()
async def applications(world: World) -> None:
    """Run two random programs of applications."""
    stream = world.random("applications")
    for _ in range(2):
        program = Program(world, stream)
        await program.boot()
        await program.compare()
        top = program.top
        if top is not None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch, program, top)
                for _ in range(stream.randint(3, 9)):
                    if program.ended is None:
                        await program.step(top)
                        await program.compare()
                await end(world, program, top)
        for detach in program.detach:
            detach()


async def end(world: World, program: Program, top: Pid) -> None:
    """Stop the program if it still runs."""
    if program.ended is None:
        world.sometimes("a program was stopped with several applications", len(program.running) > 1)
        program.history.append("stop")
        for plan in reversed(list(program.running.values())):
            program.stops(plan)
        program.ended = "normal"
        await stop(top)
        await program.compare()
    else:
        world.sometimes("the end of an application ended the program")


async def watch(program: Program, top: Pid) -> None:
    reason = await wait_exit(top)
    if isinstance(reason, ApplicationEnded):
        program.reason = f"ended:{reason.name}:{short(reason.reason)}"
    else:
        program.reason = short(reason)
