"""SQLite on the disk of a simulated machine: its processes may be killed, and it may lose power.

The SQL is that of `SQLiteStorage`, in a database in memory. In place of threads and of a file there is a virtual disk:

    BEGIN IMMEDIATE: wait for the lock ──▶ the transaction, in the cache of the system ──▶ fsync ──▶ readers see it

A kill of the writer, or a power cut, in the middle of the fsync leaves the transaction on the disk, or not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

import trio

from channels.durable.sqlite import SQLiteStorage
from channels.durable.storage import StorageError
from supervision.simulation import Node

T = TypeVar("T")

_LOCK_TIMEOUT = 5.0


class Disk:
    """The disk of a machine, with one database.

    Attributes:
        synced: the database that a power cut cannot take.
        writing: the database with a transaction that is not synced yet; None if there is none.
        writer: the node that has the lock; None if nobody has it.
        torn: how often a kill or a power cut hit a transaction.
    """

    def __init__(self, random: Random) -> None:
        self.synced = b""
        self.writing: bytes | None = None
        self.writer: str | None = None
        self.torn = 0
        self._random = random

    def killed(self, node: str) -> None:
        """Release the lock of a node that was killed, or whose machine lost its power."""
        if self.writer != node:
            return
        if self.writing is not None:
            self.torn += 1
            if self._random.random() < 0.5:
                self.synced = self.writing
        self.writing = self.writer = None

    async def lock(self, node: str) -> None:
        deadline = trio.current_time() + _LOCK_TIMEOUT
        while self.writer is not None:
            if trio.current_time() > deadline:
                raise StorageError("sqlite", "database is locked")
            await trio.sleep(0.001)
        self.writer = node

    def open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        if self.synced:
            connection.deserialize(self.synced)
        return connection


class _Connection:
    """In place of the connection of `SQLiteStorage` to its file."""

    def __init__(self, disk: Disk, node: Node, *, writes: bool) -> None:
        self._disk = disk
        self._node = node.label
        self._random = node.random("disk", writes)
        self._writes = writes

    async def run(self, work: Callable[[sqlite3.Connection], T], **_: Any) -> T:
        # As in trio.to_thread: a cancelled caller starts no thread.
        await trio.lowlevel.checkpoint_if_cancelled()
        # A thread goes on when its caller is cancelled. Only the kill of its node ends it.
        with trio.CancelScope(shield=True):
            await trio.sleep(self._random.uniform(0.0, 0.01))
            result = await self._write(work) if self._writes else self.use(work)
        return result  # noqa: RET504 - a scope may swallow what is inside

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        disk = self._disk
        await disk.lock(self._node)
        try:
            connection = disk.open()
            try:
                result = work(connection)
                disk.writing = connection.serialize()
            finally:
                connection.close()
            await trio.sleep(self._random.uniform(0.001, 0.05))
            disk.synced, disk.writing = disk.writing, None
        finally:
            disk.writer = None
        return result

    def use(self, work: Callable[[sqlite3.Connection], T], *_: Any) -> T:
        connection = self._disk.open()
        try:
            return work(connection)
        finally:
            connection.close()

    def close(self) -> None:
        """There is nothing to close."""


class SimulatedSQLite(SQLiteStorage):
    """The storage of one node."""

    def __init__(self, disk: Disk, node: Node) -> None:
        super().__init__("history.db")
        parts: Any = [_Connection(disk, node, writes=writes) for writes in (True, False)]
        self._writer, self._reader = parts
