"""Every kind of stream of tasks, for tests that hold for all of them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from supervision.tasks.streams import async_stream
from supervision.tasks.task_supervisor import TaskSupervisor

Opener = Callable[..., Any]


@asynccontextmanager
async def plain(
    function: Callable[[Any], Awaitable[Any]], items: Iterable[Any], **options: Any
) -> AsyncIterator[AsyncIterator[Any]]:
    async with async_stream(function, items, **options) as results:
        yield results


@asynccontextmanager
async def supervised(
    function: Callable[[Any], Awaitable[Any]], items: Iterable[Any], **options: Any
) -> AsyncIterator[AsyncIterator[Any]]:
    supervisor = await TaskSupervisor.start()
    async with TaskSupervisor.async_stream(supervisor, function, items, **options) as results:
        yield results
    assert await TaskSupervisor.children(supervisor) == []


@asynccontextmanager
async def supervised_nolink(
    function: Callable[[Any], Awaitable[Any]], items: Iterable[Any], **options: Any
) -> AsyncIterator[AsyncIterator[Any]]:
    supervisor = await TaskSupervisor.start()
    async with TaskSupervisor.async_stream_nolink(
        supervisor, function, items, **options
    ) as results:
        yield results
    assert await TaskSupervisor.children(supervisor) == []


OPENERS: list[Opener] = [plain, supervised, supervised_nolink]
LINKED: list[Opener] = [plain, supervised]


async def everything(
    opener: Opener,
    function: Callable[[Any], Awaitable[Any]],
    items: Iterable[Any],
    **options: Any,
) -> list[Any]:
    """Return all outcomes of a stream."""
    async with opener(function, items, **options) as results:
        return [outcome async for outcome in results]
