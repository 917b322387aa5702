"""The end of a program after a second signal, in a separate program."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import atexit, logging, sys, threading, time
from supervision.applications.application import exit_now

class Stuck(logging.Handler):
    def emit(self, record): pass
    def flush(self): time.sleep(60)

logging.getLogger().addHandler(Stuck() if sys.argv[1] == "stuck" else logging.StreamHandler())
logging.getLogger().warning("logged")
atexit.register(print, "never")
threading.Thread(target=time.sleep, args=(60,)).start()
sys.stdout.write("printed")
exit_now(143, "killed")
"""


def ended(how: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_log_and_the_output_are_written_out_and_nothing_else_runs() -> None:
    assert ended("fine") == (143, "printed", "logged\nkilled\n")


def test_a_blocked_log_does_not_delay_the_end() -> None:
    assert ended("stuck") == (143, "printed", "killed\n")
