"""The HTML page of a run: one self-contained file, made from the templates beside this module."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from attrs import define, field

from supervision.viewer.history import (
    Event,
    FaultRecord,
    History,
    Key,
    ProcessRecord,
    read_history,
)
from supervision.viewer.measures import Measures, measure

__all__ = ["MESSAGES_SHOWN", "page_data", "render_page", "write_page"]

_SCRIPTS = ("model.js", "view.js", "draw.js", "arrows.js", "head.js", "panels.js", "main.js")

MESSAGES_SHOWN = 20_000
"""The most messages on a page. If there are more, the page has all lost messages and a regular sample of the others."""

_TEXT = 200
_WORDS = 1000

# The ways in which a process ends, as numbers in the page.
RUNNING, CLEAN, CRASHED, KILLED, FAILED = range(5)


def write_page(
    trace_lines: Iterable[bytes],
    path: Path | str,
    *,
    title: str,
    subtitle: str = "",
    problems: Iterable[str] = (),
) -> None:
    """Write the page of a run, simulated or live, to a file.

        write_page(outcome.trace, "out.html", title="chat", subtitle="seed 7")

    Args:
        trace_lines: the trace of the run.
        path: the file. The page replaces an existing file.
        title: the title, such as the name of the scenario.
        subtitle: the subtitle, such as the seed.
        problems: problems that are not in the trace, such as the failure of a simulated run.

    Raises:
        OSError: the file cannot be written.

    The page loads no other file and uses no network. Text from the run is data in the page, never markup.
    """
    page = render_page(trace_lines, title=title, subtitle=subtitle, problems=problems)
    Path(path).write_text(page, "utf-8")


def render_page(
    trace_lines: Iterable[bytes],
    *,
    title: str,
    subtitle: str = "",
    problems: Iterable[str] = (),
) -> str:
    """Return the text of the page."""
    history = read_history(trace_lines)
    last = history.events[-1]["n"] if history.events else 0
    for number, problem in enumerate(problems, last + 1):
        history.events.append(
            {"n": number, "t": history.seconds, "kind": "problem", "problem": problem}
        )
    data = page_data(history, measure(history))
    parts = {
        "title": escape(title),
        "subtitle": escape(subtitle),
        "style": _template("page.css"),
        "script": "\n".join(_template(name) for name in _SCRIPTS),
        "data": _script_data(msgspec.json.encode(data).decode()),
    }
    page = _template("page.html")
    # Replace only the placeholders of the template. A placeholder in the text of the run stays text.
    first, *rest = page.split("{{")
    pieces = [first]
    for piece in rest:
        name, _, text = piece.partition("}}")
        pieces += [parts[name], text]
    return "".join(pieces)


def _script_data(text: str) -> str:
    """Escape JSON for a script element, so that an HTML parser finds no end tag and no comment in the JSON."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _template(name: str) -> str:
    return (files(__package__) / "page_files" / name).read_text("utf-8")


# The data of the page


@define
class _Table:
    """A table of texts without duplicates."""

    texts: list[str] = field(factory=list)
    _numbers: dict[str, int] = field(factory=dict)

    def number(self, text: str) -> int:
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return number


def page_data(history: History, measures: Measures) -> dict[str, Any]:
    """Return the data of the page, in JSON types.

    A page may have tens of thousands of messages, so the data is compact: each kind of item is a list of short rows,
    times are milliseconds, and paths and texts are indices into one table.

    Args:
        history: the history of the run.
        measures: the figures of the run.
    """
    table = _Table()
    processes = {id(process): number for number, process in enumerate(history.processes)}
    faults = {id(mark): number for number, mark in enumerate(history.faults)}
    parents: dict[Key, int] = {}
    rows = []
    for number, process in enumerate(history.processes):
        rows.append(_process(process, parents.get(process.parent, -1), table, processes, faults))
        parents[process.key] = number
    return {
        "seconds": history.seconds,
        "closing": None if history.closing is None else _ms(history.closing),
        "phases": [[phase.name, _ms(phase.begin), _ms(phase.end)] for phase in history.phases],
        "processes": rows,
        "faults": [_fault(mark, processes, history, table) for mark in history.faults],
        "messages": _messages(history, processes, table),
        "messages_left_out": max(0, len(history.messages) - MESSAGES_SHOWN),
        "marks": [mark for event in history.events if (mark := _mark(event, table)) is not None],
        "texts": table.texts,
        "measures": msgspec.to_builtins(measures),
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _process(
    process: ProcessRecord,
    parent: int,
    table: _Table,
    processes: dict[int, int],
    faults: dict[int, int],
) -> list[Any]:
    return [
        table.number(process.path),
        process.incarnation,
        parent,
        _ms(process.born),
        None if process.ended is None else _ms(process.ended),
        _ending(process),
        None if process.reason is None else table.number(process.reason[:_TEXT]),
        -1 if process.fault is None else faults[id(process.fault)],
        -1 if process.back is None else processes[id(process.back)],
        int(process.restarted),
        process.key[1],
        process.key[0],
    ]


def _ending(process: ProcessRecord) -> int:
    if process.reason is None:
        return RUNNING
    if process.crashed:
        return CRASHED
    if process.ended_cleanly:
        return CLEAN
    return KILLED if process.killed else FAILED


def _fault(
    mark: FaultRecord, processes: dict[int, int], history: History, table: _Table
) -> list[Any]:
    target = next(
        (
            processes[id(process)]
            for process in reversed(history.processes)
            if process.key == mark.target and process.born <= mark.seconds
        ),
        -1,
    )
    return [
        _ms(mark.seconds),
        table.number(mark.text),
        mark.status,
        None if mark.why is None else table.number(mark.why),
        target,
        [processes[id(process)] for process in mark.ended],
        None if mark.path is None else table.number(mark.path),
        mark.type,
    ]


def _messages(history: History, processes: dict[int, int], table: _Table) -> list[list[Any]]:
    messages = history.messages
    every = max(1, -(-len(messages) // MESSAGES_SHOWN))
    rows = []
    for number, message in enumerate(messages):
        receiver = message.receiver
        lost = message.dropped or history.was_left_unread(message)
        if receiver is None or (number % every and not lost):
            continue
        rows.append(
            [
                _ms(message.sent),
                -1 if message.sender is None else processes[id(message.sender)],
                processes[id(receiver)],
                None if message.received is None else _ms(message.received),
                table.number(message.text[:_TEXT]),
                int(lost),
            ]
        )
    return rows


def _mark(event: Event, table: _Table) -> list[Any] | None:
    """Return an event as time, kind and words if it concerns the whole run; otherwise None."""
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
    return [_ms(event["t"]), kind, table.number(str(words)[:_WORDS])]
