"""What the page of a run is drawn from: its history and its figures, packed as rows of numbers.

*pure*. A page may have to hold tens of thousands of messages, so each kind of thing is a list of short rows, times are
milliseconds, and paths and texts are indices into one table of strings.
"""

from __future__ import annotations

from typing import Any

import msgspec
from attrs import define, field

from supervision.chaos.reports.history import Event, FaultMark, History, Key, Life, is_clean
from supervision.chaos.reports.measures import Measures

__all__ = ["MESSAGES_SHOWN", "page_data"]

MESSAGES_SHOWN = 20_000
"""Messages on a page; of more, those that were lost are kept, and every so many of the others."""

_TEXT = 200
_WORDS = 1000

# How a life ended, by its number in the page.
LIVES_ON, CLEAN, CRASHED, KILLED, FAILED = range(5)


@define
class _Table:
    """Texts, each once."""

    texts: list[str] = field(factory=list)
    _numbers: dict[str, int] = field(factory=dict)

    def number(self, text: str) -> int:
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return number


def page_data(history: History, measures: Measures) -> dict[str, Any]:
    """Everything that the page shows, of types that JSON has.

    Args:
        history: of the run.
        measures: of the same run.
    """
    table = _Table()
    lives = {id(life): number for number, life in enumerate(history.lives)}
    faults = {id(mark): number for number, mark in enumerate(history.faults)}
    parents: dict[Key, int] = {}
    rows = []
    for number, life in enumerate(history.lives):
        rows.append(_life(life, parents.get(life.parent, -1), table, lives, faults))
        parents[life.key] = number
    return {
        "seconds": history.seconds,
        "closing": None if history.closing is None else _ms(history.closing),
        "phases": [[phase.name, _ms(phase.begin), _ms(phase.end)] for phase in history.phases],
        "lives": rows,
        "faults": [_fault(mark, lives, history, table) for mark in history.faults],
        "messages": _messages(history, lives, table),
        "messages_left_out": max(0, len(history.letters) - MESSAGES_SHOWN),
        "marks": [mark for event in history.events if (mark := _mark(event, table)) is not None],
        "texts": table.texts,
        "measures": msgspec.to_builtins(measures),
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _life(
    life: Life,
    parent: int,
    table: _Table,
    lives: dict[int, int],
    faults: dict[int, int],
) -> list[Any]:
    return [
        table.number(life.path),
        life.incarnation,
        parent,
        _ms(life.born),
        None if life.ended is None else _ms(life.ended),
        _manner(life),
        None if life.reason is None else table.number(life.reason[:_TEXT]),
        -1 if life.fault is None else faults[id(life.fault)],
        -1 if life.back is None else lives[id(life.back)],
        int(life.restarted),
        life.key[1],
        life.key[0],
    ]


def _manner(life: Life) -> int:
    if life.reason is None:
        return LIVES_ON
    if life.crashed:
        return CRASHED
    if is_clean(life.reason):
        return CLEAN
    return KILLED if life.reason == "Reason.KILLED" else FAILED


def _fault(mark: FaultMark, lives: dict[int, int], history: History, table: _Table) -> list[Any]:
    target = next(
        (
            lives[id(life)]
            for life in reversed(history.lives)
            if life.key == mark.target and life.born <= mark.seconds
        ),
        -1,
    )
    return [
        _ms(mark.seconds),
        table.number(mark.text),
        mark.status,
        None if mark.why is None else table.number(mark.why),
        target,
        [lives[id(life)] for life in mark.ended],
        None if mark.path is None else table.number(mark.path),
        mark.type,
    ]


def _messages(history: History, lives: dict[int, int], table: _Table) -> list[list[Any]]:
    letters = history.letters
    every = max(1, -(-len(letters) // MESSAGES_SHOWN))
    rows = []
    for number, letter in enumerate(letters):
        receiver = letter.receiver
        lost = letter.dropped or (
            letter.received is None
            and receiver is not None
            and receiver.ended is not None
            and not history.is_closing(receiver.ended)
        )
        if receiver is None or (number % every and not lost):
            continue
        rows.append(
            [
                _ms(letter.sent),
                -1 if letter.sender is None else lives[id(letter.sender)],
                lives[id(receiver)],
                None if letter.received is None else _ms(letter.received),
                table.number(letter.text[:_TEXT]),
                int(lost),
            ]
        )
    return rows


def _mark(event: Event, table: _Table) -> list[Any] | None:
    """An event that concerns the whole run, as kind, time and words."""
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
        words = "faults end, and what they have broken is repaired"
    elif kind == "problem":
        words = event["problem"]
    elif kind in {"partition", "healed"}:
        words = f"network: {kind}"
    else:
        return None
    return [_ms(event["t"]), kind, table.number(str(words)[:_WORDS])]
