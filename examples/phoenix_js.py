"""The folders that the pages of the examples are served from."""

from __future__ import annotations

from pathlib import Path


def page_folders(example: Path) -> dict[str, Path]:
    """Return the folders of an example: its own page, and phoenix.js from npm, for `Endpoint(static=)`."""
    return {"/": example / "static", "/phoenix": example / "node_modules/phoenix/priv/static"}
