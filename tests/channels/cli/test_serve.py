"""The command line: the served URL, its output, and one sentence without a traceback for a mistake."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel
import trustme
import typer

from channels import Channel, Endpoint, Socket, handle_in
from channels.cli import command as ashtree
from channels.cli import serve as cli
from channels.cli.program import announce, url_of
from channels.cli.serve import run_endpoint, serve_endpoint
from channels.transports.listener import Listener
from tests.channels.rooms import UserSocket

Run = Callable[..., tuple[int, str, str]]

NUMBERS = itertools.count()

FINE = """
from channels import Channel, Endpoint, Socket
class UserSocket(Socket):
    channels = {"room:*": Channel}
endpoint = Endpoint(sockets={"/socket": UserSocket})
other = "not an endpoint"
"""

WRONG_HANDLER = """
from channels import Channel, Endpoint, Socket, handle_in
class RoomChannel(Channel):
    @handle_in("new_msg")
    async def new_msg(self):
        pass
class UserSocket(Socket):
    channels = {"room:*": RoomChannel}
endpoint = Endpoint(sockets={"/socket": UserSocket})
"""

BARE_DECORATOR = """
from channels import Channel, Endpoint, Socket, handle_in
class RoomChannel(Channel):
    @handle_in
    async def new_msg(self, payload):
        pass
"""

WRONG_ROUTE = """
from channels import Channel, Endpoint, Socket
class UserSocket(Socket):
    channels = {"room:*:private": Channel}
endpoint = Endpoint(sockets={"/socket": UserSocket})
"""

WRONG_ROUTE_OBJECT = """
from channels import Channel, Endpoint, Route, Socket
class UserSocket(Socket):
    channels = {"room": Route("room:*:private", Channel)}
endpoint = Endpoint(sockets={"/socket": UserSocket})
"""

WRONG_NUMBER = """
from channels import Channel, Endpoint, Mount, Socket
endpoint = Endpoint(sockets={"/socket": Mount(Socket, timeout=0)})
"""

REFUSING_APPLICATION = """
from channels import Endpoint
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
endpoint = Endpoint(sockets={}, http=app)
"""


@pytest.fixture(autouse=True)
def keep_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Write a module into the current folder, under a name that no test has used."""
    names: list[str] = []

    def write(text: str) -> str:
        name = f"server_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(text)
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command, and return its exit code, its standard output and its standard error."""

    def call(*arguments: str, command: Callable[[], Any] = ashtree.main) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ashtree", *arguments])
        with pytest.raises(SystemExit) as left:
            command()
        out, err = capsys.readouterr()
        code = left.value.code
        assert isinstance(code, int)
        return code, out, err

    return call


def stop_soon(monkeypatch: pytest.MonkeyPatch, what: signal.Signals = signal.SIGTERM) -> None:
    """Send this program a signal as soon as it prints that it serves."""
    say = announce

    def say_and_stop(*words: Any, **options: Any) -> None:
        say(*words, **options)
        os.kill(os.getpid(), what)

    monkeypatch.setattr(cli, "announce", say_and_stop)
    # The collector is tuned for the life of a process, which a test run is not.
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(gc, "set_threshold", lambda *_: None)


# Serving


@pytest.mark.parametrize("what", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_where_it_serves_and_stops_in_order_on_a_signal(
    run: Run,
    module: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    what: signal.Signals,
) -> None:
    stop_soon(monkeypatch, what)
    code, out, err = run("serve", f"{module(FINE)}:endpoint", "--port", "0", "--log-level", "error")
    assert (code, err) == (0, "")
    assert out.startswith("Serving on http://127.0.0.1:")
    assert out.endswith(" (Ctrl-C stops it)\n")


def test_serve_speaks_tls_with_a_certificate(
    run: Run, module: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    issued = trustme.CA().issue_cert("localhost")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    stop_soon(monkeypatch)
    target = f"{module(FINE)}:endpoint"
    options = ("--port", "0", "--log-level", "error", "--certfile", str(certificate))
    code, out, err = run("serve", target, *options, "--keyfile", str(key))
    assert (code, err) == (0, "")
    assert out.startswith("Serving on https://127.0.0.1:")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--keyfile", "key.pem"], "--keyfile needs --certfile"),
        (["--certfile", "nowhere.pem"], "No such file"),
        (["--certfile", __file__], "cannot use the certificate"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_one_sentence(
    run: Run, module: Callable[[str], str], options: list[str], said: str
) -> None:
    code, _, err = run("serve", f"{module(FINE)}:endpoint", *options)
    assert code == 2
    assert said in err
    assert_one_sentence(err)


def test_run_endpoint_is_a_program_with_options(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_soon(monkeypatch)
    endpoint = Endpoint(sockets={"/socket": UserSocket})

    def program() -> None:
        run_endpoint(endpoint, default_port=0, default_log_level="error")

    code, out, _ = run(command=program)
    assert code == 0
    assert out.startswith("Serving on http://127.0.0.1:")
    assert run("--prot", "1", command=program)[0] == 2
    code, out, _ = run("--help", command=program)
    assert code == 0
    assert "--log-level" in out


def test_serve_endpoint_tells_the_address_it_has_got_and_tunes_the_collector() -> None:
    told: list[Any] = []
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()

    def started(url: str) -> None:
        told.extend((url, gc.get_threshold(), gc.get_freeze_count()))
        os.kill(os.getpid(), signal.SIGTERM)

    try:
        serve_endpoint(Endpoint(sockets={}), port=0, on_started=started)
        url, tuned, freezed = told
        assert url.startswith("http://127.0.0.1:")
        assert tuned == cli.collector_thresholds(sys.version_info)
        assert freezed > frozen
    finally:
        gc.unfreeze()
        if frozen:  # by tests/conftest.py
            gc.freeze()
        gc.set_threshold(*thresholds)


@pytest.mark.parametrize(
    ("version", "is_incremental"),
    [
        ((3, 11, 0), False),
        ((3, 13, 5), False),
        ((3, 14, 0, "final", 0), True),
        ((3, 14, 4, "final", 0), True),
        ((3, 14, 5, "final", 0), False),
        ((3, 15, 0), False),
    ],
)
def test_the_collector_scans_all_objects_once_in_five_million_new_ones(
    version: tuple[int, ...], is_incremental: bool
) -> None:
    young, second, _ = cli.collector_thresholds(version)
    # A collection of the youngest generation must be short, so it scans few objects. A collection of an older
    # generation scans many objects, so it must be rare. An incremental collector scans one part of ten times the second
    # number with each collection of the youngest generation.
    collections = 10 * second if is_incremental else second
    assert young <= 20_000
    assert young * collections == 5_000_000


def test_each_python_of_this_machine_takes_the_thresholds_for_its_version() -> None:
    """A Python with the incremental collector has no third threshold, so it reads 0."""
    program = "import gc, sys; gc.set_threshold(20_000, 25, 7); print(*sys.version_info[:3], gc.get_threshold()[2])"
    names = [f"python3.{minor}" for minor in range(11, 16)]
    found = [sys.executable, *filter(None, map(shutil.which, names))]
    for python in found:
        out = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
        # The command of a version manager fails for a version that is not active.
        if python == sys.executable or not out.returncode:
            *version, third = map(int, out.stdout.split())
            is_incremental = cli.collector_thresholds(tuple(version))[2] == 0
            assert is_incremental is (third == 0), out.stdout


def test_tuning_the_collector_can_be_left_out() -> None:
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()

    def started(_: str) -> None:
        assert (gc.get_threshold(), gc.get_freeze_count()) == (thresholds, frozen)
        os.kill(os.getpid(), signal.SIGTERM)

    serve_endpoint(Endpoint(sockets={}), port=0, tune_gc=False, on_started=started)


def test_an_address_of_ipv6_is_a_url_with_brackets() -> None:
    assert url_of("::1", 4000) == "http://[::1]:4000"
    assert url_of("127.0.0.1", 4000) == "http://127.0.0.1:4000"


# Mistakes


def assert_one_sentence(said: str) -> None:
    assert said.endswith("\n")
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
    assert "Error" not in said


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (WRONG_HANDLER, ["RoomChannel.new_msg", "write `async def new_msg(self, payload)`"]),
        (BARE_DECORATOR, ['write @handle_in("new_msg"), not @handle_in']),
        (WRONG_ROUTE, ["'room:*:private'", "write 'room:*'"]),
        (WRONG_ROUTE_OBJECT, ["'room:*:private'", "write 'room:*'"]),
        (WRONG_NUMBER, ["Mount got timeout=0", "write a number above 0"]),
        (REFUSING_APPLICATION, ["the mounted application did not start: no database"]),
    ],
)
def test_a_mistake_in_what_is_served_is_one_sentence_and_exit_code_1(
    run: Run, module: Callable[[str], str], text: str, parts: list[str]
) -> None:
    code, out, err = run("serve", f"{module(text)}:endpoint", "--port", "0")
    assert (code, out) == (1, "")
    assert_one_sentence(err)
    for part in parts:
        assert part in err


def test_a_mistake_in_a_program_is_one_sentence_and_exit_code_1(run: Run) -> None:
    class Wrong(Channel):
        @handle_in("new_msg")
        async def new_msg(self) -> None: ...

    class WrongSocket(Socket):
        channels = {"room:*": Wrong}

    endpoint = Endpoint(sockets={"/socket": WrongSocket})
    code, _, err = run("--port", "0", command=lambda: run_endpoint(endpoint))
    assert code == 1
    assert_one_sentence(err)
    assert "Wrong.new_msg" in err


def test_a_wrong_child_of_the_endpoint_is_one_sentence_and_exit_code_1(run: Run) -> None:
    endpoint = Endpoint(sockets={}, children=[7])  # type: ignore[list-item]
    code, _, err = run("--port", "0", command=lambda: run_endpoint(endpoint))
    assert code == 1
    assert_one_sentence(err)
    assert "7 cannot be a child" in err


def test_a_port_in_use_is_one_sentence_and_exit_code_1(
    run: Run, module: Callable[[str], str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = run("serve", f"{module(FINE)}:endpoint", "--port", str(port))
    assert (code, out) == (1, "")
    assert_one_sentence(err)
    assert err.startswith(f"cannot listen on 127.0.0.1:{port}: the port is in use")


def test_an_endpoint_that_fails_later_is_one_sentence_and_exit_code_1(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(gc, "set_threshold", lambda *_: None)

    async def broken(self: Listener, on_connection: Any) -> None:
        await trio.lowlevel.checkpoint()
        raise OSError("the network is down")

    monkeypatch.setattr(Listener, "main", broken)
    endpoint = Endpoint(sockets={})
    code, _, err = run(
        "--port", "0", "--log-level", "critical", command=lambda: run_endpoint(endpoint)
    )
    assert code == 1
    assert err.count("\n") == 1
    # Why is in the log, whose level was set too high to show it.
    assert "gave up" in err


def test_the_version_can_be_asked_for(run: Run) -> None:
    assert run("--version") == (0, f"ashtree {metadata.version('ashtree')}\n", "")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["serve"], "MODULE:ENDPOINT"),
        (["serve", "{fine}"], "MODULE:ENDPOINT; write it as in chat.server:endpoint"),
        (["serve", "{fine}:"], "is not of the form MODULE:ENDPOINT"),
        (["serve", ":endpoint"], "is not of the form MODULE:ENDPOINT"),
        (["serve", "{fine}:missing"], "has no endpoint 'missing'; write one of: endpoint"),
        (["serve", "{fine}:other"], "is not an Endpoint; write one of: endpoint"),
        (["serve", "no_such_module:endpoint"], "there is no module 'no_such_module'"),
        (["serve", "{fine}.inner:endpoint"], "there is no module '{fine}.inner'"),
        (["serve", "chat/server.py:endpoint"], "chat/server.py is the name of a file"),
        (["serve", ".chat:endpoint"], "'.chat' is not the name of a module"),
        (["serve", "{fine}:endpoint", "--prot", "1"], "--prot"),
        (["serve", "{fine}:endpoint", "--port", "70000"], "65535"),
        (["serve", "{fine}:endpoint", "--port", "many"], "'--port'"),
        (["serve", "{fine}:endpoint", "--log-level", "loud"], "loud"),
        (["sreve"], "sreve"),
    ],
)
def test_what_was_typed_wrong_is_one_sentence_and_exit_code_2(
    run: Run, module: Callable[[str], str], arguments: list[str], part: str
) -> None:
    fine = module(FINE)
    code, out, err = run(*(each.format(fine=fine) for each in arguments))
    assert (code, out) == (2, "")
    assert_one_sentence(err)
    assert part.format(fine=fine) in err
    assert err.endswith("(see --help)\n")


COMMANDS = [
    ("serve", "{module}:endpoint"),
    ("simulate", "{module}:scenario"),
    ("compare", "{module}:scenario", "--policy", "a=1", "--policy", "a=2"),
    ("chaos", "{module}:scenario"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=[each[0] for each in COMMANDS])
def test_a_module_that_fails_is_shown_with_its_own_frames_alone(
    run: Run, module: Callable[[str], str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    inner = module("def divide():\n    return 1 / 0\n\ndivide()\n")
    outer = module(f"import {inner}\n")
    code, out, err = run(*(each.format(module=outer) for each in command))
    assert (code, out) == (1, "")
    lines = [line for line in err.splitlines() if "~" not in line]  # as some Pythons underline
    assert lines == [
        f"{outer} cannot be imported:",
        "Traceback (most recent call last):",
        f'  File "{tmp_path}/{outer}.py", line 1, in <module>',
        f"    import {inner}",
        f'  File "{tmp_path}/{inner}.py", line 4, in <module>',
        "    divide()",
        f'  File "{tmp_path}/{inner}.py", line 2, in divide',
        "    return 1 / 0",
        "ZeroDivisionError: division by zero",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def broken(:\n", "SyntaxError: invalid syntax"),
        ("import surely_not_installed\n", "No module named 'surely_not_installed'"),
        # Its name begins like that of the module.
        ("import serv\n", "No module named 'serv'"),
        (
            "from actors import GenServer\nclass Counter(GenServer):\n    def init(self): ...\n",
            "InvalidCallback: Counter.init is not async",
        ),
    ],
)
def test_what_is_wrong_in_a_module_is_shown_with_its_line_and_nothing_of_ashtree(
    run: Run, module: Callable[[str], str], tmp_path: Path, text: str, said: str
) -> None:
    name = module(text)
    code, out, err = run("serve", f"{name}:endpoint")
    assert (code, out) == (1, "")
    assert f'File "{tmp_path}/{name}.py", line ' in err
    assert err.count("File ") == 1
    assert said in err.splitlines()[-1]


def test_an_error_that_a_module_has_made_of_another_shows_both(
    run: Run, module: Callable[[str], str]
) -> None:
    name = module("try:\n    {}[1]\nexcept KeyError as error:\n    raise ValueError from error\n")
    code, _, err = run("serve", f"{name}:endpoint")
    assert code == 1
    assert err.index("KeyError: 1") < err.index("direct cause") < err.index("ValueError")
    assert "channels/cli" not in err
    assert "importlib" not in err


def test_a_process_that_a_module_starts_names_the_place_for_processes(
    run: Run, module: Callable[[str], str], tmp_path: Path
) -> None:
    name = module(
        "import trio\nfrom actors import GenServer\n\nclass Counter(GenServer):\n"
        "    async def init(self): ...\n\ntrio.run(Counter.start_link)\n"
    )
    code, out, err = run("serve", f"{name}:endpoint")
    assert (code, out) == (1, "")
    assert err == (
        f"{tmp_path}/{name}.py:7: there is no runtime here, because the server starts after the import of this "
        "module; start your processes in the lifespan of the ASGI application that you pass as Endpoint(http=...)\n"
    )


def test_a_mistake_in_a_class_says_the_line_of_the_class(
    run: Run, module: Callable[[str], str], tmp_path: Path
) -> None:
    name = module(BARE_DECORATOR)
    code, _, err = run("serve", f"{name}:endpoint")
    assert code == 1
    assert err.startswith(f"{tmp_path}/{name}.py:4: handle_in takes the names of events")


# The watchdog


BLOCKING = """
import logging
import threading
from channels import Endpoint
watchdog = logging.getLogger("actors.instrumentation.watchdog")
spoken = threading.Event()
def listen(record):
    spoken.set()
    return True
watchdog.addFilter(listen)
async def app(scope, receive, send):
    await receive()
    # Blocks until the watchdog has spoken, so that nothing here depends on a time.
    spoken.wait(20)
    watchdog.removeFilter(listen)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
endpoint = Endpoint(sockets={}, http=app)
"""


def _served(run: Run, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> float | None:
    """Serve for a moment, and return the limit of the watchdog."""
    limits: list[float | None] = []
    serve = cli.serve_endpoint

    def watched(endpoint: Endpoint, *, watchdog: float | None, **options: Any) -> None:
        limits.append(watchdog)
        serve(endpoint, watchdog=watchdog, **options)

    monkeypatch.setattr(cli, "serve_endpoint", watched)
    stop_soon(monkeypatch)
    code, _, _ = run(*arguments, "--port", "0", "--log-level", "error")
    assert code == 0
    (limit,) = limits
    return limit


@pytest.mark.parametrize(
    ("options", "limit"),
    [([], 0.5), (["--watchdog", "2"], 2.0), (["--watchdog", "0"], None)],
)
def test_serve_watches_for_handlers_that_block_unless_told_not_to(
    run: Run,
    module: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    limit: float | None,
) -> None:
    assert _served(run, monkeypatch, "serve", f"{module(FINE)}:endpoint", *options) == limit


def test_what_blocks_the_server_is_logged_with_its_line_and_what_to_write(
    run: Run,
    module: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    name = module(BLOCKING)
    stop_soon(monkeypatch)
    code, _, _ = run("serve", f"{name}:endpoint", "--port", "0", "--watchdog", "0.02")
    assert code == 0
    assert f"app is at {tmp_path}/{name}.py:14: spoken.wait(20)" in caplog.text
    assert "Write `await trio.sleep(seconds)` in place of time.sleep()" in caplog.text


# Other distributions with packages of the same names


def _install(folder: Path, package: str, files: str) -> None:
    info = folder / f"{package}-4.2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 4.2.0\n")
    (info / "RECORD").write_text(files)


@pytest.mark.parametrize(
    ("package", "known"),
    [("channels", "Django Channels"), ("supervision", "Roboflow Supervision")],
)
def test_another_distribution_with_a_package_of_ours_is_named_at_the_start(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str, known: str
) -> None:
    _install(tmp_path, package, f"{package}/__init__.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, out, err = run("--version")
    assert (code, out) == (0, f"ashtree {metadata.version('ashtree')}\n")
    assert err.startswith(
        f"Warning: {package} 4.2.0 ({known}) is installed in this environment beside Ashtree, and both install the "
        f"package {package!r}: Ashtree's files have overwritten some of its own, so {known} cannot work"
    )
    assert "environment of its own" in err
    assert err.count("\n") == 1


def test_a_distribution_of_one_of_our_names_with_other_packages_is_no_clash(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _install(tmp_path, "actors", "something_else/__init__.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run("--version")[2] == ""


def test_help_lists_the_commands_of_the_test_tools_without_loading_them() -> None:
    code = (
        "import sys\n"
        "from channels.cli.command import main\n"
        "sys.argv = ['ashtree', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "tools = ('supervision.laboratory', 'channels.testing')\n"
        "print('loaded:', [name for name in sys.modules if name.startswith(tools)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(each in done.stdout for each in ("simulate", "replay", "compare", "chaos"))
    assert done.stdout.endswith("loaded: []\n")


@pytest.mark.parametrize("command", [["serve"], ["gen", "types"], ["simulate"]], ids=" ".join)
def test_ctrl_c_during_the_import_of_the_module_of_the_user_exits_with_130(
    run: Run, module: Callable[[str], str], command: list[str]
) -> None:
    name = module("raise KeyboardInterrupt")
    assert run(*command, f"{name}:anything") == (130, "", "")


def test_ctrl_c_before_the_command_exits_with_130(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(app: typer.Typer, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(typer.Typer, "__call__", interrupt)
    assert run("serve") == (130, "", "")


# Options


def test_every_option_of_serve_has_a_variable_that_the_help_names(run: Run) -> None:
    _, out, _ = run("serve", "--help")
    for name in cli.serve_command.__annotations__:
        if name not in ("target", "return"):
            assert f"ASHTREE_{name.upper()}" in "".join(out.split()), name


def test_a_variable_sets_an_option_and_the_command_line_counts_first(
    run: Run, module: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASHTREE_PORT", "nowhere")
    code, _, err = run("serve", f"{module(FINE)}:endpoint")
    assert (code, "ASHTREE_PORT" in err or "'nowhere'" in err) == (2, True)
    stop_soon(monkeypatch)
    code, out, _ = run("serve", f"{module(FINE)}:endpoint", "--port", "0")
    assert (code, "Serving on" in out) == (0, True)


def test_folders_to_watch_need_reload_and_must_exist(
    run: Run, module: Callable[[str], str], tmp_path: Path
) -> None:
    target = f"{module(FINE)}:endpoint"
    code, _, err = run("serve", target, "--watch", str(tmp_path))
    assert (code, "--watch needs --reload" in err) == (2, True)
    code, _, err = run("serve", target, "--reload", "--watch", str(tmp_path / "no"))
    assert (code, "there is no such folder" in err) == (2, True)
