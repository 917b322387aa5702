"""Modules as programs, each in a process of its own, without importing Ashtree anew for each program.

The fork server of `multiprocessing` imports Ashtree once, and forks for each program. The imports are most of the CPU
time of a small server. Each program still has its own memory, signals, sockets, environment and exit code.

A test about the start of a program uses `subprocess` instead.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Program"]

ROOT = Path(__file__).parents[2]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.integration.preloaded"])


class Program:
    """A program like that of `python -m MODULE ARGUMENTS`, from its start in the root folder to its end.

    Args:
        module: the name of the module.
        arguments: the command line after the name of the module.
        log: the file to which the program appends its standard output and its standard error.
        environment: all environment variables of the program.
    """

    def __init__(
        self, module: str, *arguments: str, log: Path, environment: Mapping[str, str]
    ) -> None:
        # A daemon ends with the tests, even if a test forgets to end it.
        self._process = _CONTEXT.Process(
            target=_run, args=(module, arguments, log, dict(environment)), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit code; None if the program still runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the program, and return its exit code.

        Args:
            timeout: the longest wait in seconds. None waits without a limit.

        Raises:
            TimeoutError: the program still runs after the timeout.
        """
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise TimeoutError(f"the program {self.pid} still runs after {timeout} s")
        return code

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless the program has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """End the program at once, unless it has ended."""
        self._process.kill()


def _run(module: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
