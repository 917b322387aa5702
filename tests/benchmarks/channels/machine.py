"""A description of the machine and the versions, so that readers can interpret the figures later."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.channels.interpreter import build_of
from tests.benchmarks.channels.proc import cpu_model
from tests.benchmarks.channels.subjects import DJANGO_PYTHON

__all__ = ["allow_files", "describe"]

_OWN = (
    "ashtree",
    "trio",
    "websockets",
    "msgspec",
    "picows",
    "uvloop",
    "uvicorn",
    "starlette",
    "python-socketio",
)
_DJANGO = ("django", "channels", "channels-redis", "daphne", "uvicorn")
_ASK = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"


def describe(*, with_django: bool) -> dict[str, str]:
    """Return the properties of the machine by name."""
    busy = os.getloadavg()[0]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": cpu_model(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "Python": build_of(),
        "versions": _text({name: _version(name) for name in _OWN}),
        **({"versions for Django": _text(_ask_django())} if with_django else {}),
        "load before the run": f"{busy:.1f}",
        "open files for each process": f"{allow_files():,}",
        "transparent huge pages": _huge_pages(),
    }


def allow_files() -> int:
    """Raise this process's limit of open files as far as the system allows, and return the new limit.

    Child processes inherit the limit.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def _huge_pages() -> str:
    """Return the system's setting: `always`, `madvise` or `never`. Only Linux has it."""
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not setting.exists():
        return "unknown"
    return setting.read_text().partition("[")[2].partition("]")[0]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _text(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


def _ask_django() -> dict[str, str]:
    command = [str(DJANGO_PYTHON), "-c", _ASK, *_DJANGO]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    versions: dict[str, str] = json.loads(done.stdout)
    return versions
