"""Watch the Python files of an application, for `ashtree serve --reload`.

`scan` reads the times and the sizes of the files. `watch_files` scans again and again, in a thread, and reports each
change once. It asks the file system and not the kernel, so it also works in containers and on network folders.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import trio

__all__ = ["Scan", "changes", "scan", "watch_files"]

_log = logging.getLogger("channels.reload")

Scan: TypeAlias = Mapping[str, tuple[int, int]]
"""The time of the last change in nanoseconds, and the size in bytes, of each file."""

_SKIPPED: Final = {"__pycache__", "node_modules", "site-packages"}
_INTERVAL: Final = 0.25
# Seconds without a change, after which an editor or a checkout has written all its files.
_QUIET: Final = 0.05
# A scan takes at most this part of the time, however many files there are.
_SHARE: Final = 0.1


def scan(folders: Sequence[Path]) -> Scan:
    """Return the Python files in the folders, and in the folders below. Blocks.

    This leaves out hidden folders, virtual environments, `node_modules` and `__pycache__`.
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
    """Return the files that were changed, created or deleted between two scans, in order.

    >>> changes({"a.py": (1, 10), "b.py": (1, 10)}, {"a.py": (2, 10), "c.py": (1, 5)})
    ['a.py', 'b.py', 'c.py']
    """
    return sorted(
        path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
    )


async def watch_files(folders: Sequence[Path], replace: Callable[[], Awaitable[None]]) -> None:
    """Call `replace` after each change of a Python file in the folders, for ever.

    Args:
        folders: the folders.
        replace: an async function. Changes during its run lead to one more call.
    """
    known = await trio.to_thread.run_sync(scan, folders)
    while True:
        started = trio.current_time()
        seen = await trio.to_thread.run_sync(scan, folders)
        took = trio.current_time() - started
        changed = changes(known, seen)
        if changed:
            known = await _settle(folders, seen)
            _log.info("%s changed; reloading", _summary(changed))
            await replace()
        await trio.sleep(max(_INTERVAL, took / _SHARE))


def _summary(changed: Sequence[str]) -> str:
    rest = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return os.path.relpath(changed[0]) + rest


async def _settle(folders: Sequence[Path], seen: Scan) -> Scan:
    """Return the first scan that equals the one before it."""
    while True:
        await trio.sleep(_QUIET)
        again = await trio.to_thread.run_sync(scan, folders)
        if again == seen:
            return again
        seen = again
