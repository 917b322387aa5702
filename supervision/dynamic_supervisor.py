"""Supervisors of children that come and go: one for each connection, each room, each job.

    pool = await DynamicSupervisor.start_link(max_children=10_000)
    session = child_spec(Session, restart="temporary")
    pid = await DynamicSupervisor.start_child(pool, session, socket)

Children are known by their pids, restarted one by one, and stopped all at once. For a set of children
that is written down once, and for any strategy but "one_for_one", use `Supervisor`.
"""

from __future__ import annotations

import math
from typing import Any

from actors.exits import ExitReason
from actors.links import trap_exits
from actors.messages import Exit
from actors.refs import Pid
from actors.servers.gen_server import GenServer, Sender
from actors.servers.results import Reply, Stop
from supervision._core.deadlock import ask
from supervision._core.dynamic import Pool
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
from supervision.errors import BadSupervisorOption
from supervision.intensity import RestartIntensity
from supervision.messages import (
    CountChildren,
    PoolSetup,
    StartDynamicChild,
    TerminateDynamicChild,
    TryAgain,
    WhichChildren,
)
from supervision.strategy import check_significance

__all__ = ["DynamicSupervisor"]


class DynamicSupervisor(GenServer[Pool]):
    """A process that supervises any number of children of any kinds, all independent.

    After `DynamicSupervisor` of Elixir and OTP's
    `simple_one_for_one`, but for the restart window, which is measured in fractions of a second.
    """

    @classmethod
    async def start_link(  # type: ignore[override] # a supervisor's arguments are known
        cls,
        *,
        max_children: float = math.inf,
        max_restarts: float = 3,
        max_seconds: float = 5.0,
        backoff: Backoff | None = None,
        name: object = None,
        label: str | None = None,
        timeout: float = math.inf,
    ) -> Pid:
        """Start a supervisor without children, linked to the current process if there is one.

            pool = await DynamicSupervisor.start_link(max_children=100, name="jobs")

        Args:
            max_children: running and restarting children that it may have at a time.
            max_restarts: restarts within `max_seconds` that are still allowed, of all children
                together. One more, and the supervisor gives up: it stops its children and ends with
                `SHUTDOWN`. The ends of temporary children never count.
            max_seconds: length of that window in seconds.
            backoff: how long to wait before restarts; None does not wait. Not part of OTP. A child
                that waits is one of the children, and known by its last pid.
            name: registered when this returns.
            label: how messages about the supervisor call it.
            timeout: seconds that the start may take.

        Raises:
            BadSupervisorOption: an option has a value that does not exist.
            AlreadyStarted: the name is taken, by the process in `pid`.
        """
        setup = _set_up(max_children, max_restarts, max_seconds, backoff)
        return await super().start_link(setup, name=name, label=label, timeout=timeout)

    @classmethod
    async def start(  # type: ignore[override] # a supervisor's arguments are known
        cls,
        *,
        max_children: float = math.inf,
        max_restarts: float = 3,
        max_seconds: float = 5.0,
        backoff: Backoff | None = None,
        name: object = None,
        label: str | None = None,
        timeout: float = math.inf,
    ) -> Pid:
        """Like `start_link`, without the link."""
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
            id: by default the `name`, or the name of the class.
            restart: as in `ChildSpec`.
            significant: as in `ChildSpec`.
            options: as for `start_link`.

        Raises:
            BadChildSpec: the supervisor cannot be a child like this.
            BadSupervisorOption: an option has a value that does not exist.
        """
        _set_up(**{key: options[key] for key in _SETTINGS if key in options})
        if id is None:
            id = options.get("name") or cls.__name__
        return ChildSpec(
            id,
            cls.start_link,
            (),
            options,
            restart=restart,
            type="supervisor",
            significant=significant,
        )

    # What others may ask

    @staticmethod
    async def start_child(supervisor: object, child: Supervised, /, *extra: Any) -> Pid:
        """Start a child and return its pid, when its init is done.

            pid = await DynamicSupervisor.start_child(pool, session, socket)

        Args:
            supervisor: a pid or a name.
            child: a spec, or a class with `start_link`. Its id is not looked at. One spec may serve
                for any number of children, and making it once is the fast way.
            extra: arguments for this child, after those of the spec.

        Raises:
            MaxChildren: the supervisor has as many children as it may have.
            StartIgnored: its init returned `Ignore()`; the supervisor keeps nothing.
            StartError: it did not start, for the reason given; the supervisor keeps nothing.
            AlreadyStarted: ... because the process in `pid` has its name.
            BadChildSpec: it cannot be.
            SupervisorDeadlock: the caller is a child of the supervisor that it is waiting for.
        """
        spec = child if type(child) is ChildSpec else child_spec(child)
        if spec.significant:
            check_significance(spec, "never")
        pid: Pid = await ask(supervisor, StartDynamicChild(spec, extra))
        return pid

    @staticmethod
    async def terminate_child(supervisor: object, pid: Pid) -> None:
        """Stop a child for good, by its pid or, if it is being restarted, by its last pid.

        Raises:
            ChildNotFound: the supervisor has no such child.
            SupervisorDeadlock: the caller is a child of the supervisor that it is waiting for.
        """
        await ask(supervisor, TerminateDynamicChild(pid))

    @staticmethod
    async def which_children(supervisor: object) -> list[ChildInfo]:
        """List the children, the one that was started last first. Their ids are None.

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

    # The process

    async def init(self, setup: PoolSetup) -> None:
        trap_exits()
        self.state = Pool(setup)

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        kind = type(request)
        if kind is StartDynamicChild:
            return Reply(await self.state.start_child(request.spec, request.extra))
        if kind is TerminateDynamicChild:
            return Reply(await self.state.terminate_child(request.pid))
        if kind is WhichChildren:
            return Reply(self.state.which_children())
        if kind is CountChildren:
            return Reply(self.state.count_children())
        # A pool must not fall because of one mistaken call, nor should its caller wait in vain.
        return Reply(refuse(self, request))

    async def handle_cast(self, message: Any) -> None:
        await super().handle_info(message)

    async def handle_info(self, message: Any) -> Stop | None:
        kind = type(message)
        if kind is Exit:
            return await self.state.ended(message.pid, message.reason)
        if kind is TryAgain:
            return await self.state.try_again(message)
        await super().handle_info(message)
        return None

    async def terminate(self, reason: ExitReason) -> None:
        await self.state.stop_all()


def _set_up(
    max_children: float = math.inf,
    max_restarts: float = 3,
    max_seconds: float = 5.0,
    backoff: Backoff | None = None,
) -> PoolSetup:
    if (
        not isinstance(max_children, int | float)
        or isinstance(max_children, bool)
        or not max_children >= 0
    ):
        raise BadSupervisorOption(
            "write a number of children, from 0, or math.inf for no limit",
            option="max_children",
            value=max_children,
        )
    check_backoff(backoff)
    RestartIntensity(max_restarts, max_seconds)  # made for what it raises
    return PoolSetup(
        max_children=max_children,
        max_restarts=max_restarts,
        max_seconds=max_seconds,
        backoff=backoff,
    )


_SETTINGS = ("max_children", "max_restarts", "max_seconds", "backoff")
