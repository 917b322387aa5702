"""The least that a call can be on Trio: two tasks, two queues, and a task that is woken by hand.

No names, no time limit, nobody who would notice if the other side died. What Ashtree adds to this is what its calls
cost more.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import trio
import trio.testing

from tests.benchmarks.actors.clock import batches, seconds_each_async
from tests.benchmarks.actors.subject import Subject

CAST = object()
CRASH = object()


class Box:
    """A mailbox: a queue, and the task that waits for something to be in it."""

    __slots__ = ("items", "task")

    def __init__(self) -> None:
        self.items: deque[Any] = deque()
        self.task: trio.lowlevel.Task | None = None

    def put(self, item: Any) -> None:
        self.items.append(item)
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task)

    async def take(self) -> Any:
        if not self.items:
            self.task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        return self.items.popleft()

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Server:
    def __init__(self) -> None:
        self.requests = Box()
        self.answers = Box()
        self.crashed_at = 0.0

    async def run(self) -> None:
        while True:
            request = await self.requests.take()
            if request is CRASH:
                self.crashed_at = time.perf_counter()
                raise RuntimeError("crash")
            if request is not CAST:
                self.answers.put(request)

    async def call(self, request: Any) -> Any:
        self.requests.put(request)
        return await self.answers.take()


def with_server(
    scenario: Callable[[Server, int], Awaitable[list[float]]],
) -> Callable[[int], list[float]]:
    async def main(count: int) -> list[float]:
        server = Server()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            await server.call(None)
            result = await scenario(server, count)
            nursery.cancel_scope.cancel()
        return result

    return lambda count: trio.run(main, count)


@with_server
async def calls(server: Server, count: int) -> list[float]:
    async def run() -> None:
        for number in range(count):
            await server.call(number)

    return await seconds_each_async(count, run)


@with_server
async def casts(server: Server, count: int) -> list[float]:
    async def run() -> None:
        for batch in batches(count):
            for _ in range(batch):
                server.requests.put(CAST)
            await server.call(None)

    return await seconds_each_async(count, run)


async def _nothing() -> None:
    pass


def spawn(count: int) -> list[float]:
    """Tasks that do nothing, started a thousand at a time with `start_soon` and waited for."""

    async def run() -> None:
        for batch in batches(count):
            async with trio.open_nursery() as nursery:
                for _ in range(batch):
                    nursery.start_soon(_nothing)

    return trio.run(seconds_each_async, count, run)


def crash(count: int) -> list[float]:
    """The ordinary restart loop: a nursery for each incarnation, and a handler around it."""
    return trio.run(_crash, count)


async def _crash(count: int) -> list[float]:
    server = Server()
    took = []

    async def keep_running() -> None:
        while True:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(server.run)
            except* RuntimeError:
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_running)
        for _ in range(count):
            server.requests.put(CRASH)
            await server.call(None)
            took.append(time.perf_counter() - server.crashed_at)
        nursery.cancel_scope.cancel()
    return took


def fill(count: int, weigh: Callable[[], None]) -> None:
    """Parked tasks, each with a mailbox."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(Server().run)
            await trio.testing.wait_all_tasks_blocked()
            weigh()
            nursery.cancel_scope.cancel()

    trio.run(main)


SUBJECT = Subject(
    name="raw Trio",
    callee="own task",
    cases={"call": calls, "cast": casts, "spawn": spawn, "crash": crash},
    fill=fill,
)
