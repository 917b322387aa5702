"""What can go wrong with supervision, sorted by who is at fault.

    SupervisionError
    ├── BadChildSpec            you described a child that cannot be
    │   └── DuplicateChildId    ... or two children by one name
    ├── BadSupervisorOption     you asked for a strategy, a window or a limit that does not exist
    ├── ChildNotFound           you named a child that the supervisor does not have
    ├── ChildRunning            you asked for something that only a stopped child can have done to it
    ├── ChildRestarting         you asked for it while the child was between two restarts
    ├── ChildAlreadyStarted     you started a child whose id is in use, by a running process
    ├── ChildAlreadyPresent     ... by a child that is not running
    ├── ChildStartFailed        the child was fine, but its start was not
    │   ├── ChildNameTaken      ... because another process has its name
    │   └── ChildStartTimeout   ... because it took longer than its spec allows
    ├── MaxChildren             the dynamic supervisor is full
    ├── UnknownRequest          you asked a supervisor for something that only another kind of them does
    ├── SupervisorDeadlock      a child would have waited for a supervisor that waits for it
    ├── ApplicationStartFailed  the application did not come up
    ├── ApplicationFailed       it came up, and its top supervisor gave up
    └── ApplicationKilled       it was stopping, and somebody did not want to wait

`FailedToStartChild` is no exception: it is the detail of the exit reason of a supervisor that could
not boot.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Literal

from attrs import frozen

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


@frozen
class FailedToStartChild:
    """Why a supervisor did not boot: the exit reason is `Shutdown(FailedToStartChild(id, reason))`.

    OTP writes it `{shutdown, {failed_to_start_child, Id, Reason}}`. Nested supervisors nest it.
    """

    id: object
    """The id of the child whose start failed."""
    reason: ExitReason
    """Why it failed: what its init gave to `Fail`, or the reason it died of."""

    def __str__(self) -> str:
        return f"its child {self.id!r} did not start: {describe_reason(self.reason)}"


def describe_reason(reason: ExitReason) -> str:
    """An exit reason in words, for one-sentence errors.

        describe_reason(Crash(ValueError("no port")))       # "ValueError: no port"

    A supervisor that failed to boot is described by the child that failed in it, and so on down.
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
    """An exception in words: what it says, after its type."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class SupervisionError(Exception):
    """Everything that this package raises on purpose and an application may want to catch."""


class BadChildSpec(SupervisionError, ValueError):
    """A child spec says something that no supervisor can do.

    Fields: `id`, of the child; `field`, the part of the spec that is wrong; `value`, what it was.
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
            "this id is used twice under one supervisor; "
            'give one of them another, as in child_spec(Worker, id="worker-2")',
            id=id,
            field="id",
            value=id,
        )


class BadSupervisorOption(SupervisionError, ValueError):
    """A supervisor was given an option that it does not have.

    Fields: `option`, its name; `value`, what was given.
    """

    def __init__(self, problem: str, *, option: str, value: object) -> None:
        super().__init__(f"{option}={value!r}: {problem}")
        self.option = option
        self.value = value


class ChildNotFound(SupervisionError):
    """The supervisor has no child of that id, or, if it is a dynamic one, of that pid.

    Field: `child`, what was looked for.
    """

    def __init__(self, child: object) -> None:
        super().__init__(f"the supervisor has no child {child!r}")
        self.child = child


class ChildRunning(SupervisionError):
    """The child is running, and what was asked for needs a child that is not.

    Fields: `id` and `pid` of the child.
    """

    def __init__(self, id: object, pid: Pid) -> None:
        super().__init__(f"child {id!r} is running as {pid!r}; stop it with terminate_child first")
        self.id = id
        self.pid = pid


class ChildRestarting(SupervisionError):
    """The child failed to restart, and its supervisor is about to try again.

    Field: `id` of the child.
    """

    def __init__(self, id: object) -> None:
        super().__init__(
            f"child {id!r} is being restarted; terminate_child ends the attempts, if that is meant"
        )
        self.id = id


class ChildAlreadyStarted(SupervisionError, AlreadyStarted):
    """A child of that id is running already.

    Also an `AlreadyStarted`, as `ChildNameTaken` is: OTP answers both with `{error, {already_started, Pid}}`.

    Fields: `id`, and `pid` of the running one; `name` is the id.
    """

    def __init__(self, id: object, pid: Pid) -> None:
        super().__init__(id, pid)
        self.id = id

    def __str__(self) -> str:
        return f"child {self.id!r} is already started, as {self.pid!r}"


class ChildAlreadyPresent(SupervisionError):
    """The supervisor knows a child of that id, which is not running.

    Field: `id` of the child.
    """

    def __init__(self, id: object) -> None:
        super().__init__(
            f"the supervisor has a child {id!r} that is not running; "
            "start it with restart_child, or forget it with delete_child"
        )
        self.id = id


class ChildStartFailed(SupervisionError):
    """The child's start function failed; the supervisor did not keep a child that it did not have.

    Fields: `id` of the child; `reason`, as in `StartError`.
    """

    def __init__(self, id: object, reason: ExitReason) -> None:
        super().__init__(f"child {id!r} did not start: {describe_reason(reason)}")
        self.id = id
        self.reason = reason


class ChildNameTaken(ChildStartFailed, AlreadyStarted):
    """The child was not started, because another process has its name. That process may be anywhere.

        try:
            pid = await Supervisor.start_child(top, store)
        except AlreadyStarted as error:
            pid = error.pid

    Fields: `id` of the child; `name`, and `pid` of the process that has it; `reason`, a `NameInUse` of both.
    """

    def __init__(self, id: object, name: object, pid: Pid) -> None:
        AlreadyStarted.__init__(self, name, pid)
        self.id = id

    def __str__(self) -> str:
        return f"child {self.id!r} did not start: {describe_reason(self.reason)}"


class ChildStartTimeout(ChildStartFailed, StartError):
    """The child's start took longer than the `start_timeout` of its spec; what it had started was killed.

    Fields: `id` of the child; `reason`, which is `TIMEOUT`; `seconds`, the limit.
    """

    def __init__(self, id: object, seconds: float) -> None:
        super().__init__(id, TIMEOUT)
        self.seconds = seconds

    def __str__(self) -> str:
        return (
            f"child {self.id!r} did not start within the {self.seconds:g} s of its start_timeout, and was killed; "
            "do what takes long in handle_continue, or raise the limit"
        )


class MaxChildren(SupervisionError):
    """The dynamic supervisor has as many children as it may have; restarting ones count.

    Field: `limit`, its `max_children`.
    """

    def __init__(self, limit: float) -> None:
        super().__init__(f"the supervisor has {limit:g} children, and may not have more")
        self.limit = limit


class SupervisorDeadlock(SupervisionError):
    """A child called its own supervisor in `init` or `terminate`.

    The supervisor is waiting for that very callback to finish and answers nobody until then; in OTP
    both would wait for ever.

    Fields: `supervisor`; `child`, the caller; `id`, of the child that the supervisor is waiting
    for; `phase`, `"start"` or `"stop"`.
    """

    def __init__(
        self, supervisor: Pid, child: Pid, id: object, phase: Literal["start", "stop"]
    ) -> None:
        callback, advice = (
            ("init", "return Continue(...) from init and do it in handle_continue")
            if phase == "start"
            else ("terminate", "leave it to whoever outlives the child")
        )
        super().__init__(
            f"{child!r} called the supervisor {supervisor!r} while that waits for the {callback} "
            f"of its child {id!r}, so neither could go on; {advice}"
        )
        self.supervisor = supervisor
        self.child = child
        self.id = id
        self.phase = phase


class UnknownRequest(SupervisionError, TypeError):
    """A supervisor was asked for something that its kind does not do.

    The functions of `Supervisor` and `DynamicSupervisor` raise it. A plain `call` with a request of
    your own gets it as its answer: a supervisor is not brought down by a mistaken call.

    Fields: `supervisor`, the name of its class; `request`; `verb`, the function that the request is
    from, or None.
    """

    def __init__(self, supervisor: str, request: object, verb: str | None) -> None:
        asked = (
            f"was called with {request!r}" if verb is None else f"cannot do what {verb} asks for"
        )
        advice = (
            "ask it by the functions of its class"
            if verb is None
            else "ask by the function of the same name of its own class, if it has one"
        )
        super().__init__(f"a {supervisor} {asked}; {advice}")
        self.supervisor = supervisor
        self.request = request
        self.verb = verb


class ApplicationStartFailed(SupervisionError):
    """The application did not start; whatever had started is stopped again.

    Field: `reason`, the exit reason of the top supervisor, or the exception of the start function.
    """

    def __init__(self, reason: ExitReason) -> None:
        super().__init__(f"the application did not start: {_describe_start(reason)}")
        self.reason = reason


class ApplicationFailed(SupervisionError):
    """The top supervisor gave up, or the top process ended in some other way that nobody asked for.

    Fields: `reason`, its exit reason; `id`, of the child that ended once too often, or None if it is
    not a supervisor that gave up.
    """

    def __init__(self, problem: str, *, reason: ExitReason, id: object = None) -> None:
        super().__init__(f"the application failed: {problem}")
        self.reason = reason
        self.id = id


class ApplicationKilled(SupervisionError):
    """A second signal came while the application was stopping, and everything was killed.

    Field: `signum`, the number of that signal.
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
    """An application says something that cannot be, or two different ones have the same name.

    Field: `name` of the application.
    """

    def __init__(self, name: object, problem: str) -> None:
        super().__init__(f"application {name!r}: {problem}")
        self.name = name


class DependencyNotStarted(SupervisionError):
    """An application was to be started before one that it depends on.

    Fields: `name`; `dependency`, the name of the other.
    """

    def __init__(self, name: str, dependency: str) -> None:
        super().__init__(
            f"application {name!r} depends on {dependency!r}, which is not running; "
            "ensure_all_started starts both, in order"
        )
        self.name = name
        self.dependency = dependency


class ApplicationNotStarted(SupervisionError):
    """An application was to be stopped that is not running.

    Field: `name`.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"application {name!r} is not running")
        self.name = name


class TaskExit(SupervisionError):
    """A task that was awaited ended without a result. Caused by the exception that it died of, if it was one.

    Fields: `task`, the `Task`; `reason`, its exit reason, `NOPROC` if its result had been taken before.
    """

    def __init__(self, task: object, reason: ExitReason) -> None:
        super().__init__(task, reason)
        self.task = task
        self.reason = reason

    def __str__(self) -> str:
        if self.reason is NOPROC:
            return (
                f"{self.task!r} has no result to give: it was taken before, by a wait or with receive(), or given up "
                "by a timeout, shutdown(), ignore() or forget(); await a task once and keep what it returned"
            )
        return f"{self.task!r} ended without a result: {describe_reason(self.reason)}"


class TaskTimeout(TaskExit):
    """A task did not end in time.

    Fields: as `TaskExit`, with the reason `TIMEOUT`; `timeout`, in seconds.
    """

    def __init__(self, task: object, timeout: float) -> None:
        super().__init__(task, TIMEOUT)
        self.timeout = timeout

    def __str__(self) -> str:
        return f"{self.task!r} did not end within {self.timeout:g} s"


class NotTaskOwner(SupervisionError, RuntimeError):
    """Only the process that started a task gets its result, and so only it may wait for it.

    Fields: `task`; `caller`, the process that tried.
    """

    def __init__(self, task: object, owner: Pid, caller: Pid) -> None:
        super().__init__(
            f"{task!r} belongs to {owner!r}, and {caller!r} cannot wait for it: its result is sent to its "
            "owner; let the owner wait, or start the task in the process that needs the result"
        )
        self.task = task
        self.caller = caller


class BadTaskOption(SupervisionError, ValueError):
    """A task or a stream was given an option that it does not have.

    Fields: `option`, its name; `value`, what was given.
    """

    def __init__(self, problem: str, *, option: str, value: object) -> None:
        super().__init__(f"{option}={value!r}: {problem}")
        self.option = option
        self.value = value


class NoPartitions(SupervisionError):
    """The partition supervisor was resized to nothing, so no key leads anywhere.

    Field: `supervisor`.
    """

    def __init__(self, supervisor: object) -> None:
        super().__init__(
            f"{supervisor!r} has no partitions at present; PartitionSupervisor.resize brings them back"
        )
        self.supervisor = supervisor


class BadPartitionKey(SupervisionError, TypeError):
    """A key that would lead to another partition in every run of the program.

    Field: `key`.
    """

    def __init__(self, key: object) -> None:
        super().__init__(
            f"{key!r} cannot be a key: what is known of it is its place in memory; use a number, a string, "
            "a tuple of such, or an object whose repr says what it is"
        )
        self.key = key
