"""Functions that parse and check the arguments of commands."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from inspect import iscoroutinefunction, signature
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import typer

from actors.text import printable
from supervision.applications.command_line.program_frames import program_traceback

__all__ = [
    "ProgramFailed",
    "check_folders",
    "confirm_import",
    "load_function",
    "load_module",
    "params_as_options",
    "parse_params",
]


class ProgramFailed(SystemExit):
    """The exit of a command after a mistake in the user's program. Standard error already has the reason.

    Attributes:
        text: the reason.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code)
        self.text = text


def load_module(
    target: str, kind: str, example: str, *, explained: tuple[type[Exception], ...] = ()
) -> tuple[ModuleType, str]:
    """Import the module of an argument `module:name`, and return the module and the name.

    Args:
        target: The argument, such as `shop.day:opening`.
        kind: The word for the name in messages, in capitals, such as `FUNCTION`.
        example: An example of an argument, for messages.
        explained: The types of exceptions that this function does not convert to ProgramFailed.

    Raises:
        typer.BadParameter: The target does not have the form `module:name`, or the module does not exist.
        ProgramFailed: The module raised, or called `sys.exit`. The exit code is 1. Standard error has the text of
            `sys.exit("text")`, or else the traceback without the frames of Ashtree and of Python's import system.
    """
    module_name, colon, name = target.partition(":")
    if module_name.endswith(".py"):
        module = ".".join(Path(module_name).with_suffix("").parts)
        instead = f"{module}:{name or example.partition(':')[2]}"
        raise typer.BadParameter(f"{module_name} is the name of a file; write {instead}")
    if not colon or not module_name or not name:
        raise typer.BadParameter(
            f"{target!r} is not of the form MODULE:{kind}; write it as in {example}"
        )
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise typer.BadParameter(
            f"{module_name!r} is not the name of a module; give the name that Python would import, such as "
            f"{example.partition(':')[0]}"
        )
    # Like `python -m`, let programs import from the current folder.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(module_name), name
    # Broad, because the module may raise anything, and the traceback shows it. SystemExit is here because a module that
    # calls `sys.exit` would otherwise end the command without a message.
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(
            f"{error.name}."
        ):
            raise typer.BadParameter(
                f"there is no module {module_name!r} here; give the name that Python would import"
            ) from None
        if isinstance(error, explained):
            raise
        # `sys.exit("text")` is how a program says in one line why it cannot run.
        told = isinstance(error, SystemExit) and isinstance(error.code, str)
        reason = f" {error}\n" if told else f"\n{program_traceback(error)}"
        text = f"{module_name} cannot be imported:{reason}"
        sys.stderr.write(printable(text, lines=True))
        raise ProgramFailed(1, text) from None


def confirm_import(target: str, file: Path) -> None:
    """Ask the user before a command imports the module of a target that a file names.

    The import runs the code of the module, and the file may come from anybody.

    Args:
        target: The target, such as `shop.day:opening`.
        file: The file that names it.

    Raises:
        typer.BadParameter: The user refuses, or standard input is no terminal, so that nobody can answer.
    """
    module = printable(target.partition(":")[0])
    what = f"{file} names the scenario {printable(target)}, and a simulation of it runs the code of {module}"
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{what}; if you trust the file, write --import")
    # On standard error, because standard output may be the trace.
    if not typer.confirm(f"{what}. Import it?", err=True):
        raise typer.BadParameter(f"{module} was not imported")


def load_function(target: str, kind: str) -> Any:
    """Return the async function of one argument at `module:function`. Error messages call this function a `kind`."""
    module, name = load_module(target, "FUNCTION", "shop.day:opening")
    found = getattr(module, name, None)
    if found is None:
        raise typer.BadParameter(
            f"the module {module.__name__!r} has no function {name!r}{_there_is(module)}"
        )
    if not iscoroutinefunction(found) or not _takes_one(found):
        raise typer.BadParameter(f"{target} is not a {kind}{_there_is(module)}")
    return found


def _there_is(module: Any) -> str:
    names = [key for key, value in vars(module).items() if _is_scenario_of(value, module)]
    return f"; write one of: {', '.join(names)}" if names else ""


def _is_scenario_of(value: Any, module: object) -> bool:
    own = getattr(value, "__module__", None) == getattr(module, "__name__", "")
    public = own and iscoroutinefunction(value) and not value.__name__.startswith("_")
    return public and _takes_one(value)


def _takes_one(function: Any) -> bool:
    try:
        signature(function).bind(None)
    except TypeError:
        return False
    return True


def parse_params(texts: Sequence[str]) -> dict[str, Any]:
    """Parse parameters of the form `name=value`. A value is JSON, or else plain text.

    Raises:
        typer.BadParameter: a parameter has no name or no `=`.
    """
    params: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(
                f"{text!r} is not a parameter; write NAME=VALUE, such as clients=5"
            )
        try:
            params[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            params[name] = value
    return params


def params_as_options(params: Mapping[str, Any]) -> list[str]:
    """Return the options `--params NAME=VALUE` for these parameters. This is the inverse of `parse_params`."""
    return [
        part
        for name, value in params.items()
        for part in ("--params", f"{name}={msgspec.json.encode(value).decode()}")
    ]


def check_folders(*files: Path | None) -> None:
    """Refuse output files in folders that do not exist. Call it before the work, so that no result is lost.

    Raises:
        typer.BadParameter: the folder of a file does not exist.
    """
    for file in files:
        if file is not None and not file.absolute().parent.is_dir():
            raise typer.BadParameter(
                f"{file}: the folder {file.parent} does not exist; create it first"
            )
