"""Functions for threads: sending from other threads, and running blocking work in threads.

A runtime belongs to the thread that runs Trio. In every other thread:

* Sending works: `send`, `cast`, `reply`, `send_exit`, `kill`, and functions that only use these.
* Reading works: `whereis`, `is_alive`, `current_pid`, `current_runtime`.
* All other functions raise `WrongThread`, before anything has changed.

Messages from other threads wait in a bounded queue, in order, until the runtime's thread takes them. The module
`actors._kernel.thread_queue` has the details.

`send_threadsafe` and `run_threadsafe` are for threads without a runtime in their context. These are threads that
neither Trio nor a process has started. `run_in_thread` runs blocking work for a process.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any, TypeVar

import trio

from actors._kernel.current import ambient_runtime
from actors._kernel.runtime import Runtime, current_process
from actors.process import deliver_from_thread

__all__ = ["run_in_thread", "run_threadsafe", "send_threadsafe"]

T = TypeVar("T")


def send_threadsafe(runtime: Runtime, address: object, message: Any) -> None:
    """Send a message from any thread, to a process of any runtime.

        runtime = current_runtime()                 # in the Trio thread
        threading.Thread(target=lambda: send_threadsafe(runtime, pid, "done")).start()

    Messages from one thread arrive in the order in which they were sent. In the runtime's own thread, for example in a
    signal handler, this function never waits, and the message arrives in a later scheduler turn.

    Args:
        runtime: The runtime in which the address is valid.
        address: A pid or a name. The runtime looks a name up when the message arrives. If no process has the name, the
            message is a dead letter.
        message: Any value. Do not change it afterwards.

    Raises:
        RuntimeClosed: The runtime has ended, so the message cannot arrive.
        ThreadQueueFull: Too many messages of other threads have been waiting for 30 seconds.
    """
    if get_ident() == runtime.thread:
        # Avoid the queue, because a signal handler must not wait for a lock that the interrupted code may hold.
        runtime.run_sync_soon(deliver_from_thread, runtime, address, message)
    else:
        runtime.from_threads.put(deliver_from_thread, runtime, address, message)


def run_threadsafe(runtime: Runtime, function: Callable[..., object], *args: Any) -> None:
    """Call a plain function in the runtime's thread: immediately if the caller is in that thread, otherwise soon.

        run_threadsafe(runtime, table.pop, key)         # in any thread

    The calls and messages of one thread keep their order. In a thread that Trio has started, use
    `trio.from_thread.run_sync` to get the result.

    Args:
        runtime: The runtime whose thread makes the call.
        function: A function that does not block. The runtime drops its result. If the function raises, `run_threadsafe`
            raises the exception in the runtime's own thread. In another thread, the runtime logs the exception and
            emits the event `("actors", "threads", "failed")`.
        *args: Its arguments.

    Raises:
        RuntimeClosed: The caller is in another thread, and the runtime has ended.
        ThreadQueueFull: The caller is in another thread, and too many calls have been waiting for 30 seconds.
    """
    if get_ident() == runtime.thread:
        function(*args)
    else:
        runtime.from_threads.put(function, *args)


async def run_in_thread(
    function: Callable[..., T],
    *args: Any,
    abandon_on_cancel: bool = True,
    limiter: trio.CapacityLimiter | None = None,
) -> T:
    """Run a blocking function in a thread, and wait for its result. Other processes continue.

        digest = await run_in_thread(hash_password, password)

    Works like `trio.to_thread.run_sync`, except that `abandon_on_cancel` is True by default. When this returns or
    raises, every message that the function sent has arrived.

    Args:
        function: The function, called in a thread of Trio's pool. It may send in the name of this process. Other
            functions raise WrongThread there.
        *args: Its arguments.
        abandon_on_cancel: With True, a killed process ends immediately, and Trio drops the thread's result.
            With False, the killed process waits for the thread, and becomes a zombie if that takes longer than the kill
            grace.
        limiter: The limiter that bounds the number of threads; None for Trio's default limiter.

    Returns:
        The function's result. If the function raises, `run_in_thread` raises the same exception.
    """
    try:
        result = await trio.to_thread.run_sync(
            function, *args, abandon_on_cancel=abandon_on_cancel, limiter=limiter
        )
    except Exception:
        await _caught_up()
        raise
    await _caught_up()
    return result


async def _caught_up() -> None:
    # Later messages of this process must not overtake the messages of its thread.
    process = current_process.get()
    runtime = ambient_runtime.get() if process is None else process.runtime
    if runtime is not None:
        await runtime.from_threads.caught_up()
