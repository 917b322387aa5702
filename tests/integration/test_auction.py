"""The auctions on two workers and two nodes. In Chromium, the worker of an auction is killed while it counts down."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from playwright.sync_api import Browser, Page, ViewportSize, expect

from channels import sign
from channels.client import ClientChannel, Refused, open_socket
from examples.auction.schedule import open_auction
from tests.integration.browsers import chromium
from tests.integration.forks import Program
from tests.integration.servers import ROOT, free_port, serving
from tests.integration.valkey import valkey
from tests.integration.worker_servers import WorkersServer
from tests.patience import PATIENCE, wait_until

SECRET = "the secret of the servers of these tests, which is long enough"
SECRETS = {**os.environ, "SECRET_KEY_BASE": SECRET}
# Workers need Linux, so these tests are not collected elsewhere.
WORKERS = [2] if sys.platform == "linux" else []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(params=WORKERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkersServer]:
    environment = {**SECRETS, "AUCTIONS": str(tmp_path / "auctions.db")}
    target = "examples.auction.server:endpoint"
    server = WorkersServer(tmp_path, request.param, target=target, environment=environment)
    with contextlib.closing(server):
        server.serve()
        wait_until(lambda: [each.state for each in server.workers()] == ["serving", "serving"])
        yield server


async def schedule(port: int, title: str, seconds: float) -> str:
    """Open an auction from outside the server, and return its key."""
    url = f"ws://127.0.0.1:{port}/scheduler"
    async with (
        open_socket(url, auth_token=sign(SECRET, "scheduler", "")) as socket,
        socket.channel("auctions") as hall,
    ):
        return await open_auction(hall, title, 10, seconds)


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
    trio.run(schedule, server.port, "A bell without a clapper", 20.0)
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

    (victim,) = [each.pid for each in server.workers() if ann.owner.endswith(f".{each.id}")]
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    for each in both:
        each.page.evaluate("document.getElementById('countdown').textContent = ''")
    for each in both:
        # The new owner counts down, perhaps on a new worker with the name of the killed one.
        each.sees("#countdown", "s left")
        seconds = each.page.locator("#countdown").inner_text()
        expect(each.page.locator("#countdown")).not_to_have_text(seconds)
        each.sees("#state", "Connected")
        each.page.screenshot(path=pictures / f"{each.name}-2-after.png")
    ann.sees("#leader", "Leading: Bob")
    for each, words in ((ann, "Sold to Bob"), (bob, "Sold to you")):
        each.sees("#leader", words)
        each.sees("#price", "30")
        each.page.screenshot(path=pictures / f"{each.name}-3-sold.png")
        assert each.errors == []
        each.context.close()


@asynccontextmanager
async def bidding(port: int, key: str, user: str) -> AsyncIterator[ClientChannel]:
    """Take part in an auction."""
    token = sign(SECRET, "user socket", user)
    async with (
        open_socket(f"ws://127.0.0.1:{port}/socket", auth_token=token) as socket,
        socket.channel(f"auction:{key}", durable=True) as auction,
    ):
        yield auction


async def next_of(auction: ClientChannel, event: str) -> Any:
    """Return the payload of the next message with this event."""
    with trio.fail_after(PATIENCE):
        async for message in auction:
            if message.event == event:
                return message.payload
    raise AssertionError(f"the channel ended without {event}")


def documented_rights() -> list[str]:
    """Return the ACL rule of the documentation for a server of durable topics and entities."""
    durable, entities = [
        (ROOT / "docs/reference" / name).read_text() for name in ("durable.md", "entities.md")
    ]
    rule = re.search(r"^ACL SETUSER (.*)$", durable, re.MULTILINE)
    more = re.search(r"`(\+get [^`]*)`", entities)
    assert rule is not None
    assert more is not None
    return [*rule[1].split(), *more[1].split()]


async def test_an_auction_lives_once_on_two_nodes_with_valkey_and_the_bot_bids(
    tmp_path: Path,
) -> None:
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(valkey(tmp_path))
        redis.grant_at_once()
        redis.command("ACL", "SETUSER", *documented_rights())
        url = redis.url.replace("redis://", "redis://node:password@")
        ports: list[int] = []
        for name in ("north", "south"):
            environment = {**SECRETS, "REDIS_URL": url, "NODE_NAME": name}
            (tmp_path / name).mkdir()
            node = stack.enter_context(serving("examples.auction", tmp_path / name, environment))
            ports.append(node.port)
        north, south = ports
        key = await schedule(north, "A map", 4.0)
        async with (
            bidding(north, key, "Ann") as ann,
            bidding(south, key, "Bob") as bob,
        ):
            owners = {(await next_of(each, "countdown"))["node"] for each in (ann, bob)}
            assert len(owners) == 1
            await ann.push("bid", {"amount": 20})
            with pytest.raises(Refused, match="the price is 20 already"):
                await bob.push("bid", {"amount": 15})
            log = stack.enter_context((tmp_path / "bot").open("wb"))
            arguments = ("--limit", "35", "--url", f"ws://127.0.0.1:{south}/socket")
            bot = Program(
                "examples.auction.bot", *arguments, stdout=log.fileno(), environment=SECRETS
            )
            stack.callback(bot.kill)
            for each in (ann, bob):
                sold = await next_of(each, "sold")
                assert (sold["leader"], sold["price"]) == ("Bot", 30)
        assert redis.command("ACL", "LOG") == [], "the nodes need further rights"


def test_make_auction_starts_the_server_with_a_scheduler_and_a_bot_until_ctrl_c(
    tmp_path: Path,
) -> None:
    port, log = free_port(), tmp_path / "log"
    kept = {key: value for key, value in SECRETS.items() if not key.startswith(("MAKE", "MFLAGS"))}
    # These tests have installed all that make would install.
    installed = ("RUN_STAMP=", "NPM_STAMPS=", f"BIN={Path(sys.executable).parent}")
    with log.open("wb") as output:
        make = subprocess.Popen(
            ["make", "auction", f"AUCTION_PORT={port}", *installed],
            cwd=ROOT,
            env={**kept, "AUCTIONS": str(tmp_path / "auctions.db")},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until(lambda: "opened 'A bell'" in log.read_text(), log.read_text)
        wait_until(lambda: "Bot" in trio.run(bidders_of_the_latest, port), log.read_text)
    finally:
        os.killpg(make.pid, signal.SIGINT)
        make.wait(PATIENCE)
    # make has sent the scheduler and the bot their signal, and does not wait for their ends.
    wait_until(lambda: not is_a_group(make.pid), log.read_text)
    assert "Traceback" not in log.read_text()


def is_a_group(pid: int) -> bool:
    """Return True if a process group has members."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def bidders_of_the_latest(port: int) -> list[str]:
    """Return the bidders of the latest auction."""
    token = sign(SECRET, "user socket", "Guest")
    async with (
        open_socket(f"ws://127.0.0.1:{port}/socket", auth_token=token) as socket,
        socket.channel("auctions", durable=True) as hall,
    ):
        auctions = (await next_of(hall, "list"))["auctions"]
    async with bidding(port, auctions[-1]["key"], "Guest") as auction:
        return list(await next_of(auction, "presence_state"))
