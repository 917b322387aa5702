"""The pages of the small examples in a real browser. `make pictures` runs these tests to take its pictures."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
import trio
from playwright.sync_api import Browser, Page, ViewportSize, expect

from channels import sign
from channels.client import open_socket
from examples.auction import schedule
from examples.news.publish import publish as news_publish
from examples.sensors.device import watch_room
from tests.examples import pictures
from tests.integration.browsers import chromium
from tests.integration.servers import ROOT, Server, serving
from tests.patience import PATIENCE

SECRET = "the secret of the servers of these tests, which is long enough"
DESK = ViewportSize(width=960, height=540)
PHONE = ViewportSize(width=360, height=740)

Served: TypeAlias = Callable[[str], Server]
OpenPage: TypeAlias = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Start the server of an example at its first use. Stop all servers at the end of the module."""
    servers: dict[str, Server] = {}
    with contextlib.ExitStack() as stack:

        def serve(module: str) -> Server:
            if module not in servers:
                folder = tmp_path_factory.mktemp(module)
                servers[module] = stack.enter_context(
                    serving(
                        module,
                        folder,
                        {
                            "SECRET_KEY_BASE": SECRET,
                            "DOCUMENT": str(folder / "document.db"),
                            "AUCTIONS": str(folder / "auctions.db"),
                            "NOTICES": str(folder / "notices.db"),
                            "ASHTREE_ENV": "development",  # turns the development page on
                        },
                    )
                )
            return servers[module]

        yield serve


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[OpenPage]:
    """Open each page in its own browser context. After the test, check that no page had an error."""
    pages: list[Page] = []
    errors: list[str] = []

    def open_one(url: str, state: str = "Connected", size: ViewportSize = DESK) -> Page:
        page = browser.new_context(viewport=size).new_page()
        pages.append(page)
        page.set_default_timeout(PATIENCE * 1000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        if state:
            expect(page.locator("#state")).to_have_text(state)
        return page

    yield open_one
    for number, page in enumerate(pages):
        page.screenshot(path=tmp_path / f"page-{number}.png")
        page.context.close()
    assert errors == []


def fits(page: Page) -> bool:
    """Return True if the page is no wider than the window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def log_in(page: Page, user: str) -> None:
    page.get_by_label("Your name").fill(user)
    page.get_by_label("Your name").press("Enter")
    expect(page.locator("#state")).to_have_text("Connected")


def say(page: Page, body: str) -> None:
    page.get_by_label("Message").fill(body)
    page.get_by_label("Message").press("Enter")


def test_two_users_log_in_and_talk_under_the_names_of_their_tokens(
    served: Served, open_page: OpenPage
) -> None:
    url = served("examples.token_chat").url
    ann, bob = open_page(url, state=""), open_page(url, state="", size=PHONE)
    log_in(ann, "Ann")
    log_in(bob, "Bob")
    expect(ann.locator("#transcript")).to_contain_text("Bob has joined.")
    expect(ann.locator("#steps .done")).to_have_count(4)
    say(ann, "Hello <b>Bob</b>")
    expect(bob.locator("#transcript .message")).to_have_text("Ann: Hello <b>Bob</b>")
    say(bob, "Hello Ann, how do you know me?")
    say(ann, "The server has signed your name.")
    expect(ann.locator("#transcript .message")).to_have_count(3)
    assert fits(bob)
    pictures.take(ann, "token_chat")

    # A log-out in one tab closes the socket. A reload then shows the log-in form.
    bob.get_by_role("button", name="Log out").click()
    expect(bob.get_by_label("Your name")).to_be_visible()
    say(ann, "Are you there?")
    expect(ann.locator("#transcript .message")).to_have_count(4)


def open_auction(server: Server, title: str) -> None:
    """Open an auction from outside the server."""

    async def open_it() -> None:
        url = server.socket_url.replace("/socket", "/scheduler")
        async with (
            open_socket(url, auth_token=sign(SECRET, "scheduler", "")) as socket,
            socket.channel("auctions") as hall,
        ):
            await schedule.open_auction(hall, title, 10, 60.0)

    trio.run(open_it)


def bid(page: Page, amount: int) -> None:
    page.get_by_label("Your bid").fill(str(amount))
    page.get_by_role("button", name="Bid").click()


def test_bidders_see_each_bid_and_why_a_bid_is_refused(served: Served, open_page: OpenPage) -> None:
    server = served("examples.auction")
    open_auction(server, "A map of the old city")
    ann, bob = open_page(server.url, state=""), open_page(server.url, state="", size=PHONE)
    log_in(ann, "Ann")
    log_in(bob, "Bob")
    expect(ann.locator("#bidders li")).to_have_text(["Ann", "Bob"])
    bid(ann, 20)
    expect(bob.locator("#leader")).to_have_text("Leading: Ann")
    bid(bob, 45)
    # A bid of somebody else changes the amount that Ann's page proposes, so it must not come while she types.
    expect(ann.locator("#leader")).to_have_text("Leading: Bob")
    bid(ann, 45)
    expect(ann.locator("#answer")).to_have_text("Refused: the price is 45 already")
    bid(ann, 60)
    expect(bob.locator("#bids li")).to_have_text(["Ann60", "Bob45", "Ann20"])
    expect(ann.locator("#leader")).to_have_text("Leading: you")
    expect(ann.locator("#countdown")).to_contain_text("s left")
    assert fits(bob)
    pictures.take(ann, "auction")

    # The page follows the scheduler only when its auction is over.
    open_auction(server, "A chair of ash wood")
    expect(ann.locator("#auctions li").first).to_have_text("A chair of ash wood")
    expect(ann.locator("#title")).to_have_text("A map of the old city")
    ann.get_by_role("button", name="A chair of ash wood").click()
    expect(ann.locator("#leader")).to_have_text("No bid yet")


def test_readers_get_the_stories_of_a_program_outside_and_of_their_sections_only(
    served: Served, open_page: OpenPage
) -> None:
    server = served("examples.news")
    ann, bob = open_page(server.url), open_page(server.url, size=PHONE)
    bob.get_by_label("Sport").uncheck()

    def publish(section: str, headline: str) -> None:
        trio.run(news_publish, server.socket_url, SECRET, section, headline)

    publish("science", "Ash trees warn each other of beetles")
    publish("sport", "Ash wins the cup after extra time")
    publish("world", "City plants a thousand trees in one night")
    headlines = ".headline"
    expect(bob.locator(headlines)).to_have_text(
        ["City plants a thousand trees in one night", "Ash trees warn each other of beetles"]
    )
    expect(ann.locator(headlines)).to_have_count(3)
    assert fits(bob)
    pictures.take(ann, "news")

    bob.get_by_label("Sport").check()
    expect(bob.locator(headlines).nth(1)).to_have_text("Ash wins the cup after extra time")


# Returns the place and the coins of this page's player.
_MINE = """() => {
    const me = document.querySelector("#board .me")
    const coins = document.querySelector("#players li b").textContent
    return me && [me.style.getPropertyValue("--x"), me.style.getPropertyValue("--y"), coins]
}"""

# Note the lists of players that the page shows from now on.
_NOTE_PLAYERS = """() => {
    const list = document.getElementById("players")
    window.players = []
    new MutationObserver(() => window.players.push(list.textContent)).observe(list, { childList: true })
}"""


def test_a_player_who_crashes_comes_back_to_the_same_place_with_the_same_coins(
    served: Served, open_page: OpenPage
) -> None:
    url = served("examples.game").url
    ann = open_page(f"{url}/?name=Ann", size=ViewportSize(width=960, height=620))
    # Move to the corner from any place, and then to a known place. No other player is in the way yet.
    for keys, place in (
        (["ArrowLeft"] * 9 + ["ArrowUp"] * 5, "--x: 0; --y: 0;"),
        (["ArrowRight"] * 3 + ["ArrowDown"] * 2, "--x: 3; --y: 2;"),
    ):
        for key in keys:
            ann.keyboard.press(key)
        expect(ann.locator("#board .me")).to_have_attribute("style", re.compile(place))
    bob = open_page(f"{url}/?name=Bob", size=PHONE)
    expect(bob.locator("#players li")).to_have_count(2)
    expect(ann.locator("#players li")).to_have_count(2)
    before = ann.evaluate(_MINE)
    game = ann.locator("#game").text_content() or ""
    channel = ann.locator("#channel").text_content() or ""

    # phoenix.js joins again after a second, so the state could pass between two looks at the page.
    bob.evaluate(_NOTE_PLAYERS)
    ann.get_by_role("button", name="Crash my channel").click()
    bob.wait_for_function("window.players.some((text) => text.includes('Ann, away'))")
    expect(ann.locator("#lesson")).to_contain_text("You are back in the same game")
    expect(ann.locator("#channel")).not_to_have_text(channel)
    expect(ann.locator("#game")).to_have_text(game)
    assert ann.evaluate(_MINE) == before
    expect(bob.locator("#players")).not_to_contain_text("away")
    assert fits(bob)
    pictures.take(ann, "game")


def test_motion_of_a_polling_sensor_lights_a_lamp_until_the_sensor_reports_too_often(
    served: Served, open_page: OpenPage
) -> None:
    server = served("examples.sensors")
    ann, bob = open_page(server.url), open_page(server.url, size=PHONE)
    assert trio.run(partial(watch_room, f"{server.url}/devices", "porch", 1, pause=0)) == 0
    for page in (ann, bob):
        expect(page.locator("#lamps")).to_contain_text("porchlit, dark in")
    bob.get_by_role("button", name="Hold on the lamp in the kitchen").click()
    expect(ann.locator("#lamps")).to_contain_text("kitchenheld on")
    motion = ann.get_by_role("button", name="Motion in the hall")
    for _ in range(8):
        motion.click()
    expect(ann.locator("#answer")).to_have_text(
        re.compile(r"Refused: rate limited\. The next .* s")
    )
    expect(ann.locator("#lamps")).to_contain_text("halllit, dark in")
    assert fits(bob)
    pictures.take(ann, "sensors")


def test_a_changed_style_sheet_applies_without_a_reload(
    open_page: OpenPage, tmp_path: Path
) -> None:
    folder = tmp_path / "page"
    shutil.copytree(ROOT / "examples/live_css/page", folder)
    with serving("examples.live_css", tmp_path, arguments=[str(folder)]) as server:
        ann = open_page(server.url, state="")
        expect(ann.locator("body")).to_have_attribute("data-live", "joined")
        ann.get_by_label("Type something").fill("This text stays.")
        poster = ann.locator(".poster")
        expect(poster).to_have_css("background-color", "rgb(53, 82, 143)")
        theme = folder / "theme.css"
        theme.write_text(theme.read_text().replace("#35528f", "#7a2f5c"))
        expect(poster).to_have_css("background-color", "rgb(122, 47, 92)")
        expect(ann.locator("link[href*='theme.css']")).to_have_count(1)
        expect(ann.get_by_role("log")).to_contain_text("/theme.css")
        expect(ann.get_by_label("Type something")).to_have_value("This text stays.")
        pictures.take(ann, "live_css")


# Accessibility, with axe-core, and the pictures of the larger examples

AXE = ROOT / "tests/integration/node/node_modules/axe-core/axe.min.js"

# Returns each problem that axe-core finds, with the elements that have the problem.
_PROBLEMS = """async () => {
    const { violations } = await axe.run({ resultTypes: ["violations"] })
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, any }) =>
        html + " " + any.map(({ message }) => message).join(" ")).join(" | ")}`)
}"""


def show_chat(page: Page) -> None:
    page.get_by_role("textbox", name="Message, as").fill("Shall I press the button?")
    page.keyboard.press("Enter")
    expect(page.locator("#transcript")).to_contain_text("Shall I press")
    page.get_by_role("button", name="Crash my channel").click()
    expect(page.locator("#verdict")).to_contain_text("Back after")


def show_map(page: Page) -> None:
    expect(page.locator("#map .vehicle")).to_have_count(12)


def show_document(page: Page) -> None:
    page.get_by_role("group", name="Text").get_by_role("textbox").first.fill(
        "A text of many hands."
    )
    expect(page.locator("#unsaved")).to_have_text("Saved")


def show_login(page: Page) -> None:
    expect(page.get_by_label("Your name")).to_be_visible()


def show_token_chat(page: Page) -> None:
    log_in(page, "Ann")
    say(page, "Hello")
    expect(page.locator("#transcript")).to_contain_text("Hello")


def show_auction(page: Page) -> None:
    log_in(page, "Ann")
    expect(page.locator("#state")).to_have_text("Connected")


def show_game(page: Page) -> None:
    expect(page.locator("#players li")).not_to_have_count(0)


def show_news(page: Page) -> None:
    expect(page.locator("#state")).to_have_text("Connected")


def show_sensors(page: Page) -> None:
    page.get_by_role("button", name="Hold on the lamp in the hall").click()
    expect(page.locator("#lamps")).to_contain_text("hallheld on")


def show_live_css(page: Page) -> None:
    expect(page.locator("body")).to_have_attribute("data-live", "joined")


def show_development_page(page: Page) -> None:
    expect(page.locator("main")).to_contain_text("room:*")


def show_observer(page: Page) -> None:
    expect(page.locator("body")).to_contain_text("till")


@pytest.mark.parametrize("scheme", ["dark", pytest.param("light", marks=pytest.mark.deep)])
@pytest.mark.parametrize(
    ("where", "show"),
    [
        (("examples.chat", "/"), show_chat),
        (("examples.vehicles", "/"), show_map),
        (("examples.document", "/"), show_document),
        (("examples.token_chat", "/"), show_login),
        (("examples.token_chat", "/"), show_token_chat),
        (("examples.auction", "/"), show_login),
        (("examples.auction", "/"), show_auction),
        (("examples.news", "/"), show_news),
        (("examples.game", "/"), show_game),
        (("examples.sensors", "/"), show_sensors),
        (("examples.live_css", "/"), show_live_css),
        (("examples.chat", "/_ashtree"), show_development_page),
        (
            ("tests.integration.observed_chat", "/_ashtree/observer?token=observer-token"),
            show_observer,
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_axe_finds_no_problem(
    served: Served,
    open_page: OpenPage,
    where: tuple[str, str],
    show: Callable[[Page], None],
    scheme: str,
) -> None:
    module, path = where
    page = open_page(f"{served(module).url}{path}", state="")
    show(page)
    name = module.rpartition(".")[2]
    if path == "/" and name in ("chat", "vehicles", "document"):
        pictures.take(page, name)
    page.evaluate(AXE.read_text())
    if scheme == "dark":
        page.set_viewport_size(PHONE)
        page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    problems = page.evaluate(_PROBLEMS)
    assert problems == []
    assert fits(page)


# Returns the top and the height of each panel of the chat.
_PANELS = """() => ["talk", "process", "recovery"].map((id) => {
    const { top, height } = document.getElementById(id).getBoundingClientRect()
    return [id, Math.round(top), Math.round(height)]
})"""

# Notes each different place of the panels, and each empty line of the recovery, from now on.
_WATCH_PANELS = f"""() => {{
    const panels = {_PANELS}
    window.seen = new Set()
    const look = () => {{
        window.seen.add(JSON.stringify(panels()))
        for (const id of ["verdict", "other"]) {{
            if (document.getElementById(id).textContent === "") window.seen.add(`${{id}} is empty`)
        }}
        requestAnimationFrame(look)
    }}
    look()
}}"""


def test_the_panels_of_the_chat_stay_where_they_are_while_a_channel_crashes(
    served: Served, open_page: OpenPage
) -> None:
    url = served("examples.chat").url
    page = open_page(url, size=ViewportSize(width=960, height=740))
    other = open_page(url)
    film = pictures.Film(page, "crash")
    hear = partial(expect(page.locator("#transcript")).to_contain_text)

    def tell(words: str) -> None:
        other.get_by_role("textbox", name="Message, as").fill(words)
        other.keyboard.press("Enter")
        hear(words)

    tell("Is each tab a process of its own?")
    page.get_by_role("textbox", name="Message, as").fill("Yes. I crash mine now.")
    film.run(2)
    page.keyboard.press("Enter")
    hear("I crash mine now")
    page.evaluate(_WATCH_PANELS)
    film.run(1.2)
    page.get_by_role("button", name="Crash my channel").click()
    film.run(2)
    expect(page.locator("#verdict")).to_contain_text("Back after")
    film.run(1)
    tell("My process has not noticed, and you are back.")
    expect(page.locator("#other")).to_contain_text("since your crash")
    film.run(2)
    film.save()
    dot = page.evaluate(
        "(({ width, height }) => [width, height])(getComputedStyle(document.getElementById('state'), '::before'))"
    )
    assert dot[0] == dot[1]
    seen = page.evaluate("[...window.seen]")
    assert len(seen) == 1, seen


def test_a_phone_shows_the_crash_button_the_transcript_and_the_recovery_together(
    served: Served, open_page: OpenPage
) -> None:
    url = served("examples.chat").url
    page, other = open_page(url, size=PHONE), open_page(url)

    def hear_the_other(words: str) -> None:
        other.get_by_role("textbox", name="Message, as").fill(words)
        other.keyboard.press("Enter")
        expect(page.locator("#transcript")).to_contain_text(words)

    hear_the_other("I am here")
    show_chat(page)
    hear_the_other("I went on")
    expect(page.locator("#other")).to_contain_text("1 message since your crash")
    assert page.evaluate("scrollY") == 0
    for part in ("#recovery", "#other", "#transcript", "#crash"):
        box = page.locator(part).bounding_box()
        assert box is not None
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= PHONE["height"]
        assert box["height"] > (15 if part == "#other" else 40)


def test_supabases_client_shows_cursors_a_chat_people_and_changes_of_a_table(
    served: Served, open_page: OpenPage, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = served("examples.supabase").url
    ann, bob = open_page(f"{url}/?name=Ann"), open_page(f"{url}/?name=Bob", size=PHONE)
    for each in (ann, bob):
        expect(each.locator("#people li")).to_have_text(["Ann", "Bob"])

    ann.locator("#field").hover(position={"x": 100, "y": 50})
    expect(bob.locator("#field .cursor")).to_have_text("Ann")

    say(ann, "Hello Bob")
    say(bob, "Hello Ann, my client comes from supabase")
    for each in (ann, bob):
        expect(each.locator("#transcript li")).to_have_text(
            ["Ann: Hello Bob", "Bob: Hello Ann, my client comes from supabase"]
        )
    # A page that comes later gets the stored messages.
    carl = open_page(f"{url}/?name=Carl")
    expect(carl.locator("#transcript li")).to_have_count(2)

    notices = next(tmp_path_factory.getbasetemp().glob("examples.supabase*/notices.db"))
    with contextlib.closing(sqlite3.connect(notices)) as database, database:
        database.execute("insert into notices (text) values ('Lunch is ready')")
    for each in (ann, bob, carl):
        expect(each.locator("#notices li")).to_have_text("Lunch is ready")
    assert fits(bob)
    bob.locator("#field").hover(position={"x": 200, "y": 100})
    expect(ann.locator("#field .cursor")).to_have_text("Bob")
    pictures.take(ann, "supabase")

    carl.goto("about:blank")
    expect(ann.locator("#people li")).to_have_text(["Ann", "Bob"])
