"""The lifeline of a worker: a pipe that ends when the parent of the workers ends, even if the parent is killed.

A worker without a parent must not go on: it cannot reach the other workers, and no process restarts or stops it. The
event loop of the worker notices the end of the parent on its control line, and drains. The lifeline has a thread of its
own, which also works while the event loop is not there yet or is blocked:

    the worker imports the application       it ends immediately
    the worker serves                        it has a time limit for its drain

A worker without a parent that ends removes its sockets from the folder that the parent made for the sockets between the
workers. The last one also removes the folder.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path

from channels.pubsub.adapter import WORKER, WORKERS_FOLDER
from channels.pubsub.workers.health import was_left_behind

__all__ = ["Lifeline"]


class Lifeline:
    """The worker's end of the pipe, and the thread that watches it.

    Args:
        descriptor: the file descriptor of the pipe. Only the parent has the other end.
        end: a function that takes an exit code and a sentence, and ends the process without a return.
    """

    def __init__(self, descriptor: int, end: Callable[[int, str], object]) -> None:
        self._descriptor = descriptor
        self._end = end
        self._seconds: float | None = None
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def serving(self, seconds: float) -> None:
        """Note that the event loop starts now. After the end of the parent, it gets these seconds to drain and stop."""
        self._seconds = seconds

    @property
    def is_cut(self) -> bool:
        """True if the parent has ended."""
        return bool(select.select([self._descriptor], [], [], 0)[0])

    def clean_up(self) -> None:
        """Remove the sockets between the workers that nobody uses, if the parent can no longer do that."""
        if self.is_cut:
            remove_folder()

    def _watch(self) -> None:
        # The parent writes nothing, so this returns when the parent has ended.
        os.read(self._descriptor, 1)
        if self._seconds is None:
            problem = "it has ended before this worker served, so this worker ends too"
        else:
            time.sleep(self._seconds)
            problem = (
                f"this worker did not stop within {self._seconds:g} s after the end of its parent"
            )
        remove_folder()
        self._end(1, f"the parent of the workers was killed: {problem}")


def remove_folder() -> None:
    """Remove the folder of the sockets between the workers, unless another worker still uses it.

    Another worker may do the same at the same time.
    """
    name = os.environ.get(WORKERS_FOLDER)
    if not name:
        return
    folder = Path(name)
    try:
        for path in folder.glob("*.sock"):
            # A worker that was killed has left its sockets behind.
            if path.stem.endswith(f"-{os.environ.get(WORKER)}") or was_left_behind(path):
                path.unlink(missing_ok=True)
        folder.rmdir()
    except OSError:
        # Another worker has removed the folder, or still uses it. Then that worker removes it when it ends.
        pass
