"""The lag of the event loop and the load of the machine during a live run, and the limits for these and for answers.

If the event loop or the machine exceeds its limits, the run is overloaded. The figures of such a run say nothing about
recovery.

A process that uses little processor time runs well even on a busy machine, so the lag of its event loop shows nothing.
So this module asks the operating system too. Linux counts for each thread how long it has waited for a processor. Other
systems have only the load average, and Windows has neither.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from threading import get_native_id

import trio
from attrs import Attribute, field, frozen

from actors.arguments import check_number
from supervision.recording.reader.service import (
    LoopMeasures,
    MachineMeasures,
    RequestMeasures,
    measure_machine,
)
from supervision.recording.trace import Trace

__all__ = [
    "LoopProbe",
    "MachineProbe",
    "ServiceLimits",
    "load_per_core",
    "loop_problem",
    "machine_problem",
    "request_problem",
    "run_queue_wait",
]

TASKS = Path("/proc/self/task")
"""The folder with one folder for each thread of this process."""

_TOLERANCE = 1e-6


def _check_seconds(limits: ServiceLimits, attribute: Attribute[float], value: float) -> None:
    check_number("ServiceLimits", attribute.name, value, "seconds, more than 0", above=0)


def _check_load(limits: ServiceLimits, attribute: Attribute[float], value: float) -> None:
    check_number("ServiceLimits", attribute.name, value, "a load per core, more than 0", above=0)


def _check_share(limits: ServiceLimits, attribute: Attribute[float], value: float) -> None:
    expected = "a share from 0.0 to 1.0"
    check_number("ServiceLimits", attribute.name, value, expected, least=0, most=1)


@frozen(kw_only=True)
class ServiceLimits:
    """The limits for the event loop, for the machine and for the answers to clients.

        await live(scenario, 7, seconds=60, limits=ServiceLimits(answer_within=0.25))

    Args:
        late_after: seconds. The event loop is late while its lag is longer.
        max_late_share: the share of the time during which the loop may be late. Above this share, the run is
            overloaded. 1.0 allows any lag.
        max_wait_share: the share of the time with faults for which the thread of the run may wait for a processor.
            Above this share, the run is overloaded. 1.0 allows any wait.
        max_load: the load average of the machine per core, at the end of the faults. Above it, the run is overloaded.
            `math.inf` allows any load.
        answer_within: the time limit in seconds for an answer to a client, unless the request has its own limit.
        min_in_time: the share of requests, and of clients, that must get their answers in time. 0.0 demands nothing.

    Raises:
        ValueError: a time or a load is not more than 0, or a share is not between 0 and 1.
    """

    late_after: float = field(default=0.05, validator=_check_seconds)
    max_late_share: float = field(default=0.1, validator=_check_share)
    max_wait_share: float = field(default=0.2, validator=_check_share)
    max_load: float = field(default=2.0, validator=_check_load)
    answer_within: float = field(default=1.0, validator=_check_seconds)
    min_in_time: float = field(default=0.5, validator=_check_share)


class LoopProbe:
    """A task that plans to wake at regular due times, and records how late it wakes.

    Args:
        trace: the trace of the run. The probe adds about one event of the kind `loop_lag` each second.
        now: returns the seconds since the start of the run.
        limits: the limits. Each `loop_lag` event contains them.
        every: the seconds between two due times.

    After a stall, the probe records a lag for every due time during the stall. Otherwise a stall of ten seconds would
    count as one late wake-up among hundreds.
    """

    def __init__(
        self,
        trace: Trace,
        now: Callable[[], float],
        limits: ServiceLimits,
        *,
        every: float = 0.05,
    ) -> None:
        self.lags: list[tuple[float, float]] = []
        self._trace = trace
        self._now = now
        self._limits = limits
        self._every = every
        self._reported = 0
        self._due = now() + every
        self._planned: list[tuple[float, float]] = []

    async def watch(self) -> None:
        """Run until cancelled."""
        while True:
            await trio.sleep(max(0.0, self._due - self._now()))
            self.woken()

    def woken(self) -> None:
        """Record the lag at each due time that has passed."""
        now = self._now()
        # Sums of floats are not exact. Without the tolerance, the probe could wake slightly before a due time, again
        # and again.
        while self._due <= now + _TOLERANCE:
            if not any(begin <= self._due <= end for begin, end in self._planned):
                self.lags.append((round(self._due, 6), round(max(0.0, now - self._due), 6)))
            self._due += self._every
        self._planned.clear()
        if (len(self.lags) - self._reported) * self._every >= 1.0:
            self.report()

    def excuse(self, begin: float, end: float) -> None:
        """Leave out the due times from `begin` to `end`, because a planned fault stalled the loop."""
        self._planned.append((begin, end))

    def report(self) -> None:
        """Add the lags since the last report to the trace."""
        lags = self.lags[self._reported :]
        self._reported = len(self.lags)
        if lags:
            limits = {
                "late_after": self._limits.late_after,
                "max_late_share": self._limits.max_late_share,
            }
            self._trace.add("loop_lag", {"pid": None, **limits, "lags": lags})

    def lags_since(self, seconds: float) -> list[float]:
        """Return the lags of the due times at or after `seconds`."""
        return [lag for due, lag in self.lags if due >= seconds]


def loop_problem(loop: LoopMeasures) -> str | None:
    """Return the problem of an overloaded run; None if the event loop kept its limit."""
    if not loop.overloaded:
        return None
    return (
        f"overloaded: for {loop.late_share:.0%} of the time the event loop was more than {loop.late_after:g} s late, "
        f"and at most {loop.max_late_share:.0%} is allowed (p99 {loop.p99:.3g} s, longest {loop.longest:.3g} s). "
        "The machine or the program was too busy, so the figures do not speak about recovery; free the machine, or "
        "run fewer clients"
    )


def machine_problem(machine: MachineMeasures) -> str | None:
    """Return the problem of a run on an overloaded machine; None if the machine kept its limits."""
    if not machine.overloaded:
        return None
    reasons = []
    if machine.wait_share is not None and machine.wait_share > machine.max_wait_share:
        reasons.append(
            f"for {machine.wait_share:.0%} of the time the run waited for a processor, and at most "
            f"{machine.max_wait_share:.0%} is allowed"
        )
    load, most = machine.load, machine.max_load
    if load is not None and most is not None and load > most:
        reasons.append(f"the load average was {load:.3g} per core, and at most {most:g} is allowed")
    return (
        f"overloaded: {'; '.join(reasons)}. Other programs kept the machine busy, so the figures do not speak about "
        "recovery; free the machine, or use a larger one"
    )


def request_problem(requests: RequestMeasures, limits: ServiceLimits) -> str | None:
    """Return the problem if too few requests of one name, or too few of its clients, got their answers in time.

    Return None if enough of them did.
    """
    if min(requests.share_in_time, requests.share_of_clients) >= limits.min_in_time:
        return None
    silent = (
        f"; {requests.silent} clients made no request during the faults" if requests.silent else ""
    )
    return (
        f"too few answers in time to {requests.name!r}: {requests.in_time} of {requests.count} requests, and "
        f"{requests.clients_in_time} of {requests.clients} clients for at least half of their requests; at least "
        f"{limits.min_in_time:.0%} is required ({requests.late} late, {requests.unanswered} not answered{silent})"
    )


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
