"""The children of one supervisor with a fixed set.

`supervision.strategy` and `supervision.intensity` decide; this module carries their decisions out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import trio

from actors.errors import AlreadyStarted
from actors.exits import SHUTDOWN, ExitReason
from actors.refs import Pid
from actors.servers.results import Stop
from supervision._core.children import Children, Failed, Retried
from supervision.child_spec import RESTARTING, ChildInfo, ChildSpec
from supervision.errors import (
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    ChildNameTaken,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildStartFailed,
)
from supervision.events import (
    CHILD_RESTARTED,
    CHILD_START_FAILED,
    CHILD_STARTED,
    CHILD_STARTING,
    CHILD_TERMINATED,
)
from supervision.messages import Setup, TryAgain
from supervision.strategy import Fate, check_significance, ends_supervisor, fate, plan_restart

__all__ = ["Tree"]


@final
class _Child(Retried):
    """One child of a running supervisor."""

    __slots__ = ("pid", "spec")

    def __init__(self, spec: ChildSpec) -> None:
        super().__init__()
        self.spec = spec
        self.pid: Pid | None = None


@final
class Tree(Children):
    """The children of a supervisor with a fixed set, in the order of their start."""

    __slots__ = ("_children", "_running", "_setup")

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._children: dict[Any, _Child] = {}
        self._running: dict[Pid, _Child] = {}
        super().__init__(setup, self._running)

    async def boot(self) -> tuple[ChildSpec, Failed] | None:
        """Start all children. If one fails, stop the others and return the failed one with its error."""
        for spec in self._setup.specs:
            failed = await self._add(spec)
            if failed is not None and not failed.ignored:
                await self.stop_all()
                return spec, failed
        return None

    async def ended(self, pid: Pid, reason: ExitReason) -> Stop | None:
        child = self._running.pop(pid, None)
        if child is None:
            return None
        spec = child.spec
        child.pid = None
        self._report(CHILD_TERMINATED, spec, pid, reason=reason, stopped=False)
        decision = fate(spec.restart, reason)
        if decision is Fate.RESTART:
            if self._backoff is not None:
                # The supervisor stops the group now, as it would without the wait.
                await self._stop_group(child)
                self._try_later(child, spec.id, reason)
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
        child = self._children.get(message.child)
        if child is None or child.retry is not message:
            return None
        return await self._restart(child, message.reason)

    async def _restart(
        self, pivot: _Child, reason: ExitReason, pid: Pid | None = None
    ) -> Stop | None:
        """Start the child that ended as `pid`, and the rest of its group, again; or give up."""
        pivot.retry = None
        if not self._intensity.admit(trio.current_time()):
            return self._give_up(pivot.spec, pid, reason)
        for child in await self._stop_group(pivot):
            spec = child.spec
            started = await self._launch(child)
            if isinstance(started, Pid):
                self._report(CHILD_RESTARTED, spec, started, reason=reason)
            elif not started.ignored:
                self._report(CHILD_START_FAILED, spec, None, reason=started.reason, restart=True)
                self._try_later(child, spec.id, started.reason)
                return None
        return None

    async def _stop_group(self, pivot: _Child) -> Sequence[_Child]:
        """Stop the group that the strategy restarts with `pivot`, and return the children to start, in order."""
        strategy = self._setup.strategy
        # A supervisor may have many children. This strategy needs no look at the others.
        group = [pivot] if strategy == "one_for_one" else list(self._children.values())
        plan = plan_restart(group, group.index(pivot), strategy)
        for child in plan.stop:
            await self._stop(child)
        for child in plan.drop:
            del self._children[child.spec.id]
        return plan.start

    async def stop_all(self) -> None:
        for child in reversed(self._children.values()):
            await self._stop(child)

    # Requests

    async def start_child(self, spec: ChildSpec) -> Pid | None:
        """Add a child. Return its pid, or None if it decided not to run."""
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
        """Stop a child and leave it stopped."""
        child = self._find(id)
        await self._stop(child)
        if child.spec.restart == "temporary":
            del self._children[id]

    async def restart_child(self, id: Any) -> Pid | None:
        """Start a child that is not running. Return its pid, or None if it decided not to run."""
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
        """Return a spec that the supervisor was started with, even if it has forgotten it since."""
        return self._setup.specs[position]

    @property
    def kind(self) -> str:
        return self._setup.strategy

    def which_children(self) -> list[ChildInfo]:
        return [
            ChildInfo(
                child.spec.id, RESTARTING if child.retry is not None else child.pid, child.spec.type
            )
            for child in reversed(self._children.values())
        ]

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
        """Start a new child, and keep it if it runs or may be started later."""
        child = _Child(spec)
        failed = await self._start_reported(child)
        if failed is None or (failed.ignored and spec.restart != "temporary"):
            self._children[spec.id] = child
        return failed

    async def _start_reported(self, child: _Child) -> Failed | None:
        """Start a child at boot or on request, not as a restart."""
        started = await self._launch(child)
        if isinstance(started, Pid):
            self._report(CHILD_STARTED, child.spec, started)
            return None
        if not started.ignored:
            self._report(CHILD_START_FAILED, child.spec, None, reason=started.reason, restart=False)
        return started

    async def _launch(self, child: _Child) -> Pid | Failed:
        self._report(CHILD_STARTING, child.spec, None)
        started = await self._start(child.spec)
        if isinstance(started, Pid):
            child.pid = started
            self._running[started] = child
        return started

    async def _stop(self, child: _Child) -> None:
        """Stop a child if it is running, and give up its restart if one is to come."""
        child.cancel_retry()
        pid = child.pid
        if pid is None:
            return
        reason = await self._stop_process(child.spec, pid)
        child.pid = None
        self._running.pop(pid, None)
        self._report_stopped(child.spec, pid, reason)
