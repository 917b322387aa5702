"""The folders from which the examples serve their pages."""

from __future__ import annotations

from pathlib import Path

_EXAMPLES = Path(__file__).parent


def page_folders(example: Path) -> dict[str, Path]:
    """Return the folders for `Endpoint(static=)`: the page of an example, and phoenix.js from npm."""
    return {"/": example / "static", "/phoenix": example / "node_modules/phoenix/priv/static"}


def npm_folders(example: Path, *packages: str) -> dict[str, Path]:
    """Return the folders of an example with packages from npm other than phoenix.js, at `/npm/PACKAGE`."""
    modules = example / "node_modules"
    return {
        "/": example / "static",
        "/style": _EXAMPLES / "style",
        **{f"/npm/{package}": modules / package for package in packages},
    }


def shared_folders(example: Path, *, page: str = "/") -> dict[str, Path]:
    """Return the folders of an example without npm packages, which uses the phoenix.js of `examples/chat`.

    Args:
        example: the folder of the example, which has a folder `static`.
        page: the URL path of the folder `static`.
    """
    return {
        page: example / "static",
        "/style": _EXAMPLES / "style",
        "/phoenix": _EXAMPLES / "chat/node_modules/phoenix/priv/static",
    }
