"""Faults of processes. Some wait for a callback; the injector applies the others immediately."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Any, Final

import trio

from actors.exits import KILL, NORMAL, SHUTDOWN, ExitReason
from actors.process import send
from actors.refs import Pid
from supervision.laboratory.chaos.errors import InjectedCrash
from supervision.laboratory.chaos.faults.kinds import (
    ExitWith,
    FillMailbox,
    Hang,
    Junk,
    Kill,
    Raise,
    Slow,
    SwallowCancellation,
    describe_fault,
)
from supervision.laboratory.chaos.faults.moments import On
from supervision.laboratory.chaos.injection.ledger import Ledger, Planned, WaitingFaults
from supervision.laboratory.chaos.injection.points import InjectionPoint, TargetRuntime

__all__ = ["CallbackFaults", "apply_to_process"]


class CallbackFaults(WaitingFaults):
    """The faults of a plan that wait for a callback.

    Args:
        ledger: the ledger of the plan.
        changed: a function. This object calls it when a delayed callback continues.
    """

    def __init__(self, ledger: Ledger, changed: Callable[[], None]) -> None:
        super().__init__(ledger)
        # The number of callbacks in each runtime that faults delay for a limited time.
        self._held: dict[TargetRuntime, int] = {}
        self._changed = changed
        self._healed = trio.Event()

    @property
    def held(self) -> int:
        """The number of callbacks that faults delay for a limited time."""
        return sum(self._held.values())

    def drop(self, target: TargetRuntime) -> None:
        """Forget a runtime that is gone. Its delayed callbacks never continue."""
        self._held.pop(target, None)

    def heal(self) -> None:
        super().heal()
        self._healed.set()
        self._healed = trio.Event()

    def started(
        self, target: TargetRuntime, pid: Pid, callback: str, message: Any
    ) -> Awaitable[None] | None:
        """Apply faults to a callback that begins. Raise an injected crash, or return a delay to await."""
        if not self.waiting:
            return None
        relevant = self._relevant_to(target, pid)
        # Every fault counts this callback, even if the first fault ends it.
        hits = [each for each in relevant if not each.taken and _is_now(each, callback, message)]
        if not hits:
            return None
        for planned in hits:
            # This fault has found its callback, even if another fault delays the callback first.
            planned.taken = True
            self.waiting.remove(planned)
        return self._do_all(hits, InjectionPoint(target, pid))

    def _do_all(self, hits: Sequence[Planned], point: InjectionPoint) -> Awaitable[None] | None:
        for position, planned in enumerate(hits):
            if planned.status is not None:
                # `heal` decided this fault while another fault delayed the callback.
                continue
            if point.is_ending:
                self._too_late(hits[position:], point)
                return None
            try:
                wait = self._do(planned, point)
            except InjectedCrash:
                self._too_late(hits[position + 1 :], point)
                raise
            if wait is not None:
                return self._after(wait, hits[position + 1 :], point)
        return None

    async def _after(
        self, wait: Awaitable[None], others: Sequence[Planned], point: InjectionPoint
    ) -> None:
        try:
            await wait
        except trio.Cancelled:
            self._too_late(others, point)
            raise
        following = self._do_all(others, point)
        if following is not None:
            await following

    def _too_late(self, others: Sequence[Planned], point: InjectionPoint) -> None:
        for planned in others:
            if planned.status is None:
                self._ledger.masked(planned, point, "another fault ended the callback first")

    def _do(self, planned: Planned, point: InjectionPoint) -> Awaitable[None] | None:
        fault = planned.fault
        if isinstance(fault, Raise):
            self._ledger.applied(planned, point)
            raise InjectedCrash(describe_fault(fault))
        if isinstance(fault, Hang):
            self._ledger.applied(planned, point)
            return self._hold(planned, point, math.inf, stubborn=False)
        if isinstance(fault, Slow | SwallowCancellation):
            self._ledger.applied(planned, point)
            stubborn = isinstance(fault, SwallowCancellation)
            return self._hold(planned, point, fault.seconds, stubborn=stubborn)
        apply_to_process(self._ledger, planned, point)
        return None

    async def _hold(
        self, planned: Planned, point: InjectionPoint, seconds: float, *, stubborn: bool
    ) -> None:
        timed = seconds < math.inf
        target = point.target
        place = target.places.place_of(point.pid)
        if place is not None:
            place.held += 1
        if timed:
            self._held[target] = self._held.get(target, 0) + 1
        try:
            # The shield keeps a kill from ending SwallowCancellation. Its duration or `heal` ends it.
            with trio.CancelScope(deadline=trio.current_time() + seconds, shield=stubborn):
                await self._healed.wait()
        except trio.Cancelled:
            if timed:
                why = "the process ended during the delay"
                self._ledger.masked(planned, point, why)
            raise
        finally:
            if place is not None:
                place.held -= 1
            if timed and target in self._held:
                self._held[target] -= 1
            self._changed()


def _is_now(planned: Planned, callback: str, message: Any) -> bool:
    """Count a callback for a fault, and return True if the fault waits for this one."""
    when = planned.fault.when
    if not isinstance(when, On):
        # A process that runs `terminate` is ending already.
        return callback != "terminate"
    return when.is_about(callback) and planned.is_now(when, message)


# Faults that act immediately


REASONS: Final[dict[str, ExitReason]] = {"normal": NORMAL, "shutdown": SHUTDOWN, "kill": KILL}


def apply_to_process(ledger: Ledger, planned: Planned, point: InjectionPoint) -> None:
    """Apply `Kill`, `ExitWith` or `FillMailbox` to a living process."""
    fault, pid = planned.fault, point.pid
    if point.is_ending:
        ledger.masked(planned, point, "the process was already ending")
        return
    if isinstance(fault, Kill):
        _signal(ledger, planned, point, KILL)
    elif isinstance(fault, ExitWith):
        reason = REASONS.get(fault.reason, fault.reason)
        info = point.target.runtime.process_info(pid)
        if reason is NORMAL and info is not None and not info["trap_exits"]:
            why = "the process does not trap exits, so a signal with NORMAL has no effect"
            ledger.masked(planned, point, why)
            return
        _signal(ledger, planned, point, reason)
    elif isinstance(fault, FillMailbox):
        ledger.applied(planned, point)
        with ledger.because(planned, point):
            # In an empty context, so that the messages have no sender even if this code runs in a process.
            Context().run(_fill, pid, fault.messages)


def _signal(ledger: Ledger, planned: Planned, point: InjectionPoint, reason: ExitReason) -> None:
    ledger.applied(planned, point)
    with ledger.because(planned, point):
        runtime = point.target.runtime
        # The sender must not be the runtime: the roots of trees obey its signals even if they trap exits.
        runtime.signal(Pid(-1, runtime), point.pid, reason, linked=False)


def _fill(pid: Pid, messages: int) -> None:
    for number in range(1, messages + 1):
        send(pid, Junk(number))
