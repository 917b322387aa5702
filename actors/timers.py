"""Timers: messages that arrive after a delay, once or repeatedly.

Times are seconds on Trio's clock, so a test's virtual clock moves them.
"""

from __future__ import annotations

import math
from typing import Any

import trio

from actors._kernel.current import require_runtime
from actors._kernel.runtime import acting_process
from actors._kernel.timer_queue import TimerQueue
from actors.addresses import RemoteAddress, send_unattended
from actors.arguments import check_address
from actors.errors import InvalidOption
from actors.refs import Pid, ProcessLike, RuntimeLike, TimerRef

__all__ = ["TimerQueue", "cancel_timer", "read_timer", "send_after", "send_every"]


def send_after(address: object, message: Any, seconds: float) -> TimerRef:
    """Send a message after a delay.

        timer = send_after(current_pid(), "tick", 1.5)

    Args:
        address: A pid or a name. The timer looks a name up when it fires. If no process has the name, nothing happens.
            If the address is a pid, the end of the process cancels the timer.
        message: The message.
        seconds: The delay in seconds on Trio's clock, at least 0.

    Returns:
        A reference for `cancel_timer` and `read_timer`.

    Raises:
        InvalidOption: `seconds` is negative or not a number.
        InvalidArgument: `address` is neither a pid nor a name.
        ProcessKilled: The caller acts for a process that has been declared dead.
    """
    # This form of the comparison also refuses NaN.
    if not seconds >= 0:
        raise InvalidOption("send_after", "seconds", seconds, "seconds, 0 or more")
    return _Sending("send_after", address, message, math.inf).start(seconds)


def send_every(address: object, message: Any, seconds: float) -> TimerRef:
    """Send a message repeatedly, the first time after `seconds`, until the timer is cancelled.

        timer = send_every(current_pid(), "tick", 1.0)

    Args:
        address: As for `send_after`. If another process takes over a name, the timer sends to that process.
        message: The message, the same object each time.
        seconds: The interval in seconds, finite and above 0. The timer computes each due time from its start, so it
            does not drift. If the event loop was blocked, the timer skips messages that were due during that time.

    Returns:
        A reference for `cancel_timer` and `read_timer`.

    Raises:
        InvalidOption: `seconds` is 0 or less, infinite, or not a number.
        InvalidArgument: `address` is neither a pid nor a name.
        ProcessKilled: The caller acts for a process that has been declared dead.
    """
    if not 0 < seconds < math.inf:
        raise InvalidOption("send_every", "seconds", seconds, "a finite interval above 0")
    return _Sending("send_every", address, message, seconds).start(seconds)


class _Sending:
    """A message that a timer sends, once or repeatedly."""

    __slots__ = ("address", "interval", "message", "owner", "runtime", "timer")

    def __init__(self, verb: str, address: object, message: Any, interval: float) -> None:
        self.address = address
        self.message = message
        self.interval = interval
        self.owner: ProcessLike | None = None
        self.runtime: RuntimeLike
        if type(address) is Pid:
            self.owner = address.process
            self.runtime = address.runtime
            self.runtime.require_thread(verb)
            if self.runtime.guarded:
                # A zombie must not send later what it cannot send now. Without zombies, this costs one test.
                acting_process()
        else:
            self.runtime = runtime = require_runtime(verb)
            if not isinstance(address, RemoteAddress) and address not in runtime.names:
                check_address(verb, address, runtime.classes_named)

    def start(self, seconds: float) -> TimerRef:
        # The object itself is the callback, because a bound method would take more memory for each waiting timer.
        timer = self.timer = self.runtime.timers.at(trio.current_time() + seconds, self)
        self.own()
        if self.owner is None and type(self.address) is Pid:
            # The address is the pid of an ended process.
            self.runtime.timers.forget(timer)
            return timer
        interval = self.interval if self.interval < math.inf else None
        for instrument in self.runtime.instruments:
            instrument.timer_started(timer, self.address, interval)
        return timer

    def own(self) -> None:
        """Make the end of the owner cancel the timer. Only a timer for a pid has an owner."""
        owner, timer = self.owner, self.timer
        if owner is not None:
            owner.add_timer(timer)
            timer.owner = owner

    def __call__(self) -> None:
        runtime, owner, timer = self.runtime, self.owner, self.timer
        if owner is not None:
            owner.remove_timer(timer)
        if self.interval < math.inf:
            now = trio.current_time()
            missed = max(0.0, (now - timer.deadline) // self.interval)
            runtime.timers.at(timer.deadline + (missed + 1) * self.interval, self, timer)
            self.own()
        for instrument in runtime.instruments:
            instrument.timer_fired(timer)
        if isinstance(self.address, RemoteAddress):
            send_unattended(runtime, self.address, self.message)
            return
        process = runtime.resolve(self.address)
        if process is not None and (
            not runtime.guarded or runtime.admit(process.pid, self.message)
        ):
            process.mailbox.put(self.message)


def read_timer(timer: TimerRef) -> float | None:
    """Return the seconds until a timer fires next, or None if it will not fire again.

    Args:
        timer: The result of `send_after` or `send_every`.
    """
    return require_runtime("read_timer").timers.remaining(timer)


def cancel_timer(timer: TimerRef) -> float | None:
    """Cancel a timer. Return the seconds that were left, or None if the timer has fired or was cancelled before.

    If the result is None, the message may still be in the mailbox.

    Args:
        timer: The result of `send_after` or `send_every`.
    """
    runtime = require_runtime("cancel_timer")
    owner = timer.owner
    if owner is not None:
        owner.remove_timer(timer)
    left = runtime.timers.cancel(timer)
    for instrument in runtime.instruments:
        instrument.timer_cancelled(timer)
    return left
