"""The code that all supervisors share: their base class, and functions that start and stop children.

This code runs in the process of a supervisor, which traps exits.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Container, Coroutine, Iterator
from inspect import isawaitable
from types import CoroutineType
from typing import Any, Final, Protocol, TypeVar, final

import trio

from actors.errors import ProcessExit, StartError, StartIgnored
from actors.exits import KILL, KILLED, NOPROC, NORMAL, SHUTDOWN, Crash, ExitReason, Shutdown
from actors.instrumentation.telemetry import Event
from actors.links import monitor, send_exit, unlink
from actors.messages import Down, Exit
from actors.process import current_pid, is_alive, receive, send
from actors.refs import Pid, Ref
from actors.runtime import current_runtime
from actors.servers.gen_server import GenServer, Sender
from actors.servers.results import Reply, Stop
from actors.timers import cancel_timer, send_after
from supervision._requests import Waiting, ask, unknown_request
from supervision.backoff import Backoff, Delays
from supervision.child_spec import (
    BRUTAL_KILL,
    ChildCounts,
    ChildInfo,
    ChildSpec,
    ChildType,
    RestartType,
    ShutdownLimit,
)
from supervision.errors import ChildStartTimeout, SupervisionError
from supervision.events import CHILD_RESTARTED, CHILD_STOP_FAILED, CHILD_TERMINATED, GAVE_UP
from supervision.messages import CountChildren, PoolSetup, Setup, TryAgain, WhichChildren
from supervision.strategy import RestartIntensity

__all__ = [
    "REFUSALS",
    "Children",
    "Described",
    "Failed",
    "Retried",
    "SupervisorBase",
    "begin_start",
    "end_process",
    "refused",
    "start",
    "stop",
    "stop_together",
    "stopped_as_asked",
]

# Starting


@final
class Failed:
    """The result of a start that produced no process."""

    __slots__ = ("error",)

    def __init__(self, error: StartError | StartIgnored) -> None:
        self.error: Final = error

    @property
    def ignored(self) -> bool:
        """True if the child decided not to run, which is not a failure."""
        return isinstance(self.error, StartIgnored)

    @property
    def reason(self) -> ExitReason:
        """The reason of the failure."""
        return NORMAL if isinstance(self.error, StartIgnored) else self.error.reason


def begin_start(
    spec: ChildSpec, extra: tuple[Any, ...] = (), *, in_time: bool = False
) -> Pid | Failed | Coroutine[Any, Any, Pid | Failed]:
    """Begin to start one child. If its start function raises, the supervisor continues.

    Args:
        spec: The child.
        extra: Further arguments, after the arguments in the spec.
        in_time: True if the caller enforces the `start_timeout` of the spec.

    Returns:
        The result, or a coroutine that waits for the start and returns the result.
    """
    if spec.start_timeout < math.inf and not in_time:
        return _start_in_time(spec, extra)
    try:
        # Unpacking empty kwargs costs more than this check.
        started: Any = (
            spec.start(*spec.args, *extra, **spec.kwargs)
            if spec.kwargs
            else spec.start(*spec.args, *extra)
        )
    except (Exception, ProcessExit) as error:  # a start function may raise any exception
        return _failed(error)
    if type(started) is Pid:
        return started
    # Test the likely case first, because isawaitable costs a microsecond.
    if type(started) is CoroutineType or isawaitable(started):
        return _wait_for(spec, started)
    return _no_pid(spec, started)


async def start(spec: ChildSpec, extra: tuple[Any, ...] = ()) -> Pid | Failed:
    """Start one child, as `begin_start` does, and wait for the result."""
    started = begin_start(spec, extra)
    return started if isinstance(started, (Pid, Failed)) else await started


async def _start_in_time(spec: ChildSpec, extra: tuple[Any, ...]) -> Pid | Failed:
    before = frozenset(_links())
    started: Pid | Failed | None = None
    with trio.move_on_after(spec.start_timeout) as limit:
        begun = begin_start(spec, extra, in_time=True)
        started = begun if isinstance(begun, (Pid, Failed)) else await begun
    if started is not None and not limit.cancel_called:
        return started
    # A cancelled start function of this package leaves no process. Other start functions may leave a linked process.
    for pid in _links():
        if pid not in before:
            await stop(pid, BRUTAL_KILL)
    return Failed(ChildStartTimeout(spec.id, spec.start_timeout))


def _links() -> tuple[Pid, ...]:
    info = current_runtime().process_info(current_pid())
    return () if info is None else info["links"]


async def _wait_for(spec: ChildSpec, starting: Awaitable[Any]) -> Pid | Failed:
    try:
        started = await starting
    except (Exception, ProcessExit) as error:  # a start function may raise any exception
        return _failed(error)
    return started if type(started) is Pid else _no_pid(spec, started)


def _no_pid(spec: ChildSpec, started: object) -> Failed:
    problem = (
        f"the start function of child {spec.id!r} returned {started!r}; "
        "return the pid of the process that it started and linked"
    )
    return Failed(StartError(Crash(TypeError(problem))))


def _failed(error: Exception | ProcessExit) -> Failed:
    """Return the failure of a start function that raised an exception, which becomes the reason."""
    if isinstance(error, (StartError, StartIgnored)):
        return Failed(error)
    if isinstance(error, ProcessExit):  # exit() in a start function must not end the supervisor
        return Failed(StartError(error.reason))
    return Failed(StartError(Crash(error)))


# Stopping


async def stop(pid: Pid, shutdown: ShutdownLimit) -> ExitReason:
    """Stop one child as its spec says, and return its exit reason.

    The supervisor monitors the child, because the child may have removed the link. This takes at most `shutdown`
    seconds, plus the time that the child needs to unwind after a kill. The runtime bounds that time.
    """
    reason = await end_process(pid, monitor(pid), shutdown)
    if reason is NOPROC:
        reason = await _reason_in_mailbox(pid)
    unlink(pid, flush=True)
    return reason


async def end_process(pid: Pid, ref: Ref, shutdown: ShutdownLimit) -> ExitReason:
    """Stop a process, and kill it after the limit. Return the reason in the `Down` of the monitor `ref`."""

    def is_down(message: object) -> bool:
        return type(message) is Down and message.ref is ref

    if shutdown == BRUTAL_KILL:
        send_exit(pid, KILL)
        down = await receive(is_down)
    else:
        send_exit(pid, SHUTDOWN)
        try:
            down = await receive(is_down, timeout=shutdown)
        except trio.TooSlowError:
            send_exit(pid, KILL)
            # This needs no limit, because the runtime declares a killed process dead after its kill_grace.
            down = await receive(is_down)
    reason: ExitReason = down.reason
    return reason


async def _reason_in_mailbox(pid: Pid) -> ExitReason:
    """Return the exit reason of a child that ended before it was monitored, from its unread `Exit` message."""
    try:
        message = await receive(
            lambda message: type(message) is Exit and message.pid is pid, timeout=0
        )
    except trio.TooSlowError:  # the child had removed its link, so there is no message
        return NOPROC
    reason: ExitReason = message.reason
    return reason


class Stoppable(Protocol):
    """The attributes of a child that `stop_together` needs."""

    @property
    def shutdown(self) -> ShutdownLimit:
        """The limit for the stop of the child."""


K = TypeVar("K", bound=Stoppable)


async def stop_together(children: dict[Pid, K]) -> list[tuple[Pid, K, ExitReason]]:
    """Stop children at the same time, each within its `shutdown`, and return them in the order of their ends.

    This takes as long as the slowest child. It discards all other messages. The supervisor ends afterwards, and keeping
    the messages would take quadratic time.
    """
    waiting: dict[Ref, tuple[Pid, K]] = {}
    limits: dict[float, list[Pid]] = {}
    for pid, child in children.items():
        waiting[monitor(pid)] = (pid, child)
        if child.shutdown == BRUTAL_KILL:
            send_exit(pid, KILL)
        else:
            send_exit(pid, SHUTDOWN)
            limits.setdefault(float(child.shutdown), []).append(pid)
    began = trio.current_time()
    deadlines = sorted(limits, reverse=True)
    unread: dict[Pid, ExitReason] = {}
    ended: list[tuple[Pid, K, ExitReason]] = []
    while waiting:
        left = began + deadlines[-1] - trio.current_time() if deadlines else math.inf
        try:
            message = await receive(timeout=max(0.0, left))
        except trio.TooSlowError:
            for pid in limits[deadlines.pop()]:
                send_exit(pid, KILL)
            continue
        if type(message) is Down and message.ref in waiting:
            pid, child = waiting.pop(message.ref)
            reason = unread.get(pid, NOPROC) if message.reason is NOPROC else message.reason
            ended.append((pid, child, reason))
        elif type(message) is Exit:
            unread[message.pid] = message.reason
    return ended


def stopped_as_asked(restart: RestartType, shutdown: ShutdownLimit, reason: ExitReason) -> bool:
    """Return whether a child ended with an expected reason after a supervisor stopped it.

    A permanent child must end with the reason that the supervisor sent. Any other child may also finish cleanly by
    itself at that moment.
    """
    if shutdown == BRUTAL_KILL and reason is KILLED:
        return True
    if reason is SHUTDOWN:
        return True
    return restart != "permanent" and (reason is NORMAL or type(reason) is Shutdown)


# The children of one supervisor


class Described(Stoppable, Protocol):
    """The attributes of a child that events show. A `ChildSpec` has them."""

    @property
    def id(self) -> Any:
        """Its id."""

    @property
    def type(self) -> ChildType:
        """Worker or supervisor."""

    @property
    def restart(self) -> RestartType:
        """The restart type of the child."""


class Retried:
    """A child that its supervisor may have to restart later.

    Attributes:
        retry: The message that will restart the child; None if no restart is due. The supervisor ignores any other
            `TryAgain` about the child.
        delays: The waits before the restarts; None without a backoff or before the first restart.
        restarts: The number of times that it was restarted.
    """

    __slots__ = ("delays", "restarts", "retry")

    def __init__(self) -> None:
        self.retry: TryAgain | None = None
        self.delays: Delays | None = None
        self.restarts = 0

    def cancel_retry(self) -> None:
        """Cancel the next restart, if there is one."""
        if self.retry is not None and self.retry.timer is not None:
            cancel_timer(self.retry.timer)
        self.retry = None


class Children(ABC):
    """The base of `Tree` and `Pool`: the children of the supervisor that runs in the current process.

    A method that handles a request returns the answer, or raises the error that the caller of the supervisor gets.
    """

    __slots__ = ("_backoff", "_intensity", "_supervisor", "_telemetry", "_waiting")

    def __init__(self, setup: Setup | PoolSetup, running: Container[Pid]) -> None:
        self._backoff: Backoff | None = setup.backoff
        self._intensity = RestartIntensity(setup.max_restarts, setup.max_seconds)
        self._telemetry = current_runtime().telemetry
        self._supervisor = current_pid()
        self._waiting = Waiting(running, self)

    @property
    @abstractmethod
    def kind(self) -> str:
        """The strategy, or "dynamic"."""

    @abstractmethod
    def each_child(self) -> Iterator[ChildInfo]:
        """Yield the current children, newest first. The children may change during the iteration."""

    def which_children(self) -> list[ChildInfo]:
        """List the children, newest first."""
        return list(self.each_child())

    @abstractmethod
    def ended(self, pid: Pid, reason: ExitReason) -> Stop | Coroutine[Any, Any, Stop | None] | None:
        """Begin to handle the end of a linked process. The result is a Stop if the supervisor ends too."""

    @abstractmethod
    async def try_again(self, message: TryAgain) -> Stop | None:
        """Try once more to restart a child, unless the message is out of date."""

    @abstractmethod
    async def stop_all(self) -> None:
        """Stop all children, before the end of the supervisor."""

    def count_children(self) -> ChildCounts:
        """Count the children."""
        children = self.which_children()
        supervisors = sum(child.type == "supervisor" for child in children)
        return ChildCounts(
            specs=len(children),
            active=sum(isinstance(child.pid, Pid) and is_alive(child.pid) for child in children),
            supervisors=supervisors,
            workers=len(children) - supervisors,
        )

    async def _start(self, spec: ChildSpec, extra: tuple[Any, ...] = ()) -> Pid | Failed:
        self._waiting.for_start(spec.id)
        started = await start(spec, extra)
        self._waiting.over()
        return started

    async def _stop_process(self, child: Described, pid: Pid) -> ExitReason:
        self._waiting.for_stop(child.id, pid)
        reason = await stop(pid, child.shutdown)
        self._waiting.over()
        return reason

    def _try_later(self, child: Retried, key: object, reason: ExitReason) -> None:
        """Send the supervisor a message that restarts the child, either immediately or after its backoff."""
        child.retry = message = TryAgain(key, reason)
        if self._backoff is None:
            send(self._supervisor, message)
            return
        if child.delays is None:
            child.delays = Delays(self._backoff)
        seconds = child.delays.next(trio.current_time())
        message.timer = send_after(self._supervisor, message, seconds)

    # Events

    def _report(self, event: Event, child: Described, pid: Pid | None, **more: Any) -> None:
        """Emit an event about a child, if the event has a handler."""
        if not self._telemetry.handlers(event):
            return
        measurements = {}
        about: dict[str, Any] = {
            "supervisor": self._supervisor,
            "id": child.id,
            "pid": pid,
            "type": child.type,
            "restart_type": child.restart,
        }
        if event in (CHILD_RESTARTED, GAVE_UP):
            limit = self._intensity
            # The count of the attempt itself, because a slow start may outlast the window.
            measurements = {"restarts": limit.counted}
            about["max_restarts"] = limit.max_restarts
            about["max_seconds"] = limit.max_seconds
            about["strategy"] = self.kind
        self._telemetry.execute(event, measurements, {**about, **more})

    def _report_stopped(self, child: Described, pid: Pid, reason: ExitReason) -> None:
        if not stopped_as_asked(child.restart, child.shutdown, reason):
            self._report(CHILD_STOP_FAILED, child, pid, reason=reason)
        self._report(CHILD_TERMINATED, child, pid, reason=reason, stopped=True)

    def _give_up(self, child: Described, pid: Pid | None, reason: ExitReason) -> Stop:
        self._report(GAVE_UP, child, pid, reason=reason)
        return Stop(SHUTDOWN)


C = TypeVar("C", bound=Children)

REFUSALS: Final = (SupervisionError, StartError, StartIgnored)
"""The exceptions that a supervisor answers to a request."""


def refused(refusal: Exception) -> Reply:
    """Return the answer to a request that a supervisor refuses."""
    # Drop the traceback, because it would keep the frames of this process in memory.
    return Reply(refusal.with_traceback(None))


# The process


class SupervisorBase(GenServer[C]):
    """A process with children. A subclass sets `state` in `init` and extends `_answer`."""

    @staticmethod
    async def which_children(supervisor: object) -> list[ChildInfo]:
        """List the children of any supervisor, newest first.

        The id of a dynamic supervisor's child is None.

        Raises:
            SupervisorDeadlock: The supervisor waits for the caller, which is one of its children.
        """
        children: list[ChildInfo] = await ask(supervisor, WhichChildren())
        return children

    @staticmethod
    async def count_children(supervisor: object) -> ChildCounts:
        """Count the children of any supervisor.

        Raises:
            SupervisorDeadlock: The supervisor waits for the caller, which is one of its children.
        """
        counts: ChildCounts = await ask(supervisor, CountChildren())
        return counts

    @classmethod
    def _describe(
        cls,
        args: tuple[Any, ...],
        options: dict[str, Any],
        *,
        id: Any,
        restart: RestartType,
        significant: bool,
    ) -> ChildSpec:
        return ChildSpec(
            options.get("name") or cls.__name__ if id is None else id,
            cls.start_link,
            args,
            options,
            restart=restart,
            type="supervisor",
            significant=significant,
        )

    async def _answer(self, request: Any) -> Any:
        """Carry out a request and return the answer, or raise the error for the caller."""
        kind = type(request)
        if kind is WhichChildren:
            return self.state.which_children()
        if kind is CountChildren:
            return self.state.count_children()
        # A mistaken call must not crash the supervisor, and its caller must get an answer.
        raise unknown_request(self, request)

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        try:
            return Reply(await self._answer(request))
        except REFUSALS as refusal:
            return refused(refusal)

    async def handle_cast(self, message: Any) -> None:
        await super().handle_info(message)

    async def handle_info(self, message: Any) -> Stop | None:
        kind = type(message)
        if kind is Exit:
            ended = self.state.ended(message.pid, message.reason)
            return await ended if isinstance(ended, Coroutine) else ended
        if kind is TryAgain:
            return await self.state.try_again(message)
        await super().handle_info(message)
        return None

    async def terminate(self, reason: ExitReason) -> None:
        await self.state.stop_all()
