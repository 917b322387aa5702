"""The page of a run: one HTML file that needs nothing else, made of the template files beside this module."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from pathlib import Path

import msgspec

from supervision.chaos.reports.history_reader import read_history
from supervision.chaos.reports.measures import measure
from supervision.chaos.reports.page_data import page_data

__all__ = ["render_page", "write_page"]

_SCRIPTS = ("model.js", "view.js", "draw.js", "arrows.js", "head.js", "panels.js", "main.js")


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
        trace_lines: the run's trace.
        path: of the file; one that exists is replaced.
        title: what was run.
        subtitle: what else to say beside it: the seed, above all.
        problems: what went wrong, if the trace does not say it: what a simulated run has failed with.

    Raises:
        OSError: the file cannot be written.

    The file asks for nothing else: no other file, no network. Everything that comes from the run is data in it, never
    markup.
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
    """The text of what `write_page` writes."""
    history = read_history(trace_lines)
    last = history.events[-1]["n"] if history.events else 0
    for number, problem in enumerate(problems, last + 1):
        told = {"n": number, "t": history.seconds, "kind": "problem", "problem": problem}
        history.events.append(told)
    data = page_data(history, measure(history))
    parts = {
        "title": escape(title),
        "subtitle": escape(subtitle),
        "style": _template("page.css"),
        "script": "\n".join(_template(name) for name in _SCRIPTS),
        "data": _script_data(msgspec.json.encode(data).decode()),
    }
    page = _template("page.html")
    # The pieces between the placeholders are put together once, so that nothing in a piece is taken for a placeholder.
    first, *rest = page.split("{{")
    pieces = [first]
    for piece in rest:
        name, _, text = piece.partition("}}")
        pieces += [parts[name], text]
    return "".join(pieces)


def _script_data(text: str) -> str:
    """JSON that no HTML parser mistakes for the end of its script element, or for a comment in it."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _template(name: str) -> str:
    return (files(__package__) / "page_files" / name).read_text("utf-8")
