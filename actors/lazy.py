"""Facades that import their modules when a program uses the first name, so that a command loads only what it needs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["load_on_use"]


def load_on_use(package: str, *homes: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package (PEP 562). Its first use imports the modules, and binds all names.

    The function also gives the package a `__dir__` with all names.

    Args:
        package: the package. Its `__all__` lists the names.
        homes: the modules that define the names.
    """
    facade = sys.modules[package]

    def load(name: str) -> Any:
        # Python also asks for names of submodules here, such as in `from channels import telemetry`.
        if name not in facade.__all__:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        for home in homes:
            module = import_module(home)
            for each in set(module.__all__).intersection(facade.__all__):
                setattr(facade, each, getattr(module, each))
        return vars(facade)[name]

    # A shell completes the names that `dir` lists, also before the first use.
    vars(facade)["__dir__"] = lambda: sorted({*vars(facade), *facade.__all__})
    return load
