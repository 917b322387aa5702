"""The check for the libraries of the examples, which need more than Ashtree itself, and the start of their programs.

If the page of an example lacks phoenix.js, the endpoint names the command that installs it when it starts.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path

_ROOT = Path(__file__).parents[1]
# The modules of the libraries that the examples import themselves. Ashtree brings Trio and msgspec, so a Python without
# them is the wrong Python, or one into which nobody has installed Ashtree.
_MODULES = ("trio", "msgspec", "starlette")


def check_libraries() -> None:
    """End the program if this Python has not installed the clone with its extra `examples`.

    Raises:
        SystemExit: a library is missing. The text contains the command that installs it.
    """
    missing = [name for name in _MODULES if find_spec(name) is None]
    if missing:
        folder = f"{_relative(_ROOT)}[examples]"
        raise SystemExit(
            f"The examples need {' and '.join(missing)}, which {sys.executable} does not have; run "
            f"`{shlex.join([sys.executable, '-m', 'pip', 'install', folder])}` in a virtual environment, or "
            f"`make -C {shlex.quote(_relative(_ROOT))} run`, which makes one and starts the chat"
        )


def shared_secret() -> str:
    """Return the secret of the server, for a program that signs its own token.

    Raises:
        SystemExit: the environment has no SECRET_KEY_BASE.
    """
    secret = os.environ.get("SECRET_KEY_BASE")
    if not secret:
        raise SystemExit(
            "set SECRET_KEY_BASE to the secret of the server, which then accepts this program"
        )
    return secret


def run_until_ctrl_c(main: Callable[[], Awaitable[None]]) -> None:
    """Run the main function of a client program. Ctrl-C ends it without a traceback."""
    import trio  # not above, because `check_libraries` names it if it is missing  # noqa: PLC0415

    try:
        trio.run(main)
    except* KeyboardInterrupt:
        print("bye")


def _relative(path: Path) -> str:
    """Return a path as the reader would type it in the current folder."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("../..") else relative
