"""Supervisors: processes that start other processes and restart them when they end.

    top = await Supervisor.start_link(
        [
            child_spec(Store, kwargs={"name": "store"}),
            child_spec(Listener, 4000, restart="transient"),
        ],
        strategy="rest_for_one",
    )

A supervisor starts its children in the order of the list, and waits until each child is ready before it starts the
next. It stops the children in the reverse order. Use a `Supervisor` for the fixed parts of a program, and a
`DynamicSupervisor` for children that come and go.

A supervisor can be the child of another supervisor. Pass `Supervisor.child_spec([...])` as the child, or an async
function that makes the list and ends with `return await Supervisor.start_link(...)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, final

import trio

from actors.errors import AlreadyStarted, InvalidOption
from actors.exits import SHUTDOWN, ExitReason, Shutdown
from actors.links import trap_exits
from actors.refs import Pid
from actors.servers.results import Stop
from supervision._children import Children, Failed, Retried, SupervisorBase
from supervision._requests import ask
from supervision.backoff import Backoff, check_backoff
from supervision.child_spec import (
    RESTARTING,
    ChildInfo,
    ChildSpec,
    RestartType,
    Supervised,
    child_spec,
)
from supervision.errors import (
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    ChildNameTaken,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildStartFailed,
    FailedToStartChild,
    InvalidChildSpec,
)
from supervision.events import (
    CHILD_RESTARTED,
    CHILD_START_FAILED,
    CHILD_STARTED,
    CHILD_STARTING,
    CHILD_TERMINATED,
)
from supervision.messages import (
    DeleteChild,
    GetChildSpec,
    RestartChild,
    Setup,
    StartChild,
    TerminateChild,
    TryAgain,
)
from supervision.strategy import (
    DEFAULT_MAX_RESTARTS,
    DEFAULT_MAX_SECONDS,
    AutoShutdown,
    Fate,
    RestartIntensity,
    Strategy,
    check_auto_shutdown,
    check_significance,
    check_strategy,
    ends_supervisor,
    fate,
    plan_restart,
)

__all__ = ["Supervisor", "Tree", "check_child_specs"]


@final
class _Child(Retried):
    """One child of a running supervisor."""

    __slots__ = ("last", "pid", "spec")

    def __init__(self, spec: ChildSpec) -> None:
        super().__init__()
        self.spec = spec
        self.pid: Pid | None = None
        # Its last pid, also after its end.
        self.last: Pid | None = None


@final
class Tree(Children):
    """The children of a supervisor with a fixed set of children, in the order of their start.

    This class carries out the decisions of `supervision.strategy`.
    """

    __slots__ = ("_children", "_running", "_setup")

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._children: dict[Any, _Child] = {}
        self._running: dict[Pid, _Child] = {}
        super().__init__(setup, self._running)

    async def boot(self) -> tuple[ChildSpec, Failed] | None:
        """Start all children. If a start fails, stop the other children, and return the spec and the error."""
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
                # Stop the rest of the group now. The group restarts together with the child.
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
        """Restart the child that ended and its group, or give up. `pid` is for the event about giving up."""
        pivot.retry = None
        if not self._intensity.admit(trio.current_time()):
            return self._give_up(pivot.spec, pid, reason)
        for child in await self._stop_group(pivot):
            spec, last = child.spec, child.last
            started = await self._launch(child)
            if isinstance(started, Pid):
                child.restarts += 1
                self._report(CHILD_RESTARTED, spec, started, reason=reason, replaces=last)
            elif not started.ignored:
                self._report(CHILD_START_FAILED, spec, None, reason=started.reason, restart=True)
                self._try_later(child, spec.id, started.reason)
                return None
        return None

    async def _stop_group(self, pivot: _Child) -> Sequence[_Child]:
        """Stop the group that the strategy restarts with `pivot`, and return the children to start, in order."""
        strategy = self._setup.strategy
        # For one_for_one, avoid a list of all children, because there may be many.
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
        """Add a child. Return its pid, or None if its init returned `Ignore()`."""
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
        """Start a child that is not running. Return its pid, or None if its init returned `Ignore()`."""
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
        """Return the spec at a position of the start list, even if the supervisor has forgotten the child."""
        return self._setup.specs[position]

    @property
    def kind(self) -> str:
        return self._setup.strategy

    def each_child(self) -> Iterator[ChildInfo]:
        for child in reversed(list(self._children.values())):
            pid = RESTARTING if child.retry is not None else child.pid
            yield ChildInfo(child.spec.id, pid, child.spec.type, child.restarts)

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
        """Start a new child, and keep it if it runs or a later request may start it."""
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
            child.pid = child.last = started
            self._running[started] = child
        return started

    async def _stop(self, child: _Child) -> None:
        """Stop a child if it is running, and cancel its next restart if there is one."""
        child.cancel_retry()
        pid = child.pid
        if pid is None:
            return
        reason = await self._stop_process(child.spec, pid)
        child.pid = None
        self._running.pop(pid, None)
        self._report_stopped(child.spec, pid, reason)


class Supervisor(SupervisorBase[Tree]):
    """A process that supervises a fixed set of children.

    Start it with `start_link`. The functions whose first argument is a supervisor's pid or name, such as
    `which_children`, work in any task of the runtime. A supervisor answers no request while it starts or stops a child,
    so these functions may have to wait.

    Source: OTP's `supervisor`. There is one difference: OTP counts restarts in whole seconds, and here the restart
    window is exact.
    """

    @classmethod
    async def start_link(  # type: ignore[override] # a supervisor's arguments are known
        cls,
        children: Iterable[Supervised],
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: float = DEFAULT_MAX_RESTARTS,
        max_seconds: float = DEFAULT_MAX_SECONDS,
        auto_shutdown: AutoShutdown = "never",
        backoff: Backoff | None = None,
        name: object = None,
        label: str | None = None,
        timeout: float = math.inf,
    ) -> Pid:
        """Start a supervisor and all its children, linked to the current process if there is one.

            top = await Supervisor.start_link([Counter, child_spec(Mailer, "smtp.example.org")])

        Args:
            children: Specs, or classes with `start_link`, in the order of their start.
            strategy: The children to restart when a child ends: only that child ("one_for_one"), all children
                ("one_for_all"), or that child and all later children ("rest_for_one"). The supervisor stops a group in
                reverse order and starts it in order. It forgets the temporary children of the group. It starts all
                other children of the group, even children that had finished or were terminated.
            max_restarts: Allowed restarts within `max_seconds`. At the next restart the supervisor gives up: it stops
                its children and ends with `SHUTDOWN`.
            max_seconds: Length of the restart window in seconds.
            auto_shutdown: "any_significant": the supervisor ends with `SHUTDOWN` when a significant child ends and is
                not restarted. "all_significant": the supervisor ends when the last significant child ends. With the
                default "never", no child may be significant.
            backoff: Waits before restarts; None for no wait. Not part of OTP.
            name: Registered name of the supervisor. The supervisor has the name before it starts the first child.
            label: Name of the supervisor in messages.
            timeout: Seconds that the start of all children together may take.

        Returns:
            The supervisor's pid, after every child has started.

        Raises:
            InvalidChildSpec: A child spec is invalid, or two children have the same id; nothing was started.
            InvalidOption: An option has an invalid value; nothing was started.
            StartError: A child did not start. The reason is `Shutdown(FailedToStartChild(id, reason))`. The supervisor
                stopped the children before it in reverse order. As with every failed start, the link also sends the
                reason to the caller, and the caller ends unless it traps exits.
            AlreadyStarted: Another process, `error.pid`, has the name.
        """
        setup = _set_up(
            children, strategy, max_restarts, max_seconds, auto_shutdown, backoff=backoff
        )
        return await super().start_link(setup, name=name, label=label, timeout=timeout)

    @classmethod
    async def start(  # type: ignore[override] # a supervisor's arguments are known
        cls,
        children: Iterable[Supervised],
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: float = DEFAULT_MAX_RESTARTS,
        max_seconds: float = DEFAULT_MAX_SECONDS,
        auto_shutdown: AutoShutdown = "never",
        backoff: Backoff | None = None,
        name: object = None,
        label: str | None = None,
        timeout: float = math.inf,
    ) -> Pid:
        """Start a supervisor as `start_link` does, without the link."""
        setup = _set_up(
            children, strategy, max_restarts, max_seconds, auto_shutdown, backoff=backoff
        )
        return await super().start(setup, name=name, label=label, timeout=timeout)

    @classmethod
    def child_spec(
        cls,
        children: Iterable[Supervised],
        *,
        id: Any = None,
        restart: RestartType = "permanent",
        significant: bool = False,
        **options: Any,
    ) -> ChildSpec:
        """Describe a supervisor as a child of another supervisor.

            Supervisor.child_spec([Counter, Mailer], id="services", strategy="one_for_all")

        Args:
            children: As for `start_link`.
            id: By default the `name`, or the name of the class.
            restart: As in `ChildSpec`.
            significant: As in `ChildSpec`.
            options: As for `start_link`.

        Returns:
            The spec.

        Raises:
            InvalidChildSpec: The spec of the supervisor or of one of its children is invalid.
            InvalidOption: An option has an invalid value.
        """
        specs = tuple(child_spec(child) for child in _listed(children))
        _set_up(specs, **{key: options[key] for key in _SETTINGS if key in options})
        return cls._describe((specs,), options, id=id, restart=restart, significant=significant)

    # Requests

    @staticmethod
    async def start_child(supervisor: object, child: Supervised) -> Pid | None:
        """Add a child after all other children, and start it.

            pid = await Supervisor.start_child(top, child_spec(Counter, 0, id="second"))

        Args:
            supervisor: A pid or a name.
            child: A spec, or a class with `start_link`.

        Returns:
            The pid of the child; None if its init returned `Ignore()`. In that case the supervisor keeps the spec,
            unless the child is temporary.

        Raises:
            InvalidChildSpec: The spec is invalid, or the child is significant and the supervisor has no
                `auto_shutdown`.
            ChildAlreadyStarted: A child with this id is running.
            ChildAlreadyPresent: A child with this id exists and is not running.
            ChildStartFailed: The child did not start. The supervisor forgets it.
            ChildNameTaken: The child did not start, because another process has its name. This error and
                ChildAlreadyStarted are subclasses of AlreadyStarted. So with
                `except AlreadyStarted as error: pid = error.pid` you get the pid of the existing process.
            SupervisorDeadlock: The supervisor waits for the caller, which is one of its children.
        """
        pid: Pid | None = await ask(supervisor, StartChild(child_spec(child)))
        return pid

    @staticmethod
    async def terminate_child(supervisor: object, id: Any) -> None:
        """Stop a child and leave it stopped. The supervisor forgets the spec of a temporary child.

        If the child is not running, this only cancels its next restart. An end by this function does not count for
        `auto_shutdown`.

        Args:
            supervisor: A pid or a name.
            id: The id of the child.

        Raises:
            ChildNotFound: The supervisor has no child with this id.
            SupervisorDeadlock: The supervisor waits for the caller, which is one of its children.
        """
        await ask(supervisor, TerminateChild(id))

    @staticmethod
    async def restart_child(supervisor: object, id: Any) -> Pid | None:
        """Start a child that is not running. The supervisor does not count this start as a restart.

        Args:
            supervisor: A pid or a name.
            id: The id of the child.

        Returns:
            The pid of the child, or None if its init returned `Ignore()`.

        Raises:
            ChildNotFound: The supervisor has no child with this id.
            ChildRunning: The child is running.
            ChildRestarting: The supervisor is about to restart the child.
            ChildStartFailed: The child did not start. The supervisor keeps its spec.
            ChildNameTaken: The child did not start, because another process, `error.pid`, has its name.
            SupervisorDeadlock: The supervisor waits for the caller, which is one of its children.
        """
        pid: Pid | None = await ask(supervisor, RestartChild(id))
        return pid

    @staticmethod
    async def delete_child(supervisor: object, id: Any) -> None:
        """Forget a child that is not running.

        Args:
            supervisor: A pid or a name.
            id: The id of the child.

        Raises:
            ChildNotFound: The supervisor has no child with this id.
            ChildRunning: The child is running.
            ChildRestarting: The supervisor is about to restart the child.
            SupervisorDeadlock: The supervisor waits for the caller, which is one of its children.
        """
        await ask(supervisor, DeleteChild(id))

    @staticmethod
    async def get_childspec(supervisor: object, id: Any) -> ChildSpec:
        """Return the spec of a child.

        Args:
            supervisor: A pid or a name.
            id: The id of the child.

        Raises:
            ChildNotFound: The supervisor has no child with this id.
            SupervisorDeadlock: The supervisor waits for the caller, which is one of its children.
        """
        spec: ChildSpec = await ask(supervisor, GetChildSpec(id))
        return spec

    # The process

    async def init(self, setup: Setup) -> Stop | None:
        trap_exits()
        self.state = Tree(setup)
        failure = await self.state.boot()
        if failure is None:
            return None
        spec, failed = failure
        return Stop(Shutdown(FailedToStartChild(spec.id, failed.reason)))

    async def _answer(self, request: Any) -> Any:
        tree = self.state
        match request:
            case StartChild(spec):
                return await tree.start_child(spec)
            case TerminateChild(id):
                return await tree.terminate_child(id)
            case RestartChild(id):
                return await tree.restart_child(id)
            case DeleteChild(id):
                return tree.delete_child(id)
            case GetChildSpec(id):
                return tree.get_childspec(id)
        return await super()._answer(request)


def check_child_specs(
    children: Iterable[Supervised], *, auto_shutdown: AutoShutdown = "never"
) -> tuple[ChildSpec, ...]:
    """Check that one supervisor can have these children, without starting any.

        check_child_specs([Counter, Mailer])

    Args:
        children: Specs, or classes with `start_link`.
        auto_shutdown: As for `Supervisor.start_link`.

    Returns:
        Their specs, in order.

    Raises:
        InvalidChildSpec: A spec is invalid. Two children with the same id are such an error.
    """
    seen: set[Any] = set()
    specs = tuple(child_spec(child) for child in _listed(children))
    for spec in specs:
        if spec.id in seen:
            raise InvalidChildSpec(
                "two children of one supervisor have this id; "
                'give one of them another, as in child_spec(Worker, id="worker-2")',
                id=spec.id,
                field="id",
                value=spec.id,
            )
        seen.add(spec.id)
        check_significance(spec, auto_shutdown)
    return specs


def _listed(children: Any) -> Iterable[Supervised]:
    if isinstance(children, Iterable) and not isinstance(
        children, str | Mapping | type | ChildSpec
    ):
        return children
    if isinstance(children, Mapping):
        advice = "a list of the values; a child's name goes into child_spec(Class, id=...)"
    elif isinstance(children, type | ChildSpec) or hasattr(children, "start_link"):
        advice = f"a list, even for one child: [{getattr(children, '__name__', 'child')}]"
    else:
        advice = "a list of specs, or of classes with start_link"
    raise InvalidOption("a supervisor", "children", children, advice)


def _set_up(
    children: Iterable[Supervised],
    strategy: Strategy = "one_for_one",
    max_restarts: float = DEFAULT_MAX_RESTARTS,
    max_seconds: float = DEFAULT_MAX_SECONDS,
    auto_shutdown: AutoShutdown = "never",
    *,
    backoff: Backoff | None = None,
) -> Setup:
    check_strategy(strategy)
    check_auto_shutdown(auto_shutdown)
    check_backoff(backoff)
    RestartIntensity(max_restarts, max_seconds)  # only for its checks
    return Setup(
        specs=check_child_specs(children, auto_shutdown=auto_shutdown),
        strategy=strategy,
        auto_shutdown=auto_shutdown,
        max_restarts=max_restarts,
        max_seconds=max_seconds,
        backoff=backoff,
    )


_SETTINGS = ("strategy", "max_restarts", "max_seconds", "auto_shutdown", "backoff")
