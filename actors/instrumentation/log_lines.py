"""Log lines for telemetry events: a table of lines, and the one handler that writes them.

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
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import msgspec
import trio

from actors.errors import InvalidReturn
from actors.instrumentation.telemetry import Event, Telemetry
from actors.text import bounded, brief, log_exception, printable

__all__ = ["Facts", "Line", "attach_lines"]

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
