"""Task supervisors, for tasks whose crash must not end their owner, and for tasks without an owner.

    class Mailer(GenServer[None]):
        async def handle_cast(self, mail):
            self.sending = await TaskSupervisor.async_nolink("mail tasks", send, mail)

        async def handle_info(self, message):
            match message:
                case TaskReply(ref, receipt) if ref is self.sending.ref:
                    self.sending.forget()
                case Down(ref, _, reason) if ref is self.sending.ref:
                    print("not sent:", reason)

A supervisor that stops also stops its tasks. The owner of a task is the process that requested it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar, TypeVarTuple, Unpack

from actors.links import link, monitor
from actors.process import current_pid, send, spawn_link
from actors.refs import Pid
from supervision.child_spec import ChildSpec, RestartType, ShutdownLimit
from supervision.dynamic_supervisor import DynamicSupervisor
from supervision.tasks._process import (
    Begin,
    Recipient,
    label_of,
    lineage,
    run_detached,
    spawn_waiting,
)
from supervision.tasks.streams import StreamOptions, open_stream
from supervision.tasks.task import Task, TaskOutcome

__all__ = ["TaskSupervisor"]

Item = TypeVar("Item")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_DEFAULT_SHUTDOWN = 5.0


def _waiting_spec(shutdown: ShutdownLimit) -> ChildSpec:
    return ChildSpec("task", spawn_waiting, restart="temporary", shutdown=shutdown)


# Nearly every task uses this spec. A shared spec avoids the checks of a new spec for each task.
_WAITING = _waiting_spec(_DEFAULT_SHUTDOWN)


class TaskSupervisor(DynamicSupervisor):
    """A dynamic supervisor whose children are tasks, which are temporary by default.

    It has the options and functions of a `DynamicSupervisor`, with another `start_child`. Source: Elixir's
    `Task.Supervisor`.
    """

    @staticmethod
    async def async_(
        supervisor: object,
        function: Callable[[*Ts], Awaitable[T]],
        *args: *Ts,
        shutdown: ShutdownLimit = _DEFAULT_SHUTDOWN,
    ) -> Task[T]:
        """Start a task as `Task.async_` does, as a child of `supervisor` and linked to the current process.

            task = await TaskSupervisor.async_("tasks", fetch, url)
            page = await task

        Args:
            supervisor: A pid or a name.
            function: An async callable.
            *args: Its arguments.
            shutdown: The limit for a stop of the task, as in `ChildSpec`.

        Returns:
            The task. It may not have taken its first step.

        Raises:
            MaxChildren: The supervisor has `max_children` tasks.
            NotAProcess: The caller has no mailbox for the result.
            SupervisorDeadlock: The supervisor waits for the caller, which is one of its children.

        If the caller is cancelled during its wait for the supervisor, the task ends without calling `function`.
        """
        return await _start(supervisor, function, args, shutdown=shutdown, linked=True)

    @staticmethod
    async def async_nolink(
        supervisor: object,
        function: Callable[[*Ts], Awaitable[T]],
        *args: *Ts,
        shutdown: ShutdownLimit = _DEFAULT_SHUTDOWN,
    ) -> Task[T]:
        """Start a task as `async_` does, but without a link, so that task and owner do not end each other.

            task = await TaskSupervisor.async_nolink("tasks", fetch, url)
            match await task.yield_(timeout=1) or await task.shutdown():
                case Ok(page): ...
                case Exited(reason): ...
                case None: ...  # it took too long

        The arguments and errors are the same as for `async_`. An owner that does not wait gets two messages from a task
        that finishes: a `TaskReply`, and a `Down` with `NORMAL`. From a task that fails it gets only a `Down`.
        """
        return await _start(supervisor, function, args, shutdown=shutdown, linked=False)

    @staticmethod
    async def start_child(  # type: ignore[override] # a task is described by its function
        supervisor: object,
        function: Callable[[*Ts], Awaitable[Any]],
        *args: *Ts,
        restart: RestartType = "temporary",
        shutdown: ShutdownLimit = _DEFAULT_SHUTDOWN,
    ) -> Pid:
        """Start a task and discard its result. You may call this in any task of the runtime.

            await TaskSupervisor.start_child("tasks", send, mail, restart="transient")

        Args:
            supervisor: A pid or a name.
            function: An async callable.
            *args: Its arguments.
            restart: As in `ChildSpec`. A restart calls the function again.
            shutdown: As in `ChildSpec`.

        Returns:
            The pid of the task.

        Raises:
            MaxChildren: The supervisor has `max_children` tasks.
            InvalidChildSpec: `restart` or `shutdown` has an invalid value.
            SupervisorDeadlock: The supervisor waits for the caller, which is one of its children.
        """
        spec = ChildSpec(
            "task",
            _spawn_detached,
            (label_of(function), lineage(), function, args),
            restart=restart,
            shutdown=shutdown,
        )
        return await DynamicSupervisor.start_child(supervisor, spec)

    @staticmethod
    async def children(supervisor: object) -> list[Pid]:
        """Return the pids of the running tasks, newest first.

        Args:
            supervisor: A pid or a name.

        Raises:
            SupervisorDeadlock: The supervisor waits for the caller, which is one of its children.
        """
        infos = await DynamicSupervisor.which_children(supervisor)
        return [info.pid for info in infos if type(info.pid) is Pid]

    @staticmethod
    def async_stream(
        supervisor: object,
        function: Callable[[Item], Awaitable[T]],
        items: Iterable[Item],
        *,
        shutdown: ShutdownLimit = _DEFAULT_SHUTDOWN,
        **options: Unpack[StreamOptions],
    ) -> AbstractAsyncContextManager[AsyncIterator[TaskOutcome[T]]]:
        """Open a stream as `supervision.async_stream` does, with tasks that are children of `supervisor`.

            async with TaskSupervisor.async_stream("tasks", fetch, urls, max_concurrency=10) as pages:
                ...

        Args:
            supervisor: A pid or a name.
            function: An async callable of one argument.
            items: As for `async_stream`.
            shutdown: The limit for a stop of each task, as in `ChildSpec`.
            options: `max_concurrency`, `ordered`, `timeout`, `on_timeout` and `zip_input_on_exit`, as for
                `async_stream`.

        Raises:
            InvalidOption, InvalidChildSpec: An option has an invalid value.
            MaxChildren: The supervisor has `max_children` tasks. The stream does not wait for room. The loop over the
                outcomes raises this error.
            TaskTimeout, TaskExit: As for `async_stream`.
        """
        start_task = _starter(supervisor, shutdown, linked=True)
        return open_stream(function, items, start_task=start_task, linked=True, **options)

    @staticmethod
    def async_stream_nolink(
        supervisor: object,
        function: Callable[[Item], Awaitable[T]],
        items: Iterable[Item],
        *,
        shutdown: ShutdownLimit = _DEFAULT_SHUTDOWN,
        **options: Unpack[StreamOptions],
    ) -> AbstractAsyncContextManager[AsyncIterator[TaskOutcome[T]]]:
        """Open a stream as `async_stream` does, without links. A crash of a task is always an `Exited` outcome."""
        start_task = _starter(supervisor, shutdown, linked=False)
        return open_stream(function, items, start_task=start_task, linked=False, **options)


async def _start(
    supervisor: object,
    function: Callable[..., Awaitable[T]],
    args: tuple[Any, ...],
    *,
    shutdown: ShutdownLimit = _DEFAULT_SHUTDOWN,
    spec: ChildSpec | None = None,
    linked: bool,
) -> Task[T]:
    """Make a supervisor start a task, and send the task its function."""
    owner, label = current_pid(), label_of(function)
    if spec is None:
        spec = _WAITING if shutdown == _DEFAULT_SHUTDOWN else _waiting_spec(shutdown)
    pid = await DynamicSupervisor.start_child(supervisor, spec, owner, label)
    if linked:
        link(pid)
    recipient = Recipient(owner)
    ref = recipient.ref = monitor(pid)
    send(pid, Begin(recipient, lineage(), function, args))
    return Task(owner, pid, ref, label)


def _starter(
    supervisor: object, shutdown: ShutdownLimit, *, linked: bool
) -> Callable[[Callable[..., Awaitable[Any]], Any], Awaitable[Task[Any]]]:
    spec = _waiting_spec(shutdown)

    async def start(function: Callable[..., Awaitable[Any]], item: Any) -> Task[Any]:
        return await _start(supervisor, function, (item,), spec=spec, linked=linked)

    return start


def _spawn_detached(
    label: str,
    callers: tuple[Pid, ...],
    function: Callable[..., Awaitable[Any]],
    args: tuple[Any, ...],
) -> Pid:
    return spawn_link(run_detached, callers, function, args, label=label)
