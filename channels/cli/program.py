"""The parts of a program that a command serves: the endpoint, the certificate and the log."""

from __future__ import annotations

import logging
import ssl
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from actors.errors import RuntimeClosed
from actors.text import TextFormatter
from channels.cli.console import fail
from channels.errors import MISTAKES
from supervision.applications.command_line.arguments import load_module
from supervision.applications.command_line.program_frames import program_place
from supervision.child_spec import ChildSpec

if TYPE_CHECKING:
    from channels.endpoint.endpoint import Endpoint

__all__ = [
    "CapsuleFolder",
    "LogFormat",
    "LogLevel",
    "Record",
    "RecordContents",
    "Watchdog",
    "announce",
    "announce_internal",
    "load_endpoint",
    "of_worker",
    "open_log",
    "recorders",
    "tls_context",
    "url_of",
]

# The advice for a module that starts a process while a command imports it.
_EARLY_PROCESS = (
    "there is no runtime here, because the server starts after the import of this module; start your processes in the "
    "lifespan of the ASGI application that you pass as Endpoint(http=...)"
)

Watchdog: TypeAlias = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        envvar="ASHTREE_WATCHDOG",
        help="Log a handler that blocks the server for longer than this; 0 turns this off.",
    ),
]


Record: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="ASHTREE_RECORD",
        help="Record everything to this file, for `ashtree story`.",
    ),
]

RecordContents: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--record-contents",
        envvar="ASHTREE_RECORD_CONTENTS",
        help="Also record the contents of messages and answers, with secrets masked.",
    ),
]

CapsuleFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        envvar="ASHTREE_CAPSULES",
        help="Write the seconds around each crash to a file in this folder.",
    ),
]


class LogLevel(StrEnum):
    """The lowest level that the server logs."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class LogFormat(StrEnum):
    """The format of log lines."""

    TEXT = "text"
    JSON = "json"


def open_log(
    level: LogLevel, log_format: LogFormat = LogFormat.TEXT, *, worker: int | None = None
) -> None:
    """Log this level and higher levels to standard error. With `worker`, each line contains the id of the worker.

    With JSON, everything else that the program writes to standard error becomes log lines, such as the reason why the
    server does not start.
    """
    handler = logging.StreamHandler()
    if log_format is LogFormat.JSON:
        # Imported here, because most servers log text.
        from channels.operations.json_log import JsonErrors, JsonFormatter  # noqa: PLC0415

        formatter = JsonFormatter(**({} if worker is None else {"worker": worker}))
        handler.setFormatter(formatter)
        sys.stderr = JsonErrors(sys.stderr, formatter)
    else:
        who = "" if worker is None else f"worker {worker} "
        handler.setFormatter(TextFormatter(f"%(asctime)s {who}%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.value.upper(), handlers=[handler])


def announce(sentence: str, log_format: LogFormat) -> None:
    """Print a sentence about the start of the server to standard output, whatever the log level is."""
    if log_format is LogFormat.JSON:
        from channels.operations.json_log import line_of  # noqa: PLC0415 # as in open_log

        sentence = line_of(sentence, logging.INFO)
    typer.echo(sentence)
    sys.stdout.flush()


def announce_internal(url: str, log_format: LogFormat) -> None:
    """Print the address of the internal port, as `announce` does."""
    announce(f"Health checks, metrics and the observer answer on {url}", log_format)


def load_endpoint(target: str, *, chaos: bool = False) -> Endpoint:
    """Import the module in a target `module:endpoint`, and return the endpoint. With `chaos`, add a `ChaosControl`.

    Raises:
        typer.BadParameter: the target does not have this form, or the module has no such endpoint.
        SystemExit: the import raised an error. Before that, this prints the reason to standard error.
    """
    # Imported here, because `ashtree workers` prints as `ashtree serve` does, but needs no endpoint.
    from channels.endpoint.endpoint import Endpoint  # noqa: PLC0415

    try:
        module, name = load_module(
            target,
            "ENDPOINT",
            "chat.server:endpoint",
            explained=(*MISTAKES, RuntimeClosed),
        )
    except (*MISTAKES, RuntimeClosed) as error:
        # For a mistake in a class, Python raises at the definition of the class. Add this place to the message.
        place, said = program_place(error), str(error)
        if isinstance(error, RuntimeClosed):
            said = _EARLY_PROCESS
        fail(said if place is None or place in said else f"{place}: {said}", 1)
    endpoint = getattr(module, name, None)
    if not isinstance(endpoint, Endpoint):
        names = [key for key, value in vars(module).items() if isinstance(value, Endpoint)]
        there = f"; write one of: {', '.join(names)}" if names else "; this module has no endpoint"
        raise typer.BadParameter(
            f"{module.__name__}.{name} is not an Endpoint{there}"
            if hasattr(module, name)
            else f"the module {module.__name__!r} has no endpoint {name!r}{there}"
        )
    if chaos:
        # Imported here, because a server in production loads nothing of chaos.
        from channels.operations.chaos_control import allow_chaos  # noqa: PLC0415

        allow_chaos(endpoint)
    return endpoint


def tls_context(certfile: Path | str | None, keyfile: Path | str | None) -> ssl.SSLContext | None:
    """Return the context for a certificate and its key, or None without a certificate.

    Raises:
        typer.BadParameter: the files do not contain a certificate and its key.
    """
    if certfile is None:
        if keyfile is not None:
            raise typer.BadParameter(
                "--keyfile needs --certfile; add the certificate, or leave the key out"
            )
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certfile, keyfile)
    # SSLError, a subclass of OSError, means that a file has no certificate, or that the key does not fit.
    except OSError as error:
        raise typer.BadParameter(
            f"cannot use the certificate {str(certfile)!r}: {error.strerror or error}"
        ) from None
    return context


def url_of(host: str, port: int, *, secure: bool = False) -> str:
    """Return the URL of a numeric address. A Unix socket has no URL, so its name is the result."""
    if host.startswith("unix:"):
        return host
    scheme = "https" if secure else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def recorders(
    record: Path | str | None,
    capsules: Path | str | None,
    *,
    contents: bool = False,
    about: Mapping[str, str] | None = None,
) -> list[ChildSpec]:
    """Return the recorder's child spec for `--record` and `--capsules`; empty without these options.

    `about` has further fields of the `recording` event.

    Raises:
        typer.BadParameter: a folder is missing.
    """
    if record is None and capsules is None:
        return []
    # Imported here, because most servers do not record.
    from channels.recording import Capsules, recorder_spec  # noqa: PLC0415

    if record is not None and not Path(record).absolute().parent.is_dir():
        raise typer.BadParameter(
            f"--record {record}: the folder {Path(record).parent} is missing; create it first"
        )
    crashes = None if capsules is None else Capsules(capsules)
    return [recorder_spec(file=record, capsules=crashes, contents=contents, about=about)]


def of_worker(path: str | None, worker: int, starts: int = 1) -> str | None:
    """Return the path of one worker's file. For worker 3, `run.jsonl` becomes `run.3.jsonl`.

    If worker 3 was killed, its successor with the same id, whose number of `starts` is 2, gets `run.3.2.jsonl`.
    """
    if path is None:
        return None
    whole = Path(path)
    number = f"{worker}" if starts == 1 else f"{worker}.{starts}"
    return str(whole.with_name(f"{whole.stem}.{number}{whole.suffix}"))
