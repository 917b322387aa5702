"""The document in a real browser: two people write, and the server is killed under them."""

from __future__ import annotations

import json
import random
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from channels.durable import SQLiteStorage
from channels.durable.storage import NewMessage
from examples.document.server import history
from examples.document.text import Text, apply, new_text
from tests.integration.browsers import chromium
from tests.integration.phoenix_js import require_node
from tests.integration.servers import ROOT, Server, serving
from tests.patience import PATIENCE

STATIC = ROOT / "examples/document/static"

# A page with window.deaf gets nothing from the server, which gets all from the page.
_DEAF = """
    window.WebSocket = class extends WebSocket {
        set onmessage(listener) {
            super.onmessage = (event) => window.deaf || listener(event)
        }
    }
"""

OpenTab: TypeAlias = Callable[..., "Tab"]


class Tab:
    """A browser tab with the document."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.state = page.locator("#state")
        self.unsaved = page.locator("#unsaved")
        self.joined = page.locator("#joined")
        self.fields = page.get_by_role("group", name="Text").get_by_role("textbox")

    def paragraph(self, number: int) -> Locator:
        return self.page.get_by_role("textbox", name=re.compile(f"^Paragraph {number} of"))

    def reads(self, *paragraphs: str) -> None:
        """Wait until the tab shows these paragraphs, and has nothing that the server has not."""
        expect(self.fields).to_have_count(len(paragraphs))
        for number, text in enumerate(paragraphs, 1):
            expect(self.paragraph(number)).to_have_value(text)
        expect(self.unsaved).to_have_text("Saved")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    environment = {"DOCUMENT": str(tmp_path / "document.db")}
    with serving("examples.document", tmp_path, environment) as server:
        yield server


@pytest.fixture
def open_tab(browser: Browser, server: Server, tmp_path: Path) -> Iterator[OpenTab]:
    """Open the document as another person would; afterwards no page may have had an error."""
    tabs: list[Tab] = []
    errors: list[str] = []

    def open_one(size: tuple[int, int] = (1180, 860), scheme: str = "light") -> Tab:
        context = browser.new_context(viewport=ViewportSize(width=size[0], height=size[1]))
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.add_init_script(_DEAF)
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(server.url)
        tabs.append(Tab(page))
        expect(tabs[-1].state).to_have_text("Connected")
        return tabs[-1]

    yield open_one
    for number, tab in enumerate(tabs):
        tab.page.screenshot(path=tmp_path / f"tab-{number}.png", full_page=True)
        tab.page.context.close()
    assert errors == []


def test_two_tabs_write_while_the_server_is_killed_and_nothing_is_lost_or_doubled(
    open_tab: OpenTab, server: Server
) -> None:
    ann, bob = open_tab(), open_tab(size=(390, 780), scheme="dark")
    ann.paragraph(1).press_sequentially("Minutes\nAnn: the mill is repaired")
    bob.reads("Minutes", "Ann: the mill is repaired")

    # The kill comes in the middle of what both write.
    bob.paragraph(2).press("End")
    bob.paragraph(2).press("Enter")
    bob.paragraph(3).press_sequentially("Bob: we need ")
    ann.paragraph(1).press_sequentially(" of Monday")
    server.kill()
    ann.paragraph(1).press_sequentially(", in the mill")
    bob.paragraph(3).press_sequentially("more flour")
    for tab in (ann, bob):
        expect(tab.state).to_have_text("No server, trying again")
        expect(tab.unsaved).to_have_text(re.compile(r"^\d+ changes? only in this tab$"))
    expect(bob.paragraph(3)).to_be_focused()

    server.start()
    whole = ("Minutes of Monday, in the mill", "Ann: the mill is repaired")
    for tab in (ann, bob):
        expect(tab.joined).to_have_text("This tab is back, and got what it missed.")
        tab.reads(*whole, "Bob: we need more flour")
    expect(bob.paragraph(3)).to_be_focused()

    # A tab that opens later shows the same text, and the edits continue.
    eve = open_tab()
    expect(eve.joined).to_have_text("This tab is new, and got the whole text.")
    bob.paragraph(3).press_sequentially(".")
    for tab in (ann, bob, eve):
        tab.reads(*whole, "Bob: we need more flour.")


def test_a_tab_that_missed_too_much_gets_the_text_and_keeps_what_its_user_wrote(
    open_tab: OpenTab, server: Server, tmp_path: Path
) -> None:
    ann, bob = open_tab(), open_tab()
    ann.paragraph(1).fill("Minutes")
    ann.reads("Minutes")
    # The server has made this edit and has answered, and Ann's page does not know.
    ann.page.evaluate("window.deaf = true")
    ann.paragraph(1).fill("Minutes of")
    bob.reads("Minutes of")
    server.kill()
    ann.page.evaluate("window.deaf = false")
    ann.paragraph(1).press_sequentially(" Monday")
    trio.run(write_many, tmp_path / "document.db", history.max_replay + 1)
    server.start()
    for tab in (ann, bob):
        expect(tab.joined).to_have_text("This tab missed many edits, and got the whole text.")
        tab.reads("Minutes of Monday", f"edit {history.max_replay}")


async def write_many(path: Path, count: int) -> None:
    """Make edits while no server runs, as one on another machine would."""
    storage = SQLiteStorage(path)
    await storage.open(history.limits, fresh_epoch="unused")
    for number in range(count):
        changes = [{"id": "other", "after": "first", "text": f"edit {number}"}]
        edit = json.dumps({"id": str(number), "changes": changes}).encode()
        await storage.append([NewMessage("document:minutes", "edited", edit)], now=time.time())
    storage.close()


def test_a_phone_and_a_keyboard_are_enough(open_tab: OpenTab) -> None:
    ann, bob = open_tab(size=(360, 740)), open_tab()
    ann.paragraph(1).press_sequentially("onetwo")
    for _ in "two":
        ann.page.keyboard.press("ArrowLeft")
    ann.page.keyboard.press("Enter")
    bob.reads("one", "two")
    expect(ann.paragraph(2)).to_be_focused()
    ann.page.keyboard.press("ArrowUp")
    expect(ann.paragraph(1)).to_be_focused()
    ann.page.keyboard.press("ArrowDown")
    expect(ann.paragraph(2)).to_be_focused()
    ann.page.keyboard.press("Backspace")
    bob.reads("onetwo")
    ann.page.keyboard.type("w" * 100)
    bob.reads("one" + "w" * 100 + "two")
    assert ann.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert ann.paragraph(1).evaluate("field => field.scrollHeight <= field.clientHeight")


# The text in Node


def random_changes(chance: random.Random, count: int) -> list[dict[str, Any]]:
    ids = [*"abcdefgh", "first"]
    return [
        {
            "id": chance.choice(ids),
            "after": chance.choice([*ids, None]),
            "text": chance.choice([str(number), None, ""]),
        }
        for number in range(count)
    ]


def test_the_page_and_the_server_make_the_same_text_of_the_same_edits() -> None:
    texts: list[Text] = []
    edits = []
    for seed in range(200):
        edits.append(random_changes(random.Random(seed), 40))
        texts.append(new_text())
        apply(texts[-1], edits[-1])
    edits.append([{"id": str(number), "after": "first", "text": ""} for number in range(300)])
    texts.append(new_text())
    apply(texts[-1], edits[-1])
    script = f"""
        import {{ apply }} from {json.dumps((STATIC / "text.js").as_uri())}
        const edits = JSON.parse(await new Response(process.stdin).text())
        const texts = edits.map((changes) => apply([{{ id: "first", text: "" }}], changes))
        process.stdout.write(JSON.stringify(texts))
    """
    command = [require_node(), "--input-type=module", "--eval", script]
    done = subprocess.run(
        command,
        input=json.dumps(edits),
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert json.loads(done.stdout) == texts
