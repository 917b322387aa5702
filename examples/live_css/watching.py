"""Watch the style sheets of a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import trio

SECONDS = 0.2
"""Seconds between two checks of the folder."""

Stamps: TypeAlias = Mapping[str, tuple[int, int]]
"""The modification time and the size of each style sheet, by its URL path."""


def stamps(folder: Path) -> Stamps:
    """Return the `Stamps` of a folder and its subfolders."""
    found = {}
    for file in sorted(folder.rglob("*.css")):
        try:
            status = file.stat()
        except OSError:
            continue  # an editor is replacing this file; the next check finds it
        found[f"/{file.relative_to(folder).as_posix()}"] = (status.st_mtime_ns, status.st_size)
    return found


def changed(before: Stamps, now: Stamps) -> list[str]:
    """Return the paths of the style sheets that are new or different."""
    return [path for path, stamp in now.items() if before.get(path) != stamp]


async def watch(folder: Path, tell: Callable[[str], object]) -> None:
    """Call `tell` with the path of each style sheet that changes, until cancelled.

    The watcher notices a change after at most `SECONDS`. It reports several changes of a file in this time as one.
    """
    before = stamps(folder)
    while True:
        await trio.sleep(SECONDS)
        # A disk can be slow, so a thread reads the folder.
        now = await trio.to_thread.run_sync(stamps, folder)
        for path in changed(before, now):
            tell(path)
        before = now
