"""Programs made of several applications: what needs what, and in which order it all starts and stops.

    database = ApplicationSpec(name="database", top=[Pool, Migrations])
    web = ApplicationSpec(name="web", top=[Listener], depends_on=[database], prep_stop=stop_taking_requests)

    application.run(lambda: Applications.start_link([web]))

An application is a supervision tree with a name, and with what must be done before and after it is stopped. It starts
after those that it depends on and stops before them. When it is stopped, so is every process that came from it, in
its tree or not.

A program that is one tree needs none of this; see `supervision.applications.application`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, TypeAlias

from attrs import define, field, frozen

from actors.errors import StartError
from actors.exits import KILL, NORMAL, SHUTDOWN, Crash, ExitReason, Shutdown
from actors.links import monitor, send_exit, trap_exits
from actors.messages import Down, Exit
from actors.process import current_pid, receive
from actors.refs import Pid, Ref
from actors.runtime import current_runtime
from actors.servers.gen_server import GenServer, Sender
from actors.servers.results import Fail, NoReply, Reply, Stop
from supervision._core.children import stop
from supervision._core.requests import Waiting, ask
from supervision.applications.application import Top
from supervision.errors import (
    ApplicationNotStarted,
    ApplicationStartFailed,
    BadApplication,
    DependencyNotStarted,
    FailedToStartChild,
    SupervisionError,
    describe_reason,
)
from supervision.events import (
    APPLICATION_CALLBACK_FAILED,
    APPLICATION_ENDED,
    APPLICATION_STARTED,
)
from supervision.supervisor import Supervisor

__all__ = ["ApplicationEnded", "ApplicationSpec", "ApplicationType", "Applications"]


ApplicationType: TypeAlias = Literal["permanent", "transient", "temporary"]

_TYPES = ("permanent", "transient", "temporary")


def _top(value: Top) -> Top:
    return value if callable(value) else tuple(value)


def _specs(value: Iterable[ApplicationSpec]) -> tuple[ApplicationSpec, ...]:
    return tuple(value)


@frozen(kw_only=True, eq=False)
class ApplicationSpec:
    """One application.

        ApplicationSpec(name="metrics", top=[Collector, Exporter], type="temporary")

    Args:
        name: what others know it by; one name, one application.
        top: the children of its top supervisor (strategy "one_for_one"), or an async function that starts a
            supervisor, linked, and returns its pid.
        depends_on: the applications that must run before it starts.
        type: what it means when it ends by itself. `"permanent"` (the default): the program ends. `"transient"`: the
            same, unless the reason is `NORMAL`, with which supervisors do not end. `"temporary"`: nothing.
        prep_stop: awaited before it is stopped, while all of it is still running.
        stop: awaited when nothing of it is running any more, however it came to that.

    Raises:
        BadApplication: see there.

    What `prep_stop` and `stop` raise is reported as an event, and changes nothing. After OTP's applications, without
    what serves code loading, configuration and start phases.
    """

    name: str
    top: Top = field(converter=_top)
    depends_on: tuple[ApplicationSpec, ...] = field(default=(), converter=_specs)
    type: ApplicationType = "permanent"
    prep_stop: Callable[[], Awaitable[None]] | None = None
    stop: Callable[[], Awaitable[None]] | None = None

    def __attrs_post_init__(self) -> None:
        if self.type not in _TYPES:
            raise BadApplication(
                self.name, f'type is {self.type!r}; write "permanent", "transient" or "temporary"'
            )
        for other in self.depends_on:
            if not isinstance(other, ApplicationSpec):
                raise BadApplication(
                    self.name, f"it depends on {other!r}; write the ApplicationSpec itself"
                )

    def closure(self) -> list[ApplicationSpec]:
        """This application and all that it depends on, each after those that it depends on itself."""
        return in_order([self])


def in_order(specs: Iterable[ApplicationSpec]) -> list[ApplicationSpec]:
    """Applications and all that they depend on, each once, after those that it depends on itself."""
    ordered: dict[str, ApplicationSpec] = {}

    def add(spec: ApplicationSpec) -> None:
        known = ordered.get(spec.name)
        if known is None:
            for other in spec.depends_on:
                add(other)
            ordered[spec.name] = spec
        elif known is not spec:
            raise BadApplication(spec.name, "there are two different applications of this name")

    for spec in specs:
        add(spec)
    return list(ordered.values())


@frozen
class ApplicationEnded:
    """Why `Applications` ended: an application that the program cannot do without has ended by itself."""

    name: str
    reason: ExitReason
    """The exit reason of its top supervisor."""

    def __repr__(self) -> str:
        return f"application {self.name!r} ended: {describe_reason(self.reason)}"


@define
class _Running:
    spec: ApplicationSpec
    master: Pid


@define
class _Ensure:
    spec: ApplicationSpec


@define
class _Start:
    spec: ApplicationSpec


@define
class _StopOne:
    name: str


@define
class _Which:
    pass


class Applications(GenServer[dict[Pid, _Running]]):
    """The process that starts applications and stops them; the top of a program that has several.

    OTP's application controller, as a process like any other: one program may have two, and a test its own.
    """

    @classmethod
    async def start_link(  # type: ignore[override] # its arguments are known
        cls,
        specs: Iterable[ApplicationSpec],
        *,
        name: object = None,
        label: str | None = None,
        timeout: float = math.inf,
    ) -> Pid:
        """Start applications and what they depend on, each after its dependencies, linked to the current process.

            application.run(lambda: Applications.start_link([web, metrics], name="applications"))

        Args:
            specs: in the order in which they are started, where dependencies leave a choice.
            name: of this process.
            label: how messages about it call it.
            timeout: seconds that the start of all together may take.

        Returns:
            When every application has started. When this process is stopped, it stops them in the reverse order.

        Raises:
            BadApplication: two of them have the same name; nothing was started.
            StartError: one did not start, and those before it were stopped again. The reason is
                `Shutdown(FailedToStartChild(name, reason))`, as from a supervisor.

        If one of them ends by itself that the program cannot do without, this process stops all others and ends with
        `ApplicationEnded`.
        """
        return await super().start_link(in_order(specs), name=name, label=label, timeout=timeout)

    @classmethod
    async def start(  # type: ignore[override] # its arguments are known
        cls,
        specs: Iterable[ApplicationSpec],
        *,
        name: object = None,
        label: str | None = None,
        timeout: float = math.inf,
    ) -> Pid:
        """Like `start_link`, without the link."""
        return await super().start(in_order(specs), name=name, label=label, timeout=timeout)

    @staticmethod
    async def start_application(applications: object, spec: ApplicationSpec) -> bool:
        """Start one application.

        Returns:
            False if it, or another of its name, was running already.

        Raises:
            DependencyNotStarted: one that it depends on is not running.
            ApplicationStartFailed: it did not start.
            SupervisorDeadlock: the caller belongs to an application that is being started or stopped.
        """
        started: bool = await ask(applications, _Start(spec))
        return started

    @staticmethod
    async def ensure_all_started(applications: object, spec: ApplicationSpec) -> list[str]:
        """Start one application and, before it, all that it depends on and that are not running.

        Returns:
            The names of those that were started, in order.

        Raises:
            ApplicationStartFailed: one did not start; those that had been started for it were stopped again.
            BadApplication: two of them have the same name; nothing was started.
            SupervisorDeadlock: the caller belongs to an application that is being started or stopped.
        """
        started: list[str] = await ask(applications, _Ensure(spec))
        return started

    @staticmethod
    async def stop_application(applications: object, name: str) -> None:
        """Stop one application, and every process that came from it; not those that depend on it.

        Raises:
            ApplicationNotStarted: there is none of that name.
            SupervisorDeadlock: the caller belongs to an application that is being started or stopped.
        """
        await ask(applications, _StopOne(name))

    @staticmethod
    async def which_applications(applications: object) -> list[str]:
        """The names of the running applications, the one that was started last first.

        Raises:
            SupervisorDeadlock: the caller belongs to an application that is being started or stopped.
        """
        names: list[str] = await ask(applications, _Which())
        return names

    # The process

    async def init(self, specs: list[ApplicationSpec]) -> Stop | None:
        trap_exits()
        self.state = {}
        self.waiting = Waiting(self.state)
        failed = await self._start_all(specs)
        return None if failed is None else Stop(Shutdown(failed))

    async def handle_call(self, request: Any, sender: Sender) -> Reply | NoReply:
        try:
            match request:
                case _Ensure(spec):
                    missing = [each for each in spec.closure() if self._find(each.name) is None]
                    failed = await self._start_all(missing)
                    if failed is not None:
                        return Reply(ApplicationStartFailed(Shutdown(failed)))
                    return Reply([each.name for each in missing])
                case _Start(spec):
                    return Reply(await self._start_one(spec))
                case _StopOne(name):
                    running = self._find(name)
                    if running is None:
                        return Reply(ApplicationNotStarted(name))
                    await self._stop(running)
                    return Reply()
                case _Which():
                    return Reply([each.spec.name for each in reversed(self.state.values())])
        except SupervisionError as refusal:
            return Reply(refusal)
        # The whole program must not fall because of one mistaken call; its caller sees that nobody answers.
        await super().handle_info(request)
        return NoReply()

    async def handle_cast(self, message: Any) -> None:
        await super().handle_info(message)

    async def handle_info(self, message: Any) -> Stop | None:
        if type(message) is not Exit:
            await super().handle_info(message)
            return None
        running = self.state.pop(message.pid, None)
        if running is None:
            return None
        spec = running.spec
        self._report_end(spec, message.reason, stopped=False)
        if spec.type == "temporary" or (spec.type == "transient" and message.reason is NORMAL):
            return None
        return Stop(ApplicationEnded(spec.name, message.reason))

    async def terminate(self, reason: ExitReason) -> None:
        for running in reversed(list(self.state.values())):
            await self._stop(running)

    # Parts

    def _find(self, name: str) -> _Running | None:
        return next((each for each in self.state.values() if each.spec.name == name), None)

    async def _start_one(self, spec: ApplicationSpec) -> bool | Exception:
        if self._find(spec.name) is not None:
            return False
        for other in spec.depends_on:
            if self._find(other.name) is None:
                return DependencyNotStarted(spec.name, other.name)
        failed = await self._start_all([spec])
        return True if failed is None else ApplicationStartFailed(Shutdown(failed))

    async def _start_all(self, specs: Iterable[ApplicationSpec]) -> FailedToStartChild | None:
        """Start applications in this order; if one fails, stop those before it, and say which and why."""
        started: list[_Running] = []
        for spec in specs:
            self.waiting.for_start(spec.name)
            try:
                master = await ApplicationMaster.start_link(spec, label=f"application {spec.name}")
            except StartError as error:
                for running in reversed(started):
                    await self._stop(running)
                return FailedToStartChild(spec.name, error.reason)
            finally:
                self.waiting.over()
            running = self.state[master] = _Running(spec, master)
            started.append(running)
            current_runtime().telemetry.execute(APPLICATION_STARTED, {}, {"name": spec.name})
        return None

    async def _stop(self, running: _Running) -> None:
        self.waiting.for_stop(running.spec.name, running.master)
        reason = await stop(running.master, math.inf)
        self.waiting.over()
        self.state.pop(running.master, None)
        self._report_end(running.spec, reason, stopped=reason is SHUTDOWN)

    def _report_end(self, spec: ApplicationSpec, reason: ExitReason, *, stopped: bool) -> None:
        current_runtime().telemetry.execute(
            APPLICATION_ENDED,
            {},
            {"name": spec.name, "reason": reason, "stopped": stopped, "type": spec.type},
        )


# One application


class ApplicationMaster(GenServer[ApplicationSpec]):
    """The process from which everything of one application comes, and which makes sure that all of it is gone."""

    async def init(self, spec: ApplicationSpec) -> Fail | None:
        trap_exits()
        self.state = spec
        self.running = Waiting(())
        self.running.for_start(spec.name)
        try:
            self.top = await (spec.top() if callable(spec.top) else Supervisor.start_link(spec.top))
        except StartError as error:
            reason = error.reason
        except (
            Exception
        ) as error:  # whatever a start function raises is why the application did not start
            reason = Crash(error)
        else:
            self.running.over()
            return None
        await _kill_descendants()
        return Fail(reason)

    async def handle_info(self, message: Any) -> None:
        if type(message) is not Exit or message.pid is not self.top:
            # Somebody of the application was linked here, or thinks so.
            return
        await self._over()
        # Ends as the application did; by a signal, because nothing has gone wrong here that would be worth a report.
        trap_exits(False)
        send_exit(current_pid(), message.reason)

    async def terminate(self, reason: ExitReason) -> None:
        await self._run("prep_stop", self.state.prep_stop)
        self.running.for_stop(self.state.name, None)
        await stop(self.top, math.inf)
        await self._over()

    async def _over(self) -> None:
        await _kill_descendants()
        await self._run("stop", self.state.stop)

    async def _run(self, callback: str, function: Callable[[], Awaitable[None]] | None) -> None:
        if function is None:
            return
        try:
            await function()
        except (
            Exception
        ) as error:  # an application that is over stays over, and the others must stop too
            current_runtime().telemetry.execute(
                APPLICATION_CALLBACK_FAILED,
                {},
                {"name": self.state.name, "callback": callback, "exception": error},
            )


async def _kill_descendants() -> None:
    """Kill every process that was spawned by the current one, by those that it spawned, and so on."""
    runtime, me = current_runtime(), current_pid()
    refs: set[Ref] = set()
    while True:
        for pid in runtime.processes():
            info = runtime.process_info(pid)
            if info is not None and me in info["ancestors"]:
                refs.add(monitor(pid))
                send_exit(pid, KILL)
        if not refs:
            return
        # Their ends may have been what others of them were waiting for to go on and spawn more.
        while refs:
            down = await receive(lambda m: type(m) is Down and m.ref in refs)
            refs.discard(down.ref)
