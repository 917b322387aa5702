"""The rows of the data of a run's page: processes, faults, messages and marks, in JSON types.

*pure*. A page may have tens of thousands of messages, so rows are short. A row is a list. Times are in milliseconds.
Each path or text is a position in one table of texts.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field

from supervision.recording.reader.records import Event, FaultRecord, History, ProcessRecord

__all__ = [
    "MESSAGES_SHOWN",
    "Texts",
    "fault_row",
    "mark_row",
    "message_rows",
    "milliseconds",
    "process_row",
]

MESSAGES_SHOWN = 20_000
"""The largest number of messages of a run that a page shows completely. If there are more, the page shows all lost
messages and a regular sample of the others."""

_TEXT = 200
_WORDS = 1000

# The ways in which a process ends, as numbers in the page.
RUNNING, CLEAN, CRASHED, KILLED, FAILED = range(5)


@define
class Texts:
    """A table of texts without duplicates."""

    texts: list[str] = field(factory=list)
    _numbers: dict[str, int] = field(factory=dict)

    def number(self, text: str) -> int:
        """Return the position of a text in the table. Add the text if it is new."""
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return number


def milliseconds(seconds: float) -> float:
    """Return a time in milliseconds."""
    return round(seconds * 1000, 3)


def process_row(process: ProcessRecord, texts: Texts, *, names_back: bool = True) -> list[Any]:
    """Return the row of a process.

    Args:
        process: the process.
        texts: the table of texts.
        names_back: name the process that came in its place, if there is one.
    """
    return [
        texts.number(process.path),
        process.incarnation,
        _position(process.parent),
        milliseconds(process.born),
        None if process.ended is None else milliseconds(process.ended),
        _ending(process),
        None if process.reason is None else texts.number(process.reason[:_TEXT]),
        -1 if process.fault is None else process.fault.index,
        _position(process.back if names_back else None),
        int(process.restarted),
        process.key[1],
        process.key[0],
        texts.number(process.title) if process.title else -1,
    ]


def _position(process: ProcessRecord | None) -> int:
    return -1 if process is None else process.index


def _ending(process: ProcessRecord) -> int:
    if process.reason is None:
        return RUNNING
    if process.ended_cleanly:
        return CLEAN
    return {"crash": CRASHED, "killed": KILLED}.get(process.exit or "", FAILED)


def fault_row(mark: FaultRecord, texts: Texts) -> list[Any]:
    """Return the row of a fault."""
    return [
        milliseconds(mark.seconds),
        texts.number(mark.text),
        mark.status,
        None if mark.why is None else texts.number(mark.why),
        _position(mark.target),
        [process.index for process in mark.ended],
        None if mark.path is None else texts.number(mark.path),
        mark.type,
    ]


def message_rows(history: History, most: int, texts: Texts) -> list[list[Any]]:
    """Return the rows of about `most` messages: all lost messages, and a regular sample of the others."""
    messages = history.messages
    every = max(1, -(-len(messages) // most))
    rows = []
    for number, message in enumerate(messages):
        receiver = message.receiver
        if receiver is None or (number % every and not message.is_lost):
            continue
        rows.append(
            [
                milliseconds(message.sent),
                _position(message.sender),
                receiver.index,
                None if message.received is None else milliseconds(message.received),
                texts.number(message.text[:_TEXT]),
                int(message.is_lost),
            ]
        )
    return rows


def mark_row(event: Event, texts: Texts) -> list[Any] | None:
    """Return the time, kind and text of an event that concerns the whole run. Return None for other events."""
    kind = event["kind"]
    if kind == "note":
        more = ", ".join(
            f"{name} {value}"
            for name, value in event.items()
            if name not in {"n", "t", "round", "task", "kind", "text", "cause", "node"}
        )
        words = f"{event['text']}{': ' + more if more else ''}"
    elif kind == "steady":
        words = f"{event['name']}: {'holds' if event['holds'] else event.get('problem')}"
        kind = "steady" if event["holds"] else "unsteady"
    elif kind == "invariant":
        words = f"{event['name']}: {event['problem']}"
    elif kind == "gave_up":
        words = f"a supervisor gave up because of {event['id']}"
    elif kind == "heal":
        words = "the faults are undone"
    elif kind == "problem":
        words = event["problem"]
    elif kind in {"partition", "healed"}:
        words = f"network: {kind}"
    else:
        return None
    return [milliseconds(event["t"]), kind, texts.number(str(words)[:_WORDS])]
