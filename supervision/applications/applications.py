"""Programs made of several applications, which start and stop in the order of their dependencies.

    database = ApplicationSpec(name="database", top=[Pool, Migrations])
    web = ApplicationSpec(name="web", top=[Listener], depends_on=[database], prep_stop=stop_taking_requests)

    application.run(lambda: Applications.start_link([web]))

An application is a supervision tree with a name and callbacks for its stop. An application starts after its
dependencies and stops before them. Its stop ends every process that it has spawned, even outside the tree.

For a program that is one tree, use `supervision.applications.application` instead.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, TypeAlias

import msgspec
from attrs import field, frozen

from actors.errors import InvalidArgument, StartError
from actors.exits import KILL, NORMAL, SHUTDOWN, Crash, ExitReason, Shutdown
from actors.links import monitor, send_exit, trap_exits
from actors.messages import Down, Exit
from actors.process import current_pid, receive
from actors.refs import Pid, Ref
from actors.runtime import current_runtime
from actors.servers.gen_server import GenServer, Sender
from actors.servers.results import Fail, NoReply, Reply, Stop
from supervision._children import stop
from supervision._requests import Waiting, ask
from supervision.applications.application import Top
from supervision.errors import (
    ApplicationNotStarted,
    ApplicationStartFailed,
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
        name: The name of the application, which must be unique in the program.
        top: The children of its top supervisor (strategy "one_for_one"), or an async function that starts a linked
            supervisor and returns its pid.
        depends_on: The applications that must run before this application starts.
        type: The effect if the application ends without a request to stop. `"permanent"` (the default): the program
            ends. `"transient"`: the program ends, unless the exit reason is `NORMAL`, which supervisors do not use.
            `"temporary"`: no effect.
        prep_stop: An async function that runs before the stop, while the whole application still runs.
        stop: An async function that runs after all processes of the application have ended.

    Raises:
        InvalidArgument: A field has an invalid value.

    If `prep_stop` or `stop` raises, Ashtree emits an event and continues the stop. Source: OTP's applications, without
    code loading, configuration and start phases.
    """

    name: str
    top: Top = field(converter=_top)
    depends_on: tuple[ApplicationSpec, ...] = field(default=(), converter=_specs)
    type: ApplicationType = "permanent"
    prep_stop: Callable[[], Awaitable[None]] | None = None
    stop: Callable[[], Awaitable[None]] | None = None

    def __attrs_post_init__(self) -> None:
        if self.type not in _TYPES:
            raise _invalid(
                self.name, f'type is {self.type!r}; write "permanent", "transient" or "temporary"'
            )
        for other in self.depends_on:
            if not isinstance(other, ApplicationSpec):
                raise _invalid(
                    self.name, f"it depends on {other!r}; write the ApplicationSpec itself"
                )

    def closure(self) -> list[ApplicationSpec]:
        """Return this application and all its dependencies. Each application comes after its own dependencies."""
        return in_order([self])


def _invalid(name: str, problem: str) -> InvalidArgument:
    return InvalidArgument(None, name, f"application {name!r}: {problem}")


def in_order(specs: Iterable[ApplicationSpec]) -> list[ApplicationSpec]:
    """Return applications and all their dependencies, without duplicates. Dependencies come first."""
    ordered: dict[str, ApplicationSpec] = {}

    def add(spec: ApplicationSpec) -> None:
        known = ordered.get(spec.name)
        if known is None:
            for other in spec.depends_on:
                add(other)
            ordered[spec.name] = spec
        elif known is not spec:
            raise _invalid(
                spec.name, "two different applications have this name; rename one of them"
            )

    for spec in specs:
        add(spec)
    return list(ordered.values())


class ApplicationEnded(msgspec.Struct, frozen=True):
    """The exit reason of `Applications` after the end of a required application."""

    name: str
    reason: ExitReason
    """The exit reason of its top supervisor."""

    def __repr__(self) -> str:
        return f"application {self.name!r} ended: {describe_reason(self.reason)}"


class _Running(msgspec.Struct, frozen=True):
    spec: ApplicationSpec
    master: Pid


class _Ensure(msgspec.Struct, frozen=True):
    spec: ApplicationSpec


class _Start(msgspec.Struct, frozen=True):
    spec: ApplicationSpec


class _StopOne(msgspec.Struct, frozen=True):
    name: str


class _Which(msgspec.Struct, frozen=True):
    pass


class Applications(GenServer[dict[Pid, _Running]]):
    """The process that starts and stops the applications of a program. It is the top process of the program.

    Source: OTP's application controller. Here it is an ordinary process, and a program may have several such processes.
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
        """Start applications and their dependencies in order, linked to the current process.

            application.run(lambda: Applications.start_link([web, metrics], name="applications"))

        Args:
            specs: The applications, in the order of their start. Dependencies start before the applications that need
                them.
            name: Registered name of this process.
            label: Name of this process in messages.
            timeout: Seconds that the start of all applications together may take.

        Returns:
            The pid, after every application has started. If you stop this process, it stops the applications in reverse
            order.

        Raises:
            InvalidArgument: Two applications have the same name; nothing was started.
            StartError: An application did not start, and the applications before it were stopped. The reason is
                `Shutdown(FailedToStartChild(name, reason))`, as from a supervisor.

        If an application ends and its `ApplicationSpec.type` makes the program end, this process stops all other
        applications and ends with `ApplicationEnded`.
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
        """Start applications as `start_link` does, without the link.

        If the starting process ends, the applications go on. The caller must stop the process with the returned pid.
        """
        return await super().start(in_order(specs), name=name, label=label, timeout=timeout)

    @staticmethod
    async def start_application(applications: object, spec: ApplicationSpec) -> bool:
        """Start one application.

        Args:
            applications: The pid or the name of the process that `start_link` started.
            spec: The application.

        Returns:
            False if an application with this name was already running.

        Raises:
            ApplicationNotStarted: A dependency is not running.
            ApplicationStartFailed: The application did not start.
            SupervisorDeadlock: The caller belongs to an application that starts or stops at this moment.
        """
        started: bool = await ask(applications, _Start(spec))
        return started

    @staticmethod
    async def ensure_all_started(applications: object, spec: ApplicationSpec) -> list[str]:
        """Start the dependencies of an application that are not running, and then the application.

        Args:
            applications: The pid or the name of the process that `start_link` started.
            spec: The application.

        Returns:
            The names of the started applications, in order.

        Raises:
            ApplicationStartFailed: An application did not start. All applications that this call had started were
                stopped.
            InvalidArgument: Two applications have the same name; nothing was started.
            SupervisorDeadlock: The caller belongs to an application that starts or stops at this moment.
        """
        started: list[str] = await ask(applications, _Ensure(spec))
        return started

    @staticmethod
    async def stop_application(applications: object, name: str) -> None:
        """Stop one application and every process that it has spawned. Applications that depend on it continue.

        Args:
            applications: The pid or the name of the process that `start_link` started.
            name: The name of the application.

        Raises:
            ApplicationNotStarted: No application of this name is running.
            SupervisorDeadlock: The caller belongs to an application that starts or stops at this moment.
        """
        await ask(applications, _StopOne(name))

    @staticmethod
    async def which_applications(applications: object) -> list[str]:
        """Return the names of the running applications, newest first.

        Args:
            applications: The pid or the name of the process that `start_link` started.

        Raises:
            SupervisorDeadlock: The caller belongs to an application that starts or stops at this moment.
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
                    await self._start_missing(missing)
                    return Reply([each.name for each in missing])
                case _Start(spec):
                    return Reply(await self._start_one(spec))
                case _StopOne(name):
                    running = self._find(name)
                    if running is None:
                        raise ApplicationNotStarted(name)
                    await self._stop(running)
                    return Reply()
                case _Which():
                    return Reply([each.spec.name for each in reversed(self.state.values())])
        except (SupervisionError, InvalidArgument) as refusal:
            # Drop the traceback, because it would keep the frames of this process in memory.
            return Reply(refusal.with_traceback(None))
        # A mistaken call must not crash this process, which would end the program. The caller gets a timeout.
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

    async def _start_one(self, spec: ApplicationSpec) -> bool:
        if self._find(spec.name) is not None:
            return False
        for other in spec.depends_on:
            if self._find(other.name) is None:
                raise ApplicationNotStarted(other.name, spec.name)
        await self._start_missing([spec])
        return True

    async def _start_missing(self, specs: Iterable[ApplicationSpec]) -> None:
        failed = await self._start_all(specs)
        if failed is not None:
            raise ApplicationStartFailed(Shutdown(failed))

    async def _start_all(self, specs: Iterable[ApplicationSpec]) -> FailedToStartChild | None:
        """Start applications in order. If a start fails, stop the applications before it and return the failure."""
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
    """The process behind one running application. It starts the tree, and at the end kills all remaining processes."""

    async def init(self, spec: ApplicationSpec) -> Fail | None:
        trap_exits()
        self.state = spec
        self.running = Waiting(())
        self.running.for_start(spec.name)
        try:
            self.top = await (spec.top() if callable(spec.top) else Supervisor.start_link(spec.top))
        except StartError as error:
            reason = error.reason
        except Exception as error:
            # A start function may raise any exception. It becomes the reason of the failed start.
            reason = Crash(error)
        else:
            self.running.over()
            return None
        await _kill_descendants()
        return Fail(reason)

    async def handle_info(self, message: Any) -> None:
        if type(message) is not Exit or message.pid is not self.top:
            # This is another process, which the start function has linked.
            return
        await self._over()
        # End with the reason of the application, by a signal. An exception would be reported as another crash.
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
        except Exception as error:
            # A callback may raise any exception, and the other applications must still stop.
            current_runtime().telemetry.execute(
                APPLICATION_CALLBACK_FAILED,
                {},
                {"name": self.state.name, "callback": callback, "exception": error},
            )


async def _kill_descendants() -> None:
    """Kill every descendant of the current process."""
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
        # A descendant may spawn processes until it has ended, so the outer loop looks again.
        while refs:
            down = await receive(lambda m: type(m) is Down and m.ref in refs)
            refs.discard(down.ref)
