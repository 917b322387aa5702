"""The report of a planned fault. *pure*."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from actors.declared import declared
from supervision.errors import SupervisionError
from supervision.laboratory.chaos.faults.kinds import Fault, describe_fault

__all__ = ["FaultReport", "InertPlan", "Status", "is_inert"]

Status: TypeAlias = Literal["applied", "not_applicable", "masked"]


class FaultReport(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one planned fault.

    Attributes:
        fault: the fault.
        status: "applied"; "not_applicable" if the moment never came or the target did not exist; "masked" if something
            else already caused or prevented the effect.
        seconds: the time at which the fault was applied or masked, in seconds after the start of the plan, or of
            a live run; None otherwise.
        where: the process, connection or node, such as `/top/room:lobby#2`.
        incarnation: the number of the process's incarnation; None for other targets, or if the place is unknown.
        why: the reason for any status but "applied".
        event: the number of the trace event that records the fault; None without a trace.
    """

    fault: Fault
    status: Status
    seconds: float | None = None
    where: str | None = None
    incarnation: int | None = None
    why: str | None = None
    event: int | None = None

    @property
    def target(self) -> str | None:
        """The target in the form in which plans name it: a path without the incarnation, a connection or a node."""
        if self.where is None or self.incarnation is None:
            return self.where
        return self.where.removesuffix(f"#{self.incarnation}")

    @property
    def text(self) -> str:
        """The fault in words."""
        return describe_fault(self.fault)

    def __str__(self) -> str:
        when = "" if self.seconds is None else f" at {self.seconds:g} s"
        where = "" if self.where is None else f" to {self.where}"
        why = "" if self.why is None else f": {self.why}"
        return f"{self.text}: {self.status.replace('_', ' ')}{where}{when}{why}"


def is_inert(reports: tuple[FaultReport, ...]) -> bool:
    """Return True if a plan had faults and none of them was applied."""
    return bool(reports) and all(report.status != "applied" for report in reports)


@declared()
class InertPlan(SupervisionError):
    """No fault of a plan was applied, so the run tested nothing.

    Attributes:
        reports: the report of each fault, with the reason.
    """

    reports: tuple[FaultReport, ...]

    def __str__(self) -> str:
        lines = [f"none of the {len(self.reports)} planned faults was applied:"]
        lines += [f"  {report.text}: {report.why}" for report in self.reports]
        lines.append("choose targets that exist and moments that happen, or run without a plan")
        return "\n".join(lines)
