"""The content of a run's page. tests/integration/test_chaos_page.py checks its looks and behaviour."""

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from supervision.recording.reader.history import read_history
from supervision.recording.reader.measures import measure
from supervision.recording.reader.page import page_data, render_page, write_page
from supervision.recording.reader.rows import MESSAGES_SHOWN
from tests.supervision.laboratory.chaos.traces import CRASH, HandMade

HOSTILE = "</script><script>alert(1)</script><!--&\u2028"


class Page(HTMLParser):
    """A page as a browser takes it apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.texts: dict[str, str] = {}
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        self._tag = named.get("id") or tag
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.texts[self._tag] = self.texts.get(self._tag, "") + data


def crashing(label: str = "room") -> HandMade:
    trace = HandMade()
    trace.spawned(0, 1, f"/{label}")
    trace.sent(1, 1, label)
    trace.fault(2, f"crash /{label}", pid=1, path=f"/{label}", type="crash")
    trace.exited(2, 1, CRASH)
    trace.spawned(3, 2, f"/{label}", inc=2)
    trace.add(4, "note", text=f"all is well in {label}", clients="5")
    return trace


def test_text_from_a_run_is_never_markup() -> None:
    harmless = Page(render_page(crashing().lines, title="chat"))
    page = Page(render_page(crashing(HOSTILE).lines, title=HOSTILE, subtitle=HOSTILE))
    assert page.tags == harmless.tags
    data = msgspec.json.decode(page.texts["run"])
    assert f"/{HOSTILE}" in data["texts"]
    assert page.texts["title"].strip() == HOSTILE.strip()
    assert page.texts["subtitle"].strip() == HOSTILE.strip()


def test_a_page_loads_nothing_else() -> None:
    text = render_page(crashing().lines, title="chat")
    page = Page(text)
    assert page.links == ["data:,"]
    assert "default-src 'none'" in text
    assert re.findall(r"https?://|url\(|@import|fetch\(|XMLHttpRequest|import\(", text) == []


def test_braces_in_names_are_no_placeholders(tmp_path: Path) -> None:
    write_page(crashing("{{data}}").lines, tmp_path / "page.html", title="{{style}}")
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    assert page.texts["title"].strip() == "{{style}}"
    assert "/{{data}}" in msgspec.json.decode(page.texts["run"])["texts"]


def test_the_data_has_processes_faults_messages_and_notes() -> None:
    history = read_history(crashing().lines)
    data = page_data(history, measure(history))
    texts = data["texts"]
    first, second = data["processes"]
    path, incarnation, parent, born, ended, manner, reason, fault, back, *_ = first
    assert (texts[path], incarnation, parent, born, ended) == ("/room", 1, -1, 0, 2000)
    assert (manner, texts[reason], fault, back) == (2, CRASH, 0, 1)
    assert second[4] is None
    ((time, words, status, *_),) = data["faults"]
    assert (time, texts[words], status) == (2000, "crash /room", "applied")
    ((sent, sender, receiver, received, _, lost),) = data["messages"]
    assert (sent, sender, receiver, received, lost) == (1000, -1, 0, None, 1)
    ((time, kind, words),) = data["marks"]
    assert (time, kind, texts[words]) == (4000, "note", "all is well in room: clients 5")


def test_a_page_shows_all_lost_messages_and_a_share_of_the_others() -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/a")
    trace.spawned(0, 2, "/b")
    for number in range(MESSAGES_SHOWN + 10):
        sent = trace.sent(1, 2, f"{number}")
        if number % 1000 == 1:
            trace.sent(1, 1, "lost")
        trace.received(1, 2, cause=sent)
    trace.exited(2, 1, CRASH)
    history = read_history(trace.lines)
    shown = page_data(history, measure(history))["messages"]
    assert len(shown) <= MESSAGES_SHOWN
    assert sum(message[5] for message in shown) == 21


def test_problems_of_a_simulated_run_may_be_added() -> None:
    text = render_page(crashing().lines, title="chat", problems=["nobody answers", HOSTILE])
    data = msgspec.json.decode(Page(text).texts["run"])
    assert data["measures"]["problems"] == ["nobody answers", HOSTILE]
    assert [data["texts"][words] for _, kind, words in data["marks"] if kind == "problem"] == [
        "nobody answers",
        HOSTILE,
    ]


@pytest.mark.parametrize("trace", [HandMade(), crashing()])
def test_any_run_has_a_page(trace: HandMade) -> None:
    assert "<canvas" in render_page(trace.lines, title="a run")
