"""The simulated disk: files, power failures and faults."""

from __future__ import annotations

import errno
import json
import os
from random import Random
from typing import Any, Literal

import pytest
import trio

from actors import ExitReason, GenServer, Reply, Sender, call
from supervision import Supervisor, child_spec
from supervision.chaos import (
    At,
    DiskError,
    FlipBit,
    InvalidFault,
    Kill,
    KillNode,
    LoseWrite,
    On,
    SlowDisk,
    Storm,
)
from supervision.laboratory.simulation.replaying.run_file import load_run, replay, save_run
from supervision.laboratory.simulation.shrinking.shrink import shrink
from supervision.simulation import Disk, Knobs, Node, World
from tests.laws.scenarios import scenario, simulate

MODES: tuple[Literal["ordered", "any"], ...] = ("ordered", "any")
SEEDS = range(200)


def disk(seed: int = 1, mode: Literal["ordered", "any"] = "ordered") -> Disk:
    return Disk(Random(seed), mode)


def stored(disk: Disk, path: str) -> bytes | None:
    return disk.open(path).read() if disk.exists(path) else None


# Files


def test_a_file_has_the_bytes_that_were_written() -> None:
    file = disk().open("a", "x")
    file.write(b"hello")
    file.write(b"J", 0)
    file.write(b"!", 7)
    assert (file.read(), file.read(2, 3), file.read(9, 7), file.size) == (
        *(b"Jello\0\0!", b"lo", b"!", 8),
    )
    file.truncate(2)
    file.truncate(4)
    assert file.read() == b"Je\0\0"


@pytest.mark.parametrize(
    ("number", "fails"),
    [
        (errno.ENOENT, lambda disk: disk.open("missing")),
        (errno.ENOENT, lambda disk: disk.rename("missing", "b")),
        (errno.ENOENT, lambda disk: disk.unlink("missing")),
        (errno.EEXIST, lambda disk: disk.open("a", "x")),
        (errno.EBADF, lambda disk: disk.open("a").write(b"x")),
    ],
)
def test_an_operation_fails_with_the_error_of_a_real_disk(number: int, fails: Any) -> None:
    subject = disk()
    subject.open("a", "x")
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        fails(subject)
    assert caught.value.errno == number
    assert subject.open("a").size == 0


def test_a_name_leads_to_another_file_after_a_rename_and_to_none_after_an_unlink() -> None:
    subject = disk()
    for name in ("a", "b"):
        subject.open(name, "w").write(name.encode())
    subject.rename("a", "b")
    assert (subject.paths(), stored(subject, "b")) == (["b"], b"a")
    subject.unlink("b")
    assert subject.paths() == []


# Power failures


@pytest.mark.parametrize("mode", MODES)
def test_a_power_failure_keeps_what_was_synced(mode: Literal["ordered", "any"]) -> None:
    for seed in SEEDS:
        subject = disk(seed, mode)
        file = subject.open("d/a", "x")
        file.write(bytes(range(256)) * 5)
        file.fsync()
        subject.sync_directory("d")
        subject.lose_power()
        assert stored(subject, "d/a") == bytes(range(256)) * 5
        with pytest.raises(OSError, match="Bad file descriptor"):
            file.write(b"x")


@pytest.mark.parametrize("mode", MODES)
def test_a_power_failure_tears_an_unsynced_write_at_the_borders_of_sectors(
    mode: Literal["ordered", "any"],
) -> None:
    seen = set()
    for seed in SEEDS:
        subject = disk(seed, mode)
        file = subject.open("a", "x")
        file.write(b"o" * 1536)
        file.fsync()
        subject.sync_directory()
        file.write(b"n" * 1536, 0)
        subject.lose_power()
        content = stored(subject, "a")
        assert content is not None
        sectors = [content[start : start + 512] for start in range(0, 1536, 512)]
        assert all(sector in (b"o" * 512, b"n" * 512) for sector in sectors)
        seen.add("".join(chr(sector[0]) for sector in sectors))
    assert len(seen) == 8


def test_an_appended_range_ends_early_on_an_ordered_disk_and_may_have_garbage_on_any() -> None:
    found: dict[str, set[bytes]] = {}
    for mode in MODES:
        for seed in SEEDS:
            subject = disk(seed, mode)
            file = subject.open("a", "x")
            file.write(b"o" * 100)
            file.fsync()
            subject.sync_directory()
            file.write(b"n" * 1000)
            subject.lose_power()
            found.setdefault(mode, set()).add(stored(subject, "a") or b"")
    whole = b"o" * 100 + b"n" * 1000
    assert found["ordered"] == {whole[:size] for size in (100, 512, 1024, 1100)}
    assert {b"o" * 100, whole} < found["any"]
    assert any(content[100:512] == bytes(412) for content in found["any"])
    assert any(len(set(content[512:1024])) > 50 for content in found["any"])


def test_changes_of_a_directory_keep_their_order_only_on_an_ordered_disk() -> None:
    found: dict[str, set[tuple[str, ...]]] = {}
    for mode in MODES:
        for seed in SEEDS:
            subject = disk(seed, mode)
            for name in ("a", "b"):
                subject.open(name, "x")
            subject.rename("b", "c")
            subject.lose_power()
            found.setdefault(mode, set()).add(tuple(subject.paths()))
    assert found["ordered"] == {(), ("a",), ("a", "b"), ("a", "c")}
    assert found["any"] == found["ordered"] | {("b",), ("c",)}


def test_an_fsync_commits_the_name_of_a_file_only_on_an_ordered_disk() -> None:
    found: dict[str, set[bytes | None]] = {}
    for mode in MODES:
        for seed in SEEDS:
            subject = disk(seed, mode)
            file = subject.open("a", "x")
            file.write(b"x")
            file.fsync()
            subject.lose_power()
            found.setdefault(mode, set()).add(stored(subject, "a"))
    assert found == {"ordered": {b"x"}, "any": {b"x", None}}


def test_a_rename_does_not_sync_the_content() -> None:
    found = set()
    for seed in SEEDS:
        subject = disk(seed)
        old = subject.open("a", "x")
        old.write(b"old")
        old.fsync()
        subject.open("new", "x").write(b"new")
        subject.rename("new", "a")
        subject.lose_power()
        found.add(stored(subject, "a"))
    assert found == {b"old", b"new", b""}


# Nodes and faults


async def writes(node: Node, syncs: bool) -> None:
    file = node.disk.open("log", "a")
    for number in range(20):
        file.write(b"%d\n" % number)
        if syncs:
            file.fsync()
        node.disk.setdefault("acknowledged", []).append(number)
        await trio.sleep(1)
    await trio.sleep_forever()


def log_of(world: World, name: str = "a") -> list[int]:
    return [int(line) for line in world.nodes.disk(name).open("log").read().splitlines()]


@scenario()
async def logs(world: World) -> None:
    world.nodes.start("a", writes, bool(world.params.get("syncs")))
    await trio.sleep(8.5)
    if not world.nodes.is_up("a"):
        acknowledged = world.nodes.disk("a")["acknowledged"]
        world.check(log_of(world) == acknowledged, f"{log_of(world)}, not {acknowledged}")


def test_a_killed_process_leaves_its_page_cache_and_a_power_cut_does_not() -> None:
    kill, cut = KillNode(node="a", when=At(5)), KillNode(node="a", power=True, when=At(5))
    lost = 0
    for seed in range(1, 20):
        simulate(logs, seed, faults=[kill]).check()
        simulate(logs, seed, faults=[cut], params={"syncs": True}).check()
        lost += simulate(logs, seed, faults=[cut]).error is not None
    assert lost > 5


def test_a_power_cut_kills_all_nodes_of_the_machine_between_two_operations() -> None:
    async def both(world: World) -> None:
        first = world.nodes.start("a", writes, True)
        world.nodes.start("b", writes, True, disk=first.disk)
        world.nodes.start("c", writes, True)
        await trio.sleep(5)
        assert [world.nodes.is_up(name) for name in "abc"] == [False, False, True]
        await trio.sleep(1)
        assert [world.nodes.is_up(name) for name in "abc"] == [True, True, True]

    fault = KillNode(node="b", power=True, when=On("fsync", nth=4, kind="l*"), reboot_after=2.0)
    outcome = simulate(both, 1, faults=[fault]).check()
    (report,) = outcome.fault_reports
    assert (report.status, report.where) == ("applied", "b")


def test_a_dead_node_writes_nothing_more_even_within_the_same_step() -> None:
    after: list[str] = []

    async def main(node: Node) -> None:
        if node.incarnation == 1:
            file = node.disk.open("log", "a")
            try:
                file.write(b"x")
                after.append("written")
            finally:
                node.disk.open("other", "w").write(b"y")
                after.append("cleaned up")
        await trio.sleep_forever()

    async def run(world: World) -> None:
        world.nodes.start("a", main)
        await trio.sleep(3)
        assert world.nodes.is_up("a")
        assert not world.nodes.disk("a").exists("other")

    fault = KillNode(node="a", power=True, when=On("write"), reboot_after=1.0)
    simulate(run, 1, faults=[fault]).check()
    assert after == []


class Writer(GenServer[None]):
    """A server that writes in its handler and in its end."""

    async def init(self, disk: Disk) -> None:
        self.disk = disk

    async def handle_call(self, request: Any, sender: Sender) -> Reply:
        self.disk.open("log", "a").write(b"x")
        return Reply(None)

    async def terminate(self, reason: ExitReason) -> None:
        self.disk.open("other", "w")


def test_the_trace_and_the_disk_have_nothing_of_a_process_after_the_death_of_its_node() -> None:
    async def main(node: Node) -> None:
        await Supervisor.start_link([child_spec(Writer, node.disk, kwargs={"name": "writer"})])
        await call("writer", "write")

    async def run(world: World) -> None:
        world.nodes.start("a", main)
        await trio.sleep(1)
        assert world.nodes.disk("a").paths() == ["log"]

    outcome = simulate(run, 1, faults=[KillNode(node="a", when=On("write"))]).check()
    kinds = [json.loads(line)["kind"] for line in outcome.trace]
    assert kinds[kinds.index("node_killed") :] == ["node_killed"]


def errors_of(world: World) -> list[int | None]:
    """Append and sync ten times, and return the error number of each attempt."""
    found: list[int | None] = []
    file = world.disk.open("log", "a")
    for number in range(10):
        try:
            file.write(b"%d" % number, number)
            file.fsync()
        except OSError as error:
            found.append(error.errno)
        else:
            found.append(None)
    return found


def test_a_full_disk_refuses_writes_and_a_failed_sync_leaves_clean_pages() -> None:
    async def run(world: World) -> None:
        assert errors_of(world) == [errno.ENOSPC, None, errno.EIO, *[None] * 7]
        world.disk.lose_power()
        # Later syncs have written the same sector again.
        assert world.disk.open("log").read()[3:] == b"3456789"

    async def last(world: World) -> None:
        found = set()
        for _ in range(20):
            file = world.disk.open("log", "w")
            file.write(b"x")
            with pytest.raises(OSError, match="Input/output error"):
                file.fsync()
            file.fsync()
            world.disk.lose_power()
            found.add(stored(world.disk, "log"))
        assert found == {b"x", b"\0"}

    full = DiskError(error="ENOSPC", when=On("write"))
    broken = DiskError(target="/log", when=On("fsync", nth=2))
    simulate(run, 1, faults=[full, broken]).check()
    simulate(last, 1, faults=[DiskError(when=On("fsync", nth=n)) for n in range(1, 41, 2)]).check()


def test_a_lost_write_is_visible_only_after_a_power_failure() -> None:
    async def run(world: World) -> None:
        assert errors_of(world) == [None] * 10
        assert world.disk.open("log").read() == b"0123456789"
        world.disk.lose_power()
        assert world.disk.open("log").read() == b"012345678\0"

    simulate(run, 1, faults=[LoseWrite(when=On("write", nth=10))]).check()


def test_a_flipped_bit_changes_one_bit_of_a_read() -> None:
    async def run(world: World) -> None:
        world.disk.open("log", "x").write(bytes(600))
        content = world.disk.open("log").read()
        assert sum(byte.bit_count() for byte in content) == 1
        assert world.disk.open("log").read() == content

    simulate(run, 1, faults=[FlipBit(when=On("read"))]).check()


def test_a_slow_disk_takes_the_time_of_its_thread_and_outside_of_threads_stalls_the_loop() -> None:
    async def run(world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, errors_of, world)
            await trio.sleep(0.5)
            assert trio.current_time() < 0.6
        assert 21 <= trio.current_time() < 21.1
        errors_of(world)
        assert 42 <= trio.current_time() < 42.1

    simulate(run, 1, faults=[SlowDisk(when=At(0), seconds=60, latency=1.0)]).check()


def test_a_storm_draws_faults_of_disks_and_a_failure_replays_and_shrinks(tmp_path: Any) -> None:
    kinds = ["kill_node", "disk_error", "slow_disk", "lose_write", "flip_bit"]
    storm = Storm(files=["a/log"], nodes=["a"], kinds=kinds, count=12, within=8.0)
    failed = [simulate(logs, seed, faults=storm) for seed in range(1, 40)]
    outcome = next(each for each in failed if each.error is not None)
    save_run(outcome, tmp_path / "run.json")
    assert replay(tmp_path / "run.json").digest == outcome.digest
    assert load_run(tmp_path / "run.json").faults == outcome.faults
    small = shrink(outcome).outcome
    assert len(small.faults) <= 2
    assert {type(each).__name__ for each in small.faults} <= {"KillNode", "DiskError", "LoseWrite"}


def test_a_storm_needs_files_for_faults_of_disks_and_each_fault_its_own_callbacks() -> None:
    with pytest.raises(InvalidFault, match="write the files of disk_error, such as a/"):
        Storm(kinds=["disk_error"])
    with pytest.raises(InvalidFault, match="write one of open, read, write"):
        DiskError(when=On("handle_call"))
    with pytest.raises(InvalidFault, match="write one of open, read, write"):
        KillNode(node="a", when=On("handle_call"))
    with pytest.raises(InvalidFault, match="write one of init, handle_call"):
        Kill(target="/top", when=On("fsync"))


def test_the_trace_has_each_change_and_what_a_power_failure_lost() -> None:
    outcome = simulate(logs, 3, faults=[KillNode(node="a", power=True, when=At(1.5))])
    events = [each for each in map(json.loads, outcome.trace) if each["kind"].startswith("disk")]
    about = [(each.get("operation"), each.get("path"), each.get("lost")) for each in events]
    assert about == [("write", "log", None)] * 2 + [(None, None, ["a part of log"])]


def test_a_knob_chooses_the_mode_of_the_disks() -> None:
    async def run(world: World) -> None:
        world.note("mode", disk=world.disk.mode)
        assert world.disk.mode == "any"

    simulate(run, 1, knobs=Knobs(disk="any")).check()


def test_a_fault_whose_operation_never_came_says_so() -> None:
    async def run(world: World) -> None:
        world.disk.open("log", "a").write(b"a line")

    faults = [DiskError(target="/log", when=On("fsync")), DiskError(when=On("rename"))]
    reports = simulate(run, 1, faults=faults).fault_reports
    assert [each.why for each in reports] == [
        "its moment never came: there was no such operation of /log",
        "its moment never came: there was no such operation of *",
    ]
