"""What commands are given as text: functions in modules, parameters."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from inspect import iscoroutinefunction, signature
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import typer

from supervision.command_line.program_frames import program_traceback

__all__ = ["load_function", "load_module", "parse_params"]


def load_module(
    target: str, kind: str, example: str, *, explained: type[Exception] | None = None
) -> tuple[ModuleType, str]:
    """Import the module of a `module:name`, and return it with the name.

    Args:
        target: what was typed.
        kind: what the name should be, in capitals: `FUNCTION`.
        example: a target as it could be: `shop.day:opening`.
        explained: an error that is raised as it is when the module fails with it.

    Raises:
        typer.BadParameter: it is not of that form, or there is no such module.
        SystemExit: with code 1, after the module itself has failed: standard error has the traceback, without the
            frames of Ashtree and of Python's import system.
    """
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise typer.BadParameter(
            f"{target!r} is not of the form MODULE:{kind}; write it as in {example}"
        )
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise typer.BadParameter(
            f"{module_name!r} is not the name of a module; give the name that Python would import, such as "
            f"{example.partition(':')[0]}"
        )
    # As `python -m` does: what is started from a folder may import from it.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(module_name), name
    except Exception as error:  # the author's code may raise anything, and sees all of it
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(
            f"{error.name}."
        ):
            raise typer.BadParameter(
                f"there is no module {module_name!r} here; give the name that Python would import"
            ) from None
        if explained is not None and isinstance(error, explained):
            raise
        sys.stderr.write(f"{module_name} cannot be imported:\n{program_traceback(error)}")
        raise SystemExit(1) from None


def load_function(target: str, what: str) -> Any:
    """An async function of one argument called `module:function`; `what` says what it should be."""
    module, name = load_module(target, "FUNCTION", "shop.day:opening")
    found = getattr(module, name, None)
    if found is None:
        raise typer.BadParameter(
            f"the module {module.__name__!r} has no {name!r}{_there_is(module)}"
        )
    if not iscoroutinefunction(found) or not _takes_one(found):
        raise typer.BadParameter(f"{target} is no {what}{_there_is(module)}")
    return found


def _there_is(module: Any) -> str:
    names = [key for key, value in vars(module).items() if _is_scenario_of(value, module)]
    return f"; there is {', '.join(names)}" if names else ""


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
    """Parameters as `name=value`; the value is JSON, or else text.

    Raises:
        typer.BadParameter: there is no `=`.
    """
    params: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(
                f"{text!r} is no parameter; write NAME=VALUE, such as clients=5"
            )
        try:
            params[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            params[name] = value
    return params
