"""A locked file that shows whether processes of an earlier server on the same address still run.

The parent locks the file with `flock`, and its workers inherit the descriptor. The system unlocks the file when the
last of these processes has ended, even if all were killed. The port does not show this: a worker releases its port
before it ends.

The file stands beside the health socket, whose path contains the address of the server. It stays there, because a
server that removed it could remove the file that the next server has just locked.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

import trio

from channels.errors import ChannelsError

__all__ = ["WorkersRemain", "lock_file"]

_log = logging.getLogger("channels.pubsub.workers")

# Seconds between two attempts.
_RETRY = 0.1


class WorkersRemain(ChannelsError):
    """Workers of a server that was killed still run, and may still run entities.

    Attributes:
        path: the locked file.
        pids: the ids of the processes, as far as this user can see them.
    """

    def __init__(self, path: Path, pids: list[int]) -> None:
        which = f"processes {', '.join(map(str, pids))}" if pids else "unknown processes"
        super().__init__(
            f"workers of an earlier server on this address still run ({which}), and hold the lock {path}; end them "
            "with `kill -9`, then start the server again"
        )
        self.path = path
        self.pids = pids


async def lock_file(path: Path, seconds: float) -> int:
    """Lock a file, and return its descriptor. The file is unlocked when all copies of the descriptor are closed.

    Args:
        path: the file, which is made if necessary.
        seconds: time to wait for the processes that hold the lock.

    Raises:
        WorkersRemain: they hold it after that time.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = trio.current_time() + seconds
    has_waited = False
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                if trio.current_time() >= deadline:
                    raise WorkersRemain(path, _holders(path)) from None
                if not has_waited:
                    _log.warning(
                        "an earlier server on this address was killed and its workers still run; waiting for them, for "
                        "up to %g s",
                        seconds,
                    )
                has_waited = True
            await trio.sleep(_RETRY)
    except BaseException:
        os.close(descriptor)
        raise


def _holders(path: Path) -> list[int]:
    """Return the other processes that have the file open."""
    pids, path = [], path.resolve()
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            has_it = path in (each.readlink() for each in folder.iterdir())
        except OSError:
            # The process has just ended, or belongs to another user.
            continue
        pid = int(folder.parent.name)
        if has_it and pid != os.getpid():
            pids.append(pid)
    return sorted(pids)
