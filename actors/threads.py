"""Processes and threads: messages from other threads, and blocking work out of the way.

A runtime belongs to the thread that runs Trio. `send_threadsafe` is the one verb for all others; `run_in_thread` takes
work that would block out of the process that needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import trio

from actors.process import send
from actors.runtime import Runtime

__all__ = ["run_in_thread", "send_threadsafe"]

T = TypeVar("T")


def send_threadsafe(runtime: Runtime, address: object, message: Any) -> None:
    """Send a message from any thread.

        runtime = current_runtime()                 # in the Trio thread
        threading.Thread(target=lambda: send_threadsafe(runtime, pid, "done")).start()

    Args:
        runtime: the runtime that the address belongs to.
        address: a pid or a name; a name is looked up when the message arrives, and if nobody has it the message is a
            dead letter, since nobody is left to be told.
        message: any value. Do not change it afterwards.

    Raises:
        trio.RunFinishedError: Trio has finished; the message cannot arrive any more.

    Messages from one thread arrive in the order in which they were sent.
    """
    runtime.run_sync_soon(_deliver, runtime, address, message)


def _deliver(runtime: Runtime, address: object, message: Any) -> None:
    # Runs outside any task, so a name is looked up in the runtime that was given.
    target = runtime.resolve(address)
    if target is not None:
        send(target.pid, message)
    else:
        runtime.dead_letter(address, message)


async def run_in_thread(
    function: Callable[..., T],
    *args: Any,
    abandon_on_cancel: bool = True,
    limiter: trio.CapacityLimiter | None = None,
) -> T:
    """Run a blocking function in a thread, and wait for it; the process's other work waits too, nobody else's does.

        digest = await run_in_thread(hash_password, password)

    Args:
        function: called in a thread of Trio's pool; must not use any verb of this package but `send_threadsafe`.
        *args: its arguments.
        abandon_on_cancel: when the process is killed, leave the thread to itself and end at once; its result is
            thrown away. With False the process ends when the thread does, or is declared a zombie before.
        limiter: bounds the number of threads; Trio's default one if None.

    Returns:
        What the function returns; what it raises is raised here.

    The same as `trio.to_thread.run_sync`, with the default that suits a process.
    """
    return await trio.to_thread.run_sync(
        function, *args, abandon_on_cancel=abandon_on_cancel, limiter=limiter
    )
