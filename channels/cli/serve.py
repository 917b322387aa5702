"""The command `ashtree serve module:endpoint`, and `run_endpoint` for programs that serve one endpoint."""

from __future__ import annotations

import gc
import os
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn, TypeAlias

import typer

from actors.exits import Crash, Shutdown
from actors.refs import Pid
from actors.watchdog import DEFAULT_LIMIT
from channels import service_manager
from channels.cli.console import new_app, run_app
from channels.cli.program import (
    CapsuleFolder,
    LogFormat,
    LogLevel,
    Record,
    RecordContents,
    Watchdog,
    announce,
    announce_internal,
    load_endpoint,
    open_log,
    recorders,
    tls_context,
    url_of,
)
from channels.cli.workers import HealthSocket, Workers, count_workers, serve_with_workers
from channels.endpoint.endpoint import DEFAULT_INTERNAL_HOST, Endpoint
from channels.errors import MISTAKES
from channels.pubsub.workers.parent import Watch, WorkersSettings
from channels.pubsub.workers.plan import Timing
from channels.transports.listener import Listen, inherited, inherited_socket, unix_socket
from supervision.applications import application
from supervision.child_spec import ChildSpec
from supervision.errors import FailedToStartChild, SupervisionError

__all__ = [
    "collector_thresholds",
    "explain",
    "run_endpoint",
    "serve_command",
    "serve_endpoint",
    "tune_collector",
]

_Host: TypeAlias = Annotated[
    str, typer.Option(envvar="ASHTREE_HOST", help="Address to listen on; :: is every address.")
]
_Port: TypeAlias = Annotated[
    int,
    typer.Option(min=0, max=65535, envvar="ASHTREE_PORT", help="Port; 0 takes any free one."),
]
_Unix: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--unix",
        metavar="PATH",
        envvar="ASHTREE_UNIX",
        help="Listen on this Unix socket instead of a port. Not with --workers.",
    ),
]
_Descriptor: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--fd",
        min=0,
        metavar="N",
        envvar="ASHTREE_FD",
        help="Accept connections from this inherited socket, such as 3 from systemd. Not with --workers.",
    ),
]
_InternalPort: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--internal-port",
        min=0,
        max=65535,
        metavar="N",
        envvar="ASHTREE_INTERNAL_PORT",
        help="Serve health checks, metrics and the observer on a second port; metrics and the observer only there.",
    ),
]
_InternalHost: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--internal-host",
        envvar="ASHTREE_INTERNAL_HOST",
        help=f"Address of the internal port; default is {DEFAULT_INTERNAL_HOST}.",
    ),
]
_Level: TypeAlias = Annotated[
    LogLevel, typer.Option(envvar="ASHTREE_LOG_LEVEL", help="Log this and everything worse.")
]
_Format: TypeAlias = Annotated[
    LogFormat,
    typer.Option(envvar="ASHTREE_LOG_FORMAT", help="Write the log as text, or as lines of JSON."),
]
_Certfile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        envvar="ASHTREE_CERTFILE", help="Serve TLS with this certificate and its chain, in PEM."
    ),
]
_Keyfile: TypeAlias = Annotated[
    Path | None,
    typer.Option(envvar="ASHTREE_KEYFILE", help="The private key, if it is not in the same file."),
]
_Reload: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--reload",
        envvar="ASHTREE_RELOAD",
        help="For development: reload the code when a file changes, and serve the development page.",
    ),
]
_Watch: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FOLDER",
        envvar="ASHTREE_WATCH",
        help="With --reload, a folder of Python files; default is this folder. Repeat it for more, and write a colon "
        "between them in the variable.",
    ),
]

# A server has many long-lived objects, and CPython's garbage collector traverses them again and again. With Python's
# default thresholds, the collector takes three quarters of the time of a server with 15,000 connections. Ashtree's
# processes leave no reference cycles when they end, so the collector can run rarely.
#
# A collection of the youngest generation pauses the server. 200 new connections create about 20,000 objects, and a
# collection of so many objects took 5 ms. A collection of 100,000 objects took 40 ms, because most of the objects were
# no longer in the processor's cache. With a threshold below 20,000, collections would also run while thousands of
# connections only exchange messages. Each collection would scan the objects of all processes that have run since the
# previous collection. The collector scans the next generation after five million new objects.
_GC_THRESHOLDS = (20_000, 250, 100)
# The collector of 3.14.0 to 3.14.4 is incremental: the second number is not a count of collections. Each collection of
# the youngest generation also scans a part of all other objects, 1 / (10 * 25), so it has scanned all of them after
# five million new objects, as above. With 250, garbage would stay ten times as long. 3.14.5 has the former collector
# again. The third number has no meaning there.
_INCREMENTAL_GC_THRESHOLDS = (20_000, 25, 0)


def serve_endpoint(
    endpoint: Endpoint,
    *,
    host: str = "127.0.0.1",
    port: int = 4000,
    ssl_context: ssl.SSLContext | None = None,
    tune_gc: bool = True,
    watchdog: float | None = DEFAULT_LIMIT,
    before: Sequence[ChildSpec] = (),
    on_started: Callable[[str], None] | None = None,
    listen: Listen | None = None,
    internal_host: str = DEFAULT_INTERNAL_HOST,
    internal_port: int | None = None,
) -> None:
    """Serve an endpoint until SIGINT or SIGTERM, then drain and stop it in order. Blocks.

    If systemd started the program as a unit with `Type=notify`, this tells systemd when the server is ready.

    Args:
        endpoint: the endpoint.
        host: the address to listen on.
        port: the port; 0 takes any free port.
        ssl_context: the context for TLS; None is plain HTTP.
        tune_gc: freeze the objects that exist when the server has started, and set the collector's thresholds for many
            long-lived objects.
        watchdog: seconds. If a handler blocks the server for longer, the server logs its name. None turns this off.
        before: children that start before the endpoint and stop after it, such as `channels.recording.recorder_spec()`.
        on_started: a function that gets the URL of the endpoint when it accepts connections.
        listen: the function that opens the listener, as for `Endpoint.start_link`.
        internal_host: the address of the internal port.
        internal_port: the port for health checks, metrics and the observer, as for `Endpoint.start_link`.

    Raises:
        ChannelsError: `Endpoint.check` found a mistake.
        SystemExit: the endpoint did not start, or failed. Before that, this prints the reason to standard error.
    """
    endpoint.check()

    def started(_: Pid) -> None:
        if tune_gc:
            tune_collector()
        if on_started is not None:
            on_started(url_of(*endpoint.address, secure=ssl_context is not None))
        service_manager.ready()

    application.run(
        [
            *before,
            endpoint.child_spec(
                host=host,
                port=port,
                ssl_context=ssl_context,
                listen=listen,
                internal_host=internal_host,
                internal_port=internal_port,
            ),
        ],
        on_started=started,
        on_stopping=service_manager.stopping,
        shutdown_deadline=endpoint.draining.shutdown_deadline,
        watchdog=watchdog,
        explain=explain,
    )


def tune_collector() -> None:
    """Freeze the objects that exist, and set the collector's thresholds for many long-lived objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*collector_thresholds(sys.version_info))


def collector_thresholds(version: tuple[int | str, ...]) -> tuple[int, int, int]:
    """Return the collector's thresholds for a server on a version of Python."""
    is_incremental = (3, 14, 0) <= version < (3, 14, 5)
    return _INCREMENTAL_GC_THRESHOLDS if is_incremental else _GC_THRESHOLDS


def explain(error: SupervisionError) -> str:
    """Return the original cause of a failed start, without the errors of the supervisors that passed it on."""
    reason = getattr(error, "reason", None)
    while isinstance(reason, Shutdown) and isinstance(reason.detail, FailedToStartChild):
        reason = reason.detail.reason
    if isinstance(reason, Crash) and isinstance(reason.exception, MISTAKES):
        return str(reason.exception)
    return str(error)


def run_endpoint(
    endpoint: Endpoint, *, default_port: int = 4000, default_log_level: str = "info"
) -> NoReturn:
    """Read the options of a program, serve one endpoint, and exit. Call this at the end of a `__main__.py`.

        run_endpoint(endpoint, default_port=4000)

    The options are --host, --port, --internal-host, --internal-port, --log-level, --log-format and --watchdog. The
    exit code is 0 after an orderly stop, 1 if the server did not start or failed, 2 for wrong options, and 130 after
    Ctrl-C before the start.
    """
    log_level_default = LogLevel(default_log_level)

    def command(
        host: _Host = "127.0.0.1",
        port: _Port = default_port,
        log_level: _Level = log_level_default,
        log_format: _Format = LogFormat.TEXT,
        *,
        internal_port: _InternalPort = None,
        internal_host: _InternalHost = None,
        watchdog: Watchdog = DEFAULT_LIMIT,
    ) -> None:
        open_log(log_level, log_format)
        internal = _internal_address(internal_host, internal_port, port)
        _serve(endpoint, host, port, log_format, watchdog=watchdog, internal=internal)

    app = new_app()
    app.command(help="Serve until Ctrl-C.")(command)
    run_app(app)


def serve_command(
    target: Annotated[
        str, typer.Argument(metavar="MODULE:ENDPOINT", help="Such as chat.server:endpoint.")
    ],
    host: _Host = "127.0.0.1",
    port: _Port = 4000,
    log_level: _Level = LogLevel.INFO,
    *,
    unix: _Unix = None,
    fd: _Descriptor = None,
    internal_port: _InternalPort = None,
    internal_host: _InternalHost = None,
    log_format: _Format = LogFormat.TEXT,
    watchdog: Watchdog = DEFAULT_LIMIT,
    certfile: _Certfile = None,
    keyfile: _Keyfile = None,
    workers: Workers = None,
    start_timeout: Annotated[
        float,
        typer.Option(
            min=1,
            metavar="SECONDS",
            envvar="ASHTREE_START_TIMEOUT",
            help="The time for a worker to accept connections.",
        ),
    ] = Timing().start_timeout,
    health_socket: HealthSocket = None,
    record: Record = None,
    record_contents: RecordContents = False,
    capsules: CapsuleFolder = None,
    chaos: Annotated[
        bool,
        typer.Option(
            "--chaos",
            help="For staging: let everyone with the token in ASHTREE_CHAOS_TOKEN cause faults.",
        ),
    ] = False,
    reload: _Reload = False,
    watch: _Watch = None,
) -> None:
    """Serve an endpoint until Ctrl-C."""
    open_log(log_level, log_format)
    context = tls_context(certfile, keyfile)
    before = recorders(record, capsules, contents=record_contents)
    watcher = _watcher(watch, reload=reload)
    given = "--unix" if unix is not None else "--fd"
    if (unix is not None or fd is not None) and (workers is not None or watcher is not None):
        other = "--reload" if workers is None else "--workers"
        raise typer.BadParameter(
            f"{given} does not work with {other}, because each worker needs a socket of its own; leave one of them out"
        )
    if unix is not None and fd is not None:
        raise typer.BadParameter("--unix and --fd name two sockets; leave one of them out")
    # A Unix socket or an inherited one leaves --port unused.
    public_port = port if unix is None and fd is None else 0
    internal = _internal_address(internal_host, internal_port, public_port)
    if workers is None and watcher is None:
        endpoint = load_endpoint(target, chaos=chaos)
        with _socket(unix, fd) as listen:
            _serve(
                endpoint,
                host,
                port,
                log_format,
                watchdog=watchdog,
                ssl_context=context,
                before=before,
                listen=listen,
                internal=internal,
            )
        return
    options = {
        "log_level": log_level,
        "log_format": log_format,
        "watchdog": watchdog,
        "certfile": str(certfile) if certfile else None,
        "keyfile": str(keyfile) if keyfile else None,
        "record": str(record) if record else None,
        "record_contents": record_contents,
        "capsules": str(capsules) if capsules else None,
        "reload": reload,
        "chaos": chaos,
    }
    serve_with_workers(
        WorkersSettings(
            command=[sys.executable, "-m", "channels.cli.worker", target],
            host=host,
            port=port,
            internal=internal,
            workers=1 if workers is None else count_workers(workers),
            options=options,
            timing=Timing(start_timeout=start_timeout),
            health_socket=health_socket,
            url=partial(url_of, secure=context is not None),
            watch=watcher,
        ),
        log_format,
    )


@contextmanager
def _socket(unix: Path | None, fd: int | None) -> Iterator[Listen | None]:
    """Open the socket of `--unix` or `--fd` during the block. Yield a function that listens on it; None without one."""
    if unix is None and fd is None:
        yield None
        return
    sock = inherited_socket(fd) if fd is not None else unix_socket(unix or Path())
    with sock:
        try:
            yield inherited([sock])
        finally:
            if unix is not None:
                unix.unlink(missing_ok=True)


def _internal_address(
    host: str | None, port: int | None, public_port: int
) -> tuple[str, int] | None:
    """Return the address of the internal port; None without one.

    Raises:
        typer.BadParameter: the internal port is also the public port, or the user gave a host without a port.
    """
    if port is None:
        if host is not None:
            raise typer.BadParameter(
                "--internal-host needs --internal-port; add it, or leave the host out"
            )
        return None
    if port == public_port != 0:
        raise typer.BadParameter(
            f"--port and --internal-port are both {port}; write two different ports"
        )
    return host or DEFAULT_INTERNAL_HOST, port


def _watcher(folders: Sequence[Path] | None, *, reload: bool) -> Watch | None:
    """Return the function that watches files for `--reload`; None without this option.

    With the option, this function also turns on development for the workers.

    Raises:
        typer.BadParameter: a folder does not exist, or the user gave folders without `--reload`.
    """
    if not reload:
        if folders:
            raise typer.BadParameter("--watch needs --reload; add it, or leave the folders out")
        return None
    # Import here, because a server in production watches no files.
    from channels.cli.watch import watch_files  # noqa: PLC0415

    for folder in folders or ():
        if not folder.is_dir():
            raise typer.BadParameter(f"--watch {folder}: there is no such folder")
    os.environ["ASHTREE_ENV"] = "development"
    return partial(watch_files, [folder.absolute() for folder in folders or [Path.cwd()]])


def _serve(
    endpoint: Endpoint,
    host: str,
    port: int,
    log_format: LogFormat,
    *,
    watchdog: float,
    ssl_context: ssl.SSLContext | None = None,
    before: Sequence[ChildSpec] = (),
    listen: Listen | None = None,
    internal: tuple[str, int] | None = None,
) -> None:
    def started(url: str) -> None:
        announce(f"Serving on {url} (Ctrl-C stops it)", log_format)
        if endpoint.internal_address is not None:
            announce_internal(url_of(*endpoint.internal_address), log_format)

    internal_host, internal_port = internal or (DEFAULT_INTERNAL_HOST, None)
    serve_endpoint(
        endpoint,
        host=host,
        port=port,
        ssl_context=ssl_context,
        watchdog=watchdog or None,
        before=before,
        listen=listen,
        internal_host=internal_host,
        internal_port=internal_port,
        on_started=started,
    )
