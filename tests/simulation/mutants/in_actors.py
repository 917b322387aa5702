"""Bugs in processes, mailboxes, links, timers, names, registries and servers."""

from __future__ import annotations

from tests.simulation.mutants.mutant import Mutant

__all__ = ["IN_ACTORS"]

_KERNEL = ("tests/actors", "tests/conformance/otp", "tests/conformance/otp_suites")

IN_ACTORS = (
    # Mailboxes
    Mutant(
        name="a flush during a receive makes it skip a message",
        file="actors/_kernel/mailbox.py",
        old="""\
                self._remove(index)
                if index < self._seen:
                    self._seen -= 1
                return
""",
        new="""\
                self._remove(index)
                return
""",
        promise="receive: takes the oldest message that `match` accepts",
        seen="A process sleeps although its mailbox holds a message that its receive accepts.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a cancelled receive stays in the next batch of wake-ups",
        file="actors/_kernel/mailbox.py",
        old="""\
        self.sleeping = False
        self.wake_batches.late.pop(self, None)
        return Abort.SUCCEEDED
""",
        new="""\
        self.sleeping = False
        return Abort.SUCCEEDED
""",
        promise="receive: a cancelled receive loses no message, and the process goes on",
        seen="After a large broadcast the scheduler wakes a task that does not wait, and the program crashes.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a message at the deadline of a receive is too late",
        file="actors/process.py",
        old="""\
        # Look once more after the timeout, because a message at that very moment is in time.
        late = not await mailbox.park_until(deadline, process.runtime.timers)
""",
        new="""\
        if not await mailbox.park_until(deadline, process.runtime.timers):
            raise trio.TooSlowError(f"no matching message arrived within {timeout:g} s")
""",
        promise="receive: raises TooSlowError only if no message matched in time",
        seen="A receive times out although a matching message is in the mailbox.",
        tests=_KERNEL,
    ),
    # Exit signals
    Mutant(
        name="a receive returns a message to a process that has accepted an exit signal",
        file="actors/process.py",
        old="""\
    while True:
        process.check()
        found, message = mailbox.take(match)
""",
        new="""\
    while True:
        found, message = mailbox.take(match)
""",
        promise="receive: raises ProcessKilled if the process has accepted a fatal exit signal",
        seen="A killed process handles one more message, and acts on it.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a server handles a message after it has accepted an exit signal",
        file="actors/servers/_loop.py",
        old="""\
        while True:
            if process.dying:
                raise ProcessKilled(process.reason)
            queue = mailbox.queue
""",
        new="""\
        while True:
            queue = mailbox.queue
""",
        promise="GenServer: a killed server runs no further callback",
        seen="A killed server handles one more call or cast, and its caller may get an answer.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a signal after a SHUTDOWN replaces the exit reason",
        file="actors/_kernel/runtime.py",
        old="""\
        if process.dying:
            return
        process.dying = True
""",
        new="""\
        if process.dying:
            if process.reason is SHUTDOWN:
                process.reason = reason
            return
        process.dying = True
""",
        promise="docs/topics/exit-reasons.md: the first fatal signal decides the exit reason",
        seen="Monitors see the reason of a later signal, and a supervisor restarts a child that was to stop.",
        tests=_KERNEL,
        found_by_tests=False,
    ),
    Mutant(
        name="an error in the clean-up of a killed process replaces its exit reason",
        file="actors/_kernel/runtime.py",
        old="""\
            if not only_unwinding(error):
                self._report(CLEANUP_FAILED, process, process.reason, error)
            self.end(process, process.reason)
""",
        new="""\
            reason = process.reason
            if not only_unwinding(error):
                self._report(CLEANUP_FAILED, process, process.reason, error)
                reason = reason_of(error)
            self.end(process, reason)
""",
        promise="docs/topics/exit-reasons.md: a process that accepted a signal ends with its reason",
        seen="A process that was stopped counts as crashed, and its supervisor restarts it.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a group of exceptions with one exit in it hides a crash",
        file="actors/_kernel/process.py",
        old="""\
    if leaves and len(exits) == len(leaves) and all(reason == exits[0] for reason in exits):
        return exits[0]
""",
        new="""\
    if exits and all(reason == exits[0] for reason in exits):
        return exits[0]
""",
        promise="reason_of: several exits are one exit only if no other exception remains",
        seen="A process with a nursery crashes, but the log and the supervisor show a clean exit.",
        tests=_KERNEL,
    ),
    # Monitors and calls
    Mutant(
        name="a monitor that has fired stays in the list of its owner",
        file="actors/_kernel/current.py",
        old="""\
        watcher = self.watcher
        watcher.watching = without_item(watcher.watching, self)
        if not watcher.dead:
""",
        new="""\
        watcher = self.watcher
        if not watcher.dead:
""",
        promise="process_info: `monitors` lists the processes that the process monitors",
        seen="A long-lived process that monitors short-lived ones uses more and more memory.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a call returns an answer to a caller that has accepted an exit signal",
        file="actors/servers/gen_server.py",
        old="""\
    if caller is not None and caller.dying:
        # If an answer and a kill arrive in the same turn, the kill has priority, as in every other wait.
        raise ProcessKilled(caller.reason)
    if sender.answered:
""",
        new="""\
    if sender.answered:
""",
        promise="docs/topics/process-model.md: a process that accepted a fatal signal only unwinds",
        seen="A killed process goes on after its call, and sends messages, until its next wait.",
        tests=_KERNEL,
    ),
    # Timers
    Mutant(
        name="the timer queue goes on with its old heap after a rebuild",
        file="actors/_kernel/timer_queue.py",
        old="""\
                timer.callback = timer.owner = None
                callback()
                heap = self._heap
""",
        new="""\
                timer.callback = timer.owner = None
                callback()
""",
        promise="send_every: sends one message for each interval",
        seen="After many cancelled timers at one moment, a repeating timer fires twice.",
        tests=_KERNEL,
        found_by_tests=False,
    ),
    Mutant(
        name="a repeating timer outlives its process after the first message",
        file="actors/timers.py",
        old="""\
            runtime.timers.at(timer.deadline + (missed + 1) * self.interval, self, timer)
            self.own()
""",
        new="""\
            runtime.timers.at(timer.deadline + (missed + 1) * self.interval, self, timer)
""",
        promise="send_after, send_every: the end of the process cancels a timer for its pid",
        seen="Timers of ended processes fire forever, and `statistics()['timers']` grows.",
        tests=_KERNEL,
        found_by_tests=False,
    ),
    # Names
    Mutant(
        name="a once alias accepts more than one message",
        file="actors/addresses.py",
        old="""\
        if self._once or process.dead:
            self._process = None
""",
        new="""\
        if process.dead:
            self._process = None
""",
        promise="alias: with `once` the address is valid for one message only",
        seen="A second answer to one request enters the mailbox.",
        tests=_KERNEL,
    ),
    Mutant(
        name="processes of a registry outlive an owner that ends normally",
        file="actors/registry/registry.py",
        old="""\
            self.runtime.signal(
                pid, registrant, SHUTDOWN if reason is NORMAL else reason, linked=True
            )
""",
        new="""\
            self.runtime.signal(pid, registrant, reason, linked=True)
""",
        promise="Registry.start_link: the registered processes get SHUTDOWN in place of NORMAL",
        seen="Old processes without a name go on running beside their successors.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a lock is lost if its next holder is cancelled at that moment",
        file="actors/registry/registry.py",
        old="""\
        except BaseException:
            self.release(ticket)
            raise
        return ticket
""",
        new="""\
        except BaseException:
            if not ticket.turn.is_set():
                self.release(ticket)
            raise
        return ticket
""",
        promise="Registry.lock: other tasks get the lock in the order of their requests",
        seen="After a timeout, every task that wants the lock waits forever.",
        tests=_KERNEL,
        found_by_tests=False,
    ),
    # Servers
    Mutant(
        name="a message does not cancel the timeout of a server",
        file="actors/servers/_loop.py",
        old="""\
                deadline, self.deadline = self.deadline, math.inf
            else:
""",
        new="""\
                deadline = self.deadline
            else:
""",
        promise="Within: the server gets a Timeout unless a message arrives first",
        seen="A busy server gets a Timeout in the middle of its work.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a system request ends the timeout of a server",
        file="actors/servers/_loop.py",
        old="""\
        if deadline != math.inf:
            # As in OTP, a system request restarts the server's timeout.
            self.deadline = trio.current_time() + self.interval
        self._answer(message)
""",
        new="""\
        self._answer(message)
""",
        promise="GenServer: as in OTP, a system request restarts the timeout of the server",
        seen="A server never gets its Timeout after a system request such as `sys.get_state`.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a server that is killed in terminate still answers its last call",
        file="actors/servers/_loop.py",
        old="            if stopping.sender is not None and not process.dying:\n",
        new="            if stopping.sender is not None:\n",
        promise="Stop: the caller gets the reply after `terminate`; a killed server sends nothing",
        seen="A caller relies on a clean-up that did not happen.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a server answers its last call before terminate",
        file="actors/servers/_loop.py",
        old="""\
        try:
            await self._terminate(reason)
        finally:
            # Answer after `terminate`, because the caller may rely on the clean-up.
            if stopping.sender is not None and not process.dying:
                stopping.sender.answer(stopping.value)
        raise ProcessExit(reason) from None
""",
        new="""\
        if stopping.sender is not None:
            stopping.sender.answer(stopping.value)
        await self._terminate(reason)
        raise ProcessExit(reason) from None
""",
        promise="Stop: the caller gets the reply after `terminate`",
        seen="A caller relies on a clean-up that has not happened yet.",
        tests=_KERNEL,
    ),
    Mutant(
        name="handle_continue may begin before the start of the server returns",
        file="actors/servers/_loop.py",
        old="""\
                await trio.lowlevel.cancel_shielded_checkpoint()
                await trio.lowlevel.cancel_shielded_checkpoint()
""",
        new="""\
                await trio.lowlevel.cancel_shielded_checkpoint()
""",
        promise="Continue: a start returns before `handle_continue` runs",
        seen="When the start of a server returns, the server may already have run `handle_continue`.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a suspended server ignores the end of its parent",
        file="actors/servers/_loop.py",
        old="""\
        return type(message) is SystemRequest or (
            type(message) is Exit and self.process.is_stopped_by(message.pid)
        )
""",
        new="""\
        return type(message) is SystemRequest
""",
        promise="actors.sys: as in OTP, a suspended server stops at the end of its parent",
        seen="A suspended server that traps exits stops only when its supervisor kills it.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a state machine repeats postponed events in the reverse order",
        file="actors/servers/state_machine.py",
        old="        self._waiting.extendleft(reversed(self._postponed))\n",
        new="        self._waiting.extendleft(self._postponed)\n",
        promise="docs/reference/state-machine.md: postponed events keep their order",
        seen="A machine handles the requests that arrived while it was connecting in reverse order.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a state machine gets the timeout of a state that it has left",
        file="actors/servers/state_machine.py",
        old="""\
        if timer is not None and cancel_timer(timer) is None:
            # The timer has fired, and its message for the old state is in the mailbox.
            require_process("state_timeout").mailbox.flush(lambda message: message is alarm)
""",
        new="""\
        if timer is not None:
            cancel_timer(timer)
""",
        promise="docs/reference/state-machine.md: a change of state ends the timeout of the old state",
        seen="A machine that has just entered a state gets a StateTimeout at once.",
        tests=_KERNEL,
    ),
    # Threads and tasks outside
    Mutant(
        name="a large batch of calls from threads leaves the rest waiting",
        file="actors/_kernel/thread_queue.py",
        old="""\
            self._scheduled = bool(self._calls)
            if self._scheduled:
                self._run_sync_soon(self._run_some)
            self._room.notify(len(calls))
""",
        new="""\
            self._scheduled = False
            self._room.notify(len(calls))
""",
        promise="send: when it returns in another thread, the runtime has accepted the message",
        seen="Messages of a busy thread arrive only when another thread sends.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a block fails because its process had to be killed afterwards",
        file="actors/adoption.py",
        old="""\
            failed = watch.ended.is_set() and not is_normal_exit(watch.reason)
            await _stop(process, watch, shutdown)
""",
        new="""\
            await _stop(process, watch, shutdown)
            failed = watch.ended.is_set() and not is_normal_exit(watch.reason)
""",
        promise="scoped_spawn: raises ProcessFailed if the process ended before the body did",
        seen="A block raises ProcessFailed because its process was slow to stop.",
        tests=_KERNEL,
    ),
)
