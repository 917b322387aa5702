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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, Literal, TypeVar, final

import trio

from actors.errors import NoProcess, NotAProcess, ServerExit
from actors.links import unlink
from actors.process import current_pid
from actors.refs import Pid
from actors.runtime import current_runtime
from actors.servers.gen_server import call, cast, stop
from supervision.tasks._process import label_of, lineage
from supervision.tasks._stream_server import (
    ROOM,
    Next,
    Run,
    StartTask,
    StreamServer,
    StreamSettings,
    Workload,
)
from supervision.tasks.errors import BadTaskOption, TaskExit
from supervision.tasks.task import Outcome, Task

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
) -> AbstractAsyncContextManager[AsyncIterator[Outcome[T]]]:
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
) -> AbstractAsyncContextManager[AsyncIterator[Outcome[T]]]:
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
) -> AsyncIterator[AsyncIterator[Outcome[Any]]]:
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

    async def __anext__(self) -> Outcome[T]:
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
                outcome: Outcome[T] = answer
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
