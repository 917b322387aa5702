"""The auction in Chromium on two workers: the worker of an auction is killed while it counts down."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from playwright.sync_api import Browser, Page, ViewportSize, expect

from channels import sign
from channels.client import open_socket
from examples.auction.schedule import open_auction
from tests.integration.browsers import chromium
from tests.integration.worker_servers import WorkersServer
from tests.patience import PATIENCE, wait_until

SECRET = "the secret of the servers of these tests, which is long enough"
# Workers need Linux, so these tests are not collected elsewhere.
WORKERS = [2] if sys.platform == "linux" else []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(params=WORKERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkersServer]:
    environment = {"SECRET_KEY_BASE": SECRET, "AUCTIONS": str(tmp_path / "auctions.db")}
    target = "examples.auction.server:endpoint"
    server = WorkersServer(tmp_path, request.param, target=target, environment=environment)
    with contextlib.closing(server):
        server.serve()
        wait_until(lambda: [each.state for each in server.workers()] == ["serving", "serving"])
        yield server


def schedule(server: WorkersServer, title: str, seconds: float) -> None:
    """Open an auction from outside the server."""

    async def open_it() -> None:
        url = f"ws://127.0.0.1:{server.port}/scheduler"
        async with (
            open_socket(url, auth_token=sign(SECRET, "scheduler", "")) as socket,
            socket.channel("auctions") as hall,
        ):
            await open_auction(hall, title, 10, seconds)

    trio.run(open_it)


class Bidder:
    """A page with a user, in a browser context of its own."""

    def __init__(self, browser: Browser, server: WorkersServer, name: str, node: str = "") -> None:
        """Open the page, on another node than the named one. The system chooses the worker of each connection."""
        size = ViewportSize(width=960, height=640)
        self.name = name
        self.context = browser.new_context(viewport=size)
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.set_default_timeout(PATIENCE * 1000)
        self.page.goto(f"http://127.0.0.1:{server.port}")
        self.page.get_by_label("Your name").fill(name)
        self.page.get_by_label("Your name").press("Enter")
        self.wait_joined()
        while self.node == node:
            self.page.reload()
            self.wait_joined()

    def wait_joined(self) -> None:
        expect(self.page.locator("#page-node")).not_to_be_empty()

    @property
    def node(self) -> str:
        """The node of this page."""
        return self.page.locator("#page-node").inner_text()

    @property
    def owner(self) -> str:
        """The node of the auction."""
        return self.page.locator("#auction-node").inner_text()

    def bid(self, amount: int) -> None:
        self.page.get_by_label("Your bid").fill(str(amount))
        self.page.get_by_role("button", name="Bid").click()
        expect(self.page.locator("#price")).to_have_text(str(amount))

    def sees(self, selector: str, text: str) -> None:
        expect(self.page.locator(selector)).to_have_text(re.compile(text))


def test_both_pages_show_the_winner_after_the_worker_of_the_auction_was_killed(
    browser: Browser, server: WorkersServer, tmp_path: Path
) -> None:
    pictures = Path(os.environ.get("AUCTION_PICTURES", tmp_path))
    schedule(server, "A bell without a clapper", seconds=20)
    ann = Bidder(browser, server, "Ann")
    bob = Bidder(browser, server, "Bob", node=ann.node)
    both = (ann, bob)
    ann.bid(20)
    bob.bid(30)
    ann.sees("#leader", "Leading: Bob")
    for each in both:
        each.sees("#bidders", "AnnBob")
        each.sees("#countdown", "s left")
        each.page.screenshot(path=pictures / f"{each.name}-1-before.png")
    assert ann.owner == bob.owner

    before = ann.owner
    (victim,) = [each.pid for each in server.workers() if before.endswith(f".{each.id}")]
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    for each in both:
        # The new owner counts down, and the page of the killed worker is on another one.
        expect(each.page.locator("#auction-node")).not_to_have_text(before)
        each.sees("#countdown", "s left")
        each.sees("#state", "Connected")
        each.page.screenshot(path=pictures / f"{each.name}-2-after.png")
    ann.sees("#leader", "Leading: Bob")
    for each, words in ((ann, "Sold to Bob"), (bob, "Sold to you")):
        each.sees("#leader", words)
        each.sees("#price", "30")
        each.page.screenshot(path=pictures / f"{each.name}-3-sold.png")
        assert each.errors == []
        each.context.close()
