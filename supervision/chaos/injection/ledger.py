"""What has become of each planned fault so far, and the events that tell of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from supervision.chaos.faults.kinds import Fault, describe_fault
from supervision.chaos.faults.moments import At
from supervision.chaos.faults.report import FaultReport, Status
from supervision.chaos.faults.targets import MessageFault
from supervision.recording.trace import Trace

if TYPE_CHECKING:
    from supervision.chaos.injection.site import Spot

__all__ = ["Ledger", "Planned"]


class Planned:
    """One fault of a plan, while the plan is carried out.

    Attributes:
        fault: as it was planned.
        count: how often its moment has nearly come: callbacks or messages that count, of which the nth is wanted.
        waits: whether its time has come, and it now waits for a callback or a message.
        taken: whether it has found its callback, which another fault may hold up before it is done.
        status, seconds, where, why, event: as in `FaultReport`; a status of None is still to be decided.
    """

    __slots__ = ("count", "event", "fault", "seconds", "status", "taken", "waits", "where", "why")

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.count = 0
        self.waits = False
        self.taken = False
        self.status: Status | None = None
        self.seconds: float | None = None
        self.where: str | None = None
        self.why: str | None = None
        self.event: int | None = None

    def report(self, why: str | None) -> FaultReport:
        """What is known now; `why` is said of a fault that is still to be decided."""
        undecided = self.status is None
        return FaultReport(
            fault=self.fault,
            status=self.status or "not_applicable",
            seconds=self.seconds,
            where=self.where,
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
            return f"no such {what} after that time"
        if self.count:
            return f"its moment never came: it takes {when.nth}, and there were {self.count}"
        return "its moment never came"


class Ledger:
    """The faults of a plan, and their events.

    Args:
        trace: where events go; None if there is none.
        now: seconds since the beginning of the plan.
    """

    def __init__(self, trace: Trace | None, now: Callable[[], float]) -> None:
        self.planned: list[Planned] = []
        self._trace = trace
        self._now = now

    def applied(
        self, planned: Planned, spot: Spot | str, *, where: str | None = None, **fields: Any
    ) -> None:
        """A fault is being done to something; what that does from here on has its event as its cause.

        Args:
            planned: the fault.
            spot: the process that it is done to, or whatever else.
            where: what the report says it was done to, if that is not the process.
            fields: for its event.
        """
        self._decide(planned, "applied", None)
        self._tell(planned, spot, fields)
        planned.where = where or planned.where

    def masked(self, planned: Planned, spot: Spot | str, why: str) -> None:
        """A fault was to be done, or has been, and was pointless."""
        if planned.status is None:
            self._decide(planned, "masked", why)
            self._tell(planned, spot, {})
        else:
            planned.status, planned.why = "masked", why
            self._event("fault_over", planned, spot, {"fault_event": planned.event})

    def missed(self, planned: Planned, why: str) -> None:
        """There is nothing to do a fault to."""
        planned.status, planned.why = "not_applicable", why

    def failed(self, planned: Planned, why: str) -> None:
        """A fault could not be done, whether or not it has been told of already."""
        if planned.status is None:
            self.missed(planned, why)
        else:
            self.masked(planned, planned.where or "", why)

    def decide(self, why: str) -> None:
        """The faults whose moment has not come are not applicable any more: that is over, or `why`."""
        for planned in self.planned:
            if planned.status is None:
                self.missed(planned, planned.report(why).why or why)

    def tell_what_was_not(self) -> None:
        """Add the events of the faults that were not applicable."""
        for planned in self.planned:
            if planned.status == "not_applicable" and planned.event is None:
                where = getattr(planned.fault, "target", "")
                planned.event = self._event("fault", planned, where, {})

    def note(self, kind: str) -> None:
        """Add an event about the whole plan."""
        if self._trace is not None:
            self._trace.add(kind, {"pid": None})

    @contextmanager
    def because(self, planned: Planned, spot: Spot) -> Iterator[None]:
        """What is done to processes in this block is done because of a fault."""
        recorder = spot.site.recorder
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

    def _tell(self, planned: Planned, spot: Spot | str, fields: dict[str, Any]) -> None:
        planned.where = str(spot)
        planned.event = self._event("fault", planned, spot, fields)

    def _event(
        self, kind: str, planned: Planned, spot: Spot | str, fields: dict[str, Any]
    ) -> int | None:
        if self._trace is None:
            return None
        pid = None if isinstance(spot, str) else spot.pid
        place = None if isinstance(spot, str) else spot.site.places.was_at(spot.pid)
        about: dict[str, Any] = {"path": str(spot)}
        if place is not None:
            about = {"path": place.path, "inc": place.incarnation}
        about |= {
            "fault": describe_fault(planned.fault),
            "type": planned.fault.__struct_config__.tag,
            "status": planned.status,
            **fields,
        }
        if planned.why is not None:
            about["why"] = planned.why
        if not isinstance(spot, str) and spot.site.recorder is not None:
            # What is done to a message is not done to its receiver.
            causes = kind == "fault" and not isinstance(planned.fault, MessageFault)
            return spot.site.recorder.add(kind, spot.pid, about, causes=causes)
        return self._trace.add(kind, {"pid": None if pid is None else pid.number, **about})
