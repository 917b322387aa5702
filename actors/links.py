"""Links, monitors and exit signals. With them, a process notices or causes the end of another process.

A *link* joins two processes. When one of them ends, the other gets an exit signal, and also ends unless it traps exits.
A *monitor* is one-way: the monitoring process gets a `Down` message. `actors.exits.judge` decides the effect of a
signal on its receiver. All rules are Erlang's.
"""

from __future__ import annotations

from functools import partial
from threading import get_ident

import trio

from actors._kernel.current import (
    Monitor,
    RemoteMonitor,
    require_process,
    start_monitor,
    wait_for_end,
)
from actors._kernel.runtime import acting_process
from actors.addresses import RemoteAddress
from actors.arguments import check_address, check_pid
from actors.errors import DeadProcess
from actors.exits import KILL, NOPROC, ExitReason
from actors.messages import Down, Exit
from actors.refs import Pid, Ref
from actors.small_set import has_item, without_item

__all__ = ["demonitor", "kill", "link", "monitor", "send_exit", "trap_exits", "unlink", "wait_exit"]


def link(pid: Pid) -> None:
    """Link the current process with `pid`: when one ends, the other gets an exit signal.

    Linking twice makes one link. Linking a process with itself does nothing. If `pid` has ended, a caller that traps
    exits gets `Exit(pid, NOPROC)` in its mailbox, and any other caller gets DeadProcess.
    """
    process = require_process("link")
    check_pid("link", pid)
    if pid.process is not None:
        process.runtime.graph.link(process.pid, pid)
        for instrument in process.runtime.instruments:
            instrument.linked(process.pid, pid)
    elif process.trapping:
        process.mailbox.put(Exit(pid, NOPROC))
    else:
        raise DeadProcess(pid)


def unlink(pid: Pid, *, flush: bool = False) -> None:
    """Remove the link with `pid`, if there is one. The end of `pid` then sends no exit signal to this process.

    Args:
        pid: The other process. It may have ended, or may never have been linked.
        flush: Also remove an `Exit` from `pid` that is already in the mailbox.
    """
    process = require_process("unlink")
    check_pid("unlink", pid)
    process.runtime.graph.unlink(process.pid, pid)
    if flush:
        process.mailbox.flush(lambda message: type(message) is Exit and message.pid is pid)
    for instrument in process.runtime.instruments:
        instrument.unlinked(process.pid, pid, flush)


def monitor(target: object) -> Ref:
    """Request a `Down` message for the end of `target`, and return the reference that the message will carry.

        ref = monitor(pid)
        down = await receive(lambda m: isinstance(m, Down) and m.ref == ref)

    Each call makes a new monitor, which fires once. If the process has ended, or no process has the name, the message
    arrives immediately with the reason `NOPROC`. When a `Down` arrives, the monitored process is dead and its name is
    free. A process cannot monitor itself: `monitor(current_pid())` returns a reference without a monitor.

    The `Down` of a `RemoteAddress` has the address as its `name`, and no pid. If the node of the process is lost, its
    reason is `NOCONNECTION`.
    """
    process = require_process("monitor")
    if type(target) is Pid and target.process is not None:
        return start_monitor(process, target, None)
    if isinstance(target, RemoteAddress):
        return target.monitor()
    found = process.runtime.resolve(target)
    if found is None:
        check_address("monitor", target, process.runtime.classes_named)
        ref = Ref(process.runtime.next_ref())
        pid = target if type(target) is Pid else None
        for instrument in process.runtime.instruments:
            instrument.monitored(process.pid, ref, pid)
            instrument.down_sent(process.pid, ref)
        process.mailbox.put(Down(ref, pid, NOPROC, None if pid is not None else target))
        return ref
    return start_monitor(process, found.pid, target)


def demonitor(ref: Ref, *, flush: bool = False) -> bool:
    """Remove a monitor. Return True if the monitor still existed.

    Args:
        ref: The reference that `monitor` returned. The monitor may have fired or may have been removed.
        flush: Also remove the `Down` of the monitor from the mailbox.
    """
    process = require_process("demonitor")
    removed = False
    if isinstance(ref, Monitor) and has_item(process.watching, ref):
        process.watching = without_item(process.watching, ref)
        process.runtime.graph.unwatch(ref.target, ref)
        removed = True
    elif isinstance(ref, RemoteMonitor) and ref.watcher is process:
        removed = ref.cancel()
    if flush:
        process.mailbox.flush(lambda message: type(message) is Down and message.ref is ref)
    for instrument in process.runtime.instruments:
        instrument.demonitored(process.pid, ref, flush)
    return removed


def trap_exits(flag: bool = True) -> bool:
    """Turn exit signals into `Exit` messages for the current process. Return the old setting.

    A process cannot trap `KILL` from `send_exit`. Trapping also has no effect on a signal that the process has accepted
    before.

    Args:
        flag: False turns trapping off again.
    """
    process = require_process("trap_exits")
    before, process.trapping = process.trapping, flag
    return before


def send_exit(pid: Pid, reason: ExitReason) -> None:
    """Send an exit signal to a process, as if a linked process had ended with `reason`.

    There are two special reasons. `NORMAL` does nothing to another process. `KILL` kills the process even if it traps
    exits; processes linked to it then get `KILLED`. This function returns nothing; to see the end of the process,
    monitor it.

    Any task of the runtime may send. If a process ends itself in this way, this function raises ProcessKilled. Works in
    other threads as `send` does, where it returns before the signal has arrived.
    """
    check_pid("send_exit", pid)
    runtime = pid.runtime
    process = acting_process()
    sender = process.pid if process is not None else runtime.pid
    if get_ident() != runtime.thread:
        runtime.from_threads.put(partial(runtime.signal, sender, pid, reason, linked=False))
        return
    runtime.signal(sender, pid, reason, linked=False)
    if sender is pid and process is not None:
        process.check()


def kill(pid: Pid) -> None:
    """Kill a process: `send_exit(pid, KILL)`.

    Args:
        pid: The process to kill.
    """
    check_pid("kill", pid)
    send_exit(pid, KILL)


async def wait_exit(pid: Pid) -> ExitReason:
    """Wait until a process has ended, and return its exit reason; `NOPROC` if it had ended before the call.

    This is for tasks that are not processes, mostly in tests. To set a time limit, use `trio.fail_after`.

    Args:
        pid: The process to wait for.
    """
    check_pid("wait_exit", pid)
    process = acting_process()
    if process is not None:
        process.check()
    pid.runtime.require_thread("wait_exit")
    if pid.process is None:
        await trio.lowlevel.checkpoint()
        return NOPROC
    reason = await wait_for_end(pid)
    if process is not None:
        process.check()
    return reason
