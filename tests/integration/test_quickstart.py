"""The first half hour with a new project: serve it, break it, correct it, change it and crash a channel."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from channels.generators.files import module_files, project_files, write
from channels.generators.names import parse_name
from tests.architecture.consoles import lines_of
from tests.architecture.snippets import IN_A_BROWSER, LOGIN, snippets_in
from tests.architecture.sources import PACKAGES
from tests.integration.browsers import chromium
from tests.integration.phoenix_js import FOLDER as NODE
from tests.integration.phoenix_js import require_node
from tests.integration.servers import ROOT
from tests.patience import PATIENCE, wait_until

PHOENIX_JS = NODE / "node_modules/phoenix/priv/static/phoenix.mjs"
_RIGHT = "    async def new_msg(self, payload: NewMessage)"
_WRONG = "    async def new_msg(self,"
SERVE = ("serve", "chat.endpoint:endpoint", "--reload")
TYPED = Path(__file__).parent / "typed_project"
FROM_TREE = [sys.executable, "-c", "from channels.cli.command import main; main()"]


class Project:
    """A project of `ashtree new`, and its server."""

    def __init__(self, folder: Path, ashtree: list[str], environment: dict[str, str]) -> None:
        self._ashtree, self._environment = ashtree, environment
        self.folder = folder
        self.url = ""
        self._log = folder.parent / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def serve(self, *arguments: str) -> None:
        """Start the server at any free port. Return when the server is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._ashtree, *arguments],
                cwd=self.folder,
                env={**self._environment, "ASHTREE_PORT": "0"},
                stdout=log,
                stderr=log,
            )
        serving = re.compile(r"Serving on (\S+) ")
        wait_until(lambda: serving.search(self.output()), self.output)
        self.url = serving.findall(self.output())[-1].replace("0.0.0.0", "127.0.0.1")

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

    def kill(self) -> None:
        """End the server, if it runs. After Ctrl-C, a server that does not reload would wait for proxies."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)

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
    subprocess.run(
        [*FROM_TREE, "new", "chat"],
        cwd=tmp_path,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    project = Project(tmp_path / "chat", FROM_TREE, environment)
    yield project
    project.kill()


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


def read_the_crash(developer: Page) -> None:
    """Read the traceback of another tab's crash, and the traceback of the console's own crash below its phx_error."""
    message = "RuntimeError: somebody pressed the crash button"
    listed = developer.get_by_role("region", name="Crashes").get_by_role("listitem")
    expect(listed).to_contain_text([f"RoomChannel room:lobby {message}"])
    listed.first.locator("summary").click()
    expect(listed.first.locator("pre")).to_contain_text("chat/room_channel.py")
    developer.get_by_role("combobox", name="Event").fill("crash")
    developer.get_by_role("button", name="Push", exact=True).click()
    frames = developer.locator("#frames")
    expect(frames.locator("pre")).to_contain_text([message])
    shown = frames.locator("> div").all_inner_texts()
    place = next(number for number, text in enumerate(shown) if message in text)
    assert "phx_error" in shown[place - 1]
    expect(listed).to_have_count(2)


def follow_the_readme(project: Project, browser: Browser) -> None:
    """Follow the project's README: talk, break a file, correct and change the file, and crash a channel."""
    errors: list[str] = []
    project.serve(*SERVE)
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

    # The page may show the problem before the server has logged that the replacement ended.
    wait_until(lambda: "the replacement has ended" in project.output(), project.output)

    # Saved once, so that the server replaces its worker once, and logs one line about it.
    printed = len(project.output())
    project.edit((_WRONG, _RIGHT), ('{"body": payload.body}', '{"body": payload.body.upper()}'))
    expect(problem).to_be_hidden()
    expect(developer.locator("#frames")).to_contain_text("The server has reloaded the code.")
    # Before the end of the replacement, a tab may be connected to the old worker, or to no worker.
    wait_until(lambda: "reloaded the code after" in project.output(), project.output)
    changed = "reloaded the code after a change of chat/room_channel.py"
    # The clients that come back have lines too, under the logger `channels`.
    lines = [
        line for line in project.output()[printed:].splitlines() if "INFO channels:" not in line
    ]
    assert [changed in line for line in lines] == [True], lines
    for tab in (ann, bob):
        expect(tab.locator("#state")).to_have_text("Connected")
    say(ann, "louder")
    expect(bob.get_by_role("log")).to_contain_text("LOUDER")
    expect(ann.locator("#count")).to_have_text("1")

    states = note_states(ann)
    ann.get_by_role("button", name="Crash my channel").click()
    expect(ann.locator("#count")).to_have_text("0")
    assert states() == ["Crashed, joining again", "Connected"]
    read_the_crash(developer)
    say(bob, "all good")
    expect(ann.get_by_role("log")).to_contain_text("ALL GOOD")
    for page in (ann, bob, developer):
        page.close()
    assert errors == []
    assert project.interrupt() == 0


def test_the_page_keeps_a_message_whose_handler_crashed(project: Project, browser: Browser) -> None:
    shutil.copy(PHOENIX_JS, project.folder / "chat/static")
    project.edit(
        (
            "self.count += 1",
            'if payload.body == "boom":\n            raise ValueError\n        self.count += 1',
        )
    )
    errors: list[str] = []
    project.serve("serve", "chat.endpoint:endpoint")
    ann = opened(browser, project.url, errors)
    field = ann.get_by_label("Message", exact=True)
    expect(ann.locator("#state")).to_have_text("Connected")
    states = note_states(ann)
    say(ann, "boom")
    wait_until(lambda: states() == ["Crashed, joining again", "Connected"], lambda: str(states()))
    expect(field).to_have_value("boom")
    say(ann, "hello")
    expect(ann.get_by_role("log")).to_have_text("hello")
    expect(field).to_have_value("")
    ann.close()
    assert errors == []


@pytest.mark.parametrize(
    ("local", "said"),
    [
        (None, "./phoenix.mjs cannot be loaded, and https://cdn"),
        ("", "./phoenix.mjs is another file: it exports no Socket, and https://cdn"),
        ("export const Socket = ", "./phoenix.mjs cannot be loaded, and https://cdn"),
    ],
    ids=["missing", "empty", "broken"],
)
def test_the_page_names_the_file_of_phoenix_js_that_is_missing(
    project: Project, browser: Browser, local: str | None, said: str
) -> None:
    if local is not None:
        (project.folder / "chat/static/phoenix.mjs").write_text(local)
    project.serve("serve", "chat.endpoint:endpoint")
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.route(lambda url: not url.startswith(project.url), lambda route: route.abort())
    page.goto(project.url)
    state = page.locator("#state")
    expect(state).to_contain_text(f"phoenix.js is missing: {said}")
    expect(state).to_contain_text("Run `npm install`, and reload this page")
    page.close()
    assert errors == []


def test_a_new_project_is_served_broken_corrected_and_crashed(
    project: Project, browser: Browser
) -> None:
    shutil.copy(PHOENIX_JS, project.folder / "chat/static")
    follow_the_readme(project, browser)


@pytest.mark.deep
def test_a_server_whose_first_import_fails_shows_the_problem_and_waits(project: Project) -> None:
    project.edit(("class RoomChannel(Channel):", "class RoomChannel(Channel:"))
    project.serve(*SERVE)

    def asked(name: str) -> str:
        with urllib.request.urlopen(f"{project.url}/_ashtree/{name}", timeout=PATIENCE) as answer:
            text: str = answer.read().decode()
        return text

    assert "SyntaxError" in asked("status.json")
    project.edit(("class RoomChannel(Channel:", "class RoomChannel(Channel):"))
    wait_until(lambda: "RoomChannel" in asked("endpoint.json"), project.output)
    assert '"problem":null' in asked("status.json")


# A log-in for the project, as the how-to describes it


def with_a_login(folder: Path) -> None:
    """Create a project, and make the changes in the list and in the code blocks of the how-to."""
    write(folder, project_files(parse_name("chat")))
    write(folder, module_files("socket", parse_name("user"), "chat", mount="/socket"))
    (folder / "chat/static/index.html").rename(folder / "chat/page.html")
    page = (ROOT / LOGIN).read_text()
    module = folder / "chat/user_socket.py"
    module.write_text(
        module.read_text().replace(
            "\n\nSALT", "\n\nfrom chat.room_channel import RoomChannel\n\nSALT"
        )
    )
    changes = re.findall(r"^\d\. In `(\S+)`, replace `(.+?)` with `(.+?)`", page, re.MULTILINE)
    assert len(changes) == 4
    for path, old, new in changes:
        text = (folder / path).read_text()
        assert text.count(old) == 1, f"{old} is not in {path}"
        (folder / path).write_text(text.replace(old, new))
    blocks = snippets_in(LOGIN, page)
    (script,) = (
        one.code for one in blocks if one.language == "javascript" and "baseURI" in one.code
    )
    app = folder / "chat/static/app.js"
    text, changed = re.subn(
        r"^ *const socket = new Socket.*$", script, app.read_text(), flags=re.MULTILINE
    )
    assert changed == 1
    app.write_text(text)
    for block in blocks:
        if block.file is not None:
            (folder / block.file).write_text(block.code.partition("\n")[2] + "\n")


def test_the_tests_of_the_log_in_of_the_how_to_pass(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_login(pytester.path)
    monkeypatch.chdir(pytester.path)
    result = pytester.runpytest_inprocess("--rootdir", ".", "-c", "pyproject.toml", "tests")
    result.assert_outcomes(passed=6)


@pytest.mark.deep
def test_the_log_in_of_the_how_to_works_in_the_browser(tmp_path: Path, browser: Browser) -> None:
    folder = tmp_path / "chat"
    with_a_login(folder)
    shutil.copy(PHOENIX_JS, folder / "chat/static")
    for arguments in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]):
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env={**os.environ, "MYPYPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SECRET_KEY_BASE": "s" * 48}
    project = Project(folder, FROM_TREE, environment)
    project.serve(*SERVE)
    try:
        errors: list[str] = []
        ann, bob = (
            opened(browser, f"{project.url}/?user={name}", errors) for name in ("ann", "bob")
        )
        expect(bob.locator("#state")).to_have_text("Connected")
        say(ann, "hello")
        expect(bob.get_by_role("log")).to_have_text("ann: hello")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            fetched(project.url)
        assert errors == []
    finally:
        project.interrupt()


def test_the_browser_tests_of_the_how_to_pass(project: Project) -> None:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if found is None:
        pytest.skip("there is no Chromium: install it with `apt-get install chromium`")
    shutil.copy(PHOENIX_JS, project.folder / "chat/static")
    blocks = snippets_in(IN_A_BROWSER, (ROOT / IN_A_BROWSER).read_text())
    written = [one for one in blocks if one.file is not None]
    assert len(written) == 2
    for block in written:
        (project.folder / str(block.file)).write_text(block.code.partition("\n")[2].strip() + "\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "CHROMIUM": found}
    for arguments in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["pytest", "-q"]):
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=project.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    # The project has four tests of its own.
    assert "6 passed" in done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from this repository."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps"]
    # The environment of the tests has Hatchling. Without this option, pip would install it again for the build.
    options = ["--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *options, str(ROOT)], check=True)
    (wheel,) = folder.glob("ashtree-*.whl")
    return wheel


def files_of_the_packages() -> set[str]:
    return {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_the_packages_hold_only_python_and_assets_for_the_wheel() -> None:
    """The build puts each file of the packages into the wheel."""
    kinds = {".py", ".typed", ".template", ".html", ".css", ".js", ".mjs", ".mts"}
    assert [name for name in files_of_the_packages() if Path(name).suffix not in kinds] == []


@pytest.mark.deep
def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    about = {name for name in names if name.partition("/")[0].endswith(".dist-info")}
    assert {name.partition("/")[2] for name in about} == {
        *("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"),
    }
    assert names - about == files_of_the_packages()
    assert wheel.name.endswith("-py3-none-any.whl")


class Shell:
    """A shell in a folder, without Ashtree. Its pip fails if a package needs a compiler."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        self._stand_in("useradd")
        python = Path(sys.base_prefix) / "bin"
        inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        self.environment = {
            **inherited,
            "PATH": f"{folder / 'bin'}:{python}:{os.environ['PATH']}",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "CC": "false",
            "CXX": "false",
        }

    def _stand_in(self, program: str) -> None:
        """Create a program that does nothing, in place of a program that would change this machine."""
        file = self.folder / "bin" / program
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)

    def enter(self, venv: Path) -> None:
        """Do what `source .venv/bin/activate` does."""
        self.environment["PATH"] = f"{venv / 'bin'}:{self.environment['PATH']}"

    def run(self, commands: str, folder: Path | None = None) -> str:
        """Run commands, which must succeed, and return their output."""
        done = subprocess.run(
            ["/bin/bash", "-euc", commands],
            cwd=folder or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout


def commands_of(page: str, text: str, number: int = 0) -> list[str]:
    """Return the commands of a console block of a page."""
    blocks = [one for one in snippets_in(page, text) if one.language == "console"]
    return [line.text for line in lines_of(blocks[number].code)]


def install(shell: Shell, source: Path | str) -> None:
    """Install Ashtree, and put the command `ashtree` on the path, as a reader of the page on installing does."""
    shell.run(f"python3 -m venv installed && installed/bin/pip install -q '{source}'")
    shell.enter(shell.folder / "installed")


@pytest.mark.deep
def test_the_quickstart_and_the_readme_of_the_project_work_to_the_letter(
    tmp_path: Path, browser: Browser
) -> None:
    shell = Shell(tmp_path)
    install(shell, ROOT)
    (tmp_path / "empty").mkdir()
    page = "docs/howto/start-a-project.md"
    new, enter, serve = commands_of(page, (ROOT / page).read_text(), 1)
    assert (enter, serve) == ("cd chat", shlex.join(["ashtree", *SERVE]))
    shell.run(new, tmp_path / "empty")
    folder = tmp_path / "empty/chat"
    readme = (folder / "README.md").read_text()
    venv, requirements, serve = commands_of("README.md", readme)
    assert serve == shlex.join(["ashtree", *SERVE])
    # The project needs nothing of the environment that created it.
    shutil.rmtree(tmp_path / "installed")
    shell.run(f"{venv}\n{requirements}", folder)
    shell.enter(folder / ".venv")
    project = Project(folder, ["ashtree"], shell.environment)
    shell.run("npm install --no-audit --no-fund --prefer-offline", project.folder)
    assert (project.folder / "chat/static/phoenix.mjs").read_bytes() == PHOENIX_JS.read_bytes()
    try:
        follow_the_readme(project, browser)
    finally:
        project.interrupt()
    project.edit(("payload.body.upper()", "payload.body"))
    # The section "Test" of the project's README.
    shell.run("\n".join(commands_of("README.md", readme, 1)), project.folder)
    shell.run(
        "ashtree gen types chat.endpoint:endpoint --output assets/channels.ts", project.folder
    )
    shutil.copy(TYPED / "uses.py", project.folder / "chat")
    shell.run("mypy", project.folder)
    assert pyright(project.folder, folder / ".venv/bin/python") == []


@pytest.mark.deep
@pytest.mark.parametrize("source", ["folder", "wheel"])
def test_the_steps_of_the_container_file_give_a_server(
    source: str, wheel: Path, tmp_path: Path
) -> None:
    shell = Shell(tmp_path)
    install(shell, ROOT if source == "folder" else wheel)
    shell.run("ashtree new chat\nrm -r installed\npython3 -m venv image")
    shell.enter(tmp_path / "image")
    stages, environment, command = follow_the_dockerfile(tmp_path / "chat", shell)
    project = Project(stages[-1], command[:1], {**shell.environment, **environment})
    project.serve(*command[1:])
    try:
        page = fetched(f"{project.url}/")
        assert "<title>Chat</title>" in page
        assert fetched(f"{project.url}/phoenix.mjs") == PHOENIX_JS.read_text()
        assert '"status":"ready"' in fetched(f"{project.url}/health/ready")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetched(f"{project.url}/_ashtree")
    finally:
        assert project.interrupt() == 0


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
    return text


def follow_the_dockerfile(
    project: Path, shell: Shell
) -> tuple[list[Path], dict[str, str], list[str]]:
    """Carry out the steps of a project's Dockerfile in folders instead of images.

    Returns:
        The folder `/app` of each stage, the environment variables, and the command.
    """
    allowed = [
        line[1:] for line in (project / ".dockerignore").read_text().splitlines() if line[0] == "!"
    ]
    folders: dict[str, Path] = {}
    environment: dict[str, str] = {}
    command: list[str] = []
    for line in (project / "Dockerfile").read_text().splitlines():
        step, _, rest = line.partition(" ")
        if step == "FROM":
            name = rest.partition(" AS ")[2] or "the image"
            folders[name] = here = shell.folder / f"stage-{len(folders)}"
            here.mkdir()
        elif step == "COPY":
            *sources, target = [word for word in rest.split() if not word.startswith("--")]
            stage = re.match(r"--from=(\w+) ", rest)
            for source in sources:
                assert stage or source.removeprefix("./") in allowed
                found = (
                    folders[stage[1]] / source.removeprefix("/app/") if stage else project / source
                )
                if found.is_dir():
                    shutil.copytree(found, here / target)
                else:
                    shutil.copy(found, here / target)
        elif step == "RUN":
            shell.run(rest, here)
        elif step == "ENV":
            environment |= dict(word.split("=") for word in rest.split())
        elif step == "CMD":
            command = json.loads(rest)
        else:
            assert step in ("", "#", "WORKDIR", "USER", "EXPOSE"), line
    return [*folders.values()], environment, command


# Types


def pyright(folder: Path, python: Path, *paths: Path) -> list[str]:
    """Return the problems that pyright finds in a project, in its strict mode."""
    settings: dict[str, Any] = {
        "include": ["chat", "tests"],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "extraPaths": [str(path) for path in paths],
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [require_node(), str(NODE / "node_modules/pyright/index.js"), "--outputjson"]
    done = subprocess.run(
        [*command, "--pythonpath", str(python)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    files = [file for name in settings["include"] for file in (folder / name).rglob("*.py")]
    assert report["summary"]["filesAnalyzed"] == len(files)
    return [
        f"{Path(one['file']).name}:{one['range']['start']['line'] + 1} {one['message']}"
        for one in report["generalDiagnostics"]
    ]


# Deep, because pyright takes six seconds. mypy checks the same program in each run of `make test`.
@pytest.mark.deep
def test_pyright_accepts_a_new_project_and_a_program_with_much_of_the_api(tmp_path: Path) -> None:
    write(tmp_path, project_files(parse_name("chat")))
    shutil.copy(TYPED / "uses.py", tmp_path / "chat")
    (tmp_path / "chat/wrong.py").write_text(
        "from channels import PushReply\n\nPushReply(status=1)\n"
    )
    found = pyright(tmp_path, Path(sys.executable), ROOT)
    assert [each.partition(" ")[0] for each in found] == ["wrong.py:3"]
