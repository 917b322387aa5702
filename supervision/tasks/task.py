"""Tasks: processes that compute one value and send it to the process that started them.

    async def price(item):
        task = Task.async_(ask_the_shop, item)
        discount = await ask_the_customer_service()
        return await task - discount

A task is a process. Its owner is linked to it and monitors it. A crash of the task ends the owner, unless the owner
traps exits. The end of the owner ends the task, unless the owner ends with `NORMAL`. To make task and owner
independent, use `TaskSupervisor.async_nolink`. `await_many` and `yield_many` wait for several tasks. To limit the
number of tasks at a time, use `async_stream`.

The names are Elixir's, with an underscore after a Python keyword. `Task.await` is `await`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable
from typing import Any, Generic, Literal, TypeAlias, TypeVar, TypeVarTuple, final

import msgspec
import trio

from actors.arguments import check_async, check_choice, check_number
from actors.errors import InvalidOperation
from actors.exits import KILL, KILLED, NOPROC, SHUTDOWN, Crash, ExitReason
from actors.links import demonitor, monitor, send_exit, unlink
from actors.messages import Down
from actors.process import current_pid, is_alive, receive, send, spawn, spawn_link
from actors.refs import Pid, Ref
from actors.runtime import current_runtime
from supervision._children import end_process
from supervision.child_spec import BRUTAL_KILL, ChildSpec, RestartType, ShutdownLimit
from supervision.errors import TaskExit, TaskTimeout
from supervision.tasks._process import (
    Recipient,
    TaskReply,
    callers,
    is_awaited,
    label_of,
    lineage,
    run_detached,
    run_owned,
)

__all__ = [
    "Exited",
    "Ok",
    "Task",
    "TaskOutcome",
    "TaskReply",
    "await_many",
    "callers",
    "yield_many",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Ts = TypeVarTuple("Ts")


class Ok(msgspec.Struct, Generic[T_co], frozen=True):
    """The result of a task that finished."""

    value: T_co
    """The value that the task's function returned."""


class Exited(msgspec.Struct, frozen=True):
    """The end of a task without a result."""

    reason: ExitReason
    """The exit reason; `NOPROC` if the owner took the result before."""
    item: Any = None
    """The item of the task in a stream with `zip_input_on_exit`; otherwise None."""


TaskOutcome: TypeAlias = Ok[T] | Exited
"""The outcome of a task."""


@final
class Task(Generic[T_co]):
    """A handle for a computation in another process. Start a task with `Task.async_`.

    Attributes:
        pid: The process; None for `Task.completed`.
        ref: The reference in the `TaskReply` and the `Down` that the owner gets. A server that does not wait for the
            task compares this reference in `handle_info`.
        owner: The process that gets the result. Only the owner may wait for it.
        label: The name of the task in messages.

    The owner must wait in its own Trio task, not in a nursery. In any other process the waiting methods raise
    InvalidOperation. You can take a result only once. After that, the task has no result, and the waiting methods
    report the reason `NOPROC`. The same is true after you take the messages of the task out of the mailbox with
    `receive`.

    An owner that traps exits also gets an `Exit` when the task ends, as for any linked process.
    """

    __slots__ = ("_taken", "label", "owner", "pid", "ref")

    def __init__(self, owner: Pid, pid: Pid | None, ref: Ref, label: str) -> None:
        self.owner = owner
        self.pid = pid
        self.ref = ref
        self.label = label
        self._taken = False

    def __repr__(self) -> str:
        return f"<{self.label} {self.pid!r}>"

    # Starting

    @staticmethod
    def async_(function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> Task[T]:
        """Start `function(*args)` in a process linked to the current process, to await its result.

            task = Task.async_(fetch, "https://example.org")
            page = await task

        Args:
            function: An async callable.
            *args: Its arguments; for keyword arguments use `functools.partial`.

        Returns:
            The task. It has not taken its first step.

        Raises:
            InvalidArgument: `function` is not an async function.
            NotAProcess: The caller has no mailbox for the result; see `actors.adoption.as_process`.

        Source: Elixir's `Task.async`.
        """
        check_async("Task.async_", function)
        owner = current_pid()
        recipient, label = Recipient(owner), label_of(function)
        pid = spawn_link(run_owned, recipient, lineage(), function, args, label=label)
        ref = recipient.ref = monitor(pid)
        return Task(owner, pid, ref, label)

    @staticmethod
    def start(function: Callable[[*Ts], Awaitable[Any]], *args: *Ts) -> Pid:
        """Start `function(*args)` without a link, and discard its result.

            Task.start(send_mail, "hello")

        Args:
            function: An async callable.
            *args: Its arguments.

        Returns:
            The pid of the task.
        """
        check_async("Task.start", function)
        return spawn(run_detached, lineage(), function, args, label=label_of(function))

    @staticmethod
    def start_link(function: Callable[[*Ts], Awaitable[Any]], *args: *Ts) -> Pid:
        """Start `function(*args)` linked to the current process, and discard its result. Supervisors use this.

            Supervisor.start_link([child_spec(Task, warm_the_cache)])

        Args:
            function: An async callable.
            *args: Its arguments.

        Returns:
            The pid of the task.
        """
        check_async("Task.start_link", function)
        return spawn_link(run_detached, lineage(), function, args, label=label_of(function))

    @staticmethod
    def completed(value: T) -> Task[T]:
        """Return a task that has finished with a known result.

        Args:
            value: The result.
        """
        owner, runtime = current_pid(), current_runtime()
        runtime.require_thread("Task.completed")
        task = Task[T](owner, None, Ref(runtime.next_ref()), "completed task")
        send(owner, TaskReply(task.ref, value))
        return task

    @classmethod
    def child_spec(
        cls,
        function: Callable[..., Awaitable[Any]],
        *args: Any,
        id: Any = None,
        restart: RestartType = "temporary",
        shutdown: ShutdownLimit = 5.0,
    ) -> ChildSpec:
        """Describe a task as the child of a supervisor. A task is temporary by default, unlike other children.

            Task.child_spec(warm_the_cache, id="warm-up", restart="transient")

        Args:
            function: An async callable.
            *args: Its arguments.
            id: The id of the child; by default the class.
            restart: As in `ChildSpec`. A restart calls the function again.
            shutdown: As in `ChildSpec`.

        Returns:
            The spec.
        """
        return ChildSpec(
            cls.__name__ if id is None else id,
            cls.start_link,
            (function, *args),
            restart=restart,
            shutdown=shutdown,
        )

    # Waiting

    def __await__(self) -> Generator[Any, Any, T_co]:
        """Wait at most 5 seconds for the result; see `result`."""
        return self.result().__await__()

    async def result(self, *, timeout: float = 5.0) -> T_co:
        """Wait for the task and return the value that its function returned.

            page = await task.result(timeout=30)

        Args:
            timeout: In seconds; `math.inf` waits for as long as the task runs.

        Raises:
            TaskExit: The task ended without a result. If the task crashes, and the owner is linked to it and does not
                trap exits, the owner ends instead.
            TaskTimeout: The task took longer. The task continues, and its late result is dropped. If you do not catch
                the error, the owner ends, and its link ends the task. If you catch the error, call `shutdown` to stop
                the task, or `ignore` to remove the link.

        A cancelled wait discards the result, as a timeout does. Source: Elixir's `Task.await`.
        """
        self._check_owner("Task.result")
        if self._taken:
            raise TaskExit(self, NOPROC)
        awaited = self._is_awaited()
        try:
            message = await receive(self._concerns, timeout=timeout if awaited else 0)
        except trio.TooSlowError:
            self.forget()
            if not awaited:
                raise TaskExit(self, NOPROC) from None
            raise TaskTimeout(self, timeout) from None
        except trio.Cancelled:
            await give_up([self])
            raise
        return self._value(message)

    async def yield_(self, *, timeout: float = 5.0) -> TaskOutcome[T_co] | None:
        """Wait for the task for a limited time. If the task still runs, you may wait again later.

            while (outcome := await task.yield_(timeout=1)) is None:
                print("still working")

        Args:
            timeout: In seconds. With 0, only look whether there is an outcome.

        Returns:
            `Ok(value)`, `Exited(reason)`, or None if the task is still running.
        """
        self._check_owner("Task.yield_")
        if self._taken:
            return Exited(NOPROC)
        awaited = self._is_awaited()
        try:
            message = await receive(self._concerns, timeout=timeout if awaited else 0)
        except trio.TooSlowError:
            if awaited:
                return None
            self.forget()
            return Exited(NOPROC)
        return self._outcome(message)

    async def shutdown(self, timeout: ShutdownLimit = 5.0) -> TaskOutcome[T_co] | None:
        """Stop the task, and wait until it has ended.

        Args:
            timeout: Seconds between the exit signal `SHUTDOWN` and a kill; `"brutal_kill"` kills immediately.

        Returns:
            `Ok(value)` if the task finished before the stop. None if it stopped as requested. `Exited(KILLED)` if it
            was killed after the timeout. `Exited(NOPROC)` if it had ended before the stop and its result was taken or
            discarded. `Exited(reason)` if it ended with another reason.

        Raises:
            InvalidOption: `timeout` has an invalid value.

        This also stops a running task after its result was discarded by a timeout of `result`, by `ignore` or by
        `forget`. Source: Elixir's `Task.shutdown`.
        """
        self._check_owner("Task.shutdown")
        brutal = timeout == BRUTAL_KILL
        if not brutal:
            expected = 'seconds, from 0, or "brutal_kill"'
            check_number("shutdown", "timeout", timeout, expected, least=0)
        if self.pid is None:
            return await self.ignore()
        # Use a second monitor, because the owner may have removed the first monitor or received its `Down`.
        ref = monitor(self.pid)
        # Remove the link first, so that the exit signal of the task does not reach the owner.
        unlink(self.pid, flush=True)
        try:
            reason = await end_process(self.pid, ref, timeout)
            outcome = await self._left_behind(reason)
        except trio.Cancelled:
            # The caller cannot wait any longer, so the task gets no more time to stop.
            send_exit(self.pid, KILL)
            await give_up([self])
            raise
        finally:
            demonitor(ref, flush=True)
        as_asked = type(outcome) is Exited and outcome.reason is (KILLED if brutal else SHUTDOWN)
        return None if as_asked else outcome

    async def ignore(self) -> TaskOutcome[T_co] | None:
        """Remove the link to the task and discard its result. The task continues.

        Returns:
            The outcome of the task if it has ended; None if it is still running.
        """
        self._check_owner("Task.ignore")
        outcome = await self.yield_(timeout=0)
        if self.pid is not None and is_alive(self.pid) and not isinstance(outcome, Ok):
            # Remove the link even if the result was already discarded, because discarding does not remove the link.
            unlink(self.pid, flush=True)
            self.forget()
            return None
        return outcome

    def forget(self) -> bool:
        """Remove the monitor, so that a later result never reaches the mailbox. The link stays.

        Use it in a server that got a `TaskReply` in `handle_info` and does not need the `Down` that follows.

        Returns:
            True if the monitor was still there.
        """
        removed = demonitor(self.ref, flush=True)
        self._taken = True
        return removed

    # Parts

    def _check_owner(self, verb: str) -> None:
        caller = current_pid()
        if caller is not self.owner:
            raise InvalidOperation(
                verb,
                f"{caller!r} cannot wait for {self!r}: the result goes to its owner {self.owner!r}; "
                "let the owner wait, or start the task in the process that needs the result",
            )

    def _is_awaited(self) -> bool:
        """Return whether a message about this task can still enter the mailbox."""
        return self.pid is not None and is_awaited(self.pid, self.ref)

    def _concerns(self, message: object) -> bool:
        return (type(message) is TaskReply or type(message) is Down) and message.ref is self.ref

    def _outcome(self, message: Any) -> TaskOutcome[T_co]:
        """Return the outcome in the last message about this task."""
        self.forget()
        return Ok(message.value) if type(message) is TaskReply else Exited(message.reason)

    def _value(self, message: Any) -> T_co:
        """Return the value in a message about this task, or raise TaskExit."""
        outcome = self._outcome(message)
        if isinstance(outcome, Ok):
            return outcome.value
        reason = outcome.reason
        cause = reason.exception if type(reason) is Crash else None
        raise TaskExit(self, reason) from cause

    async def _left_behind(self, reason: ExitReason) -> TaskOutcome[T_co]:
        """Take the outcome of an ended task from the mailbox. If there is none, return `Exited(reason)`."""
        if self._taken:
            # After `forget`, the mailbox may still have a result that the owner has given up.
            return Exited(reason)
        try:
            return self._outcome(await receive(self._concerns, timeout=0))
        except trio.TooSlowError:
            self.forget()
            return Exited(reason)


async def give_up(tasks: Collection[Task[Any]]) -> None:
    """Discard the results of these tasks, both the results in the mailbox and later results."""
    for task in tasks:
        task.forget()
    refs = {task.ref for task in tasks}
    # Shielded, so that the loop also removes results that came during a cancellation. Each takes one scheduler turn.
    with trio.CancelScope(shield=True):
        try:
            while True:
                await receive(lambda m: type(m) is TaskReply and m.ref in refs, timeout=0)
        except trio.TooSlowError:
            pass


# Several tasks

_ON_TIMEOUT = ("nothing", "ignore", "kill_task")


async def await_many(tasks: Iterable[Task[T]], *, timeout: float = 5.0) -> list[T]:
    """Wait for several tasks and return their results in the order of the tasks.

        total = sum(await await_many([Task.async_(price, item) for item in basket]))

    Args:
        tasks: Tasks of the current process.
        timeout: In seconds, for all tasks together.

    Raises:
        TaskExit: A task ended without a result, or you have taken its result before. The results of the other tasks are
            discarded.
        TaskTimeout: At least one task did not end in time. All results are discarded.
        InvalidOperation: A task belongs to another process.

    The tasks continue after an error. If you do not catch the error, the owner ends, and its links end the tasks.
    Source: Elixir's `Task.await_many`.
    """
    tasks = list(tasks)
    for task in tasks:
        task._check_owner("await_many")
    # A result that was taken before does not come again. As in Elixir, the failure of another task comes first, and in
    # place of a wait until the timeout, the call fails as soon as the mailbox has no further outcome.
    ends = _Ends(tasks, timeout)
    values: dict[Ref, T] = {}
    try:
        while ends.waiting:
            task, message = await ends.next()
            values[task.ref] = task._value(message)
    except trio.TooSlowError:
        raise TaskTimeout(next(iter(ends.waiting.values())), timeout) from None
    finally:
        failed = [task for task in tasks if task.ref not in values]
        if failed:
            await give_up(failed)
    return [values[task.ref] for task in tasks]


async def yield_many(
    tasks: Iterable[Task[T]],
    *,
    limit: float = math.inf,
    timeout: float = 5.0,
    on_timeout: Literal["nothing", "ignore", "kill_task"] = "nothing",
) -> list[tuple[Task[T], TaskOutcome[T] | None]]:
    """Wait for several tasks for a limited time. A failed task is an outcome, not an error.

        for task, outcome in await yield_many(tasks, timeout=1, on_timeout="kill_task"):
            match outcome:
                case Ok(value):
                    print(value)
                case Exited(reason):
                    print("failed:", reason)
                case None:
                    print("took too long")

    Args:
        tasks: Tasks of the current process.
        limit: Return after this number of tasks has ended; `math.inf` waits for all tasks.
        timeout: In seconds, for all tasks together.
        on_timeout: The reaction to tasks that still run, even if their results were discarded before. `"nothing"`: you
            may wait for them again. `"ignore"`: call `Task.ignore`. `"kill_task"`: call `Task.shutdown("brutal_kill")`.

    Returns:
        Each task with its outcome, in the order of the tasks. The outcome of a task that still runs is None.

    Raises:
        InvalidOperation: A task belongs to another process.
        InvalidOption: `on_timeout` or `limit` has an invalid value.

    Source: Elixir's `Task.yield_many`.
    """
    check_choice("yield_many", "on_timeout", on_timeout, _ON_TIMEOUT)
    expected = "a number of tasks, 1 or more, or math.inf for all"
    check_number("yield_many", "limit", limit, expected, least=1)
    tasks = list(tasks)
    for task in tasks:
        task._check_owner("yield_many")
    outcomes: dict[Ref, TaskOutcome[T] | None] = {
        task.ref: Exited(NOPROC) for task in tasks if task._taken
    }
    ends = _Ends([task for task in tasks if not task._taken], timeout)
    wanted = min(len(tasks), limit)
    try:
        while ends.waiting and len(outcomes) < wanted:
            task, message = await ends.next()
            outcomes[task.ref] = task._outcome(message)
    except trio.TooSlowError:
        pass
    if on_timeout != "nothing":
        given_up = [task for task in tasks if task._taken and task.pid and is_alive(task.pid)]
        for task in (*given_up, *ends.waiting.values()):
            outcome = await (
                task.ignore() if on_timeout == "ignore" else task.shutdown(BRUTAL_KILL)
            )
            outcomes.setdefault(task.ref, outcome)
    return [(task, outcomes.get(task.ref)) for task in tasks]


@final
class _Ends(Generic[T]):
    """An iterator over the messages about several tasks."""

    __slots__ = ("_deadline", "_lost", "waiting")

    def __init__(self, tasks: Iterable[Task[T]], timeout: float) -> None:
        self._deadline = trio.current_time() + timeout
        # The tasks without a message so far.
        self.waiting = {task.ref: task for task in tasks}
        # The waiting tasks that send no further message. Their last message is in the mailbox, or the owner has taken
        # it.
        self._lost = {ref: None for ref, task in self.waiting.items() if not task._is_awaited()}

    async def next(self) -> tuple[Task[T], Any]:
        """Return the next task that has ended, and the message about it.

        Raises:
            trio.TooSlowError: after the timeout.
        """
        left = 0.0 if self._lost else max(0.0, self._deadline - trio.current_time())
        try:
            message = await receive(self._concerns, timeout=left)
        except trio.TooSlowError:
            if not self._lost:
                raise
            ref = next(iter(self._lost))
            message = Down(ref, self.waiting[ref].pid, NOPROC)
        self._lost.pop(message.ref, None)
        return self.waiting.pop(message.ref), message

    def _concerns(self, message: object) -> bool:
        if type(message) is not TaskReply and type(message) is not Down:
            return False
        task = self.waiting.get(message.ref)
        # After `forget`, the mailbox may still have a result that the owner has given up.
        return task is not None and not task._taken
