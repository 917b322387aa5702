"""Watch the Python files of an application, for `ashtree serve --reload`.

`scan` reads the times and the sizes of the files. `watch_files` scans at intervals, in a thread, and reports each
change once. It does not use the kernel's notifications, so it also works in containers and on network folders.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import trio

__all__ = ["Scan", "changes", "scan", "watch_files"]

Scan: TypeAlias = Mapping[str, tuple[int, int]]
"""Maps the path of each file to the time of its last change in nanoseconds and its size in bytes."""

_SKIPPED: Final = {"__pycache__", "node_modules", "site-packages"}
_INTERVAL: Final = 0.25
# After this many seconds without a change, an editor or a checkout has usually written all its files.
_QUIET: Final = 0.05
# The largest part of the time that scans may take. The pauses are longer if a scan of many files takes long.
_SHARE: Final = 0.1


def scan(folders: Sequence[Path]) -> Scan:
    """Return the Python files in the folders and in their subfolders. Blocks.

    The result has no files from hidden folders, virtual environments, `node_modules`, `site-packages` or `__pycache__`.
    """
    found: dict[str, tuple[int, int]] = {}
    waiting = [str(folder) for folder in folders]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            # The folder was just deleted, or this user may not read it.
            continue
        if any(entry.name == "pyvenv.cfg" for entry in entries):
            continue
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in _SKIPPED and not entry.name.startswith("."):
                        waiting.append(entry.path)
                elif entry.name.endswith(".py"):
                    about = entry.stat()
                    found[entry.path] = about.st_mtime_ns, about.st_size
            except OSError:
                # The file was just deleted.
                continue
    return found


def changes(before: Scan, after: Scan) -> list[str]:
    """Return the sorted paths of the files that were changed, created or deleted between two scans.

    >>> changes({"a.py": (1, 10), "b.py": (1, 10)}, {"a.py": (2, 10), "c.py": (1, 5)})
    ['a.py', 'b.py', 'c.py']
    """
    return sorted(
        path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
    )


async def watch_files(folders: Sequence[Path], replace: Callable[[str], Awaitable[None]]) -> None:
    """Call `replace` after each change of a Python file in the folders, until cancelled.

    Args:
        folders: the folders.
        replace: an async function, which gets the names of the changed files as a text. If files change while it runs,
            `watch_files` calls it once more.
    """
    known = await trio.to_thread.run_sync(scan, folders)
    while True:
        started = trio.current_time()
        seen = await trio.to_thread.run_sync(scan, folders)
        took = trio.current_time() - started
        changed = changes(known, seen)
        if changed:
            known = await _settle(folders, seen)
            await replace(_summary(changed))
        await trio.sleep(max(_INTERVAL, took / _SHARE))


def _summary(changed: Sequence[str]) -> str:
    rest = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return os.path.relpath(changed[0]) + rest


async def _settle(folders: Sequence[Path], seen: Scan) -> Scan:
    """Scan until two scans in a row are equal, and return the last scan."""
    while True:
        await trio.sleep(_QUIET)
        again = await trio.to_thread.run_sync(scan, folders)
        if again == seen:
            return again
        seen = again
