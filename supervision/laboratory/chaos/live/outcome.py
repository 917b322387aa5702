"""The outcome of an experiment on a live system."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from attrs import field, frozen

from supervision.laboratory.chaos.errors import ChaosFailed
from supervision.laboratory.chaos.faults.kinds import Fault
from supervision.laboratory.chaos.faults.report import FaultReport
from supervision.recording.reader.history import read_history
from supervision.recording.reader.measures import Measures, measure
from supervision.recording.reader.page import write_page

__all__ = ["LiveOutcome"]

FORMAT = 1


@frozen(kw_only=True, slots=False)
class LiveOutcome:
    """The outcome of an experiment.

    Attributes:
        scenario: the scenario, as `module:function`.
        seed: the seed of the run.
        params: the parameters of the scenario.
        seconds: the duration of the run in seconds.
        faults: the plan. Its times count from the start of the phase with the faults.
        fault_reports: the report of each fault. Their times count from the start of the run.
        sometimes: for each name that the scenario passed to `sometimes`, True if the condition was ever true.
        problems: one sentence for each problem; empty if the run went well.
        error: the exception that the scenario raised, or None.
        overloaded: True if the event loop or the machine exceeded its limits. The figures then say nothing about
            recovery.
        interrupted: True if Ctrl-C or `stop` ended the run early.
        result: the value that the scenario returned, or None.
        trace: the events, one JSON object per line.
    """

    scenario: str
    seed: int
    params: dict[str, Any]
    seconds: float
    faults: tuple[Fault, ...]
    fault_reports: tuple[FaultReport, ...]
    sometimes: dict[str, bool]
    problems: tuple[str, ...]
    error: BaseException | None
    overloaded: bool
    interrupted: bool
    result: object
    trace: list[bytes] = field(repr=False)

    @property
    def failed(self) -> bool:
        """True if there are problems, such as a steady state that did not come back, or an overload."""
        return bool(self.problems)

    @property
    def verdict(self) -> str:
        """The result of the run: "error", "overloaded", "failed" or "held", the first that applies.

        "error" is an exception of the scenario, and "overloaded" a run that says nothing about recovery.
        """
        if self.error is not None:
            return "error"
        if self.overloaded:
            return "overloaded"
        return "failed" if self.failed else "held"

    @cached_property
    def measures(self) -> Measures:
        """The figures of the run, computed from its trace."""
        return measure(read_history(self.trace))

    def check(self) -> LiveOutcome:
        """Return this outcome if the run went well.

        Raises:
            ChaosFailed: there are problems. If the scenario raised an exception, this is the `__cause__` of the error.
        """
        if self.failed:
            raise ChaosFailed(self.scenario, self.seed, self.problems) from self.error
        return self

    def to_json(self) -> bytes:
        """Return the report as a JSON object. docs/reference/chaos.md describes its fields."""
        report = {
            "format": FORMAT,
            "scenario": self.scenario,
            "seed": self.seed,
            "params": self.params,
            "verdict": self.verdict,
            "interrupted": self.interrupted,
            "problems": list(self.problems),
            "sometimes": self.sometimes,
            "plan": list(self.faults),
            "measures": self.measures,
        }
        return msgspec.json.format(msgspec.json.encode(report, enc_hook=str), indent=2)

    def write_page(self, path: Path | str) -> None:
        """Write the HTML page with the timeline.

        Args:
            path: the file. The page replaces an existing file.

        Raises:
            OSError: the file cannot be written.
        """
        early = ", ended early" if self.interrupted else ""
        subtitle = f"seed {self.seed}, {self.seconds:.1f} s on a live system{early}"
        write_page(self.trace, path, title=self.scenario, subtitle=subtitle)
