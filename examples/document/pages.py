"""The page of the document, and its phoenix.js from npm."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

_HERE = Path(__file__).parent
_PHOENIX_JS = _HERE / "node_modules" / "phoenix" / "priv" / "static"


def require_phoenix_js() -> None:
    """Exit with a message if phoenix.js is missing.

    Raises:
        SystemExit: phoenix.js is not installed in this folder.
    """
    if not (_PHOENIX_JS / "phoenix.mjs").is_file():
        raise SystemExit(
            "The page of the document needs phoenix.js, which is not installed; run "
            f"`npm install --prefix {_HERE}`."
        )


pages = Starlette(
    routes=[
        Mount("/phoenix", StaticFiles(directory=_PHOENIX_JS, check_dir=False)),
        Mount("/", StaticFiles(directory=_HERE / "static", html=True)),
    ]
)
