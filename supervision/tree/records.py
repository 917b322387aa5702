"""The records of a snapshot: an immutable tree of processes, with methods that return it as text, JSON or a graph.

*pure*: this module reads no process; `supervision.tree.snapshots` does that.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any, Literal, TypeAlias

import msgspec
from attrs import frozen

from actors.addresses import RemoteAddress
from actors.refs import Pid
from actors.text import printable

__all__ = ["ProcessHealth", "ProcessView", "TreeSnapshot"]

ProcessHealth: TypeAlias = Literal[
    "idle", "busy", "suspended", "exiting", "silent", "restarting", "stopped"
]
"""The state of health of a process.

| health | meaning |
|---|---|
| idle | waits for a message |
| busy | runs, waits for something else, or has messages to handle |
| suspended | `actors.sys.suspend` stopped it |
| exiting | accepted an exit signal and unwinds |
| silent | is a busy server, and did not answer before the deadline |
| restarting | a child whose supervisor will try to start it again |
| stopped | a child that is not running |
"""

_TEXT = 80


@frozen(kw_only=True)
class ProcessView:
    """One process at one moment, or a child that is not running.

    Attributes:
        pid: the process; None if it is not running.
        id: the id of the child in its supervisor; None if there is none.
        label: the name of the process in messages.
        names: its registered name, if it has one.
        kind: the strategy of a supervisor, or "dynamic"; None for other processes.
        mailbox: the number of messages in its mailbox.
        restarts: the number of times that its supervisor has restarted it.
        age: seconds since its start; None if it is not running.
        health: its state of health.
        function: the function that it runs or waits in, as `module.function:line`.
        links: the processes that it is linked to, without its parent and its children in this tree.
        monitors: the processes that it monitors, and the addresses of those that may run on another node.
        children: the processes that it started, in the order of their starts.
    """

    pid: Pid | None
    id: Any
    label: str
    names: tuple[object, ...]
    kind: str | None
    mailbox: int
    restarts: int
    age: float | None
    health: ProcessHealth
    function: str | None
    links: tuple[Pid, ...]
    monitors: tuple[Pid | RemoteAddress, ...]
    children: tuple[ProcessView, ...]

    @property
    def title(self) -> str:
        """The id as text, or else the label."""
        return self.label if self.id is None else brief(self.id)

    def walk(self) -> Iterator[ProcessView]:
        """Yield this process and all processes below it, parents before children."""
        waiting = [self]
        while waiting:
            view = waiting.pop()
            yield view
            waiting.extend(reversed(view.children))

    def as_dict(self) -> dict[str, Any]:
        """Return the record in JSON types. Pids are numbers. Names, ids and remote addresses are text."""
        return {
            "pid": None if self.pid is None else self.pid.number,
            "id": None if self.id is None else brief(self.id),
            "label": self.label,
            "names": [brief(name) for name in self.names],
            "kind": self.kind,
            "mailbox": self.mailbox,
            "restarts": self.restarts,
            "age": None if self.age is None else round(self.age, 6),
            "health": self.health,
            "function": self.function,
            "links": [pid.number for pid in self.links],
            "monitors": [
                each.number if isinstance(each, Pid) else brief(each) for each in self.monitors
            ],
            "children": [child.as_dict() for child in self.children],
        }


def brief(value: object) -> str:
    """Return a name or an id as one short line."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception as error:  # a `__repr__` of the application must not prevent a snapshot
        text = f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    text = " ".join(text.split())
    return text if len(text) <= _TEXT else f"{text[: _TEXT - 1]}…"


@frozen(kw_only=True)
class TreeSnapshot:
    """All processes of a runtime. `snapshot` makes it.

    Attributes:
        roots: the processes that no living process started, in the order of their starts.
        time: the time of the snapshot on Trio's clock, in seconds.
        asked: the number of busy servers that the snapshot asked for an answer.
        silent: the servers that did not answer before the deadline.
        not_asked: the number of busy servers that the snapshot did not ask, because there were too many.
    """

    roots: tuple[ProcessView, ...]
    time: float
    asked: int
    silent: tuple[Pid, ...]
    not_asked: int

    def walk(self) -> Iterator[ProcessView]:
        """Yield all processes, parents before children."""
        for root in self.roots:
            yield from root.walk()

    def find(self, pid: Pid) -> ProcessView | None:
        """Return the view of one process; None if it was not alive.

        Args:
            pid: The process.
        """
        return next((view for view in self.walk() if view.pid is pid), None)

    @property
    def remark(self) -> str:
        """A sentence about servers without an answer; empty if every server answered."""
        parts = []
        if self.silent:
            pids = ", ".join(map(repr, self.silent[:5]))
            more = f" and {len(self.silent) - 5} more" if len(self.silent) > 5 else ""
            parts.append(f"no answer in time from {pids}{more}")
        if self.not_asked:
            parts.append(f"{self.not_asked} busy servers were not asked")
        return "; ".join(parts)

    # Output formats. `limit` bounds the number of children that are shown for each process; 0 shows all.

    def to_text(self, *, limit: int = 50) -> str:
        """Draw the tree as text, one line for each process.

        Args:
            limit: the largest number of children to draw for one process; 0 draws all.

        Returns:
            The lines of the tree.
        """
        lines = [line for root in self.roots for line in _text_lines(root, limit)]
        return "\n".join([*lines, *([f"({self.remark})"] if self.remark else [])])

    def to_json(self) -> str:
        """Return all records as JSON: an object with `time`, `asked`, `silent`, `not_asked` and `roots`."""
        return msgspec.json.encode(
            {
                "time": self.time,
                "asked": self.asked,
                "silent": [pid.number for pid in self.silent],
                "not_asked": self.not_asked,
                "roots": [root.as_dict() for root in self.roots],
            }
        ).decode()

    def to_graphviz(self, *, limit: int = 50) -> str:
        """Return the tree in the language of Graphviz, with links as dashed lines.

        Args:
            limit: as in `to_text`.
        """
        lines = ["digraph processes {", "  rankdir=LR", '  node [shape=box, fontname="sans-serif"]']
        shown: dict[Pid, str] = {}
        for key, above, view, words in self._nodes(limit):
            color = "" if view is None else _COLORS.get(view.health, "")
            look = f", color={color}" if color else ""
            lines.append(f"  {key} [label={_quoted(words)}{look}]")
            if above is not None:
                lines.append(f"  {above} -> {key}")
            if view is not None and view.pid is not None:
                shown[view.pid] = key
        for view in self.walk():
            if view.pid not in shown:
                continue
            lines.extend(
                f"  {shown[view.pid]} -> {shown[peer]} [dir=none, style=dashed]"
                for peer in view.links
                # Draw a link once, not once for each direction.
                if peer in shown and view.pid.number < peer.number
            )
        return "\n".join([*lines, "}"])

    def to_mermaid(self, *, limit: int = 50) -> str:
        """Return the tree as a Mermaid flowchart.

        Args:
            limit: as in `to_text`.
        """
        lines = ["flowchart LR"]
        for key, above, view, words in self._nodes(limit):
            quoted = words.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
            lines.append(f'  {key}["{quoted}"]')
            if above is not None:
                lines.append(f"  {above} --> {key}")
            if view is not None and view.health in _COLORS:
                lines.append(f"  style {key} stroke:{_COLORS[view.health]}")
        return "\n".join(lines)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return the text and HTML that a notebook shows."""
        body = "".join(_html(root, 50) for root in self.roots)
        remark = f"<p>{escape(self.remark)}</p>" if self.remark else ""
        return {
            "text/plain": self.to_text(),
            "text/html": f'<div style="font-family: ui-monospace, monospace">{body}{remark}</div>',
        }

    def _nodes(self, limit: int) -> Iterator[tuple[str, str | None, ProcessView | None, str]]:
        """Yield a key, the key of the parent, the process (None for a remark), and the text of the node."""
        number = 0
        waiting: list[tuple[str | None, ProcessView]] = [
            (None, root) for root in reversed(self.roots)
        ]
        while waiting:
            above, view = waiting.pop()
            number += 1
            key = f"p{number}"
            yield key, above, view, line_of(view)
            shown = view.children[:limit] if limit else view.children
            if len(shown) < len(view.children):
                yield f"{key}more", key, None, f"{len(view.children) - len(shown)} more"
            waiting.extend((key, child) for child in reversed(shown))


_COLORS = {"silent": "red", "restarting": "orange", "exiting": "gray", "suspended": "blue"}


def line_of(view: ProcessView) -> str:
    """Return one line about a process."""
    parts = [printable(view.title)]
    if view.kind is not None:
        parts.append(f"({view.kind})")
    if view.pid is not None:
        parts.append(repr(view.pid))
    if view.health not in ("idle", "busy"):
        parts.append(view.health)
    if view.mailbox:
        parts.append(f"{view.mailbox} in the mailbox")
    if view.restarts:
        parts.append(f"restarted {view.restarts}×")
    return " ".join(parts)


def _text_lines(view: ProcessView, limit: int) -> Iterator[str]:
    yield line_of(view)
    shown = view.children[:limit] if limit else view.children
    blocks = [list(_text_lines(child, limit)) for child in shown]
    if len(shown) < len(view.children):
        blocks.append([f"… {len(view.children) - len(shown)} more"])
    for number, (first, *rest) in enumerate(blocks, 1):
        branch, bar = ("├── ", "│   ") if number < len(blocks) else ("└── ", "    ")
        yield branch + first
        for line in rest:
            yield bar + line


def _html(view: ProcessView, limit: int) -> str:
    line = escape(line_of(view))
    if not view.children:
        return f'<div style="margin-left: 1.2em">{line}</div>'
    shown = view.children[:limit]
    more = len(view.children) - len(shown)
    rest = f'<div style="margin-left: 1.2em">… {more} more</div>' if more else ""
    inside = "".join(_html(child, limit) for child in shown)
    return (
        f'<details open style="margin-left: 1.2em"><summary>{line}</summary>{inside}{rest}'
        "</details>"
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
