"""Run many small programs, each in a process of its own, without importing Ashtree anew for each.

A process that has imported the packages once forks for each program. Importing them is most of what a small program
costs. A program still has its own memory, standard streams, working directory and exit code.

    with Programs() as programs:
        done = programs.run(Path("a.py"), cwd=Path("/tmp"), time_limit=5)
        done.code, done.stdout, done.stderr
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

from attrs import frozen

from tests.architecture.sources import ROOT

__all__ = ["Done", "Programs"]

# The programs of the documentation stop without their secrets.
SECRETS = dict.fromkeys(("METRICS_TOKEN", "PUBLISH_TOKEN"), "a-secret-of-the-tests")

# Load only the facades that the programs import, and third-party packages. An Ashtree module that was loaded
# here would hide that a program forgets to import it.
_PARENT = """
import atexit, gc, json, os, runpy, signal, sys, threading
import pytest, trio, actors, supervision, channels
# What an endpoint imports of others, which takes half of the time of a program that starts one.
import hypercorn.protocol, hypercorn.trio, websockets.extensions.permessage_deflate, websockets.server
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)

# A collection in a program would copy all the pages that it shares with this process.
gc.collect()
gc.freeze()

def run(job):
    if job is None:
        return sys.exit()
    os.chdir(job["cwd"])
    # Python does the same when it starts a program.
    sys.path[0] = job["folder"]
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for number, (name, flags) in enumerate(job["streams"]):
        os.dup2(os.open(name, flags), number)
    sys.argv = job["argv"]
    runpy.run_path(sys.argv[0], run_name="__main__")
    # The program has ended well. A normal exit of the interpreter would take longer than most programs.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)

def next_job():
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            return job
        timed_out = []
        def kill(*_):
            timed_out.append(True)
            os.kill(child, signal.SIGKILL)
        signal.signal(signal.SIGALRM, kill)
        signal.setitimer(signal.ITIMER_REAL, job["time_limit"])
        _, status = os.waitpid(child, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), bool(timed_out)]), flush=True)

run(next_job())
"""


@frozen
class Done:
    """The end of a program. The code is None if it reached the time limit."""

    code: int | None
    stdout: str
    stderr: str


class Programs:
    """A process that runs programs until the end of the block. Warnings are errors in them.

    Args:
        preloaded: more modules that the process imports at its start. Name only modules that the programs also import.
    """

    def __init__(self, *preloaded: str) -> None:
        self._preloaded = preloaded
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is not None:
            self._process.communicate()

    def run(self, file: Path, *, cwd: Path, time_limit: float) -> Done:
        """Run a program until it ends, or kill it after a number of seconds."""
        with contextlib.ExitStack() as stack:
            out, err = (
                stack.enter_context(tempfile.NamedTemporaryFile("r", encoding="utf-8"))
                for _ in range(2)
            )
            write = os.O_WRONLY | os.O_APPEND
            code, timed_out = self._ask(
                cwd=str(cwd),
                folder=str(file.parent),
                argv=[str(file)],
                streams=[(os.devnull, os.O_RDONLY), (out.name, write), (err.name, write)],
                time_limit=time_limit,
            )
            return Done(None if timed_out else code, out.read(), err.read())

    def _ask(self, **job: Any) -> tuple[int, bool]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", _PARENT, *self._preloaded],
                env={**os.environ, **SECRETS, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that runs the programs has ended"
        code, timed_out = json.loads(answer)
        return code, timed_out
