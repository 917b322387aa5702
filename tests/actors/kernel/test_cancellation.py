"""A killed process is cancelled as if a cancel scope had been around it from its first step.

These tests fail first if a release of Trio changes the private names that `actors._kernel.process` uses.
"""

from collections.abc import AsyncGenerator

import trio

from actors import KILLED, Crash, Runtime, kill, spawn, wait_exit
from tests.actors.helpers import settle


def open_scopes(runtime: Runtime) -> int:
    """Return the number of scopes of processes directly inside the nursery of all processes."""
    assert runtime.nursery is not None
    # One of the scopes belongs to the runtime's timers.
    return len(runtime.nursery._cancel_status.children) - 1


async def stays() -> None:
    await trio.sleep_forever()


async def test_a_process_that_is_not_cancelled_has_no_scope(runtime: Runtime) -> None:
    pid = spawn(stays)
    await settle()
    assert open_scopes(runtime) == 0
    kill(pid)
    assert open_scopes(runtime) == 1
    assert await wait_exit(pid) is KILLED


async def test_a_killed_process_leaves_no_scope(runtime: Runtime) -> None:
    async def with_scopes() -> None:
        with trio.CancelScope():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stays)

    for function in (stays, with_scopes):
        pid = spawn(function)
        await settle()
        kill(pid)
        assert await wait_exit(pid) is KILLED
    await settle()
    assert open_scopes(runtime) == 0


async def test_a_kill_cancels_the_tasks_and_the_scopes_of_a_process(runtime: Runtime) -> None:
    ended: list[str] = []

    async def helper() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("helper")

    async def opens_scopes() -> None:
        with trio.CancelScope() as outer:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(helper)
                with trio.CancelScope() as inner:
                    try:
                        await trio.sleep_forever()
                    finally:
                        ended.append("process")
        ended.append(f"caught: {outer.cancelled_caught or inner.cancelled_caught}")

    pid = spawn(opens_scopes)
    await settle()
    kill(pid)
    assert await wait_exit(pid) is KILLED
    assert sorted(ended) == ["helper", "process"]


async def test_a_kill_waits_for_a_shielded_scope_and_cancels_every_later_checkpoint(
    runtime: Runtime,
) -> None:
    log: list[str] = []

    async def cleans_up() -> None:
        try:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            log.append("shielded")
            await trio.sleep(1)
        finally:
            try:
                await trio.sleep(1)
            finally:
                log.append("end")

    pid = spawn(cleans_up)
    await settle()
    start = trio.current_time()
    kill(pid)
    assert await wait_exit(pid) is KILLED
    assert log == ["shielded", "end"]
    assert trio.current_time() - start == 1


async def test_a_scope_left_open_in_a_generator_is_a_crash_with_the_advice_of_trio(
    runtime: Runtime,
) -> None:
    async def opens() -> AsyncGenerator[None, None]:
        with trio.CancelScope():
            yield

    kept: list[AsyncGenerator[None, None]] = []

    async def leaves_it_open() -> None:
        generator = opens()
        kept.append(generator)
        await anext(generator)

    reason = await wait_exit(spawn(leaves_it_open))
    assert isinstance(reason, Crash)
    assert "Cancel scope stack corrupted" in str(reason.exception)
    assert open_scopes(runtime) == 0
