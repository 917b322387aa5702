"""What can be wrong with a plan of faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervision.errors import SupervisionError

if TYPE_CHECKING:
    from supervision.chaos.report import FaultReport

__all__ = ["BadFault", "InertPlan", "InjectedCrash"]


class BadFault(SupervisionError, ValueError):
    """A fault, a moment or a plan cannot be, as it is written.

    Attributes:
        kind: the class that was to be made: `Slow`.
        field: which part of it is wrong.
        value: what was written.
        advice: what to write instead.
    """

    def __init__(self, kind: str, field: str, value: object, advice: str) -> None:
        super().__init__(kind, field, value, advice)
        self.kind = kind
        self.field = field
        self.value = value
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.kind}({self.field}={self.value!r}) cannot be; {self.advice}"


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


class InjectedCrash(Exception):
    """A callback was made to crash, by a fault and not by a mistake of the program.

    Attributes:
        fault: the fault, in words.
    """

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault
