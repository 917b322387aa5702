"""The file of a recorder survives SIGKILL up to the last second."""

import signal
import subprocess
import sys
import warnings
from pathlib import Path

import msgspec
import trio

from actors import open_runtime, spawn, stop, wait_exit
from supervision import Supervisor
from supervision.recording.files import recorder_spec
from supervision.recording.trace import read_recording

PROGRAM = """
import sys
import trio
from actors import open_runtime
from supervision.recording.files import open_recorder

async def main():
    async with open_runtime(), open_recorder(file=sys.argv[1]) as files:
        began = trio.current_time()
        while True:
            files.recorder.note("alive", at=repr(trio.current_time() - began))
            print(trio.current_time() - began, flush=True)
            await trio.sleep(0.02)

trio.run(main)
"""


def test_a_killed_program_leaves_its_recording_up_to_the_last_second(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    with program.stdout as printed:
        for line in printed:
            last = float(line)
            if last > 2.0:
                program.send_signal(signal.SIGKILL)
                break
        # What it printed before the signal arrived.
        last = max([last, *map(float, printed)])
    assert program.wait() == -signal.SIGKILL
    with warnings.catch_warnings():
        # The last line may be cut off.
        warnings.simplefilter("ignore")
        lines, _ = read_recording(path)
    notes = [event for event in map(msgspec.json.decode, lines) if event["kind"] == "note"]
    assert last - float(notes[-1]["at"]) < 1.0


async def test_a_recorder_is_a_child_of_a_supervisor_and_writes_the_rest_at_its_stop(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.jsonl"
    async with open_runtime():
        supervisor = await Supervisor.start([recorder_spec(file=path, flush_every=3600)])
        await wait_exit(spawn(trio.lowlevel.checkpoint, label="short"))
        await stop(supervisor)
    lines, damaged = read_recording(path)
    ends = [event for event in map(msgspec.json.decode, lines) if event["kind"] == "exited"]
    assert [event["path"] for event in ends] == ["/short"]
    assert not damaged
