"""Functions for tasks under test, and checks that many tests of tasks share."""

from typing import Any

import trio

from actors import Pid, exit, monitor, spawn, trap_exits
from tests.actors.helpers import down, nothing_arrives, settle


async def double(number: int) -> int:
    return 2 * number


async def wait_and_return(seconds: float, value: Any = "done") -> Any:
    await trio.sleep(seconds)
    return value


async def sleep_for(seconds: float) -> float:
    await trio.sleep(seconds)
    return seconds


async def end_with(reason: Any) -> int:
    exit(reason)


async def crash(error: Exception) -> int:
    raise error


async def forever() -> int:
    await trio.sleep_forever()
    return 0


async def deaf() -> int:
    """Trap exits and ignore them."""
    trap_exits()
    await trio.sleep_forever()
    return 0


async def nothing_left(seconds: float = 20) -> None:
    """Fail if a message is in the mailbox of the current process, or comes within some time."""
    await settle()
    await nothing_arrives(seconds)


async def outcome_of(function: Any, *args: Any) -> Any:
    """Run a function in another process, and return the exit reason of the process."""
    pid: Pid = spawn(function, *args)
    return (await down(monitor(pid))).reason
