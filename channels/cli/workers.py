"""A server with several workers, and the command `ashtree workers`, which shows the workers."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import trio
import typer

from actors.text import brief
from channels.cli.console import fail
from channels.cli.program import LogFormat, announce, announce_internal, url_of
from channels.errors import ChannelsError
from channels.pubsub.workers.health import (
    Report,
    ServerReport,
    WorkerReport,
    all_folders,
    read_health,
)
from channels.pubsub.workers.places import MAX_WORKERS, check_platform

if TYPE_CHECKING:
    from rich.table import Table

    from channels.pubsub.workers.parent import WorkersSettings

__all__ = ["HealthSocket", "Workers", "count_workers", "serve_with_workers", "workers_command"]

# Seconds between two questions about a replacement.
_POLL: Final = 0.2

Workers = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        envvar="ASHTREE_WORKERS",
        help="Serve with this many processes, which share the port; `auto` takes one for each core.",
    ),
]

HealthSocket = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        envvar="ASHTREE_HEALTH_SOCKET",
        help="The Unix socket of `ashtree workers`, if it is not the default one.",
    ),
]


def count_workers(text: str) -> int:
    """Return the number of workers that an option asks for.

    Raises:
        typer.BadParameter: the text is neither a number nor `auto`.
    """
    if text == "auto":
        check_platform()
        # Only the cores that this process may use, because a container can limit them.
        return min(len(os.sched_getaffinity(0)), MAX_WORKERS)
    # The length is checked, because Python refuses to convert very long numbers.
    is_number = text.isascii() and text.isdecimal() and len(text) < 10
    if not is_number or not 1 <= int(text) <= MAX_WORKERS:
        raise typer.BadParameter(
            f"--workers got {brief(text)}; write a number from 1 to {MAX_WORKERS}, or auto"
        )
    return int(text)


def serve_with_workers(settings: WorkersSettings, log_format: LogFormat = LogFormat.TEXT) -> None:
    """Print the address, and serve until a signal arrives. Blocks.

    Args:
        settings: the workers.
        log_format: the form in which to print the address.

    Raises:
        ChannelsError: the server cannot start.
        SystemExit: a worker failed to start, or a second signal ended the server.
    """
    # Imported here, because `ashtree workers` does not serve.
    from channels.pubsub.workers.parent import run_parent  # noqa: PLC0415
    from channels.pubsub.workers.plan import worker_count  # noqa: PLC0415

    def serving(url: str, internal: tuple[str, int] | None) -> None:
        workers = worker_count(settings.workers)
        announce(f"Serving on {url} with {workers} (Ctrl-C stops them)", log_format)
        if internal is not None:
            announce_internal(url_of(*internal), log_format)
        if settings.watch is not None:
            page = f"{url}/_ashtree"
            announce(f"A change of a file reloads the code. Development page: {page}", log_format)

    async def run() -> int:
        return await run_parent(settings, on_serving=serving)

    code = trio.run(run, restrict_keyboard_interrupt_to_checkpoints=True)
    if code:
        raise SystemExit(code)


# The command


def workers_command(
    health_socket: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The health socket of one server; default is all."),
    ] = None,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines instead of a table.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option(
            help="Replace the workers of one server, and wait. The exit code is 1 if a new worker fails."
        ),
    ] = False,
) -> None:
    """Show the workers of this user's servers, or replace them."""
    servers = _running() if health_socket is None else {health_socket: read_health(health_socket)}
    if replace:
        _replace(list(servers))
        return
    if as_json:
        for report in servers.values():
            for each in report:
                typer.echo(msgspec.json.encode(each).decode())
        return
    # Imported here and below, because only a table needs Rich, and not `ashtree serve --workers`.
    from supervision.applications.command_line.console import plain_console  # noqa: PLC0415

    console = plain_console(file=sys.stdout)
    for report in servers.values():
        console.print(table_of(report))


def _running() -> dict[Path, list[Report]]:
    """Return the reports of the running servers, by their health sockets. Exit if there are none."""
    folders = all_folders()
    servers = {}
    for path in (path for folder in folders for path in sorted(folder.glob("*.sock"))):
        try:
            servers[path] = read_health(path)
        except ChannelsError:
            # A killed server leaves its socket file behind.
            continue
    if not servers:
        fail(
            f"no server with workers runs for this user: none answers in {' or '.join(map(str, folders))}; start one "
            "with `ashtree serve MODULE:ENDPOINT --workers N`, or name its socket with --health-socket",
            1,
        )
    return servers


def _replace(paths: Sequence[Path]) -> None:
    """Replace the workers of one server, and wait for the end of the replacement."""
    from channels.pubsub.workers.plan import worker_count  # noqa: PLC0415 # as in serve_with_workers

    if len(paths) > 1:
        sockets = ", ".join(map(str, paths))
        raise typer.BadParameter(
            f"several servers run; name the socket of one with --health-socket: {sockets}"
        )
    (path,) = paths
    before = _server(path)
    if before.state != "serving":
        fail(f"the server at {before.address} is {before.state}; its workers cannot be replaced", 1)
    os.kill(before.pid, signal.SIGHUP)
    while (server := _server(path)).replacing or server.replacements == before.replacements:
        if server.state == "stopping":
            fail(f"the server at {server.address} stops; its workers were not replaced", 1)
        time.sleep(_POLL)
    if server.problem is not None:
        fail(server.problem, 1)
    typer.echo(f"Replaced {worker_count(server.workers)} of {server.address}.")


def _server(path: Path) -> ServerReport:
    return next(each for each in read_health(path) if isinstance(each, ServerReport))


_COLUMNS: Final = (
    "place",
    "worker",
    "pid",
    "state",
    "up",
    "clients",
    "memory",
    "CPU",
    "restarts",
    "dropped",
)


def table_of(report: Sequence[Report]) -> Table:
    """Return the table with the workers of one server."""
    from rich.table import Table  # noqa: PLC0415

    # One space between columns, so that the table fits into 80 characters.
    table = Table(box=None, title_justify="left", caption_justify="left", padding=(0, 1, 0, 0))
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    ends = {}
    for each in report:
        if isinstance(each, ServerReport):
            table.title = _title(each)
        else:
            table.add_row(*_row(each))
            if each.last_end is not None:
                ends[each.place] = f"Place {each.place}: its last worker {each.last_end}."
    lines = list(ends.values())
    owners = [each for each in report if isinstance(each, WorkerReport) and each.entities]
    if owners:
        counts = ", ".join(f"{each.entities} in worker {each.id}" for each in owners)
        lines.append(f"Entities: {counts}.")
    table.caption = "\n".join(lines) or None
    return table


def _title(server: ServerReport) -> str:
    state = "replacing its workers" if server.replacing else server.state
    return f"{server.address}, pid {server.pid}: {state}, up {_duration(server.uptime)}"


def _row(worker: WorkerReport) -> list[str]:
    silent = worker.state == "serving" and not worker.answers
    return [
        str(worker.place),
        _or_dash(worker.id),
        _or_dash(worker.pid),
        "no answer" if silent else worker.state,
        "-" if worker.uptime is None else _duration(worker.uptime),
        _or_dash(worker.connections),
        "-" if worker.memory is None else f"{worker.memory / 1e6:.0f} MB",
        "-" if worker.cpu is None else _duration(worker.cpu),
        str(worker.restarts),
        str(worker.dropped),
    ]


def _or_dash(value: Any) -> str:
    return "-" if value is None else str(value)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    if seconds < 360_000:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} d"
