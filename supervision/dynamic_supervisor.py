"""Supervisors of children that come and go, such as a child for each connection or job.

    pool = await DynamicSupervisor.start_link(max_children=10_000)
    session = child_spec(Session, restart="temporary")
    pid = await DynamicSupervisor.start_child(pool, session, socket)

The supervisor identifies its children by their pids, restarts each child alone, and stops all children at the same
time. For a fixed set of children, or a strategy other than "one_for_one", use `Supervisor`.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine, Iterator
from typing import Any, final

import trio

from actors.arguments import check_number
from actors.exits import ExitReason
from actors.links import trap_exits
from actors.messages import Exit
from actors.refs import Pid
from actors.servers.gen_server import Request, Sender, send_request
from actors.servers.results import Reply, Stop
from supervision._children import (
    REFUSALS,
    Children,
    Failed,
    Retried,
    SupervisorBase,
    begin_start,
    refused,
    stop_together,
)
from supervision._requests import ask
from supervision.backoff import Backoff, check_backoff
from supervision.child_spec import (
    RESTARTING,
    ChildInfo,
    ChildSpec,
    ChildType,
    RestartType,
    ShutdownLimit,
    Supervised,
    child_spec,
)
from supervision.errors import ChildNotFound, MaxChildren
from supervision.events import (
    CHILD_REFUSED,
    CHILD_RESTARTED,
    CHILD_START_FAILED,
    CHILD_STARTED,
    CHILD_TERMINATED,
)
from supervision.messages import (
    PoolSetup,
    StartDynamicChild,
    TerminateDynamicChild,
    TryAgain,
)
from supervision.strategy import (
    DEFAULT_MAX_RESTARTS,
    DEFAULT_MAX_SECONDS,
    Fate,
    RestartIntensity,
    check_significance,
    fate,
)

__all__ = ["DynamicSupervisor", "Pool"]


@final
class _Child(Retried):
    """One child. While the child waits for a restart, its previous pid identifies it."""

    __slots__ = ("extra", "id", "restart", "shutdown", "spec", "type")

    def __init__(self, spec: ChildSpec, extra: tuple[Any, ...]) -> None:
        super().__init__()
        self.id = spec.id
        self.restart: RestartType = spec.restart
        self.shutdown: ShutdownLimit = spec.shutdown
        self.type: ChildType = spec.type
        # To save memory, do not keep the spec and the arguments of a temporary child, which is never restarted.
        temporary = spec.restart == "temporary"
        self.spec = None if temporary else spec
        self.extra = () if temporary else extra


@final
class Pool(Children):
    """The children of a dynamic supervisor, by pid.

    A channel pool starts a child for every join, so starts and ends must be cheap. So there is a table by pid, with one
    small object for each child, and no search in lists.
    """

    __slots__ = ("_children", "_max_children", "_temporary")

    def __init__(self, setup: PoolSetup) -> None:
        self._max_children = setup.max_children
        self._children: dict[Pid, _Child] = {}
        # The record of the latest temporary child. Equal children share it, because it never changes.
        self._temporary: _Child | None = None
        super().__init__(setup, self._children)

    def ended(self, pid: Pid, reason: ExitReason) -> Coroutine[Any, Any, Stop | None] | None:
        child = self._children.get(pid)
        if child is None or child.retry is not None:
            return None
        if self._telemetry.handlers(CHILD_TERMINATED):
            self._report(CHILD_TERMINATED, child, pid, reason=reason, stopped=False)
        if fate(child.restart, reason) is not Fate.RESTART:
            del self._children[pid]
            return None
        if self._backoff is not None:
            self._try_later(child, pid, reason)
            return None
        return self._restart(child, pid, reason)

    async def try_again(self, message: TryAgain) -> Stop | None:
        child = self._children.get(message.child)
        if child is None or child.retry is not message:
            return None
        return await self._restart(child, message.child, message.reason)

    async def _restart(self, child: _Child, pid: Pid, reason: ExitReason) -> Stop | None:
        """Restart the child with the previous pid `pid`, or give up."""
        if not self._intensity.admit(trio.current_time()):
            del self._children[pid]
            return self._give_up(child, pid, reason)
        assert child.spec is not None
        started = await self._start(child.spec, child.extra)
        if isinstance(started, Pid):
            child.retry = None
            child.restarts += 1
            del self._children[pid]
            self._children[started] = child
            self._report(CHILD_RESTARTED, child, started, reason=reason, replaces=pid)
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

    def start_child(
        self, spec: ChildSpec, extra: tuple[Any, ...]
    ) -> Pid | Coroutine[Any, Any, Pid]:
        """Start a child. Return its pid, or a coroutine that waits for the start and returns the pid."""
        if len(self._children) >= self._max_children:
            self._report(CHILD_REFUSED, spec, None, max_children=self._max_children)
            raise MaxChildren(self._max_children)
        started = begin_start(spec, extra)
        if type(started) is Pid or type(started) is Failed:
            return self._take_in(spec, extra, started)
        self._waiting.for_start(spec.id)
        return self._finish_start(spec, extra, started)

    async def _finish_start(
        self, spec: ChildSpec, extra: tuple[Any, ...], starting: Coroutine[Any, Any, Pid | Failed]
    ) -> Pid:
        started = await starting
        self._waiting.over()
        return self._take_in(spec, extra, started)

    def _take_in(self, spec: ChildSpec, extra: tuple[Any, ...], started: Pid | Failed) -> Pid:
        """Add a child that has started. Raise the error of one that has not."""
        if type(started) is Pid:
            self._children[started] = self._record_of(spec, extra)
            if self._telemetry.handlers(CHILD_STARTED):
                self._report(CHILD_STARTED, spec, started)
            return started
        if not started.ignored:
            self._report(CHILD_START_FAILED, spec, None, reason=started.reason, restart=False)
        raise started.error

    def _record_of(self, spec: ChildSpec, extra: tuple[Any, ...]) -> _Child:
        """Return the record of a new child."""
        if spec.restart != "temporary":
            return _Child(spec, extra)
        known = self._temporary
        if (
            known is None
            or known.id is not spec.id
            or known.shutdown != spec.shutdown
            or known.type != spec.type
        ):
            known = self._temporary = _Child(spec, ())
        return known

    async def terminate_child(self, pid: Pid) -> None:
        """Stop a child and forget it."""
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

    def each_child(self) -> Iterator[ChildInfo]:
        for pid, child in reversed(list(self._children.items())):
            shown = pid if child.retry is None else RESTARTING
            yield ChildInfo(None, shown, child.type, child.restarts)


class DynamicSupervisor(SupervisorBase[Pool]):
    """A process that supervises any number of independent children, of one kind or several.

    Source: Elixir's `DynamicSupervisor` and OTP's `simple_one_for_one`. There is one difference: Elixir and OTP count
    restarts in whole seconds, and here the restart window is exact.
    """

    @classmethod
    async def start_link(  # type: ignore[override] # a supervisor's arguments are known
        cls,
        *,
        max_children: float = math.inf,
        max_restarts: float = DEFAULT_MAX_RESTARTS,
        max_seconds: float = DEFAULT_MAX_SECONDS,
        backoff: Backoff | None = None,
        name: object = None,
        label: str | None = None,
        timeout: float = math.inf,
    ) -> Pid:
        """Start a supervisor without children, linked to the current process if there is one.

            pool = await DynamicSupervisor.start_link(max_children=100, name="jobs")

        Args:
            max_children: The largest number of children, including those that wait for a restart.
            max_restarts: Allowed restarts of all children together within `max_seconds`. At the next restart the
                supervisor gives up: it stops its children and ends with `SHUTDOWN`. Ends of temporary children do not
                count.
            max_seconds: Length of the restart window in seconds.
            backoff: Waits before restarts; None for no wait. A child that waits counts towards `max_children`, and you
                can still use its last pid. Not part of OTP.
            name: Registered name of the supervisor.
            label: Name of the supervisor in messages.
            timeout: Seconds that the start may take.

        Returns:
            The supervisor's pid.

        Raises:
            InvalidOption: An option has an invalid value.
            AlreadyStarted: Another process, `error.pid`, has the name.
        """
        setup = _set_up(max_children, max_restarts, max_seconds, backoff)
        return await super().start_link(setup, name=name, label=label, timeout=timeout)

    @classmethod
    async def start(  # type: ignore[override] # a supervisor's arguments are known
        cls,
        *,
        max_children: float = math.inf,
        max_restarts: float = DEFAULT_MAX_RESTARTS,
        max_seconds: float = DEFAULT_MAX_SECONDS,
        backoff: Backoff | None = None,
        name: object = None,
        label: str | None = None,
        timeout: float = math.inf,
    ) -> Pid:
        """Start a supervisor as `start_link` does, without the link."""
        setup = _set_up(max_children, max_restarts, max_seconds, backoff)
        return await super().start(setup, name=name, label=label, timeout=timeout)

    @classmethod
    def child_spec(
        cls,
        *,
        id: Any = None,
        restart: RestartType = "permanent",
        significant: bool = False,
        **options: Any,
    ) -> ChildSpec:
        """Describe a dynamic supervisor as a child of another supervisor.

            DynamicSupervisor.child_spec(name="jobs", max_children=100)

        Args:
            id: By default the `name`, or the name of the class.
            restart: As in `ChildSpec`.
            significant: As in `ChildSpec`.
            options: As for `start_link`.

        Returns:
            The spec.

        Raises:
            InvalidChildSpec: The spec of the supervisor is invalid.
            InvalidOption: An option has an invalid value.
        """
        _set_up(**{key: options[key] for key in _SETTINGS if key in options})
        return cls._describe((), options, id=id, restart=restart, significant=significant)

    # Requests

    @staticmethod
    async def start_child(supervisor: object, child: Supervised, /, *extra: Any) -> Pid:
        """Start a child and return its pid after its init.

            pid = await DynamicSupervisor.start_child(pool, session, socket)

        Args:
            supervisor: A pid or a name.
            child: A spec, or a class with `start_link`. The supervisor ignores the id of the spec. To start many
                children faster, make the spec once.
            extra: Further arguments for this child, after the arguments in the spec.

        Raises:
            MaxChildren: The supervisor has `max_children` children.
            StartIgnored: The init of the child returned `Ignore()`. The supervisor forgets the child.
            StartError: The child did not start. The supervisor forgets it.
            AlreadyStarted: The child did not start, because another process, `error.pid`, has its name.
            InvalidChildSpec: The spec is invalid.
            SupervisorDeadlock: The supervisor waits for the caller, which is one of its children.
        """
        spec = child if type(child) is ChildSpec else child_spec(child)
        if spec.significant:
            check_significance(spec, "never")
        pid: Pid = await ask(supervisor, StartDynamicChild(spec, extra))
        return pid

    @staticmethod
    def request_start(supervisor: object, child: ChildSpec, /, *extra: Any) -> Request:
        """Ask for the start of a child as `start_child` does, and return without waiting for the answer.

        If the supervisor is idle and the start function does not wait, the request is done when this returns. Its
        result is the pid, or the exception that `start_child` would raise.

        Args:
            supervisor: A pid or a name.
            child: A spec.
            extra: Further arguments for this child, after the arguments in the spec.

        Raises:
            NoProcess: There is no such supervisor.
            CallingSelf: The supervisor is the calling process.
            InvalidChildSpec: The spec is significant.
        """
        if child.significant:
            check_significance(child, "never")
        return send_request(supervisor, StartDynamicChild(child, extra))

    @staticmethod
    async def terminate_child(supervisor: object, pid: Pid) -> None:
        """Stop a child and forget it. While a child waits for a restart, its last pid identifies it.

        Args:
            supervisor: A pid or a name.
            pid: The pid of the child.

        Raises:
            ChildNotFound: The supervisor has no child with this pid.
            SupervisorDeadlock: The supervisor waits for the caller, which is one of its children.
        """
        await ask(supervisor, TerminateDynamicChild(pid))

    # The process

    async def init(self, setup: PoolSetup) -> None:
        trap_exits()
        self.state = Pool(setup)

    # An idle supervisor starts a child, and forgets one, in the task of the process that asks or ends. Otherwise each
    # crash and rejoin of a channel would take two more steps of the scheduler.

    def handle_info_nowait(self, message: Any) -> Any:
        if type(message) is Exit:
            return self.state.ended(message.pid, message.reason)
        return self.handle_info(message)

    def handle_call_nowait(self, request: Any, sender: Sender) -> Any:
        if type(request) is not StartDynamicChild:
            return self.handle_call(request, sender)
        try:
            started = self.state.start_child(request.spec, request.extra)
        except REFUSALS as refusal:
            return refused(refusal)
        return Reply(started) if type(started) is Pid else self._started(started)

    async def _started(self, starting: Coroutine[Any, Any, Pid]) -> Reply:
        try:
            return Reply(await starting)
        except REFUSALS as refusal:
            return refused(refusal)

    async def _answer(self, request: Any) -> Any:
        kind = type(request)
        if kind is StartDynamicChild:
            started = self.state.start_child(request.spec, request.extra)
            return started if type(started) is Pid else await started
        if kind is TerminateDynamicChild:
            return await self.state.terminate_child(request.pid)
        return await super()._answer(request)


def _set_up(
    max_children: float = math.inf,
    max_restarts: float = DEFAULT_MAX_RESTARTS,
    max_seconds: float = DEFAULT_MAX_SECONDS,
    backoff: Backoff | None = None,
) -> PoolSetup:
    expected = "a number of children from 0, or math.inf for no limit"
    check_number("DynamicSupervisor", "max_children", max_children, expected, least=0)
    check_backoff(backoff)
    RestartIntensity(max_restarts, max_seconds)  # only for its checks
    return PoolSetup(
        max_children=max_children,
        max_restarts=max_restarts,
        max_seconds=max_seconds,
        backoff=backoff,
    )


_SETTINGS = ("max_children", "max_restarts", "max_seconds", "backoff")
