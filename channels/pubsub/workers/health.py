"""The health of a server with workers: JSON lines on a Unix socket.

The parent sends one line about the server and one about each worker to every client that connects, and then closes the
connection. `ashtree workers` reads them. So can every other program of the same user:

    $ nc -U /run/user/1000/ashtree/127.0.0.1:4000.sock
    {"type":"server","address":"http://127.0.0.1:4000","pid":4711,"state":"serving","workers":4, ...}
    {"type":"worker","place":1,"id":1,"pid":4712,"state":"serving","uptime":12.5, ...}
"""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import msgspec
import trio

from actors.declared import declared
from channels.errors import ChannelsError

__all__ = [
    "HealthError",
    "Report",
    "ServerReport",
    "WorkerReport",
    "all_folders",
    "default_folder",
    "path_for",
    "read_health",
    "serve_health",
    "was_left_behind",
]

# The most clients at a time. Further clients get no report.
_CLIENTS = 16
# Seconds for a client to read the report.
_PATIENCE = 5.0
# The longest path of a Unix socket on Linux, without the zero byte at its end.
_MAX_PATH = 107


@declared("{message}")
class HealthError(ChannelsError):
    """A health socket cannot be opened or read.

    Attributes:
        message: the text.
        path: the path of the socket.
    """

    message: str
    path: Path


class ServerReport(msgspec.Struct, kw_only=True, tag_field="type", tag="server"):
    """The report of a server.

    Attributes:
        address: its URL.
        pid: the process id of the parent.
        state: starting, serving or stopping.
        workers: the number of places.
        uptime: seconds since its start.
        restarts: the number of workers that ended without a request.
        replacing: True while the workers are replaced.
        replacements: the number of replacements that were asked for.
        problem: the reason why the last replacement ended early; None if it did not.
    """

    address: str
    pid: int
    state: str
    workers: int
    uptime: float
    restarts: int
    replacing: bool
    replacements: int = 0
    problem: str | None = None


class WorkerReport(msgspec.Struct, kw_only=True, tag_field="type", tag="worker"):
    """The report of a worker, or of a place without one.

    Attributes:
        place: the number of its place.
        id: its id, which is also the end of its node name; None if the place has no worker.
        pid: its process id.
        state: starting, serving, stopping, or waiting (for a restart).
        uptime: seconds since its start.
        restarts: the number of workers of this place that ended without a request.
        last_end: the end of the last of these workers.
        answers: True if the worker answered within a second. A stopped or blocked worker does not.
        connections: clients of the worker: WebSockets, polling sessions and requests.
        topics: topics with subscribers in the worker.
        entities: keys of entities that the worker owns.
        memory: its resident memory in bytes.
        cpu: seconds of CPU that it used.
        sent: messages that it sent to the other workers.
        received: messages that it got from them.
        dropped: messages that it dropped, because another worker did not read.
        waiting_bytes: bytes that wait in it for other workers.
    """

    place: int
    state: str
    restarts: int
    last_end: str | None = None
    id: int | None = None
    pid: int | None = None
    uptime: float | None = None
    answers: bool = False
    connections: int | None = None
    topics: int | None = None
    entities: int = 0
    memory: int | None = None
    cpu: float | None = None
    sent: int = 0
    received: int = 0
    dropped: int = 0
    waiting_bytes: int = 0


Report: TypeAlias = ServerReport | WorkerReport

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Report).decode


def default_folder() -> Path:
    """Return the folder of this user's health sockets. It may not exist yet.

    A unit of systemd has a folder of its own: the first one of its RuntimeDirectory.
    """
    for name in ("XDG_RUNTIME_DIR", "RUNTIME_DIRECTORY"):
        runtime = os.environ.get(name, "").partition(":")[0]
        if runtime:
            return Path(runtime) / "ashtree"
    return Path(tempfile.gettempdir()) / f"ashtree-{os.getuid()}"


def all_folders(run: Path = Path("/run")) -> list[Path]:
    """Return the folders of all health sockets that this user can read: for root, also those of the units of systemd.

    Args:
        run: the folder of the units' RuntimeDirectories.
    """
    folder = default_folder()
    if os.getuid() != 0 or "RUNTIME_DIRECTORY" in os.environ:
        return [folder]
    return [folder, *(each for each in sorted(run.glob("*/ashtree")) if each != folder)]


def path_for(host: str, port: int) -> Path:
    """Return the default path for a server at a numeric address."""
    return default_folder() / f"{host}:{port}.sock"


@asynccontextmanager
async def serve_health(
    path: Path, report: Callable[[], Awaitable[Sequence[Report]]]
) -> AsyncIterator[None]:
    """Serve reports on a Unix socket during the block, and remove it at the end.

    Args:
        path: the path of the socket. Its folder is made if necessary. Only this user can connect.
        report: makes the lines for one client.

    Raises:
        HealthError: the socket cannot be made, or another server uses it.
    """
    sock = _listen(path)
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    answer = partial(_answer, report, trio.Semaphore(_CLIENTS))
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, answer, [listener])
            yield
            nursery.cancel_scope.cancel()
    finally:
        sock.close()
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _MAX_PATH:
        raise HealthError(
            f"the path of the health socket is too long: {path}; choose one of at most {_MAX_PATH} bytes with "
            "--health-socket",
            path=path,
        )
    sock = socket.socket(socket.AF_UNIX)
    try:
        _make_folder(path)
        _remove_stale(path)
        sock.setblocking(False)
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(_CLIENTS)
    except OSError as error:
        sock.close()
        raise HealthError(
            f"cannot open the health socket {path}: {error.strerror or error}; choose another path with "
            "--health-socket",
            path=path,
        ) from error
    except BaseException:
        sock.close()
        raise
    return sock


def _make_folder(path: Path) -> None:
    folder = path.parent
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder != default_folder():
        return
    # In the folder for temporary files, another user may have created this folder first.
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise HealthError(
            f"the folder of the health socket, {folder}, belongs to another user; choose a path with --health-socket",
            path=path,
        )


def was_left_behind(path: Path) -> bool:
    """Return True if a server that was killed has left this health socket behind.

    Raises:
        OSError: nobody can tell, because the socket cannot be used.
    """
    if not path.is_socket():
        return False
    with socket.socket(socket.AF_UNIX) as sock:
        # If many clients wait for a busy server, a blocking call would wait too.
        sock.setblocking(False)
        try:
            sock.connect(str(path))
        except ConnectionRefusedError:
            return True
        except BlockingIOError:
            return False
    return False


def _remove_stale(path: Path) -> None:
    """Remove the socket of a server that was killed."""
    if was_left_behind(path):
        path.unlink(missing_ok=True)
    elif path.is_socket():
        raise HealthError(
            f"another server uses the health socket {path}; choose another path with --health-socket",
            path=path,
        )


async def _answer(
    report: Callable[[], Awaitable[Sequence[Report]]],
    slots: trio.Semaphore,
    client: trio.SocketStream,
) -> None:
    async with client:
        try:
            slots.acquire_nowait()
        except trio.WouldBlock:
            return
        try:
            with trio.move_on_after(_PATIENCE):
                await client.send_all(b"".join(_encode(each) + b"\n" for each in await report()))
        except trio.BrokenResourceError:
            # The client has left.
            pass
        finally:
            slots.release()


def read_health(path: Path) -> list[Report]:
    """Ask the server of a health socket. Blocks for at most a few seconds.

    Raises:
        HealthError: no server answers there, or its answer makes no sense.
    """
    answer = bytearray()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_PATIENCE)
        try:
            sock.connect(str(path))
            while chunk := sock.recv(65536):
                answer += chunk
        except OSError as error:
            problem = "no answer in time" if isinstance(error, TimeoutError) else error.strerror
            raise HealthError(
                f"no server answers at the health socket {path}: {problem or error}", path=path
            ) from error
    try:
        return [_decode(line) for line in answer.splitlines()]
    except msgspec.MsgspecError as error:
        raise HealthError(
            f"the program at the socket {path} is not `ashtree serve --workers`, or has another version: its answer "
            f"cannot be read ({error}); check the path, or restart the server",
            path=path,
        ) from error
