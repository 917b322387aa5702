"""The observer page in a real browser, beside a chat under load. The page shows each failure and each recovery.

The screenshots go to the folder of the environment variable ASHTREE_SCREENSHOTS, or else to the folder of the test.
"""

from __future__ import annotations

import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, ViewportSize, expect

from channels.observer.access import cookie_name
from tests.integration.browsers import chromium
from tests.integration.servers import Server, serving
from tests.patience import PATIENCE, wait_until

MODULE = "tests.integration.observed_chat"
PATH = "/_ashtree/observer"
TOKEN = "observer-token"

# A chat client in a page of the same server. It sends messages all the time.
_TALK = """async () => {
    const { Socket } = await import("/phoenix/phoenix.mjs")
    const socket = new Socket("/socket")
    window.joins = []
    const room = socket.channel("room:lobby", { name: "talker" })
    room.join().receive("ok", ({ process }) => window.joins.push(process))
    room.rejoinTimer && (room.socket.rejoinAfterMs = () => 300)
    socket.connect()
    setInterval(() => { if (room.state === "joined") room.push("new_msg", { body: "hello" }) }, 10)
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(MODULE, tmp_path_factory.mktemp("observed")) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


class Observer:
    """An observer page, with the elements that a person reads."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page = page
        self.folder = folder
        self.state = page.locator("#state")
        self.banner = page.locator("#banner")
        self.events = page.locator("#events .words")

    def row(self, title: str) -> Locator:
        """Return the rows of the living processes with this title."""
        found = self.page.locator(".node[data-key]")
        return found.filter(has=self.page.locator(f'.title:text-is("{title}")'))

    def pid_of(self, title: str) -> str:
        return self.row(title).first.locator(".pid").text_content() or ""

    def act(self, title: str, action: str) -> str:
        """Press the button of an action on a process. Return the pid of the process."""
        pid = self.pid_of(title)
        self.row(title).first.locator(".title").click()
        self.page.locator("#process").get_by_role("button", name=action, exact=True).click()
        return pid

    def reads(self, words: str | re.Pattern[str]) -> None:
        """Wait until the list of events has these words."""
        expect(self.events.filter(has_text=words).first).to_be_visible()

    def picture(self, name: str) -> None:
        self.page.screenshot(path=self.folder / f"{name}.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wanted = os.environ.get("ASHTREE_SCREENSHOTS")
    folder = Path(wanted) if wanted else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(
        viewport=ViewportSize(width=1380, height=860), color_scheme="light"
    )
    context.set_default_timeout(PATIENCE * 1000)
    yield context
    context.close()


@pytest.fixture
def observer(context: BrowserContext, server: Server, pictures: Path) -> Iterator[Observer]:
    errors: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{server.url}{PATH}?token={TOKEN}")
    yield Observer(page, pictures)
    assert errors == []


@pytest.fixture
def talker(context: BrowserContext, server: Server) -> Page:
    page = context.new_page()
    page.goto(f"{server.url}/phoenix/phoenix.mjs")
    page.evaluate(_TALK)
    page.wait_for_function("window.joins.length === 1")
    return page


def test_a_killed_channel_vanishes_and_its_client_returns(observer: Observer, talker: Page) -> None:
    expect(observer.state).to_have_text("Live")
    title = "RoomChannel 'room:lobby'"
    expect(observer.row(title)).to_have_count(1)
    expect(observer.page.locator(".figure").nth(1)).to_contain_text(re.compile(r"[1-9]\d* pushes"))
    observer.picture("1-live")
    pid = observer.act(title, "Kill")
    observer.picture("2-killed")
    expect(observer.page.locator(".node[data-key]", has_text=pid)).to_have_count(0)
    observer.reads(f"{title} {pid}, a child of UserSocket channels ")
    talker.wait_for_function("window.joins.length === 2")
    observer.reads("A client has joined room:lobby again")
    expect(observer.row(title)).to_have_count(1)
    assert observer.pid_of(title) == f"<pid {talker.evaluate('window.joins[1]')}>"
    observer.picture("3-back")


def test_a_killed_pubsub_takes_along_what_was_started_after_it(
    observer: Observer, talker: Page
) -> None:
    """The endpoint and its observer end too. The page reports the interruption, and all clients join again."""
    expect(observer.row("pubsub")).to_have_count(1)
    expect(observer.row("RoomChannel 'room:lobby'")).to_have_count(1)
    before = {title: observer.pid_of(title) for title in ("pubsub", "endpoint", "till")}
    observer.act("pubsub", "Kill")
    observer.reads(re.compile(r"live <pid \d+> stopped endpoint"))
    observer.reads("started pubsub <pid")
    observer.reads(re.compile(r"\(rest_for_one, \w+ restart in 5 s, 5 allowed\)"))
    expect(observer.state).to_have_text("Live")
    expect(observer.banner).to_be_hidden()
    wait_until(lambda: observer.pid_of("endpoint") not in {"", before["endpoint"]})
    after = {title: observer.pid_of(title) for title in before}
    assert after["pubsub"] != before["pubsub"]
    assert after["endpoint"] != before["endpoint"]
    assert after["till"] == before["till"]
    expect(observer.row("endpoint").locator(".again")).to_have_text(re.compile(r"restarted \d×"))
    # The client joins again, and its messages go through the new pubsub.
    talker.wait_for_function("window.joins.length === 2")
    expect(observer.row("RoomChannel 'room:lobby'")).to_have_count(1)
    expect(observer.page.locator(".figure").nth(1)).to_contain_text(re.compile(r"[1-9]\d* pushes"))
    expect(observer.page.locator(".node.gone")).to_have_count(0)
    observer.picture("4-rest-for-one")
    observer.page.set_viewport_size(ViewportSize(width=1180, height=700))
    observer.picture("observer")


def test_an_exceeded_intensity_escalates_to_the_supervisor_above(observer: Observer) -> None:
    shop = observer.pid_of("shop")
    till = observer.act("till", "Kill")
    expect(observer.row("till")).not_to_contain_text(till)
    observer.reads("(one_for_one, 1st restart in 60 s, 1 allowed)")
    panel = observer.page.locator("#process")
    expect(panel).to_contain_text("This process has ended. Its replacement is <pid")
    expect(panel.locator("dd").first).to_have_text("ended")
    panel.locator("p.ended button").click()
    expect(panel.locator("h2")).to_have_text(f"till {observer.pid_of('till')}")
    expect(panel.locator("dd").first).to_have_text("waiting")
    observer.act("till", "Kill")
    observer.reads(re.compile(r"shop <pid \d+> gave up because of till"))
    observer.reads("2nd restart in 60 s, 1 allowed")
    observer.reads("Supervisor <pid 1> started shop <pid")
    expect(observer.row("shop")).not_to_contain_text(shop)
    observer.picture("5-escalation")


def test_the_page_says_that_the_server_is_gone_and_comes_back_with_it(
    observer: Observer, server: Server
) -> None:
    page = observer.page
    expect(observer.state).to_have_text("Live")
    expect(observer.row("endpoint")).to_have_count(1)
    page.get_by_role("tab", name="Timeline").click()
    followed, viewer = page.locator("#followed"), page.frame_locator("#frame")
    expect(followed).to_contain_text("Live")
    server.kill()
    expect(observer.state).to_have_text("No server")
    expect(observer.banner).to_contain_text(
        re.compile(r"connection to the server is lost.* What you see is \d+ s old")
    )
    expect(followed).to_contain_text("Stale: no records for")
    observer.picture("6-no-server")
    server.start()
    expect(observer.state).to_have_text("Live")
    expect(observer.banner).to_be_hidden()
    expect(followed).to_contain_text("Live")
    expect(viewer.locator("#tree")).to_contain_text("endpoint")
    page.get_by_role("tab", name="Now").click()
    observer.reads("The observer has started")
    expect(observer.row("endpoint")).to_have_count(1)
    expect(page.locator("#events .gap").first).to_be_visible()
    observer.picture("7-server-back")


def test_a_late_server_is_said_to_be_late(
    context: BrowserContext, observer: Observer, server: Server
) -> None:
    """A suspended program keeps its connections, and sends nothing."""
    expect(observer.state).to_have_text("Live")
    os.kill(server.pid, signal.SIGSTOP)
    try:
        expect(observer.state).to_have_text("Late")
        expect(observer.banner).to_contain_text("has sent no news for a while")
    finally:
        os.kill(server.pid, signal.SIGCONT)
    expect(observer.state).to_have_text("Live")


def answer(url: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize(
    "rest", ["", "/", "/page.js", "/phoenix.mjs", "/ticket", "?token=", "?token=wrong-token"]
)
def test_nothing_is_served_without_the_token(server: Server, rest: str) -> None:
    status, text = answer(f"{server.url}{PATH}{rest}")
    assert status == 403
    assert "This page needs a token" in text
    status, _ = answer(f"{server.url}{PATH}{rest}", Cookie=f"{cookie_name(TOKEN)}=wrong-token")
    assert status == 403


def test_a_page_of_another_origin_gets_no_ticket_and_no_socket(
    context: BrowserContext, observer: Observer, server: Server
) -> None:
    expect(observer.state).to_have_text("Live")
    stranger = context.new_page()
    # The same server under another name is another origin, so the browser does not send the cookie there.
    stranger.goto(f"http://localhost:{server.port}/phoenix/phoenix.mjs")
    assert stranger.evaluate(
        """async (url) => {
            try {
                const options = { method: "POST", credentials: "include" }
                return (await fetch(url, options)).status
            } catch { return "blocked" }
        }""",
        f"{server.url}{PATH}/ticket",
    ) in {403, "blocked"}
    assert (
        stranger.evaluate(
            """(url) => new Promise((done) => {
                const socket = new WebSocket(url)
                socket.onopen = () => done("open")
                socket.onclose = () => done("refused")
            })""",
            f"ws://127.0.0.1:{server.port}{PATH}/socket/websocket?vsn=2.0.0",
        )
        == "refused"
    )


def test_the_page_fits_a_phone_and_the_dark(observer: Observer, talker: Page) -> None:
    page = observer.page
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    observer.row("RoomChannel 'room:lobby'").locator(".title").click()
    expect(page.locator("#process dl")).to_be_visible()
    for width in (420, 1380):
        page.set_viewport_size(ViewportSize(width=width, height=860))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        tops = [page.locator(place).bounding_box() for place in ("#events", "#tree")]
        assert tops[0] is not None
        assert tops[1] is not None
        # On a phone, what happened comes before the processes.
        assert (tops[0]["y"] < tops[1]["y"]) is (width == 420)
        observer.picture(f"8-{width}")


def test_the_tree_works_with_the_keyboard_and_the_search(observer: Observer) -> None:
    page = observer.page
    expect(observer.row("endpoint")).to_have_count(1)
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("flush")
    expect(observer.row("flusher")).to_have_count(1)
    expect(observer.row("listener")).to_have_count(0)
    page.locator("#search").fill("")
    # The processes of the endpoint itself are one closed row below those of the application.
    expect(observer.row("UserSocket channels")).to_have_count(1)
    expect(observer.row("listener")).to_have_count(0)
    observer.row("Ashtree's own processes").click()
    expect(observer.row("listener")).to_have_count(1)
    page.locator("#tree").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#process h2")).to_contain_text("shop")
    page.keyboard.press("ArrowLeft")
    expect(observer.row("till")).to_have_count(0)
    page.keyboard.press("ArrowRight")
    expect(observer.row("till")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("#process")).to_be_hidden()


def test_the_timeline_is_live_until_the_user_stops_it_and_goes_on(
    observer: Observer, talker: Page
) -> None:
    page = observer.page
    title = "RoomChannel 'room:lobby'"
    expect(observer.row(title)).to_have_count(1)
    observer.act(title, "Kill")
    talker.wait_for_function("window.joins.length === 2")
    page.get_by_role("tab", name="Timeline").click()
    followed, viewer = page.locator("#followed"), page.frame_locator("#frame")
    expect(followed).to_contain_text("Live")
    expect(viewer.locator("#tree")).to_contain_text("RoomChannel room:lobby")
    expect(viewer.locator("#tree")).not_to_contain_text("ChannelServer")
    expect(viewer.locator("#faults")).to_contain_text(f"kill {title}")
    moment = viewer.locator("#moment")
    before = moment.text_content() or ""
    expect(moment).not_to_have_text(before)
    observer.picture("9-timeline-live")
    # Looking back stops the timeline.
    viewer.get_by_label("Moment", exact=True).fill("0")
    expect(followed).to_contain_text(re.compile(r"Stopped at .* What happened after that is not"))
    stopped = moment.text_content() or ""
    expect(followed).to_contain_text(re.compile(r", [2-9] s ago"))
    expect(moment).to_have_text(stopped)
    expect(viewer.locator("#tree")).not_to_contain_text("RoomChannel room:lobby")
    observer.picture("9-timeline-stopped")
    page.get_by_role("button", name="Go on to live").click()
    expect(followed).to_contain_text("Live")
    expect(moment).not_to_have_text(stopped)
    page.get_by_role("tab", name="Now").click()
    expect(observer.row("endpoint")).to_be_visible()


# Joins as many topics as it is told to. Then each channel crashes once, and phoenix.js joins it again.
_CRASH_ALL = """async (topics) => {
    const { Socket } = await import("/phoenix/phoenix.mjs")
    window.joins = 0
    let socket
    for (let number = 0; number < topics; number++) {
        if (number % 50 === 0) {
            socket = new Socket("/socket", { rejoinAfterMs: () => 10 })
            socket.connect()
        }
        const room = socket.channel(`room:${number}`, { name: "crasher" })
        let has_crashed = false
        room.join().receive("ok", () => {
            window.joins += 1
            if (!has_crashed) room.push("crash", {})
            has_crashed = true
        })
    }
}"""


def test_the_timeline_survives_more_joins_and_crashes_than_a_part_has_rows(
    observer: Observer, context: BrowserContext, server: Server
) -> None:
    crasher = context.new_page()
    crasher.goto(f"{server.url}/phoenix/phoenix.mjs")
    crasher.evaluate(_CRASH_ALL, 450)
    crasher.wait_for_function("window.joins === 900")
    page = observer.page
    page.get_by_role("tab", name="Timeline").click()
    expect(page.locator("#followed")).to_contain_text("Live")
    viewer = page.frame_locator("#frame")
    expect(viewer.locator("#tree")).to_contain_text("RoomChannel")
    moment = viewer.locator("#moment")
    before = moment.text_content() or ""
    expect(moment).not_to_have_text(before)
    assert "NaN" not in (moment.text_content() or "")
    observer.picture("10-timeline-after-900-joins")
