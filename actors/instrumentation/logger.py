"""Telemetry handlers that write the runtime's events to the log.

`open_runtime` attaches them by default. To replace them, pass `log=False` and attach handlers of your own to
`runtime.telemetry`. The constants below name the events.
"""

from __future__ import annotations

import logging
import reprlib
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from actors.instrumentation.telemetry import Event, Telemetry

__all__ = [
    "CLEANUP_FAILED",
    "CRASH",
    "MAILBOX_ALARM",
    "ZOMBIE",
    "attach",
    "bounded",
    "log_exception",
    "shown",
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

_log = logging.getLogger("actors")

_LONGEST = 2000
_LONGEST_TRACEBACK = 64 * 1024
# Bounds the repr of Python's own containers while Python makes it. The full repr of a huge container would take too
# long.
_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = _LONGEST
_brief.maxdict = _brief.maxlist = _brief.maxtuple = _brief.maxset = _brief.maxfrozenset = 50
_brief.maxlevel = 8


def attach(telemetry: Telemetry) -> Callable[[], None]:
    """Log crashes, failed clean-ups, zombies and full queues of a runtime.

    Returns a function that ends the logging. If the logger is not enabled for errors at this moment, `attach` does
    nothing, so a disabled log costs nothing.
    """
    handlers = (
        (CRASH, _crash),
        (CLEANUP_FAILED, _cleanup_failed),
        (ZOMBIE, _zombie),
        (MAILBOX_ALARM, _mailbox_alarm),
        (THREADS_FULL, _threads_full),
        (THREAD_CALL_FAILED, _thread_call_failed),
    )
    detaches = (
        [telemetry.attach(event, handler) for event, handler in handlers]
        if _log.isEnabledFor(logging.ERROR)
        else []
    )

    def detach() -> None:
        for each in detaches:
            each()

    return detach


def bounded(text: str) -> str:
    """Cut a text that is too long for one line of a log.

    >>> bounded("x" * 5_000_000)[-30:]
    'xxxxxx... (5000000 characters)'
    """
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


def log_exception(
    log: logging.Logger,
    message: str,
    *args: object,
    exception: BaseException,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Log an error with the traceback of an exception, at a bounded length.

    `exc_info` would write even a very long exception text in full. If the text has more than 2000 characters, this
    function puts the traceback into the message and cuts each line.
    """
    if not _is_long(exception):
        log.error(message, *args, exc_info=exception, extra=extra)
        return
    lines = "".join(traceback.format_exception(exception)).splitlines()
    text = "\n".join(map(bounded, lines))
    if len(text) > _LONGEST_TRACEBACK:
        half = _LONGEST_TRACEBACK // 2
        text = f"{text[:half]}\n... ({len(text)} characters)\n{text[-half:]}"
    log.error("%s\n%s", message % args, text, extra=extra)


def _is_long(exception: BaseException) -> bool:
    """Return True if an exception, or one of its causes or contexts, has a text that is too long."""
    waiting: list[BaseException | None] = [exception]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        try:
            size = len(str(each)) + sum(map(len, getattr(each, "__notes__", ())))
        except Exception:  # the exception's __str__ raised; the traceback shows that too
            size = 0
        if size > _LONGEST:
            return True
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
    return False


def _crash(event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
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
        metadata["process"],
        metadata["pid"],
        bounded(str(metadata["reason"])),
        context,
        exception=metadata["exception"],
        extra={"actor": dict(metadata), "measurements": dict(measurements)},
    )


def shown(value: object) -> str:
    """Return the repr of a value at a bounded length, because a message or a state may have any size."""
    return bounded(_brief.repr(value))


def _cleanup_failed(
    event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    log_exception(
        _log,
        "Process %s %r raised while it was ending with %s",
        metadata["process"],
        metadata["pid"],
        bounded(repr(metadata["reason"])),
        exception=metadata["exception"],
    )


def _zombie(event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    task = metadata["task"]
    frames = task.iter_await_frames() if task is not None else ()
    stack = "".join(traceback.format_list(traceback.StackSummary.extract(frames)))
    _log.error(
        "Process %s %r was killed (%s) and does not end; the runtime now treats it as dead. It is at:\n%s",
        metadata["process"],
        metadata["pid"],
        bounded(repr(metadata["reason"])),
        stack or "  no line: its task has not started\n",
    )


def _mailbox_alarm(
    event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    _log.warning(
        "%d messages wait for process %s %r: they arrive faster than it handles them",
        measurements["queue_length"],
        metadata["process"],
        metadata["pid"],
    )


def _threads_full(
    event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    _log.warning(
        "Other threads send more than the runtime takes: %d messages had to wait (limit %d), %d were refused",
        measurements["waited"],
        measurements["limit"],
        measurements["refused"],
    )


def _thread_call_failed(
    event: Event, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    function = metadata["function"]
    _log.error(
        "A function call from another thread failed in the runtime's thread: %s(%s)",
        getattr(function, "__qualname__", None) or shown(function),
        ", ".join(map(shown, metadata["args"])),
        exc_info=metadata["exception"],
    )
