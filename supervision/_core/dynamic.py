"""The children of one dynamic supervisor: what it does about them, in its process.

Starting a child is on the way of every channel that is joined, and its end on the way of every one
that crashes, so both are short: a table by pid, one small object for each child, no lists to search.
"""

from __future__ import annotations

from typing import Any, final

import trio

from actors.exits import SHUTDOWN, ExitReason
from actors.process import current_pid, is_alive, send
from actors.refs import Pid
from actors.servers.results import Stop
from actors.timers import cancel_timer, send_after
from supervision._core.children import Failed, start, stop, stop_together, stopped_as_asked
from supervision._core.deadlock import Waiting
from supervision._core.reports import Reports
from supervision.backoff import Delays
from supervision.child_spec import (
    RESTARTING,
    ChildCounts,
    ChildInfo,
    ChildSpec,
    ChildType,
    RestartType,
    ShutdownLimit,
)
from supervision.errors import ChildNotFound, MaxChildren
from supervision.intensity import RestartIntensity
from supervision.messages import PoolSetup, TryAgain
from supervision.strategy import Fate, fate

__all__ = ["Pool"]


@final
class _Child:
    """One child: what is needed to stop it, and, unless it is temporary, to start it again."""

    __slots__ = ("delays", "extra", "id", "restart", "retry", "shutdown", "spec", "type")

    def __init__(self, spec: ChildSpec, extra: tuple[Any, ...]) -> None:
        self.id = spec.id
        self.restart: RestartType = spec.restart
        self.shutdown: ShutdownLimit = spec.shutdown
        self.type: ChildType = spec.type
        # A temporary child is never started again, and there may be very many: its arguments must
        # not be kept alive for as long as it runs.
        temporary = spec.restart == "temporary"
        self.spec = None if temporary else spec
        self.extra = () if temporary else extra
        # Set while it is between two restarts; it is then known by the pid that it had before.
        self.retry: TryAgain | None = None
        self.delays: Delays | None = None


@final
class Pool:
    """The children of the supervisor in whose process this is made."""

    __slots__ = ("_backoff", "_children", "_intensity", "_max_children", "_reports", "_waiting")

    def __init__(self, setup: PoolSetup) -> None:
        self._max_children = setup.max_children
        self._backoff = setup.backoff
        self._intensity = RestartIntensity(setup.max_restarts, setup.max_seconds)
        self._reports = Reports(self._intensity)
        self._children: dict[Pid, _Child] = {}
        self._waiting = Waiting(self._children, self)

    async def ended(self, pid: Pid, reason: ExitReason) -> Stop | None:
        """A process linked to the supervisor has ended. Returns a Stop if the supervisor ends too."""
        child = self._children.get(pid)
        if child is None or child.retry is not None:
            # No child, or no child any more: nobody's business here.
            return None
        self._reports.terminated(child.id, pid, child.type, reason=reason)
        if fate(child.restart, reason) is Fate.RESTART:
            if self._backoff is not None:
                self._try_later(child, pid, reason)
                return None
            return await self._restart(child, pid, reason)
        del self._children[pid]
        return None

    async def try_again(self, message: TryAgain) -> Stop | None:
        """Try once more to restart a child, if that is still wanted."""
        child = self._children.get(message.child)
        if child is None or child.retry is not message:
            return None
        return await self._restart(child, message.child, message.reason)

    async def _restart(self, child: _Child, pid: Pid, reason: ExitReason) -> Stop | None:
        """Start a child again that had the pid `pid`, or give up."""
        if not self._intensity.admit(trio.current_time()):
            del self._children[pid]
            self._reports.gave_up(child.id, pid, child.type, reason=reason)
            return Stop(SHUTDOWN)
        assert child.spec is not None
        started = await self._start(child.spec, child.extra)
        if type(started) is Pid:
            child.retry = None
            del self._children[pid]
            self._children[started] = child
            self._reports.restarted(child.id, started, child.type, reason=reason)
            return None
        assert isinstance(started, Failed)
        if started.ignored:
            del self._children[pid]
            return None
        self._reports.start_failed(child.id, child.type, reason=started.reason, restart=True)
        self._try_later(child, pid, started.reason)
        return None

    def _try_later(self, child: _Child, pid: Pid, reason: ExitReason) -> None:
        """Have a child restarted by a message: at once, or after its backoff."""
        child.retry = message = TryAgain(pid, reason)
        if self._backoff is None:
            send(current_pid(), message)
            return
        if child.delays is None:
            child.delays = Delays(self._backoff)
        seconds = child.delays.next(trio.current_time())
        message.timer = send_after(current_pid(), message, seconds)

    async def stop_all(self) -> None:
        """Stop all children at once. The last thing that the supervisor does."""
        running = {pid: child for pid, child in self._children.items() if child.retry is None}
        self._waiting.for_stop(None, None)
        for pid, child, reason in await stop_together(running):
            self._stopped(pid, child, reason)

    # What others ask for: each returns the answer, an exception being one for the caller to raise

    async def start_child(self, spec: ChildSpec, extra: tuple[Any, ...]) -> Pid | Exception:
        """Start a child. Returns its pid."""
        if len(self._children) >= self._max_children:
            return MaxChildren(self._max_children)
        started = await self._start(spec, extra)
        if type(started) is Pid:
            self._children[started] = _Child(spec, extra)
            self._reports.started(spec.id, started, spec.type)
            return started
        assert isinstance(started, Failed)
        if not started.ignored:
            self._reports.start_failed(spec.id, spec.type, reason=started.reason, restart=False)
        return started.error

    async def terminate_child(self, pid: Pid) -> Exception | None:
        """Stop a child for good."""
        child = self._children.get(pid)
        if child is None:
            return ChildNotFound(pid)
        if child.retry is None:
            self._waiting.for_stop(child.id, pid)
            reason = await stop(pid, child.shutdown)
            self._waiting.over()
            self._stopped(pid, child, reason)
        elif child.retry.timer is not None:
            cancel_timer(child.retry.timer)
        del self._children[pid]
        return None

    @property
    def kind(self) -> str:
        """What is said of the supervisor where its tree is shown."""
        return "dynamic"

    def which_children(self) -> list[ChildInfo]:
        """List the children, the one that was started last first."""
        return [
            ChildInfo(None, pid if child.retry is None else RESTARTING, child.type)
            for pid, child in reversed(self._children.items())
        ]

    def count_children(self) -> ChildCounts:
        """Count the children."""
        children = self._children
        supervisors = sum(child.type == "supervisor" for child in children.values())
        return ChildCounts(
            specs=len(children),
            active=sum(child.retry is None and is_alive(pid) for pid, child in children.items()),
            supervisors=supervisors,
            workers=len(children) - supervisors,
        )

    # One child

    async def _start(self, spec: ChildSpec, extra: tuple[Any, ...]) -> Pid | Failed:
        self._waiting.for_start(spec.id)
        started = await start(spec, extra)
        self._waiting.over()
        return started

    def _stopped(self, pid: Pid, child: _Child, reason: ExitReason) -> None:
        if not stopped_as_asked(child.restart, child.shutdown, reason):
            self._reports.stop_failed(child.id, pid, child.type, reason=reason)
        self._reports.terminated(child.id, pid, child.type, reason=reason, stopped=True)
