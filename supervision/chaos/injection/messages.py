"""Faults that are done to a message on its way into a mailbox.

Of the messages themselves nothing is kept but those that are held back now, of which each fault has one at most.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import trio

from actors.instrumentation.instrument import callback_for, deliver
from actors.refs import Pid
from supervision.chaos.faults.kinds import (
    DelayMessage,
    DropMessage,
    DuplicateMessage,
    Junk,
    MessageFault,
    ReorderMessage,
)
from supervision.chaos.faults.moments import On, kind_of
from supervision.chaos.injection.ledger import Ledger, Planned
from supervision.chaos.injection.points import InjectionPoint, TargetRuntime, fits
from supervision.messages import TryAgain

__all__ = ["MessageFaults"]

PATIENCE = 1.0
"""Seconds that a message waits for another one to overtake it."""

# What supervisors remind themselves with, by a timer: lost, it would be a mistake of ours and not of a network.
_OWN = (Junk, TryAgain)


class _Held:
    """A message that waits for the next one to the same process."""

    def __init__(self, planned: Planned, point: InjectionPoint, message: Any) -> None:
        self.planned = planned
        self.point = point
        self.message = message


class MessageFaults:
    """The faults of a plan that wait for a message.

    Args:
        ledger: of the plan.
        at: does something at a time of `trio.current_time`.
    """

    def __init__(self, ledger: Ledger, at: Callable[[float, Callable[[], object]], None]) -> None:
        self._ledger = ledger
        self._at = at
        self._waiting: list[Planned] = []
        self._relevant: dict[Pid, tuple[Planned, ...]] = {}
        self._overtaken: dict[Pid, list[_Held]] = {}
        # What is to be delivered later: done at once if the faults are healed.
        self._later: dict[Planned, Callable[[], None]] = {}

    def add(self, planned: Planned) -> None:
        """Wait for a message."""
        self._waiting.append(planned)
        self._relevant.clear()

    def heal(self) -> None:
        """Wait no longer, and let everything arrive that was held back."""
        self._waiting.clear()
        self._relevant.clear()
        for deliver_now in list(self._later.values()):
            deliver_now()

    def forget(self, pid: Pid) -> None:
        """A process has ended."""
        self._relevant.pop(pid, None)

    def sent(
        self, target: TargetRuntime, sender: Pid | None, receiver: Pid, message: Any
    ) -> bool | None:
        """A message is about to enter a mailbox; False keeps it out."""
        keep_out = self._go_through(target, sender, receiver, message) if self._waiting else None
        if keep_out is not None or receiver not in self._overtaken:
            return keep_out
        # The order is turned round: this one enters first, by hand, and then those that it overtakes.
        deliver(receiver, message)
        for held in self._overtaken.pop(receiver):
            self._arrive(held.planned, held.point, held.message)
        return False

    def _go_through(
        self, target: TargetRuntime, sender: Pid | None, receiver: Pid, message: Any
    ) -> bool | None:
        if sender is receiver or type(message) in _OWN:
            return None
        relevant = self._relevant.get(receiver)
        if relevant is None:
            relevant = self._relevant[receiver] = self._for(target, receiver)
        if not relevant:
            return None
        if callback_for(message) is None:
            return None
        point = InjectionPoint(target, receiver)
        # All of them count, but only one can have it.
        hits = [each for each in relevant if each.status is None and _is_now(each, point, message)]
        for planned in hits:
            self._waiting.remove(planned)
        for planned in hits[1:]:
            self._ledger.masked(planned, point, "another fault had the same message")
        return self._do(hits[0], point, message) if hits else None

    def _for(self, target: TargetRuntime, receiver: Pid) -> tuple[Planned, ...]:
        place = target.places.place_of(receiver)
        if place is None:
            return ()
        address = target.address(place)
        return tuple(each for each in self._waiting if fits(address, _of(each).target))

    def _do(self, planned: Planned, point: InjectionPoint, message: Any) -> bool | None:
        fault, receiver, recorder = planned.fault, point.pid, point.target.recorder
        sent_as = None if recorder is None else recorder.sent_as(receiver, message)
        fields: dict[str, Any] = {} if sent_as is None else {"message": sent_as}
        self._ledger.applied(planned, point, **fields)
        if isinstance(fault, DropMessage):
            if recorder is not None:
                recorder.lost(receiver, message)
            return False
        if isinstance(fault, DuplicateMessage):
            # This one comes first, and then the original.
            deliver(receiver, message)
            return None
        if isinstance(fault, DelayMessage):
            self._hold_back(planned, fault.seconds, point, message)
            return False
        assert isinstance(fault, ReorderMessage)
        held = _Held(planned, point, message)
        self._overtaken.setdefault(receiver, []).append(held)
        self._hold_back(planned, PATIENCE, point, message)
        return False

    def _hold_back(
        self, planned: Planned, seconds: float, point: InjectionPoint, message: Any
    ) -> None:
        arrive = partial(self._give_up_waiting, planned, point, message)
        self._later[planned] = arrive
        self._at(trio.current_time() + seconds, arrive)

    def _give_up_waiting(self, planned: Planned, point: InjectionPoint, message: Any) -> None:
        if planned not in self._later:
            return
        receiver = point.pid
        overtaken = self._overtaken.get(receiver)
        if overtaken is not None:
            overtaken[:] = [held for held in overtaken if held.planned is not planned]
            if not overtaken:
                del self._overtaken[receiver]
        if self._arrive(planned, point, message) and isinstance(planned.fault, ReorderMessage):
            why = f"no other message came to its receiver within {PATIENCE:g} s"
            self._ledger.masked(planned, point, why)

    def _arrive(self, planned: Planned, point: InjectionPoint, message: Any) -> bool:
        self._later.pop(planned, None)
        # Of a node that was killed, nothing is told that its processes are gone.
        arrived = not point.target.gone and deliver(point.pid, message)
        if not arrived:
            why = "its receiver had ended before the message arrived"
            self._ledger.masked(planned, point, why)
        return arrived


def _of(planned: Planned) -> MessageFault:
    fault = planned.fault
    assert isinstance(fault, MessageFault)  # nothing else is added
    return fault


def _is_now(planned: Planned, point: InjectionPoint, message: Any) -> bool:
    """Whether a message is the one that a fault waits for; counts it, if it is one of those that count."""
    fault, kind = _of(planned), kind_of(message)
    if not fnmatchcase(kind, fault.kind):
        return False
    when = fault.when
    if not isinstance(when, On):
        return True
    callback = callback_for(message) or ""
    # A plain process receives what a server handles as info.
    if not when.is_about(callback) and (when.callback, callback) != ("receive", "handle_info"):
        return False
    if when.kind is not None and not fnmatchcase(kind, when.kind):
        return False
    if when.incarnation is not None:
        place = point.target.places.place_of(point.pid)
        if place is None or place.incarnation != when.incarnation:
            return False
    planned.count += 1
    return planned.count >= when.nth
