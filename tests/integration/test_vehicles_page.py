"""The map of vehicles in a real browser: on one node, with several workers, and on three nodes with a real Valkey."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from tests.integration.browsers import chromium
from tests.integration.servers import ROOT, serving
from tests.integration.valkey import valkey
from tests.integration.worker_servers import WorkersServer
from tests.patience import PATIENCE

# From now on, record each vehicle that leaves the list, and each number of vehicles.
_WATCH = """() => {
    window.removed = []
    window.counts = []
    const count = document.getElementById("vehicle-count")
    const list = document.getElementById("vehicles")
    const note = (mutations) => mutations.forEach(({ removedNodes }) =>
        removedNodes.forEach(({ dataset }) => window.removed.push(dataset.name)))
    new MutationObserver(note).observe(list, { childList: true })
    new MutationObserver(() => window.counts.push(count.textContent)).observe(count, { childList: true })
}"""

# The colours of the markers of each node.
_COLOURS = """() => {
    const colours = {}
    for (const marker of document.querySelectorAll(".vehicle"))
        (colours[marker.dataset.node] ??= []).push(getComputedStyle(marker.querySelector(".body circle")).fill)
    return colours
}"""

# Workers need Linux, so the test is not collected elsewhere.
_WORKERS = [4] if sys.platform == "linux" else []

OpenMap: TypeAlias = Callable[..., "Map"]


class Map:
    """A browser tab with the map."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.state = page.locator("#state")
        self.vehicles = page.locator("#vehicle-count")
        self.viewers = page.locator("#viewer-count")
        self.rows = page.get_by_role("list", name="Vehicles").get_by_role("listitem")
        self.nodes = page.get_by_role("list", name="Nodes").get_by_role("listitem")
        self.markers = page.locator("#map .vehicle")
        self.log = page.get_by_role("log")

    def row(self, name: str) -> Locator:
        return self.page.locator(f"#vehicles li[data-name={name}]")

    def marker(self, name: str) -> Locator:
        return self.page.locator(f"#map .vehicle[data-name={name}]")

    def process(self, name: str) -> str:
        """The number of the process of a vehicle's channel, as the list shows it."""
        found = re.search(r"process (\d+)", self.row(name).text_content() or "")
        assert found is not None
        return found[1]

    def crash(self, name: str) -> None:
        self.page.get_by_role("button", name=f"Crash the channel of {name}", exact=True).click()

    def comes_back(self, name: str, process: str) -> None:
        """Wait until a vehicle has another process than before, and moves again."""
        expect(self.log).to_contain_text(
            re.compile(rf"\b{name} has process \d+ in place of {process}, [\d.]+ s after")
        )
        expect(self.row(name)).not_to_contain_text(f"process {process},")
        self.moves(name)

    def moves(self, name: str) -> None:
        """Wait until a vehicle is at another place than now."""
        place = self.marker(name).get_attribute("transform")
        assert place is not None
        expect(self.marker(name)).not_to_have_attribute("transform", place)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_map(browser: Browser, tmp_path: Path) -> Iterator[OpenMap]:
    """Open the page as another person would; afterwards no page may have had an error."""
    maps: list[Map] = []
    errors: list[str] = []

    def open_one(
        url: str, node: str | re.Pattern[str], *, size: tuple[int, int] = (1280, 860)
    ) -> Map:
        context = browser.new_context(viewport=ViewportSize(width=size[0], height=size[1]))
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        maps.append(Map(page))
        expect(maps[-1].state).to_have_text(
            f"Connected to {node}" if isinstance(node, str) else node
        )
        return maps[-1]

    yield open_one
    for number, each in enumerate(maps):
        each.page.screenshot(path=tmp_path / f"map-{number}.png")
        each.page.context.close()
    assert errors == []


@contextlib.contextmanager
def sensors(folder: Path, *urls: str, vehicles: int) -> Iterator[None]:
    """Drive vehicles in a program of their own."""
    command = [sys.executable, "-m", "examples.vehicles.sensors", "--vehicles", str(vehicles)]
    command += [argument for url in urls for argument in ("--url", url)]
    with (folder / "sensors.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        yield
        process.terminate()
        assert process.wait(PATIENCE) == 0, (folder / "sensors.log").read_text()
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_a_crashed_vehicle_comes_back_and_no_viewer_sees_it_leave(
    open_map: OpenMap, tmp_path: Path
) -> None:
    with serving("examples.vehicles", tmp_path) as server:
        ann = open_map(server.url, "local")
        bob = open_map(server.url, "local", size=(360, 740))
        for each in (ann, bob):
            expect(each.vehicles).to_have_text("12")
            expect(each.viewers).to_have_text("2")
            expect(each.rows).to_have_count(12)
            expect(each.markers).to_have_count(12)
            each.moves("hen")
            expect(each.row("hen")).to_contain_text(re.compile(r"\w+ (St|Ave) near \w+ (St|Ave)"))
            each.page.evaluate(_WATCH)
        assert bob.page.evaluate("document.documentElement.scrollWidth") <= 360
        process, of_another = ann.process("fox"), ann.process("hen")

        ann.crash("fox")
        for each in (ann, bob):
            each.comes_back("fox", process)
            assert each.page.evaluate("window.removed") == []
            assert each.page.evaluate("window.counts") == []
            assert each.process("hen") == of_another
        assert "somebody pressed the crash button of fox" in server.output()


@pytest.mark.deep
@pytest.mark.parametrize("workers", _WORKERS)
def test_vehicles_of_all_workers_are_on_one_map_in_the_colours_of_their_workers(
    open_map: OpenMap, tmp_path: Path, workers: int
) -> None:
    server = WorkersServer(tmp_path, workers, target="examples.vehicles.server:endpoint")
    with contextlib.closing(server):
        url = f"127.0.0.1:{server.port}"
        with sensors(tmp_path, f"ws://{url}/socket", vehicles=12):
            server.serve()
            ann = open_map(f"http://{url}", re.compile("Connected to worker"))
            expect(ann.vehicles).to_have_text("12")
            expect(ann.markers).to_have_count(12)
            colours = ann.page.evaluate(_COLOURS)
            assert len(colours) > 1, "the system spreads connections over the workers"
            of_nodes = [set(each) for each in colours.values()]
            assert all(len(each) == 1 for each in of_nodes)
            assert len(set.union(*of_nodes)) == len(colours)

            # The button reaches a vehicle of another worker than the page's.
            mine = (ann.state.text_content() or "").removeprefix("Connected to ")
            name = ann.page.locator(f"#vehicles li:not([data-node='{mine}'])").first.get_attribute(
                "data-name"
            )
            assert name is not None
            process = ann.process(name)
            ann.crash(name)
            ann.comes_back(name, process)


def test_vehicles_of_a_killed_node_leave_the_map_of_the_others_and_return_with_it(
    open_map: OpenMap, tmp_path: Path
) -> None:
    with valkey(tmp_path / "valkey") as redis, contextlib.ExitStack() as stack:
        nodes = []
        for name in ("a", "b", "c"):
            (tmp_path / name).mkdir()
            environment = {"REDIS_URL": redis.url, "NODE_NAME": name}
            node = serving("examples.vehicles", tmp_path / name, environment, ("--vehicles", "0"))
            nodes.append(stack.enter_context(node))
        stack.enter_context(sensors(tmp_path, *(node.socket_url for node in nodes), vehicles=6))
        ann = open_map(nodes[0].url, "a")
        all_here = [re.compile(f"^{name} 2 vehicles") for name in ("a", "b", "c")]
        expect(ann.nodes).to_have_text(all_here)
        expect(ann.markers).to_have_count(6)

        of_c = ann.page.locator("#vehicles li[data-node=c]")
        names = of_c.evaluate_all("rows => rows.map((row) => row.dataset.name)")
        nodes[2].kill()
        expect(ann.page.locator("#map .vehicle.silent")).to_have_count(2)
        expect(ann.vehicles).to_have_text("4")
        expect(ann.nodes).to_have_text(all_here[:2])
        expect(ann.markers).to_have_count(4)
        for name in names:
            expect(ann.log).to_contain_text(f"{name} has left.")

        nodes[2].start()
        expect(ann.nodes).to_have_text(all_here)
        for name in names:
            expect(ann.row(name)).to_contain_text("on c")
            expect(ann.marker(name)).to_be_visible()
            ann.moves(name)
