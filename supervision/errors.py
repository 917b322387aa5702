"""The errors of supervision, sorted by their cause.

    SupervisionError
    ├── BadChildSpec            a child spec is invalid
    │   └── DuplicateChildId    two children have one id
    ├── BadSupervisorOption     a supervisor's option has an invalid value
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
    ├── BadPartitionKey         a key would lead to another partition in every run
    ├── UnknownRequest          another kind of supervisor handles this request
    ├── SupervisorDeadlock      a child called a supervisor that waits for it
    ├── ApplicationStartFailed  the application did not start
    ├── ApplicationFailed       the application started, and its top supervisor gave up
    ├── ApplicationKilled       a second signal came during the stop
    ├── BadApplication          an application spec is invalid
    ├── DependencyNotStarted    a dependency of the application is not running
    ├── ApplicationNotStarted   the application is not running
    ├── TaskExit                the task ended without a result
    │   └── TaskTimeout         the task did not end in time
    ├── NotTaskOwner            another process owns the task
    └── BadTaskOption           a task's or a stream's option has an invalid value

`FailedToStartChild` is not an exception. It is the detail in the exit reason of a supervisor whose start failed.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Literal

import msgspec

from actors.errors import AlreadyStarted, NameInUse, StartError
from actors.exits import NOPROC, TIMEOUT, Crash, ExitReason, Shutdown

if TYPE_CHECKING:
    from actors.refs import Pid

__all__ = [
    "ApplicationFailed",
    "ApplicationKilled",
    "ApplicationNotStarted",
    "ApplicationStartFailed",
    "BadApplication",
    "BadChildSpec",
    "BadPartitionKey",
    "BadSupervisorOption",
    "BadTaskOption",
    "ChildAlreadyPresent",
    "ChildAlreadyStarted",
    "ChildNameTaken",
    "ChildNotFound",
    "ChildRestarting",
    "ChildRunning",
    "ChildStartFailed",
    "ChildStartTimeout",
    "DependencyNotStarted",
    "DuplicateChildId",
    "FailedToStartChild",
    "MaxChildren",
    "NoPartitions",
    "NotTaskOwner",
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


class BadChildSpec(SupervisionError, ValueError):
    """A field of a child spec has an invalid value.

    Attributes:
        id: The id of the child.
        field: The name of the field.
        value: The invalid value.
    """

    def __init__(self, problem: str, *, id: object, field: str, value: object) -> None:
        super().__init__(f"child spec {id!r}: {problem}")
        self.id = id
        self.field = field
        self.value = value


class DuplicateChildId(BadChildSpec):
    """Two children of one supervisor have the same id."""

    def __init__(self, id: object) -> None:
        super().__init__(
            "two children of one supervisor have this id; "
            'give one of them another, as in child_spec(Worker, id="worker-2")',
            id=id,
            field="id",
            value=id,
        )


class _BadOption(SupervisionError, ValueError):
    def __init__(self, problem: str, *, option: str, value: object) -> None:
        super().__init__(f"{option}={value!r}: {problem}")
        self.option = option
        self.value = value


class BadSupervisorOption(_BadOption):
    """An option of a supervisor has an invalid value.

    Attributes:
        option: The name of the option.
        value: The invalid value.
    """


class ChildNotFound(SupervisionError):
    """The supervisor has no child with this id or pid.

    Attributes:
        child: The id of the child; for a dynamic supervisor the pid.
    """

    def __init__(self, child: object) -> None:
        super().__init__(f"the supervisor has no child {child!r}")
        self.child = child


class ChildRunning(SupervisionError):
    """The child is running, and the request needs a child that is not running.

    Attributes:
        id: The id of the child.
        pid: The pid of the child.
    """

    def __init__(self, id: object, pid: Pid) -> None:
        super().__init__(f"child {id!r} is running as {pid!r}; stop it with terminate_child first")
        self.id = id
        self.pid = pid


class ChildRestarting(SupervisionError):
    """The supervisor is about to restart the child.

    Attributes:
        id: The id of the child.
    """

    def __init__(self, id: object) -> None:
        super().__init__(
            f"child {id!r} is being restarted; to stop the attempts, call terminate_child first"
        )
        self.id = id


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


class ChildAlreadyPresent(SupervisionError):
    """The supervisor has a child with this id that is not running.

    Attributes:
        id: The id of the child.
    """

    def __init__(self, id: object) -> None:
        super().__init__(
            f"the supervisor has a child {id!r} that is not running; "
            "start it with restart_child, or remove it with delete_child"
        )
        self.id = id


class ChildStartFailed(SupervisionError):
    """The start of a child failed. If the child is new, the supervisor forgets it.

    Attributes:
        id: The id of the child.
        reason: As in `StartError`.
    """

    def __init__(self, id: object, reason: ExitReason) -> None:
        super().__init__(f"child {id!r} did not start: {describe_reason(reason)}")
        self.id = id
        self.reason = reason


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


class ChildStartTimeout(ChildStartFailed, StartError):
    """The start of a child took longer than the `start_timeout` of its spec, and the supervisor killed it.

    Attributes:
        id: The id of the child.
        reason: `TIMEOUT`.
        seconds: The limit.
    """

    def __init__(self, id: object, seconds: float) -> None:
        super().__init__(id, TIMEOUT)
        self.seconds = seconds

    def __str__(self) -> str:
        return (
            f"child {self.id!r} did not start within the {self.seconds:g} s of its start_timeout, and was killed; "
            "do slow work in handle_continue, or raise the limit"
        )


class MaxChildren(SupervisionError):
    """The dynamic supervisor has `max_children` children, including those that wait for a restart.

    Attributes:
        limit: The `max_children` of the supervisor.
    """

    def __init__(self, limit: float) -> None:
        super().__init__(
            f"the supervisor has {limit:g} children already; end one of them, or raise its max_children"
        )
        self.limit = limit


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

    def __init__(
        self, supervisor: Pid, child: Pid, id: object, phase: Literal["start", "stop"]
    ) -> None:
        callback, advice = (
            ("init", "return Continue(...) from init and do it in handle_continue")
            if phase == "start"
            else ("terminate", "do it in a process that outlives the child")
        )
        super().__init__(
            f"{child!r} called the supervisor {supervisor!r}, which waits for the {callback} "
            f"of its child {id!r}; neither could continue; {advice}"
        )
        self.supervisor = supervisor
        self.child = child
        self.id = id
        self.phase = phase


class UnknownRequest(SupervisionError, TypeError):
    """This kind of supervisor does not handle the request.

    The functions of `Supervisor` and `DynamicSupervisor` raise it. A plain `call` to a supervisor with a request of
    your own returns this error as the answer, because a mistaken call must not crash a supervisor.

    Attributes:
        supervisor: The name of its class.
        request: The request.
        verb: The function that sends requests of this class, or None.
    """

    def __init__(self, supervisor: str, request: object, verb: str | None) -> None:
        asked = (
            f"does not know the request {request!r}"
            if verb is None
            else f"does not handle the requests of {verb}"
        )
        advice = (
            "use the functions of its class"
            if verb is None
            else "use the function of the same name of its own class, if there is one"
        )
        super().__init__(f"a {supervisor} {asked}; {advice}")
        self.supervisor = supervisor
        self.request = request
        self.verb = verb


class ApplicationStartFailed(SupervisionError):
    """The application did not start. The processes that had already started were stopped.

    Attributes:
        reason: The exit reason of the top supervisor, or the exception of the start function.
    """

    def __init__(self, reason: ExitReason) -> None:
        super().__init__(f"the application did not start: {_describe_start(reason)}")
        self.reason = reason


class ApplicationFailed(SupervisionError):
    """The top supervisor gave up, or the top process ended with an error.

    Attributes:
        reason: The exit reason of the supervisor or process.
        id: The id of the child that ended last before the supervisor gave up; None if no supervisor gave up.
    """

    def __init__(self, problem: str, *, reason: ExitReason, id: object = None) -> None:
        super().__init__(f"the application failed: {problem}")
        self.reason = reason
        self.id = id


class ApplicationKilled(SupervisionError):
    """A second signal came during the stop of the application, and the runtime killed every process.

    Attributes:
        signum: The number of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(
            f"the application was killed by a second signal, {signal.Signals(signum).name}, "
            "before it had stopped in order"
        )
        self.signum = signum


def _describe_start(reason: ExitReason) -> str:
    path: list[str] = []
    while type(reason) is Shutdown and type(reason.detail) is FailedToStartChild:
        path.append(repr(reason.detail.id))
        reason = reason.detail.reason
    if not path:
        return describe_reason(reason)
    return f"child {' of '.join(reversed(path))} failed: {describe_reason(reason)}"


class BadApplication(SupervisionError, ValueError):
    """An application spec is invalid, or two different applications have the same name.

    Attributes:
        name: The name of the application.
    """

    def __init__(self, name: object, problem: str) -> None:
        super().__init__(f"application {name!r}: {problem}")
        self.name = name


class DependencyNotStarted(SupervisionError):
    """The application did not start, because its dependency is not running.

    Attributes:
        name: The name of the application.
        dependency: The name of the dependency.
    """

    def __init__(self, name: str, dependency: str) -> None:
        super().__init__(
            f"application {name!r} depends on {dependency!r}, which is not running; "
            "ensure_all_started starts both in order"
        )
        self.name = name
        self.dependency = dependency


class ApplicationNotStarted(SupervisionError):
    """The application to stop is not running.

    Attributes:
        name: The name of the application.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"application {name!r} is not running")
        self.name = name


class TaskExit(SupervisionError):
    """An awaited task ended without a result. After a crash, `__cause__` is the exception of the task.

    Attributes:
        task: The `Task`.
        reason: The exit reason; `NOPROC` if the owner took the result before.
    """

    def __init__(self, task: object, reason: ExitReason) -> None:
        super().__init__(task, reason)
        self.task = task
        self.reason = reason

    def __str__(self) -> str:
        if self.reason is NOPROC:
            return (
                f"{self.task!r} has no result: a wait or receive() took it before, or a timeout, shutdown(), ignore() "
                "or forget() discarded it; await a task once and keep the result"
            )
        return f"{self.task!r} ended without a result: {describe_reason(self.reason)}"


class TaskTimeout(TaskExit):
    """A task did not end in time. The reason is `TIMEOUT`.

    Attributes:
        timeout: The limit in seconds.
    """

    def __init__(self, task: object, timeout: float) -> None:
        super().__init__(task, TIMEOUT)
        self.timeout = timeout

    def __str__(self) -> str:
        return f"{self.task!r} did not end within {self.timeout:g} s"


class NotTaskOwner(SupervisionError, RuntimeError):
    """A process other than the owner of a task tried to wait for it.

    Attributes:
        task: The `Task`.
        caller: The process that tried to wait.
    """

    def __init__(self, task: object, owner: Pid, caller: Pid) -> None:
        super().__init__(
            f"{caller!r} cannot wait for {task!r}: the result goes to its owner {owner!r}; "
            "let the owner wait, or start the task in the process that needs the result"
        )
        self.task = task
        self.caller = caller


class BadTaskOption(_BadOption):
    """An option of a task or a stream has an invalid value.

    Attributes:
        option: The name of the option.
        value: The invalid value.
    """


class NoPartitions(SupervisionError):
    """The partition supervisor was resized to 0, so there is no partition for a key.

    Attributes:
        supervisor: The address of the supervisor.
    """

    def __init__(self, supervisor: object) -> None:
        super().__init__(
            f"{supervisor!r} was resized to 0 partitions; start them again with PartitionSupervisor.resize"
        )
        self.supervisor = supervisor


class BadPartitionKey(SupervisionError, TypeError):
    """The repr of a key contains a memory address, so the key would belong to another partition in every run.

    Attributes:
        key: The key.
    """

    def __init__(self, key: object) -> None:
        super().__init__(
            f"{key!r} cannot be a partition key: its repr contains a memory address, which differs from run to run; "
            "use a number, a string, a tuple of these, or an object whose repr shows its value"
        )
        self.key = key
