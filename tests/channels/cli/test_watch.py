"""The files that `ashtree serve --reload` watches, and the changes that it reports."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from channels.cli import watch
from channels.cli.watch import Scan, changes, scan

FOLDERS = ("package", ".venv", "env", "node_modules", "__pycache__", ".git")


def write(path: Path, text: str, at: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))


def test_a_scan_finds_the_python_files_of_the_program_alone(tmp_path: Path) -> None:
    for folder in FOLDERS:
        write(tmp_path / folder / "module.py", "x = 1")
    write(tmp_path / "env" / "pyvenv.cfg", "")
    write(tmp_path / "main.py", "x = 1")
    write(tmp_path / "notes.txt", "no code")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "broken.py").symlink_to(tmp_path / "nowhere.py")
    found = [str(Path(path).relative_to(tmp_path)) for path in scan([tmp_path])]
    assert sorted(found) == ["main.py", "package/module.py"]


def test_a_folder_that_does_not_exist_has_no_files(tmp_path: Path) -> None:
    assert scan([tmp_path / "no"]) == {}


def test_a_change_is_a_new_time_a_new_size_a_new_file_or_a_missing_one(tmp_path: Path) -> None:
    for name in ("time", "size", "gone", "same"):
        write(tmp_path / f"{name}.py", "x = 1")
    before = scan([tmp_path])
    os.utime(tmp_path / "time.py", (5, 5))
    write(tmp_path / "size.py", "x = 12")
    write(tmp_path / "new.py", "")
    (tmp_path / "gone.py").unlink()
    changed = [Path(path).stem for path in changes(before, scan([tmp_path]))]
    assert changed == ["gone", "new", "size", "time"]


async def test_a_change_is_reported_once_after_all_files_were_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    writing = [{"a.py": (number, 1)} for number in range(4)]
    still = {"a.py": (9, 1)}
    later = {**still, "b.py": (1, 1)}
    scans = iter([writing[0], *writing, still, still, still, later, later])
    scanned: list[Scan] = []
    replaced: list[tuple[int, str]] = []

    def next_scan(_: Sequence[Path]) -> Scan:
        scanned.append(next(scans, later))
        return scanned[-1]

    async def replace(cause: str) -> None:
        replaced.append((len(scanned), cause))
        if len(replaced) == 2:
            scope.cancel()
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(watch, "scan", next_scan)
    with trio.CancelScope() as scope:
        await watch.watch_files([tmp_path], replace)
    assert replaced == [(7, "a.py"), (10, "b.py")]
