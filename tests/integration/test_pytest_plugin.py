"""The fixture `channel_test` in the tests of another project, in a separate pytest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE

TESTS = """
import trio

from channels import Channel, Endpoint, Socket


class Room(Channel):
    pass


class UserSocket(Socket):
    channels = {"room:*": Room}


async def test_an_hour_of_virtual_time_takes_no_real_time(channel_test):
    case = await channel_test(Endpoint(sockets={"/socket": UserSocket}))
    client = await case.connect()
    await client.subscribe_and_join("room:lobby")
    await trio.sleep(3600)


async def test_without_the_fixture_time_is_real():
    assert type(trio.lowlevel.current_clock()).__name__ == "SystemClock"
"""


def test_only_tests_with_the_fixture_run_on_a_virtual_clock(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    (tmp_path / "test_rooms.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
