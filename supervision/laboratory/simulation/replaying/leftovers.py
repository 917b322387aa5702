"""Data that a run leaves behind in the process: globals of the program's modules, and attributes of its classes."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from actors.places import is_program
from supervision.recording.describe import describe

__all__ = ["changed_between", "program_data"]

_MOST = 5


def program_data() -> dict[str, str]:
    """Return the values of the program's globals and class attributes, as text by name."""
    return {name: _text(value) for name, value in _values()}


def changed_between(before: dict[str, str], after: dict[str, str]) -> tuple[str, ...]:
    """Return the first few names with changed values. A name that `before` does not contain counts as unchanged."""
    changed = [name for name, text in after.items() if before.get(name, text) != text]
    return tuple(changed[:_MOST])


def _values() -> Iterator[tuple[str, Any]]:
    for module in list(sys.modules.values()):
        if not is_program(getattr(module, "__file__", None) or "<frozen"):
            continue
        for name, value in list(vars(module).items()):
            if inspect.isclass(value):
                if value.__module__ == module.__name__:
                    for inner, attribute in list(vars(value).items()):
                        if _is_data(inner, attribute):
                            yield f"{module.__name__}.{name}.{inner}", attribute
            elif _is_data(name, value):
                yield f"{module.__name__}.{name}", value


def _is_data(name: str, value: object) -> bool:
    return not name.startswith("__") and not callable(value) and not isinstance(value, ModuleType)


def _text(value: object) -> str:
    size = len(value) if isinstance(value, list | dict | set | tuple | str | bytes) else None
    return f"{describe(value)} {size}"
