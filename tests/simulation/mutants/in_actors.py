"""Bugs in processes, mailboxes, links, timers, names, registries and servers."""

from __future__ import annotations

from tests.simulation.mutants.mutant import Mutant

__all__ = ["IN_ACTORS"]

_KERNEL = ("tests/actors", "tests/conformance/otp", "tests/conformance/otp_suites")

IN_ACTORS = (
    # Mailboxes
    Mutant(
        name="a flush during a receive makes it skip a message",
        module="actors._kernel.mailbox",
        function="Mailbox.flush",
        shape="""\
if I < self._seen:
    ...
""",
        replacement="",
        promise="receive: takes the oldest message that `match` accepts",
        seen="A process sleeps although its mailbox holds a message that its receive accepts.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a cancelled receive stays in the next batch of wake-ups",
        module="actors._kernel.mailbox",
        function="Mailbox._abort",
        shape="B.late.pop(...)",
        replacement="",
        promise="receive: a cancelled receive loses no message, and the process goes on",
        seen="After a large broadcast the scheduler wakes a task that does not wait, and the program crashes.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a message at the deadline of a receive is too late",
        module="actors.process",
        function="receive",
        shape="L = not await M.park_until(AA)",
        replacement="""\
if not await M.park_until(AA):
    raise trio.TooSlowError(f"no matching message arrived within {timeout:g} s")
""",
        promise="receive: raises TooSlowError only if no message matched in time",
        seen="A receive times out although a matching message is in the mailbox.",
        tests=_KERNEL,
    ),
    # Exit signals
    Mutant(
        name="a receive returns a message to a process that has accepted an exit signal",
        module="actors.process",
        function="receive",
        shape="P.check()",
        replacement="",
        promise="receive: raises ProcessKilled if the process has accepted a fatal exit signal",
        seen="A killed process handles one more message, and acts on it.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a server handles a message after it has accepted an exit signal",
        module="actors.servers._loop",
        function="Loop.run",
        shape="""\
if P.dying:
    ...
""",
        replacement="",
        promise="GenServer: a killed server runs no further callback",
        seen="A killed server handles one more call or cast, and its caller may get an answer.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a signal after a SHUTDOWN replaces the exit reason",
        module="actors._kernel.runtime",
        function="Runtime._accept",
        shape="""\
if P.dying:
    AA
""",
        replacement="""\
if P.dying:
    if P.reason is SHUTDOWN:
        P.reason = reason
    AA
""",
        promise="docs/reference/reasons-and-errors.md: the first fatal signal decides the exit reason",
        seen="Monitors see the reason of a later signal, and a supervisor restarts a child that was to stop.",
        tests=_KERNEL,
        found_by_tests=False,
    ),
    Mutant(
        name="an error in the clean-up of a killed process replaces its exit reason",
        module="actors._kernel.runtime",
        function="Runtime._failed",
        shape="""\
if not only_unwinding(E):
    AA
BB
self.end(P, P.reason)
""",
        replacement="""\
reason = P.reason
if not only_unwinding(E):
    AA
    reason = reason_of(E)
BB
self.end(P, reason)
""",
        promise="docs/reference/reasons-and-errors.md: a process that accepted a signal ends with its reason",
        seen="A process that was stopped counts as crashed, and its supervisor restarts it.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a group of exceptions with one exit in it hides a crash",
        module="actors._kernel.process",
        function="reason_of",
        shape="L and len(E) == len(L) and A",
        replacement="E and A",
        promise="reason_of: several exits are one exit only if no other exception remains",
        seen="A process with a nursery crashes, but the log and the supervisor show a clean exit.",
        tests=_KERNEL,
    ),
    # Monitors and calls
    Mutant(
        name="a monitor that has fired stays in the list of its owner",
        module="actors._kernel.current",
        function="Monitor.down",
        shape="W.watching = without_item(...)",
        replacement="",
        promise="process_info: `monitors` lists the processes that the process monitors",
        seen="A long-lived process that monitors short-lived ones uses more and more memory.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a call returns an answer to a caller that has accepted an exit signal",
        module="actors.servers.gen_server",
        function="_request",
        shape="""\
if C is not None and C.dying:
    ...
""",
        replacement="",
        promise="docs/topics/process-model.md: a process that accepted a fatal signal only unwinds",
        seen="A killed process goes on after its call, and sends messages, until its next wait.",
        tests=_KERNEL,
    ),
    # Timers
    Mutant(
        name="the timer queue goes on with its old heap after a rebuild",
        module="actors._kernel.timer_queue",
        function="TimerQueue._run_due",
        shape="""\
C()
AA
H = self._heap
""",
        replacement="""\
C()
AA
""",
        promise="send_every: sends one message for each interval",
        seen="After many cancelled timers at one moment, a repeating timer fires twice.",
        tests=_KERNEL,
        found_by_tests=False,
    ),
    Mutant(
        name="a repeating timer outlives its process after the first message",
        module="actors.timers",
        function="_Sending.__call__",
        shape="self.own()",
        replacement="",
        promise="send_after, send_every: the end of the process cancels a timer for its pid",
        seen="Timers of ended processes fire forever, and `statistics()['timers']` grows.",
        tests=_KERNEL,
        found_by_tests=False,
    ),
    # Names
    Mutant(
        name="a once alias accepts more than one message",
        module="actors.addresses",
        function="Alias.whereis",
        shape="self._once or P.dead",
        replacement="P.dead",
        promise="alias: with `once` the address is valid for one message only",
        seen="A second answer to one request enters the mailbox.",
        tests=_KERNEL,
    ),
    Mutant(
        name="processes of a registry outlive an owner that ends normally",
        module="actors.registry.registry",
        function="_CloseWithOwner.down",
        shape="SHUTDOWN if R is NORMAL else R",
        replacement="R",
        promise="Registry.start_link: the registered processes get SHUTDOWN in place of NORMAL",
        seen="Old processes without a name go on running beside their successors.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a lock is lost if its next holder is cancelled at that moment",
        module="actors.registry.registry",
        function="KeyLocks.acquire",
        shape="self.release(T)",
        replacement="""\
if not T.turn.is_set():
    self.release(T)
""",
        promise="Registry.lock: other tasks get the lock in the order of their requests",
        seen="After a timeout, every task that wants the lock waits forever.",
        tests=_KERNEL,
        found_by_tests=False,
    ),
    # Servers
    Mutant(
        name="a message does not cancel the timeout of a server",
        module="actors.servers._loop",
        function="Loop.run",
        shape="D, self.deadline = self.deadline, math.inf",
        replacement="D = self.deadline",
        promise="Within: the server gets a Timeout unless a message arrives first",
        seen="A busy server gets a Timeout in the middle of its work.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a system request ends the timeout of a server",
        module="actors.servers._loop",
        function="Loop._system",
        shape="""\
if D != math.inf:
    ...
""",
        replacement="",
        promise="GenServer: as in OTP, a system request restarts the timeout of the server",
        seen="A server never gets its Timeout after a system request such as `sys.get_state`.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a server that is killed in terminate still answers its last call",
        module="actors.servers._loop",
        function="Loop._stop",
        shape="S.sender is not None and not P.dying",
        replacement="S.sender is not None",
        promise="Stop: the caller gets the reply after `terminate`; a killed server sends nothing",
        seen="A caller relies on a clean-up that did not happen.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a server answers its last call before terminate",
        module="actors.servers._loop",
        function="Loop._stop",
        shape="""\
try:
    await self._terminating(R)
finally:
    if C:
        AA
""",
        replacement="""\
if stopping.sender is not None:
    AA
await self._terminating(R)
""",
        promise="Stop: the caller gets the reply after `terminate`",
        seen="A caller relies on a clean-up that has not happened yet.",
        tests=_KERNEL,
    ),
    Mutant(
        name="handle_continue may begin before the start of the server returns",
        module="actors.servers._loop",
        function="_init",
        shape="""\
await C()
await C()
""",
        replacement="await C()",
        promise="Continue: a start returns before `handle_continue` runs",
        seen="When the start of a server returns, the server may already have run `handle_continue`.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a suspended server ignores the end of its parent",
        module="actors.servers._loop",
        function="Loop._is_urgent",
        shape="type(M) is SystemRequest or ...",
        replacement="type(M) is SystemRequest",
        promise="actors.sys: as in OTP, a suspended server stops at the end of its parent",
        seen="A suspended server that traps exits stops only when its supervisor kills it.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a state machine repeats postponed events in the reverse order",
        module="actors.servers.state_machine",
        function="StateMachine._go_to",
        shape="reversed(P)",
        replacement="P",
        promise="docs/reference/gen-server.md: postponed events keep their order",
        seen="A machine handles the requests that arrived while it was connecting in reverse order.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a state machine gets the timeout of a state that it has left",
        module="actors.servers.state_machine",
        function="StateMachine._cancel_state_timeout",
        shape="""\
if T is not None and cancel_timer(T) is None:
    ...
""",
        replacement="""\
if T is not None:
    cancel_timer(T)
""",
        promise="docs/reference/gen-server.md: a change of state ends the timeout of the old state",
        seen="A machine that has just entered a state gets a StateTimeout at once.",
        tests=_KERNEL,
    ),
    # Threads and tasks outside
    Mutant(
        name="a large batch of calls from threads leaves the rest waiting",
        module="actors._kernel.thread_queue",
        function="ThreadQueue._run_some",
        shape="""\
self._scheduled = C
AA
if self._scheduled:
    ...
""",
        replacement="""\
self._scheduled = False
AA
""",
        promise="send: when it returns in another thread, the runtime has accepted the message",
        seen="Messages of a busy thread arrive only when another thread sends.",
        tests=_KERNEL,
    ),
    Mutant(
        name="a block fails because its process had to be killed afterwards",
        module="actors.adoption",
        function="scoped_spawn",
        shape="""\
F = W.ended.is_set() and N
AA
await _stop(BB)
""",
        replacement="""\
AA
await _stop(BB)
F = W.ended.is_set() and N
""",
        promise="scoped_spawn: raises ProcessFailed if the process ended before the body did",
        seen="A block raises ProcessFailed because its process was slow to stop.",
        tests=_KERNEL,
    ),
)
