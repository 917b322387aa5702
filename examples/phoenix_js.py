"""The folders that the pages of the examples are served from."""

from __future__ import annotations

from pathlib import Path

_EXAMPLES = Path(__file__).parent


def page_folders(example: Path) -> dict[str, Path]:
    """Return the folders of an example: its own page, and phoenix.js from npm, for `Endpoint(static=)`."""
    return {"/": example / "static", "/phoenix": example / "node_modules/phoenix/priv/static"}


def shared_folders(example: Path, *, page: str = "/") -> dict[str, Path]:
    """Return the folders of an example that has no npm packages: it takes phoenix.js from `examples/chat`.

    Args:
        example: the folder of the example, which has a folder `static`.
        page: the path of the folder `static` in URLs.
    """
    return {
        page: example / "static",
        "/style": _EXAMPLES / "style",
        "/phoenix": _EXAMPLES / "chat/node_modules/phoenix/priv/static",
    }
