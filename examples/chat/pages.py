"""The page of the chat, and the phoenix.js that it imports, as npm installed it."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

_HERE = Path(__file__).parent
_PHOENIX_JS = _HERE / "node_modules" / "phoenix" / "priv" / "static"


def require_phoenix_js() -> None:
    """Leave with one sentence if the page would have nothing to talk with.

    Raises:
        SystemExit: phoenix.js has not been installed beside this file.
    """
    if not (_PHOENIX_JS / "phoenix.mjs").is_file():
        raise SystemExit(
            "The chat page needs phoenix.js, which is not installed yet: run "
            f"`npm install --prefix {_HERE}`, or `make run`, which does it for you."
        )


pages = Starlette(
    routes=[
        Mount("/phoenix", StaticFiles(directory=_PHOENIX_JS, check_dir=False)),
        Mount("/", StaticFiles(directory=_HERE / "static", html=True)),
    ]
)
