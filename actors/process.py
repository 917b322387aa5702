"""Processes: spawning them, sending to them, linking, monitoring and ending them.

    async def counter():
        count = 0
        while True:
            message = await receive()
            count += 1
            print(count, message)

    async with open_runtime():
        pid = spawn(counter)
        send(pid, "hello")

A process is a Trio task with a mailbox and an identity. Everything here is synchronous except `receive` and
`wait_exit`, the only two that may wait. What follows Erlang follows it to the letter; where Trio makes a difference
it says so.

A process may open nurseries of its own. Their tasks act in its name (`current_pid` is the process's), but only the
process's own task may `receive`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import trio
from trio.lowlevel import (
    Abort,
    current_task,
    enable_ki_protection,
    reschedule,
    wait_task_rescheduled,
)

from actors._process import (
    Monitor,
    Process,
    acting_process,
    current_process,
    require_process,
    require_runtime,
)
from actors.errors import DeadProcess, MailboxBusy, NoSuchName, ProcessExit, ProcessKilled
from actors.exits import KILL, NOPROC, ExitReason
from actors.messages import Down, Exit
from actors.refs import Pid, Ref, TimerRef

__all__ = [
    "ancestors",
    "cancel_timer",
    "current_pid",
    "demonitor",
    "exit",
    "is_alive",
    "kill",
    "link",
    "monitor",
    "on_exit",
    "receive",
    "register",
    "send",
    "send_after",
    "send_exit",
    "set_label",
    "spawn",
    "spawn_link",
    "spawn_monitor",
    "trap_exits",
    "unlink",
    "unregister",
    "wait_exit",
    "whereis",
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
        AlreadyStarted: the name is taken; nothing was started.
        RuntimeClosed: there is no runtime here, or it is shutting down.

    The process outlives its creator; only the end of the runtime ends it for certain. It has not taken its first
    step when this returns. As in Trio, context variables are copied from the caller.
    """
    return require_runtime().spawn(function, args, name=name, label=label).pid


def spawn_link(
    function: Callable[..., Awaitable[Any]],
    *args: Any,
    name: object = None,
    label: str | None = None,
) -> Pid:
    """Like `spawn`, and link the new process to the current one before either can do anything else."""
    process = require_process("spawn_link")
    return process.runtime.spawn(function, args, link=True, name=name, label=label).pid


def spawn_monitor(
    function: Callable[..., Awaitable[Any]],
    *args: Any,
    name: object = None,
    label: str | None = None,
) -> tuple[Pid, Ref]:
    """Like `spawn`, and monitor the new process. Returns its pid and the monitor's reference."""
    process = require_process("spawn_monitor")
    pid = process.runtime.spawn(function, args, name=name, label=label).pid
    return pid, _watch(process, pid, None)


def current_pid() -> Pid:
    """The pid of the process in which the caller runs; NotAProcess if it is not one."""
    return require_process("current_pid").pid


def ancestors() -> tuple[Pid, ...]:
    """Who spawned the current process, who spawned that one, and so on; empty outside processes."""
    process = current_process.get()
    return () if process is None else process.ancestors


def set_label(label: str) -> None:
    """Say what the current process is, for logs and observers. Unlike a name it addresses nothing."""
    require_process("set_label").label = label


def send(address: object, message: Any) -> None:
    """Put a message into a process's mailbox. Never blocks.

        send(pid, "hello")
        send("logger", "hello")

    Args:
        address: a pid, or a registered name, which is looked up now.
        message: any value. It is not copied: treat what you send as no longer yours.

    Raises:
        NoSuchName: nobody has the name. A pid whose process has ended is no error: the message vanishes, is counted
            in `statistics()["dead_letters"]`, and the event `("actors", "message", "dead_letter")` is executed.

    Messages from one process to another arrive in the order in which they were sent; nothing is promised for
    different senders. Works in any task of the runtime, not only in processes.
    """
    if type(address) is Pid:
        process = address._process
        if process is None:
            address._runtime.dead_letter(address, message)
            return
    else:
        process = require_runtime().resolve(address)
        if process is None:
            raise NoSuchName(address)
    if not process.runtime.guarded or process.runtime.admit(process.pid, message):
        process.mailbox.put(message)


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

    Always a checkpoint. Cancelling it loses no message.
    """
    process = require_process("receive")
    if process.task is not current_task():
        raise MailboxBusy(process.pid)
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
            return message
        if late:
            raise trio.TooSlowError(f"no matching message arrived within {timeout:g} s")
        # Looked through once more when the time is up: a message of the same moment counts as in time.
        late = not await mailbox.park_until(deadline, process.runtime.timers)


def link(pid: Pid) -> None:
    """Link the current process with `pid`: when one ends, the other gets an exit signal.

    Linking twice makes one link; linking with oneself does nothing. If `pid` has ended, a caller that traps exits
    finds `Exit(pid, NOPROC)` in its mailbox, and any other gets DeadProcess.
    """
    process = require_process("link")
    if pid._process is not None:
        process.runtime.graph.link(process.pid, pid)
    elif process.trapping:
        process.mailbox.put(Exit(pid, NOPROC))
    else:
        raise DeadProcess(pid)


def unlink(pid: Pid, *, flush: bool = False) -> None:
    """Cut the link with `pid`, if there is one: no exit signal comes from it any more.

    Args:
        pid: the other process; it may have ended, or never have been linked.
        flush: also take an `Exit` from it that is in the mailbox already, which otherwise stays there.
    """
    process = require_process("unlink")
    process.runtime.graph.unlink(process.pid, pid)
    if flush:
        process.mailbox.flush(lambda message: type(message) is Exit and message.pid is pid)


def monitor(target: object) -> Ref:
    """Ask for a `Down` message when `target` ends, and return the reference that it will carry.

        ref = monitor(pid)
        down = await receive(lambda m: isinstance(m, Down) and m.ref == ref)

    Each call makes a monitor of its own; each fires once. For a process that has ended, or a name that nobody has,
    the message arrives at once with `NOPROC`. When it arrives, the process is not alive and its name is free.
    """
    process = require_process("monitor")
    found = process.runtime.resolve(target)
    if found is None:
        ref = Ref(process.runtime.next_ref())
        is_pid = type(target) is Pid
        process.mailbox.put(
            Down(ref, target if type(target) is Pid else None, NOPROC, None if is_pid else target)
        )
        return ref
    return _watch(process, found.pid, None if type(target) is Pid else target)


def _watch(process: Process, pid: Pid, name: object) -> Ref:
    ref = Monitor(process.runtime.next_ref(), process, name)
    process.runtime.graph.watch(pid, ref)
    if process.watching is None:
        process.watching = {}
    process.watching[ref] = pid
    return ref


def demonitor(ref: Ref, *, flush: bool = False) -> bool:
    """Remove a monitor. Returns whether it was still there.

    Args:
        ref: what `monitor` returned. One that has fired or was removed is no error.
        flush: also take its `Down` out of the mailbox, which otherwise stays there.
    """
    process = require_process("demonitor")
    removed = False
    if process.watching is not None and isinstance(ref, Monitor):
        watched = process.watching.pop(ref, None)
        removed = watched is not None and process.runtime.graph.unwatch(watched, ref)
    if flush:
        process.mailbox.flush(lambda message: type(message) is Down and message.ref is ref)
    return removed


def trap_exits(flag: bool = True) -> bool:
    """Turn exit signals into `Exit` messages for the current process. Returns the old setting.

    `KILL` from `send_exit` cannot be trapped, and trapping does nothing about a signal that was accepted before.
    """
    process = require_process("trap_exits")
    before, process.trapping = process.trapping, flag
    return before


def exit(reason: ExitReason) -> NoReturn:
    """End the current process with `reason`, unwinding it. Linked processes get `reason` as it is, `KILL` too."""
    require_process("exit")
    raise ProcessExit(reason)


def send_exit(pid: Pid, reason: ExitReason) -> None:
    """Send an exit signal to a process, as if a linked one had ended with `reason`, but for two differences.

    `NORMAL` does nothing to another process, and `KILL` kills it whether it traps exits or not (its own peers then
    see `KILLED`). Never says whether it did anything: monitor the process to know. Any task of the runtime may send.
    A process that ends itself like this does not get to its next line: ProcessKilled unwinds it.
    """
    process = acting_process()
    sender = process.pid if process is not None else pid._runtime.pid
    pid._runtime.signal(sender, pid, reason, linked=False)
    if sender is pid and process is not None:
        process.check()


def kill(pid: Pid) -> None:
    """Kill a process: `send_exit(pid, KILL)`."""
    send_exit(pid, KILL)


def is_alive(pid: Pid) -> bool:
    """Whether a process has not ended yet. One that is unwinding after a fatal signal is alive until it has."""
    return pid._process is not None


def register(name: object, pid: Pid | None = None) -> None:
    """Give a process a name that `send`, `call`, `monitor` and `whereis` understand, until it ends.

    Args:
        name: any hashable value but None.
        pid: the process; by default the current one.

    Raises:
        NameTaken: the name belongs to a living process, or this process has another name.
        DeadProcess: the process has ended.
    """
    process = require_process("register") if pid is None else pid._process
    if process is None:
        assert pid is not None
        raise DeadProcess(pid)
    process.runtime.register(name, process)


def unregister(name: object) -> None:
    """Take a name away. One that nobody has is no error."""
    require_runtime().unregister(name)


def whereis(name: object) -> Pid | None:
    """The process that has a name now, or None."""
    process = require_runtime().names.get(name)
    return process.pid if process is not None else None


def send_after(address: object, message: Any, seconds: float) -> TimerRef:
    """Send a message later, and return a reference with which it can be cancelled.

        timer = send_after(current_pid(), "tick", 1.5)

    Args:
        address: a pid, or a name, which is looked up when the time has come; if nobody has it then, nothing happens.
            A timer for a pid is dropped when its process ends.
        message: what to send.
        seconds: at least 0, on Trio's clock.
    """
    # Written so that NaN, which is neither less nor more than anything, is refused too.
    if not seconds >= 0:
        raise ValueError(
            f"send_after got {seconds!r} seconds; a message cannot be sent in the past"
        )
    owner = address._process if type(address) is Pid else None
    runtime = address._runtime if type(address) is Pid else require_runtime()

    def fire() -> None:
        process = runtime.resolve(address)
        if owner is not None and owner.timers is not None:
            owner.timers.pop(timer, None)
        if process is not None and (not runtime.guarded or runtime.admit(process.pid, message)):
            process.mailbox.put(message)

    timer = runtime.timers.at(trio.current_time() + seconds, fire)
    if owner is not None:
        if owner.timers is None:
            owner.timers = {}
        owner.timers[timer] = None
        timer._owner = owner
    elif type(address) is Pid:
        runtime.timers.cancel(timer)
    return timer


def cancel_timer(timer: TimerRef) -> float | None:
    """Cancel a timer. Returns the seconds it had left, or None if it has fired or was cancelled before.

    None does not say whether its message has been handled: it may still be in the mailbox.
    """
    owner = timer._owner
    if owner is not None and owner.timers is not None:
        owner.timers.pop(timer, None)
    return require_runtime().timers.cancel(timer)


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


class _ExitWaiter:
    __slots__ = ("reason", "task")

    def __init__(self) -> None:
        self.reason: ExitReason = NOPROC
        self.task: trio.lowlevel.Task | None = None

    def down(self, pid: Pid, reason: ExitReason) -> None:
        self.reason = reason
        task, self.task = self.task, None
        if task is not None:
            reschedule(task)


@enable_ki_protection
async def wait_exit(pid: Pid) -> ExitReason:
    """Wait until a process has ended, and return its reason; `NOPROC` if it had ended before.

    For tasks that are not processes, above all tests. It waits as long as it takes: put it into
    `trio.fail_after` where that matters.
    """
    process = acting_process()
    if process is not None:
        process.check()
    if pid._process is None:
        await trio.lowlevel.checkpoint()
        return NOPROC
    waiter, graph = _ExitWaiter(), pid._runtime.graph
    graph.watch(pid, waiter)

    def abort(_raise_cancel: object) -> Abort:
        graph.unwatch(pid, waiter)
        waiter.task = None
        return Abort.SUCCEEDED

    waiter.task = current_task()
    await wait_task_rescheduled(abort)
    if process is not None:
        process.check()
    return waiter.reason
