"""A formatter that writes each log record as one line of JSON, with the facts of a crash as fields.

`ashtree serve --log-format json` uses it. In your own program:

    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(service="chat"))
    logging.basicConfig(level="INFO", handlers=[handler])

A line has the fields `time` (RFC 3339, UTC), `level`, `logger` and `message`, and the fields that you give. The
following fields appear if the record has them:

    exception   type, message and traceback
    crash       pid, process, parent, ancestors, reason, queue_length; for a server also last_message and state
    fields      the values of the record: of `extra`, and of a message with named placeholders

The state and the message of a crash are the same as in the text log: a channel masks `filter_parameters` in them.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import logging
import math
import traceback
from collections.abc import Mapping
from typing import Any, Final, TextIO

from actors.text import bounded, shown

__all__ = ["JsonErrors", "JsonFormatter", "line_of"]

_LOGGER: Final = "ashtree"

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CRASH: Final = ("pid", "process", "parent", "reason", "last_message", "state", "stopping")
# The most bytes of a traceback. For a longer traceback, the line has its beginning and its end.
_LONGEST_TRACEBACK = 64 * 1024


class JsonFormatter(logging.Formatter):
    """Format records as JSON lines.

        JsonFormatter(service="chat", region="eu")

    Args:
        fields: further fields of every line. Their values must be JSON values.
    """

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, without a line break."""
        time = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._fields,
        }
        exception = record.exc_info[1] if record.exc_info else None
        actor = getattr(record, "actor", None)
        if isinstance(actor, Mapping):
            line["crash"] = _crash(record, actor)
            exception = exception or actor.get("exception")
        if exception is not None:
            line["exception"] = _exception(exception)
        fields = _named(record)
        if fields:
            line["fields"] = fields
        # Use only ASCII: no text of a client can then break a line, and half a surrogate pair has a form.
        return json.dumps(line, default=shown)


def line_of(message: str, level: int, formatter: JsonFormatter | None = None) -> str:
    """Return a message of the command itself as a line of the log."""
    record = logging.LogRecord(_LOGGER, level, "", 0, message.rstrip("\n"), None, None)
    return (formatter or JsonFormatter()).format(record)


class JsonErrors(io.TextIOBase):
    """Standard error of a program that logs JSON. Each text becomes a log line of the level `error`.

    The log itself writes to the stream below.

    Args:
        stream: the stream for the lines.
        formatter: the formatter of the log.
    """

    def __init__(self, stream: TextIO, formatter: JsonFormatter) -> None:
        super().__init__()
        self._stream = stream
        self._formatter = formatter
        # The beginning of a line whose end has not been written, as Python writes the traceback of a thread.
        self._begun = ""

    def write(self, text: str) -> int:
        """Write a line of the log for a text that ends with a line break. Keep another text until its line ends."""
        whole, end, rest = f"{self._begun}{text}".rpartition("\n")
        self._begun = rest
        if end and whole.strip():
            self._stream.write(f"{line_of(whole, logging.ERROR, self._formatter)}\n")
        return len(text)

    def flush(self) -> None:
        """Write the beginning of a line, too, and flush the stream below."""
        if self._begun:
            self.write("\n")
        self._stream.flush()

    def fileno(self) -> int:
        """Return the descriptor of the stream below."""
        return self._stream.fileno()


def _crash(record: logging.LogRecord, actor: Mapping[str, Any]) -> dict[str, Any]:
    crash: dict[str, Any] = {name: _plain(actor[name]) for name in _CRASH if name in actor}
    if actor.get("stopping") == actor.get("reason"):
        crash.pop("stopping", None)
    # Use the text, not the repr, which only Python programmers can read.
    crash["reason"] = bounded(str(actor.get("reason")))
    crash["ancestors"] = [repr(each) for each in actor.get("ancestors", ())]
    measurements = getattr(record, "measurements", None)
    if isinstance(measurements, Mapping):
        crash.update({name: _plain(value) for name, value in measurements.items()})
    return crash


def _exception(exception: BaseException) -> dict[str, Any]:
    text = "".join(traceback.format_exception(exception))
    if len(text) > _LONGEST_TRACEBACK:
        half = _LONGEST_TRACEBACK // 2
        text = f"{text[:half]}\n... ({len(text)} characters)\n{text[-half:]}"
    try:
        message = str(exception)
    except Exception as error:  # its __str__ may raise, and the log line must appear anyway
        message = f"<its text raised {type(error).__name__}>"
    kind = type(exception)
    return {
        "type": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
        "message": bounded(message),
        "traceback": text,
    }


def _named(record: logging.LogRecord) -> dict[str, Any]:
    """Return the named values of a record."""
    extra = {
        name: value
        for name, value in vars(record).items()
        if name not in _STANDARD and name not in {"actor", "measurements"}
    }
    if isinstance(record.args, Mapping):
        extra.update(record.args)
    return {str(name): _plain(value) for name, value in extra.items()}


def _plain(value: Any) -> Any:
    """Return a JSON value: the value itself if it is a short text or a number, otherwise its shortened repr."""
    if value is None or isinstance(value, bool):
        return value
    # JSON has neither infinity nor NaN, and many readers cannot read whole numbers of more than 64 bits.
    if isinstance(value, int | float) and math.isfinite(value) and abs(value) < 2**63:
        return value
    return bounded(value) if isinstance(value, str) else shown(value)
