"""Streams of tasks, which apply a function to many items with a limited number of tasks at a time.

    async with async_stream(fetch, urls, max_concurrency=10) as pages:
        async for page in pages:
            match page:
                case Ok(text):
                    print(len(text))
                case Exited(reason):
                    print("failed:", reason)

The block provides an async iterator over the outcomes. At the end of the block the stream kills the tasks that still
run, and leaves no message about a task in a mailbox.

Each stream has a process, which is linked to the consumer. This process collects the messages of the tasks, so the
consumer's mailbox gets no messages from tasks. The consumer gets each outcome by a call to the stream's process. If the
consumer is cancelled during a call, the outcome stays in the stream.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, Literal, Required, TypedDict, TypeVar, final

import msgspec
import trio

from actors.arguments import check_choice, check_number
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
from supervision.errors import SupervisionError, TaskExit, TaskTimeout
from supervision.tasks._process import TaskReply, inherit, label_of, lineage
from supervision.tasks.task import Exited, Ok, Task, TaskOutcome

__all__ = ["OnTimeout", "StreamOptions", "async_stream", "open_stream"]

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
    """Apply a function to each item, in tasks, at most `max_concurrency` at a time.

        async with async_stream(resize, pictures, max_concurrency=4, timeout=60) as thumbnails:
            async for thumbnail in thumbnails:
                ...

    Args:
        function: An async callable of one argument.
        items: An iterable, which may be infinite. The stream takes the next item when it can start a task. At the end
            of the block it closes `items` if this is a generator.
        max_concurrency: Tasks at a time, 1 or more; `math.inf` for no limit.
        ordered: Return the outcomes in the order of the items. Outcomes that come early wait in memory. With False, the
            stream returns each outcome as soon as the task has ended.
        timeout: Seconds that each task may take.
        on_timeout: The reaction to a task that takes longer than `timeout`. `"exit"`: raise TaskTimeout in the loop.
            `"kill_task"`: kill the task; its outcome is `Exited(TIMEOUT)`.
        zip_input_on_exit: Store the item in the `Exited` outcome of its task.

    Returns:
        An async context manager. Its value is an async iterator of `Ok(value)` and `Exited(reason)`. The stream starts
        new tasks only while the consumer waits for the next outcome.

    Raises:
        InvalidOption: An option has an invalid value.
        TaskTimeout: A task takes longer than `timeout`, and `on_timeout` is `"exit"`. The loop over the outcomes raises
            it.
        TaskExit: Another process killed the process of the stream. The loop over the outcomes raises it.

    The process of the stream links the tasks to the consumer, so a task that crashes ends the consumer. If the consumer
    traps exits or is not a process, the crash becomes an `Exited` outcome instead. With
    `TaskSupervisor.async_stream_nolink`, a crash of a task never ends the consumer. Source: Elixir's
    `Task.async_stream`.
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


class StreamOptions(TypedDict, total=False):
    """The options of `async_stream`, for functions that pass them on."""

    max_concurrency: Required[int]
    ordered: bool
    timeout: float
    on_timeout: OnTimeout
    zip_input_on_exit: bool


def open_stream(
    function: Callable[[Item], Awaitable[T]],
    items: Iterable[Item],
    *,
    start_task: StartTask,
    linked: bool,
    max_concurrency: float,
    ordered: bool = True,
    timeout: float = 5.0,
    on_timeout: OnTimeout = "exit",
    zip_input_on_exit: bool = False,
) -> AbstractAsyncContextManager[AsyncIterator[TaskOutcome[T]]]:
    """Open a stream as `async_stream` does, with another way to start tasks."""
    _check("max_concurrency", max_concurrency, least=1)
    _check("timeout", timeout, least=0)
    check_choice("async_stream", "on_timeout", on_timeout, ("exit", "kill_task"))
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
    expected = f"a number from {least:g}, or math.inf for no limit"
    check_number("async_stream", option, value, expected, least=least)


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
    # Shielded, because no task of the stream may outlive the block. This is quick, because the stream kills its tasks.
    with trio.CancelScope(shield=True):
        try:
            await stop(server)
        except (NoProcess, ServerExit):
            # The process of the stream was killed, or has ended because a task crashed.
            pass
    try:
        unlink(server, flush=True)
    except NotAProcess:
        pass


@final
class _Outcomes(Generic[Item, T]):
    """The iterator of a stream."""

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
"""A function that takes `function` and `item` and starts `function(item)` as a task of the current process."""

ROOM: Any = object()
"""The answer to `Next` if no outcome is ready and another task may be started."""


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The checked options of a stream."""

    function: Callable[[Any], Awaitable[Any]]
    start_task: StartTask
    max_concurrency: float
    ordered: bool
    timeout: float
    kill_on_timeout: bool
    zip_input_on_exit: bool
    callers: tuple[Pid, ...]
    linked: bool
    """True if the crash of a task ends a consumer that does not trap exits."""


@final
class Workload:
    """The number of tasks that a stream runs now. The stream's process and its consumer both read and change it."""

    __slots__ = ("running",)

    def __init__(self) -> None:
        self.running = 0


class Run(msgspec.Struct, frozen=True, eq=False):
    """A request to run the function on an item."""

    position: int
    item: Any


class Next(msgspec.Struct, frozen=True):
    """A request for the next outcome. If `more` is True, the answer may also be ROOM."""

    more: bool


class _TimeIsUp(msgspec.Struct, frozen=True, eq=False):
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
        # The outcome, if it is known before the end of the task: the task sent its result, or the stream killed the
        # task after its timeout.
        self.outcome: TaskOutcome[Any] | None = None


class StreamServer(GenServer[None]):
    """The process of one stream. It traps exits, ends with its consumer, and at its end kills the remaining tasks."""

    async def init(
        self, settings: StreamSettings, workload: Workload, *, crash_together: bool
    ) -> None:
        trap_exits()
        inherit(settings.callers)
        self.crash_together = crash_together
        self.settings = settings
        self.workload = workload
        self.tasks: dict[Ref, _Running] = {}
        # `early` has outcomes by position that wait for outcomes before them. `ready` has the outcomes that the
        # consumer gets next.
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
        # Any other message is the Exit of a task whose Down this process has handled already.

    async def terminate(self, reason: ExitReason) -> None:
        await self._kill_all()

    # Parts

    async def _ended(self, running: _Running, reason: ExitReason) -> None:
        if running.timer is not None:
            cancel_timer(running.timer)
        self.workload.running -= 1
        if self.failure is not None:
            # The loop ends with the failure, also if the late task crashes or has a result in the meantime.
            return
        outcome = running.outcome
        if outcome is None:
            if self.crash_together and reason is not NORMAL:
                await self._crash(reason)
            item = running.item if self.settings.zip_input_on_exit else None
            outcome = Exited(reason, item)
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
            # The consumer may have been cancelled, so remove the outcome only after its delivery.
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
        """End with the exit reason of a task. The link sends the reason to the consumer."""
        await self._kill_all()
        # Use a signal, because an exception would be reported as a second crash.
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
