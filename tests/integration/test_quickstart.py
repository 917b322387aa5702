"""The first half hour with a new project: serve it, break it, correct it, change it and crash a channel."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.integration.browsers import chromium
from tests.integration.phoenix_js import FOLDER as NODE
from tests.integration.servers import ROOT
from tests.patience import PATIENCE, wait_until

PHOENIX_JS = NODE / "node_modules/phoenix/priv/static/phoenix.mjs"
_RIGHT = "    async def new_msg(self, payload: NewMessage)"
_WRONG = "    async def new_msg(self,"
FROM_TREE = [sys.executable, "-c", "from channels.cli.command import main; main()"]


class Project:
    """A project of `ashtree new`, and its server."""

    def __init__(self, folder: Path, ashtree: list[str], environment: dict[str, str]) -> None:
        self._ashtree, self._environment = ashtree, environment
        self.run("new", "chat", folder=folder)
        self.folder = folder / "chat"
        self.url = ""
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str, folder: Path) -> str:
        """Run `ashtree` with these arguments, and return its output."""
        done = subprocess.run(
            [*self._ashtree, *arguments],
            cwd=folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def serve(self) -> None:
        """Start the server with the options of the README, at any free port. Return when the server is ready."""
        arguments = ["serve", "chat.endpoint:endpoint", "--reload"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._ashtree, *arguments],
                cwd=self.folder,
                env={**self._environment, "ASHTREE_PORT": "0"},
                stdout=log,
                stderr=log,
            )
        serving = re.compile(r"Serving on (\S+) with")
        wait_until(lambda: serving.search(self.output()), self.output)
        self.url = serving.findall(self.output())[-1]

    def output(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def edit(self, *changes: tuple[str, str]) -> None:
        """Replace texts in the module of the channel, and save it once."""
        module = self.folder / "chat" / "room_channel.py"
        text = module.read_text()
        for old, new in changes:
            assert text.count(old) == 1
            text = text.replace(old, new)
        module.write_text(text)

    def interrupt(self) -> int:
        """Send the server the signal of Ctrl-C, and return its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(PATIENCE)
        finally:
            self._process.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project in an empty folder, made with Ashtree from this repository."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    project = Project(tmp_path, FROM_TREE, environment)
    yield project
    project.interrupt()


def opened(browser: Browser, url: str, errors: list[str]) -> Page:
    page = browser.new_page(viewport={"width": 1180, "height": 860})
    page.set_default_timeout(PATIENCE * 1000)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    return page


def say(page: Page, words: str) -> None:
    page.get_by_label("Message", exact=True).fill(words)
    page.get_by_role("button", name="Send").click()


def note_states(page: Page) -> Callable[[], list[str]]:
    """Note the states that the page shows from now on. A state of a second could pass between two looks."""
    page.evaluate(
        """() => {
            const state = document.getElementById("state")
            window.states = []
            new MutationObserver(() => window.states.push(state.textContent)).observe(state, { childList: true })
        }"""
    )
    return lambda: list(page.evaluate("window.states"))


def use_the_console(developer: Page, tab: Page) -> None:
    """Join, push and read frames with the keyboard, in a window as narrow as a phone."""
    frames = developer.get_by_role("log", name="Frames")
    developer.set_viewport_size({"width": 360, "height": 740})
    developer.emulate_media(reduced_motion="reduce")
    developer.get_by_role("button", name="Use the topic room:*").press("Enter")
    developer.keyboard.type("lobby")
    expect(developer.get_by_role("combobox", name="Topic")).to_have_value("room:lobby")
    developer.keyboard.press("Enter")
    expect(frames.locator(".in")).to_contain_text(["phx_reply"])
    expect(developer.get_by_role("status")).to_have_text("Connected")
    developer.get_by_role("button", name="Use the event new_msg of room:*").press("Enter")
    payload = developer.get_by_role("textbox", name="Payload, as JSON", exact=True)
    expect(payload).to_be_focused()
    expect(payload).to_have_value('{"body":""}')
    developer.keyboard.press("Control+Enter")
    expect(frames.locator(".bad")).to_contain_text("invalid payload")
    payload.fill("{")
    developer.keyboard.press("Control+Enter")
    expect(developer.locator("#mistake")).to_contain_text("The payload is not JSON")
    payload.fill('{"body": "from the console"}')
    developer.keyboard.press("Control+Enter")
    expect(tab.get_by_role("log")).to_contain_text("from the console")
    width = developer.evaluate("document.documentElement.scrollWidth")
    assert width == 360
    animated = developer.evaluate("document.getAnimations().length")
    assert animated == 0


def follow_the_readme(project: Project, browser: Browser) -> None:
    """Follow the project's README: talk, break a file, correct and change the file, and crash a channel."""
    errors: list[str] = []
    project.serve()
    ann, bob = (opened(browser, project.url, errors) for _ in "ab")
    developer = opened(browser, f"{project.url}/_ashtree", errors)
    problem = developer.locator("#problem")
    expect(developer.locator("#sockets")).to_contain_text("RoomChannel")
    say(ann, "hello")
    expect(bob.get_by_role("log")).to_have_text("hello")

    use_the_console(developer, ann)

    project.edit((_RIGHT, _WRONG))
    expect(problem).to_contain_text("SyntaxError")
    assert "importlib" not in problem.inner_text()
    assert "channels/cli" not in problem.inner_text()
    assert 'chat/room_channel.py", line' in project.output()
    say(bob, "still here")
    expect(ann.get_by_role("log")).to_contain_text("still here")

    # Saved once, so that the server replaces its worker once.
    project.edit((_WRONG, _RIGHT), ('{"body": payload.body}', '{"body": payload.body.upper()}'))
    expect(problem).to_be_hidden()
    expect(developer.locator("#frames")).to_contain_text("The server has reloaded the code.")
    # Before the end of the replacement, a tab may be connected to the old worker, or to no worker.
    wait_until(lambda: "replaced 1 worker" in project.output(), project.output)
    for tab in (ann, bob):
        expect(tab.locator("#state")).to_have_text("Connected")
    say(ann, "louder")
    expect(bob.get_by_role("log")).to_contain_text("LOUDER")
    expect(ann.locator("#count")).to_have_text("1")

    states = note_states(ann)
    ann.get_by_role("button", name="Crash my channel").click()
    expect(ann.locator("#count")).to_have_text("0")
    assert states() == ["Crashed, joining again", "Connected"]
    say(bob, "all good")
    expect(ann.get_by_role("log")).to_contain_text("ALL GOOD")
    for page in (ann, bob, developer):
        page.close()
    assert errors == []
    assert project.interrupt() == 0


def test_a_new_project_is_served_broken_corrected_and_crashed(
    project: Project, browser: Browser
) -> None:
    shutil.copy(PHOENIX_JS, project.folder / "chat/static")
    follow_the_readme(project, browser)


@pytest.mark.deep
def test_a_server_whose_first_import_fails_shows_the_problem_and_waits(project: Project) -> None:
    project.edit(("class RoomChannel(Channel):", "class RoomChannel(Channel:"))
    project.serve()

    def asked(name: str) -> str:
        with urllib.request.urlopen(f"{project.url}/_ashtree/{name}", timeout=PATIENCE) as answer:
            text: str = answer.read().decode()
        return text

    assert "SyntaxError" in asked("status.json")
    project.edit(("class RoomChannel(Channel:", "class RoomChannel(Channel):"))
    wait_until(lambda: "RoomChannel" in asked("endpoint.json"), project.output)
    assert '"problem":null' in asked("status.json")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from this repository."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--wheel-dir"]
    subprocess.run([*pip, str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("ashtree-*.whl")
    return wheel


@pytest.mark.deep
def test_the_wheel_holds_the_packages_and_their_assets_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "actors",
        "supervision",
        "channels",
    }
    assert not [name for name in names if "__pycache__" in name or "node_modules" in name]
    for asset in (
        "channels/generators/templates/project/gitignore.template",
        "channels/development/static/page.html",
        "channels/observer/static/page.html",
        "channels/py.typed",
    ):
        assert asset in names


@pytest.mark.deep
def test_a_new_project_from_a_wheel_works_in_a_clean_environment(
    wheel: Path, tmp_path: Path, browser: Browser
) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv/bin/python")
    # As in the Dockerfile, do without a compiler and without the repository.
    pip = [python, "-m", "pip", "--quiet", "install", "--only-binary=:all:"]
    subprocess.run([*pip, f"{wheel}[testing]", "mypy", "ruff"], check=True)
    environment = {**os.environ, "CC": "false", "CXX": "false"}
    environment.pop("PYTHONPATH", None)
    (tmp_path / "empty").mkdir()
    project = Project(tmp_path / "empty", [str(tmp_path / "venv/bin/ashtree")], environment)
    for arguments in (["pytest", "-q"], ["mypy"], ["ruff", "check", "."]):
        done = subprocess.run(
            [python, "-m", *arguments],
            cwd=project.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline"],
        cwd=project.folder,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    assert (project.folder / "chat/static/phoenix.mjs").read_bytes() == PHOENIX_JS.read_bytes()
    try:
        follow_the_readme(project, browser)
    finally:
        project.interrupt()
    # The step of the Dockerfile that installs the project.
    step = [*pip, "--no-deps", "--no-build-isolation", "."]
    subprocess.run([*pip, "hatchling"], check=True)
    subprocess.run(
        [item for item in step if not item.startswith("--only")], cwd=project.folder, check=True
    )
