"""Telemetry handlers that write the runtime's events to the log.

`open_runtime` attaches them by default. To replace them, pass `log=False` and attach handlers of your own to
`runtime.telemetry`. The constants below name the events.

The lines of an event stand in a table, here and in the other packages, and one handler writes them:

    _LINES = (
        Line(GAVE_UP, logging.ERROR, "Supervisor %(supervisor)r gave up: %(reason)s", fields=_reason),
    )

    detach = attach_lines(telemetry, logging.getLogger("supervision"), _LINES)

The placeholders of a line name measurements and metadata of its event, and fields that the function of the line adds.
The record has these values as named arguments, so a formatter such as `JsonFormatter` can show each as a field.
"""

from __future__ import annotations

import logging
import math
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from logging import ERROR, WARNING
from typing import Any, TypeAlias

import msgspec
import trio

from actors.errors import InvalidReturn
from actors.instrumentation.telemetry import Event, Telemetry
from actors.text import bounded, brief, log_exception, printable, shown

__all__ = [
    "CLEANUP_FAILED",
    "CONNECTION_FAILED",
    "CRASH",
    "CRASHES_LEFT_OUT",
    "DEFAULT_MAX_CRASH_REPORTS",
    "MAILBOX_ALARM",
    "THREADS_LEFT",
    "TOO_MANY_CALLS",
    "ZOMBIE",
    "Facts",
    "Line",
    "attach",
    "attach_lines",
]

CRASH: Event = ("actors", "process", "crash")
"""A process died of an exception.

Metadata: pid, process, parent, ancestors, reason, exception; for a server also last_message and state."""

CLEANUP_FAILED: Event = ("actors", "process", "cleanup_failed")
"""Code that ran at the end of a process raised. Metadata as for a crash."""

ZOMBIE: Event = ("actors", "process", "zombie")
"""A process did not end within the kill grace, so the runtime declared it dead. Metadata as for a crash, and task."""

MAILBOX_ALARM: Event = ("actors", "mailbox", "alarm")
"""A mailbox has grown beyond `mailbox_alarm` messages, or has doubled since its last alarm.

Measurements: queue_length. Metadata: pid, process."""

THREADS_FULL: Event = ("actors", "threads", "full")
"""The queue for other threads was full, so a thread had to wait or was refused.

Measurements: limit; waited and refused, the numbers of calls since the last event of this kind."""

THREAD_CALL_FAILED: Event = ("actors", "threads", "failed")
"""A function call from another thread raised in the runtime's thread. Metadata: function, args, exception."""

TOO_MANY_CALLS: Event = ("actors", "thread_service", "refused")
"""An `AsyncioLoop` or a `BlockingPool` refused a call, because it had `max_calls` calls without a result.

Measurements: limit; refused, which is 1. Metadata: service, request, process."""

THREADS_LEFT: Event = ("actors", "thread_service", "left")
"""An `AsyncioLoop` or a `BlockingPool` was killed during its stop, because a function had not returned.

The thread goes on. Measurements: calls. Metadata: service, pid, requests."""

CONNECTION_FAILED: Event = ("actors", "thread_service", "failed")
"""The `close` or the `cancel` of a `BlockingPool` raised. Metadata: service; function, its name; exception."""

CRASHES_LEFT_OUT: Event = ("actors", "log", "crashes_left_out")
"""More processes crashed in one second than the log reports.

Measurements: crashes, the number of crashes without a report; limit, the number of reports per second."""

DEFAULT_MAX_CRASH_REPORTS = 50
"""The default maximum number of crash reports in the log per second."""

_log = logging.getLogger("actors")

# The log shows at most `limit` crash reports in this many seconds.
_WINDOW = 1.0


Facts: TypeAlias = Mapping[str, Any]
"""The measurements and the metadata of an event in one mapping."""

_PLACEHOLDER = re.compile(r"%\(([\w.]+)\)[^a-z]*([a-z])")
_REPR = re.compile(r"(%\([\w.]+\))r")


class Line(msgspec.Struct, frozen=True):
    """The log line of an event.

    A placeholder may name an attribute, as in `%(node.name)r`. The handler makes the text of `%(problem)s` printable
    and cuts it at 2000 characters; for a class, it takes the name. The text of `%(topic)r` is a `repr` of at most 120
    characters. Only the fields of `fields` go into the line as they are.

    Args:
        event: The event.
        level: The level of the line, or a function of the facts that returns it. None means no line.
        text: The line, with placeholders such as `%(pid)r`.
        fields: A function of the facts that returns further fields, or None for no line.
        when: A function of the facts. If it returns False, the handler ignores the event.
        with_exception: Log the traceback of the `exception` in the metadata.
        invalid_return: The line in place of `text` if the exception is an `InvalidReturn`. This line has no traceback,
            because the text of the exception names the callback and the correction.
        every: Write at most one line in this many seconds. The placeholder `%(events)d` is then the number of events
            since the last line, and `%(earlier)s` is the text `earlier`, or nothing if this number is 1.
        apart: The metadata whose values each have an `every` of their own.
        summed: The measurements that a line shows as sums over the events since the last line.
        earlier: The text about the events without a line.
    """

    event: Event
    level: int | Callable[[Facts], int | None]
    text: str
    fields: Callable[[Facts], Facts | None] | None = None
    when: Callable[[Facts], bool] | None = None
    with_exception: bool = False
    invalid_return: str | None = None
    every: float | None = None
    apart: str | None = None
    summed: tuple[str, ...] = ()
    earlier: str = " (%d more since the last line)"


def attach_lines(
    telemetry: Telemetry,
    log: logging.Logger,
    lines: Iterable[Line],
    *,
    only: tuple[str, object] | None = None,
) -> Callable[[], None]:
    """Write log lines for events, until the caller calls the returned function.

    Args:
        telemetry: The event handlers of the runtime.
        log: The logger.
        lines: The lines. An event may have several.
        only: A key of the metadata and its value. The handlers ignore the events of other objects.
    """
    detaches = [telemetry.attach(line.event, _Writer(log, line, only)) for line in lines]

    def detach() -> None:
        for each in detaches:
            each()

    return detach


class _Writer:
    """The handler that writes one line of a table."""

    def __init__(self, log: logging.Logger, line: Line, only: tuple[str, object] | None) -> None:
        self._log = log
        self._line = line
        self._only = only
        self._placeholders = _PLACEHOLDER.findall(line.text)
        # The values of these placeholders are texts already.
        self._text = _REPR.sub(r"\1s", line.text)
        # For each value of `apart`: the time of the next line, and the sums of the events without one.
        self._quiet: dict[object, tuple[float, dict[str, float]]] = {}

    def __call__(self, event: Event, measurements: Facts, metadata: Facts) -> None:
        if self._only is not None and metadata[self._only[0]] is not self._only[1]:
            return
        line = self._line
        facts: Facts = {**measurements, **metadata}
        if line.when is not None and not line.when(facts):
            return
        if line.every is not None:
            sums = self._due(line.every, facts)
            if sums is None:
                return
            facts = {**facts, **sums}
        level = line.level if isinstance(line.level, int) else line.level(facts)
        if level is None or not self._log.isEnabledFor(level):
            return
        added = {} if line.fields is None else line.fields(facts)
        if added is not None:
            self._write(level, facts, added)

    def _due(self, every: float, facts: Facts) -> Facts | None:
        """Return the sums since the last line; None if it is too early for a line."""
        key = None if self._line.apart is None else facts[self._line.apart]
        due, sums = self._quiet.get(key, (-math.inf, {}))
        for name in self._line.summed:
            sums[name] = sums.get(name, 0) + facts[name]
        events = sums["events"] = sums.get("events", 0) + 1
        now = trio.current_time()
        if now < due:
            self._quiet[key] = due, sums
            return None
        self._quiet[key] = now + every, {}
        earlier = self._line.earlier % (events - 1) if events > 1 else ""
        return {**sums, "earlier": earlier}

    def _write(self, level: int, facts: Facts, added: Facts) -> None:
        line, text, placeholders = self._line, self._text, self._placeholders
        error: Any = facts.get("exception")
        is_explained = line.invalid_return is not None and isinstance(error, InvalidReturn)
        if is_explained:
            text = str(line.invalid_return)
            placeholders = _PLACEHOLDER.findall(text)
            added = {**added, "exception": printable(str(error), lines=True)}
        values = {
            name: added[name] if name in added else _shown(facts, name, conversion)
            for name, conversion in placeholders
        }
        if line.with_exception and not is_explained:
            log_exception(self._log, text, values, exception=error, level=level)
        else:
            self._log.log(level, text, values)


def _shown(facts: Facts, name: str, conversion: str) -> Any:
    first, *attributes = name.split(".")
    value = facts[first]
    for attribute in attributes:
        value = getattr(value, attribute)
    if conversion == "r":
        return printable(brief(value))
    if conversion == "s":
        return value.__name__ if isinstance(value, type) else printable(bounded(str(value)))
    return value


class CrashLog:
    """An event handler that logs crashes, with at most `limit` reports per second.

    A report contains a traceback and the state of the process. Writing it takes several times as long as the crash and
    the restart. At the limit, the handler detaches itself from the event until the second is over. Then it logs the
    number of crashes that it has missed. So a missed crash costs nothing. Other handlers of the event get every crash.

    Source: the burst limit of OTP's `logger_std_h`.

    Args:
        telemetry: The event handlers of the runtime.
        at: A function that takes a time on Trio's clock and a function, and calls this function at that time.
        emitted: A function that returns how often the runtime has emitted `CRASH`, with or without handlers. The count
            includes servers that stopped with an abnormal reason.
        limit: The maximum number of reports per second.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        *,
        at: Callable[[float, Callable[[], None]], object],
        emitted: Callable[[], int],
        limit: float,
    ) -> None:
        self._telemetry = telemetry
        self._at = at
        self._emitted = emitted
        self._limit = limit
        self._left = limit
        self._ends = -math.inf
        self._seen: int | None = None
        self._detach = telemetry.attach(CRASH, self._report)

    def _report(self, event: Event, measurements: Facts, metadata: Facts) -> None:
        now = trio.current_time()
        if now >= self._ends:
            self._ends = now + _WINDOW
            self._left = self._limit
        self._left -= 1
        _crash(event, measurements, metadata)
        if self._left <= 0:
            self._detach()
            self._seen = self._emitted()
            self._at(self._ends, self._resume)

    def _resume(self) -> None:
        if self._seen is not None:
            self._summarize(self._seen)
            self._seen = None
            self._detach = self._telemetry.attach(CRASH, self._report)

    def _summarize(self, seen: int) -> None:
        missed = self._emitted() - seen
        if missed:
            _log.error(
                "%d more processes crashed, and the log leaves out their reports: it shows at most %d reports "
                "in a second (open_runtime(max_crash_reports=))",
                missed,
                self._limit,
            )
            about = {"crashes": missed, "limit": self._limit}
            self._telemetry.execute(CRASHES_LEFT_OUT, about, {})

    def close(self) -> None:
        """Log the number of missed crashes if there are any, and stop logging."""
        if self._seen is None:
            self._detach()
        else:
            self._summarize(self._seen)
            self._seen = None


def attach(
    telemetry: Telemetry, crash_log: Callable[[], CrashLog] | None = None
) -> Callable[[], None]:
    """Log crashes, failed clean-ups, zombies and full queues of a runtime.

    If the logger `actors` is disabled for errors when you call `attach`, `attach` does nothing. So a disabled log costs
    nothing.

    Args:
        telemetry: The event handlers of the runtime.
        crash_log: A function that makes the `CrashLog`. With None, the log has a report of every crash.

    Returns:
        A function that ends the logging.
    """
    if not _log.isEnabledFor(ERROR):
        return _nothing
    detach_lines = attach_lines(telemetry, _log, _LINES)
    end_crashes = telemetry.attach(CRASH, _crash) if crash_log is None else crash_log().close

    def detach() -> None:
        detach_lines()
        end_crashes()

    return detach


def _nothing() -> None:
    pass


def _crash(event: Event, measurements: Facts, metadata: Facts) -> None:
    # Not a line of the table, because the record of a crash also has the whole metadata, for JSON logs.
    context = "".join(
        f"\n  {title}: {shown(metadata[key])}"
        for key, title in (
            ("last_message", "last message"),
            ("state", "state"),
            ("stopping", "it was stopping with"),
        )
        if key in metadata and metadata[key] != metadata["reason"]
    )
    log_exception(
        _log,
        "Process %s %r crashed: %s%s",
        printable(metadata["process"]),
        metadata["pid"],
        printable(bounded(str(metadata["reason"]))),
        context,
        exception=metadata["exception"],
        extra={"actor": dict(metadata), "measurements": dict(measurements)},
    )


def _reason(facts: Facts) -> Facts:
    return {"reason": printable(bounded(repr(facts["reason"])))}


def _reason_and_stack(facts: Facts) -> Facts:
    task = facts["task"]
    frames = task.iter_await_frames() if task is not None else ()
    stack = "".join(traceback.format_list(traceback.StackSummary.extract(frames)))
    return {**_reason(facts), "stack": stack or "  no line: its task has not started\n"}


def _call(facts: Facts) -> Facts:
    function = facts["function"]
    name = getattr(function, "__qualname__", None) or shown(function)
    return {"function": name, "args": ", ".join(map(shown, facts["args"]))}


def _requests(facts: Facts) -> Facts:
    return {"requests": printable(bounded(", ".join(facts["requests"])))}


_LINES = (
    Line(
        CLEANUP_FAILED,
        ERROR,
        "Process %(process)s %(pid)r raised while it was ending with %(reason)s",
        fields=_reason,
        with_exception=True,
    ),
    Line(
        ZOMBIE,
        ERROR,
        (
            "Process %(process)s %(pid)r was killed (%(reason)s) and does not end; the runtime now treats it as dead. "
            "It is at:\n%(stack)s"
        ),
        fields=_reason_and_stack,
    ),
    Line(
        MAILBOX_ALARM,
        WARNING,
        (
            "%(queue_length)d messages wait for process %(process)s %(pid)r: they arrive faster than it handles them"
        ),
    ),
    Line(
        THREADS_FULL,
        WARNING,
        (
            "Other threads send more than the runtime takes: %(waited)d messages had to wait (limit %(limit)d), "
            "%(refused)d were refused"
        ),
    ),
    Line(
        THREAD_CALL_FAILED,
        ERROR,
        "A function call from another thread failed in the runtime's thread: %(function)s(%(args)s)",
        fields=_call,
        with_exception=True,
    ),
    Line(
        TOO_MANY_CALLS,
        WARNING,
        "%(service)s refused %(request)s of %(process)s, because %(limit)d calls have no result yet%(earlier)s",
        every=1,
        apart="service",
    ),
    Line(
        THREADS_LEFT,
        ERROR,
        (
            "%(service)s %(pid)r was killed before its thread had ended. These calls still keep the thread busy: "
            "%(requests)s"
        ),
        fields=_requests,
    ),
    Line(
        CONNECTION_FAILED,
        WARNING,
        "The function %(function)s= of %(service)s raised",
        with_exception=True,
    ),
)
