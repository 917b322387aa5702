"""Supervisors of tasks: for tasks that must not take their owner along, or that nobody waits for.

    class Mailer(GenServer[None]):
        async def handle_cast(self, letter):
            self.sending = await TaskSupervisor.async_nolink("mail tasks", send, letter)

        async def handle_info(self, message):
            match message:
                case TaskReply(ref, receipt) if ref is self.sending.ref:
                    self.sending.forget()
                case Down(ref, _, reason) if ref is self.sending.ref:
                    print("not sent:", reason)

A task under a supervisor is stopped with it, in its place in the tree. Its owner is still who asked for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar, TypeVarTuple

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
from supervision.tasks.streams import OnTimeout, open_stream
from supervision.tasks.task import Task, TaskOutcome

__all__ = ["TaskSupervisor"]

Item = TypeVar("Item")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_DEFAULT_SHUTDOWN = 5.0


def _waiting_spec(shutdown: ShutdownLimit) -> ChildSpec:
    return ChildSpec("task", spawn_waiting, restart="temporary", shutdown=shutdown)


# Nearly every task is started with this one, and a spec is checked whenever one is made.
_WAITING = _waiting_spec(_DEFAULT_SHUTDOWN)


class TaskSupervisor(DynamicSupervisor):
    """A dynamic supervisor whose children are tasks, temporary unless said otherwise.

    Started like a `DynamicSupervisor`, with the same options; `terminate_child`, `which_children` and
    `count_children` are its own. After `Task.Supervisor` of Elixir.
    """

    @staticmethod
    async def async_(
        supervisor: object,
        function: Callable[[*Ts], Awaitable[T]],
        *args: *Ts,
        shutdown: ShutdownLimit = _DEFAULT_SHUTDOWN,
    ) -> Task[T]:
        """Like `Task.async_`, as a child of `supervisor`; linked to the current process all the same.

            task = await TaskSupervisor.async_("tasks", fetch, url)
            page = await task

        Args:
            supervisor: a pid or a name.
            function: an async callable.
            *args: its arguments.
            shutdown: how the supervisor stops it, as in `ChildSpec`.

        Returns:
            The task, which has been started and may not have taken its first step.

        Raises:
            MaxChildren: the supervisor has as many tasks as it may have.
            NotAProcess: only a process has a mailbox for the result.
            SupervisorDeadlock: the caller is a child of the supervisor that it is waiting for.

        If the caller is cancelled while it waits for the supervisor, the task ends by itself, without having
        done anything.
        """
        return await _start(supervisor, function, args, shutdown=shutdown, linked=True)

    @staticmethod
    async def async_nolink(
        supervisor: object,
        function: Callable[[*Ts], Awaitable[T]],
        *args: *Ts,
        shutdown: ShutdownLimit = _DEFAULT_SHUTDOWN,
    ) -> Task[T]:
        """Like `async_`, without the link: neither the owner's end nor the task's concerns the other.

            task = await TaskSupervisor.async_nolink("tasks", fetch, url)
            match await task.yield_(timeout=1) or await task.shutdown():
                case Ok(page): ...
                case Exited(reason): ...
                case None: ...  # it took too long

        Args and Raises: as `async_`. If the owner is a server that does not wait, it gets a `TaskReply` and then
        a `Down` with `NORMAL`, or a `Down` alone.
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
        """Start a task for what it does, and not for what it returns. Works in any task of the runtime.

            await TaskSupervisor.start_child("tasks", send_mail, letter, restart="transient")

        Args:
            supervisor: a pid or a name.
            function: an async callable.
            *args: its arguments.
            restart: as in `ChildSpec`; one that is restarted does its work from the beginning.
            shutdown: as in `ChildSpec`.

        Raises:
            MaxChildren: the supervisor has as many tasks as it may have.
            BadChildSpec: `restart` or `shutdown` cannot be.
            SupervisorDeadlock: the caller is a child of the supervisor that it is waiting for.
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
        """The pids of the running tasks, the one that was started last first.

        Raises:
            SupervisorDeadlock: the caller is a child of the supervisor that it is waiting for.
        """
        infos = await DynamicSupervisor.which_children(supervisor)
        return [info.pid for info in infos if type(info.pid) is Pid]

    @staticmethod
    def async_stream(
        supervisor: object,
        function: Callable[[Item], Awaitable[T]],
        items: Iterable[Item],
        *,
        max_concurrency: int,
        ordered: bool = True,
        timeout: float = 5.0,
        on_timeout: OnTimeout = "exit",
        zip_input_on_exit: bool = False,
        shutdown: ShutdownLimit = _DEFAULT_SHUTDOWN,
    ) -> AbstractAsyncContextManager[AsyncIterator[TaskOutcome[T]]]:
        """Like `supervision.async_stream`, with tasks that are children of `supervisor`.

        Args:
            supervisor: a pid or a name.
            function: an async callable of one argument.
            items: as for `async_stream`, and so are the options.
            max_concurrency: how many tasks of this stream may run at a time.
            ordered: hand out the outcomes in the order of the items.
            timeout: seconds that each task has.
            on_timeout: `"exit"` or `"kill_task"`.
            zip_input_on_exit: put the item into the `Exited` of its task.
            shutdown: how the supervisor stops the tasks, as in `ChildSpec`.

        Raises:
            BadTaskOption, BadChildSpec: an option cannot be.
            MaxChildren: in the loop; the supervisor has as many tasks as it may have. The stream does not wait until
                it has room.
            TaskTimeout, TaskExit: in the loop, as for `async_stream`.
        """
        return open_stream(
            function,
            items,
            start_task=_starter(supervisor, shutdown, linked=True),
            max_concurrency=max_concurrency,
            ordered=ordered,
            timeout=timeout,
            on_timeout=on_timeout,
            zip_input_on_exit=zip_input_on_exit,
            linked=True,
        )

    @staticmethod
    def async_stream_nolink(
        supervisor: object,
        function: Callable[[Item], Awaitable[T]],
        items: Iterable[Item],
        *,
        max_concurrency: int,
        ordered: bool = True,
        timeout: float = 5.0,
        on_timeout: OnTimeout = "exit",
        zip_input_on_exit: bool = False,
        shutdown: ShutdownLimit = _DEFAULT_SHUTDOWN,
    ) -> AbstractAsyncContextManager[AsyncIterator[TaskOutcome[T]]]:
        """Like `async_stream`, but a task that crashes is an `Exited` among the outcomes, whoever consumes them."""
        return open_stream(
            function,
            items,
            start_task=_starter(supervisor, shutdown, linked=False),
            max_concurrency=max_concurrency,
            ordered=ordered,
            timeout=timeout,
            on_timeout=on_timeout,
            zip_input_on_exit=zip_input_on_exit,
            linked=False,
        )


async def _start(
    supervisor: object,
    function: Callable[..., Awaitable[T]],
    args: tuple[Any, ...],
    *,
    shutdown: ShutdownLimit = _DEFAULT_SHUTDOWN,
    spec: ChildSpec | None = None,
    linked: bool,
) -> Task[T]:
    """Have a supervisor start a task, and tell the task what to do."""
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
