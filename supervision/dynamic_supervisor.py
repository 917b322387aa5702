"""Supervisors of children that come and go, such as one for each connection or job.

    pool = await DynamicSupervisor.start_link(max_children=10_000)
    session = child_spec(Session, restart="temporary")
    pid = await DynamicSupervisor.start_child(pool, session, socket)

The supervisor knows its children by their pids, restarts them one by one, and stops them all at once. For a fixed set
of children, or another strategy than "one_for_one", use `Supervisor`.
"""

from __future__ import annotations

import math
from typing import Any

from actors.links import trap_exits
from actors.refs import Pid
from supervision._core.base import SupervisorBase
from supervision._core.dynamic import Pool
from supervision._core.requests import ask
from supervision.backoff import Backoff, check_backoff
from supervision.child_spec import (
    ChildSpec,
    RestartType,
    Supervised,
    child_spec,
)
from supervision.errors import BadSupervisorOption
from supervision.intensity import DEFAULT_MAX_RESTARTS, DEFAULT_MAX_SECONDS, RestartIntensity
from supervision.messages import (
    PoolSetup,
    StartDynamicChild,
    TerminateDynamicChild,
)
from supervision.strategy import check_significance

__all__ = ["DynamicSupervisor"]


class DynamicSupervisor(SupervisorBase[Pool]):
    """A process that supervises any number of independent children of any kinds.

    After `DynamicSupervisor` of Elixir and `simple_one_for_one` of OTP, with one difference: Ashtree measures the
    restart window in fractions of a second.
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
            max_children: limit of running and restarting children.
            max_restarts: allowed restarts within `max_seconds`, of all children together. At one more the supervisor
                gives up: it stops its children and ends with `SHUTDOWN`. Ends of temporary children do not count.
            max_seconds: length of the restart window in seconds.
            backoff: waits before restarts; None for no wait. Not part of OTP. A waiting child counts as a child, and
                keeps its last pid.
            name: registered name of the supervisor.
            label: name of the supervisor in messages.
            timeout: seconds that the start may take.

        Raises:
            BadSupervisorOption: an option has an invalid value.
            AlreadyStarted: the process in `pid` has the name.
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
            id: by default the `name`, or the name of the class.
            restart: as in `ChildSpec`.
            significant: as in `ChildSpec`.
            options: as for `start_link`.

        Raises:
            BadChildSpec: the spec of the supervisor is invalid.
            BadSupervisorOption: an option has an invalid value.
        """
        _set_up(**{key: options[key] for key in _SETTINGS if key in options})
        return cls._describe((), options, id=id, restart=restart, significant=significant)

    # Requests

    @staticmethod
    async def start_child(supervisor: object, child: Supervised, /, *extra: Any) -> Pid:
        """Start a child and return its pid after its init.

            pid = await DynamicSupervisor.start_child(pool, session, socket)

        Args:
            supervisor: a pid or a name.
            child: a spec, or a class with `start_link`. Its id is ignored. One spec may serve any number of children.
                It is faster to make it once.
            extra: arguments for this child, after those of the spec.

        Raises:
            MaxChildren: the supervisor has `max_children` children.
            StartIgnored: its init returned `Ignore()`; the supervisor keeps nothing.
            StartError: it did not start; the supervisor keeps nothing.
            AlreadyStarted: it did not start, because the process in `pid` has its name.
            BadChildSpec: the spec is invalid.
            SupervisorDeadlock: the supervisor waits for the caller, which is one of its children.
        """
        spec = child if type(child) is ChildSpec else child_spec(child)
        if spec.significant:
            check_significance(spec, "never")
        pid: Pid = await ask(supervisor, StartDynamicChild(spec, extra))
        return pid

    @staticmethod
    async def terminate_child(supervisor: object, pid: Pid) -> None:
        """Stop a child for good, by its pid, or between two restarts by its last pid.

        Raises:
            ChildNotFound: the supervisor has no child with this pid.
            SupervisorDeadlock: the supervisor waits for the caller, which is one of its children.
        """
        await ask(supervisor, TerminateDynamicChild(pid))

    # The process

    async def init(self, setup: PoolSetup) -> None:
        trap_exits()
        self.state = Pool(setup)

    async def _answer(self, request: Any) -> Any:
        kind = type(request)
        if kind is StartDynamicChild:
            return await self.state.start_child(request.spec, request.extra)
        if kind is TerminateDynamicChild:
            return await self.state.terminate_child(request.pid)
        return await super()._answer(request)


def _set_up(
    max_children: float = math.inf,
    max_restarts: float = DEFAULT_MAX_RESTARTS,
    max_seconds: float = DEFAULT_MAX_SECONDS,
    backoff: Backoff | None = None,
) -> PoolSetup:
    if (
        not isinstance(max_children, int | float)
        or isinstance(max_children, bool)
        or not max_children >= 0
    ):
        raise BadSupervisorOption(
            "write a number of children from 0, or math.inf for no limit",
            option="max_children",
            value=max_children,
        )
    check_backoff(backoff)
    RestartIntensity(max_restarts, max_seconds)  # only for its checks
    return PoolSetup(
        max_children=max_children,
        max_restarts=max_restarts,
        max_seconds=max_seconds,
        backoff=backoff,
    )


_SETTINGS = ("max_children", "max_restarts", "max_seconds", "backoff")
