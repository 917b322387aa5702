"""The build of the Python that runs a benchmark. A build without optimisations needs 3 to 10 % more CPU."""

from __future__ import annotations

import platform
import sys
import sysconfig
from collections.abc import Mapping
from typing import Any

__all__ = ["build_of", "warning_about"]

_FLAGS = {"--enable-optimizations": "PGO", "--with-lto": "LTO"}
_PLAIN = "built without optimisations"


def build_of(variables: Mapping[str, Any] | None = None) -> str:
    """Return the version and the build of this Python.

    Args:
        variables: the variables of its build; by default those of `sysconfig`.
    """
    found = sysconfig.get_config_vars() if variables is None else variables
    arguments = str(found.get("CONFIG_ARGS") or "")
    flags = [name for flag, name in _FLAGS.items() if flag in arguments]
    if flags:
        kind = f"built with {' and '.join(flags)}"
    elif found.get("PGO_PROF_USE_FLAG"):
        kind = _PLAIN
    else:
        # `configure` sets this flag in every build. Debian builds with PGO and LTO, and removes the flags afterwards.
        kind = "of a distribution, without the flags of its build"
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{platform.python_implementation()} {version}, {kind}, {platform.python_compiler()}"


def warning_about(build: str) -> str | None:
    """Return the warning about a build; None if its figures can be published."""
    if _PLAIN not in build:
        return None
    return (
        f"Warning: this is {build}, so everything costs 3 to 10 % more; for figures to publish, use a Python that was "
        "built with --enable-optimizations --with-lto, such as Debian's"
    )
