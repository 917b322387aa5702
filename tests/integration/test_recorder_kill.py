"""The file of a recorder survives SIGKILL up to the last second."""

import signal
import subprocess
import sys
import warnings
from pathlib import Path

import msgspec

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
