"""The pages of docs/howto/use-phoenix-js.md in a real browser."""

from __future__ import annotations

from playwright.sync_api import Route, expect

from tests.architecture.snippets import snippets_in
from tests.architecture.sources import ROOT
from tests.integration.browsers import chromium
from tests.integration.phoenix_js import FOLDER as NODE
from tests.integration.servers import Server

PAGE = "docs/howto/use-phoenix-js.md"
PHOENIX_JS = NODE / "node_modules/phoenix/priv/static/phoenix.mjs"
CDN = "https://cdn.jsdelivr.net/npm/phoenix@1.8.16/priv/static/phoenix.mjs"


def test_the_pages_of_the_howto_talk_to_a_server(chat: Server) -> None:
    whole, from_cdn = (
        each.code
        for each in snippets_in(PAGE, (ROOT / PAGE).read_text())
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

    with chromium() as browser:
        page = browser.new_page()
        for text in (whole, whole.replace(own_map, from_cdn)):
            answer_with(published)
            # A page that a test makes up may not open a WebSocket. So the text replaces a page of the server.
            page.goto(f"{chat.url}/phoenix/phoenix.mjs")
            page.set_content(text)
            expect(page.locator("output")).to_have_text("It works.")
        # A CDN that sends another file gets nowhere.
        answer_with(f"{published}\n// changed")
        page.goto(f"{chat.url}/phoenix/phoenix.mjs")
        with page.expect_console_message(lambda message: "integrity" in message.text):
            page.set_content(whole.replace(own_map, from_cdn))
        expect(page.locator("output")).to_be_empty()
