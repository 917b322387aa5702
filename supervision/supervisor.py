"""Supervisors: processes that start other processes and restart them when they end.

    top = await Supervisor.start_link(
        [
            child_spec(Store, kwargs={"name": "store"}),
            child_spec(Listener, 4000, restart="transient"),
        ],
        strategy="rest_for_one",
    )

A supervisor starts its children in the order of the list, each after the one before it is ready. It stops them in the
reverse order. Use a `Supervisor` for the fixed parts of a program, and a `DynamicSupervisor` for children that come and
go.

A supervisor can be the child of another: `Supervisor.child_spec([...])`, or an async function that builds the list and
ends with `return await Supervisor.start_link(...)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from actors.exits import Shutdown
from actors.links import trap_exits
from actors.refs import Pid
from actors.servers.results import Stop
from supervision._core.base import SupervisorBase
from supervision._core.fixed import Tree
from supervision._core.requests import ask
from supervision.backoff import Backoff, check_backoff
from supervision.child_spec import (
    ChildSpec,
    RestartType,
    Supervised,
    child_spec,
)
from supervision.errors import (
    BadSupervisorOption,
    DuplicateChildId,
    FailedToStartChild,
)
from supervision.intensity import DEFAULT_MAX_RESTARTS, DEFAULT_MAX_SECONDS, RestartIntensity
from supervision.messages import (
    DeleteChild,
    GetChildSpec,
    RestartChild,
    Setup,
    StartChild,
    TerminateChild,
)
from supervision.strategy import (
    AutoShutdown,
    Strategy,
    check_auto_shutdown,
    check_significance,
    check_strategy,
)

__all__ = ["Supervisor", "check_child_specs"]


class Supervisor(SupervisorBase[Tree]):
    """A process that supervises a fixed set of children.

    Start it with `start_link`. The functions that take a supervisor's pid or name first, such as `which_children`, work
    in any task of the runtime. A supervisor answers nobody while it starts or stops a child, so they wait for that.

    After OTP's `supervisor`, with one difference: Ashtree measures the restart window in fractions of a second, OTP in
    whole seconds.
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
            children: specs, or classes with `start_link`, in the order of their start.
            strategy: the children to restart when one ends: only that child ("one_for_one"), all ("one_for_all"), or
                that child and those after it ("rest_for_one"). The supervisor stops a group in reverse and starts it
                in order. It forgets the temporary children of the group, and starts all others, even if they had
                finished or were terminated.
            max_restarts: allowed restarts within `max_seconds`. At one more the supervisor gives up: it stops its
                children and ends with `SHUTDOWN`.
            max_seconds: length of the restart window in seconds.
            auto_shutdown: end with `SHUTDOWN` when a significant child ends for good ("any_significant"), or when the
                last of them does ("all_significant").
            backoff: waits before restarts; None for no wait. Not part of OTP.
            name: registered before the start of the first child.
            label: name of the supervisor in messages.
            timeout: seconds that the start of all children together may take.

        Returns:
            The supervisor's pid, after every child has started.

        Raises:
            BadChildSpec: a child spec is invalid; nothing was started. DuplicateChildId if two children have one id.
            BadSupervisorOption: an option has an invalid value; nothing was started.
            StartError: a child did not start. The reason is `Shutdown(FailedToStartChild(id, reason))`. The children
                before it were stopped in reverse order. As with every failed start, the link also sends the reason to
                the caller, which ends unless it traps exits.
            AlreadyStarted: the process in `pid` has the name.
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
        """Describe a supervisor as a child of another.

            Supervisor.child_spec([Counter, Mailer], id="services", strategy="one_for_all")

        Args:
            children: as for `start_link`.
            id: by default the `name`, or the name of the class.
            restart: as in `ChildSpec`.
            significant: as in `ChildSpec`.
            options: as for `start_link`.

        Raises:
            BadChildSpec: the spec of the supervisor or of one of its children is invalid.
            BadSupervisorOption: an option has an invalid value.
        """
        specs = tuple(child_spec(child) for child in _listed(children))
        _set_up(specs, **{key: options[key] for key in _SETTINGS if key in options})
        return cls._describe((specs,), options, id=id, restart=restart, significant=significant)

    # Requests

    @staticmethod
    async def start_child(supervisor: object, child: Supervised) -> Pid | None:
        """Add a child at the end of the order, and start it.

            pid = await Supervisor.start_child(top, child_spec(Counter, 0, id="second"))

        Returns:
            Its pid; None if its init returned `Ignore()`. The supervisor then keeps the spec, unless it is temporary.

        Raises:
            BadChildSpec: the spec is invalid, or its significance does not fit the supervisor.
            ChildAlreadyStarted: a child with this id is running.
            ChildAlreadyPresent: a child with this id exists and is not running.
            ChildStartFailed: the child did not start; the supervisor forgot it.
            ChildNameTaken: the child did not start, because the process in `pid` has its name. This and
                ChildAlreadyStarted are AlreadyStarted, so `except AlreadyStarted as error: pid = error.pid` starts or
                finds a process.
            SupervisorDeadlock: the supervisor waits for the caller, which is one of its children.
        """
        pid: Pid | None = await ask(supervisor, StartChild(child_spec(child)))
        return pid

    @staticmethod
    async def terminate_child(supervisor: object, id: Any) -> None:
        """Stop a child and leave it stopped. The supervisor forgets the spec of a temporary child.

        Does nothing to a child that is not running, and gives up a restart that is to come. `auto_shutdown` ignores
        this end.

        Raises:
            ChildNotFound: the supervisor has no child with this id.
            SupervisorDeadlock: the supervisor waits for the caller, which is one of its children.
        """
        await ask(supervisor, TerminateChild(id))

    @staticmethod
    async def restart_child(supervisor: object, id: Any) -> Pid | None:
        """Start a child that is not running. Does not count as a restart.

        Returns:
            Its pid, or None if its init returned `Ignore()`.

        Raises:
            ChildNotFound: the supervisor has no child with this id.
            ChildRunning: it is running.
            ChildRestarting: the supervisor is about to restart it.
            ChildStartFailed: it did not start; the supervisor keeps its spec.
            ChildNameTaken: it did not start, because the process in `pid` has its name.
            SupervisorDeadlock: the supervisor waits for the caller, which is one of its children.
        """
        pid: Pid | None = await ask(supervisor, RestartChild(id))
        return pid

    @staticmethod
    async def delete_child(supervisor: object, id: Any) -> None:
        """Forget a child that is not running.

        Raises:
            ChildNotFound: the supervisor has no child with this id.
            ChildRunning: it is running.
            ChildRestarting: the supervisor is about to restart it.
            SupervisorDeadlock: the supervisor waits for the caller, which is one of its children.
        """
        await ask(supervisor, DeleteChild(id))

    @staticmethod
    async def get_childspec(supervisor: object, id: Any) -> ChildSpec:
        """Return the spec of a child.

        Raises:
            ChildNotFound: the supervisor has no child with this id.
            SupervisorDeadlock: the supervisor waits for the caller, which is one of its children.
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
    """Check that one supervisor can have these children, without a start.

        check_child_specs([Counter, Mailer])

    Returns:
        Their specs, in order.

    Raises:
        BadChildSpec: a spec is invalid; DuplicateChildId if two children have one id.
    """
    seen: set[Any] = set()
    specs = tuple(child_spec(child) for child in _listed(children))
    for spec in specs:
        if spec.id in seen:
            raise DuplicateChildId(spec.id)
        seen.add(spec.id)
        check_significance(spec, auto_shutdown)
    return specs


def _listed(children: Any) -> Iterable[Supervised]:
    if isinstance(children, Iterable) and not isinstance(
        children, str | Mapping | type | ChildSpec
    ):
        return children
    if isinstance(children, Mapping):
        advice = "write a list of the values; a child's name goes into child_spec(Class, id=...)"
    elif isinstance(children, type | ChildSpec) or hasattr(children, "start_link"):
        advice = f"write a list, also for one child: [{getattr(children, '__name__', 'child')}]"
    else:
        advice = "write a list of specs, or of classes with start_link"
    raise BadSupervisorOption(advice, option="children", value=children)


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
