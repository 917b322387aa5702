"""The load of the machine while a live run applies its faults.

A process that uses little processor time runs well even on a busy machine, so the lag of its event loop shows nothing.
This module asks the operating system instead. Linux counts for each thread how long it has waited for a processor.
Other systems have only the load average, and Windows has neither.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from threading import get_native_id

from supervision.laboratory.chaos.live.service import ServiceLimits
from supervision.recording.reader.service import MachineMeasures, measure_machine
from supervision.recording.trace import Trace

__all__ = ["MachineProbe", "load_per_core", "run_queue_wait"]

TASKS = Path("/proc/self/task")
"""The folder with one folder for each thread of this process."""


def run_queue_wait(thread: int, tasks: Path | None = None) -> float | None:
    """Return the seconds for which a thread has been ready to run, and waited for a processor.

        run_queue_wait(threading.get_native_id())

    Args:
        thread: the native id of the thread.
        tasks: the folder with the threads; None for `/proc/self/task`.

    Returns:
        None if the system does not count this time. The source is the second number of `schedstat`.
    """
    try:
        text = ((TASKS if tasks is None else tasks) / str(thread) / "schedstat").read_text()
        ran, waited, _ = map(int, text.split())
    except (OSError, ValueError):  # no such file, or another format
        return None
    # A kernel that does not count writes zeros. A thread that asks has run.
    return waited / 1e9 if ran else None


def load_per_core() -> float | None:
    """Return the load average of the last minute per core; None if the system has none."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (OSError, AttributeError):  # Windows has no such function
        return None


class MachineProbe:
    """Measures the load of the machine from `begin` to `end`, which the thread of the run must call.

    Args:
        trace: the trace of the run. `end` adds an event of the kind `machine`.
        now: returns the seconds since the start of the run.
        limits: the limits of the run.

    Attributes:
        measures: the figures; None before `end`.
    """

    def __init__(self, trace: Trace, now: Callable[[], float], limits: ServiceLimits) -> None:
        self.measures: MachineMeasures | None = None
        self._trace = trace
        self._now = now
        self._limits = limits
        self._began: float | None = None
        self._waited: float | None = None

    def begin(self) -> None:
        """Start to measure, or start again."""
        self._began = self._now()
        self._waited = run_queue_wait(get_native_id())

    def end(self) -> None:
        """Compute the figures. Do nothing before `begin`, and nothing the second time."""
        if self._began is None or self.measures is not None:
            return
        before, after = self._waited, run_queue_wait(get_native_id())
        seconds = round(self._now() - self._began, 6)
        waited = None if before is None or after is None else round(after - before, 6)
        load = load_per_core()
        share, most = self._limits.max_wait_share, self._limits.max_load
        # JSON has no infinity, so None stands for it in the trace and in the report.
        allowed = most if math.isfinite(most) else None
        figures = {"seconds": seconds, "waited": waited, "load": load}
        limits = {"max_wait_share": share, "max_load": allowed}
        self._trace.add("machine", {"pid": None, **figures, **limits})
        self.measures = measure_machine(
            seconds, waited, load, max_wait_share=share, max_load=allowed
        )
