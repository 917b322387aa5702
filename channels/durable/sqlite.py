"""The storage in a SQLite file, for the processes of one machine. A restart keeps the history."""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Literal, TypeVar

import trio

from actors.arguments import check_positive
from actors.errors import InvalidOption
from channels.durable.storage import (
    Appended,
    Claimed,
    Ends,
    NewAnswer,
    NewMessage,
    Receiver,
    StorageError,
)
from channels.durable.stream import Entry, Limits, Slice
from supervision.child_spec import ChildSpec

__all__ = ["SQLiteStorage"]

T = TypeVar("T")

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS history (id INTEGER PRIMARY KEY CHECK (id = 1), epoch TEXT NOT NULL, floor INTEGER NOT NULL,
    bytes INTEGER NOT NULL, appends INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS streams (id INTEGER PRIMARY KEY, topic TEXT NOT NULL UNIQUE, first INTEGER NOT NULL,
    last INTEGER NOT NULL, bytes INTEGER NOT NULL, used INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS streams_used ON streams (used);
CREATE TABLE IF NOT EXISTS messages (stream INTEGER NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL,
    size INTEGER NOT NULL, event TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (stream, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, at REAL NOT NULL,
    size INTEGER NOT NULL, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS keys_total (id INTEGER PRIMARY KEY CHECK (id = 1), keys INTEGER NOT NULL,
    bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS fences (id INTEGER PRIMARY KEY, topic TEXT NOT NULL UNIQUE, fence INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS fences_total (id INTEGER PRIMARY KEY CHECK (id = 1), fences INTEGER NOT NULL,
    floor INTEGER NOT NULL);
"""
# The most topics in one query of `ends`. SQLite limits the parameters of a query.
_ENDS = 500


# The most claims in one transaction.
_CLAIMS = 100


class _Claim:
    """A claim that waits for the writer, and its result."""

    __slots__ = ("fence", "problem", "result", "topic")

    def __init__(self, topic: str, fence: int) -> None:
        self.topic = topic
        self.fence = fence
        self.result: Claimed | None = None
        self.problem: str | None = None


class _Row:
    """The row of a stream, while a batch is written."""

    __slots__ = ("first", "id", "last", "size")

    def __init__(self, id: int, first: int, last: int, size: int) -> None:
        self.id = id
        self.first = first
        self.last = last
        self.size = size


class SQLiteStorage:
    """A history in a SQLite file.

        History(SQLiteStorage("history.db"))

    An append returns after its messages are on disk. Appends that wait together share one commit. Several processes of
    one machine may share the file, such as the workers of `ashtree serve`. The file must be on a local disk.

    Args:
        path: the file. SQLite creates two more files beside it. Only the owner may read a file that this storage
            creates.
        synchronous: `"FULL"` writes each commit to the disk. `"NORMAL"` is about ten times as fast for single messages.
            With `"NORMAL"`, a power failure can lose the last messages, but a crash of the server cannot.
        timeout: seconds to wait for another process that writes.

    Raises:
        InvalidOption: an option is invalid.
    """

    name = "sqlite"
    is_shared = True
    publishes = False

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        timeout: float = 5.0,
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise InvalidOption("SQLiteStorage", "synchronous", synchronous, '"FULL" or "NORMAL"')
        if str(path) in ("", ":memory:"):
            raise InvalidOption("SQLiteStorage", "path", path, "a file, or use MemoryStorage()")
        check_positive("SQLiteStorage", "timeout", timeout)
        self.path = Path(path)
        self.synchronous = synchronous
        self.timeout = timeout
        self._limits = Limits()
        # The event loop adds claims, and the writer's thread takes them.
        self._claims: deque[_Claim] = deque()
        self._turn = trio.Lock()
        # Each connection serves one thread at a time. One connection writes. The others can read at the same time.
        self._writer = _Connection()
        self._reader = _Connection()

    def __repr__(self) -> str:
        return f"SQLiteStorage({str(self.path)!r})"

    async def open(self, limits: Limits, *, fresh_epoch: str) -> None:
        """Open the file, or create it.

        Raises:
            StorageError: the file cannot be opened, or has another version.
        """
        self._limits = limits
        await self._writer.run(lambda _: None, open_first=self._connect)
        try:
            await self._writer.run(lambda connection: _make(connection, fresh_epoch))
            await self._reader.run(lambda _: None, open_first=self._connect)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        # Only the owner may read the messages of clients. SQLite itself would create the file with the rights of the
        # umask. It gives the two files beside it the rights of this one. An existing file keeps its rights. It must not
        # be opened here: closing it would drop the locks that SQLite has on it through other connections of this
        # process. Another process would then remove the log of changes as the supposedly last user.
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except OSError:
            # The file exists, or SQLite gives the reason why it cannot be opened.
            pass
        connection = sqlite3.connect(
            self.path, timeout=self.timeout, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self.synchronous}")
        except BaseException:
            connection.close()
            raise
        return connection

    def processes(self, receiver: Receiver) -> Sequence[ChildSpec]:
        """Return nothing, because this storage has no process."""
        return ()

    def close(self) -> None:
        """Close the file. This waits for a thread that uses it."""
        self._reader.close()
        self._writer.close()

    async def append(
        self, batch: Sequence[NewMessage], *, now: float, answers: Sequence[NewAnswer] = ()
    ) -> Appended:
        """Keep messages and answers in one transaction.

        Raises:
            StorageError: SQLite failed, because the disk is full for example.
        """
        limits = self._limits
        return await self._writer.run(
            lambda connection: _append(connection, batch, answers, now, limits)
        )

    async def claim(self, topic: str, fence: int) -> Claimed:
        """Claim a topic. Claims that wait together share one transaction, because each commit waits for the disk.

        Raises:
            StorageError: SQLite failed.
        """
        claim = _Claim(topic, fence)
        self._claims.append(claim)
        # Callers take turns. The thread of an earlier caller may have carried out this claim too.
        async with self._turn:
            while claim.result is None and claim.problem is None:
                await self._writer.run(self._claim_waiting)
        if claim.result is None:
            raise StorageError("sqlite", str(claim.problem))
        return claim.result

    def _claim_waiting(self, connection: sqlite3.Connection) -> None:
        claims: list[_Claim] = []
        while self._claims and len(claims) < _CLAIMS:
            claims.append(self._claims.popleft())
        try:
            with _transaction(connection, "IMMEDIATE"):
                results = [_claim(connection, each, self._limits.max_fences) for each in claims]
        except BaseException as error:
            # Every caller must get the failure, whatever it is. Otherwise it would wait for a result for ever.
            for each in claims:
                each.problem = str(error)
            raise
        for each, result in zip(claims, results, strict=True):
            each.result = result

    async def recall(self, key: str, *, now: float) -> bytes | None:
        """Return a remembered answer.

        Raises:
            StorageError: SQLite failed.
        """
        oldest = now - self._limits.max_answer_age
        return await self._reader.run(lambda connection: _recall(connection, key, oldest))

    async def read(self, topic: str, *, after: int, limit: int, now: float) -> Slice:
        """Read a stream.

        Raises:
            StorageError: SQLite failed.
        """
        oldest = now - self._limits.max_age
        return await self._reader.run(
            lambda connection: _read(connection, topic, after, limit, oldest)
        )

    async def ends(self, topics: Sequence[str]) -> Ends:
        """Read the last offset of each kept topic.

        Raises:
            StorageError: SQLite failed.
        """
        return await self._reader.run(lambda connection: _ends(connection, topics))

    def statistics(self) -> dict[str, int]:
        """Return the numbers of kept topics, messages and bytes. This reads the file, and blocks for a moment."""
        return self._reader.use(_statistics)


class _Connection:
    """A connection that one thread uses at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._limiter: trio.CapacityLimiter | None = None
        self._connection: sqlite3.Connection | None = None

    async def run(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        open_first: Callable[[], sqlite3.Connection] | None = None,
    ) -> T:
        """Run some work in a thread, and wait for it even if the caller is cancelled."""
        if self._limiter is None:
            self._limiter = trio.CapacityLimiter(1)
        return await trio.to_thread.run_sync(self.use, work, open_first, limiter=self._limiter)

    def use(
        self,
        work: Callable[[sqlite3.Connection], T],
        open_first: Callable[[], sqlite3.Connection] | None = None,
    ) -> T:
        """Run some work in this thread."""
        with self._lock:
            try:
                if open_first is not None and self._connection is None:
                    self._connection = open_first()
                if self._connection is None:
                    raise StorageError("sqlite", "it is closed; start its history first")
                return work(self._connection)
            except sqlite3.Error as error:
                raise StorageError("sqlite", str(error)) from error

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            self._limiter = None
            if connection is not None:
                connection.close()


# In the threads


@contextmanager
def _transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _make(connection: sqlite3.Connection, fresh_epoch: str) -> None:
    with _transaction(connection, "IMMEDIATE"):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            problem = f"its file has version {version}, and this Ashtree reads {_VERSION}; use another file"
            raise StorageError("sqlite", problem)
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("INSERT OR IGNORE INTO history VALUES (1, ?, 0, 0, 0)", (fresh_epoch,))
        connection.execute("INSERT OR IGNORE INTO keys_total VALUES (1, 0, 0)")
        connection.execute("INSERT OR IGNORE INTO fences_total VALUES (1, 0, 0)")


def _append(
    connection: sqlite3.Connection,
    batch: Sequence[NewMessage],
    answers: Sequence[NewAnswer],
    now: float,
    limits: Limits,
) -> Appended:
    with _transaction(connection, "IMMEDIATE"):
        epoch, floor, total, appends = connection.execute(
            "SELECT epoch, floor, bytes, appends FROM history"
        ).fetchone()
        refused = _refused(connection, batch)
        if refused:
            return Appended(epoch, (), refused=refused)
        keys = _Keys(connection, now, limits)
        rows: dict[str, _Row] = {}
        offsets: list[int] = []
        repeated: list[int] = []
        for place, message in enumerate(batch):
            known = None if message.key is None else keys.get(message.key)
            if known is not None:
                offsets.append(int(known))
                repeated.append(place)
                continue
            row = rows.get(message.topic)
            if row is None:
                row = rows[message.topic] = _row(connection, message.topic, floor)
            total += _insert(connection, row, message, now)
            offsets.append(row.last)
            if message.key is not None:
                keys.put(message.key, b"%d" % row.last)
            # Insert it again at the end, so that the topic of the latest message is last.
            rows[message.topic] = rows.pop(message.topic)
        for used, row in enumerate(rows.values(), appends + 1):
            total -= _trim(connection, row, now, limits)
            connection.execute(
                "UPDATE streams SET first = ?, last = ?, bytes = ?, used = ? WHERE id = ?",
                (row.first, row.last, row.size, used, row.id),
            )
        evicted, floor, total = _evict(connection, floor, total, limits)
        connection.execute(
            "UPDATE history SET floor = ?, bytes = ?, appends = ?",
            (floor, total, appends + len(rows)),
        )
        kept = [keys.remember(answer) for answer in answers]
        forgotten = keys.trim()
    return Appended(epoch, offsets, evicted, repeated, kept, forgotten)


def _refused(connection: sqlite3.Connection, batch: Sequence[NewMessage]) -> dict[int, int]:
    """Return the claimed fence of each message with a wrong fence, by its index."""
    (claims,) = connection.execute("SELECT fences FROM fences_total").fetchone()
    refused: dict[int, int] = {}
    for place, message in enumerate(batch):
        claimed = _fence(connection, message.topic) if claims else None
        if claimed != message.fence:
            refused[place] = claimed or 0
    return refused


def _fence(connection: sqlite3.Connection, topic: str) -> int | None:
    found = connection.execute("SELECT fence FROM fences WHERE topic = ?", (topic,)).fetchone()
    return None if found is None else found[0]


def _claim(connection: sqlite3.Connection, claim: _Claim, max_fences: int) -> Claimed:
    fences, floor = connection.execute("SELECT fences, floor FROM fences_total").fetchone()
    known = _fence(connection, claim.topic)
    claimed = floor if known is None else known
    if claim.fence <= claimed:
        return Claimed(claimed)
    # A new row gets the greatest id, so that the oldest claim has the smallest.
    connection.execute("DELETE FROM fences WHERE topic = ?", (claim.topic,))
    connection.execute(
        "INSERT INTO fences (topic, fence) VALUES (?, ?)", (claim.topic, claim.fence)
    )
    fences += known is None
    forgotten = max(0, fences - max_fences)
    oldest = connection.execute("SELECT id, fence FROM fences ORDER BY id LIMIT ?", (forgotten,))
    for id, old in oldest.fetchall():
        connection.execute("DELETE FROM fences WHERE id = ?", (id,))
        floor = max(floor, old)
    connection.execute("UPDATE fences_total SET fences = ?, floor = ?", (fences - forgotten, floor))
    return Claimed(forgotten=forgotten)


def _insert(connection: sqlite3.Connection, row: _Row, message: NewMessage, now: float) -> int:
    """Add a message to a stream. Return its size."""
    size = message.size
    row.last += 1
    row.size += size
    connection.execute(
        "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)",
        (row.id, row.last, now, size, message.event, message.body),
    )
    return size


class _Keys:
    """The remembered keys, in one transaction."""

    def __init__(self, connection: sqlite3.Connection, now: float, limits: Limits) -> None:
        self._connection = connection
        self._now = now
        self._limits = limits
        # Skip these queries if nothing changed, as in most transactions.
        self._has_changed = False
        self._keys = self._bytes = 0

    def get(self, key: str) -> bytes | None:
        return _recall(self._connection, key, self._now - self._limits.max_answer_age)

    def put(self, key: str, value: bytes) -> None:
        connection, size = self._connection, len(key) + len(value)
        if not self._has_changed:
            self._has_changed = True
            self._keys, self._bytes = connection.execute(
                "SELECT keys, bytes FROM keys_total"
            ).fetchone()
        for (old,) in connection.execute("DELETE FROM keys WHERE key = ? RETURNING size", (key,)):
            self._keys -= 1
            self._bytes -= old
        connection.execute(
            "INSERT INTO keys (key, at, size, value) VALUES (?, ?, ?, ?)",
            (key, self._now, size, value),
        )
        self._keys += 1
        self._bytes += size

    def remember(self, answer: NewAnswer) -> bytes:
        first = self.get(answer.key)
        if first is None:
            self.put(answer.key, answer.body)
        return answer.body if first is None else first

    def trim(self) -> int:
        """Drop the oldest keys that are beyond a limit. Return how many of them were not too old."""
        if not self._has_changed:
            return 0
        limits, forgotten, dropped = self._limits, 0, None
        oldest = self._connection.execute("SELECT id, at, size FROM keys ORDER BY id")
        for id, at, size in oldest:
            if at >= self._now - limits.max_answer_age:
                if self._keys <= limits.max_answers and self._bytes <= limits.max_answer_bytes:
                    break
                forgotten += 1
            self._keys -= 1
            self._bytes -= size
            dropped = id
        oldest.close()
        if dropped is not None:
            self._connection.execute("DELETE FROM keys WHERE id <= ?", (dropped,))
        self._connection.execute(
            "UPDATE keys_total SET keys = ?, bytes = ?", (self._keys, self._bytes)
        )
        return forgotten


def _recall(connection: sqlite3.Connection, key: str, oldest: float) -> bytes | None:
    found = connection.execute(
        "SELECT value FROM keys WHERE key = ? AND at >= ?", (key, oldest)
    ).fetchone()
    return None if found is None else found[0]


def _row(connection: sqlite3.Connection, topic: str, floor: int) -> _Row:
    found = connection.execute(
        "SELECT id, first, last, bytes FROM streams WHERE topic = ?", (topic,)
    ).fetchone()
    if found is not None:
        return _Row(*found)
    made = connection.execute(
        "INSERT INTO streams (topic, first, last, bytes, used) VALUES (?, ?, ?, 0, 0)",
        (topic, floor + 1, floor),
    )
    assert made.lastrowid is not None, "an INSERT into a table with a rowid has one"
    return _Row(made.lastrowid, floor + 1, floor, 0)


def _trim(connection: sqlite3.Connection, row: _Row, now: float, limits: Limits) -> int:
    """Drop the oldest messages of a stream that are beyond a limit. Return their size."""
    dropped = 0
    oldest = connection.execute(
        "SELECT number, at, size FROM messages WHERE stream = ? ORDER BY number", (row.id,)
    )
    for number, at, size in oldest:
        if (
            row.last - number < limits.kept
            and row.size <= limits.max_bytes
            and at >= now - limits.max_age
        ):
            break
        row.first = number + 1
        row.size -= size
        dropped += size
    oldest.close()
    if dropped:
        connection.execute(
            "DELETE FROM messages WHERE stream = ? AND number < ?", (row.id, row.first)
        )
    return dropped


def _evict(
    connection: sqlite3.Connection, floor: int, total: int, limits: Limits
) -> tuple[int, int, int]:
    """Forget topics beyond the limits. Return their number, the new floor and the new size."""
    (topics,) = connection.execute("SELECT count(*) FROM streams").fetchone()
    evicted = 0
    while topics > 1 and (topics > limits.max_topics or total > limits.max_total_bytes):
        id, last, size = connection.execute(
            "SELECT id, last, bytes FROM streams ORDER BY used LIMIT 1"
        ).fetchone()
        connection.execute("DELETE FROM messages WHERE stream = ?", (id,))
        connection.execute("DELETE FROM streams WHERE id = ?", (id,))
        floor, total = max(floor, last), total - size
        topics, evicted = topics - 1, evicted + 1
    return evicted, floor, total


def _read(
    connection: sqlite3.Connection, topic: str, after: int, limit: int, oldest: float
) -> Slice:
    with _transaction(connection, "DEFERRED"):
        epoch, floor = connection.execute("SELECT epoch, floor FROM history").fetchone()
        stream = connection.execute(
            "SELECT id, last FROM streams WHERE topic = ?", (topic,)
        ).fetchone()
        if stream is None:
            return Slice(epoch, floor + 1, floor)
        id, last = stream
        kept = connection.execute(
            "SELECT number FROM messages WHERE stream = ? AND at >= ? ORDER BY number LIMIT 1",
            (id, oldest),
        ).fetchone()
        if kept is None:
            return Slice(epoch, last + 1, last)
        # A client chooses `after`, up to the greatest integer of SQLite, so do not add to it.
        rows = connection.execute(
            "SELECT number, event, body FROM messages WHERE stream = ? AND number > ? "
            "ORDER BY number LIMIT ?",
            (id, max(kept[0] - 1, after), limit),
        ).fetchall()
    return Slice(epoch, kept[0], last, tuple(Entry(epoch, *row) for row in rows))


def _ends(connection: sqlite3.Connection, topics: Sequence[str]) -> Ends:
    offsets: dict[str, int] = {}
    with _transaction(connection, "DEFERRED"):
        (epoch,) = connection.execute("SELECT epoch FROM history").fetchone()
        for start in range(0, len(topics), _ENDS):
            some = topics[start : start + _ENDS]
            marks = ", ".join("?" * len(some))
            # `marks` contains only question marks.
            query = f"SELECT topic, last FROM streams WHERE topic IN ({marks})"  # noqa: S608
            offsets.update(connection.execute(query, some).fetchall())
    return Ends(epoch, offsets)


def _statistics(connection: sqlite3.Connection) -> dict[str, Any]:
    topics, messages, size = connection.execute(
        "SELECT (SELECT count(*) FROM streams), (SELECT count(*) FROM messages), bytes FROM history"
    ).fetchone()
    keys, fences = connection.execute(
        "SELECT (SELECT keys FROM keys_total), (SELECT fences FROM fences_total)"
    ).fetchone()
    return {"topics": topics, "messages": messages, "bytes": size, "keys": keys, "fences": fences}
