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
from multiprocessing import reduction
from pathlib import Path
from typing import Any

__all__ = ["Program"]

ROOT = Path(__file__).parents[2]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.integration.preloaded"])


class Program:
    """A program like that of `python -m MODULE ARGUMENTS`, from its start in a folder to its end.

    Args:
        module: the name of the module.
        arguments: the command line after the name of the module.
        stdout: the file descriptor that becomes the standard output. The caller closes its own copy.
        stderr: the file descriptor that becomes the standard error. None takes `stdout` for both.
        stdin: the file descriptor that becomes the standard input. None gives the program an empty input.
        environment: all environment variables of the program. None takes those of the tests.
        folder: the working directory of the program.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        stdout: int,
        stderr: int | None = None,
        stdin: int | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path = ROOT,
    ) -> None:
        streams = [_Descriptor(stdout), _Descriptor(stdout if stderr is None else stderr)]
        # A daemon ends with the tests, even if a test forgets to end it.
        self._process = _CONTEXT.Process(
            target=_run,
            args=(
                module,
                arguments,
                dict(os.environ if environment is None else environment),
                None if stdin is None else _Descriptor(stdin),
                streams,
            ),
            kwargs={"folder": folder},
            daemon=True,
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


class _Descriptor:
    """A file descriptor. The fork server passes a copy of it to the program."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _take, (reduction.DupFd(self._number),)


def _take(passed: Any) -> int:
    number: int = passed.detach()
    return number


def _run(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    stdin: int | None,
    streams: Sequence[int],
    *,
    folder: Path,
) -> None:
    if stdin is not None:
        os.dup2(stdin, 0)
        os.close(stdin)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    for number, stream in enumerate(streams, 1):
        os.dup2(stream, number)
        os.close(stream)
    # The fork server has chosen the buffers of its own standard streams. Choose them again, as Python does at a start.
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
