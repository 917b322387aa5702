"""The storage in a SQLite file: what survives a restart, several processes, and files that it cannot use."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from actors import open_runtime, stop
from actors.errors import InvalidOption
from channels.durable import History, SQLiteStorage, StorageError
from channels.durable import sqlite as sqlite_storage
from channels.durable.storage import NewMessage
from channels.durable.stream import Limits
from channels.pubsub.pubsub import PubSub

REAL_CLOCK = True

NEW = NewMessage("a", "edited", b"{}")

WRITER = """
import sys, trio
from channels.durable.sqlite import SQLiteStorage
from channels.durable.storage import NewMessage
from channels.durable.stream import Limits

async def main():
    storage = SQLiteStorage(sys.argv[1])
    await storage.open(Limits(max_messages=10**6), fresh_epoch="other")
    while True:
        batch = [NewMessage("a", "edited", b"{}") for _ in range(3)]
        appended = await storage.append(batch, now=0.0)
        print(appended.offsets[-1], flush=True)

trio.run(main)
"""


def start_writer(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def test_a_restart_keeps_the_messages_the_offsets_and_the_epoch(tmp_path: Path) -> None:
    for number in (1, 2):
        storage = SQLiteStorage(tmp_path / "history.db")
        await storage.open(Limits(), fresh_epoch=f"epoch {number}")
        assert list((await storage.append([NEW], now=0.0)).offsets) == [number]
        found = await storage.read("a", after=0, limit=9, now=0.0)
        assert (found.epoch, len(found.entries)) == ("epoch 1", number)
        storage.close()


async def test_a_restart_keeps_the_fences(tmp_path: Path) -> None:
    for fence in (5, 6):
        storage = SQLiteStorage(tmp_path / "history.db")
        await storage.open(Limits(), fresh_epoch="e")
        assert (await storage.claim("a", fence - 1)).refused == (None if fence == 5 else 5)
        assert (await storage.claim("a", fence)).refused is None
        storage.close()


async def test_claims_that_wait_together_share_a_transaction_and_its_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transactions = 0
    transaction, claim = sqlite_storage._transaction, sqlite_storage._claim

    def counted(connection: sqlite3.Connection, kind: str) -> Any:
        nonlocal transactions
        transactions += 1
        return transaction(connection, kind)

    def broken(*args: Any) -> Any:
        claim(*args)
        raise sqlite3.OperationalError("the disk is full")

    storage = SQLiteStorage(tmp_path / "history.db")
    await storage.open(Limits(), fresh_epoch="e")
    monkeypatch.setattr(sqlite_storage, "_transaction", counted)
    outcomes: list[Any] = []

    async def own(topic: str, fence: int) -> None:
        try:
            outcomes.append((await storage.claim(topic, fence)).refused)
        except StorageError as error:
            outcomes.append(error.problem)

    async with trio.open_nursery() as nursery:
        for number in range(80):
            nursery.start_soon(own, f"topic {number % 40}", 5)
    # The first thread may begin before the last claim arrives.
    assert transactions <= 2
    assert sorted(outcomes, key=str) == [5] * 40 + [None] * 40
    outcomes.clear()
    with monkeypatch.context() as broken_disk:
        broken_disk.setattr(sqlite_storage, "_claim", broken)
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(own, f"topic {number}", 6)
    assert outcomes == ["the disk is full"] * 40
    assert (await storage.claim("topic 1", 6)).refused is None
    storage.close()


async def test_more_claims_than_fit_into_a_transaction_are_all_carried_out(tmp_path: Path) -> None:
    storage = SQLiteStorage(tmp_path / "history.db", synchronous="NORMAL")
    await storage.open(Limits(), fresh_epoch="e")
    with trio.CancelScope() as scope:
        scope.cancel()
        await storage.claim("cancelled", 5)
    async with trio.open_nursery() as nursery:
        for number in range(250):
            nursery.start_soon(storage.claim, f"topic {number}", 5)
    assert storage.statistics()["fences"] in (250, 251)
    storage.close()


def modes_in(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


async def test_only_the_owner_may_read_a_new_file(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        storage = SQLiteStorage(tmp_path / "history.db")
        await storage.open(Limits(), fresh_epoch="1")
        await storage.append([NEW], now=0.0)
        modes = modes_in(tmp_path)
        storage.close()
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("history.db", "history.db-shm", "history.db-wal"), 0o600)


async def test_a_read_has_the_latest_messages_after_the_limit_was_lowered(tmp_path: Path) -> None:
    for limit in (5, 2):
        async with open_runtime():
            history = History(SQLiteStorage(tmp_path / "history.db"), max_messages=limit)
            pid = await history.start_link(PubSub())
            if limit == 5:
                for _ in range(4):
                    await history.append("a", "edited", {})
            found = await history.read("a")
            await stop(pid)
    # The history trims the topic in its own process, perhaps before the read.
    offsets = [entry.offset for entry in found.entries]
    assert offsets[-2:] == [3, 4]
    assert offsets == list(range(offsets[0], 5))


async def test_another_file_has_another_epoch(tmp_path: Path) -> None:
    for name in ("one", "two"):
        storage = SQLiteStorage(tmp_path / name)
        await storage.open(Limits(), fresh_epoch=name)
        assert (await storage.ends([])).epoch == name
        storage.close()


async def test_two_processes_share_the_offsets_and_a_kill_loses_no_answered_append(
    tmp_path: Path,
) -> None:
    path = tmp_path / "history.db"
    storage = SQLiteStorage(path)
    await storage.open(Limits(max_messages=10**6), fresh_epoch="e")
    with start_writer(path) as writer:
        assert writer.stdout is not None
        answered = [int(await trio.to_thread.run_sync(writer.stdout.readline))]
        own: list[int] = []
        while len(own) < 5:
            own += (await storage.append([NEW], now=0.0)).offsets
            answered.append(int(await trio.to_thread.run_sync(writer.stdout.readline)))
        writer.kill()
        answered += map(int, writer.stdout.read().split())
    found = await storage.read("a", after=0, limit=10**6, now=0.0)
    offsets = [entry.offset for entry in found.entries]
    assert offsets == list(range(1, found.last + 1))
    assert found.last >= max(*answered, *own)
    assert not set(answered) & set(own)
    # Its batches have three messages, and are kept as a whole.
    assert (found.last - len(own)) % 3 == 0
    storage.close()


STOPPER = """
import sys, trio
from channels.durable.sqlite import SQLiteStorage
from channels.durable.stream import Limits

async def main():
    storage = SQLiteStorage(sys.argv[1])
    await storage.open(Limits(), fresh_epoch="other")
    storage.close()

trio.run(main)
"""


async def test_a_process_that_stops_takes_no_messages_from_the_others(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    storage = SQLiteStorage(path)
    await storage.open(Limits(), fresh_epoch="e")
    # A second storage of this process must not drop the locks of the first.
    other = SQLiteStorage(path)
    await other.open(Limits(), fresh_epoch="e")
    await storage.append([NEW], now=0.0)
    await trio.to_thread.run_sync(
        lambda: subprocess.run([sys.executable, "-c", STOPPER, str(path)], check=True)
    )
    # SQLite removes the log with the last user of the file. This process still uses it.
    assert path.with_name("history.db-wal").exists()
    await storage.append([NEW], now=0.0)
    copy = sqlite3.connect(path)
    assert copy.execute("SELECT count(*) FROM messages").fetchone() == (2,)
    copy.close()
    for each in (storage, other):
        each.close()


async def test_an_append_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    storage = SQLiteStorage(path, timeout=0.01)
    await storage.open(Limits(), fresh_epoch="e")
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="locked"):
        await storage.append([NEW], now=0.0)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert list((await storage.append([NEW], now=0.0)).offsets) == [1]
    storage.close()


async def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 7")
    other.close()
    storage = SQLiteStorage(path)
    with pytest.raises(StorageError, match="version 7, and this Ashtree reads 1"):
        await storage.open(Limits(), fresh_epoch="e")
    with pytest.raises(StorageError, match="it is closed"):
        await storage.append([NEW], now=0.0)


@pytest.mark.parametrize("name", ["no/such/folder.db", "text.db"])
async def test_a_file_that_sqlite_cannot_read_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.db").write_text("This is not a database. " * 100)
    with pytest.raises(StorageError):
        await SQLiteStorage(tmp_path / name).open(Limits(), fresh_epoch="e")


def test_a_file_in_memory_or_an_unknown_option_is_refused() -> None:
    with pytest.raises(InvalidOption) as refused:
        SQLiteStorage(":memory:")
    assert refused.value.option == "path"
    with pytest.raises(InvalidOption) as refused:
        SQLiteStorage("history.db", synchronous="OFF")  # type: ignore[arg-type]
    assert refused.value.option == "synchronous"
