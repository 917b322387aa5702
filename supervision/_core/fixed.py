"""The children of one static supervisor: what it does about them, in its process.

Decisions are taken by `supervision.strategy` and `supervision.intensity`; this carries them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import trio

from actors.errors import AlreadyStarted
from actors.exits import SHUTDOWN, ExitReason
from actors.process import current_pid, is_alive, send
from actors.refs import Pid
from actors.servers.results import Stop
from actors.timers import cancel_timer, send_after
from supervision._core.children import Failed, start, stop, stopped_as_asked
from supervision._core.deadlock import Waiting
from supervision._core.reports import Reports
from supervision.backoff import Delays
from supervision.child_spec import RESTARTING, ChildCounts, ChildInfo, ChildSpec
from supervision.errors import (
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    ChildNameTaken,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildStartFailed,
)
from supervision.intensity import RestartIntensity
from supervision.messages import Setup, TryAgain
from supervision.strategy import (
    Fate,
    check_significance,
    ends_supervisor,
    fate,
    plan_restart,
)

__all__ = ["Tree"]


@final
class _Child:
    """One child of a running supervisor."""

    __slots__ = ("delays", "pid", "retry", "spec")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.pid: Pid | None = None
        # Set while the child is "restarting": the message that will try it again. A message that is
        # not this very one any more is out of date.
        self.retry: TryAgain | None = None
        self.delays: Delays | None = None


@final
class Tree:
    """The children of the supervisor in whose process this is made, in the order of their start."""

    __slots__ = ("_children", "_intensity", "_reports", "_running", "_setup", "_waiting")

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._intensity = RestartIntensity(setup.max_restarts, setup.max_seconds)
        self._reports = Reports(self._intensity)
        self._children: dict[Any, _Child] = {}
        self._running: dict[Pid, _Child] = {}
        self._waiting = Waiting(self._running, self)

    async def boot(self) -> tuple[ChildSpec, Failed] | None:
        """Start all children. If one fails, stop the others again and return which failed, and how."""
        for spec in self._setup.specs:
            failed = await self._add(spec)
            if failed is not None and not failed.ignored:
                await self.stop_all()
                return spec, failed
        return None

    async def ended(self, pid: Pid, reason: ExitReason) -> Stop | None:
        """A process linked to the supervisor has ended. Returns a Stop if the supervisor ends too."""
        child = self._running.pop(pid, None)
        if child is None:
            # No child, or no child any more: nobody's business here.
            return None
        spec = child.spec
        child.pid = None
        self._reports.terminated(spec.id, pid, spec.type, reason=reason)
        decision = fate(spec.restart, reason)
        if decision is Fate.RESTART:
            if self._setup.backoff is not None:
                # Those that are to be started with it are stopped now, as they would be without the wait.
                await self._stop_group(child)
                self._try_later(child, reason)
                return None
            return await self._restart(child, reason, pid)
        if decision is Fate.DROP:
            del self._children[spec.id]
        others = (
            other.spec
            for other in self._children.values()
            if other.pid is not None or other.retry is not None
        )
        if ends_supervisor(self._setup.auto_shutdown, spec, others):
            return Stop(SHUTDOWN)
        return None

    async def try_again(self, message: TryAgain) -> Stop | None:
        """Try once more to restart a child, if that is still wanted."""
        child = self._children.get(message.child)
        if child is None or child.retry is not message:
            return None
        return await self._restart(child, message.reason)

    async def _restart(
        self, pivot: _Child, reason: ExitReason, pid: Pid | None = None
    ) -> Stop | None:
        """Start a child again (it has just ended as `pid`), and with it whom the strategy says; or give up."""
        pivot.retry = None
        if not self._intensity.admit(trio.current_time()):
            self._reports.gave_up(pivot.spec.id, pid, pivot.spec.type, reason=reason)
            return Stop(SHUTDOWN)
        for child in await self._stop_group(pivot):
            spec = child.spec
            failed = await self._start(child)
            if failed is None:
                assert child.pid is not None
                self._reports.restarted(spec.id, child.pid, spec.type, reason=reason)
            elif not failed.ignored:
                self._reports.start_failed(spec.id, spec.type, reason=failed.reason, restart=True)
                self._try_later(child, failed.reason)
                return None
        return None

    async def _stop_group(self, pivot: _Child) -> Sequence[_Child]:
        """Stop and forget whom the strategy says, and return who is to be started, in order."""
        strategy = self._setup.strategy
        # Alone, it needs no look at the others, of whom there may be many.
        group = [pivot] if strategy == "one_for_one" else list(self._children.values())
        plan = plan_restart(group, group.index(pivot), strategy)
        for child in plan.stop:
            await self._stop(child)
        for child in plan.drop:
            del self._children[child.spec.id]
        return plan.start

    def _try_later(self, child: _Child, reason: ExitReason) -> None:
        """Have a child restarted by a message: at once, or after its backoff."""
        child.retry = message = TryAgain(child.spec.id, reason)
        backoff = self._setup.backoff
        if backoff is None:
            send(current_pid(), message)
            return
        if child.delays is None:
            child.delays = Delays(backoff)
        seconds = child.delays.next(trio.current_time())
        message.timer = send_after(current_pid(), message, seconds)

    async def stop_all(self) -> None:
        """Stop every child, the one that was started last first."""
        for child in reversed(self._children.values()):
            await self._stop(child)

    # What others ask for: each does it, or raises why not

    async def start_child(self, spec: ChildSpec) -> Pid | None:
        """Add a child. Returns its pid, or None if it decided not to run."""
        check_significance(spec, self._setup.auto_shutdown)
        known = self._children.get(spec.id)
        if known is not None:
            if known.pid is not None:
                raise ChildAlreadyStarted(spec.id, known.pid)
            raise ChildAlreadyPresent(spec.id)
        failed = await self._add(spec)
        if failed is None:
            return self._children[spec.id].pid
        if failed.ignored:
            return None
        raise self._refusal(spec.id, failed)

    async def terminate_child(self, id: Any) -> None:
        """Stop a child, for good unless somebody restarts it."""
        child = self._find(id)
        await self._stop(child)
        if child.spec.restart == "temporary":
            del self._children[id]

    async def restart_child(self, id: Any) -> Pid | None:
        """Start a child that is not running. Returns its pid, or None if it decided not to run."""
        child = self._find_stopped(id)
        failed = await self._start_reported(child)
        if failed is not None and not failed.ignored:
            raise self._refusal(id, failed)
        return child.pid

    def delete_child(self, id: Any) -> None:
        """Forget a child that is not running."""
        self._find_stopped(id)
        del self._children[id]

    def get_childspec(self, id: Any) -> ChildSpec:
        """Return the spec of a child."""
        return self._find(id).spec

    def spec_at_start(self, position: int) -> ChildSpec:
        """Return a spec that the supervisor was started with, which it may have forgotten since."""
        return self._setup.specs[position]

    @property
    def kind(self) -> str:
        """What is said of the supervisor where its tree is shown."""
        return self._setup.strategy

    def which_children(self) -> list[ChildInfo]:
        """List the children, the one that was started last first."""
        return [
            ChildInfo(
                child.spec.id, RESTARTING if child.retry is not None else child.pid, child.spec.type
            )
            for child in reversed(self._children.values())
        ]

    def count_children(self) -> ChildCounts:
        """Count the children."""
        children = self._children.values()
        supervisors = sum(child.spec.type == "supervisor" for child in children)
        return ChildCounts(
            specs=len(children),
            active=sum(child.pid is not None and is_alive(child.pid) for child in children),
            supervisors=supervisors,
            workers=len(children) - supervisors,
        )

    # One child

    def _refusal(self, id: Any, failed: Failed) -> ChildStartFailed:
        error = failed.error
        if isinstance(error, ChildStartFailed):
            return error
        if isinstance(error, AlreadyStarted):
            return ChildNameTaken(id, error.name, error.pid)
        return ChildStartFailed(id, failed.reason)

    def _find(self, id: Any) -> _Child:
        child = self._children.get(id)
        if child is None:
            raise ChildNotFound(id)
        return child

    def _find_stopped(self, id: Any) -> _Child:
        child = self._find(id)
        if child.retry is not None:
            raise ChildRestarting(id)
        if child.pid is not None:
            raise ChildRunning(id, child.pid)
        return child

    async def _add(self, spec: ChildSpec) -> Failed | None:
        """Start a child that is not known yet, and know it from then on if there is a reason to."""
        child = _Child(spec)
        failed = await self._start_reported(child)
        if failed is None or (failed.ignored and spec.restart != "temporary"):
            self._children[spec.id] = child
        return failed

    async def _start_reported(self, child: _Child) -> Failed | None:
        """Start a child because somebody wants it, not because it has ended."""
        spec = child.spec
        failed = await self._start(child)
        if failed is None:
            assert child.pid is not None
            self._reports.started(spec.id, child.pid, spec.type)
        elif not failed.ignored:
            self._reports.start_failed(spec.id, spec.type, reason=failed.reason, restart=False)
        return failed

    async def _start(self, child: _Child) -> Failed | None:
        self._waiting.for_start(child.spec.id)
        self._reports.starting(child.spec.id, child.spec.type)
        started = await start(child.spec)
        self._waiting.over()
        if isinstance(started, Failed):
            return started
        child.pid = started
        self._running[started] = child
        return None

    async def _stop(self, child: _Child) -> None:
        """Stop a child, if it is running; if it is to be tried again, let that be."""
        if child.retry is not None and child.retry.timer is not None:
            cancel_timer(child.retry.timer)
        child.retry = None
        pid, spec = child.pid, child.spec
        if pid is None:
            return
        self._waiting.for_stop(spec.id, pid)
        reason = await stop(pid, spec.shutdown)
        self._waiting.over()
        child.pid = None
        self._running.pop(pid, None)
        if not stopped_as_asked(spec.restart, spec.shutdown, reason):
            self._reports.stop_failed(spec.id, pid, spec.type, reason=reason)
        self._reports.terminated(spec.id, pid, spec.type, reason=reason, stopped=True)
