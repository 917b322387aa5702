"""What can go wrong with tasks, sorted by who is at fault.

SupervisionError
├── TaskExit        the task ended without a result
│   └── TaskTimeout ... or did not end in time
├── NotTaskOwner    you asked for the result of somebody else's task
└── BadTaskOption   you asked for a limit or a way of stopping that does not exist
"""

from __future__ import annotations

from actors.exits import NOPROC, TIMEOUT, ExitReason
from actors.refs import Pid
from supervision.errors import SupervisionError, describe_reason

__all__ = ["BadTaskOption", "NotTaskOwner", "TaskExit", "TaskTimeout"]


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
