"""Watch the style sheets of a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import trio

SECONDS = 0.2
"""The time between two looks at the folder."""

Stamps: TypeAlias = Mapping[str, tuple[int, int]]
"""The time of the last change and the size of each style sheet, by its path on the server."""


def stamps(folder: Path) -> Stamps:
    """Return the stamps of all style sheets in a folder and its subfolders."""
    found = {}
    for file in sorted(folder.rglob("*.css")):
        try:
            status = file.stat()
        except OSError:
            continue  # an editor has just replaced the file: it is there at the next look
        found[f"/{file.relative_to(folder).as_posix()}"] = (status.st_mtime_ns, status.st_size)
    return found


def changed(before: Stamps, now: Stamps) -> list[str]:
    """Return the paths of the style sheets that are new or different."""
    return [path for path, stamp in now.items() if before.get(path) != stamp]


async def watch(folder: Path, tell: Callable[[str], object]) -> None:
    """Call `tell` with the path of each style sheet that changes, until cancelled.

    A change of the folder takes up to `SECONDS` to be noticed. Two changes in this time count as one.
    """
    before = stamps(folder)
    while True:
        await trio.sleep(SECONDS)
        # In a thread, because a disk can be slow.
        now = await trio.to_thread.run_sync(stamps, folder)
        for path in changed(before, now):
            tell(path)
        before = now
