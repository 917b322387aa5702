"""One heap of deadlines and one task that waits for the earliest of them.

Everything in a runtime that waits with a limit uses this queue instead of a cancel scope of its own: scheduling a
timer is a heap push, and cancelling one is forgetting its callback. Times are Trio's (`trio.current_time()`), so a
test's virtual clock moves them.

Why cancelled timers stay in the heap: most timers are the time limits of calls that are answered at once, and
removing each from the middle of a heap costs more than letting it surface. When more than half of the heap is
forgotten timers it is rebuilt without them, so the heap is never more than twice as large as what is pending.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection, wait_task_rescheduled

from actors._kernel.address_check import check_address
from actors._kernel.process import require_runtime
from actors.refs import Pid, TimerRef

__all__ = ["TimerQueue", "cancel_timer", "read_timer", "send_after", "send_every"]

# Below this many forgotten timers a rebuild would cost more than it frees.
_REBUILD_FLOOR = 256


class TimerQueue:
    """Timers of one runtime, run by `run` in a task of the runtime's own."""

    __slots__ = ("_forgotten", "_heap", "_numbers", "_scope", "_stopped", "_wakes_at")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimerRef]] = []
        self._numbers = 0
        self._forgotten = 0
        self._scope: trio.CancelScope | None = None
        # The scope's deadline, which is dear to ask for; nothing is earlier than that while there is no scope.
        self._wakes_at = -math.inf
        self._stopped = False

    def __len__(self) -> int:
        """How many timers are pending."""
        return len(self._heap) - self._forgotten

    @enable_ki_protection
    def at(
        self, deadline: float, callback: Callable[[], None], timer: TimerRef | None = None
    ) -> TimerRef:
        """Call `callback` once `trio.current_time()` has reached `deadline`, unless the timer is cancelled first.

        Timers of the same deadline run in the order in which they were made. The callback must not raise or block.
        It may pass `timer`, its own that has just run, to run again under the same reference.
        """
        self._numbers = number = self._numbers + 1
        if timer is None:
            timer = TimerRef(number, deadline, callback)
        else:
            timer._deadline = deadline
            timer._callback = callback
        heapq.heappush(self._heap, (deadline, number, timer))
        if deadline < self._wakes_at and self._scope is not None:
            self._scope.deadline = self._wakes_at = deadline
        return timer

    @enable_ki_protection
    def cancel(self, timer: TimerRef) -> float | None:
        """Forget a timer. Returns the seconds that it had left, or None if it has run or was cancelled before."""
        left = self.remaining(timer)
        self.forget(timer)
        return left

    @enable_ki_protection
    def forget(self, timer: TimerRef) -> None:
        """Cancel a timer if it has not run, for those who do not want to know what it had left."""
        if timer._callback is None:
            return
        timer._callback = timer._owner = None
        self._forgotten += 1
        if self._forgotten > _REBUILD_FLOOR and self._forgotten * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2]._callback is not None]
            heapq.heapify(self._heap)
            self._forgotten = 0

    def remaining(self, timer: TimerRef) -> float | None:
        """The seconds that a timer has left, or None if it has run or was cancelled."""
        if timer._callback is None:
            return None
        return max(0.0, timer._deadline - trio.current_time())

    @enable_ki_protection
    async def run(self) -> None:
        """Run what is due, as it becomes due, until `stop`."""
        wake = _woken_by_cancelling(trio.lowlevel.current_task())
        while not self._stopped:
            deadline = self._heap[0][0] if self._heap else math.inf
            self._wakes_at = deadline
            with trio.CancelScope(deadline=deadline) as scope:
                self._scope = scope
                await wait_task_rescheduled(wake)
                if not scope.cancel_called:
                    # Somebody around this has cancelled it.
                    await trio.lowlevel.checkpoint()
            self._scope, self._wakes_at = None, -math.inf
            self._run_due(trio.current_time())

    def stop(self) -> None:
        """End `run`; what is still pending is forgotten."""
        self._stopped = True
        for _, _, timer in self._heap:
            timer._callback = timer._owner = None
        self._heap = []
        self._forgotten = 0
        if self._scope is not None:
            self._scope.cancel()

    def _run_due(self, now: float) -> None:
        # A callback may make a timer that is due at once. Numbers grow, so this bound leaves it to the next round and
        # lets other tasks run in between.
        last = self._numbers
        heap = self._heap
        while heap and heap[0][0] <= now and heap[0][1] <= last:
            timer = heapq.heappop(heap)[2]
            callback = timer._callback
            if callback is None:
                self._forgotten -= 1
            else:
                timer._callback = timer._owner = None
                callback()
                heap = self._heap


def _woken_by_cancelling(task: trio.lowlevel.Task) -> Callable[[object], trio.lowlevel.Abort]:
    """Let a task go on when it is cancelled, rather than raise: an exception for each timer would cost more than it."""

    def wake(_: object) -> trio.lowlevel.Abort:
        trio.lowlevel.reschedule(task)
        return trio.lowlevel.Abort.FAILED

    return wake


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
    return _Sending("send_after", address, message, math.inf).start(seconds)


def send_every(address: object, message: Any, seconds: float) -> TimerRef:
    """Send a message again and again, the first time after `seconds`, until the timer is cancelled.

        timer = send_every(current_pid(), "tick", 1.0)

    Args:
        address: as for `send_after`. A timer for a pid is dropped when its process ends; one for a name goes on,
            whoever has the name.
        message: what to send, the same object each time.
        seconds: above 0. Times are counted from the start, so that they do not drift; those that were missed because
            something held up the loop are left out.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(
            f"send_every got {seconds!r} seconds; it needs a time above 0 between two messages"
        )
    return _Sending("send_every", address, message, seconds).start(seconds)


class _Sending:
    """A message that is due at some time, once or again and again."""

    __slots__ = ("address", "interval", "message", "owner", "runtime", "timer")

    def __init__(self, verb: str, address: object, message: Any, interval: float) -> None:
        self.address = address
        self.message = message
        self.interval = interval
        self.owner = address._process if type(address) is Pid else None
        self.runtime = runtime = address._runtime if type(address) is Pid else require_runtime()
        runtime.require_thread(verb)
        if self.owner is None and address not in runtime.names:
            check_address(verb, address, runtime)

    def start(self, seconds: float) -> TimerRef:
        timer = self.timer = self.runtime.timers.at(trio.current_time() + seconds, self.fire)
        self.own()
        if self.owner is None and type(self.address) is Pid:
            # Its process has ended, so there is nothing to wait for.
            self.runtime.timers.cancel(timer)
        return timer

    def own(self) -> None:
        """Let the end of the process drop the timer."""
        owner, timer = self.owner, self.timer
        if owner is not None:
            if owner.timers is None:
                owner.timers = {}
            owner.timers[timer] = None
            timer._owner = owner

    def fire(self) -> None:
        runtime, owner, timer = self.runtime, self.owner, self.timer
        if owner is not None and owner.timers is not None:
            owner.timers.pop(timer, None)
        if self.interval < math.inf:
            now = trio.current_time()
            missed = max(0.0, (now - timer._deadline) // self.interval)
            runtime.timers.at(timer._deadline + (missed + 1) * self.interval, self.fire, timer)
            self.own()
        process = runtime.resolve(self.address)
        if process is not None and (
            not runtime.guarded or runtime.admit(process.pid, self.message)
        ):
            process.mailbox.put(self.message)


def read_timer(timer: TimerRef) -> float | None:
    """The seconds until a timer fires next, or None if it has fired for good or was cancelled."""
    return require_runtime("read_timer").timers.remaining(timer)


def cancel_timer(timer: TimerRef) -> float | None:
    """Cancel a timer. Returns the seconds it had left, or None if it has fired or was cancelled before.

    None does not say whether its message has been handled: it may still be in the mailbox.
    """
    runtime = require_runtime("cancel_timer")
    owner = timer._owner
    if owner is not None and owner.timers is not None:
        owner.timers.pop(timer, None)
    return runtime.timers.cancel(timer)
