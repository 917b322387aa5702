"""What became of a planned fault. *pure*."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from supervision.chaos.faults.kinds import Fault, describe_fault
from supervision.errors import SupervisionError

__all__ = ["FaultReport", "InertPlan", "Status", "is_inert"]

Status: TypeAlias = Literal["applied", "not_applicable", "masked"]


class FaultReport(msgspec.Struct, frozen=True, kw_only=True):
    """One planned fault, and what became of it.

    Attributes:
        fault: as it was planned.
        status: "applied"; "not_applicable": its moment never came, or there was nothing to do it to; "masked": it was
            done, or was about to be, and something else had made it pointless.
        seconds: when it was applied or masked, after the beginning of the plan; None if it never was.
        where: to what: `/top/room:lobby#2`, a connection, a node.
        why: of any status but "applied".
        event: the number of its event in the trace, if there is a trace.
    """

    fault: Fault
    status: Status
    seconds: float | None = None
    where: str | None = None
    why: str | None = None
    event: int | None = None

    @property
    def text(self) -> str:
        """The fault, in words."""
        return describe_fault(self.fault)

    def __str__(self) -> str:
        when = "" if self.seconds is None else f" at {self.seconds:g} s"
        where = "" if self.where is None else f" to {self.where}"
        why = "" if self.why is None else f": {self.why}"
        return f"{self.text}: {self.status.replace('_', ' ')}{where}{when}{why}"


def is_inert(reports: tuple[FaultReport, ...]) -> bool:
    """Whether there was a plan, and nothing of it was applied."""
    return bool(reports) and all(report.status != "applied" for report in reports)


class InertPlan(SupervisionError):
    """A plan was to break something, and nothing of it was done: the run has shown nothing.

    Attributes:
        reports: for each fault why it was not.
    """

    def __init__(self, reports: tuple[FaultReport, ...]) -> None:
        super().__init__(reports)
        self.reports = reports

    def __str__(self) -> str:
        lines = [f"none of the {len(self.reports)} planned faults was applied:"]
        lines += [f"  {report.text}: {report.why}" for report in self.reports]
        lines.append("aim at processes that are there, and at moments that come; or plan no faults")
        return "\n".join(lines)
