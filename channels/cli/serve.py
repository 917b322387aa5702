"""The command line: `ashtree serve module:endpoint`, and `run_endpoint` for programs that serve one endpoint."""

from __future__ import annotations

import gc
import logging
import os
import ssl
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, NoReturn, TextIO, TypeAlias

import typer
from typer.exceptions import TyperException

from actors.exits import Crash, Shutdown
from actors.instrumentation.watchdog import DEFAULT_LIMIT
from actors.refs import Pid
from channels.cli.installation import find_clashes
from channels.cli.token import add_token_commands
from channels.endpoint.endpoint import Endpoint
from channels.errors import ChannelsError
from supervision.applications import application
from supervision.command_line.arguments import load_module
from supervision.command_line.program_frames import program_place
from supervision.errors import FailedToStartChild, SupervisionError

__all__ = ["LogLevel", "main", "run_endpoint", "serve_endpoint"]

# A server holds many long-lived objects, and CPython's collector traverses all of them again and again. With the
# defaults, it takes three quarters of the time of a server with 15,000 connections. Ended processes leave no cycles
# behind, so the collector can run seldom.
_GC_THRESHOLDS = (100_000, 50, 100)


Watchdog: TypeAlias = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="Log a handler that blocks the server for longer than this; 0 turns this off.",
    ),
]


class LogLevel(StrEnum):
    """The lowest level that the server logs."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


def serve_endpoint(
    endpoint: Endpoint,
    *,
    host: str = "127.0.0.1",
    port: int = 4000,
    ssl_context: ssl.SSLContext | None = None,
    tune_gc: bool = True,
    watchdog: float | None = DEFAULT_LIMIT,
    on_started: Callable[[str], None] | None = None,
) -> None:
    """Serve an endpoint until SIGINT or SIGTERM, then drain and stop it in order. Blocks.

    Args:
        endpoint: the endpoint.
        host: the address to listen on.
        port: 0 takes any free one.
        ssl_context: for TLS; None is plain HTTP.
        tune_gc: freeze the objects that exist when the server has started, and set the collector's thresholds for many
            long-lived objects.
        watchdog: seconds for which a handler can block the server before the log names it; None turns the watchdog off.
        on_started: a function that gets the URL of the endpoint when it accepts connections.

    Raises:
        ChannelsError: `Endpoint.check` found a mistake.
        SystemExit: the endpoint did not start, or failed. One sentence on standard error says why.
    """
    endpoint.check()

    def started(_: Pid) -> None:
        if tune_gc:
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_GC_THRESHOLDS)
        if on_started is not None:
            on_started(_url(*endpoint.address, secure=ssl_context is not None))

    application.run(
        [endpoint.child_spec(host=host, port=port, ssl_context=ssl_context)],
        on_started=started,
        # The steps after the drain get the default time.
        shutdown_deadline=endpoint.draining.timeout + 30.0,
        watchdog=watchdog,
        explain=_explain,
    )


def _explain(error: SupervisionError) -> str:
    """Return the cause of a failed start, without the supervisors that passed it on."""
    reason = getattr(error, "reason", None)
    while isinstance(reason, Shutdown) and isinstance(reason.detail, FailedToStartChild):
        reason = reason.detail.reason
    if isinstance(reason, Crash) and isinstance(reason.exception, ChannelsError):
        return str(reason.exception)
    return str(error)


def run_endpoint(
    endpoint: Endpoint, *, default_port: int = 4000, default_log_level: str = "info"
) -> NoReturn:
    """Run a program that serves one endpoint: read the options, serve, exit. Call it last in a `__main__.py`.

        run_endpoint(endpoint, default_port=4000)

    The options are --host, --port, --log-level and --watchdog. The exit code is 0 after an orderly stop, 1 if the
    server did not start or failed, and 2 for wrong options.
    """
    log_level_default = LogLevel(default_log_level)

    def command(
        host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
        port: Annotated[
            int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")
        ] = default_port,
        log_level: Annotated[
            LogLevel, typer.Option(help="Log this and everything worse.")
        ] = log_level_default,
        watchdog: Watchdog = DEFAULT_LIMIT,
    ) -> None:
        _serve(endpoint, host, port, log_level, watchdog=watchdog)

    app = _app()
    app.command(help="Serve until Ctrl-C.")(command)
    _run(app)


def main() -> NoReturn:
    """Run the command `ashtree`."""
    for clash in find_clashes():
        if clash.overwritten:
            _fail(str(clash), 1)
        sys.stderr.write(f"Warning: {clash}\n")
    app = _app(help="Ashtree: actors, supervision and Phoenix Channels on Trio.")

    @app.callback()
    def ashtree(
        *,
        version: Annotated[
            bool,
            typer.Option(
                "--version",
                is_eager=True,
                callback=_show_version,
                help="Print the version, and exit.",
            ),
        ] = False,
    ) -> None:
        pass

    @app.command(help="Serve an endpoint until Ctrl-C.")
    def serve(
        target: Annotated[
            str, typer.Argument(metavar="MODULE:ENDPOINT", help="Such as chat.server:endpoint.")
        ],
        host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
        port: Annotated[
            int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")
        ] = 4000,
        log_level: Annotated[
            LogLevel, typer.Option(help="Log this and everything worse.")
        ] = LogLevel.INFO,
        *,
        watchdog: Watchdog = DEFAULT_LIMIT,
        certfile: Annotated[
            Path | None, typer.Option(help="Serve TLS with this certificate and its chain, in PEM.")
        ] = None,
        keyfile: Annotated[
            Path | None, typer.Option(help="The private key, if it is not in the same file.")
        ] = None,
    ) -> None:
        context = _ssl_context(certfile, keyfile)
        _serve(_load(target), host, port, log_level, watchdog=watchdog, ssl_context=context)

    add_token_commands(app, _app())
    for name, summary in _TEST_COMMANDS.items():
        app.command(
            name,
            help=summary,
            add_help_option=False,
            context_settings={
                "allow_extra_args": True,
                "allow_interspersed_args": False,
                "ignore_unknown_options": True,
            },
        )(_run_test_command)
    _run(app)


_TEST_COMMANDS = {
    "simulate": "Run a scenario with many seeds, and show the failures.",
    "replay": "Repeat the run of a run file, byte for byte.",
    "compare": "Run a scenario under several policies, and compare.",
    "chaos": "Inject faults into a live system, and report the results.",
}
"""The commands of the test tools, with their help. Listed here so that `ashtree --help` need not load the tools."""


def _run_test_command(context: typer.Context) -> None:
    # Imported here, when one of these commands runs: a server in production must not load the test tools.
    from channels.testing.live_network import LiveNetwork  # noqa: PLC0415
    from supervision.chaos.commands import add_chaos_command  # noqa: PLC0415
    from supervision.simulation.tools.commands import add_simulation_commands  # noqa: PLC0415

    app = _app()
    add_simulation_commands(app)
    add_chaos_command(app, LiveNetwork)
    program = context.parent.info_name if context.parent is not None else None
    app([str(context.info_name), *context.args], prog_name=program, standalone_mode=False)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"ashtree {metadata.version('ashtree')}")
        raise typer.Exit


def _app(**options: str) -> typer.Typer:
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        **options,  # type: ignore[arg-type]
    )


def _run(app: typer.Typer) -> NoReturn:
    try:
        with redirect_stdout(_Output(sys.stdout)):
            app(standalone_mode=False)
            sys.stdout.flush()
    except TyperException as error:
        # Wrong input. By convention, its exit code is 2.
        _fail(f"{_sentence(error)} (see --help)", 2)
    except ChannelsError as error:
        _fail(str(error), 1)
    raise SystemExit(0)


class _OutputError(ChannelsError):
    """A write to standard output failed: a full disk, or a closed pipe."""


class _Output:
    """Standard output, with errors that end the program with one sentence."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write as the stream does. Raises _OutputError."""
        if text == "":  # not b"", which the stream must refuse
            # A probe of typer, which takes any error as the sign of a binary stream.
            return 0
        try:
            return self._stream.write(text)
        except OSError as error:
            raise self._failed(error) from error

    def flush(self) -> None:
        """Write out as the stream does. Raises _OutputError."""
        try:
            self._stream.flush()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> _OutputError:
        # Python flushes at exit, and prints a traceback if that fails again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        return _OutputError(
            f"cannot write to standard output: {error.strerror or error}; send it elsewhere"
        )


def _sentence(error: TyperException) -> str:
    describe = getattr(error, "format_message", None)
    return str(describe() if describe is not None else error).rstrip(".")


def _fail(sentence: str, code: int) -> NoReturn:
    sys.stderr.write(f"{sentence}\n")
    raise SystemExit(code)


def _ssl_context(certfile: Path | None, keyfile: Path | None) -> ssl.SSLContext | None:
    if certfile is None:
        if keyfile is not None:
            raise typer.BadParameter(
                "--keyfile needs --certfile; add the certificate, or leave the key out"
            )
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        context.load_cert_chain(certfile, keyfile)
    # SSLError is an OSError: the files hold no certificate, or a key of another one.
    except OSError as error:
        raise typer.BadParameter(
            f"cannot use the certificate {str(certfile)!r}: {error.strerror or error}"
        ) from None
    return context


def _serve(
    endpoint: Endpoint,
    host: str,
    port: int,
    log_level: LogLevel,
    *,
    watchdog: float,
    ssl_context: ssl.SSLContext | None = None,
) -> None:
    logging.basicConfig(
        level=log_level.value.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    serve_endpoint(
        endpoint,
        host=host,
        port=port,
        ssl_context=ssl_context,
        watchdog=watchdog or None,
        on_started=lambda url: print(f"Serving on {url} (Ctrl-C stops it)", flush=True),
    )


def _url(host: str, port: int, *, secure: bool = False) -> str:
    scheme = "https" if secure else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _load(target: str) -> Endpoint:
    try:
        module, name = load_module(
            target, "ENDPOINT", "chat.server:endpoint", explained=ChannelsError
        )
    except ChannelsError as error:
        # A mistake in a class raises where the class is defined.
        place, said = program_place(error), str(error)
        _fail(said if place is None or place in said else f"{place}: {said}", 1)
    endpoint = getattr(module, name, None)
    if not isinstance(endpoint, Endpoint):
        names = [key for key, value in vars(module).items() if isinstance(value, Endpoint)]
        there = f"; there is {', '.join(names)}" if names else "; there is none in this module"
        raise typer.BadParameter(
            f"{module.__name__}.{name} is not an Endpoint{there}"
            if hasattr(module, name)
            else f"the module {module.__name__!r} has no {name!r}{there}"
        )
    return endpoint
