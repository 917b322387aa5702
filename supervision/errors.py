"""The errors of supervision, sorted by their cause.

    SupervisionError
    ├── InvalidChildSpec        a child spec is invalid
    ├── ChildNotFound           the supervisor does not have this child
    ├── ChildRunning            the request needs a child that is not running
    ├── ChildRestarting         the request came between two restarts of the child
    ├── ChildAlreadyStarted     a running child has this id
    ├── ChildAlreadyPresent     a child that is not running has this id
    ├── ChildStartFailed        the start of the child failed
    │   ├── ChildNameTaken      another process has its name
    │   └── ChildStartTimeout   it took longer than its spec allows
    ├── MaxChildren             the dynamic supervisor is full
    ├── NoPartitions            the partition supervisor was resized to 0
    ├── UnknownRequest          another kind of supervisor handles this request
    ├── SupervisorDeadlock      a child called a supervisor that waits for it
    ├── ApplicationStartFailed  the application did not start
    ├── ApplicationFailed       the application started, and its top supervisor gave up
    ├── ApplicationKilled       a second signal came during the stop
    ├── ApplicationNotStarted   the application, or a dependency of it, is not running
    └── TaskExit                the task ended without a result
        └── TaskTimeout         the task did not end in time

`FailedToStartChild` is not an exception. It is the detail in the exit reason of a supervisor whose start failed.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Literal

import msgspec
import trio

from actors.declared import declared, fixed
from actors.errors import AlreadyStarted, NameInUse, StartError
from actors.exits import NOPROC, TIMEOUT, Crash, ExitReason, Shutdown

if TYPE_CHECKING:
    from actors.refs import Pid

__all__ = [
    "ApplicationFailed",
    "ApplicationKilled",
    "ApplicationNotStarted",
    "ApplicationStartFailed",
    "ChildAlreadyPresent",
    "ChildAlreadyStarted",
    "ChildNameTaken",
    "ChildNotFound",
    "ChildRestarting",
    "ChildRunning",
    "ChildStartFailed",
    "ChildStartTimeout",
    "FailedToStartChild",
    "InvalidChildSpec",
    "MaxChildren",
    "NoPartitions",
    "SupervisionError",
    "SupervisorDeadlock",
    "TaskExit",
    "TaskTimeout",
    "UnknownRequest",
    "describe_reason",
]


class FailedToStartChild(msgspec.Struct, frozen=True):
    """The detail in the exit reason of a supervisor whose start failed: `Shutdown(FailedToStartChild(id, reason))`.

    OTP's `{shutdown, {failed_to_start_child, Id, Reason}}`. For nested supervisors, `reason` contains another such
    detail.
    """

    id: object
    """The id of the child whose start failed."""
    reason: ExitReason
    """The argument of `Fail` in the child's init, or the child's exit reason."""

    def __str__(self) -> str:
        return f"its child {self.id!r} did not start: {describe_reason(self.reason)}"


def describe_reason(reason: ExitReason) -> str:
    """Return an exit reason as text, for messages of one sentence.

        describe_reason(Crash(ValueError("no port")))       # "ValueError: no port"

    For a supervisor whose start failed, the text names the child that failed.

    Args:
        reason: The exit reason of a process.
    """
    if type(reason) is Shutdown:
        if type(reason.detail) is FailedToStartChild:
            return str(reason.detail)
        return f"shutdown, {reason.detail!r}"
    if type(reason) is Crash:
        return describe_exception(reason.exception)
    if isinstance(reason, BaseException):
        return describe_exception(reason)
    if isinstance(reason, str | NameInUse):
        return str(reason)
    if reason is TIMEOUT:
        return "it took too long (TIMEOUT)"
    return repr(reason)


def describe_exception(error: BaseException) -> str:
    """Return the type and the message of an exception."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class SupervisionError(Exception):
    """The base of the errors of this package."""


@declared("child spec {id!r}: {problem}")
class InvalidChildSpec(SupervisionError, ValueError):
    """A field of a child spec has an invalid value, or two children of one supervisor have the same id.

    Attributes:
        problem: The mistake and its correction.
        id: The id of the child.
        field: The name of the field.
        value: The invalid value.
    """

    problem: str
    id: object
    field: str
    value: object


@declared("the supervisor has no child {child!r}")
class ChildNotFound(SupervisionError):
    """The supervisor has no child with this id or pid.

    Attributes:
        child: The id of the child; for a dynamic supervisor the pid.
    """

    child: object


@declared("child {id!r} is running as {pid!r}; stop it with terminate_child first")
class ChildRunning(SupervisionError):
    """The child is running, and the request needs a child that is not running.

    Attributes:
        id: The id of the child.
        pid: The pid of the child.
    """

    id: object
    pid: Pid


@declared("child {id!r} is being restarted; to stop the attempts, call terminate_child first")
class ChildRestarting(SupervisionError):
    """The supervisor is about to restart the child.

    Attributes:
        id: The id of the child.
    """

    id: object


class ChildAlreadyStarted(SupervisionError, AlreadyStarted):
    """A child with this id is running already.

    This error and `ChildNameTaken` are subclasses of `AlreadyStarted`, because OTP answers
    `{error, {already_started, Pid}}` in both cases.

    Attributes:
        id: The id of the child.
        name: The same as `id`.
        pid: The pid of the running child.
    """

    def __init__(self, id: object, pid: Pid) -> None:
        super().__init__(id, pid)
        self.id = id

    def __str__(self) -> str:
        return f"child {self.id!r} is already started, as {self.pid!r}"


@declared(
    "the supervisor has a child {id!r} that is not running; "
    "start it with restart_child, or remove it with delete_child"
)
class ChildAlreadyPresent(SupervisionError):
    """The supervisor has a child with this id that is not running.

    Attributes:
        id: The id of the child.
    """

    id: object


@declared()
class ChildStartFailed(SupervisionError):
    """The start of a child failed. If the child is new, the supervisor forgets it.

    Attributes:
        id: The id of the child.
        reason: As in `StartError`.
    """

    id: object
    reason: ExitReason

    def __str__(self) -> str:
        return f"child {self.id!r} did not start: {describe_reason(self.reason)}"


class ChildNameTaken(ChildStartFailed, AlreadyStarted):
    """The child was not started, because another process has its name.

        try:
            pid = await Supervisor.start_child(top, store)
        except AlreadyStarted as error:
            pid = error.pid

    Attributes:
        id: The id of the child.
        name: The name.
        pid: The process that has the name. It may be in another part of the tree.
        reason: A `NameInUse` with the name and the pid.
    """

    def __init__(self, id: object, name: object, pid: Pid) -> None:
        AlreadyStarted.__init__(self, name, pid)
        self.id = id

    def __str__(self) -> str:
        return f"child {self.id!r} did not start: {describe_reason(self.reason)}"


@declared(
    "child {id!r} did not start within the {seconds:g} s of its start_timeout, and was killed; "
    "do slow work in handle_continue, or raise the limit"
)
class ChildStartTimeout(ChildStartFailed, StartError, trio.TooSlowError):
    """The start of a child took longer than the `start_timeout` of its spec, and the supervisor killed it.

    Attributes:
        id: The id of the child.
        reason: `TIMEOUT`.
        seconds: The limit.
    """

    reason: ExitReason = fixed(TIMEOUT)
    seconds: float


@declared(
    "the supervisor has {limit:g} children already; end one of them, or raise its max_children"
)
class MaxChildren(SupervisionError):
    """The dynamic supervisor has `max_children` children, including those that wait for a restart.

    Attributes:
        limit: The `max_children` of the supervisor.
    """

    limit: float


@declared()
class SupervisorDeadlock(SupervisionError):
    """A child called its own supervisor in `init` or `terminate`.

    The supervisor waits for this callback, and answers no request until the callback returns. In OTP both processes
    would wait for ever.

    Attributes:
        supervisor: The pid of the supervisor.
        child: The caller.
        id: The id of the child that the supervisor waits for.
        phase: `"start"` or `"stop"`.
    """

    supervisor: Pid
    child: Pid
    id: object
    phase: Literal["start", "stop"]

    def __str__(self) -> str:
        callback, advice = (
            ("init", "return Continue(...) from init and do it in handle_continue")
            if self.phase == "start"
            else ("terminate", "do it in a process that outlives the child")
        )
        return (
            f"{self.child!r} called the supervisor {self.supervisor!r}, which waits for the {callback} "
            f"of its child {self.id!r}; neither could continue; {advice}"
        )


@declared()
class UnknownRequest(SupervisionError, TypeError):
    """This kind of supervisor does not handle the request.

    The functions of `Supervisor` and `DynamicSupervisor` raise it. A plain `call` to a supervisor with a request of
    your own returns this error as the answer, because a mistaken call must not crash a supervisor.

    Attributes:
        supervisor: The name of its class.
        request: The request.
        verb: The function that sends requests of this class, or None.
    """

    supervisor: str
    request: object
    verb: str | None

    def __str__(self) -> str:
        if self.verb is None:
            return f"a {self.supervisor} does not know the request {self.request!r}; use the functions of its class"
        return (
            f"a {self.supervisor} does not handle the requests of {self.verb}; "
            "use the function of the same name of its own class, if there is one"
        )


@declared()
class ApplicationStartFailed(SupervisionError):
    """The application did not start. The processes that had already started were stopped.

    Attributes:
        reason: The exit reason of the top supervisor, or the exception of the start function.
    """

    reason: ExitReason

    def __str__(self) -> str:
        return f"the application did not start: {_describe_start(self.reason)}"


@declared("the application failed: {problem}")
class ApplicationFailed(SupervisionError):
    """The top supervisor gave up, or the top process ended with an error.

    Attributes:
        problem: The cause in words.
        reason: The exit reason of the supervisor or process.
        id: The id of the child that ended last before the supervisor gave up; None if no supervisor gave up.
    """

    problem: str
    reason: ExitReason
    id: object = None


@declared()
class ApplicationKilled(SupervisionError):
    """A second signal came during the stop of the application, and the runtime killed every process.

    Attributes:
        signum: The number of the signal.
    """

    signum: int

    def __str__(self) -> str:
        name = signal.Signals(self.signum).name
        return (
            f"the application was killed by a second signal, {name}, before it had stopped in order"
        )


def _describe_start(reason: ExitReason) -> str:
    path: list[str] = []
    while type(reason) is Shutdown and type(reason.detail) is FailedToStartChild:
        path.append(repr(reason.detail.id))
        reason = reason.detail.reason
    if not path:
        return describe_reason(reason)
    return f"child {' of '.join(reversed(path))} failed: {describe_reason(reason)}"


@declared()
class ApplicationNotStarted(SupervisionError):
    """The application to stop is not running, or a dependency of the application to start is not.

    Attributes:
        name: The name of the application that is not running.
        dependent: The name of the application to start, which depends on it; None for a stop.
    """

    name: str
    dependent: str | None = None

    def __str__(self) -> str:
        if self.dependent is None:
            return f"application {self.name!r} is not running"
        return (
            f"application {self.dependent!r} depends on {self.name!r}, which is not running; "
            "ensure_all_started starts both in order"
        )


@declared()
class TaskExit(SupervisionError):
    """An awaited task ended without a result. After a crash, `__cause__` is the exception of the task.

    Attributes:
        task: The `Task`.
        reason: The exit reason; `NOPROC` if the owner took the result before.
    """

    task: object
    reason: ExitReason

    def __str__(self) -> str:
        if self.reason is NOPROC:
            return (
                f"{self.task!r} has no result: a wait or receive() took it before, or a timeout, shutdown(), ignore() "
                "or forget() discarded it; await a task once and keep the result"
            )
        return f"{self.task!r} ended without a result: {describe_reason(self.reason)}"


@declared("{task!r} did not end within {timeout:g} s")
class TaskTimeout(TaskExit, trio.TooSlowError):
    """A task did not end in time. The reason is `TIMEOUT`.

    Attributes:
        timeout: The limit in seconds.
    """

    reason: ExitReason = fixed(TIMEOUT)
    timeout: float


@declared(
    "{supervisor!r} was resized to 0 partitions; start them again with PartitionSupervisor.resize"
)
class NoPartitions(SupervisionError):
    """The partition supervisor was resized to 0, so there is no partition for a key.

    Attributes:
        supervisor: The address of the supervisor.
    """

    supervisor: object
