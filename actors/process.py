"""Functions that spawn and end processes, and that send and receive messages.

    async def counter():
        count = 0
        while True:
            message = await receive()
            count += 1
            print(count, message)

    async with open_runtime():
        pid = spawn(counter)
        send(pid, "hello")

A process is a Trio task with a mailbox and an identity. Of the functions here, only `receive` is async and may wait.
Links, monitors and exit signals are in `actors.links`, names in `actors.addresses`, and timers in `actors.timers`. The
rules are Erlang's. The docstrings name the differences that Trio causes.

A process may open nurseries of its own. In the tasks of these nurseries, `current_pid` returns the pid of the process.
But only the process's own task may call `receive`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from threading import get_ident
from typing import Any, NoReturn

import trio
from trio.lowlevel import current_task

from actors._kernel.current import require_process, require_runtime, start_monitor
from actors._kernel.runtime import Process, Runtime, current_process, record_of
from actors.addresses import RemoteAddress, send_unattended
from actors.arguments import check_address, check_async, check_pid
from actors.errors import DeadProcess, InvalidArgument, InvalidOperation, NoSuchName, ProcessExit
from actors.exits import ExitReason
from actors.places import place_of
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

_LABELLED = ("actors", "process", "labelled")


def spawn(
    function: Callable[..., Awaitable[Any]],
    *args: Any,
    name: object = None,
    label: str | None = None,
) -> Pid:
    """Start a process that runs `await function(*args)`, and return its pid without waiting.

        pid = spawn(worker, 3)

    When this returns, the process has not taken its first step. The process may outlive its creator, and ends with the
    runtime at the latest. As in Trio, the process gets a copy of the caller's context variables.

    Args:
        function: An async callable. The process ends with `NORMAL` when the callable returns, and with a `Crash` when
            it raises.
        *args: Its arguments. For keyword arguments use `functools.partial`.
        name: The process's name, registered before its first step.
        label: The process's description in messages; by default the function's name.

    Raises:
        InvalidArgument: `function` is not an async function. Nothing was started.
        AlreadyStarted: The name is taken. Nothing was started.
        RuntimeClosed: The caller belongs to no runtime, or the runtime is shutting down.
        WrongThread: The caller does not run in the runtime's thread.
        InvalidArgument: `function` is a method of a server or a channel, which must not outlive its process.
    """
    check_async("spawn", function)
    _refuse_unlinked("spawn", function)
    return require_runtime("spawn").spawn(function, args, name=name, label=label).pid


def _refuse_unlinked(verb: str, function: Callable[..., Any]) -> None:
    """Raise InvalidArgument for a method of an object that must not outlive its process, such as a server."""
    method = function
    while isinstance(method, partial):
        method = method.func
    owner = getattr(method, "__self__", None)
    if owner is not None and getattr(type(owner), "lives_in_process", False):
        place = place_of(method) or "?"
        name = getattr(method, "__name__", repr(method))
        kind = type(owner).__name__
        raise InvalidArgument(
            None,
            function,
            f"{verb}(self.{name}) would keep {kind}.{name} ({place}) running after its {kind} has ended; "
            f"write spawn_link(self.{name}), which ends with it, or send_every(current_pid(), message, seconds) and "
            "handle_info",
        )


def spawn_link(
    function: Callable[..., Awaitable[Any]],
    *args: Any,
    name: object = None,
    label: str | None = None,
) -> Pid:
    """Spawn a process and link it to the current process, in one step. For the arguments, see `spawn`."""
    check_async("spawn_link", function)
    process = require_process("spawn_link")
    return process.runtime.spawn(function, args, link=True, name=name, label=label).pid


def spawn_monitor(
    function: Callable[..., Awaitable[Any]],
    *args: Any,
    name: object = None,
    label: str | None = None,
) -> tuple[Pid, Ref]:
    """Spawn a process and monitor it. Return the pid and the reference. For the arguments, see `spawn`."""
    check_async("spawn_monitor", function)
    process = require_process("spawn_monitor")
    _refuse_unlinked("spawn_monitor", function)
    pid = process.runtime.spawn(function, args, name=name, label=label).pid
    return pid, start_monitor(process, pid, None)


def current_pid() -> Pid:
    """Return the pid of the process in which the caller runs.

    Raises:
        NotAProcess: The caller is not a process.
    """
    return require_process("current_pid", any_thread=True).pid


def ancestors() -> tuple[Pid, ...]:
    """Return the creator of the current process, the creator of that process, and so on. Empty outside processes."""
    process = current_process.get()
    return () if process is None else process.ancestors


def process_dictionary() -> dict[Any, Any]:
    """Return the dictionary of the current process. No other process shares or inherits it.

        process_dictionary()["request_id"] = request_id

    Use it for values that you would otherwise pass through every function, such as the id of a request for the log.
    Keep state in arguments and attributes instead, where readers see it.
    """
    process = require_process("process_dictionary", any_thread=True)
    if process.dictionary is None:
        process.dictionary = {}
    return process.dictionary


def set_label(label: str) -> None:
    """Set a label that describes the current process in logs and observers. A label is not an address.

    In the runtime's thread, `set_label` also emits the event `("actors", "process", "labelled")`.

    Args:
        label: The description.
    """
    process = require_process("set_label", any_thread=True)
    process.label = label
    telemetry = process.runtime.telemetry
    # Event handlers may run only in the runtime's thread.
    if telemetry.handlers(_LABELLED) and get_ident() == process.runtime.thread:
        telemetry.execute(_LABELLED, {}, {"pid": process.pid, "label": label})


def send(address: object, message: Any) -> None:
    """Put a message into a process's mailbox. Never blocks the runtime's thread.

        send(pid, "hello")
        send("logger", "hello")

    Messages from one process to another arrive in the order in which they were sent. There is no order between
    different senders. Works in any task of the runtime, not only in processes.

    A message to a pid whose process has ended is not an error. The runtime drops the message, counts it in
    `statistics()["dead_letters"]` and emits the event `("actors", "message", "dead_letter")`.

    `send` also works in other threads. When it returns there, the message is on its way. The messages of one thread
    arrive in order. In other threads, two rules differ:

    * The runtime looks a name up when the message arrives. If no process has the name, the runtime drops the message as
      above.
    * `send` waits while too many messages of other threads are on their way (`open_runtime(max_thread_calls=)`).

    A thread without a runtime in its context can only send to pids. For names it needs
    `actors.threads.send_threadsafe`.

    Args:
        address: A pid or a registered name. `send` looks the name up immediately.
        message: Any value. The runtime does not copy it, so do not change it afterwards.

    Raises:
        InvalidArgument: The address is a class, a coroutine or another value that is neither a pid nor a name.
        NoSuchName: No process has the name.
        RuntimeClosed: The caller is in another thread, and the runtime has ended.
        ThreadQueueFull: The caller is in another thread, and too many messages have been waiting for 30 seconds.
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
        if isinstance(address, RemoteAddress):
            address.send(message)
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
    """Deliver a message from another thread. A message without a receiver counts as a dead letter."""
    # This runs outside any task, so there is no current runtime.
    if isinstance(address, RemoteAddress):
        send_unattended(runtime, address, message)
        return
    target = runtime.resolve(address)
    if target is not None:
        send(target.pid, message)
    else:
        runtime.dead_letter(address, message)


async def receive(match: Callable[[Any], bool] | None = None, *, timeout: float = math.inf) -> Any:
    """Take the oldest message that `match` accepts, and wait for one if necessary.

        message = await receive()
        down = await receive(lambda m: isinstance(m, Down) and m.ref == ref, timeout=1)

    `receive` is always a checkpoint. A cancelled `receive` loses no message.

    Args:
        match: A predicate; None takes any message. `receive` calls it for the waiting messages, oldest first, and then
            for each new message. A message that the predicate refuses stays in the mailbox, in order.
        timeout: The seconds to wait. With 0, `receive` looks once at the waiting messages.

    Returns:
        The message, without a copy.

    Raises:
        trio.TooSlowError: No message matched in time.
        ProcessKilled: The process has accepted a fatal exit signal. Do not swallow it.
        InvalidOperation: The caller is a helper task of a process. Or the caller is a callback of a server other than
            `terminate`, and `match` is None.
    """
    process = require_process("receive")
    if process.task is not current_task():
        raise InvalidOperation(
            "receive",
            f"only the task of {process.pid!r} itself may receive its messages; "
            "let the helper task send() its results to the process, or spawn() a process for it",
        )
    # A server that terminates has a `context`, and its loop reads no more messages.
    if match is None and process.context is None and process.is_server:
        raise InvalidOperation(
            "receive",
            f"receive() in a callback of {process.describe()} {process.pid!r} would also take messages for the other "
            "callbacks; write `async def handle_info(self, message)` to act on messages, or receive(match) "
            "to wait for one of them",
        )
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
                for received in process.runtime.on_received:
                    received(process.pid, message)
                if not process.is_server:
                    waits = process.starting("receive", message)
                    if waits is not None:
                        await waits
            return message
        if late:
            raise trio.TooSlowError(f"no matching message arrived within {timeout:g} s")
        # Look once more after the timeout, because a message at that very moment is in time.
        late = not await mailbox.park_until(deadline, process.runtime.timers)


def exit(reason: ExitReason) -> NoReturn:
    """End the current process with `reason`, by raising ProcessExit. Linked processes get this reason, even `KILL`."""
    require_process("exit", any_thread=True)
    raise ProcessExit(reason)


def is_alive(pid: Pid) -> bool:
    """Return True if a process has not ended. A process that unwinds after a fatal signal is still alive.

    Args:
        pid: The process.
    """
    check_pid("is_alive", pid)
    return pid.process is not None


def on_exit(cleanup: Callable[[], None], *, pid: Pid | None = None) -> Callable[[], None]:
    """Run `cleanup` at the end of a process, for any exit reason. Return a function that cancels this.

        on_exit(lambda: table.remove(me))             # at the end of the current process
        on_exit(partial(table.remove, pid), pid=pid)  # at the end of another process

    The runtime calls `cleanup` before it notifies links and monitors. So the clean-up is complete when other processes
    get their `Down`. `cleanup` must be synchronous and quick. If `cleanup` raises, the runtime reports the exception
    and continues. If a process has several clean-ups, the last one runs first.

    Args:
        cleanup: A function without arguments.
        pid: The process; by default the current one.

    Raises:
        DeadProcess: The process `pid` has ended, so `cleanup` will not run.
        NotAProcess: There is no `pid`, and the caller is not a process.
        WrongThread: The caller does not run in the runtime's thread.
    """
    process = require_process("on_exit") if pid is None else _living("on_exit", pid)
    key = object()
    process.add_cleanup(key, cleanup)
    return partial(process.remove_cleanup, key)


def _living(verb: str, pid: Pid) -> Process:
    check_pid(verb, pid)
    pid.runtime.require_thread(verb)
    process = record_of(pid)
    if process is None:
        raise DeadProcess(pid)
    return process
