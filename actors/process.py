"""Processes: spawning them, sending to them, receiving, and ending.

    async def counter():
        count = 0
        while True:
            message = await receive()
            count += 1
            print(count, message)

    async with open_runtime():
        pid = spawn(counter)
        send(pid, "hello")

A process is a Trio task with a mailbox and an identity. Everything here is synchronous except `receive`, the only one
that may wait. Links, monitors and exit signals are in `actors.links`, names in `actors.names`, messages that come
later in `actors.timers`. What follows Erlang follows it to the letter; where Trio makes a difference
it says so.

A process may open nurseries of its own. Their tasks act in its name (`current_pid` is the process's), but only the
process's own task may `receive`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable
from functools import partial
from threading import get_ident
from typing import Any, NoReturn

import trio
from trio.lowlevel import current_task

from actors._kernel.current import require_process, require_runtime, start_monitor
from actors._kernel.runtime import Runtime, current_process
from actors.arguments import check_address, check_async, check_pid
from actors.errors import MailboxBusy, NoSuchName, ProcessExit, UnlinkedMethod
from actors.exits import ExitReason
from actors.refs import Address, Pid, ProcessLike, Ref, RuntimeLike

__all__ = [
    "ancestors",
    "current_pid",
    "exit",
    "is_alive",
    "on_exit",
    "process_dictionary",
    "receive",
    "send",
    "set_label",
    "spawn",
    "spawn_link",
    "spawn_monitor",
]


def spawn(
    function: Callable[..., Awaitable[Any]],
    *args: Any,
    name: object = None,
    label: str | None = None,
) -> Pid:
    """Start a process that runs `await function(*args)`, and return its pid at once.

        pid = spawn(worker, 3)

    Args:
        function: an async callable. The process ends `NORMAL` when it returns and with a `Crash` when it raises.
        *args: passed to it; for keyword arguments use `functools.partial`.
        name: registered before the first step, if given.
        label: how messages about the process call it; by default the function's name.

    Raises:
        NotAsync: `function` is no async function; nothing was started.
        AlreadyStarted: the name is taken; nothing was started.
        RuntimeClosed: there is no runtime here, or it is shutting down.
        WrongThread: the caller runs in another thread than the runtime.
        UnlinkedMethod: the function is a method of a server or a channel, whose state must not outlive its process.

    The process outlives its creator; only the end of the runtime ends it for certain. It has not taken its first
    step when this returns. As in Trio, context variables are copied from the caller.
    """
    check_async("spawn", function)
    _refuse_unlinked("spawn", function)
    return require_runtime("spawn").spawn(function, args, name=name, label=label).pid


def _refuse_unlinked(verb: str, function: Callable[..., Any]) -> None:
    """Raise UnlinkedMethod for a method of an object that lives in a process of its own."""
    method = function
    while isinstance(method, partial):
        method = method.func
    owner = getattr(method, "__self__", None)
    if owner is not None and getattr(type(owner), "lives_in_process", False):
        code = getattr(inspect.unwrap(method), "__code__", None)
        place = "?" if code is None else f"{code.co_filename}:{code.co_firstlineno}"
        name = getattr(method, "__name__", repr(method))
        raise UnlinkedMethod(verb, f"{type(owner).__name__}.{name}", place)


def spawn_link(
    function: Callable[..., Awaitable[Any]],
    *args: Any,
    name: object = None,
    label: str | None = None,
) -> Pid:
    """Like `spawn`, and link the new process to the current one before either can do anything else."""
    check_async("spawn_link", function)
    process = require_process("spawn_link")
    return process.runtime.spawn(function, args, link=True, name=name, label=label).pid


def spawn_monitor(
    function: Callable[..., Awaitable[Any]],
    *args: Any,
    name: object = None,
    label: str | None = None,
) -> tuple[Pid, Ref]:
    """Like `spawn`, and monitor the new process. Returns its pid and the monitor's reference."""
    check_async("spawn_monitor", function)
    process = require_process("spawn_monitor")
    _refuse_unlinked("spawn_monitor", function)
    pid = process.runtime.spawn(function, args, name=name, label=label).pid
    return pid, start_monitor(process, pid, None)


def current_pid() -> Pid:
    """The pid of the process in which the caller runs; NotAProcess if it is not one."""
    return require_process("current_pid", any_thread=True).pid


def ancestors() -> tuple[Pid, ...]:
    """Who spawned the current process, who spawned that one, and so on; empty outside processes."""
    process = current_process.get()
    return () if process is None else process.ancestors


def process_dictionary() -> dict[Any, Any]:
    """The dictionary that belongs to the current process alone; nobody inherits it.

        process_dictionary()["request_id"] = request_id

    For what would otherwise be passed through every function, such as the id of a request in logs. State belongs
    into arguments and attributes, where it can be seen.
    """
    process = require_process("process_dictionary", any_thread=True)
    if process.dictionary is None:
        process.dictionary = {}
    return process.dictionary


def set_label(label: str) -> None:
    """Say what the current process is, for logs and observers. Unlike a name it addresses nothing."""
    require_process("set_label", any_thread=True).label = label


def send(address: object, message: Any) -> None:
    """Put a message into a process's mailbox. Never blocks the runtime's thread.

        send(pid, "hello")
        send("logger", "hello")

    Args:
        address: a pid, or a registered name, which is looked up now.
        message: any value. It is not copied: treat what you send as no longer yours.

    Raises:
        NotAnAddress: it is a class, a coroutine or something else that is neither a pid nor a name.
        NoSuchName: nobody has the name. A pid whose process has ended is no error: the message vanishes, is counted
            in `statistics()["dead_letters"]`, and the event `("actors", "message", "dead_letter")` is executed.

    Messages from one process to another arrive in the order in which they were sent; nothing is promised for
    different senders. Works in any task of the runtime, not only in processes.

    Works in other threads as well: the message is on its way when this returns, and those of one thread arrive in
    order. Three things differ there. A name is looked up when the message arrives; if nobody has it, that is a dead
    letter. `send` waits while too many messages of other threads are on their way (`open_runtime(max_thread_calls=)`).
    It raises RuntimeClosed when the runtime has ended. A thread that has no runtime in its context sends to pids, or
    uses `actors.threads.send_threadsafe`.
    """
    runtime: RuntimeLike
    process: ProcessLike | None
    if type(address) is Pid:
        runtime = address.runtime
        if get_ident() != runtime.thread:
            runtime.from_threads.put(send, address, message)
            return
        process = address.process
        if process is None:
            runtime.dead_letter(address, message)
            return
    else:
        here = require_runtime()
        if get_ident() != here.thread:
            here.from_threads.put(deliver_from_thread, here, address, message)
            return
        process = here.resolve(address)
        if process is None:
            check_address("send", address, here.classes_named)
            if not isinstance(address, Address) or not address.forgiving:
                raise NoSuchName(address)
            here.dead_letter(address, message)
            return
        runtime = process.runtime
    if not runtime.guarded or runtime.admit(process.pid, message):
        process.mailbox.put(message)


def deliver_from_thread(runtime: Runtime, address: object, message: Any) -> None:
    """Send a message that comes from another thread: nobody is left to be told that it has no receiver."""
    # Runs outside any task, so a name is looked up in the runtime that was given.
    target = runtime.resolve(address)
    if target is not None:
        send(target.pid, message)
    else:
        runtime.dead_letter(address, message)


async def receive(match: Callable[[Any], bool] | None = None, *, timeout: float = math.inf) -> Any:
    """Take the oldest message that `match` accepts, waiting for one if need be.

        message = await receive()
        down = await receive(lambda m: isinstance(m, Down) and m.ref == ref, timeout=1)

    Args:
        match: a predicate; None takes any message. It is tried on the waiting messages, oldest first, and on every
            new one; what it refuses stays in the mailbox, in order.
        timeout: seconds to wait. 0 looks once through what is there.

    Raises:
        trio.TooSlowError: nothing matched in time.
        ProcessKilled: the process has accepted a fatal exit signal; never catch it for good.
        MailboxBusy: this is a helper task of a process; or a callback of a server
            other than `terminate`, and there is no `match`.

    Always a checkpoint. Cancelling it loses no message.
    """
    process = require_process("receive")
    if process.task is not current_task():
        raise MailboxBusy(process.pid)
    # The loop of a server that terminates reads no more; from then on the process has something to say about its end.
    if match is None and process.context is None and process.is_server:
        raise MailboxBusy(process.pid, process.describe())
    mailbox = process.mailbox
    deadline = trio.current_time() + timeout if timeout < math.inf else math.inf
    await trio.lowlevel.checkpoint()
    mailbox.rewind()
    late = timeout <= 0
    while True:
        process.check()
        found, message = mailbox.take(match)
        if found:
            if process.runtime.instruments:
                for instrument in process.runtime.instruments:
                    instrument.message_received(process.pid, message)
                if not process.is_server:
                    waits = process.starting("receive", message)
                    if waits is not None:
                        await waits
            return message
        if late:
            raise trio.TooSlowError(f"no matching message arrived within {timeout:g} s")
        # Looked through once more when the time is up: a message of the same moment counts as in time.
        late = not await mailbox.park_until(deadline, process.runtime.timers)


def exit(reason: ExitReason) -> NoReturn:
    """End the current process with `reason`, unwinding it. Linked processes get `reason` as it is, `KILL` too."""
    require_process("exit", any_thread=True)
    raise ProcessExit(reason)


def is_alive(pid: Pid) -> bool:
    """Whether a process has not ended yet. One that is unwinding after a fatal signal is alive until it has."""
    check_pid("is_alive", pid)
    return pid.process is not None


def on_exit(cleanup: Callable[[], None]) -> Callable[[], None]:
    """Run `cleanup` at the end of the current process, whatever ends it; returns a function that forgets it.

    It runs inside the end itself, before links and monitors are told, so that whoever learns of the end finds it
    done. It must be synchronous and quick; what it raises is reported and changes nothing. The last one set runs
    first.
    """
    process = require_process("on_exit")
    if process.cleanups is None:
        process.cleanups = {}
    cleanups, key = process.cleanups, object()
    cleanups[key] = cleanup

    def forget() -> None:
        cleanups.pop(key, None)

    return forget
