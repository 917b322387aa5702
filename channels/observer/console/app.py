"""The terminal observer: the observer page as a Textual program, with the same data.

Textual runs on asyncio, so the connection runs in its own thread. The connection passes all data to Textual's thread.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from threading import Thread
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Footer, Input, OptionList, RichLog, Static
from textual.widgets.option_list import Option

from actors.text import printable
from channels.observer.console.lines import Board, entity_lines, figures, line_of
from channels.observer.console.remote import Remote

__all__ = ["ObserveApp"]


class ObserveApp(App[None]):
    """The observer of one server in a terminal.

    Args:
        url: the address of the page, with its token.
        headers: further headers for a server with its own check.
    """

    TITLE = "Observer"
    CSS = """
    #state { height: 1; padding: 0 1; background: $success; color: $text; text-style: bold; }
    #state.stale { background: $error; }
    #figures { height: 1; padding: 0 1; color: $text-muted; }
    #entities { height: auto; max-height: 25%; overflow-y: auto; border: round $primary; padding: 0 1; display: none; }
    #search { height: 1; }
    #tree { width: 3fr; height: 1fr; border: round $primary; }
    #right { width: 2fr; }
    #process { height: auto; max-height: 50%; border: round $primary; padding: 0 1; }
    #events { border: round $primary; }
    """
    BINDINGS: ClassVar = [
        Binding("q", "quit", "Quit"),
        Binding("slash", "search", "Search"),
        Binding("k", "act('kill')", "Kill"),
        Binding("e", "act('exit')", "Exit"),
        Binding("s", "act('suspend')", "Suspend"),
        Binding("r", "act('resume')", "Resume"),
        Binding("c", "act('crash')", "Crash on next message"),
        Binding("escape", "leave_search", "Back", show=False),
    ]

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.board = Board()
        self.lost: str | None = None
        self.heard: float | None = None
        self.events: list[str] = []
        self._open: set[str] = set()
        self._search = ""
        self._picked: int | None = None
        self._about: dict[str, Any] = {}
        self._remote = Remote(url, headers or {}, self._from_thread)
        self._thread = Thread(target=self._remote.run, name="observer connection", daemon=True)

    @property
    def remote(self) -> Remote:
        """The connection."""
        return self._remote

    def compose(self) -> ComposeResult:
        yield Static("Connecting", id="state")
        yield Static("", id="figures")
        with VerticalScroll(id="entities", can_focus=False):
            yield Static("", id="keys", markup=False)
        yield Input(placeholder="Find a process", id="search", compact=True)
        with Horizontal():
            yield OptionList(id="tree", markup=False)
            with Vertical(id="right"):
                yield Static("Press Enter on a process.", id="process", markup=False)
                yield RichLog(id="events", wrap=True, min_width=20)
        yield Footer()

    def on_mount(self) -> None:
        self.query_one("#tree").focus()
        self.set_interval(0.5, self._show_state)
        self._thread.start()

    def on_unmount(self) -> None:
        self._remote.close()

    # From the connection

    def _from_thread(self, kind: str, data: Any) -> None:
        # This runs in the thread of the connection, which must not wait for the screen.
        try:
            self.call_later(self._take, kind, data)
        except RuntimeError:
            # The program is ending.
            pass

    def _take(self, kind: str, data: Any) -> None:
        if not self._has_screen:
            return
        if kind == "tick":
            self._tick(data)
        elif kind == "process":
            self._show_process(data)
        elif kind == "about":
            self._about = data
            if data.get("ended"):
                self._show_process(data)
        elif kind == "joined":
            for event in data["events"]:
                self._show_event(event)
        elif kind == "lost":
            self.lost = data
            self._show_state()
        elif kind == "answer":
            self._write_line(f"refused: {data}")

    def _tick(self, tick: Mapping[str, Any]) -> None:
        self.heard, self.lost = time.monotonic(), None
        if "point" in tick:
            self.query_one("#figures", Static).update(Content(figures(tick["point"])))
        if "entities" in tick:
            lines = entity_lines(tick["entities"], tick["now"])
            self.query_one("#entities").display = bool(lines)
            self.query_one("#keys", Static).update(Content("\n".join(lines)))
        for event in tick.get("events", ()):
            self._show_event(event)
        if self.board.apply(tick):
            self._show_rows()
        self._show_state()

    def _show_event(self, event: Mapping[str, Any]) -> None:
        clock = time.strftime("%H:%M:%S", time.localtime(event["t"]))
        self._write_line(f"{clock} {event['text']}")

    def _write_line(self, line: str) -> None:
        line = printable(line)
        self.events.append(line)
        del self.events[:-500]
        self.query_one("#events", RichLog).write(line)

    def _show_rows(self) -> None:
        place = self.query_one("#tree", OptionList)
        at = place.highlighted
        key = None if at is None else place.get_option_at_index(at).id
        options = [
            Option(Content(line_of(depth, row)), id=row["key"]) for depth, row in self.board.lines()
        ]
        place.clear_options()
        place.add_options(options)
        keys = [option.id for option in options]
        if key in keys:
            place.highlighted = keys.index(key)
        elif at is not None and keys:
            place.highlighted = min(at, len(keys) - 1)

    @property
    def _has_screen(self) -> bool:
        """False once the program is ending. News may still arrive then."""
        return bool(self.query("#state") and self.query("#events"))

    def _show_state(self) -> None:
        if not self._has_screen:
            return
        place = self.query_one("#state", Static)
        silent = None if self.heard is None else time.monotonic() - self.heard
        is_late = silent is not None and silent > 2
        place.set_class(self.lost is not None or is_late, "stale")
        age = "" if silent is None else f" What you see is {silent:.0f} s old."
        if self.lost is not None:
            place.update(Content(f"No news: {printable(self.lost)}.{age}"))
        elif is_late:
            place.update(Content(f"The server sends no updates.{age}"))
        elif silent is None:
            place.update(Content("Connecting"))
        else:
            rights = "with control" if self._remote.facts.get("control") else "read-only"
            place.update(Content(f"Live · {self._remote.page} · {rights}"))

    def _show_process(self, fields: Mapping[str, Any]) -> None:
        crash = self._about.get("crash")
        lines = [f"{self._about.get('path', '')} <pid {self._picked}>"]
        if fields.get("ended"):
            new = fields.get("replacement")
            its = "" if new is None else f" Its replacement is <pid {new}>."
            lines.append(f"This process has ended.{its}")
        names = ("status", "function", "mailbox", "age", "links", "monitors", "state")
        lines += [f"{name}: {fields[name]}" for name in names if name in fields]
        lines += [
            f"{message['kind']} {message.get('what') or message['content']}"
            for message in fields.get("messages", ())[-5:]
        ]
        if crash:
            lines += ["", f"last crash: {crash['error']}", *crash["traceback"].splitlines()[-8:]]
        self.query_one("#process", Static).update(Content(printable("\n".join(lines), lines=True)))

    # From the user

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        row = self.board.rows.get(str(event.option.id))
        if row is None:
            return
        if row["type"] == "group":
            self._open ^= {row["key"]}
            self._look()
        elif row["type"] == "process":
            self._picked, self._about = row["pid"], {}
            self._remote.ask("process", {"pid": row["pid"]})

    def on_input_changed(self, event: Input.Changed) -> None:
        self._search = event.value
        self._look()

    def on_input_submitted(self) -> None:
        self.query_one("#tree").focus()

    def action_search(self) -> None:
        """Move the focus to the search field."""
        self.query_one("#search").focus()

    def action_leave_search(self) -> None:
        """Move the focus back to the tree."""
        self.query_one("#tree").focus()

    def action_act(self, action: str) -> None:
        """Carry out an action on the process under the cursor."""
        place = self.query_one("#tree", OptionList)
        if place.highlighted is None:
            return
        row = self.board.rows.get(str(place.get_option_at_index(place.highlighted).id))
        if row is not None and row["type"] == "process":
            self._remote.ask("act", {"action": action, "pid": row["pid"]})

    def _look(self) -> None:
        self._remote.look({"open": sorted(self._open), "search": self._search})
