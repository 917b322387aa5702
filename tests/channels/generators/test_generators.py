"""Generated code: it is formatted, its tests pass, and it overwrites nothing."""

from __future__ import annotations

import base64
import hashlib
import importlib
import io
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from channels import Draining, Endpoint
from channels.cli.console import new_app, run_app
from channels.durable import JAVASCRIPT
from channels.errors import ChannelsError
from channels.generators import files
from channels.generators.commands import add_generators
from channels.generators.files import project_files, render, write
from channels.generators.names import parse_name
from channels.generators.wheel import build_wheel, wheel_name
from channels.pubsub.workers.plan import Timing
from tests.architecture.sources import PACKAGES, ROOT
from tests.channels.conftest import Serve
from tests.channels.support import head, settle

PHOENIX = ROOT / "tests/integration/node/node_modules/phoenix"


class Shell:
    """The command `ashtree`, in a folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._patch = monkeypatch
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code and the output."""
        self._patch.setattr(sys, "argv", ["ashtree", *arguments])
        app = new_app()
        add_generators(app, new_app())
        with pytest.raises(SystemExit) as left:
            run_app(app)
        assert isinstance(left.value.code, int)
        captured = self._capsys.readouterr()
        return left.value.code, captured.out + captured.err

    def enter(self, folder: str) -> None:
        self._patch.chdir(folder)


@pytest.fixture
def shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], pytester: pytest.Pytester
) -> Shell:
    monkeypatch.chdir(pytester.path)
    return Shell(monkeypatch, capsys)


@pytest.fixture
def project(shell: Shell) -> Shell:
    """A project with one module of each kind, in the current folder."""
    assert shell.run("new", "game_table")[0] == 0
    shell.enter("game_table")
    for arguments in (
        ("channel", "Score"),
        ("presence", "online"),
        ("entity", "Auction"),
        ("socket", "user"),
    ):
        code, printed = shell.run("gen", *arguments)
        assert code == 0, printed
    return shell


def test_the_tests_of_a_generated_project_pass(project: Shell, pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--rootdir", ".", "-c", "pyproject.toml", "tests")
    result.assert_outcomes(passed=15)


def test_generated_code_is_formatted(project: Shell) -> None:
    for arguments in (["check", "."], ["format", "--check", "."]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.deep
def test_generated_code_is_typed(project: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    done = subprocess.run(
        [sys.executable, "-m", "mypy"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


async def test_a_new_project_answers_the_probes_of_proxies(
    shell: Shell, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.run("new", "probed_chat")
    shell.enter("probed_chat")
    monkeypatch.syspath_prepend(".")
    endpoint: Endpoint = importlib.import_module("probed_chat.endpoint").endpoint
    server = await serve(endpoint)
    for path in ("/health/ready", "/health/live"):
        client = await server.accept()
        client.write(head(path, "host: test\r\n"))
        await settle()
        answer = client.answer()
        assert answer is not None
        assert answer.status == 200
    # Caddy asks every 2 s, and waits up to 2 s for an answer.
    assert endpoint.draining.notice > 4.0


def test_new_prints_the_commands_that_serve_the_project(shell: Shell) -> None:
    code, printed = shell.run("new", "chat_room")
    assert code == 0
    assert "  cd chat_room\n  ashtree serve chat_room.endpoint:endpoint --reload\n" in printed


def test_a_socket_that_the_endpoint_would_hide_comes_with_a_warning(shell: Shell) -> None:
    shell.run("new", "chat")
    shell.enter("chat")
    _, user = shell.run("gen", "socket", "user")
    _, door = shell.run("gen", "socket", "door")
    assert "has a class UserSocket, which needs no token. Delete the class" in user
    assert "Delete" not in door
    assert (
        '  endpoint = Endpoint(sockets={..., "/door": Mount(DoorSocket, auth_token=True)})' in door
    )
    # The endpoint mounts UserSocket at /socket.
    for name, path in (("user", "/socket"), ("door", "/door")):
        module = Path(f"chat/{name}_socket.py").read_text()
        assert f'new Socket("{path}", {{authToken: token}})' in module


def test_a_presence_prints_its_route_and_takes_the_user_from_the_socket(shell: Shell) -> None:
    shell.run("new", "chat")
    shell.enter("chat")
    _, printed = shell.run("gen", "presence", "online")
    assert '  channels = {..., "online:*": OnlineChannel}\n' in printed
    assert "  endpoint = Endpoint(..., presences=[online])\n" in printed
    module = Path("chat/online.py").read_text()
    assert 'track(self, self.assigns["user"], {})' in module
    assert "payload[" not in module


def test_an_entity_prints_what_to_give_to_the_endpoint_and_how_to_call_it(shell: Shell) -> None:
    shell.run("new", "chat")
    shell.enter("chat")
    _, printed = shell.run("gen", "entity", "Company")
    assert "  from chat.company import companies, history\n" in printed
    assert "  endpoint = Endpoint(..., histories=[history], children=[companies])\n" in printed
    assert '  state = await call(companies.via("42"), Add(1), timeout=5)\n' in printed
    code, printed = shell.run("gen", "entity", "state")
    assert (code, "write another one, such as 'my_state'" in printed) == (1, True)


def test_durable_writes_the_module_for_a_bundler_and_replaces_an_older_one(shell: Shell) -> None:
    Path("src").mkdir()
    Path("src/durable.mjs").write_text("old")
    code, printed = shell.run("gen", "durable", "src")
    assert (code, printed) == (0, "Wrote src/durable.d.mts\nWrote src/durable.mjs\n")
    for file in JAVASCRIPT.iterdir():
        assert Path("src", file.name).read_bytes() == file.read_bytes()
    Path("file").touch()
    code, printed = shell.run("gen", "durable", "file")
    assert (code, "cannot write file: File exists" in printed) == (2, True)


def test_generated_files_contain_no_placeholders() -> None:
    contents = project_files(parse_name("chat"))
    assert [path for path, text in contents.items() if "{{" in text] == []
    assert tomllib.loads(contents["pyproject.toml"])["project"]["name"] == "chat"
    json.loads(contents["package.json"])
    assert "ashtree serve chat.endpoint:endpoint" in contents["deploy/chat.service"]
    assert contents["Dockerfile"].rstrip().endswith('"serve", "chat.endpoint:endpoint"]')


def test_no_generated_file_lets_a_package_index_choose_ashtree() -> None:
    contents = project_files(parse_name("chat"))
    project = tomllib.loads(contents["pyproject.toml"])["project"]
    lines = [
        *contents["requirements.txt"].splitlines(),
        *contents["requirements-dev.txt"].splitlines(),
    ]
    wanted = [*project["dependencies"], *lines]
    assert not [each for each in wanted if each.startswith("ashtree")]
    assert not [
        line
        for text in contents.values()
        for line in text.splitlines()
        if "pip install" in line and "ashtree" in line
    ]


def test_the_unit_gives_the_server_more_time_than_it_can_need() -> None:
    contents = project_files(parse_name("chat"))
    unit = contents["deploy/chat.service"]
    (notice,) = re.findall(r"Draining\(notice=([\d.]+)\)", contents["chat/endpoint.py"])
    timing = Timing()
    longest = Draining(notice=float(notice)).shutdown_deadline + timing.stop_grace
    assert seconds_of("TimeoutStopSec", unit) > longest == 75.0
    assert seconds_of("TimeoutStartSec", unit) > longest + timing.start_timeout
    assert f"A worker gets {longest:g} seconds" in unit
    # Without workers, the server may need this time.
    (given,) = re.findall(r"docker stop --time (\d+)", contents["Dockerfile"])
    assert float(given) > longest


def seconds_of(setting: str, unit: str) -> float:
    (seconds,) = re.findall(rf"^{setting}=(\d+)$", unit, re.MULTILINE)
    return float(seconds)


def test_the_unit_imports_the_installed_copy_of_the_project() -> None:
    unit = project_files(parse_name("chat_room"))["deploy/chat-room.service"]
    assert "WorkingDirectory=/var/lib/chat-room\nStateDirectory=chat-room\n" in unit
    assert "ExecStart=/opt/chat-room/.venv/bin/ashtree serve chat_room.endpoint:endpoint\n" in unit


def test_the_page_gets_the_published_phoenix_js_and_checks_its_hash() -> None:
    published = (PHOENIX / "priv/static/phoenix.mjs").read_bytes()
    digest = base64.b64encode(hashlib.sha384(published).digest()).decode()
    version = json.loads((PHOENIX / "package.json").read_text())["version"]
    assert version == files.PHOENIX_VERSION
    contents = project_files(parse_name("chat"))
    page, script = contents["chat/static/index.html"], contents["chat/static/app.js"]
    address = f"https://cdn.jsdelivr.net/npm/phoenix@{version}/priv/static/phoenix.mjs"
    assert f'{{ "integrity": {{ "{address}": "sha384-{digest}" }} }}' in page
    assert address in script
    assert json.loads(contents["package.json"])["dependencies"] == {"phoenix": version}


# Refusals


def test_a_project_overwrites_no_folder(shell: Shell) -> None:
    Path("chat_room").mkdir()
    assert shell.run("new", "chat_room")[0] == 0  # an empty folder is accepted
    before = Path("chat_room/README.md").stat()
    code, printed = shell.run("new", "chat_room")
    assert (code, "nothing was written" in printed) == (1, True)
    assert Path("chat_room/README.md").stat() == before


def test_a_name_whose_class_would_hide_another_is_refused(project: Shell) -> None:
    code, printed = project.run("gen", "presence", "Channel")
    assert (code, "write another one, such as 'my_channel'" in printed) == (1, True)
    assert not Path("tests/test_channel.py").exists()


def test_a_module_overwrites_no_file_and_its_test_is_not_written_either(project: Shell) -> None:
    Path("tests/test_score_channel.py").unlink()
    code, printed = project.run("gen", "channel", "score")
    assert code == 1
    assert "score_channel.py exists already" in printed
    assert not Path("tests/test_score_channel.py").exists()


def test_a_broken_link_counts_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ChannelsError):
        write(tmp_path, {"a.txt": "text"})
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["new", "my-game"], "write 'my_game'"),
        (["new", "json"], "is taken by a module of Python"),
        (["gen", "channel", "score"], "no package in "),
        (["gen", "channel", "score", "--package", "nowhere"], "there is no such folder"),
        (["gen", "channel", "score", "--package", ".."], "there is no such folder"),
    ],
)
def test_a_mistake_is_one_sentence(shell: Shell, arguments: list[str], problem: str) -> None:
    code, printed = shell.run(*arguments)
    assert (code, problem in printed, printed.count("\n")) == (1, True, 1), printed
    assert list(Path().iterdir()) == []


def test_a_generator_does_not_choose_between_two_packages(project: Shell) -> None:
    Path("other").mkdir()
    Path("other/endpoint.py").touch()
    code, printed = project.run("gen", "channel", "more")
    assert (code, "game_table, other" in printed) == (1, True)
    assert project.run("gen", "channel", "more", "--package", "other")[0] == 0
    assert Path("other/more_channel.py").is_file()


def test_a_placeholder_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        render("channel/channel.py", {})


# The wheel of Ashtree


def test_a_project_brings_the_wheel_that_it_depends_on(shell: Shell) -> None:
    shell.run("new", "chat")
    (wheel,) = Path("chat/vendor").iterdir()
    for name, extra in (("requirements.txt", ""), ("requirements-dev.txt", "[testing]")):
        lines = Path("chat", name).read_text().splitlines()
        assert [line for line in lines if "ashtree-" in line] == [f"./vendor/{wheel.name}{extra}"]
    settings = tomllib.loads(Path("chat/pyproject.toml").read_text())
    assert settings["project"]["dependencies"] == []


def test_the_wheel_is_the_same_bytes_each_time_and_lists_what_it_contains() -> None:
    data = build_wheel()
    assert build_wheel() == data
    archive = zipfile.ZipFile(io.BytesIO(data))
    about = wheel_name().removesuffix("-py3-none-any.whl") + ".dist-info"
    names = set(archive.namelist())
    assert {"actors/py.typed", "channels/generators/templates/project/Dockerfile.template"} < names
    assert {
        f"{about}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")
    } < names
    assert names >= {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).rglob("[!.]*.*")
        if "__pycache__" not in file.parts
    }
    assert not [
        name for name in names if "__pycache__" in name or name.startswith(("tests", "examples"))
    ]
    listed = [line.split(",") for line in archive.read(f"{about}/RECORD").decode().splitlines()]
    assert {name for name, _, _ in listed} == names
    for name, digest, size in listed:
        if not name.endswith("/RECORD"):
            found = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(found).digest()).rstrip(b"=")
            assert (digest, int(size)) == (f"sha256={expected.decode()}", len(found))


def test_a_wheel_has_no_other_files_and_nothing_from_outside_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, secret = tmp_path / "site", tmp_path / "secret.py"
    secret.write_text("KEY = 'hunter2'")
    for package in ("actors", "supervision", "channels"):
        (root / package).mkdir(parents=True)
        (root / package / "__init__.py").write_text("")
    for name in (".env", "notes.txt", "dump.sqlite"):
        (root / "channels" / name).write_text("hunter2")
    (root / "channels/config.py").symlink_to(secret)
    (root / "channels/same.py").symlink_to(root / "channels/__init__.py")
    (root / "actors/others").symlink_to(tmp_path)
    # With `--link-mode symlink`, uv installs links.
    (root / "channels/installed.py").symlink_to(secret)
    listed = [*(metadata.files("ashtree") or ()), metadata.PackagePath("channels/installed.py")]
    monkeypatch.setattr(metadata.PathDistribution, "files", listed)
    monkeypatch.setattr("channels.generators.wheel._root", lambda: root)
    names = zipfile.ZipFile(io.BytesIO(build_wheel())).namelist()
    assert [name for name in names if ".dist-info" not in name] == [
        "actors/__init__.py",
        "supervision/__init__.py",
        "channels/__init__.py",
        "channels/installed.py",
        "channels/same.py",
    ]


def test_a_wheel_without_metadata_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata.PathDistribution, "files", None)
    with pytest.raises(ChannelsError, match=r"lists no METADATA.*reinstall Ashtree"):
        build_wheel()


def test_an_upgrade_replaces_the_wheel_and_its_name(shell: Shell) -> None:
    shell.run("new", "chat")
    shell.enter("chat")
    files = [Path("requirements.txt"), Path("requirements-dev.txt")]
    old, new = "ashtree-0.0.9-py3-none-any.whl", Path("vendor", wheel_name())
    new.rename(f"vendor/{old}")
    for file in files:
        file.write_text(file.read_text().replace(wheel_name(), old))
    for _ in range(2):
        code, printed = shell.run("gen", "wheel")
        assert (code, wheel_name() in printed) == (0, True)
        assert list(Path("vendor").iterdir()) == [new]
        for file in files:
            assert (wheel_name() in file.read_text(), old in file.read_text()) == (True, False)


@pytest.mark.parametrize("name", ["ashtree-0.0.9-py3-none-any.whl", None])
def test_a_lost_wheel_is_made_again(shell: Shell, name: str | None) -> None:
    shell.run("new", "chat")
    shell.enter("chat")
    wheel, file = Path("vendor", wheel_name()), Path("requirements.txt")
    data = wheel.read_bytes()
    wheel.unlink()
    wheel.parent.rmdir()
    before = file.read_text()
    file.write_text(before.replace(wheel_name(), name or wheel_name()))
    code, _ = shell.run("gen", "wheel")
    assert code == 0
    assert wheel.read_bytes() == data
    assert file.read_text() == before


def test_a_wheel_goes_into_a_project_only(shell: Shell) -> None:
    code, printed = shell.run("gen", "wheel")
    assert (code, "go to a folder that `ashtree new` created" in printed) == (1, True)
