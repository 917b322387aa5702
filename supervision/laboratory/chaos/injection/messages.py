"""Faults of messages on their way into a mailbox.

Each fault holds at most one message, and only while it delays that message.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import trio

from actors.instrumentation.instrument import callback_for, deliver
from actors.refs import Pid
from supervision.laboratory.chaos.faults.kinds import (
    REORDER_SECONDS,
    DelayMessage,
    DropMessage,
    DuplicateMessage,
    Junk,
    MessageFault,
    ReorderMessage,
)
from supervision.laboratory.chaos.faults.moments import On
from supervision.laboratory.chaos.injection.ledger import Ledger, Planned, WaitingFaults
from supervision.laboratory.chaos.injection.points import InjectionPoint, TargetRuntime
from supervision.messages import TryAgain
from supervision.recording.schema import kind_of

__all__ = ["MessageFaults"]

# No fault affects these types. A fault sends Junk. A supervisor sends TryAgain to itself, directly or by a timer, so no
# network could lose it.
_OWN = (Junk, TryAgain)


class MessageFaults(WaitingFaults):
    """The faults of a plan that wait for a message.

    Args:
        ledger: the ledger of the plan.
        at: a function that takes a time on Trio's clock and a function, and calls this function at that time.

    Attributes:
        overtaken: for each process, the held messages that the next message to the process overtakes, each with its
            fault and its receiver.
    """

    def __init__(self, ledger: Ledger, at: Callable[[float, Callable[[], object]], None]) -> None:
        super().__init__(ledger)
        self._at = at
        self.overtaken: dict[Pid, list[tuple[Planned, InjectionPoint, Any]]] = {}
        # The delayed deliveries. `heal` performs them immediately.
        self._later: dict[Planned, Callable[[], None]] = {}

    def heal(self) -> None:
        super().heal()
        for deliver_now in list(self._later.values()):
            deliver_now()

    def sent(
        self, target: TargetRuntime, sender: Pid | None, receiver: Pid, message: Any
    ) -> bool | None:
        """Apply faults to a message that is about to enter a mailbox. Return False to keep the message out."""
        keep_out = self._go_through(target, sender, receiver, message) if self.waiting else None
        if keep_out is not None or receiver not in self.overtaken:
            return keep_out
        # Deliver this message first, and then the messages that it overtakes.
        deliver(receiver, message)
        for held in self.overtaken.pop(receiver):
            self._arrive(*held)
        return False

    def _go_through(
        self, target: TargetRuntime, sender: Pid | None, receiver: Pid, message: Any
    ) -> bool | None:
        if sender is receiver or type(message) in _OWN:
            return None
        relevant = self._relevant_to(target, receiver)
        if not relevant or callback_for(message) is None:
            return None
        point = InjectionPoint(target, receiver)
        # Every fault counts this message, but only one can be applied.
        hits = [each for each in relevant if each.status is None and _is_now(each, message)]
        for planned in hits:
            self.waiting.remove(planned)
        for planned in hits[1:]:
            self._ledger.masked(planned, point, "another fault was applied to the same message")
        return self._do(hits[0], point, message) if hits else None

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
            # The copy arrives first, then the original.
            deliver(receiver, message)
            return None
        if isinstance(fault, DelayMessage):
            self._hold_back(planned, fault.seconds, point, message)
            return False
        assert isinstance(fault, ReorderMessage)
        self.overtaken.setdefault(receiver, []).append((planned, point, message))
        self._hold_back(planned, REORDER_SECONDS, point, message)
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
        overtaken = self.overtaken.get(receiver)
        if overtaken is not None:
            overtaken[:] = [held for held in overtaken if held[0] is not planned]
            if not overtaken:
                del self.overtaken[receiver]
        if self._arrive(planned, point, message) and isinstance(planned.fault, ReorderMessage):
            why = f"no other message to its receiver followed within {REORDER_SECONDS:g} s"
            self._ledger.masked(planned, point, why)

    def _arrive(self, planned: Planned, point: InjectionPoint, message: Any) -> bool:
        self._later.pop(planned, None)
        # A killed node's processes never end, so `deliver` would find them alive.
        arrived = not point.target.gone and deliver(point.pid, message)
        if not arrived:
            why = "its receiver ended before the message arrived"
            self._ledger.masked(planned, point, why)
        return arrived


def _is_now(planned: Planned, message: Any) -> bool:
    """Count a message for a fault, and return True if the fault waits for this one."""
    fault, when = planned.fault, planned.fault.when
    assert isinstance(fault, MessageFault)  # `add` gets only message faults
    if not fnmatchcase(kind_of(message), fault.kind):
        return False
    if not isinstance(when, On):
        return True
    callback = callback_for(message) or ""
    # "receive" counts the same messages as "handle_info".
    if not when.is_about(callback) and (when.callback, callback) != ("receive", "handle_info"):
        return False
    return planned.is_now(when, message)
