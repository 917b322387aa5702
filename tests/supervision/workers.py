"""Children for supervisors under test: they write down what happens to them."""

from collections.abc import Callable
from typing import Any

import trio
import trio.testing

from actors import (
    Crash,
    GenServer,
    Pid,
    Reply,
    Stop,
    cast,
    kill,
    trap_exits,
    unlink,
)
from supervision import ChildSpec, Supervisor, child_spec


class Log(list[tuple[str, Any]]):
    """What happened, in order: ("start", "a"), ("stop", "a"), ..."""

    def names(self, kind: str) -> str:
        """The names of those to whom one kind of thing happened, in order: "abc"."""
        return "".join(name for what, name in self if what == kind)

    def take(self) -> list[str]:
        """What happened since the last time, as "start a", "stop a"."""
        happened = [f"{what} {name}" for what, name in self]
        self.clear()
        return happened


class Outcomes:
    """What the starts of one child lead to: one outcome after another, then success."""

    def __init__(self, *outcomes: Any) -> None:
        self.coming = list(outcomes)
        self.attempts = 0

    def next(self) -> Any:
        self.attempts += 1
        return self.coming.pop(0) if self.coming else None


class Worker(GenServer[str]):
    """Traps exits, so that `terminate` runs when its supervisor stops it."""

    async def init(
        self,
        name: str,
        log: Log | None = None,
        *,
        outcomes: Outcomes | None = None,
        stop_takes: float = 0.0,
        trap: bool = True,
    ) -> Any:
        self.log = Log() if log is None else log
        self.stop_takes = stop_takes
        self.state = name
        outcome = None if outcomes is None else outcomes.next()
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            return outcome
        if trap:
            trap_exits()
        self.log.append(("start", name))
        return None

    async def handle_call(self, request: Any, sender: Any) -> Reply:
        return Reply(await request() if callable(request) else request)

    async def handle_cast(self, message: Any) -> Any:
        if isinstance(message, Stop):
            return message
        if isinstance(message, Exception):
            raise message
        message()
        return None

    async def terminate(self, reason: Any) -> None:
        if self.stop_takes:
            await trio.sleep(self.stop_takes)
        self.log.append(("stop", self.state))


def worker(name: str, log: Log, *, outcomes: Outcomes | None = None, **spec: Any) -> ChildSpec:
    """The spec of a worker that is also called by its name."""
    settings = {key: spec.pop(key) for key in ("stop_takes", "trap") if key in spec}
    return child_spec(Worker, name, log, id=name, kwargs={"outcomes": outcomes, **settings}, **spec)


async def settle() -> None:
    """Let every process do what it can do without time passing."""
    await trio.testing.wait_all_tasks_blocked()


async def child(supervisor: object, id: str) -> Any:
    """Where `which_children` says that a child is."""
    return next(info.pid for info in await Supervisor.which_children(supervisor) if info.id == id)


async def running(supervisor: object, id: str) -> Pid:
    """The pid of a running child."""
    pid = await child(supervisor, id)
    assert isinstance(pid, Pid), pid
    return pid


async def end(pid: Pid, reason: object) -> None:
    """Make a worker end with a reason, by its own doing unless that is impossible."""
    if isinstance(reason, Crash):
        cast(pid, reason.exception)
    elif reason == "killed":
        kill(pid)
    else:
        cast(pid, Stop(reason))
    await settle()


async def crash(supervisor: object, id: str) -> None:
    """Make a running child crash, and let its supervisor do what it does about it."""
    await end(await running(supervisor, id), Crash(RuntimeError("crash")))


def unlinks_from(supervisor: Pid) -> Callable[[], None]:
    """What a worker runs to leave its supervisor without a word."""
    return lambda: unlink(supervisor)
