"""Children for supervisors under test. They log their starts and stops."""

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
    """A list of starts and stops in order: ("start", "a"), ("stop", "a"), ..."""

    def names(self, kind: str) -> str:
        """Return the names in the entries of one kind, in order, such as "abc"."""
        return "".join(name for what, name in self if what == kind)

    def take(self) -> list[str]:
        """Return and remove all entries, as "start a", "stop a"."""
        happened = [f"{what} {name}" for what, name in self]
        self.clear()
        return happened


class Outcomes:
    """The outcomes of the starts of one child, in order. Later starts succeed."""

    def __init__(self, *outcomes: Any) -> None:
        self.coming = list(outcomes)
        self.attempts = 0

    def next(self) -> Any:
        self.attempts += 1
        return self.coming.pop(0) if self.coming else None


class Worker(GenServer[str]):
    """A worker that traps exits, so that `terminate` runs when its supervisor stops it."""

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
    """Return the spec of a worker with its name as id."""
    settings = {key: spec.pop(key) for key in ("stop_takes", "trap") if key in spec}
    return child_spec(Worker, name, log, id=name, kwargs={"outcomes": outcomes, **settings}, **spec)


async def settle() -> None:
    """Wait until no task can run without the passing of time."""
    await trio.testing.wait_all_tasks_blocked()


async def child(supervisor: object, id: str) -> Any:
    """Return the pid of a child in `which_children`."""
    return next(info.pid for info in await Supervisor.which_children(supervisor) if info.id == id)


async def running(supervisor: object, id: str) -> Pid:
    """Return the pid of a running child."""
    pid = await child(supervisor, id)
    assert isinstance(pid, Pid), pid
    return pid


async def end(pid: Pid, reason: object) -> None:
    """Make a worker end with a reason, if possible by its own action."""
    if isinstance(reason, Crash):
        cast(pid, reason.exception)
    elif reason == "killed":
        kill(pid)
    else:
        cast(pid, Stop(reason))
    await settle()


async def crash(supervisor: object, id: str) -> None:
    """Make a running child crash, and let its supervisor react."""
    await end(await running(supervisor, id), Crash(RuntimeError("crash")))


def unlinks_from(supervisor: Pid) -> Callable[[], None]:
    """Return a function that removes a worker's link to its supervisor."""
    return lambda: unlink(supervisor)
