"""Supervisors: processes that start others, watch them, and start them again when they end.

    top = await Supervisor.start_link(
        [
            child_spec(Store, kwargs={"name": "store"}),
            child_spec(Listener, 4000, restart="transient"),
        ],
        strategy="rest_for_one",
    )

Children are started in the order in which they are written, each when the one before it is ready,
and stopped in the reverse order. What is built once, such as a tree of fixed parts, is written like
this; children that come and go in numbers belong under a `DynamicSupervisor`.

A supervisor below another is written as a child like any other: `Supervisor.child_spec([...])`, or an
async function that builds the list and ends with `return await Supervisor.start_link(...)`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from actors.exits import ExitReason, Shutdown
from actors.links import trap_exits
from actors.messages import Exit
from actors.refs import Pid
from actors.servers.gen_server import GenServer, Sender
from actors.servers.results import Reply, Stop
from supervision._core.deadlock import ask
from supervision._core.fixed import Tree
from supervision._core.requests import refuse
from supervision.backoff import Backoff, check_backoff
from supervision.child_spec import (
    ChildCounts,
    ChildInfo,
    ChildSpec,
    RestartType,
    Supervised,
    child_spec,
)
from supervision.errors import (
    BadSupervisorOption,
    DuplicateChildId,
    FailedToStartChild,
    SupervisionError,
)
from supervision.intensity import RestartIntensity
from supervision.messages import (
    CountChildren,
    DeleteChild,
    GetChildSpec,
    RestartChild,
    Setup,
    StartChild,
    TerminateChild,
    TryAgain,
    WhichChildren,
)
from supervision.strategy import (
    AutoShutdown,
    Strategy,
    check_auto_shutdown,
    check_significance,
    check_strategy,
)

__all__ = ["Supervisor", "check_child_specs"]


class Supervisor(GenServer[Tree]):
    """A process that supervises a fixed set of children.

    Start it with `start_link`; the functions that take a supervisor's pid or name as their first
    argument, such as `which_children`, may be used in any task of the runtime. While a supervisor
    starts or stops a child it answers nobody, so they wait for as long as that takes.

    After OTP's `supervisor`, to the letter but for one rule: the restart window is measured in
    fractions of a second (OTP counts whole ones).
    """

    @classmethod
    async def start_link(  # type: ignore[override] # a supervisor's arguments are known
        cls,
        children: Iterable[Supervised],
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: float = 3,
        max_seconds: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
        backoff: Backoff | None = None,
        name: object = None,
        label: str | None = None,
        timeout: float = math.inf,
    ) -> Pid:
        """Start a supervisor and all its children, linked to the current process if there is one.

            top = await Supervisor.start_link([Counter, child_spec(Mailer, "smtp.example.org")])

        Args:
            children: specs, or classes with `start_link`, in the order in which they are started.
            strategy: who is restarted when a child has ended: only that child ("one_for_one"), all
                ("one_for_all"), or that child and those started after it ("rest_for_one"). A group is
                stopped in reverse and started in order; its temporary children are forgotten, and
                all others are started, even those that had finished or had been terminated.
            max_restarts: restarts within `max_seconds` that are still allowed. One more, and the
                supervisor gives up: it stops its children and ends with `SHUTDOWN`.
            max_seconds: length of that window in seconds.
            auto_shutdown: end with `SHUTDOWN` when a significant child ended for good
                ("any_significant"), or when the last of them did ("all_significant").
            backoff: how long to wait before restarts; None does not wait. Not part of OTP.
            name: registered before the first child is started.
            label: how messages about the supervisor call it.
            timeout: seconds that the start of all children together may take.

        Returns:
            The supervisor's pid, when every child has started.

        Raises:
            BadChildSpec: a child cannot be; nothing was started. DuplicateChildId if an id is used
                twice.
            BadSupervisorOption: an option has a value that does not exist; nothing was started.
            StartError: a child did not start. The reason is
                `Shutdown(FailedToStartChild(id, reason))`; those before it were stopped again, in
                reverse order. As with every failed start, the link carries the reason to the caller,
                which dies of it unless it traps exits.
            AlreadyStarted: the name is taken, by the process in `pid`.
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
        max_restarts: float = 3,
        max_seconds: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
        backoff: Backoff | None = None,
        name: object = None,
        label: str | None = None,
        timeout: float = math.inf,
    ) -> Pid:
        """Like `start_link`, without the link."""
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
            BadChildSpec: the supervisor, or one of its children, cannot be.
            BadSupervisorOption: an option has a value that does not exist.
        """
        specs = tuple(child_spec(child) for child in _listed(children))
        _set_up(specs, **{key: options[key] for key in _SETTINGS if key in options})
        if id is None:
            id = options.get("name") or cls.__name__
        return ChildSpec(
            id,
            cls.start_link,
            (specs,),
            options,
            restart=restart,
            type="supervisor",
            significant=significant,
        )

    # What others may ask

    @staticmethod
    async def start_child(supervisor: object, child: Supervised) -> Pid | None:
        """Add a child at the end of the order, and start it.

            pid = await Supervisor.start_child(top, child_spec(Counter, 0, id="second"))

        Returns:
            Its pid; None if its init returned `Ignore()`, in which case the supervisor keeps the spec,
            unless it is temporary.

        Raises:
            BadChildSpec: the child cannot be, here or anywhere.
            ChildAlreadyStarted: a child of this id is running.
            ChildAlreadyPresent: there is a child of this id, which is not running.
            ChildStartFailed: it did not start; the supervisor forgot it.
            ChildNameTaken: ... because the process in `pid` has its name. This and ChildAlreadyStarted are
                AlreadyStarted, so `except AlreadyStarted as error: pid = error.pid` starts or finds a process.
            SupervisorDeadlock: the caller is a child of the supervisor that it is waiting for.
        """
        pid: Pid | None = await ask(supervisor, StartChild(child_spec(child)))
        return pid

    @staticmethod
    async def terminate_child(supervisor: object, id: Any) -> None:
        """Stop a child and leave it stopped; the spec of a temporary one is forgotten.

        Nothing happens to a child that is not running; one that is being restarted is not tried
        again. Does not count as an end that `auto_shutdown` looks at.

        Raises:
            ChildNotFound: there is no such child.
            SupervisorDeadlock: the caller is a child of the supervisor that it is waiting for.
        """
        await ask(supervisor, TerminateChild(id))

    @staticmethod
    async def restart_child(supervisor: object, id: Any) -> Pid | None:
        """Start a child that is not running. Does not count as a restart.

        Returns:
            Its pid, or None if its init returned `Ignore()`.

        Raises:
            ChildNotFound: there is no such child.
            ChildRunning: it is running.
            ChildRestarting: the supervisor is about to try it again.
            ChildStartFailed: it did not start; the supervisor keeps it, not running.
            ChildNameTaken: ... because the process in `pid` has its name.
            SupervisorDeadlock: the caller is a child of the supervisor that it is waiting for.
        """
        pid: Pid | None = await ask(supervisor, RestartChild(id))
        return pid

    @staticmethod
    async def delete_child(supervisor: object, id: Any) -> None:
        """Forget a child that is not running.

        Raises:
            ChildNotFound: there is no such child.
            ChildRunning: it is running.
            ChildRestarting: the supervisor is about to try it again.
            SupervisorDeadlock: the caller is a child of the supervisor that it is waiting for.
        """
        await ask(supervisor, DeleteChild(id))

    @staticmethod
    async def which_children(supervisor: object) -> list[ChildInfo]:
        """List the children, the one that was started last first.

        Raises:
            SupervisorDeadlock: the caller is a child of the supervisor that it is waiting for.
        """
        children: list[ChildInfo] = await ask(supervisor, WhichChildren())
        return children

    @staticmethod
    async def count_children(supervisor: object) -> ChildCounts:
        """Count the children.

        Raises:
            SupervisorDeadlock: the caller is a child of the supervisor that it is waiting for.
        """
        counts: ChildCounts = await ask(supervisor, CountChildren())
        return counts

    @staticmethod
    async def get_childspec(supervisor: object, id: Any) -> ChildSpec:
        """Return the spec of a child.

        Raises:
            ChildNotFound: there is no such child.
            SupervisorDeadlock: the caller is a child of the supervisor that it is waiting for.
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

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        tree = self.state
        try:
            match request:
                case StartChild(spec):
                    return Reply(await tree.start_child(spec))
                case TerminateChild(id):
                    await tree.terminate_child(id)
                    return Reply()
                case RestartChild(id):
                    return Reply(await tree.restart_child(id))
                case DeleteChild(id):
                    tree.delete_child(id)
                    return Reply()
                case GetChildSpec(id):
                    return Reply(tree.get_childspec(id))
                case WhichChildren():
                    return Reply(tree.which_children())
                case CountChildren():
                    return Reply(tree.count_children())
        except SupervisionError as refusal:
            return Reply(refusal)
        # A tree must not fall because of one mistaken call, nor should its caller wait in vain.
        return Reply(refuse(self, request))

    async def handle_cast(self, message: Any) -> None:
        await super().handle_info(message)

    async def handle_info(self, message: Any) -> Stop | None:
        if type(message) is Exit:
            return await self.state.ended(message.pid, message.reason)
        if type(message) is TryAgain:
            return await self.state.try_again(message)
        await super().handle_info(message)
        return None

    async def terminate(self, reason: ExitReason) -> None:
        await self.state.stop_all()


def check_child_specs(
    children: Iterable[Supervised], *, auto_shutdown: AutoShutdown = "never"
) -> tuple[ChildSpec, ...]:
    """Check whether children can be supervised together, without starting any.

        check_child_specs([Counter, Mailer])

    Returns:
        Their specs, in order.

    Raises:
        BadChildSpec: one of them cannot be; DuplicateChildId if an id is used twice.
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
    max_restarts: float = 3,
    max_seconds: float = 5.0,
    auto_shutdown: AutoShutdown = "never",
    *,
    backoff: Backoff | None = None,
) -> Setup:
    check_strategy(strategy)
    check_auto_shutdown(auto_shutdown)
    check_backoff(backoff)
    RestartIntensity(max_restarts, max_seconds)  # made for what it raises
    return Setup(
        specs=check_child_specs(children, auto_shutdown=auto_shutdown),
        strategy=strategy,
        auto_shutdown=auto_shutdown,
        max_restarts=max_restarts,
        max_seconds=max_seconds,
        backoff=backoff,
    )


_SETTINGS = ("strategy", "max_restarts", "max_seconds", "auto_shutdown", "backoff")
