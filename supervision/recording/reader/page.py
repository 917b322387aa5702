"""The HTML page of a run: one self-contained file, made from the templates beside this module."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from supervision.recording.reader.history import read_history
from supervision.recording.reader.measures import Measures, measure
from supervision.recording.reader.records import History
from supervision.recording.reader.rows import (
    MESSAGES_SHOWN,
    Texts,
    fault_row,
    mark_row,
    message_rows,
    milliseconds,
    process_row,
)

__all__ = ["page_data", "render_live_page", "render_page", "write_page"]

_SCRIPTS = (
    "model.js",
    "view.js",
    "draw.js",
    "arrows.js",
    "head.js",
    "lanes.js",
    "panels.js",
    "live.js",
    "main.js",
)


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
    contents: bool = True,
) -> str:
    """Return the text of the page. With `contents=False` it shows only the kinds of messages."""
    history = read_history(trace_lines, contents=contents)
    last = history.events[-1]["n"] if history.events else 0
    for number, problem in enumerate(problems, last + 1):
        history.events.append(
            {"n": number, "t": history.seconds, "kind": "problem", "problem": problem}
        )
    return _page(page_data(history, measure(history)), title=title, subtitle=subtitle)


def render_live_page(*, title: str) -> str:
    """Return the text of a page without data, for a program that still runs.

    Another page shows this page in a frame. For each part of a `supervision.recording.reader.live.LiveRun`, the outer
    page calls the function `timeline.take` of the frame.
    """
    history = History()
    return _page(page_data(history, measure(history)) | {"live": True}, title=title, subtitle="")


def _page(data: dict[str, Any], *, title: str, subtitle: str) -> str:
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


def page_data(history: History, measures: Measures) -> dict[str, Any]:
    """Return the data of the page, in JSON types. `supervision.recording.reader.rows` describes the rows.

    Args:
        history: the history of the run.
        measures: the figures of the run.
    """
    texts = Texts()
    rows = [process_row(process, texts) for process in history.processes]
    marks = (mark_row(event, texts) for event in history.events)
    return {
        "seconds": history.seconds,
        "closing": None if history.closing is None else milliseconds(history.closing),
        "phases": [[p.name, milliseconds(p.begin), milliseconds(p.end)] for p in history.phases],
        "processes": rows,
        "faults": [fault_row(mark, texts) for mark in history.faults],
        "messages": message_rows(history, MESSAGES_SHOWN, texts),
        "messages_left_out": max(0, len(history.messages) - MESSAGES_SHOWN),
        "marks": [mark for mark in marks if mark is not None],
        "texts": texts.texts,
        "measures": msgspec.to_builtins(measures),
    }
