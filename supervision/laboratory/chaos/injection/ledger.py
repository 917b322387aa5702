"""The state of each fault of a running plan, the trace events about it, and the faults that wait for a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from attrs import define

from actors.refs import Pid
from supervision.laboratory.chaos.faults.kinds import (
    DiskFault,
    Fault,
    MessageFault,
    ProcessFault,
    describe_fault,
)
from supervision.laboratory.chaos.faults.moments import At, On
from supervision.laboratory.chaos.faults.report import FaultReport, Status
from supervision.laboratory.chaos.injection.points import InjectionPoint, TargetRuntime
from supervision.recording.places import Place, fits
from supervision.recording.schema import kind_of
from supervision.recording.trace import Trace

__all__ = ["Ledger", "Planned", "WaitingFaults"]


@define(eq=False)
class Planned:
    """One fault of a running plan.

    Attributes:
        fault: the fault.
        count: the number of callbacks or messages so far that matched its `On(...)`.
        met: True once a process whose path matches its target began a callback or got a message.
        waits: True once the fault waits for a callback or a message.
        taken: True once its callback has begun, even while another fault delays that callback.
        status, seconds, where, incarnation, why, event: as in `FaultReport`; `status` is None until the outcome is
            known.
    """

    fault: Fault
    count: int = 0
    met: bool = False
    waits: bool = False
    taken: bool = False
    status: Status | None = None
    seconds: float | None = None
    where: str | None = None
    incarnation: int | None = None
    why: str | None = None
    event: int | None = None

    def is_now(self, when: On, message: Any) -> bool:
        """Count a callback or a message of the right name, and return True if the fault waits for this one."""
        if when.kind is not None and not fnmatchcase(kind_of(message), when.kind):
            return False
        self.count += 1
        return self.count >= when.nth

    def report(self, why: str | None = None) -> FaultReport:
        """Return the report so far. `why` is the reason for a fault that is not decided yet."""
        undecided = self.status is None
        return FaultReport(
            fault=self.fault,
            status=self.status or "not_applicable",
            seconds=self.seconds,
            where=self.where,
            incarnation=self.incarnation,
            why=self._unreached(why) if undecided else self.why,
            event=self.event,
        )

    def _unreached(self, why: str | None) -> str:
        when = self.fault.when
        if self.taken:
            return "another fault held its callback up until then"
        if isinstance(when, At):
            if not self.waits:
                return why or "its time has not come"
            what = "message was sent" if isinstance(self.fault, MessageFault) else "callback began"
            if isinstance(self.fault, DiskFault):
                what = "operation of a disk began"
            return f"no such {what} after that time"
        if self.count:
            return f"its moment never came: it takes {when.nth}, and there were {self.count}"
        target = getattr(self.fault, "target", None)
        if isinstance(self.fault, DiskFault):
            return f"its moment never came: there was no such operation of {target}"
        if target is not None and not self.met:
            what = "got a message" if isinstance(self.fault, MessageFault) else "began a callback"
            return f"its moment never came: no process whose path matches {target} {what}"
        return "its moment never came"


class Ledger:
    """The faults of a plan. The ledger records their outcomes as trace events.

    Args:
        trace: the trace for the events; None for no events.
        now: a function that returns the seconds since the start of the plan.
        decided: a function. The ledger calls it each time that the outcome of a fault becomes known.
    """

    def __init__(
        self, trace: Trace | None, now: Callable[[], float], decided: Callable[[], None]
    ) -> None:
        self.planned: list[Planned] = []
        self._trace = trace
        self._now = now
        self._decided = decided

    def applied(
        self,
        planned: Planned,
        point: InjectionPoint | str,
        *,
        where: str | None = None,
        **fields: Any,
    ) -> None:
        """Note that a fault is applied. The trace names the fault as the cause of the process's next actions.

        Args:
            planned: the fault.
            point: the target process, or the name of another target.
            where: the place for the report, if it differs from `point`.
            fields: further fields of the event.
        """
        self._decide(planned, "applied", None)
        self._record(planned, point, fields)
        if where is not None:
            planned.where, planned.incarnation = where, None

    def masked(self, planned: Planned, point: InjectionPoint | str, why: str) -> None:
        """Note that something else prevented the effect of a fault, or cut it short."""
        if planned.status is None:
            self._decide(planned, "masked", why)
            self._record(planned, point, {})
        else:
            planned.status, planned.why = "masked", why
            self._event("fault_over", planned, point, {"fault_event": planned.event})

    def missed(self, planned: Planned, why: str) -> None:
        """Note that a fault has no target."""
        planned.status, planned.why = "not_applicable", why
        self._decided()

    def failed(self, planned: Planned, why: str) -> None:
        """Note that a fault could not be applied, or could not be undone."""
        if planned.status is None:
            self.missed(planned, why)
        else:
            self.masked(planned, planned.where or "", why)

    def decide(self, why: str) -> None:
        """Make every undecided fault not applicable. `why` is the reason for a fault whose time had not come."""
        for planned in self.planned:
            if planned.status is None:
                self.missed(planned, planned.report(why).why or why)

    def record_inapplicable(self) -> None:
        """Add an event for each fault that was not applicable."""
        for planned in self.planned:
            if planned.status == "not_applicable" and planned.event is None:
                where = getattr(planned.fault, "target", "")
                planned.event = self._event("fault", planned, where, {})

    def note(self, kind: str) -> None:
        """Add an event about the whole plan."""
        if self._trace is not None:
            self._trace.add(kind, {"pid": None})

    @contextmanager
    def because(self, planned: Planned, point: InjectionPoint) -> Iterator[None]:
        """Record a fault as the cause of everything that the `with` block does to processes."""
        recorder = point.target.recorder
        if recorder is None:
            yield
            return
        recorder.because, before = planned.event, recorder.because
        try:
            yield
        finally:
            recorder.because = before

    def _decide(self, planned: Planned, status: Status, why: str | None) -> None:
        planned.status, planned.why = status, why
        planned.seconds = self._now()
        self._decided()

    def _record(
        self, planned: Planned, point: InjectionPoint | str, fields: dict[str, Any]
    ) -> None:
        planned.where = str(point)
        if isinstance(point, InjectionPoint):
            planned.incarnation = point.incarnation
        planned.event = self._event("fault", planned, point, fields)

    def _event(
        self, kind: str, planned: Planned, point: InjectionPoint | str, fields: dict[str, Any]
    ) -> int | None:
        if self._trace is None:
            return None
        about: dict[str, Any] = {
            "path": str(point),
            "fault": describe_fault(planned.fault),
            "type": planned.fault.__struct_config__.tag,
            "status": planned.status,
            **fields,
        }
        if planned.why is not None:
            about["why"] = planned.why
        if isinstance(point, str):
            return self._trace.add(kind, {"pid": None, **about})
        place = point.target.places.was_at(point.pid)
        if place is not None:
            about |= {"path": place.path, "inc": place.incarnation}
        if point.target.recorder is None:
            return self._trace.add(kind, {"pid": point.pid.number, **about})
        # A fault of a message does not cause the next actions of the receiver.
        causes = kind == "fault" and not isinstance(planned.fault, MessageFault)
        return point.target.recorder.add(kind, point.pid, about, causes=causes)


class WaitingFaults:
    """The faults of a plan that wait for a callback of a process, or for a message to a process.

    Args:
        ledger: the ledger of the plan.

    Attributes:
        waiting: the faults that wait.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.waiting: list[Planned] = []
        self._ledger = ledger
        # For each process that was asked for, the faults that may apply to it. A new fault clears this cache.
        self._relevant: dict[Pid, tuple[Planned, ...]] = {}

    def add(self, planned: Planned) -> None:
        """Add a fault, which takes effect on a later callback or message."""
        self.waiting.append(planned)
        self._relevant.clear()

    def heal(self) -> None:
        """Drop all waiting faults, and end the delays of those that have begun."""
        self.waiting.clear()
        self._relevant.clear()

    def forget(self, pid: Pid) -> None:
        """Forget a process that has ended."""
        self._relevant.pop(pid, None)

    def _relevant_to(self, target: TargetRuntime, pid: Pid) -> tuple[Planned, ...]:
        relevant = self._relevant.get(pid)
        if relevant is None:
            place = target.places.place_of(pid)
            found = () if place is None else filter(partial(_targets, target, place), self.waiting)
            relevant = self._relevant[pid] = tuple(found)
        return relevant


def _targets(target: TargetRuntime, place: Place, planned: Planned) -> bool:
    """Return True if a fault may apply to the process at a place."""
    fault, when = planned.fault, planned.fault.when
    assert isinstance(fault, ProcessFault | MessageFault)  # no other fault waits
    if not fits(target.address(place), fault.target):
        return False
    planned.met = True
    return not isinstance(when, On) or when.incarnation in (None, place.incarnation)
