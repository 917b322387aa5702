"""Typer applications in the style of `ashtree`, which print one sentence for a mistake, without a traceback."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from typing import Annotated, Any, NoReturn, TextIO, TypeAlias

import typer
from typer.exceptions import TyperException

from actors.text import printable
from channels.errors import MISTAKES, ChannelsError
from supervision.applications.command_line.arguments import ProgramFailed

__all__ = ["Headers", "fail", "new_app", "pair", "run_app", "variable"]

INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended


def new_app(**options: str) -> typer.Typer:
    """Return an application without commands."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        # Without this value, Typer loads Pydantic for the option `--help` of a group, although it is absent.
        context_settings={"default_map": {"help": False}},
        **options,  # type: ignore[arg-type]
    )


def run_app(app: typer.Typer) -> NoReturn:
    """Run the application with the arguments of this program, and exit.

    The exit code is 0 after success, 1 after a `ChannelsError`, 2 after wrong input, and 130 after Ctrl-C.
    """
    try:
        with redirect_stdout(_Output(sys.stdout)):
            # After Ctrl-C in a command, for example during the import of the user's module, Typer returns 130.
            code = app(standalone_mode=False)
            sys.stdout.flush()
    except TyperException as error:
        # By convention, the exit code for wrong input is 2.
        fail(f"{_sentence(error)} (see --help)", 2)
    except MISTAKES as error:
        fail(str(error), 1)
    except KeyboardInterrupt:
        # Ctrl-C came before the command, while Typer was reading the options.
        raise SystemExit(INTERRUPTED) from None
    raise SystemExit(code or 0)


def fail(sentence: str, code: int) -> NoReturn:
    """Write the sentence to standard error, and exit with the code."""
    sys.stderr.write(f"{printable(sentence, lines=True)}\n")
    raise ProgramFailed(code, sentence)


Headers: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--header", metavar="NAME:VALUE", help="A header of the request. Repeat it for more."
    ),
]


def pair(text: str, separator: str, option: str) -> tuple[str, str]:
    """Return the name and the value in a text such as `NAME:VALUE`.

    Raises:
        typer.BadParameter: the text has no separator or no name.
    """
    name, found, value = text.partition(separator)
    if not found or not name.strip():
        raise typer.BadParameter(f"{option} got {text!r}; write NAME{separator}VALUE")
    return name.strip(), value.strip() if separator == ":" else value


def variable(name: str, advice: str = "") -> str:
    """Return the value of an environment variable that an option names.

    Raises:
        typer.BadParameter: the variable is not set. The message ends with the advice.
    """
    value = os.environ.get(name)
    if not value:
        raise typer.BadParameter(f"the environment variable {name} is not set{advice}")
    return value


class _Output:
    """Standard output. If a write fails, it raises an error that ends the program with one sentence."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text to the stream. Raises ChannelsError if the write fails."""
        if text == "":  # not b"", which the stream must refuse
            # Typer writes "" as a test, and takes any error as the sign of a binary stream.
            return 0
        try:
            return self._stream.write(text)
        except OSError as error:
            raise self._failed(error) from error

    def flush(self) -> None:
        """Flush the stream. Raises ChannelsError if the write fails."""
        try:
            self._stream.flush()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> ChannelsError:
        # Python flushes standard output at exit, and would print a traceback if that failed again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        return ChannelsError(
            f"cannot write to standard output: {error.strerror or error}; send it elsewhere"
        )


def _sentence(error: TyperException) -> str:
    describe = getattr(error, "format_message", None)
    return str(describe() if describe is not None else error).rstrip(".")
