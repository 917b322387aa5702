"""The locked file of a server: processes that inherit the lock, waits, and the error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from channels.pubsub.workers.lock import WorkersRemain, lock_file
from tests.patience import PATIENCE

# Over real processes, which a virtual clock would run away from.
REAL_CLOCK = True


def a_process_with(descriptor: int) -> subprocess.Popen[bytes]:
    """Start a process that inherits a descriptor, and lives until it is killed."""
    program = [sys.executable, "-c", "input()"]
    return subprocess.Popen(program, stdin=subprocess.PIPE, pass_fds=(descriptor,))


async def test_a_lock_lasts_until_the_last_process_that_inherited_it_has_ended(
    tmp_path: Path,
) -> None:
    path = tmp_path / "server.lock"
    first = await lock_file(path, 0.0)
    with a_process_with(first) as worker:
        # The parent ends.
        os.close(first)
        with pytest.raises(WorkersRemain) as caught:
            await lock_file(path, 0.0)
        assert caught.value.pids == [worker.pid]
        assert f"still run (processes {worker.pid})" in str(caught.value)
        async with trio.open_nursery() as nursery:
            locked: list[int] = []

            async def wait() -> None:
                locked.append(await lock_file(path, PATIENCE))

            nursery.start_soon(wait)
            await trio.sleep(0.05)
            assert locked == []
            worker.kill()
    os.close(locked[0])


async def test_a_lock_is_free_after_its_last_process(tmp_path: Path) -> None:
    path = tmp_path / "server.lock"
    for _ in range(2):
        os.close(await lock_file(path, 0.0))
