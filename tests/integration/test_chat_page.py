"""The page of the chat in a real browser: the view of two people when one of them crashes a channel."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect

from tests.architecture.snippets import snippets_in
from tests.architecture.sources import ROOT
from tests.integration.browsers import chromium
from tests.integration.phoenix_js import FOLDER as NODE
from tests.integration.servers import Server, serving
from tests.patience import PATIENCE

HOWTO = "docs/howto/start-a-project.md"
PHOENIX_JS = NODE / "node_modules/phoenix/priv/static/phoenix.mjs"
CDN = "https://cdn.jsdelivr.net/npm/phoenix@1.8.16/priv/static/phoenix.mjs"

# Record the ids of all changed elements of the page from now on.
_WATCH = """() => {
    window.changed = []
    const note = (mutations) => mutations.forEach(({ target }) => {
        const element = target.nodeType === 1 ? target : target.parentElement
        window.changed.push(element?.closest("[id]")?.id ?? "document")
    })
    const options = { subtree: true, childList: true, attributes: true, characterData: true }
    new MutationObserver(note).observe(document, options)
}"""

OpenTab: TypeAlias = Callable[..., "Tab"]


class Tab:
    """A browser tab with the chat, and the actions of its user."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.message = page.get_by_role("textbox", name="Message, as")
        self.name = page.get_by_role("textbox", name="Name", exact=True)
        self.count = page.get_by_label("Messages", exact=True)
        self.crash = page.get_by_role("button", name="Crash my channel")
        self.state = page.locator("#state")
        self.process = page.locator("#pid")
        self.verdict = page.locator("#verdict")
        self.other = page.locator("#other")

    def rename(self, name: str) -> None:
        self.name.fill(name)
        self.name.press("Tab")

    def say(self, body: str) -> None:
        self.message.fill(body)
        self.message.press("Enter")

    def crash_and_stay_down(self) -> None:
        """Crash the channel, and stop the clock of the page, so that phoenix.js does not join again.

        The tab must have been opened with `clock=True`.
        """
        # Ahead by more than it takes to say so, because a clock cannot be put back.
        self.page.clock.pause_at(self.page.evaluate("Date.now()") / 1000 + 5)
        self.crash.click()
        self.page.clock.run_for(100)  # in which the press is drawn, and sent
        expect(self.state).to_have_text("Crashed, rejoining")

    def come_back(self) -> None:
        """Let the second pass that phoenix.js waits, and run the clock again after the join."""
        self.page.clock.run_for(1000)
        expect(self.state).to_have_text("Connected")
        self.page.clock.resume()

    def hears(self, name: str, body: str) -> None:
        """Wait until the transcript ends with this message of this speaker."""
        last = self.page.locator("#transcript .message:not(.waiting)").last
        expect(last.locator(".body")).to_have_text(body)
        expect(last.locator("b")).to_have_text(name)

    def reached(self) -> list[str]:
        """The steps of the recovery strip that were reached."""
        steps = self.page.locator("#strip .reached .label").all_text_contents()
        return list(steps)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_tab(
    browser: Browser, chat: Server, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[OpenTab]:
    """Open the chat as another person would; afterwards no page may have had an error."""
    tabs: list[Tab] = []
    errors: list[str] = []
    failed_before = request.session.testsfailed

    def open_one(
        url: str = chat.url,
        state: str = "Connected",
        size: tuple[int, int] = (1180, 860),
        scheme: str = "light",
        clock: bool = False,
    ) -> Tab:
        context = browser.new_context(viewport=ViewportSize(width=size[0], height=size[1]))
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        if clock:
            page.clock.install()
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        tabs.append(Tab(page))
        expect(tabs[-1].state).to_have_text(state)
        return tabs[-1]

    yield open_one
    for number, tab in enumerate(tabs):
        if request.session.testsfailed > failed_before:
            tab.page.screenshot(path=tmp_path / f"tab-{number}.png", full_page=True)
        tab.page.context.close()
    assert errors == []


def test_a_tab_rejoins_after_a_crash_and_the_other_tab_does_not_notice(
    open_tab: OpenTab,
) -> None:
    ann, bob = open_tab(clock=True), open_tab()
    ann.rename("Ann")
    bob.rename("Bob")
    ann.say("Hello")
    ann.say("Is anybody here?")
    bob.hears("Ann", "Is anybody here?")
    # Two in a row share one heading.
    expect(bob.page.locator(".message b").nth(0)).to_be_visible()
    expect(bob.page.locator(".message b").nth(1)).to_be_hidden()
    bob.say("I am")
    ann.hears("Bob", "I am")
    expect(ann.count).to_have_text("2")
    process = ann.process.text_content()
    others_process = bob.process.text_content()
    bob.page.evaluate(_WATCH)

    ann.crash_and_stay_down()
    expect(ann.process).to_have_text(f"{process} is gone")
    expect(ann.crash).to_be_disabled()
    assert ann.reached() == ["crash", "phx_error"]
    expect(ann.other).to_contain_text(f"The channel of Bob was {others_process}.")

    # Bob sends messages while Ann has no channel.
    bob.say("Still here")
    bob.hears("Bob", "Still here")

    ann.come_back()
    expect(ann.state).to_have_text("Connected")
    assert ann.reached() == ["crash", "phx_error", "phx_join", "back"]
    verdict = ann.verdict.text_content() or ""
    after = re.match(r"Back after ([\d,]+) ms: [\d.]+ ms until the crash was known", verdict)
    assert after is not None, verdict
    # On the clock of the page: phoenix.js waits a second before it joins again, and the press took less than 100 ms.
    assert 1000 <= int(after[1].replace(",", "")) <= 1100

    # The name was sent again by the page; the count was in the memory of the process that died.
    assert ann.process.text_content() not in {process, None}
    expect(ann.name).to_have_value("Ann")
    expect(ann.count).to_have_text("0")
    ann.say("I am back")
    bob.hears("Ann", "I am back")
    expect(ann.count).to_have_text("1")
    bob.say("Were you away?")
    ann.hears("Bob", "Were you away?")
    # The message that Bob sent meanwhile did not reach Ann, so the page does not count it.
    expect(ann.other).to_have_text(
        f"The channel of Bob went on: still {others_process}, 1 message since your crash."
    )

    # Only the conversation has changed in Bob's page.
    expect(bob.count).to_have_text("3")
    assert set(bob.page.evaluate("window.changed")) == {"transcript", "count"}
    assert bob.process.text_content() == others_process
    assert bob.reached() == []
    assert "crashed" not in (bob.page.locator("#transcript").text_content() or "")


def test_a_crash_between_two_messages_does_not_affect_other_tabs(open_tab: OpenTab) -> None:
    ann, bob = open_tab(), open_tab()
    ann.rename("Ann")
    ann.say("One")
    bob.hears("Ann", "One")
    ann.crash.click()
    expect(ann.verdict).to_contain_text("Back after")
    ann.say("Two")
    bob.hears("Ann", "Two")
    # Two in a row share one heading, whichever process has sent them.
    expect(bob.page.locator(".message b").nth(0)).to_be_visible()
    expect(bob.page.locator(".message b").nth(1)).to_be_hidden()


def test_messages_during_a_channel_crash_are_delivered_after_the_rejoin(
    open_tab: OpenTab,
) -> None:
    ann, bob = open_tab(clock=True), open_tab()
    ann.rename("Ann")
    ann.crash_and_stay_down()
    ann.say("Patience")
    ann.say("It will be back")
    ann.page.clock.run_for(250)  # after which they are shown as waiting
    expect(ann.page.locator(".waiting .body")).to_have_text(["Patience", "It will be back"])
    ann.come_back()
    bob.hears("Ann", "It will be back")
    ann.hears("Ann", "It will be back")
    expect(ann.page.locator(".waiting")).to_have_count(0)


def test_the_page_shows_if_the_server_is_reachable(open_tab: OpenTab, tmp_path: Path) -> None:
    with serving("examples.chat", tmp_path) as server:
        ann = open_tab(server.url)
        name = ann.name.input_value()
        ann.say("Before")
        ann.hears(name, "Before")
        server.kill()
        expect(ann.other).to_have_text("A second tab shows that its own channel goes on.")
        expect(ann.state).to_have_text("No server, trying again")
        assert ann.reached() == ["connection lost"]
        expect(ann.page.locator("#strip")).to_contain_text(re.compile(r"\d+ failed tr(y|ies)"))
        server.start()
        expect(ann.state).to_have_text("Connected")
        assert ann.reached() == ["connection lost", "connected", "phx_join", "back"]
        expect(ann.verdict).to_contain_text(
            re.compile(r"Back after [\d,.]+ m?s: .* without a server")
        )
        ann.say("After")
        ann.hears(name, "After")
        expect(ann.count).to_have_text("1")


def test_the_page_shows_the_refusal_of_another_room(open_tab: OpenTab, chat: Server) -> None:
    ann = open_tab(f"{chat.url}/?room=attic", state="Refused: unauthorized")
    expect(ann.page.get_by_text("The server refused the join.")).to_be_visible()
    expect(ann.crash).to_be_disabled()
    ann.page.get_by_role("link", name="Go to the lobby").click()
    expect(ann.state).to_have_text("Connected")


def test_the_page_shows_messages_as_text(open_tab: OpenTab) -> None:
    ann, bob = open_tab(), open_tab()
    ann.rename("<i>Ann</i>")
    ann.say("<img src=x onerror='document.title = 1'> & <b>bold</b>")
    bob.hears("<i>Ann</i>", "<img src=x onerror='document.title = 1'> & <b>bold</b>")
    assert bob.page.title() == "Ashtree chat"


@pytest.mark.parametrize(
    ("size", "scheme"), [((1180, 860), "light"), ((360, 740), "dark")], ids=["desk", "phone"]
)
def test_long_words_and_names_do_not_widen_the_page(
    open_tab: OpenTab, size: tuple[int, int], scheme: str
) -> None:
    ann, bob = open_tab(size=size, scheme=scheme), open_tab(size=size, scheme=scheme)
    bob.rename("B" * 24)
    bob.say("w" * 300)
    ann.hears("B" * 24, "w" * 300)
    ann.crash.click()
    expect(ann.verdict).to_contain_text("Back after")
    for tab in (ann, bob):
        width = tab.page.evaluate("document.documentElement.scrollWidth")
        assert width <= size[0]


def test_the_page_sends_requests_only_to_its_own_server(open_tab: OpenTab, chat: Server) -> None:
    ann = open_tab()
    asked: list[str] = []
    ann.page.on("request", lambda request: asked.append(request.url))
    ann.page.reload()
    expect(ann.state).to_have_text("Connected")
    assert f"{chat.url}/phoenix/phoenix.mjs" in asked
    assert [url for url in asked if not url.startswith(f"{chat.url}/")] == []


def test_the_pages_of_the_howto_talk_to_a_server(browser: Browser, chat: Server) -> None:
    whole, from_cdn = (
        each.code
        for each in snippets_in(HOWTO, (ROOT / HOWTO).read_text())
        if each.language == "html"
    )
    own_map = (
        '<script type="importmap">{ "imports": { "phoenix": "/phoenix/phoenix.mjs" } }</script>'
    )
    assert own_map in whole
    published = PHOENIX_JS.read_text()

    def answer_with(text: str) -> None:
        def answer(route: Route) -> None:
            headers = {"access-control-allow-origin": "*", "content-type": "text/javascript"}
            route.fulfill(body=text, headers=headers)

        page.unroute(CDN)
        page.route(CDN, answer)

    page = browser.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    for text in (whole, whole.replace(own_map, from_cdn)):
        answer_with(published)
        # Only a page of the server may open a WebSocket here. So the test replaces the content of such a page.
        page.goto(f"{chat.url}/phoenix/phoenix.mjs")
        page.set_content(text)
        expect(page.locator("output")).to_have_text("It works.")
    # If the CDN sends another file, the browser refuses it.
    answer_with(f"{published}\n// changed")
    page.goto(f"{chat.url}/phoenix/phoenix.mjs")
    with page.expect_console_message(lambda message: "integrity" in message.text):
        page.set_content(whole.replace(own_map, from_cdn))
    expect(page.locator("output")).to_be_empty()
    page.close()
