"""Streams of tasks: a function applied to many items, so many at a time.

    async with async_stream(fetch, urls, max_concurrency=10) as pages:
        async for page in pages:
            match page:
                case Ok(text):
                    print(len(text))
                case Exited(reason):
                    print("failed:", reason)

The results are an async iterator that belongs to a block: when the block is left, early or not, whatever was still
running has been killed, and nothing of it is in anybody's mailbox.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, Literal, TypeVar, final

import trio
from attrs import define, frozen

from actors.errors import ActorsError, NoProcess, NotAProcess, ServerExit
from actors.exits import KILL, NORMAL, TIMEOUT, ExitReason
from actors.links import send_exit, trap_exits, unlink
from actors.messages import Down
from actors.process import current_pid, receive
from actors.refs import Pid, Ref, TimerRef
from actors.runtime import current_runtime
from actors.servers.gen_server import GenServer, Sender, call, cast, reply, stop
from actors.servers.results import NoReply
from actors.timers import cancel_timer, send_after
from supervision.errors import BadTaskOption, SupervisionError, TaskExit, TaskTimeout
from supervision.tasks._process import TaskReply, inherit, label_of, lineage
from supervision.tasks.task import Exited, Ok, Task, TaskOutcome

__all__ = ["OnTimeout", "async_stream", "open_stream"]

Item = TypeVar("Item")
T = TypeVar("T")

OnTimeout = Literal["exit", "kill_task"]


def async_stream(
    function: Callable[[Item], Awaitable[T]],
    items: Iterable[Item],
    *,
    max_concurrency: int,
    ordered: bool = True,
    timeout: float = 5.0,
    on_timeout: OnTimeout = "exit",
    zip_input_on_exit: bool = False,
) -> AbstractAsyncContextManager[AsyncIterator[TaskOutcome[T]]]:
    """Apply a function to each item, in tasks, so many of them at a time.

        async with async_stream(resize, pictures, max_concurrency=4, timeout=60) as thumbnails:
            async for thumbnail in thumbnails:
                ...

    Args:
        function: an async callable of one argument.
        items: taken one by one, each when there is room for its task; may be infinite. A generator is closed when the
            block is left.
        max_concurrency: how many tasks may run at a time, from 1; `math.inf` starts all at once.
        ordered: hand out the outcomes in the order of the items. They then wait, in memory, for the slowest before
            them. Otherwise as they come.
        timeout: seconds that each task has.
        on_timeout: what happens when one takes longer. `"exit"`: TaskTimeout is raised in the loop. `"kill_task"`:
            it is killed, and its outcome is `Exited(TIMEOUT)`.
        zip_input_on_exit: put the item into the `Exited` of its task.

    Returns:
        An async context manager, whose value is an async iterator of `Ok(value)` and `Exited(reason)`. New tasks are
        started only while the iterator is being asked for the next outcome.

    Raises:
        BadTaskOption: an option cannot be.
        TaskTimeout: in the loop, see `on_timeout`.
        TaskExit: in the loop; somebody killed the process behind the stream.

    The tasks are linked, through a process of the stream, to whoever enters the block. If one of them crashes, that
    dies of it, unless it traps exits or is not a process at all: then the outcome is an `Exited`. To have that in any
    case, see `TaskSupervisor.async_stream_nolink`. Elixir's `Task.async_stream`.
    """
    return open_stream(
        function,
        items,
        start_task=_start_task,
        max_concurrency=max_concurrency,
        ordered=ordered,
        timeout=timeout,
        on_timeout=on_timeout,
        zip_input_on_exit=zip_input_on_exit,
        linked=True,
    )


async def _start_task(function: Callable[..., Awaitable[Any]], item: Any) -> Task[Any]:
    return Task.async_(function, item)


def open_stream(
    function: Callable[[Item], Awaitable[T]],
    items: Iterable[Item],
    *,
    start_task: StartTask,
    max_concurrency: float,
    ordered: bool,
    timeout: float,
    on_timeout: OnTimeout,
    zip_input_on_exit: bool,
    linked: bool,
) -> AbstractAsyncContextManager[AsyncIterator[TaskOutcome[T]]]:
    """`async_stream`, with another way of starting tasks; for supervisors of tasks."""
    _check("max_concurrency", max_concurrency, least=1)
    _check("timeout", timeout, least=0)
    if on_timeout not in ("exit", "kill_task"):
        raise BadTaskOption('write "exit" or "kill_task"', option="on_timeout", value=on_timeout)
    settings = StreamSettings(
        function=function,
        start_task=start_task,
        max_concurrency=max_concurrency,
        ordered=ordered,
        timeout=timeout,
        kill_on_timeout=on_timeout == "kill_task",
        zip_input_on_exit=zip_input_on_exit,
        callers=lineage(),
        linked=linked,
    )
    return _running(settings, items)


def _check(option: str, value: object, *, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
        raise BadTaskOption(
            f"write a number, from {least:g}, or math.inf for no limit", option=option, value=value
        )


@asynccontextmanager
async def _running(
    settings: StreamSettings, items: Iterable[Any]
) -> AsyncIterator[AsyncIterator[TaskOutcome[Any]]]:
    source = iter(items)
    try:
        workload = Workload()
        server = await StreamServer.start_link(
            settings,
            workload,
            crash_together=settings.linked and _dies_of_links(),
            label=f"stream of {label_of(settings.function)}",
        )
        try:
            outcomes: _Outcomes[Any, Any] = _Outcomes(server, settings, workload, source)
            yield outcomes
        finally:
            await _stop(server)
    finally:
        if hasattr(source, "close"):
            source.close()


def _dies_of_links() -> bool:
    try:
        info = current_runtime().process_info(current_pid())
    except NotAProcess:
        return False
    return info is not None and not info["trap_exits"]


async def _stop(server: Pid) -> None:
    # Shielded: the block promises that nothing of it is left. Its tasks are killed, which the runtime bounds.
    with trio.CancelScope(shield=True):
        try:
            await stop(server)
        except (NoProcess, ServerExit):
            # It was killed, or died of a task; either way it is gone.
            pass
    try:
        unlink(server, flush=True)
    except NotAProcess:
        pass


@final
class _Outcomes(Generic[Item, T]):
    """What a stream yields."""

    def __init__(
        self, server: Pid, settings: StreamSettings, workload: Workload, source: Iterator[Item]
    ) -> None:
        self._server = server
        self._settings = settings
        self._workload = workload
        self._source: Iterator[Item] | None = source
        self._started = 0
        self._taken = 0

    def __aiter__(self) -> _Outcomes[Item, T]:
        return self

    async def __anext__(self) -> TaskOutcome[T]:
        while True:
            self._start_more()
            if self._source is None and self._taken == self._started:
                raise StopAsyncIteration
            try:
                answer = await call(
                    self._server, Next(more=self._source is not None), timeout=math.inf
                )
            except (NoProcess, ServerExit) as error:
                raise TaskExit(self._settings.function, error.reason) from None
            if isinstance(answer, Exception):
                raise answer
            if answer is not ROOM:
                self._taken += 1
                outcome: TaskOutcome[T] = answer
                return outcome

    def _start_more(self) -> None:
        workload = self._workload
        while self._source is not None and workload.running < self._settings.max_concurrency:
            try:
                item = next(self._source)
            except StopIteration:
                self._source = None
                return
            workload.running += 1
            cast(self._server, Run(self._started, item))
            self._started += 1


# The process behind a stream


StartTask = Callable[[Callable[..., Awaitable[Any]], Any], Awaitable[Task[Any]]]
"""Starts `function(item)` as a task of the current process."""

ROOM: Any = object()
"""The answer to `Next` when there is nothing to hand out, but room for another task."""


@frozen(kw_only=True)
class StreamSettings:
    """What a stream was asked to do, checked."""

    function: Callable[[Any], Awaitable[Any]]
    start_task: StartTask
    max_concurrency: float
    ordered: bool
    timeout: float
    kill_on_timeout: bool
    zip_input_on_exit: bool
    callers: tuple[Pid, ...]
    linked: bool
    """Whether a task that crashes takes the consumer along, if that dies of links."""


@final
class Workload:
    """How many tasks a stream runs now. Written by its server and its consumer, who share it."""

    __slots__ = ("running",)

    def __init__(self) -> None:
        self.running = 0


@define(eq=False)
class Run:
    """Asks a stream to run the function on an item."""

    position: int
    item: Any


@frozen
class Next:
    """Asks a stream for an outcome, waiting until there is one; or until another task may be started, if `more`."""

    more: bool


@define(eq=False)
class _TimeIsUp:
    ref: Ref


@final
class _Running:
    """One task of a stream."""

    __slots__ = ("item", "outcome", "position", "task", "timer")

    def __init__(self, position: int, item: Any, task: Task[Any]) -> None:
        self.position = position
        self.item = item
        self.task = task
        self.timer: TimerRef | None = None
        # Known before the task has ended, if it has answered, or was killed because its time was up.
        self.outcome: TaskOutcome[Any] | None = None


class StreamServer(GenServer[None]):
    """Runs the tasks of one stream. Traps exits; ends with its consumer, and then kills what is still running."""

    async def init(
        self, settings: StreamSettings, workload: Workload, *, crash_together: bool
    ) -> None:
        trap_exits()
        inherit(settings.callers)
        self.crash_together = crash_together
        self.settings = settings
        self.workload = workload
        self.tasks: dict[Ref, _Running] = {}
        # Outcomes that wait for those before them, by position; and those that are to be handed out next.
        self.early: dict[int, TaskOutcome[Any]] = {}
        self.ready: deque[TaskOutcome[Any]] = deque()
        self.position = 0
        self.failure: Exception | None = None
        self.waiting: Sender | None = None
        self.more = False

    async def handle_call(self, request: Next, sender: Sender) -> NoReply:
        self.waiting, self.more = sender, request.more
        self._answer()
        return NoReply()

    async def handle_cast(self, message: Run) -> None:
        try:
            task = await self.settings.start_task(self.settings.function, message.item)
        except (SupervisionError, ActorsError) as error:
            self.workload.running -= 1
            self.failure = error
            self._answer()
            return
        running = self.tasks[task.ref] = _Running(message.position, message.item, task)
        if self.settings.timeout < math.inf:
            running.timer = send_after(current_pid(), _TimeIsUp(task.ref), self.settings.timeout)

    async def handle_info(self, message: Any) -> None:
        kind = type(message)
        if kind is TaskReply:
            self.tasks[message.ref].outcome = Ok(message.value)
        elif kind is Down:
            await self._ended(self.tasks.pop(message.ref), message.reason)
        elif kind is _TimeIsUp:
            self._too_slow(self.tasks.get(message.ref))
        # Anything else is the Exit of a task, of which its Down has told already.

    async def terminate(self, reason: ExitReason) -> None:
        await self._kill_all()

    # Parts

    async def _ended(self, running: _Running, reason: ExitReason) -> None:
        if running.timer is not None:
            cancel_timer(running.timer)
        outcome = running.outcome
        if outcome is None:
            if self.crash_together and reason is not NORMAL:
                await self._crash(reason)
            item = running.item if self.settings.zip_input_on_exit else None
            outcome = Exited(reason, item)
        self.workload.running -= 1
        if self.settings.ordered:
            self.early[running.position] = outcome
            while self.position in self.early:
                self.ready.append(self.early.pop(self.position))
                self.position += 1
        else:
            self.ready.append(outcome)
        self._answer()

    def _too_slow(self, running: _Running | None) -> None:
        if running is None:
            return
        if not self.settings.kill_on_timeout:
            self.failure = TaskTimeout(running.task, self.settings.timeout)
            self._answer()
            return
        item = running.item if self.settings.zip_input_on_exit else None
        running.outcome = Exited(TIMEOUT, item)
        _kill(running.task)

    def _answer(self) -> None:
        sender = self.waiting
        if sender is None:
            return
        if self.ready:
            # Taken out only if it has arrived: the consumer may have been cancelled.
            if reply(sender, self.ready[0]):
                self.ready.popleft()
        elif self.failure is not None:
            reply(sender, self.failure)
        elif self.more and self.workload.running < self.settings.max_concurrency:
            reply(sender, ROOM)
        else:
            return
        self.waiting = None

    async def _crash(self, reason: ExitReason) -> None:
        """End as a task has ended, and let the link tell the consumer."""
        await self._kill_all()
        # By a signal, so that one crash is reported once: for the task.
        trap_exits(False)
        send_exit(current_pid(), reason)

    async def _kill_all(self) -> None:
        for running in self.tasks.values():
            _kill(running.task)
        while self.tasks:
            down = await receive(lambda m: type(m) is Down and m.ref in self.tasks)
            del self.tasks[down.ref]


def _kill(task: Task[Any]) -> None:
    assert task.pid is not None
    pid: Pid = task.pid
    unlink(pid, flush=True)
    send_exit(pid, KILL)
