"""SQLite on a simulated disk: `sqlite3` unchanged, with the locks and syncs of its library."""

from __future__ import annotations

import ctypes
import gc
import os
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from channels.durable.sqlite import SQLiteStorage
from supervision.chaos import At, DiskError, KillNode, On
from supervision.laboratory.simulation.errors import Escape
from supervision.laboratory.simulation.world import sqlite as module
from supervision.simulation import Node, World, check_determinism
from tests.laws.scenarios import scenario, simulate
from tests.simulation.sweeps.channels import disks
from tests.simulation.sweeps.channels.disks import sqlite_history

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
PATH = "/simulated/test.db"


def connect(**options: Any) -> sqlite3.Connection:
    connection: sqlite3.Connection = sqlite3.connect(
        PATH, isolation_level=None, check_same_thread=False, **options
    )
    return connection


def created(mode: str = "DELETE", synchronous: str = "FULL") -> sqlite3.Connection:
    connection = connect()
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, text TEXT)")
    return connection


def count(connection: sqlite3.Connection) -> int:
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    found: int = connection.execute("SELECT count(*) FROM t").fetchone()[0]
    return found


@scenario()
async def writes(world: World) -> None:
    """Use the functions of SQLite that need the VFS."""
    connection = created("WAL")
    for number in range(50):
        connection.execute("INSERT INTO t VALUES (?, ?)", (number, "x" * 900))
    connection.execute("UPDATE t SET text = hex(randomblob(450)) WHERE n % 2")
    connection.execute("VACUUM")
    # A sort of this size needs a temporary file.
    connection.execute("PRAGMA cache_size = 2")
    connection.execute("PRAGMA temp_store = 1")
    rows = connection.execute("SELECT a.n FROM t a, t b, t c ORDER BY b.text, a.text").fetchmany(9)
    world.note("rows", rows=repr(rows), at=connection.execute("SELECT datetime()").fetchone()[0])
    assert count(connection) == 50
    connection.close()
    assert world.disk.paths() == [PATH]


def test_a_program_uses_sqlite_and_the_seed_decides_its_random_numbers_and_its_time() -> None:
    outcome = simulate(writes, 1).check()
    assert b"2026-01-01 00:00:00" in b"".join(outcome.trace)
    assert simulate(writes, 2).digest != outcome.digest
    check_determinism(outcome)


def test_the_files_of_sqlite_are_real_again_after_the_run(tmp_path: Path) -> None:
    left: list[sqlite3.Connection] = []

    async def run(world: World) -> None:
        left.append(created("WAL"))
        left[0].execute("INSERT INTO t VALUES (1, 'a')")

    simulate(run, 1).check()
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        left[0].execute("SELECT * FROM t").fetchall()
    connection = sqlite3.connect(tmp_path / "real.db")
    connection.execute("CREATE TABLE t (n)")
    left.pop().close()
    gc.collect()
    connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
    assert (tmp_path / "real.db").stat().st_size > 0
    assert not Path(PATH).parent.exists()


def test_another_thread_has_its_real_files_during_a_run(tmp_path: Path) -> None:
    begin, done = threading.Event(), threading.Event()

    def other() -> None:
        begin.wait(10)
        with sqlite3.connect(tmp_path / "real.db") as connection:
            connection.execute("CREATE TABLE t (n)")
        connection.close()
        done.set()

    thread = threading.Thread(target=other)
    thread.start()

    async def run(world: World) -> None:
        connection = created()
        begin.set()
        while not done.is_set():
            connection.execute("SELECT 1")
        assert world.disk.exists(PATH)

    simulate(run, 1).check()
    thread.join()
    assert (tmp_path / "real.db").stat().st_size > 0


def test_the_end_of_a_run_closes_what_its_program_and_its_dead_nodes_left_open() -> None:
    left: list[sqlite3.Connection] = []

    async def main(node: Node) -> None:
        left.append(created())
        await trio.sleep_forever()

    async def run(world: World) -> None:
        world.nodes.start("a", main)
        await trio.sleep(1)
        world.nodes.kill("a")
        left.append(created())
        left[-1].execute("BEGIN IMMEDIATE")

    simulate(run, 1).check()
    for connection in left:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_two_connections_lock_each_other_out_in_virtual_time(mode: str) -> None:
    async def run(world: World) -> None:
        one, other = created(mode), connect(timeout=3.0)
        one.execute("BEGIN IMMEDIATE")
        one.execute("INSERT INTO t VALUES (1, 'a')")
        assert count(other) == 0
        began = trio.current_time()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("INSERT INTO t VALUES (2, 'b')")
        assert 2.5 < trio.current_time() - began < 3.5
        one.execute("COMMIT")
        other.execute("INSERT INTO t VALUES (2, 'b')")
        assert count(one) == count(other) == 2

    simulate(run, 1).check()


def test_a_dead_node_holds_no_lock_and_its_connection_cannot_write_to_the_new_disk() -> None:
    old: list[sqlite3.Connection] = []

    async def main(node: Node) -> None:
        connection = await trio.to_thread.run_sync(created, "WAL")
        old.append(connection)
        if node.incarnation == 1:
            connection.execute("INSERT INTO t VALUES (1, 'a')")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO t VALUES (2, 'b')")
        else:
            connection.execute("INSERT INTO t VALUES (3, 'c')")
        await trio.sleep_forever()

    async def run(world: World) -> None:
        world.nodes.start("a", main)
        await trio.sleep(1)
        world.nodes.kill("a")
        world.nodes.boot("a")
        await trio.sleep(1)
        before = [world.nodes.disk("a").open(path).read() for path in world.nodes.disk("a").paths()]
        with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
            old[0].execute("COMMIT")
        old[0].close()
        after = [world.nodes.disk("a").open(path).read() for path in world.nodes.disk("a").paths()]
        assert before == after
        numbers = old[1].execute("SELECT n FROM t ORDER BY n").fetchall()
        assert numbers == [(1,), (3,)]

    simulate(run, 1).check()


def lost_commits(mode: str, synchronous: str, disk: str) -> set[int]:
    """Return the numbers of commits that a power failure lost, over many seeds, and check the database."""
    lost: set[int] = set()

    async def main(node: Node) -> None:
        done = node.disk.setdefault("done", [0])
        connection = await trio.to_thread.run_sync(created, mode, synchronous)
        assert len(done) == 1
        for number in range(1, 30):
            text = "x" * 3000
            await trio.to_thread.run_sync(
                connection.execute, "INSERT INTO t VALUES (?, ?)", (number, text)
            )
            done[0] = number

    async def run(world: World) -> None:
        node = world.nodes.start("a", main)
        node.disk.mode = disk  # type: ignore[assignment] # one of the modes
        # Let it create the table before the fault.
        await trio.sleep(5)
        assert not world.nodes.is_up("a")

        async def look(node: Node) -> None:
            lost.add(node.disk["done"][0] - count(created(mode)))

        world.nodes.start("b", look, disk=node.disk)
        await trio.sleep(1)

    # In a quick run, the power fails at every second operation.
    for seed in range(1, 61, 1 if DEEP else 2):
        when = On("operation", nth=60 + seed)
        simulate(run, seed, faults=[KillNode(node="a", power=True, when=when)]).check()
    return lost


def test_full_loses_no_commit_on_an_ordered_disk_and_normal_loses_the_latest_ones() -> None:
    assert lost_commits("WAL", "FULL", "ordered") <= {0, -1}
    assert max(lost_commits("WAL", "NORMAL", "ordered")) > 1
    assert lost_commits("DELETE", "EXTRA", "any") <= {0, -1}
    # The journal whose removal was not synced comes back, and undoes its commit.
    assert max(lost_commits("DELETE", "FULL", "any")) == 1


def test_errors_of_the_disk_are_errors_of_sqlite() -> None:
    async def run(world: World) -> None:
        connection = created()
        await trio.sleep(1)
        for message in ("full", "disk I/O error"):
            with pytest.raises(sqlite3.OperationalError, match=message):
                connection.execute("INSERT INTO t VALUES (1, 'a')")
            await trio.sleep(1)
        connection.execute("INSERT INTO t VALUES (1, 'a')")
        with pytest.raises(sqlite3.OperationalError, match="unable to open"):
            sqlite3.connect("file:/missing.db?mode=ro", uri=True).execute("SELECT 1 FROM t")

    faults = [DiskError(error="ENOSPC", when=At(0.5)), DiskError(when=At(1.5))]
    simulate(run, 1, faults=faults).check()


def test_a_python_whose_library_cannot_be_reached_gets_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Static:
        """A library without names."""

    monkeypatch.setattr(module._Library, "only", None)
    monkeypatch.setattr(ctypes, "CDLL", lambda path: Static())

    async def run(world: World) -> None:
        connect()

    error = simulate(run, 1).error
    assert isinstance(error, Escape)
    assert error.what == "sqlite3.connect()"
    assert "use a Python whose sqlite3 loads the library of the system" in error.instead
    assert "_sqlite3" in sys.modules


def test_the_sweep_of_histories_finds_a_storage_that_does_not_sync(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Normal(SQLiteStorage):
        def __init__(self, path: str, *, synchronous: str) -> None:
            super().__init__(path, synchronous="NORMAL")

    monkeypatch.setattr(disks, "SQLiteStorage", Normal)
    assert any(simulate(sqlite_history, seed).error is not None for seed in range(1, 60))
