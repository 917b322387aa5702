"""The files of a recorder: complete, bounded, and never in the way of the program."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from actors import SHUTDOWN, Runtime, kill, send, send_exit, spawn, wait_exit
from supervision import Supervisor
from supervision.recording import files as module
from supervision.recording.files import Capsules, open_recorder, recorder_spec
from supervision.recording.trace import (
    DamagedTrace,
    InvalidTraceFile,
    read_lines,
    read_recording,
    write_lines,
)
from tests.supervision.recording.test_schema import check
from tests.supervision.workers import Log, crash, worker


def read(path: Path, kind: str | None = None) -> list[dict[str, Any]]:
    decoded = [msgspec.json.decode(line) for line in read_lines(path)]
    for event in decoded:
        check(event)
    return [event for event in decoded if kind is None or event["kind"] == kind]


def all_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_a_continuous_file_has_everything_before_and_after_its_start(
    runtime: Runtime, tmp_path: Path, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log)], label="top")
    async with open_recorder(file=tmp_path / "run.jsonl", receives=True):
        await crash(supervisor, "a")
    kinds = [event["kind"] for event in read(tmp_path / "run.jsonl")]
    assert kinds[:3] == ["recording", "spawned", "spawned"]
    assert {"crash", "child_restarted", "sent", "received"} <= set(kinds)


async def test_the_process_of_the_recorder_has_no_private_name(
    runtime: Runtime, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    top = await Supervisor.start([recorder_spec(file=path)], label="top")
    send_exit(top, SHUTDOWN)
    await wait_exit(top)
    paths = {msgspec.json.decode(line).get("path") for line in read_lines(path)}
    assert "/top/recorder" in paths
    assert not any("Recorder" in str(each) for each in paths)


@pytest.mark.parametrize("umask", [0o022, 0o000])
async def test_only_the_owner_may_read_what_the_recorder_writes(
    runtime: Runtime, tmp_path: Path, log: Log, umask: int
) -> None:
    before = os.umask(umask)
    try:
        old = tmp_path / "run.jsonl"
        old.write_text("a file of another program")
        old.chmod(0o644)
        supervisor = await Supervisor.start([worker("a", log)], label="top")
        rule = Capsules(tmp_path / "crashes", after=0.1)
        async with open_recorder(file=old, max_file_bytes=1000, capsules=rule) as files:
            await files.dump(tmp_path / "now.jsonl")
            await crash(supervisor, "a")
    finally:
        os.umask(before)
    written = [old, tmp_path / "run.jsonl.1", tmp_path / "now.jsonl", *all_in(tmp_path / "crashes")]
    assert [stat.S_IMODE(path.stat().st_mode) for path in written] == [0o600] * 4
    assert stat.S_IMODE((tmp_path / "crashes").stat().st_mode) == 0o700


async def test_the_numbers_and_causes_of_a_file_fit(runtime: Runtime, tmp_path: Path) -> None:
    async with open_recorder(file=tmp_path / "run.jsonl"):
        for number in range(3 * module.BATCH):
            send(spawn(trio.sleep_forever, label=f"p{number}"), number)
    events = read(tmp_path / "run.jsonl")
    assert [event["n"] for event in events] == list(range(len(events)))
    assert not read(tmp_path / "run.jsonl", "omitted")


async def test_a_full_queue_loses_records_and_says_so(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE", 10)
    async with open_recorder(file=tmp_path / "run.jsonl", flush_every=3600) as files:
        pid = spawn(trio.sleep_forever)
        for number in range(100):
            send(pid, number)
    (omitted,) = read(tmp_path / "run.jsonl", "omitted")
    assert omitted["omitted"] == files.statistics()["file_lost"] == 91
    assert len(read(tmp_path / "run.jsonl", "sent")) == 10


async def test_a_full_file_is_kept_once_and_the_next_one_stands_alone(
    runtime: Runtime, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    async with open_recorder(file=path, max_file_bytes=20_000) as files:
        pid = spawn(trio.sleep_forever, label="store")
        for number in range(2000):
            files.recorder.note(f"note {number}")
        send(pid, "last")
    sizes = {each.name: each.stat().st_size for each in all_in(tmp_path)}
    assert sizes.keys() == {"run.jsonl", "run.jsonl.1"}
    assert max(sizes.values()) < 60_000
    assert [event["path"] for event in read(path, "spawned")] == ["/store"]
    assert [event["to"] for event in read(path, "sent")] == [pid.number]


async def test_a_new_file_has_the_starts_of_processes_whose_end_waits_for_the_thread(
    runtime: Runtime, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    async with open_recorder(file=path, max_file_bytes=10_000, flush_every=60.0) as files:
        pid = spawn(trio.sleep_forever, label="store")
        for number in range(250):
            files.recorder.note(f"note {number}")
        kill(pid)
        await wait_exit(pid)
    (ended,) = read(path, "exited")
    assert [event["pid"] for event in read(path, "spawned")] == [ended["pid"]]


async def test_a_capsule_has_the_seconds_before_and_after_the_crash(
    runtime: Runtime, tmp_path: Path, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log)], label="top")
    async with open_recorder(capsules=Capsules(tmp_path / "new", before=10, after=5)) as files:
        note = files.recorder.note
        note("long before")
        await trio.sleep(60)
        note("before")
        await crash(supervisor, "a")
        await trio.sleep(4)
        note("after")
        await trio.sleep(4)
        note("long after")
    (capsule,) = files.written
    assert [event["text"] for event in read(capsule, "note")] == ["before", "after"]
    (header,) = read(capsule, "recording")
    (crashed,) = read(capsule, "crash")
    assert (header["why"], header["crash"]) == ("crash", crashed["n"])
    assert "crash-top-Worker" in capsule.name
    assert [event["path"] for event in read(capsule, "spawned") if event.get("before")] == [
        "/top", "/top/Worker",
    ]  # fmt: skip


async def test_the_end_of_the_recorder_completes_a_capsule(
    runtime: Runtime, tmp_path: Path, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log)])
    async with open_recorder(capsules=Capsules(tmp_path)) as files:
        await crash(supervisor, "a")
    assert len(files.written) == 1


async def test_crashes_beyond_the_limit_are_counted(
    runtime: Runtime, tmp_path: Path, log: Log
) -> None:
    supervisor = await Supervisor.start([worker("a", log)], max_restarts=99)
    async with open_recorder(capsules=Capsules(tmp_path, after=1.0, limit=2)) as files:
        for _ in range(4):
            await crash(supervisor, "a")
            await crash(supervisor, "a")
            await trio.sleep(2)
        # The second crash of each pair belongs to the capsule of the first; there is none in the last two pairs.
        assert files.refused == 4
    assert len(files.written) == files.statistics()["capsules"] == 2


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ({}, True),
        ({"paths": ["/top/*"]}, True),
        ({"paths": ["/other/*"]}, False),
        ({"kinds": ["gave_up"]}, False),
        ({"selects": lambda trouble: trouble.fields["exception"] == "RuntimeError"}, True),
        ({"selects": lambda trouble: trouble.fields["exception"] == "KeyError"}, False),
    ],
)
async def test_a_rule_selects_crashes(
    runtime: Runtime, tmp_path: Path, log: Log, rule: dict[str, Any], wanted: bool
) -> None:
    supervisor = await Supervisor.start([worker("a", log)], label="top")
    async with open_recorder(capsules=Capsules(tmp_path, **rule)) as files:
        await crash(supervisor, "a")
    assert len(files.written) == wanted


async def test_a_file_that_cannot_be_written_any_more_does_not_harm_the_program(
    runtime: Runtime,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    async with open_recorder(file=tmp_path / "run.jsonl") as files:
        monkeypatch.setattr(module._ContinuousFile, "flush", full)
        files.recorder.note("hello")
    assert "no space left" in caplog.text
    assert "writes no more" in caplog.text


async def test_a_folder_that_cannot_be_made_ends_the_recording(
    runtime: Runtime, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        async with open_recorder(capsules=Capsules(tmp_path / "file" / "below")):
            pass
    assert runtime.instruments == ()


async def test_the_records_are_written_on_demand(runtime: Runtime, tmp_path: Path) -> None:
    async with open_recorder() as files:
        files.recorder.note("hello")
        await files.dump(tmp_path / "now.jsonl")
        assert [event["text"] for event in read(tmp_path / "now.jsonl", "note")] == ["hello"]


def test_a_damaged_file_is_read_up_to_the_damage_with_one_warning(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    note = b'{"n":%d,"t":0.0,"round":0,"task":0,"kind":"note","text":"x"}'
    good = [note % number for number in range(5)]
    write_lines(path, good)
    whole = path.read_bytes()
    assert read_recording(path) == (good, False)
    for cut in (
        whole[:-10],
        whole + b'{"n"',
        whole + b"\x00\x00\n" + good[0] + b"\n",
        whole + b"[]",
    ):
        path.write_bytes(cut)
        with pytest.warns(DamagedTrace) as warned:
            lines, damaged = read_recording(path)
        assert len(warned) == 1
        assert (lines, damaged) == (good[: len(lines)], True)
        assert len(lines) >= 4


def test_a_file_without_a_header_is_not_a_trace(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(InvalidTraceFile):
        read_recording(tmp_path / "x")


async def test_a_new_file_does_not_list_a_process_whose_end_is_in_the_old_one(
    runtime: Runtime, tmp_path: Path
) -> None:
    async with open_recorder() as files:
        # This writer has no thread, so it can write between two steps of the recorder.
        writer = module._Writer(files.recorder, 1.0)
        pid = spawn(trio.sleep_forever, label="short-lived")
        await trio.testing.wait_all_tasks_blocked()
        writer.record_to(tmp_path / "run.jsonl", max_bytes=1)

        def write_at_once(record: Any) -> None:
            writer._queue.append(record)
            if record[2] == "exited":
                assert writer._file is not None
                writer._drain(writer._file)

        files.recorder.pass_on(write_at_once)
        kill(pid)
        await wait_exit(pid)
        assert writer._file is not None
        writer._file.close()
    before, after = ((tmp_path / name).read_text() for name in ("run.jsonl.1", "run.jsonl"))
    assert "short-lived" in before
    assert "short-lived" not in after
