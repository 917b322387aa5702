"""The files of a flight recorder: a continuous file, and a capsule for each crash that a rule selects.

    async with open_runtime(), open_recorder(file="run.jsonl", capsules=Capsules("crashes")):
        ...

A thread converts and writes the records. It writes every half second, so a SIGKILL loses at most the events of the last
half second. The runtime passes records to the thread through a bounded queue, and never waits for it. If the
thread is too slow, the queue drops its oldest records, and the file has an `omitted` event in their place.
"""

from __future__ import annotations

import linecache
import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import trio
from attrs import define, field, frozen

from actors.arguments import check_number
from actors.exits import ExitReason
from actors.links import trap_exits
from actors.refs import TimerRef
from actors.runtime import current_runtime
from actors.servers.gen_server import GenServer
from supervision.child_spec import ChildSpec
from supervision.recording.conversion import Birth, Conversion, Record, Snapshot
from supervision.recording.flight import FlightRecorder, Trouble
from supervision.recording.places import fits
from supervision.recording.trace import file_lines, open_private, write_lines

__all__ = ["Capsules", "RecorderFiles", "open_recorder", "recorder_spec"]

QUEUE: Final = 200_000
"""The number of records that may wait for the thread."""

BATCH: Final = 200
"""The number of records that the thread converts before it lets other threads run."""

CLOSE_SECONDS: Final = 10.0
"""The seconds that the thread may take to write the remaining records when the recorder closes."""

_JOBS: Final = 4
_log = logging.getLogger("supervision.recording")

Extension: TypeAlias = Callable[[FlightRecorder], None]
"""A function that attaches a recorder to more events. It registers its clean-up with `FlightRecorder.on_close`."""


@frozen(kw_only=True)
class Capsules:
    """The rule for capsules: files with the events from some seconds before a crash to some seconds after it.

        Capsules("crashes", paths=("/shop/*",))

    Args:
        folder: the folder of the files. The recorder creates it if it is missing.
        before: seconds before the crash.
        after: seconds after the crash. Crashes in this time belong to the same capsule.
        kinds: the kinds of events that cause a capsule: "crash", "zombie" and "gave_up".
        paths: patterns for the path of the process; see `Places`.
        selects: a further condition; None selects all crashes. It runs in the process that crashed, so it must be fast.
            If it raises, telemetry detaches the recorder's handler for crashes.
        limit: the most capsules that one run of the program writes. The recorder only counts the crashes after them.
    """

    folder: Path | str = field(kw_only=False)
    before: float = 30.0
    after: float = 5.0
    kinds: Sequence[str] = ("crash", "zombie", "gave_up")
    paths: Sequence[str] = ("*",)
    selects: Callable[[Trouble], bool] | None = None
    limit: int = 100

    def wants(self, trouble: Trouble) -> bool:
        """Return True if the rule selects a crash."""
        return (
            trouble.kind in self.kinds
            and any(fits(trouble.path, pattern) for pattern in self.paths)
            and (self.selects is None or self.selects(trouble))
        )


@asynccontextmanager
async def open_recorder(
    *,
    file: Path | str | None = None,
    max_file_bytes: int = 256 * 1024 * 1024,
    capsules: Capsules | None = None,
    flush_every: float = 0.5,
    extensions: Sequence[Extension] = (),
    **options: Any,
) -> AsyncIterator[RecorderFiles]:
    """Record the current runtime while the body runs, and write files.

        async with open_runtime(), open_recorder(capsules=Capsules("crashes")) as files:
            ...
            await files.dump("now.jsonl")

    Args:
        file: the file for all records; None for no file. The recorder replaces an existing file. Only the owner may
            read the file, and the capsules.
        max_file_bytes: the size at which the recorder renames the file to `<file>.1`, and begins a new one. It replaces
            an earlier `<file>.1`, so the two files together have at most twice this size.
        capsules: the rule for files about crashes; None for no such files.
        flush_every: seconds between two writes.
        extensions: functions that attach the recorder to more events, such as `channels.recording.record_channels`.
        **options: the options of `FlightRecorder`.

    Raises:
        OSError: a file or folder cannot be written. The recorder logs a later disk error, and stops writing the file.

    The writing thread takes processor time from the program: for each message, about as much as the program needs to
    send the message. Without `file`, the thread is idle until a crash. In a simulated run, which has no threads, use
    `FlightRecorder`.
    """
    check_number("open_recorder", "flush_every", flush_every, "seconds above 0", above=0)
    recorder = FlightRecorder(current_runtime(), **options)
    try:
        for extend in extensions:
            extend(recorder)
        files = RecorderFiles(recorder, capsules)
        writer = files.writer = _Writer(recorder, flush_every)
        files.prepare()
        if file is not None:
            writer.record_to(Path(file), max_file_bytes)
    except BaseException:
        recorder.close()
        raise
    writer.start()
    try:
        yield files
    finally:
        files.finish()
        recorder.close()
        # Shielded, because the last records are about the end of the program. CLOSE_SECONDS bounds the wait.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(writer.finish)


def recorder_spec(**options: Any) -> ChildSpec:
    """Return the spec of a child that records while it runs. Put the child first, so that it stops last.

        Supervisor.start_link([recorder_spec(file="run.jsonl"), endpoint.child_spec()])

    Args:
        **options: the options of `open_recorder`.
    """
    return ChildSpec(
        "recorder",
        _RecorderServer.start_link,
        (options,),
        {"label": "recorder"},
        # The thread may have many records left to write.
        shutdown=CLOSE_SECONDS + 5.0,
    )


class _RecorderServer(GenServer[None]):
    """The process that records while it runs."""

    async def init(self, options: dict[str, Any]) -> None:
        trap_exits()
        self._opened = AsyncExitStack()
        await self._opened.enter_async_context(open_recorder(**options))

    async def terminate(self, reason: ExitReason) -> None:
        await self._opened.aclose()


@define(eq=False)
class RecorderFiles:
    """The files of one recorder. `open_recorder` creates this object.

    Attributes:
        recorder: the recorder.
        written: the capsules that were written.
        refused: the number of capsules not written, because of the limit or because the thread was busy.
    """

    recorder: FlightRecorder
    _rule: Capsules | None
    writer: _Writer = field(init=False)
    refused: int = 0
    _started: int = 0
    _pending: tuple[Trouble, TimerRef] | None = None

    @property
    def written(self) -> list[Path]:
        return self.writer.written

    def statistics(self) -> dict[str, int]:
        """Return the figures of the recorder and of its files."""
        return {
            **self.recorder.statistics(),
            "file_records": self.writer.records,
            "file_lost": self.writer.lost,
            "capsules": len(self.writer.written),
            "capsules_refused": self.refused,
        }

    def prepare(self) -> None:
        """Create the folder for capsules, and listen for crashes."""
        if self._rule is not None:
            Path(self._rule.folder).mkdir(mode=0o700, parents=True, exist_ok=True)
            self.recorder.listeners = (*self.recorder.listeners, self.notice)

    async def dump(self, path: Path | str, *, seconds: float | None = None) -> None:
        """Write the records to a file, in a thread.

        Args:
            path: the file. This replaces an existing file.
            seconds: write only the records of the last seconds; None writes all.

        Raises:
            OSError: the file cannot be written.
        """
        snapshot = self.recorder.snapshot(seconds=seconds)
        await trio.to_thread.run_sync(_write, Path(path), snapshot)

    def notice(self, trouble: Trouble) -> None:
        """Begin a capsule if the rule selects the crash."""
        rule = self._rule
        if rule is None or not rule.wants(trouble) or self._pending is not None:
            return
        if self._started >= rule.limit:
            self.refused += 1
            return
        self._started += 1
        runtime = self.recorder.runtime
        timer = runtime.timers.at(trio.current_time() + rule.after, self._capture)
        self._pending = trouble, timer

    def _capture(self) -> None:
        assert self._rule is not None
        assert self._pending is not None  # only `notice` starts the timer
        trouble, _ = self._pending
        self._pending = None
        recorder, rule = self.recorder, self._rule
        snapshot = recorder.snapshot(
            seconds=rule.before + rule.after, why="crash", crash=trouble.number
        )
        when = datetime.fromtimestamp(recorder.runtime.now(), UTC)
        where = re.sub(r"[^A-Za-z0-9]+", "-", trouble.path)[-60:].strip("-")
        # The name contains the id of the operating system process, because several workers may share a folder.
        number = f"{os.getpid()}-{self._started}"
        name = f"{when:%Y%m%dT%H%M%SZ}-{number}-{trouble.kind}-{where or 'unknown'}.jsonl"
        if not self.writer.ask(Path(rule.folder) / name, snapshot):
            self.refused += 1

    def finish(self) -> None:
        """Write the pending capsule now, without waiting for the rest of its last seconds."""
        if self._pending is not None:
            self.recorder.runtime.timers.forget(self._pending[1])
            self._capture()


class _Writer(threading.Thread):
    """The thread that writes.

    Attributes:
        records: the number of records that were written to the continuous file.
        lost: the number of records that the queue dropped.
        written: the capsules that were written.
    """

    def __init__(self, recorder: FlightRecorder, interval: float) -> None:
        # A daemon, so that a program that ends without closing its recorder does not hang.
        super().__init__(name="ashtree recorder", daemon=True)
        self._recorder = recorder
        self._interval = interval
        self._queue: deque[Record] = deque(maxlen=QUEUE)
        self._jobs: deque[tuple[Path, Snapshot]] = deque()
        self._wake = threading.Event()
        self._ending = False
        self._file: _ContinuousFile | None = None
        self.records = 0
        self.lost = 0
        self.written: list[Path] = []

    # In the thread of the runtime

    def record_to(self, path: Path, max_bytes: int) -> None:
        """Write all present and all later records to a file."""
        snapshot = self._recorder.snapshot(why="continuous")
        self._file = _ContinuousFile(path, max_bytes, snapshot)
        self._recorder.pass_on(self._queue.append)

    def ask(self, path: Path, snapshot: Snapshot) -> bool:
        """Queue a capsule for writing. Return False if too many capsules are waiting."""
        if len(self._jobs) >= _JOBS:
            return False
        self._jobs.append((path, snapshot))
        self._wake.set()
        return True

    def finish(self) -> None:
        """Write the remaining records, and end the thread. This blocks for at most CLOSE_SECONDS."""
        self._ending = True
        self._wake.set()
        self.join(CLOSE_SECONDS)

    # In the writing thread

    def run(self) -> None:
        while not self._ending:
            self._wake.wait(self._interval)
            self._wake.clear()
            self._turn()
        self._turn()
        if self._file is not None:
            self._file.close()

    def _turn(self) -> None:
        if self._file is not None:
            try:
                self._drain(self._file)
            except Exception as error:  # a full disk, or a bug: neither may harm the program
                _log.error("The recorder writes no more to %s: %s", self._file.path, error)
                self._stop_passing_on()
                self._file.abandon()
                self._file = None
        while self._jobs:
            path, snapshot = self._jobs.popleft()
            try:
                _write(path, snapshot)
            except Exception as error:  # as above
                _log.error("The recorder could not write the capsule %s: %s", path, error)
            else:
                self.written.append(path)
                _log.warning("The recorder wrote %s; read it with: ashtree story %s", path, path)

    def _stop_passing_on(self) -> None:
        """Stop the flow of records. The runtime's thread does this, because no other thread may change instruments."""
        recorder = self._recorder
        try:
            recorder.runtime.run_sync_soon(recorder.pass_on, None)
        except trio.RunFinishedError:  # the program ends, so no record comes any more
            pass

    def _drain(self, file: _ContinuousFile) -> None:
        queue = self._queue
        while queue:
            batch = []
            for _ in range(min(BATCH, len(queue))):
                try:
                    batch.append(queue.popleft())
                except (
                    IndexError
                ):  # no other thread takes records, but the length can be out of date
                    break
            self.lost += file.write(batch)
            self.records += len(batch)
            if file.is_full:
                file.rotate(self._known_births(batch))
            # Give the runtime's thread a chance to run.
            time.sleep(0)
        file.flush()

    def _known_births(self, written: Sequence[Record]) -> list[Birth]:
        """Return the starts of the living processes, and of those whose end is still in the queue.

        Args:
            written: the records that the file got last.
        """
        # The runtime's thread passes an end on before it forgets the start. In between it passes nothing else on.
        ended = {record[3] for record in written if record[2] == "exited"}
        # Read the living processes first. A process that ends in the meantime is then in both, and not in neither.
        births = {birth.pid: birth for birth in self._recorder.births if birth.pid not in ended}
        for record in list(self._queue):
            if record[2] == "exited":
                birth: Birth = record[5]
                births.setdefault(birth.pid, birth)
        return list(births.values())


class _ContinuousFile:
    """The file of all records."""

    def __init__(self, path: Path, max_bytes: int, snapshot: Snapshot) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._begin(snapshot)

    def _begin(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._conversion: Conversion
        self._conversion, lines = snapshot.begin(linecache.getline)
        self._expected = snapshot.following
        self._file: IO[bytes] = open_private(self.path)
        self._size = 0
        self._put(file_lines(lines))
        self._put(self._conversion.convert(snapshot.records))
        self.flush()

    def _put(self, lines: Any) -> None:
        data = b"".join(line + b"\n" for line in lines)
        self._file.write(data)
        self._size += len(data)

    def write(self, records: Sequence[Record]) -> int:
        """Write records, and return the number of records that are missing before or between them."""
        missing = 0
        for position, record in enumerate(records):
            gap = record[0] - self._expected
            if gap > 0:
                missing += gap
                self._put([self._conversion.lost(self._expected, record[1], gap)])
            self._expected = record[0] + 1
            self._put(self._conversion.convert(islice(records, position, position + 1)))
        return missing

    def flush(self) -> None:
        """Flush all lines to the operating system, so that they survive the end of the program."""
        self._file.flush()

    @property
    def is_full(self) -> bool:
        return self._size >= self._max_bytes

    def rotate(self, births: list[Birth]) -> None:
        """Rename the file to `<file>.1`, and begin a new one.

        Args:
            births: the starts of all processes whose end is not in the file yet.
        """
        self._file.close()
        self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        before = [birth for birth in births if birth.n < self._expected]
        self._begin(self._snapshot.without_records(before, self._expected))

    def close(self) -> None:
        self._file.close()

    def abandon(self) -> None:
        """Close the file, and discard lines that cannot be written."""
        try:
            self._file.close()
        except OSError:  # the error that ended the writing occurs again
            pass


def _write(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot to a file. The file appears only when it is complete."""
    part = path.with_name(f"{path.name}.part")
    write_lines(part, snapshot.lines(linecache.getline))
    part.replace(path)
