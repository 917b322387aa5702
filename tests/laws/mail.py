"""Invariants of mailboxes, answers, timers, and the runtime's tables of links and monitors."""

from __future__ import annotations

import heapq
import math
from typing import Any, ClassVar

from actors.exits import ExitReason
from actors.refs import Address, Pid, Ref, TimerRef
from actors.runtime import Runtime
from supervision.laboratory.chaos.invariants.base import Invariant

__all__ = ["AnsweredOnce", "MailIsTaken", "NothingLeft", "Timers"]

# Less than any interval between two moments, more than the rounding of times.
_EPSILON = 1e-9


class MailIsTaken(Invariant):
    """No process sleeps while its mailbox has a message that its `receive` has not looked at."""

    name: ClassVar[str] = "mail_is_taken"

    def __init__(self) -> None:
        super().__init__()
        # The processes that slept at the last rest although they had a message. On a live system, such a process may
        # be about to wake, so the invariant waits for the next rest.
        self._seen: dict[Pid, Any] = {}

    def at_rest(self) -> str | None:
        found = sleeping_before_a_message(self.runtime)
        if not found:
            self._seen = {}
            return None
        # Unlike `late_twice`, this compares the messages, and a message may be unhashable.
        for pid, message in found:
            if self._seen.get(pid) is message:
                return f"{self.who(pid)} sleeps, although {message!r} is in its mailbox"
        self._seen = dict(found)
        return None


class AnsweredOnce(Invariant):
    """A call gets at most one answer, and its caller gets that answer."""

    name: ClassVar[str] = "answered_once"

    def __init__(self) -> None:
        super().__init__()
        # The caller and the server of each open call.
        self._open: dict[object, tuple[Pid | None, Pid]] = {}
        # The answer to each open call that has one.
        self._answers: dict[object, Any] = {}

    def call_started(self, caller: Pid | None, server: Pid, call: object, timeout: float) -> None:
        self._open[call] = (caller, server)

    def call_answered(self, call: object, value: Any) -> None:
        if call in self._answers:
            self.violated(
                f"{self._what(call)} got a second answer, {value!r}, after {self._answers[call]!r}"
            )
        elif call in self._open:
            self._answers[call] = value

    def call_ended(self, call: object, how: str) -> None:
        answered = call in self._answers
        if answered and how != "answered":
            self.violated(f"{self._what(call)} was answered, but it ended as {how!r}")
        elif call in self._open and not answered and how == "answered":
            self.violated(f"{self._what(call)} ended as if it had an answer")
        elif answered and getattr(call, "value", None) is not self._answers[call]:
            self.violated(f"{self._what(call)} lost its first answer, {self._answers[call]!r}")
        self._open.pop(call, None)
        self._answers.pop(call, None)

    def _what(self, call: object) -> str:
        caller, server = self._open.get(call, (None, self.runtime.pid))
        return f"the call of {self.who(caller)} to {self.who(server)}"


class Timers(Invariant):
    """A timer fires once, or once for each interval. Timers fire in the order of their deadlines.

    A timer never fires after `cancel_timer` or after the end of its process. Timers that started before the watch are
    not checked.
    """

    name: ClassVar[str] = "timers"

    def __init__(self) -> None:
        super().__init__()
        # The deadline and the interval of each running timer.
        self._running: dict[TimerRef, tuple[float, float | None]] = {}
        self._of: dict[Pid, dict[TimerRef, None]] = {}
        self._owner: dict[TimerRef, Pid] = {}
        self._heap: list[tuple[float, int, TimerRef]] = []
        self._number = 0
        self._last = -math.inf
        # The number of the first timer that started after this invariant. Timers have increasing numbers.
        self._first = math.inf

    def timer_started(self, timer: TimerRef, address: object, interval: float | None) -> None:
        self._first = min(self._first, timer.number)
        self._run(timer, interval)
        if isinstance(address, Pid):
            self._of.setdefault(address, {})[timer] = None
            self._owner[timer] = address

    def _run(self, timer: TimerRef, interval: float | None) -> None:
        self._number += 1
        self._running[timer] = (timer.deadline, interval)
        heapq.heappush(self._heap, (timer.deadline, self._number, timer))

    def timer_cancelled(self, timer: TimerRef) -> None:
        self._forget(timer)

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        for timer in tuple(self._of.get(pid, ())):
            self._forget(timer)
        self._of.pop(pid, None)

    def _forget(self, timer: TimerRef) -> None:
        self._running.pop(timer, None)
        owner = self._owner.pop(timer, None)
        if owner is not None:
            self._of.get(owner, {}).pop(timer, None)

    def timer_fired(self, timer: TimerRef) -> None:
        known = self._running.get(timer)
        if known is None:
            if timer.number < self._first:
                return
            self.violated(
                f"the timer {timer!r} fires, but it has fired, was cancelled, or its process has ended"
            )
            return
        deadline, interval = known
        if self.now() < deadline - _EPSILON:
            self.violated(f"the timer {timer!r} fires {deadline - self.now():g} s too early")
        elif deadline < self._last - _EPSILON:
            self.violated(
                f"the timer {timer!r} of {deadline:g} s fires after a timer of {self._last:g} s"
            )
        self._last = max(self._last, deadline)
        if interval is None:
            self._forget(timer)
        elif timer.deadline <= deadline:
            self.violated(
                f"the timer {timer!r} of {deadline:g} s fires again at {timer.deadline:g} s"
            )
        else:
            self._run(timer, interval)

    def at_rest(self) -> str | None:
        heap, running = self._heap, self._running
        while heap and running.get(heap[0][2], (None,))[0] != heap[0][0]:
            heapq.heappop(heap)
        if not heap or heap[0][0] >= self.now():
            return self.late_twice({})
        deadline, number, timer = heap[0]
        return self.late_twice(
            {
                number: f"the timer {timer!r} was due at {deadline:g} s, and has not fired at {self.now():g} s"
            }
        )


class NothingLeft(Invariant):
    """The runtime's tables keep no links and monitors of an ended process, and no watch of an ended call."""

    name: ClassVar[str] = "nothing_left"

    def __init__(self) -> None:
        super().__init__()
        # For each living process, the living processes that a link or a monitor has ever connected it with.
        self._near: dict[Pid, dict[Pid, None]] = {}
        # The processes that have ended since the last rest, each with its entry of `_near`.
        self._ended: dict[Pid, dict[Pid, None]] = {}
        # The calls that have ended without an answer since the last rest.
        self._given_up: list[Any] = []

    def call_ended(self, call: object, how: str) -> None:
        if how in {"timeout", "cancelled"}:
            self._given_up.append(call)

    def linked(self, pid: Pid, other: Pid) -> None:
        self._near.setdefault(pid, {})[other] = None
        self._near.setdefault(other, {})[pid] = None

    def monitored(self, pid: Pid, ref: Ref, target: Pid | Address[Any] | None) -> None:
        if isinstance(target, Pid):
            self.linked(pid, target)

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        near = self._ended[pid] = self._near.pop(pid, {})
        for other in near:
            self._near.get(other, {}).pop(pid, None)

    def at_rest(self) -> str | None:
        if not self._ended and not self._given_up:
            return None
        graph, ended, given_up = self.runtime.graph, self._ended, self._given_up
        self._ended, self._given_up = {}, []
        for call in given_up:
            server = call.server.pid
            if call in graph.watchers_of(server):
                return f"a call of {self.who(call.pid)} to {self.who(server)} has ended, and still watches the server"
        for pid, near in ended.items():
            if graph.links_of(pid) or graph.watchers_of(pid):
                return f"{self.who(pid)} has ended, and is still linked or watched"
            for other in near:
                found = self._left(pid, other)
                if found is not None:
                    return f"{self.who(pid)} has ended, and {found} {self.who(other)}"
        return None

    def _left(self, pid: Pid, other: Pid) -> str | None:
        """Return a part of a sentence about an entry of `pid` at the living process `other`; None without an entry."""
        info = self.runtime.process_info(other)
        if info is None:
            return None
        if pid in info["links"]:
            return "is still among the links of"
        if pid in info["monitors"]:
            return "is still monitored by"
        for watcher in self.runtime.graph.watchers_of(other):
            if getattr(getattr(watcher, "watcher", None), "pid", None) is pid:
                return "still monitors"
        return None


def sleeping_before_a_message(runtime: Runtime) -> list[tuple[Pid, Any]]:
    """Return the sleeping processes with a message that their `receive` has not looked at, and their oldest messages.

    Between the arrival of a message and the next step of its process, the process is in this list for a moment.
    `Mailbox.parked` does not show this state, because it becomes False as soon as a message arrives.
    """
    # The check of the queue comes first, because it is cheap and nearly all mailboxes are empty.
    return [
        (process.pid, next(iter(process.mailbox.queue)))
        for process in runtime.table.values()
        if process.mailbox.queue and process.mailbox.sleeping and process.mailbox.unread > 0
    ]
