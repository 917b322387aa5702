"""The pictures of the examples, and the digests of the pages that they show.

`make pictures` takes the pictures in Chromium, and records the digest of each page. If a page changes, its digest
changes, and a test fails until `make pictures` has run again. The test does not compare the pictures themselves,
because they depend on the version of Chromium and on the fonts.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from itertools import pairwise
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

_ROOT = Path(__file__).parents[2]
FOLDER = _ROOT / "docs/images/examples"
DIGESTS = FOLDER / "pages.json"
_STYLE = "examples/style"

PAGES = {
    "auction": ["examples/auction", _STYLE],
    "game": ["examples/game", _STYLE],
    "chat": ["examples/chat"],
    "document": ["examples/document"],
    "live_css": ["examples/live_css", _STYLE],
    "news": ["examples/news", _STYLE],
    "sensors": ["examples/sensors", _STYLE],
    "supabase": ["examples/supabase", _STYLE],
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


class Film:
    """A moving picture of a page: its screenshots, each with the time at which the page looked like this.

    Does nothing unless `make pictures` runs this test.
    """

    def __init__(self, page: Page, name: str) -> None:
        self._page = page
        self._name = name
        self._frames: list[tuple[float, Image.Image]] = []
        self.is_on = bool(os.environ.get("ASHTREE_PICTURES"))

    def run(self, seconds: float) -> None:
        """Take screenshots for some seconds."""
        end = time.monotonic() + seconds
        while self.is_on and time.monotonic() < end:
            data = self._page.screenshot(scale="css", caret="initial")
            self._frames.append((time.monotonic(), Image.open(io.BytesIO(data)).convert("RGB")))
            self._page.wait_for_timeout(80)

    def save(self) -> None:
        """Write the picture as animated WebP, with one frame for each change of the page."""
        if not self.is_on:
            return
        changes: list[tuple[float, Image.Image]] = []
        for at, image in self._frames:
            if not changes or changes[-1][1].tobytes() != image.tobytes():
                changes.append((at, image))
        times = [at for at, _ in changes] + [self._frames[-1][0] + 1.5]
        milliseconds = [round(1000 * (after - at)) for at, after in pairwise(times)]
        first, *rest = [image for _, image in changes]
        first.save(
            FOLDER / f"{self._name}.webp",
            save_all=True,
            append_images=rest,
            duration=milliseconds,
            loop=0,
            quality=70,
            method=6,
        )
