"""Servers that listen on a Unix socket, on an inherited socket, on an internal port, and on both families."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.forks import Program
from tests.integration.worker_servers import COMMAND, serve_in
from tests.patience import PATIENCE, wait_until

APP = "from channels import Endpoint\nendpoint = Endpoint(sockets={})\n"


@contextmanager
def serving(
    folder: Path, *options: str, pass_fds: Sequence[int] = (), app: str = APP
) -> Iterator[tuple[Program | subprocess.Popen[bytes], Path]]:
    """Serve an endpoint without sockets, and give its process and its output."""
    (folder / "app.py").write_text(app)
    log = folder / "log"
    with log.open("wb") as output:
        arguments = ["serve", "app:endpoint", *options]
        process: Program | subprocess.Popen[bytes]
        if pass_fds:
            process = subprocess.Popen(
                [*COMMAND, *arguments], cwd=folder, stdout=output, stderr=output, pass_fds=pass_fds
            )
        else:
            module = "tests.integration.ashtree"
            process = Program(module, *arguments, stdout=output.fileno(), folder=folder)
    try:
        wait_until(lambda: b"Serving on" in log.read_bytes() or process.poll(), log.read_text)
        assert process.poll() is None, log.read_text()
        yield process, log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def asked(sock: socket.socket) -> int:
    """Send a request, and return the status of the answer."""
    with sock:
        sock.settimeout(PATIENCE)
        sock.sendall(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        return answer.status


def connected(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return sock


def refusal(folder: Path, *options: str) -> str:
    """Return the one sentence of a server that does not start."""
    (folder / "app.py").write_text(APP)
    done = serve_in(folder, "app:endpoint", *options)
    assert (done.returncode > 0, done.stderr.count("\n")) == (True, 1), done.stderr
    return done.stderr


def test_a_server_listens_on_a_unix_socket_and_removes_it(tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    with serving(tmp_path, "--unix", str(path)) as (_, log):
        assert f"Serving on unix:{path} " in log.read_text()
        assert asked(connected(path)) == 404
        taken = refusal(tmp_path, "--unix", str(path))
        assert taken.startswith(f"cannot listen on unix:{path}: a file or another server is there")
        assert asked(connected(path)) == 404
    assert not path.exists()


def test_a_killed_server_does_not_keep_its_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    with serving(tmp_path, "--unix", str(path)) as (process, _):
        process.kill()
        process.wait(PATIENCE)
    assert path.is_socket()
    with serving(tmp_path, "--unix", str(path)):
        assert asked(connected(path)) == 404


def test_a_file_in_the_place_of_a_unix_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("important")
    assert "a file or another server is there" in refusal(tmp_path, "--unix", str(path))
    assert path.read_text() == "important"


def test_a_server_accepts_from_a_socket_that_it_inherits(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address, number = sock.getsockname(), sock.fileno()
        early = socket.create_connection(address)
        with serving(tmp_path, "--fd", str(number), pass_fds=[number]) as (_, log):
            assert f"Serving on http://127.0.0.1:{address[1]} " in log.read_text()
            # The connection came before the server started.
            assert asked(early) == 404


def test_a_descriptor_that_is_no_listening_socket_is_refused(tmp_path: Path) -> None:
    expected = "cannot listen on fd:{}: it is no listening socket; give the number of an inherited"
    assert refusal(tmp_path, "--fd", "0").startswith(expected.format(0))
    assert refusal(tmp_path, "--fd", "99").startswith(expected.format(99))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--unix", "a.sock", "--workers", "2"), "--unix does not work with --workers"),
        (("--fd", "3", "--reload"), "--fd does not work with --reload"),
        (("--fd", "3", "--unix", "a.sock"), "--unix and --fd name two sockets"),
    ],
)
def test_options_that_exclude_each_other_are_refused(
    tmp_path: Path, options: tuple[str, ...], expected: str
) -> None:
    assert expected in refusal(tmp_path, *options)


@pytest.mark.parametrize("workers", [(), ("--workers", "1")] if os.name == "posix" else [()])
def test_the_address_of_all_ipv6_addresses_serves_both_families(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    with serving(tmp_path, "--host", "::", "--port", "0", *workers) as (_, log):
        (port,) = re.findall(r"Serving on http://\S+:(\d+) ", log.read_text())
        for host in ("127.0.0.1", "::1") if has_ipv6() else ("127.0.0.1",):
            assert asked(socket.create_connection((host, int(port)))) == 404


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


MONITORED = """\
import pathlib
from channels import Endpoint
from channels.observer import Observer
from channels.operations.health import Health
from channels.operations.metrics import Metrics

script = pathlib.Path("phoenix.mjs")
script.write_text("")
observer = Observer(phoenix_js=script, token="the-token")
endpoint = Endpoint(sockets={}, plugs=[Health(), Metrics(token=None)], observer=observer)
"""
PATHS = ("/health/ready", "/metrics", "/_ashtree/observer/?token=the-token")


def statuses(port: int) -> list[int]:
    """Request the pages of an operator, and return the statuses."""
    found = []
    for path in PATHS:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", path)
            found.append(connection.getresponse().status)
    return found


def test_metrics_and_the_observer_leave_the_public_port_for_the_internal_one(
    tmp_path: Path,
) -> None:
    options = ("--port", "0", "--internal-port", "0")
    with serving(tmp_path, *options, app=MONITORED) as (_, log):
        wait_until(lambda: "answer on" in log.read_text(), log.read_text)
        text = log.read_text()
        public = re.search(r"Serving on http://127\.0\.0\.1:(\d+) ", text)
        internal = re.search(
            r"Health checks, metrics and the observer answer on http://127\.0\.0\.1:(\d+)$",
            text,
            re.MULTILINE,
        )
        assert public is not None, text
        assert internal is not None, text
        assert f"The observer page is at http://127.0.0.1:{internal[1]}/_ashtree" in text
        assert statuses(int(public[1])) == [200, 404, 404]
        assert statuses(int(internal[1])) == [200, 200, 303]


def test_options_of_the_internal_port_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    equal = refusal(tmp_path, "--port", "4000", "--internal-port", "4000")
    assert "--port and --internal-port are both 4000; write two different ports" in equal
    alone = refusal(tmp_path, "--internal-host", "0.0.0.0")
    assert "--internal-host needs --internal-port; add it, or leave the host out" in alone
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for options in ((), ("--workers", "1")):
            text = refusal(tmp_path, "--port", "0", "--internal-port", port, *options)
            assert text.startswith(f"cannot listen on 127.0.0.1:{port}: the port is in use")
