"""The children of one dynamic supervisor.

A channel pool starts a child for every join and sees the end of one for every crash. Both are short: a table by pid,
one small object for each child, and no lists to search.
"""

from __future__ import annotations

from typing import Any, final

import trio

from actors.exits import ExitReason
from actors.refs import Pid
from actors.servers.results import Stop
from supervision._core.children import Children, Retried, stop_together
from supervision.child_spec import (
    RESTARTING,
    ChildInfo,
    ChildSpec,
    ChildType,
    RestartType,
    ShutdownLimit,
)
from supervision.errors import ChildNotFound, MaxChildren
from supervision.events import (
    CHILD_RESTARTED,
    CHILD_START_FAILED,
    CHILD_STARTED,
    CHILD_TERMINATED,
)
from supervision.messages import PoolSetup, TryAgain
from supervision.strategy import Fate, fate

__all__ = ["Pool"]


@final
class _Child(Retried):
    """One child. Between two restarts the supervisor knows it by its previous pid."""

    __slots__ = ("extra", "id", "restart", "shutdown", "spec", "type")

    def __init__(self, spec: ChildSpec, extra: tuple[Any, ...]) -> None:
        super().__init__()
        self.id = spec.id
        self.restart: RestartType = spec.restart
        self.shutdown: ShutdownLimit = spec.shutdown
        self.type: ChildType = spec.type
        # A supervisor never restarts a temporary child, and may have very many. It does not keep their arguments.
        temporary = spec.restart == "temporary"
        self.spec = None if temporary else spec
        self.extra = () if temporary else extra


@final
class Pool(Children):
    """The children of a dynamic supervisor, by pid."""

    __slots__ = ("_children", "_max_children")

    def __init__(self, setup: PoolSetup) -> None:
        self._max_children = setup.max_children
        self._children: dict[Pid, _Child] = {}
        super().__init__(setup, self._children)

    async def ended(self, pid: Pid, reason: ExitReason) -> Stop | None:
        child = self._children.get(pid)
        if child is None or child.retry is not None:
            return None
        self._report(CHILD_TERMINATED, child, pid, reason=reason, stopped=False)
        if fate(child.restart, reason) is not Fate.RESTART:
            del self._children[pid]
            return None
        if self._backoff is not None:
            self._try_later(child, pid, reason)
            return None
        return await self._restart(child, pid, reason)

    async def try_again(self, message: TryAgain) -> Stop | None:
        child = self._children.get(message.child)
        if child is None or child.retry is not message:
            return None
        return await self._restart(child, message.child, message.reason)

    async def _restart(self, child: _Child, pid: Pid, reason: ExitReason) -> Stop | None:
        """Start the child that had the pid `pid` again, or give up."""
        if not self._intensity.admit(trio.current_time()):
            del self._children[pid]
            return self._give_up(child, pid, reason)
        assert child.spec is not None
        started = await self._start(child.spec, child.extra)
        if isinstance(started, Pid):
            child.retry = None
            del self._children[pid]
            self._children[started] = child
            self._report(CHILD_RESTARTED, child, started, reason=reason)
        elif started.ignored:
            del self._children[pid]
        else:
            self._report(CHILD_START_FAILED, child, None, reason=started.reason, restart=True)
            self._try_later(child, pid, started.reason)
        return None

    async def stop_all(self) -> None:
        running = {pid: child for pid, child in self._children.items() if child.retry is None}
        self._waiting.for_stop(None, None)
        for pid, child, reason in await stop_together(running):
            self._report_stopped(child, pid, reason)

    # Requests

    async def start_child(self, spec: ChildSpec, extra: tuple[Any, ...]) -> Pid:
        """Start a child and return its pid."""
        if len(self._children) >= self._max_children:
            raise MaxChildren(self._max_children)
        started = await self._start(spec, extra)
        if isinstance(started, Pid):
            self._children[started] = _Child(spec, extra)
            self._report(CHILD_STARTED, spec, started)
            return started
        if not started.ignored:
            self._report(CHILD_START_FAILED, spec, None, reason=started.reason, restart=False)
        raise started.error

    async def terminate_child(self, pid: Pid) -> None:
        """Stop a child for good."""
        child = self._children.get(pid)
        if child is None:
            raise ChildNotFound(pid)
        if child.retry is None:
            self._report_stopped(child, pid, await self._stop_process(child, pid))
        child.cancel_retry()
        del self._children[pid]

    @property
    def kind(self) -> str:
        return "dynamic"

    def which_children(self) -> list[ChildInfo]:
        return [
            ChildInfo(None, pid if child.retry is None else RESTARTING, child.type)
            for pid, child in reversed(self._children.items())
        ]
