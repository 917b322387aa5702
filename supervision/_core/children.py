"""Starting one child, stopping one or all, and telling about it: what all supervisors do alike.

Everything here runs in the process of a supervisor, which traps exits.
"""

from __future__ import annotations

import math
from inspect import isawaitable
from types import CoroutineType
from typing import Any, Final, Protocol, TypeVar, final

import trio

from actors.errors import ProcessExit, StartError, StartIgnored
from actors.exits import KILL, KILLED, NOPROC, NORMAL, SHUTDOWN, Crash, ExitReason, Shutdown
from actors.links import monitor, send_exit, unlink
from actors.messages import Down, Exit
from actors.process import current_pid, receive
from actors.refs import Pid, Ref
from actors.runtime import current_runtime
from supervision.child_spec import BRUTAL_KILL, ChildSpec, RestartType, ShutdownLimit
from supervision.errors import ChildStartTimeout

__all__ = ["Failed", "Stoppable", "start", "stop", "stop_together", "stopped_as_asked"]


@final
class Failed:
    """A start that gave no process."""

    __slots__ = ("error",)

    def __init__(self, error: StartError | StartIgnored) -> None:
        self.error: Final = error

    @property
    def ignored(self) -> bool:
        """Whether the child decided not to run, which is no failure."""
        return isinstance(self.error, StartIgnored)

    @property
    def reason(self) -> ExitReason:
        """Why it failed."""
        return NORMAL if isinstance(self.error, StartIgnored) else self.error.reason


async def start(spec: ChildSpec, extra: tuple[Any, ...] = ()) -> Pid | Failed:
    """Start one child; whatever its start function does, the supervisor lives.

    Args:
        spec: of the child.
        extra: arguments that follow those of the spec.
    """
    if spec.start_timeout < math.inf:
        return await _start_in_time(spec, extra)
    return await _start(spec, extra)


async def _start_in_time(spec: ChildSpec, extra: tuple[Any, ...]) -> Pid | Failed:
    before = frozenset(_links())
    started: Pid | Failed | None = None
    with trio.move_on_after(spec.start_timeout) as limit:
        started = await _start(spec, extra)
    if started is not None and not limit.cancel_called:
        return started
    # The starts of this package leave nothing behind when they are cancelled; others may have been in the middle.
    for pid in _links():
        if pid not in before:
            await stop(pid, BRUTAL_KILL)
    return Failed(ChildStartTimeout(spec.id, spec.start_timeout))


def _links() -> tuple[Pid, ...]:
    info = current_runtime().process_info(current_pid())
    return () if info is None else info["links"]


async def _start(spec: ChildSpec, extra: tuple[Any, ...]) -> Pid | Failed:
    try:
        # Spreading an empty kwargs costs more than asking whether it is empty.
        started: Any = (
            spec.start(*spec.args, *extra, **spec.kwargs)
            if spec.kwargs
            else spec.start(*spec.args, *extra)
        )
        # Asked in the order of their likelihood: isawaitable alone costs a microsecond.
        if type(started) is CoroutineType or (type(started) is not Pid and isawaitable(started)):
            started = await started
    except (StartError, StartIgnored) as error:
        return Failed(error)
    except ProcessExit as error:  # exit() in a start function ends the start, not the supervisor
        return Failed(StartError(error.reason))
    except Exception as error:  # whatever a start function raises is why the child did not start
        return Failed(StartError(Crash(error)))
    if type(started) is Pid:
        return started
    return Failed(
        StartError(
            Crash(
                TypeError(
                    f"the start function of child {spec.id!r} returned {started!r}; "
                    "it must return the pid of the process that it started and linked"
                )
            )
        )
    )


async def stop(pid: Pid, shutdown: ShutdownLimit) -> ExitReason:
    """Stop one child in the way that its spec asks for, and return the reason it ended with.

    The supervisor's own monitor says when the child is gone, so that a child that has unlinked
    itself cannot make it wait for ever. Returns within `shutdown` seconds and the time that the
    child needs to unwind after a kill, which the runtime bounds.
    """
    ref = monitor(pid)
    if shutdown == BRUTAL_KILL:
        send_exit(pid, KILL)
        down = await receive(lambda message: type(message) is Down and message.ref is ref)
    else:
        send_exit(pid, SHUTDOWN)
        try:
            down = await receive(
                lambda message: type(message) is Down and message.ref is ref, timeout=shutdown
            )
        except trio.TooSlowError:
            send_exit(pid, KILL)
            down = await receive(lambda message: type(message) is Down and message.ref is ref)
    reason = down.reason
    if reason is NOPROC:
        reason = await _reason_in_mailbox(pid)
    unlink(pid, flush=True)
    return reason


async def _reason_in_mailbox(pid: Pid) -> ExitReason:
    """Why a child ended that had ended before it was monitored; its exit message is not read yet."""
    try:
        message = await receive(
            lambda message: type(message) is Exit and message.pid is pid, timeout=0
        )
    except trio.TooSlowError:  # it had unlinked itself, so nobody knows
        return NOPROC
    reason: ExitReason = message.reason
    return reason


class Stoppable(Protocol):
    """A child, as far as stopping it goes."""

    @property
    def shutdown(self) -> ShutdownLimit:
        """How it is to be stopped."""


K = TypeVar("K", bound=Stoppable)


async def stop_together(children: dict[Pid, K]) -> list[tuple[Pid, K, ExitReason]]:
    """Stop children all at once, each in the way it wants, and return them as they ended.

    As long as the slowest of them, not as all together. The supervisor is about to end, so whatever
    else is in its mailbox is thrown away: searching around it would take quadratic time.
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
    """Whether a child that was being stopped ended as it should have.

    A permanent child has no business to end with anything but the reason it was given; any other
    may happen to finish by itself.
    """
    if shutdown == BRUTAL_KILL and reason is KILLED:
        return True
    if reason is SHUTDOWN:
        return True
    return restart != "permanent" and (reason is NORMAL or type(reason) is Shutdown)
