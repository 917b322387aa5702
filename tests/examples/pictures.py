"""The pictures of the examples, and the digests of the pages that they show.

`make pictures` takes the pictures in Chromium, and records the digest of each page. If a page changes, its digest
changes, and a test fails until `make pictures` has run again. The test does not compare the pictures themselves,
because they depend on the version of Chromium and on the fonts.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from playwright.sync_api import Page

_ROOT = Path(__file__).parents[2]
FOLDER = _ROOT / "docs/images/examples"
DIGESTS = FOLDER / "pages.json"
_STYLE = "examples/style"

PAGES = {
    "game": ["examples/game", _STYLE],
    "chat": ["examples/chat"],
    "document": ["examples/document"],
    "live_css": ["examples/live_css", _STYLE],
    "news": ["examples/news", _STYLE],
    "sensors": ["examples/sensors", _STYLE],
    "token_chat": ["examples/token_chat", _STYLE],
    "vehicles": ["examples/vehicles"],
}
"""The folders with the files of each page."""

_SUFFIXES = {".html", ".css", ".js", ".svg"}


def digest(name: str) -> str:
    """Return the digest of all files of a page."""
    folders = [_ROOT / folder for folder in PAGES[name]]
    files = [file for folder in folders for file in sorted(folder.rglob("*"))]
    pages = [
        f"{file.name}\n{file.read_text(encoding='utf-8')}"
        for file in files
        if file.suffix in _SUFFIXES and "node_modules" not in file.parts
    ]
    return hashlib.sha256("\n".join(pages).encode()).hexdigest()[:16]


def recorded() -> dict[str, str]:
    """Return the digest that each page had when `make pictures` took its picture."""
    return dict(json.loads(DIGESTS.read_text())) if DIGESTS.exists() else {}


def take(page: Page, name: str) -> None:
    """Take the picture of a page and record the page's digest. Do nothing unless `make pictures` runs this test."""
    if not os.environ.get("ASHTREE_PICTURES"):
        return
    FOLDER.mkdir(exist_ok=True)
    page.screenshot(path=FOLDER / f"{name}.png", animations="disabled")
    digests = {**recorded(), name: digest(name)}
    DIGESTS.write_text(json.dumps(dict(sorted(digests.items())), indent=2) + "\n")
