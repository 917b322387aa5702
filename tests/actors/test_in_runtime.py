"""`in_runtime`: a task of another library belongs to a runtime for a block."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable

import pytest
import trio

from actors import (
    Agent,
    Runtime,
    RuntimeClosed,
    as_process,
    current_pid,
    current_runtime,
    in_runtime,
    open_runtime,
)


async def elsewhere(function: Callable[[], Awaitable[None]]) -> None:
    """Run in a task that was started before the runtime, as the tasks of a web server are."""
    async with trio.open_nursery() as nursery:

        def start() -> None:
            nursery.start_soon(function)

        contextvars.Context().run(start)


async def test_a_task_of_another_library_belongs_to_the_runtime_for_the_block() -> None:
    seen: list[Runtime | int] = []

    async with open_runtime(log=False) as runtime:

        async def handler() -> None:
            with pytest.raises(RuntimeClosed):
                current_runtime()
            with in_runtime(runtime):
                seen.append(current_runtime())
                seen.append(await Agent.get(await Agent.start(lambda: 7), lambda state: state))
            with pytest.raises(RuntimeClosed):
                current_runtime()

        await elsewhere(handler)
    assert seen == [runtime, 7]


async def test_the_body_is_not_a_process_even_inside_one() -> None:
    async with open_runtime(log=False) as runtime, as_process() as pid:
        with in_runtime(runtime), pytest.raises(RuntimeError):
            current_pid()
        assert current_pid() == pid


async def test_operations_in_a_closed_runtime_fail() -> None:
    async with open_runtime(log=False) as runtime:
        pass
    with in_runtime(runtime), pytest.raises(RuntimeClosed):
        await Agent.start(lambda: 7)
