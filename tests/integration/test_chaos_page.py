"""The page of a run, in a real browser, from a file and without a network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from supervision.histories import Fate, Operation, lanes
from supervision.recording.reader.page import write_page
from tests.integration.browsers import chromium
from tests.patience import PATIENCE
from tests.supervision.laboratory.chaos.traces import CRASH, KILLED, HandMade

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Page]:
    """A tab for all tests, because a new one starts a process. Each test goes to a page of its own."""
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    yield page
    context.close()


@pytest.fixture
def open_page(tab: Page, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Write the page of a trace, and open it. At the end, the page must have sent no request and have no error."""
    file = tmp_path / "page.html"
    asked: list[str] = []
    wrong: list[str] = []
    failed_before = request.session.testsfailed
    listeners: dict[Any, Callable[[Any], None]] = {
        "request": lambda request: asked.append(request.url),
        "pageerror": lambda error: wrong.append(str(error)),
        "console": lambda message: wrong.append(message.text),
        "dialog": lambda dialog: wrong.append(dialog.message),
    }
    for event, listener in listeners.items():
        tab.on(event, listener)
    tab.set_viewport_size(ViewportSize(width=1300, height=800))
    tab.emulate_media(color_scheme="light")

    def open_one(trace: HandMade, *, title: str = "a run", subtitle: str = "seed 7") -> Page:
        write_page(trace.lines, file, title=title, subtitle=subtitle)
        tab.goto(file.as_uri())
        return tab

    yield open_one
    if request.session.testsfailed > failed_before:
        tab.screenshot(path=tmp_path / "page.png")
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)
    assert wrong == []
    assert asked == [file.as_uri()]


def shop() -> HandMade:
    """A shop whose counter is killed, takes its till along, and is back after a quarter of a second."""
    trace = HandMade()
    trace.spawned(0, 1, "/shop")
    trace.spawned(0, 2, "/shop/counter", parent=1)
    trace.spawned(0, 3, "/shop/till", parent=1)
    for tick in range(10):
        sent = trace.sent(tick / 5, 3, f"('pay', {tick})", pid=2)
        trace.received(tick / 5 + 0.05, 3, cause=sent)
    trace.add(0, "steady", pid=None, name="open", holds=True)
    trace.sent(3.9, 3, "('pay', 'late')", pid=2)
    kill = trace.fault(4, "kill /shop/counter at 2 s", pid=2, path="/shop/counter")
    end = trace.exited(4, 2, KILLED, cause=kill)
    trace.exited(4, 3, KILLED, cause=end)
    trace.add(4, "steady", pid=None, name="open", holds=False, problem="closed")
    trace.spawned(4.25, 4, "/shop/counter", parent=1, inc=2)
    trace.child(4.25, "child_restarted", 4, "counter")
    trace.spawned(4.5, 5, "/shop/till", parent=1, inc=2)
    trace.child(4.5, "child_restarted", 5, "till")
    trace.add(4.5, "steady", pid=None, name="open", holds=True)
    trace.fault(
        9, "kill /shop/ghost at 7 s", path="/shop/ghost", status="not_applicable", why="gone"
    )
    trace.add(9, "note", text="what was sold", bread="7")
    trace.phases(0, 2, 8, 10)
    return trace


def tree_at(page: Page, seconds: float) -> list[str]:
    """The lines of the tree at a moment of a run of ten seconds."""
    page.get_by_label("Moment", exact=True).fill(str(round(seconds * 100)))
    expect(page.locator("#moment")).to_have_text(f"{seconds:.3f} s")
    return [line.strip() for line in page.locator("#tree > div").all_text_contents()]


def test_the_page_shows_the_figures_above_the_timeline(open_page: Open) -> None:
    page = open_page(shop(), title="the shop", subtitle="seed 7")
    assert page.title() == "the shop"
    expect(page.locator("#subtitle")).to_have_text("seed 7")
    expect(page.locator("#verdict")).to_have_text("steady state came back")
    figures = page.locator(".figure")
    expect(figures.nth(0).locator(".value")).to_have_text("1 of 2")
    expect(figures.nth(1)).to_contain_text("A fault took at most 1 other process along.")
    expect(figures.nth(2).locator(".value")).to_have_text("250 ms median")
    expect(figures.nth(3).locator(".value")).to_have_text("2 by supervisors")
    expect(figures.nth(4)).to_contain_text("1 of 11")
    expect(figures.nth(4)).to_contain_text("1 in mailboxes")
    expect(figures.nth(5).locator(".value")).to_have_text("91.7 %")
    expect(page.locator("#notes")).to_contain_text("what was sold: bread 7")
    expect(page.locator("#places")).to_contain_text("shop/counter")


def boxes(page: Page, *places: str) -> list[float]:
    """Return the tops of these elements on the page."""
    return [page.locator(place).evaluate("e => e.getBoundingClientRect().top") for place in places]


def test_a_phone_shows_the_timeline_before_the_figures(open_page: Open) -> None:
    page = open_page(shop())
    figures, timeline = boxes(page, "#figures", "#timeline")
    assert figures < timeline
    page.set_viewport_size(ViewportSize(width=390, height=844))
    figures, timeline = boxes(page, "#figures", "#timeline")
    assert timeline < figures


def test_a_run_in_which_nothing_ended_has_no_problems(open_page: Open) -> None:
    verdict = open_page(endpoint()).locator("#verdict")
    expect(verdict).to_have_text("no problems")
    expect(verdict).to_have_class("good")


def test_no_problems_never_stands_above_something_that_did_not_recover(open_page: Open) -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/shop")
    trace.spawned(0, 2, "/shop/till", parent=1)
    trace.exited(1, 2, CRASH)
    ended = {"id": "'till'", "component": "till", "child": 2, "restart_type": "permanent"}
    trace.add(1, "child_terminated", pid=1, stopped=False, exit="crash", reason=CRASH, **ended)
    trace.add(1, "gave_up", pid=1, exit="crash", reason=CRASH, **ended)
    verdict = open_page(trace).locator("#verdict")
    expect(verdict).to_have_text("1 supervisor gave up, 1 process not back")
    expect(verdict).to_have_class("bad")


def endpoint() -> HandMade:
    """An endpoint with a pool of channels, and with two processes of its own."""
    trace = HandMade()
    trace.spawned(0, 1, "/endpoint")
    trace.spawned(0, 2, "/endpoint/listener", parent=1)
    trace.spawned(0, 3, "/endpoint/connections", parent=1)
    trace.spawned(0, 4, "/endpoint/connections/Connection", parent=3)
    trace.spawned(0, 5, "/endpoint/UserSocket channels", parent=1)
    trace.spawned(0, 6, "/endpoint/UserSocket channels/0", parent=5)
    trace.spawned(0, 7, "/endpoint/UserSocket channels/0/Room", parent=6)
    trace.add(10, "note", text="the end")
    return trace


def test_the_endpoints_own_processes_are_one_folded_row_and_pools_name_their_members(
    open_page: Open,
) -> None:
    page = open_page(endpoint())
    channels = ["UserSocket channels", "UserSocket channels 0", "Room"]
    assert tree_at(page, 1.0) == ["endpoint", *channels, "Ashtree's own processes × 3"]
    page.get_by_text("unfold", exact=True).click()
    lines = [line.strip() for line in page.locator("#tree > div").all_text_contents()]
    own = ["listener", "connections", "Connection"]
    assert lines == ["endpoint", *channels, "Ashtree's own processes × 3", *own]


def test_the_page_shows_the_tree_at_any_moment(open_page: Open) -> None:
    page = open_page(shop())
    assert tree_at(page, 1.0) == ["shop", "counter", "till"]
    assert tree_at(page, 4.1) == ["shop", "countergone for 0.10 s", "tillgone for 0.10 s"]
    assert tree_at(page, 4.3) == ["shop", "counter #2back for 0.05 s", "tillgone for 0.30 s"]
    assert tree_at(page, 7.0) == ["shop", "counter #2", "till #2"]


def test_a_selected_fault_shows_the_processes_that_it_ended(open_page: Open) -> None:
    page = open_page(shop())
    page.locator("#faults tr[data-fault]").first.click()
    detail = page.locator("#detail")
    expect(detail).to_contain_text("kill /shop/counter at 2 s")
    expect(detail).to_contain_text("2 processes")
    expect(detail.locator("dd").filter(has_text="/shop/till")).to_be_visible()
    expect(detail).to_contain_text("all back")
    expect(page.locator("#moment")).to_have_text("4.000 s")
    expect(page.locator("#faults tr.picked")).to_have_count(1)
    expect(page.locator("#faults tr.inert")).to_contain_text("not applicable")
    page.keyboard.press("Escape")
    expect(detail).to_be_empty()


def test_the_keyboard_moves_from_fault_to_fault(open_page: Open) -> None:
    page = open_page(shop())
    tree_at(page, 1.0)
    page.locator("#timeline").focus()
    page.keyboard.press("]")
    expect(page.locator("#moment")).to_have_text("4.000 s")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#moment")).not_to_have_text("4.000 s")
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()


def test_a_clicked_process_shows_its_history(open_page: Open) -> None:
    page = open_page(shop())
    tree_at(page, 1.0)
    page.locator("#tree > div").filter(has_text="till").click()
    detail = page.locator("#detail")
    expect(detail).to_contain_text("/shop/till")
    expect(detail).to_contain_text("Reason.KILLED")
    expect(detail).to_contain_text("kill /shop/counter at 2 s")
    expect(detail).to_contain_text("by its supervisor")
    expect(detail).to_contain_text("11 received, 1 lost")


def picture(page: Page) -> bytes:
    page.wait_for_timeout(60)  # a frame or two, in which it is drawn
    return page.locator("#canvas").screenshot()


def test_the_controls_filter_the_drawing(open_page: Open) -> None:
    page = open_page(shop())
    seen = [picture(page)]
    for choice in ("all", "none"):
        page.get_by_label("Messages").select_option(choice)
        seen.append(picture(page))
    page.get_by_title("Zoom in").click()
    seen.append(picture(page))
    page.get_by_title("The whole run").click()
    page.locator("#canvas").click(position={"x": 60, "y": 125})  # the label of the shop folds it
    seen.append(picture(page))
    page.get_by_title("Light or dark").click()
    seen.append(picture(page))
    assert len(set(seen)) == len(seen)


def test_a_pointer_over_a_box_or_a_fault_shows_its_description(open_page: Open) -> None:
    page = open_page(shop())
    canvas = page.locator("#canvas")
    box = canvas.bounding_box()
    assert box is not None
    tip = page.locator("#tip")
    for y in range(90, 220, 6):
        page.mouse.move(box["x"] + 400, box["y"] + y)
        if "/shop/till" in (tip.text_content() or ""):
            break
    expect(tip).to_contain_text("/shop/till #1")
    expect(tip).to_contain_text("ended at 4.000 s")


def test_a_search_shows_matching_places_and_their_parents(open_page: Open) -> None:
    page = open_page(shop())
    before = picture(page)
    page.locator("#search").fill("TILL")
    expect(page.locator("#found")).to_have_text("2 places, 0 messages")
    assert picture(page) != before
    page.locator("#search").fill("'late'")
    expect(page.locator("#found")).to_have_text("3 places, 1 message")
    page.locator("#search").fill("nowhere")
    expect(page.locator("#found")).to_have_text("0 places, 0 messages")


def test_the_page_shows_text_of_a_run_as_text(open_page: Open) -> None:
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    trace = HandMade()
    trace.spawned(0, 1, f"/{hostile}")
    trace.sent(1, 1, f"'{hostile}'")
    trace.fault(2, f"crash {hostile}", pid=1, path=f"/{hostile}", type="crash", why=hostile)
    trace.exited(3, 1, CRASH)
    trace.add(3, "problem", pid=None, problem=hostile)
    trace.add(3, "note", text=hostile)
    trace.add(10, "note", text="the end")
    page = open_page(trace, title=hostile, subtitle=hostile)
    expect(page.locator("h1")).to_have_text(hostile)
    expect(page.locator("#problems")).to_have_text(hostile)
    assert tree_at(page, 1.0) == [hostile]
    page.locator("#tree > div").first.click()
    expect(page.locator("#detail h2")).to_have_text(f"/{hostile}")
    page.locator("#faults tr[data-fault]").first.click()
    expect(page.locator("#detail h2")).to_contain_text(hostile)
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2


def test_the_page_follows_the_colour_scheme_of_the_browser(open_page: Open) -> None:
    page = open_page(shop())
    root = page.locator("html")
    expect(root).to_have_attribute("data-theme", "light")
    page.emulate_media(color_scheme="dark")
    expect(root).to_have_attribute("data-theme", "dark")
    page.get_by_title("Light or dark").click()
    expect(root).to_have_attribute("data-theme", "light")


# Returns the colour of the page's cards, and the colour of the canvas at its lower right corner.
_CARD_AND_CANVAS = """() => {
    const pen = document.createElement("canvas").getContext("2d")
    pen.drawImage(canvas, 2 - canvas.width, 2 - canvas.height)
    const [red, green, blue] = pen.getImageData(0, 0, 1, 1).data
    return [getComputedStyle(document.querySelector("main")).backgroundColor, `rgb(${red}, ${green}, ${blue})`]
}"""


def test_the_timeline_is_drawn_in_the_colours_of_the_scheme(open_page: Open) -> None:
    page = open_page(shop())
    seen = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        expect(page.locator("html")).to_have_attribute("data-theme", scheme)
        page.evaluate("() => new Promise(requestAnimationFrame)")
        card, drawn = page.evaluate(_CARD_AND_CANVAS)
        assert drawn == card
        seen.add(card)
    assert len(seen) == 2


def processor_seconds(page: Page) -> float:
    """Processor time that the page has used. Unlike the time on a clock, it does not grow on a busy machine."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    metrics = session.send("Performance.getMetrics")["metrics"]
    session.detach()
    return next(float(each["value"]) for each in metrics if each["name"] == "ThreadTime")


def test_the_page_stays_fast_with_many_processes_and_messages(open_page: Open) -> None:
    trace = HandMade()
    trace.spawned(0, 1, "/top")
    for pid in range(2, 1002):
        trace.spawned(0, pid, f"/top/{'ab'[pid % 2]}", parent=1, inc=pid)
    for number in range(15_000):
        to = 2 + number % 1000
        sent = trace.sent(number / 1500, to, f"message {number}", pid=1)
        trace.received(number / 1500 + 0.01, to, cause=sent)
    for number in range(2000):
        pid = 2 + number
        trace.exited(10 + number / 200, pid, CRASH)
        trace.spawned(10 + number / 200, pid + 1000, f"/top/{'ab'[pid % 2]}", parent=1, inc=9999)
    page = open_page(trace)
    page.get_by_label("Messages").select_option("all")
    before = processor_seconds(page)
    page.evaluate(
        """async () => {
            const frame = () => new Promise(requestAnimationFrame)
            for (let step = 0; step < 10; step++) {
                document.getElementById(step < 5 ? "in" : "out").click()
                await frame(); await frame()
            }
        }"""
    )
    took = processor_seconds(page) - before
    assert took < 1, f"ten frames took {took} s of the processor"
    expect(page.locator("#tree")).to_contain_text(re.compile(r"a × 500"))


@pytest.mark.parametrize("width", [420, 1300])
def test_the_page_does_not_get_wider_than_its_window(open_page: Open, width: int) -> None:
    page = open_page(shop(), title="t" * 200)
    page.set_viewport_size(ViewportSize(width=width, height=800))
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_lanes_of_a_failed_check_of_a_history_are_readable_in_both_themes(
    open_page: Open,
) -> None:
    lost = Operation(client="ann", name="write", arguments=(1,), start=1, fate=Fate.OPEN)
    stale = Operation(client="ben", name="read", result="<b>2</b>", start=2, end=3)
    trace = shop()
    problem = f"not linearizable: <i>nothing</i>\n{lanes([lost, stale])}"
    trace.add(5, "problem", pid=None, problem=problem)
    page = open_page(trace)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        item = page.locator("#problems li").filter(has_text="not linearizable")
        expect(item.locator("pre.lanes div")).to_have_count(2)
        expect(item.locator("pre.lanes .open")).to_have_text("|- write(1) got no answer -?")
        bar = item.locator("pre.lanes span:not(.open)")
        expect(bar).to_have_text("|- read() -> '<b>2</b>' -|")
        # Each pair of colours differs enough for a reader.
        ink, paper = bar.evaluate(
            "bar => [getComputedStyle(bar).color, getComputedStyle(bar.closest('pre')).backgroundColor]"
        )
        brightness = [sum(map(int, re.findall(r"\d+", each)[:3])) for each in (ink, paper)]
        assert abs(brightness[0] - brightness[1]) > 400, scheme
