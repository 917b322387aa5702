"""Helpers for tests of processes."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec

import pytest
import trio
import trio.testing

from actors import (
    NORMAL,
    Crash,
    Down,
    ExitReason,
    Pid,
    Ref,
    kill,
    monitor,
    open_runtime,
    receive,
    spawn,
    wait_exit,
)

P = ParamSpec("P")

# Virtual time, so that a test that hangs fails at once.
AN_HOUR = 3600.0


def in_process(
    **options: Any,
) -> Callable[[Callable[P, Awaitable[None]]], Callable[P, Awaitable[None]]]:
    """Run an async test as a process of a runtime of its own, which is opened with `options`.

    The tests use the debug build. At the end of the test it checks that no process or timer is left, and that every
    invariant has held.
    """

    def decorate(test: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
        @functools.wraps(test)
        async def run(*args: P.args, **kwargs: P.kwargs) -> None:
            with trio.fail_after(AN_HOUR):
                async with open_runtime(**options):
                    pid = spawn(functools.partial(test, *args, **kwargs), label=test.__name__)
                    reason = await wait_exit(pid)
            if isinstance(reason, Crash):
                raise reason.exception
            assert reason is NORMAL, f"the process of the test ended with {reason!r}"

        return run

    return decorate


async def idle() -> None:
    """A process that waits for ever."""
    await trio.sleep_forever()


async def listen(heard: list[Any]) -> None:
    """A process that keeps every message that it gets."""
    while True:
        heard.append(await receive())


async def settle() -> None:
    """Wait until no task can run without the passing of time."""
    await trio.testing.wait_all_tasks_blocked()


async def down(ref: Ref) -> Down:
    """Wait for the message of a monitor."""
    message = await receive(lambda message: isinstance(message, Down) and message.ref is ref)
    assert isinstance(message, Down)
    return message


async def reason_of(pid: Pid) -> ExitReason:
    """Wait for the end of a living process, and return its reason."""
    return (await down(monitor(pid))).reason


async def dead_process() -> Pid:
    """Return the pid of a process that has ended."""
    pid = spawn(idle)
    ref = monitor(pid)
    kill(pid)
    await down(ref)
    return pid


async def nothing_arrives(seconds: float = 0) -> None:
    """Fail if the current process has, or gets within some seconds, a message."""
    with pytest.raises(trio.TooSlowError):
        message = await receive(timeout=seconds)
        pytest.fail(f"a message arrived: {message!r}")
