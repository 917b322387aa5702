"""The JavaScript and the HTML of the documentation run in Chromium, with phoenix.js and a real server.

If the page of a block shows an endpoint above the block, the block runs against this endpoint. A block with a token
needs a server that signs one, so it runs against an endpoint that accepts everything, like the other blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Route, expect

from channels.durable import JAVASCRIPT
from tests.architecture.snippets import Snippet, module_of
from tests.architecture.test_snippets import SNIPPETS
from tests.integration.browsers import chromium
from tests.integration.phoenix_js import FOLDER
from tests.integration.servers import serving
from tests.integration.test_quickstart import note_states
from tests.patience import PATIENCE

PHOENIX = FOLDER / "node_modules/phoenix/priv/static/phoenix.mjs"
BLOCKS = [one for one in SNIPPETS if one.language in ("javascript", "html")]

# Blocks that do not run in a page: a part of the block, and the reason.
NOT_RUN = {
    '} from "redis"': "it is a program for Node: tests/integration/test_publishing.py runs it",
}

# The names that a block uses without a definition, because the text around the block describes them.
SURROUNDINGS = {
    "Socket": "phoenix.Socket",
    "LongPoll": "phoenix.LongPoll",
    "socket": 'new phoenix.Socket("/socket")',
    "channel": 'socket.channel("room:lobby")',
    "token": '"a token"',
    "apply": "() => {}",
    "durable": '(await import("/ashtree/durable.mjs")).durable',
    "pushUntilAnswered": '(await import("/ashtree/durable.mjs")).pushUntilAnswered',
    "currentTraceparent": '() => "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"',
    "nameNow": '() => "ann"',
    "show": "() => {}",
    "showRefusal": "() => {}",
    "showThatWeAreReconnecting": "() => {}",
}

FRAME = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8"><title>A block</title><link rel="icon" href="data:,">
    <script type="importmap">{ "imports": { "phoenix": "/phoenix.mjs" } }</script>
    <script type="module">
      import * as phoenix from "phoenix"
      window.channels = []
      const create = phoenix.Socket.prototype.channel
      phoenix.Socket.prototype.channel = function (...options) {
        const channel = create.apply(this, options)
        window.channels.push(channel)
        return channel
      }
      window.phoenix = phoenix
      SURROUNDINGS
      await import("/block.mjs").catch((error) => (window.problem = String(error)))
      window.finished = true
    </script>
  </head>
  <body data-token="a token"><ul id="members"></ul><output></output></body>
</html>
"""
SETTLED = """
() => window.problem || (window.finished && window.channels.every(
    (channel) => !channel.joinedOnce || channel.isJoined() || channel.isErrored() || !channel.socket.isConnected()
))
"""


def page_of(snippet: Snippet) -> str:
    return snippet.place.partition(":")[0]


def blocks_of_page(snippet: Snippet, language: str) -> list[Snippet]:
    return [one for one in SNIPPETS if (page_of(one), one.language) == (page_of(snippet), language)]


def endpoint_above(snippet: Snippet) -> str | None:
    """Return the module of the last endpoint that a page shows above a block.

    None if the page shows no endpoint above the block, or if the block needs a token or long polling.
    """
    line = int(snippet.place.rpartition(":")[2])
    above = [
        one.code
        for one in blocks_of_page(snippet, "python")
        if int(one.place.rpartition(":")[2]) < line
    ]
    if "token" in snippet.code or "longPoll" in snippet.code:
        return None
    modules = [module_of(code, "endpoint") for code in reversed(above)]
    return next(filter(None, modules), None)


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """Return the address of the server for each block, by the block's place. Other blocks use the address of ''."""
    folder = tmp_path_factory.mktemp("endpoints")
    names: dict[str, str] = {}
    places = {}
    for snippet in BLOCKS:
        source = endpoint_above(snippet)
        if source is not None:
            places[snippet.place] = name = names.setdefault(source, f"page_{len(names)}")
            (folder / f"{name}.py").write_text(source)
    arguments = [str(folder), *names.values()]
    with serving("tests.integration.documented_endpoints", folder, arguments=arguments) as server:
        ports = dict(re.findall(r"^(page_\d+) (\d+)$", server.output(), re.MULTILINE))
        yield {
            "": server.url,
            **{place: f"http://127.0.0.1:{ports[name]}" for place, name in places.items()},
        }


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    with chromium() as browser:
        # The test answers the requests for pages itself. Without the permission, Chromium would not let these pages
        # connect to the socket on this machine.
        yield browser.new_context(permissions=["local-network-access"])


class Tab:
    """A tab of the browser. It gets the files of a test, the published phoenix.js and `durable.mjs`, and nothing else.

    Attributes:
        page: the `Page` object of Playwright for the tab.
        problems: the errors and warnings of the open page.
        said: what the open page has written to the console.
    """

    def __init__(self, browser: BrowserContext) -> None:
        self.page = browser.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.problems: list[str] = []
        self.said: list[str] = []
        self._files: Mapping[str, str] = {}
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._note)
        self.page.route("**/*", self._answer)

    def open(self, address: str, files: Mapping[str, str]) -> Page:
        """Open `page.html` of these files at an address."""
        # Close the previous page, so that it writes nothing more to the console.
        self.page.goto("about:blank")
        self.problems.clear()
        self.said.clear()
        self._files = files
        self.page.goto(f"{address}/page.html")
        return self.page

    def _note(self, message: ConsoleMessage) -> None:
        self.said.append(message.text)
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def _answer(self, route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        if name == "durable.mjs":
            route.fulfill(path=JAVASCRIPT / name, content_type="text/javascript")
        elif name == "phoenix.mjs":
            # A CDN sends this header too. With it, a page of another origin may load the file, and can check its hash.
            route.fulfill(
                body=PHOENIX.read_bytes(),
                content_type="text/javascript",
                headers={"Access-Control-Allow-Origin": "*"},
            )
        elif name in self._files:
            route.fulfill(
                body=self._files[name],
                content_type="text/javascript" if name.endswith("js") else "text/html",
            )
        else:
            route.fulfill(status=404)


@pytest.fixture(scope="module")
def tab(browser: BrowserContext) -> Tab:
    """One tab for all blocks, because a new tab costs more time than a block."""
    return Tab(browser)


def frame(code: str) -> str:
    """Return a page that runs a block. If the block does not import phoenix.js, the page joins `channel` for it."""
    lines = [f"window.{name} = {value}" for name, value in SURROUNDINGS.items()]
    if 'from "phoenix"' not in code:
        lines.append("socket.connect()")
        if "channel.join()" not in code:
            lines.append("channel.join()")
    return FRAME.replace("SURROUNDINGS", "\n      ".join(lines))


def reason_not_to_run(snippet: Snippet) -> str | None:
    return next((why for part, why in NOT_RUN.items() if part in snippet.code), None)


SCRIPTS = [one for one in BLOCKS if one.language == "javascript" and reason_not_to_run(one) is None]
PAGES = [one for one in BLOCKS if one.language == "html"]


@pytest.mark.parametrize("snippet", SCRIPTS, ids=[one.place for one in SCRIPTS])
def test_a_script_of_a_document_runs(
    snippet: Snippet, tab: Tab, addresses: Mapping[str, str]
) -> None:
    address = addresses.get(snippet.place, addresses[""])
    page = tab.open(address, {"page.html": frame(snippet.code), "block.mjs": snippet.code})
    page.wait_for_function(SETTLED)
    assert page.evaluate("window.problem ?? null") is None, "add a name to SURROUNDINGS"
    assert page.evaluate("window.channels.filter((channel) => channel.isErrored()).length") == 0
    assert tab.problems == []
    assert [each for each in tab.said if each.startswith("refused")] == []
    if "#members" in snippet.code:
        page.wait_for_function("document.querySelector('#members').children.length > 0")


@pytest.mark.parametrize("snippet", PAGES, ids=[one.place for one in PAGES])
def test_a_page_of_a_document_opens_without_an_error(
    snippet: Snippet, tab: Tab, addresses: Mapping[str, str]
) -> None:
    assert unbalanced(snippet.code) == []
    whole = snippet.code.startswith("<!doctype html>")
    # A fragment belongs to the head of a page. The added module uses the import map that the fragment sets up.
    code = (
        snippet.code
        if whole
        else f'<!doctype html>{snippet.code}<script type="module">import "phoenix"</script>'
    )
    code = code.replace("</title>", '</title><link rel="icon" href="data:,">')
    page = tab.open(
        addresses.get(snippet.place, addresses[""]), {"page.html": code, "favicon.ico": ""}
    )
    if "<output>" in code:
        page.wait_for_function("document.querySelector('output').textContent !== ''")
    assert tab.problems == []


def test_the_page_of_the_tutorial_asks_cheers_and_survives_a_crash(
    browser: BrowserContext, addresses: Mapping[str, str]
) -> None:
    (html,) = (one for one in PAGES if page_of(one) == "docs/tutorial/4-a-channel.md")
    ann, bob = (Tab(browser).open(addresses[html.place], {"page.html": html.code}) for _ in "ab")
    for page in (ann, bob):
        expect(page.locator("#state")).to_have_text("joined")
        page.get_by_role("button", name="How deep?").click()
        expect(page.get_by_role("log")).to_have_text("40 m for each, answer 1")
    ann.get_by_role("button", name="Cheer").click()
    expect(bob.get_by_role("log")).to_contain_text("Rosa cheers")

    states = note_states(ann)
    ann.get_by_label("People").fill("0")
    ann.get_by_role("button", name="How deep?").click()
    ann.wait_for_function("window.states.length == 2")
    assert states() == ["lost, joining again", "joined"]
    for page, answer in ((ann, 1), (bob, 2)):
        page.get_by_label("People").fill("2")
        page.get_by_role("button", name="How deep?").click()
        expect(page.get_by_role("log")).to_contain_text(f"60 m for each, answer {answer}")
        page.close()


def test_each_block_that_does_not_run_is_in_a_document() -> None:
    found = [part for part in NOT_RUN if any(part in one.code for one in BLOCKS)]
    assert found == list(NOT_RUN)
    (program,) = (one.code for one in BLOCKS if '} from "redis"' in one.code)
    assert program in (FOLDER / "publish.mjs").read_text()


# Well-formed HTML

VOID = {"br", "col", "hr", "img", "input", "link", "meta", "source"}


class _Tags(HTMLParser):
    """The open tags, and the mistakes in the closed tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes another tag")


def unbalanced(code: str) -> list[str]:
    """Return the mistakes in the tags of a page."""
    tags = _Tags()
    tags.feed(code)
    tags.close()
    return [*tags.wrong, *(f"<{tag}> is not closed" for tag in tags.open)]


def test_tags_that_are_not_balanced_are_found() -> None:
    assert unbalanced("<p>a<br></p>") == []
    assert unbalanced("<p><b>a</p></b>") == ["</p> closes another tag", "</b> closes another tag"]
    assert unbalanced("<main><p>a</p>") == ["<main> is not closed"]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("const a = ", "SyntaxError"),
        ("nothing()", "ReferenceError"),
        ('import "./gone.js"', "Failed to fetch"),
        ('import { Sockt } from "phoenix"', "SyntaxError"),
    ],
)
def test_a_script_that_does_not_run_is_found(
    code: str, problem: str, tab: Tab, addresses: Mapping[str, str]
) -> None:
    page = tab.open(addresses[""], {"page.html": frame(code), "block.mjs": code})
    page.wait_for_function(SETTLED)
    assert problem in str(page.evaluate("window.problem"))
