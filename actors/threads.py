"""Processes and threads: messages from other threads, and blocking work out of the way.

A runtime belongs to the thread that runs Trio. In every other thread:

* what sends and returns nothing works: `send`, `cast`, `reply`, `send_exit`, `kill`, and what is made of them;
* what only looks works: `whereis`, `is_alive`, `current_pid`, `current_runtime`;
* everything else raises `WrongThread`, before anything has changed.

What is sent there waits in a bounded queue until the runtime's thread takes it, in order; the module
`actors._kernel.thread_queue` has the details. `send_threadsafe` and `run_threadsafe` are for threads that have no
runtime in their context, because neither Trio nor a process has started them. `run_in_thread` takes work that would
block out of the process that needs it.
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

    Args:
        runtime: the runtime that the address belongs to.
        address: a pid or a name; a name is looked up when the message arrives, and if nobody has it the message is a
            dead letter, since nobody is left to be told.
        message: any value. Do not change it afterwards.

    Raises:
        RuntimeClosed: the runtime has ended; the message cannot arrive any more.
        ThreadQueueFull: too many messages of other threads wait, and have waited for 30 seconds.

    Messages from one thread arrive in the order in which they were sent. In the runtime's own thread, where signal
    handlers run, it never waits, and the message arrives in a later turn of the scheduler.
    """
    if get_ident() == runtime.thread:
        # Not through the queue: a signal handler must not wait for a lock that the code below it may hold.
        runtime.run_sync_soon(deliver_from_thread, runtime, address, message)
    else:
        runtime.from_threads.put(deliver_from_thread, runtime, address, message)


def run_threadsafe(runtime: Runtime, function: Callable[..., object], *args: Any) -> None:
    """Call a plain function in the runtime's thread: at once if this is that thread, else soon.

        run_threadsafe(runtime, table.pop, key)         # in any thread

    Args:
        runtime: whose thread.
        function: must not block. What it returns is thrown away. What it raises is raised here in the runtime's own
            thread; for other threads it is logged, and executes the event `("actors", "threads", "failed")`.
        *args: its arguments.

    Raises:
        RuntimeClosed: this is another thread, and the runtime has ended.
        ThreadQueueFull: this is another thread; too many calls wait, and have waited for 30 seconds.

    Calls of one thread are made in order, its messages included. A thread that Trio has started and that wants the
    result uses `trio.from_thread.run_sync`.
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
    """Run a blocking function in a thread, and wait for it; the process's other work waits too, nobody else's does.

        digest = await run_in_thread(hash_password, password)

    Args:
        function: called in a thread of Trio's pool. It may send, in the name of this process; other verbs raise
            WrongThread there.
        *args: its arguments.
        abandon_on_cancel: when the process is killed, leave the thread to itself and end at once; its result is
            thrown away. With False the process ends when the thread does, or is declared a zombie before.
        limiter: bounds the number of threads; Trio's default one if None.

    Returns:
        What the function returns; what it raises is raised here.

    The same as `trio.to_thread.run_sync`, but for the default that suits a process, and one thing more: what the
    function has sent has arrived when this returns or raises what the function did.
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
    # What this process sends next must not overtake what its thread has sent.
    process = current_process.get()
    runtime = ambient_runtime.get() if process is None else process.runtime
    if runtime is not None:
        await runtime.from_threads.caught_up()
