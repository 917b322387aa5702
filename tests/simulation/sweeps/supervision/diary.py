"""The children in the sweeps of supervision, and the diary, which records the events of these children."""

from __future__ import annotations

import math
from typing import Any

import trio

from actors import (
    NORMAL,
    SHUTDOWN,
    Fail,
    GenServer,
    Ignore,
    Pid,
    Reply,
    Sender,
    Stop,
    cast,
    current_pid,
    exit,
    is_alive,
    kill,
    receive,
    send,
    send_exit,
    trap_exits,
)
from actors.exits import Crash, ExitReason, Reason, Shutdown
from actors.process import ancestors
from supervision import ChildSpec, Supervisor, SupervisorDeadlock, child_spec, process_spec
from supervision.errors import FailedToStartChild
from supervision.events import (
    CHILD_RESTARTED,
    CHILD_START_FAILED,
    CHILD_STARTED,
    CHILD_STARTING,
    CHILD_STOP_FAILED,
    CHILD_TERMINATED,
    GAVE_UP,
)
from supervision.laboratory.simulation.world.world import World
from tests.simulation.sweeps.supervision.supervisor_model import Manner

__all__ = ["TICK", "Actor", "Diary", "end_child", "now", "seconds", "short", "spec_of", "written"]

TICK = 0.5
"""The seconds of a tick. In a sweep, everything happens at exact multiples of a tick."""

# Events


class Diary:
    """The events of one supervisor and its children, with their ticks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lines: list[tuple[int, tuple[Any, ...]]] = []
        # The name of each process, as id#n.
        self.names: dict[Pid, str] = {}
        self.ready: dict[Any, Pid] = {}
        self.plain: set[Pid] = set()
        # The processes of every `Actor` whose init has begun.
        self.begun: list[Pid] = []
        # `last` has the newest process of each child, and `first` the oldest.
        self.last: dict[Any, Pid] = {}
        self.first: dict[Any, Pid] = {}
        self.starts: dict[Any, int] = {}
        self._runs: dict[Any, int] = {}
        attach = world.runtime.telemetry.attach
        self._detach = [
            attach(event, self._event)
            for event in (
                CHILD_STARTING,
                CHILD_STARTED,
                CHILD_RESTARTED,
                CHILD_START_FAILED,
                CHILD_STOP_FAILED,
                CHILD_TERMINATED,
                GAVE_UP,
            )
        ]

    def close(self) -> None:
        for detach in self._detach:
            detach()

    def say(self, *what: Any) -> None:
        self.lines.append((now(self.world), what))

    def name(self, pid: Any) -> Any:
        return self.names.get(pid, pid) if isinstance(pid, Pid) else pid

    def _event(self, event: Any, measurements: Any, about: Any) -> None:
        kind, id, reason = event[-1], about["id"], short(about.get("reason"))
        if event in (CHILD_STARTED, CHILD_RESTARTED):
            run = self._runs[id] = self._runs.get(id, 0) + 1
            self.names[about["pid"]] = f"{id}#{run}"
            self.last[id] = about["pid"]
            self.first.setdefault(id, about["pid"])
            if self.ready.get(id) is not about["pid"]:
                # A plain process has no init that could add it to `ready`.
                self.ready[id] = about["pid"]
                self.plain.add(about["pid"])
        process = self.name(about["pid"])
        match kind:
            case "starting":
                self.say(kind, id)
            case "started":
                self.say(kind, process)
            case "restarted":
                self.say(kind, process, reason, measurements["restarts"])
            case "start_failed":
                self.say(kind, id, reason, about["restart"])
            case "stop_failed":
                self.say(kind, process, reason)
            case "terminated":
                self.say(kind, process, reason, about["stopped"])
            case "gave_up":
                self.say(kind, id, process, reason, measurements["restarts"])


def now(world: World) -> int:
    tick = trio.current_time() / TICK
    world.check(tick == round(tick), f"the clock shows {trio.current_time()} s, which is no tick")
    return round(tick)


def short(reason: ExitReason) -> str:
    """Return an exit reason as the model writes it."""
    if isinstance(reason, Reason):
        return reason.name.lower()
    if isinstance(reason, Crash):
        return f"crash:{type(reason.exception).__name__}"
    if isinstance(reason, Shutdown):
        detail = reason.detail
        if isinstance(detail, FailedToStartChild):
            return f"shutdown:{detail.id}:{short(detail.reason)}"
        return f"shutdown:{detail}"
    return str(reason)


# The children


class Actor(GenServer[None]):
    """A child that behaves as its `Manner` specifies."""

    async def init(self, manner: Manner, diary: Diary, *extra: Any) -> Any:
        self.manner, self.diary, self.own = manner, diary, False
        if manner.traps:
            trap_exits()
        number = diary.starts.get(manner.id, 0)
        diary.starts[manner.id] = number + 1
        diary.say("init", manner.id, number, *extra)
        await self.ask("start")
        diary.begun.append(current_pid())
        start = manner.start(number)
        if start.ticks and not manner.early:
            await trio.sleep(start.ticks * TICK)
        match start.kind:
            case "raise":
                raise OSError("did not start")
            case "fail":
                return Fail("busy")
            case "ignore":
                return Ignore()
            case "stop":
                return Stop(Shutdown("early"))
        if not manner.early:
            diary.ready[manner.id] = current_pid()
        return None

    async def ask(self, phase: str) -> None:
        """Call the supervisor while it waits for this callback. The call must raise SupervisorDeadlock."""
        if self.manner.asks:
            try:
                await Supervisor.count_children(ancestors()[0])
            except SupervisorDeadlock as error:
                self.diary.say("deadlock", error.id, error.phase)

    def push(self) -> None:
        """End a sibling that still lives, while the supervisor waits for this child to stop."""
        if self.manner.pushes is not None:
            id, how = self.manner.pushes
            pid = self.diary.ready.get(id)
            if pid is not None and is_alive(pid):
                end_child(self.diary, how, pid)

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        """Call the supervisor from an ordinary callback. It must answer, because it is not waiting for this child."""
        try:
            counts = await Supervisor.count_children(ancestors()[0])
        except SupervisorDeadlock as error:
            return Reply(f"deadlock: {error}")
        return Reply((counts.specs, counts.active, counts.supervisors, counts.workers))

    async def handle_cast(self, message: Any) -> Stop:
        self.own = True
        if message == "crash":
            raise ValueError("told to crash")
        return Stop({"normal": NORMAL, "shutdown": SHUTDOWN, "detail": Shutdown("detail")}[message])

    async def handle_info(self, message: Any) -> None:
        """Ignore exit signals."""

    async def terminate(self, reason: ExitReason) -> None:
        self.diary.ready.pop(self.manner.id, None)
        self.diary.say("terminate", self.manner.id, short(reason))
        if self.own:
            return
        if reason is SHUTDOWN:
            await self.ask("stop")
            self.push()
        slow = self.manner.slow
        if slow is None or slow:
            await trio.sleep(math.inf if slow is None else slow * TICK)
        if self.manner.leaves is not None:
            exit(
                {"normal": NORMAL, "detail": Shutdown("detail"), "other": "oops"}[
                    self.manner.leaves
                ]
            )
        if self.manner.breaks:
            raise OSError("did not stop well")


async def start_early(manner: Manner, diary: Diary, *extra: Any, **options: Any) -> Pid:
    """Start an `Actor`, and wait before the return. If the start times out, the supervisor must stop the actor."""
    number = diary.starts.get(manner.id, 0)
    if manner.start(number).kind == "leave":
        diary.starts[manner.id] = number + 1
        exit("gone")
    pid = await Actor.start_link(manner, diary, *extra, **options)
    ticks = manner.start(diary.starts[manner.id] - 1).ticks
    if ticks:
        await trio.sleep(ticks * TICK)
    diary.ready[manner.id] = pid
    return pid


async def plain(*_: Any) -> None:
    """A child that is a plain process."""
    message = await receive()
    if message == "crash":
        raise ValueError("told to crash")
    exit({"normal": NORMAL, "shutdown": SHUTDOWN, "detail": Shutdown("detail")}[message])


def spec_of(manner: Manner, diary: Diary) -> ChildSpec:
    """Return the child spec for a `Manner`."""
    limit = manner.shutdown
    fields: dict[str, Any] = {"id": manner.id, "restart": manner.restart}
    # Leave out fields with default values, so that the sweep tests the defaults too.
    if limit != (None if manner.supervisor else 10):
        fields["shutdown"] = limit if isinstance(limit, str) else seconds(limit)
    if manner.significant:
        fields["significant"] = True
    if manner.supervisor:
        fields["type"] = "supervisor"
    if manner.plain:
        return process_spec(plain, **fields)
    if manner.start_timeout is not None:
        fields["start_timeout"] = manner.start_timeout * TICK
    if manner.named:
        fields["kwargs"] = {"name": manner.id}
    if manner.early:
        return ChildSpec(start=start_early, args=(manner, diary), **fields)
    return child_spec(Actor, manner, diary, **fields)


def seconds(ticks: int | None) -> float:
    return math.inf if ticks is None else ticks * TICK


def end_child(diary: Diary, how: str, pid: Pid) -> None:
    if how == "kill":
        kill(pid)
    elif how == "exit":
        send_exit(pid, "oops")
    elif pid in diary.plain:
        send(pid, how)
    else:
        cast(pid, how)


def written(line: tuple[int, tuple[Any, ...]] | None) -> str:
    if line is None:
        return "no event"
    tick, what = line
    return f"{' '.join(map(str, what))!r} at {tick * TICK:g} s"
