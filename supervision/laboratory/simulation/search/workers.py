"""Forked worker processes. Each works on one item at a time, and the answers come in the order of the items.

A worker may die of a segmentation fault or for lack of memory, or its work may never end. The answer for its item is
then a `Lost` with the reason, and another worker takes the place of the dead worker.

Answers travel as JSON.

A library such as Pebble is not enough, for three reasons. The work is a closure, which cannot be pickled. A time limit
must also end a worker that hangs in C. The answer for a lost item must contain the last output of its worker.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import selectors
import signal
import struct
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import IO, NoReturn, TypeVar

import msgspec
from attrs import define, field, frozen

__all__ = ["Lost", "cores", "in_workers"]

T = TypeVar("T")
Answer = TypeVar("Answer")

_AHEAD = 1000  # the most answers that wait for the answer to an earlier item
_SAID = 16_000  # the most bytes to keep of the last output of a dead worker
_BROKEN = 70  # the exit code of a worker whose work raised

_INDEX = struct.Struct("!Q")
_LENGTH = struct.Struct("!Q")


@frozen(kw_only=True)
class Lost:
    """The answer for an item whose worker died.

    Attributes:
        kind: "time limit", the name of a signal, or "exit".
        why: the reason as a clause, such as "SIGSEGV ended its process".
        said: the last output of the worker on standard error.
    """

    kind: str
    why: str
    said: str


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_workers(
    work: Callable[[T], Answer],
    items: Sequence[T],
    answers: type[Answer],
    *,
    jobs: int,
    real_seconds: float,
    renew: int,
    cpu_seconds: float | None = None,
) -> Generator[Answer | Lost, None, None]:
    """Run `work` for each item in forked processes, and yield the answers in the order of the items.

        for answer in in_workers(square, range(100), int, jobs=2, real_seconds=10.0, renew=50):
            ...

    If the caller leaves the loop early, or on Ctrl-C, all workers end immediately.

    Args:
        work: called in a worker, which discards its standard output. `Lost.said` has its standard error.
        items: a sequence, or another object with a length and with items by index.
        answers: the type of the answers. msgspec encodes them in the worker, and decodes them as this type.
        jobs: the number of workers. 0 runs everything in this process, without the limits.
        real_seconds: the real seconds that an item may take.
        renew: replace a worker after this many items, so that leaked memory stays bounded.
        cpu_seconds: the CPU seconds that an item may take. `real_seconds` must be long enough for a busy machine, so
            `cpu_seconds` ends an endless loop earlier.
    """
    if jobs == 0:
        yield from map(work, items)
        return
    decode = msgspec.json.Decoder(answers).decode
    pool = _Pool(
        lambda index: msgspec.json.encode(work(items[index])),
        len(items),
        real_seconds=real_seconds,
        renew=renew,
        cpu_seconds=cpu_seconds,
    )
    try:
        for answer in pool.run(jobs):
            yield answer if isinstance(answer, Lost) else decode(answer)
    finally:
        pool.stop()


@define(eq=False)
class _Worker:
    pid: int
    commands: int
    answers: int
    errors: IO[bytes]
    item: int = -1
    done: int = 0
    buffer: bytearray = field(factory=bytearray)
    said_last: str = ""


class _Pool:
    """The workers of one call of `in_workers`."""

    def __init__(
        self,
        work: Callable[[int], bytes],
        count: int,
        *,
        real_seconds: float,
        renew: int,
        cpu_seconds: float | None,
    ) -> None:
        self._work = work
        self._count = count
        self._real_seconds = real_seconds
        self._cpu_seconds = cpu_seconds
        self._renew = renew
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._given = 0
        self._answered: dict[int, bytes | Lost] = {}

    def run(self, jobs: int) -> Iterator[bytes | Lost]:
        for _ in range(min(jobs, self._count)):
            self._give(self._start())
        for index in range(self._count):
            # This loop needs no time limit, because each worker enforces its own. The end of a worker wakes `select`.
            while index not in self._answered:
                for key, _ in self._selector.select():
                    self._hear(key.data)
            yield self._answered.pop(index)
            for worker in [each for each in self._workers if each.item < 0]:
                self._give(worker)

    def stop(self) -> None:
        """Kill the remaining workers. A worker has nothing to clean up."""
        while self._workers:
            worker = self._workers[-1]
            try:
                # Kill the process group, because a worker may have started a process for a self-check.
                os.killpg(worker.pid, signal.SIGKILL)
            except (PermissionError, ProcessLookupError):
                # The worker has ended already. On macOS, this raises PermissionError.
                pass
            self._forget(worker)
        self._selector.close()

    def _give(self, worker: _Worker) -> None:
        """Give a worker the next item, unless there is none or too many answers wait."""
        worker.item = -1
        if self._given >= self._count or len(self._answered) >= _AHEAD:
            return
        if worker.done >= self._renew:
            self._forget(worker)
            worker = self._start()
        worker.item = self._given
        self._given += 1
        try:
            os.write(worker.commands, _INDEX.pack(worker.item))
        except BrokenPipeError:
            # The worker died between two items. `_hear` notices this.
            pass

    def _hear(self, worker: _Worker) -> None:
        data = os.read(worker.answers, 1 << 20)
        if not data:
            self._replace(worker)
            return
        worker.buffer += data
        if len(worker.buffer) < _LENGTH.size:
            return
        (length,) = _LENGTH.unpack_from(worker.buffer)
        if len(worker.buffer) < _LENGTH.size + length:
            return
        self._answered[worker.item] = bytes(worker.buffer[_LENGTH.size :])
        worker.buffer.clear()
        worker.done += 1
        self._give(worker)

    def _replace(self, worker: _Worker) -> None:
        item = worker.item
        status = self._forget(worker)
        if item >= 0:
            self._answered[item] = self._lost(status, worker)
            self._give(self._start())

    def _lost(self, status: int, worker: _Worker) -> Lost:
        code = os.waitstatus_to_exitcode(status)
        said = worker.said_last
        if code >= 0:
            return Lost(kind="exit", why=f"its process ended with the exit code {code}", said=said)
        name = _name_of(-code)
        if -code in (signal.SIGALRM, signal.SIGPROF):
            limit = f"{self._real_seconds:g} seconds of real time"
            if -code == signal.SIGPROF:
                limit = f"{self._cpu_seconds or 0:g} CPU seconds"
            why = f"it took more than {limit}"
            return Lost(kind="time limit", why=why, said=said)
        hint = ", perhaps because memory was short" if -code == signal.SIGKILL else ""
        return Lost(kind=name, why=f"{name} ended its process{hint}", said=said)

    def _start(self) -> _Worker:
        commands_read, commands = os.pipe()
        answers, answers_write = os.pipe()
        errors = tempfile.TemporaryFile("a+b", buffering=0)  # noqa: SIM115 # closed in _forget
        sys.stdout.flush()
        sys.stderr.flush()
        pid = _fork()
        if pid == 0:
            others = [fd for each in self._workers for fd in (each.commands, each.answers)]
            _be_a_worker(
                self._work,
                commands_read,
                answers_write,
                errors.fileno(),
                close=[*others, commands, answers],
                real_seconds=self._real_seconds,
                cpu_seconds=self._cpu_seconds,
            )
        try:
            # Parent and worker both make this call, because either may be the first to need the group.
            os.setpgid(pid, pid)
        except (PermissionError, ProcessLookupError):
            pass
        os.close(commands_read)
        os.close(answers_write)
        worker = _Worker(pid, commands, answers, errors)
        self._workers.append(worker)
        self._selector.register(answers, selectors.EVENT_READ, worker)
        return worker

    def _forget(self, worker: _Worker) -> int:
        """Close the pipes of a worker, so that it ends. Return its exit status."""
        self._workers.remove(worker)
        self._selector.unregister(worker.answers)
        os.close(worker.commands)
        os.close(worker.answers)
        _, status = os.waitpid(worker.pid, 0)
        worker.said_last = _end_of(worker.errors)
        worker.errors.close()
        return status


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _end_of(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _SAID))
    said = file.read().decode(errors="replace")
    # faulthandler prints the innermost frame first. Cut off the frames of this module and of its callers.
    return said.partition(f'  File "{__file__}"')[0]


def _fork() -> int:
    with warnings.catch_warnings():
        # Python warns if there are other threads, because their locks stay locked in the new process. A worker needs no
        # such lock: simulations have no threads and no real I/O, and a worker exits without any clean-up.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


# In the worker


def _be_a_worker(
    work: Callable[[int], bytes],
    commands: int,
    answers: int,
    errors: int,
    *,
    close: list[int],
    real_seconds: float,
    cpu_seconds: float | None,
) -> NoReturn:
    code = _BROKEN
    try:
        # The worker gets its own group, so that Ctrl-C on the terminal reaches only the parent process.
        os.setpgid(0, 0)
        for fd in close:
            os.close(fd)
        _redirect(errors)
        # The collector ignores frozen objects, so their memory stays shared with the parent process.
        gc.freeze()
        gc.disable()
        _serve(work, commands, answers, real_seconds, cpu_seconds)
        code = 0
    except BaseException as error:  # any error ends this process
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        traceback.print_exception(error.with_traceback(trace), file=sys.stderr)
    finally:
        # Not sys.exit: no exit handler of the parent process may run here.
        os._exit(code)


def _redirect(errors: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.dup2(errors, 2)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 # open until the process ends
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    faulthandler.enable(2)


def _serve(
    work: Callable[[int], bytes],
    commands: int,
    answers: int,
    real_seconds: float,
    cpu_seconds: float | None,
) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in (signal.SIGALRM, signal.SIGPROF):
        # The signal prints the stack. Then its default action ends the process, even if the process hangs in C.
        signal.signal(number, signal.SIG_DFL)
        faulthandler.register(number, 2, chain=True)
    while index := os.read(commands, _INDEX.size):
        os.ftruncate(2, 0)
        signal.setitimer(signal.ITIMER_REAL, real_seconds)
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds or 0)
        answer = work(*_INDEX.unpack(index))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _write_all(answers, _LENGTH.pack(len(answer)) + answer)
        # Collect only between runs, because the collector would disturb the order within a run.
        gc.collect()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
