"""Unfinished async generators of processes: their end, and how to close them in time."""

import gc
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
import trio

from actors import KILLED, NORMAL, NotAProcess, Runtime, current_pid, kill, spawn, wait_exit
from tests.actors.helpers import settle


async def numbers(log: list[str]) -> AsyncGenerator[int, None]:
    try:
        for number in range(10):
            yield number
    finally:
        try:
            log.append(f"closed in {current_pid()!r}")
        except NotAProcess:
            log.append("closed in no process")


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
async def test_a_generator_that_is_left_open_is_closed_by_trio_outside_of_the_process(
    runtime: Runtime,
) -> None:
    log: list[str] = []

    async def leaves_it_open() -> None:
        async for _ in numbers(log):
            break

    pid = spawn(leaves_it_open)
    assert await wait_exit(pid) is NORMAL
    # The end of the process does not wait for it.
    log.append("the process has ended")
    gc.collect()
    await settle()
    assert log == ["the process has ended", "closed in no process"]


async def test_a_generator_in_aclosing_is_closed_in_its_process_before_the_end(
    runtime: Runtime,
) -> None:
    log: list[str] = []

    async def closes_it() -> None:
        async with aclosing(numbers(log)) as opened:
            async for _ in opened:
                break

    pid = spawn(closes_it)
    assert await wait_exit(pid) is NORMAL
    assert log == [f"closed in {pid!r}"]


async def test_a_killed_process_closes_a_generator_in_aclosing(runtime: Runtime) -> None:
    log: list[str] = []

    async def stays() -> None:
        async with aclosing(numbers(log)) as opened:
            async for _ in opened:
                await trio.sleep_forever()

    pid = spawn(stays)
    await settle()
    kill(pid)
    assert await wait_exit(pid) is KILLED
    assert log == [f"closed in {pid!r}"]
