"""Servers with workers in processes of their own, and clients that talk to them and measure their absences."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import trio
from attrs import Factory, define
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection

from channels.pubsub.workers.health import HealthError, ServerReport, WorkerReport, read_health
from tests.integration.forks import Program
from tests.integration.servers import free_port
from tests.patience import PATIENCE, wait_until
from tests.websockets import open_websocket

COMMAND = [sys.executable, "-c", "from channels.cli.command import main; main()"]
TARGET = "tests.integration.worker_app:endpoint"
RETRIES = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5)  # those of phoenix.js, in seconds


class WorkersServer:
    """`ashtree serve --workers`, from its start to its end. With None, it serves without the option."""

    def __init__(
        self,
        folder: Path,
        workers: int | None,
        *options: str,
        target: str = TARGET,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.health_socket = folder / "health.sock"
        self.imported = folder / "imported"
        self.broken = folder / "broken"
        self._log = folder / "log"
        self._environment = {
            **os.environ,
            "IMPORTED": str(self.imported),
            "BROKEN": str(self.broken),
            **(environment or {}),
        }
        self.arguments = [target, "--port", str(self.port), *options]
        if workers is not None:
            self.arguments += ["--workers", str(workers)]
            self.arguments += ["--health-socket", str(self.health_socket)]
        self.process: Program | None = None

    def start(self) -> None:
        """Start it, without a wait."""
        with self._log.open("ab") as log:
            self.process = Program(
                "tests.integration.ashtree",
                "serve",
                *self.arguments,
                stdout=log.fileno(),
                environment=self._environment,
            )

    def serve(self) -> None:
        """Start it, and wait until all workers serve."""
        self.start()
        wait_until(lambda: self.has_ended or "Serving on" in self.output(), self.output)
        assert not self.has_ended, self.output()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def has_ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def output(self) -> str:
        """Everything that the parent and its workers have printed."""
        return self._log.read_text() if self._log.exists() else ""

    def send(self, signum: int) -> None:
        """Send a signal to the parent."""
        assert self.process is not None
        self.process.send_signal(signum)

    def wait(self) -> int:
        """Wait for the end of the parent, and return its exit code."""
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def workers(self) -> list[WorkerReport]:
        """Return what the server reports about its workers."""
        return [each for each in read_health(self.health_socket) if isinstance(each, WorkerReport)]

    def server(self) -> ServerReport:
        """Return what the server reports about itself."""
        (server,) = [
            each for each in read_health(self.health_socket) if isinstance(each, ServerReport)
        ]
        return server

    def pids(self) -> list[int]:
        """Return the process ids of all workers that were started so far, and may have ended."""
        started = self.imported.read_text().split() if self.imported.exists() else []
        return [int(pid) for pid in started]

    def close(self) -> None:
        """End everything that still runs."""
        if self.process is None:
            return
        if not self.has_ended:
            self.send(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                self.process.wait(PATIENCE)
        self.process.kill()
        self.process.wait(PATIENCE)
        for pid in self.pids():
            if is_worker(pid):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(is_worker, self.pids())))


def serve_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `ashtree serve` in a folder until it ends by itself, and return what it printed."""
    streams = [folder / "stdout", folder / "stderr"]
    with streams[0].open("wb") as stdout, streams[1].open("wb") as stderr:
        program = Program(
            "tests.integration.ashtree",
            "serve",
            *arguments,
            stdout=stdout.fileno(),
            stderr=stderr.fileno(),
            folder=folder,
        )
    try:
        code = program.wait(PATIENCE)
    finally:
        program.kill()
    return subprocess.CompletedProcess(arguments, code, *(each.read_text() for each in streams))


def is_worker(pid: int) -> bool:
    """Return True if a worker runs under this process id."""
    try:
        return b"channels.cli.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@contextlib.contextmanager
def serving_with(
    folder: Path, workers: int, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[WorkersServer]:
    """Serve `worker_app` with workers, until the end of the block."""
    server = WorkersServer(folder, workers, *options, environment=environment)
    try:
        server.serve()
        yield server
    finally:
        server.close()


def settled(server: WorkersServer) -> bool:
    """Return True if no replacement is under way."""
    try:
        return not server.server().replacing
    except HealthError:
        return False


@define(eq=False)
class Member:
    """A client that stays in a room, comes back as phoenix.js does, and says something now and then.

    Attributes:
        refused: connections that were refused or broken before the WebSocket was open.
        absences: for each time it was away: the attempts, and the seconds.
    """

    port: int
    room: str = "room:lobby"
    pause: float = 0.1
    talks: bool = True
    where: dict[str, Any] = Factory(dict)
    said: int = 0
    answered: int = 0
    heard: list[Any] = Factory(list)
    refused: list[str] = Factory(list)
    absences: list[tuple[int, float]] = Factory(list)
    codes: list[int] = Factory(list)
    is_in: bool = False
    is_quiet: bool = False
    _left: float | None = None
    _attempts: int = 0
    _connection: WebSocketConnection | None = None
    _refs: int = 0
    _waiting: dict[str, str] = Factory(dict)

    async def main(self) -> None:
        """Connect, and come back after every end."""
        attempt = 0
        while True:
            self._attempts += 1
            try:
                await self._be_connected()
            except* ConnectionClosed:
                attempt = 0
            except* (HandshakeError, OSError) as errors:
                self.refused.append(repr(errors.exceptions[0]))
            if self.is_in:
                self.is_in, self._left, self._attempts = False, trio.current_time(), 0
            await trio.sleep(RETRIES[min(attempt, len(RETRIES) - 1)])
            attempt += 1

    async def _be_connected(self) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream, trio.open_nursery() as nursery:
            connection = await open_websocket(
                nursery, stream, f"127.0.0.1:{self.port}", timeout=PATIENCE
            )
            try:
                await self._take_part(connection)
            finally:
                if connection.closed is not None:
                    self.codes.append(connection.closed.code)

    async def _take_part(self, connection: WebSocketConnection) -> None:
        self._connection, self._waiting = connection, {}
        await self._push("phx_join", {})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, connection)
            while self.talks:
                if self.is_in and not self.is_quiet and "say" not in self._waiting.values():
                    self.said += 1
                    await self.say(self.said)
                await trio.sleep(self.pause)

    async def say(self, what: Any) -> None:
        """Say something to the room."""
        await self._push("say", {"by": id(self), "what": what})

    async def ask(self) -> None:
        """Ask who serves, for `where`."""
        await self._push("where", {})

    async def push(self, event: str) -> None:
        """Push another event."""
        await self._push(event, {})

    async def _push(self, event: str, payload: Any) -> None:
        assert self._connection is not None
        self._refs += 1
        ref = str(self._refs)
        self._waiting[ref] = event
        await self._connection.send_message(json.dumps(["0", ref, self.room, event, payload]))

    async def _listen(self, connection: WebSocketConnection) -> None:
        while True:
            _, ref, _, event, payload = json.loads(await connection.get_message())
            if event == "said":
                self.heard.append(payload["what"])
            elif event == "phx_reply":
                assert payload["status"] == "ok", payload
                match self._waiting.pop(ref):
                    case "phx_join":
                        self._joined()
                        await self.ask()
                    case "where":
                        self.where = payload["response"]
                    case "say":
                        self.answered += 1

    def _joined(self) -> None:
        if self._left is not None:
            self.absences.append((self._attempts, trio.current_time() - self._left))
        self.is_in, self._left = True, None
