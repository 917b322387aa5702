"""Tasks: processes that compute one thing, and hand it to the process that wants it.

    async def price(item):
        task = Task.async_(ask_the_shop, item)
        discount = await ask_the_customer_service()
        return await task - discount

A task is a process of its own, linked to its owner and monitored by it. If it crashes, it takes its owner along, unless
that traps exits; if its owner ends, it ends too, unless that was a clean end. What is to survive the one or the other
is started under a `TaskSupervisor`.

The names are Elixir's; where Python has a keyword of that name, an underscore follows it, and `Task.await` is `await`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Generator
from typing import Any, Generic, TypeAlias, TypeVar, TypeVarTuple, final

import trio
from attrs import frozen

from actors.arguments import check_async
from actors.exits import KILL, KILLED, NOPROC, SHUTDOWN, Crash, ExitReason
from actors.links import demonitor, monitor, send_exit, unlink
from actors.messages import Down
from actors.process import current_pid, is_alive, receive, send, spawn, spawn_link
from actors.refs import Pid, Ref
from actors.runtime import current_runtime
from supervision.child_spec import BRUTAL_KILL, ChildSpec, RestartType, ShutdownLimit
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
from supervision.tasks.errors import BadTaskOption, NotTaskOwner, TaskExit, TaskTimeout

__all__ = [
    "Exited",
    "Ok",
    "Outcome",
    "Task",
    "TaskReply",
    "callers",
    "give_up",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Ts = TypeVarTuple("Ts")


@frozen
class Ok(Generic[T_co]):
    """A task has finished."""

    value: T_co
    """What its function returned."""


@frozen
class Exited:
    """A task has ended without a result."""

    reason: ExitReason
    """Its exit reason; `NOPROC` if its result had been taken before."""
    item: Any = None
    """In a stream with `zip_input_on_exit`, the item that the task was for."""


Outcome: TypeAlias = Ok[T] | Exited
"""What became of a task."""


@final
class Task(Generic[T_co]):
    """A computation in a process of its own, as its owner holds it. Started by `Task.async_`.

    Attributes:
        pid: the process; None for `Task.completed`.
        ref: the reference under which its result and its end arrive in the owner's mailbox, as `TaskReply` and
            `Down`. A server that does not want to wait matches on it in `handle_info`.
        owner: the process that gets the result, and that alone may wait for it.
        label: how messages call it.

    Every waiting verb must be used in the owner's own task (not in a nursery of its), and raises NotTaskOwner in any
    other process. A result is taken once: afterwards the task has none, and says so with `NOPROC`. The same holds if
    you take the messages of the task out of the mailbox with `receive`.

    An owner that traps exits finds, as for any linked process, an `Exit` in its mailbox when the task has ended.
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
        """Start `function(*args)` in a process linked to the current one, whose result will be awaited.

            task = Task.async_(fetch, "https://example.org")
            page = await task

        Args:
            function: an async callable.
            *args: its arguments; for keyword arguments use `functools.partial`.

        Returns:
            At once; the task has not taken its first step.

        Raises:
            NotAsync: `function` is no async function.
            NotAProcess: only a process has a mailbox for the result; see `actors.adoption.as_process`.

        Elixir's `Task.async`.
        """
        check_async("Task.async_", function)
        owner = current_pid()
        recipient, label = Recipient(owner), label_of(function)
        pid = spawn_link(run_owned, recipient, lineage(), function, args, label=label)
        ref = recipient.ref = monitor(pid)
        return Task(owner, pid, ref, label)

    @staticmethod
    def start(function: Callable[[*Ts], Awaitable[Any]], *args: *Ts) -> Pid:
        """Start `function(*args)` for what it does, and not for what it returns; linked to nobody.

        Task.start(send_mail, "hello")
        """
        check_async("Task.start", function)
        return spawn(run_detached, lineage(), function, args, label=label_of(function))

    @staticmethod
    def start_link(function: Callable[[*Ts], Awaitable[Any]], *args: *Ts) -> Pid:
        """Like `start`, linked to the current process; what a supervisor starts.

        Supervisor.start_link([child_spec(Task, warm_the_cache)])
        """
        check_async("Task.start_link", function)
        return spawn_link(run_detached, lineage(), function, args, label=label_of(function))

    @staticmethod
    def completed(value: T) -> Task[T]:
        """A task that is finished from the beginning, for where one is asked for and the result is known."""
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
        """Describe a task as the child of a supervisor. Unlike other children it is by default temporary.

        Task.child_spec(warm_the_cache, id="warm-up", restart="transient")
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
        """Wait for the task and return what its function returned.

            page = await task.result(timeout=30)

        Args:
            timeout: in seconds; `math.inf` waits for as long as the task runs.

        Raises:
            TaskExit: the task ended without a result. If it crashed and you are linked to it, you do not live to
                see this, unless you trap exits.
            TaskTimeout: it takes longer. It is not stopped by that, but nobody will get its result: a late one
                never reaches the mailbox. Usually the error is not caught, and then the link stops the task. If you
                catch it, call `shutdown` to stop the task, or `ignore` to cut the link.

        Being cancelled gives the result up like a timeout does. Elixir's `Task.await`.
        """
        self._check_owner()
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

    async def yield_(self, *, timeout: float = 5.0) -> Outcome[T_co] | None:
        """Wait for the task, but not for ever: look, and perhaps look again later.

            while (outcome := await task.yield_(timeout=1)) is None:
                print("still working")

        Args:
            timeout: in seconds; 0 looks once.

        Returns:
            `Ok(value)`, `Exited(reason)`, or None if the task is still running.
        """
        self._check_owner()
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

    async def shutdown(self, limit: ShutdownLimit = 5.0) -> Outcome[T_co] | None:
        """Stop the task, and wait until it has ended.

        Args:
            limit: seconds that it has after the exit signal `SHUTDOWN`, before it is killed; `"brutal_kill"` kills
                it at once.

        Returns:
            `Ok(value)` if it had finished before; None if it ended as it was asked to; otherwise `Exited(reason)`:
            it ended by itself for another reason, or had to be killed because the limit was over (`KILLED`).
            `Exited(NOPROC)` if it had ended before and its result had been taken or given up.

        A running task is stopped even if its result was given up, by a timeout of `result`, `ignore` or `forget`.
        Elixir's `Task.shutdown`.
        """
        self._check_owner()
        brutal = limit == BRUTAL_KILL
        if not brutal and not (isinstance(limit, int | float) and limit >= 0):
            raise BadTaskOption(
                'write seconds, from 0, or "brutal_kill"', option="limit", value=limit
            )
        if self.pid is None:
            return await self.ignore()
        # A monitor of its own, because that of the result may have been removed, or its `Down` received.
        ref = monitor(self.pid)
        # The link first: what the task is about to die of is not meant for its owner.
        unlink(self.pid, flush=True)
        try:
            reason = await _stop(self.pid, ref, limit)
            outcome = await self._left_behind(reason)
        except trio.Cancelled:
            # Whoever cancels has no use for the rest of the task's time.
            send_exit(self.pid, KILL)
            await give_up([self])
            raise
        finally:
            demonitor(ref, flush=True)
        as_asked = type(outcome) is Exited and outcome.reason is (KILLED if brutal else SHUTDOWN)
        return None if as_asked else outcome

    async def ignore(self) -> Outcome[T_co] | None:
        """Let the task go on alone: cut the link, and never hear of it again.

        Returns:
            Its outcome, if it has ended; None if it is still running, and its result is then thrown away.
        """
        self._check_owner()
        outcome = await self.yield_(timeout=0)
        if self.pid is not None and is_alive(self.pid) and not isinstance(outcome, Ok):
            # Also if its result was given up before: giving up does not cut the link.
            unlink(self.pid, flush=True)
            self.forget()
            return None
        return outcome

    def forget(self) -> bool:
        """Remove the monitor: a result that is not in the mailbox yet never gets there. Does not cut the link.

        For servers that have taken a `TaskReply` in `handle_info` and do not need the `Down` that follows.

        Returns:
            Whether the monitor was still there.
        """
        removed = demonitor(self.ref, flush=True)
        self._taken = True
        return removed

    # Parts

    def _check_owner(self) -> None:
        caller = current_pid()
        if caller is not self.owner:
            raise NotTaskOwner(self, self.owner, caller)

    def _is_awaited(self) -> bool:
        """Return whether a message about this task can still enter the mailbox; if not, waiting would be in vain."""
        return self.pid is not None and is_awaited(self.pid, self.ref)

    def _concerns(self, message: object) -> bool:
        return (type(message) is TaskReply or type(message) is Down) and message.ref is self.ref

    def _outcome(self, message: Any) -> Outcome[T_co]:
        """What a message about this task says; it was the last one."""
        self.forget()
        return Ok(message.value) if type(message) is TaskReply else Exited(message.reason)

    def _value(self, message: Any) -> T_co:
        """What the task returned, by a message about it; or raises why it did not return."""
        outcome = self._outcome(message)
        if isinstance(outcome, Ok):
            return outcome.value
        reason = outcome.reason
        cause = reason.exception if type(reason) is Crash else None
        raise TaskExit(self, reason) from cause

    async def _left_behind(self, reason: ExitReason) -> Outcome[T_co]:
        """Take the outcome of a task that has ended from the mailbox; without one, it is the `reason` of its end."""
        try:
            return self._outcome(await receive(self._concerns, timeout=0))
        except trio.TooSlowError:
            self.forget()
            return Exited(reason)


async def _stop(pid: Pid, ref: Ref, limit: ShutdownLimit) -> ExitReason:
    """Stop a process that `ref` monitors, and return the reason with which it ended."""
    timeout = math.inf if isinstance(limit, str) else limit
    send_exit(pid, KILL if isinstance(limit, str) else SHUTDOWN)

    def is_down(message: object) -> bool:
        return type(message) is Down and message.ref is ref

    try:
        down = await receive(is_down, timeout=timeout)
    except trio.TooSlowError:
        send_exit(pid, KILL)
        # No limit: a killed process is declared dead after the runtime's kill_grace at the latest.
        down = await receive(is_down)
    reason: ExitReason = down.reason
    return reason


async def give_up(tasks: Collection[Task[Any]]) -> None:
    """Make sure that nothing of these tasks is in the mailbox, or gets there, after a wait that was cut short."""
    for task in tasks:
        task.forget()
    refs = {task.ref for task in tasks}
    # Shielded: results may have come while the wait was being cancelled. It is one round of the loop for each.
    with trio.CancelScope(shield=True):
        try:
            while True:
                await receive(lambda m: type(m) is TaskReply and m.ref in refs, timeout=0)
        except trio.TooSlowError:
            pass
