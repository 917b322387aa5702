"""The lifeline of a worker: what happens to it when its parent has ended."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from channels.pubsub.adapter import WORKER, WORKERS_FOLDER
from channels.pubsub.workers.lifeline import Lifeline
from tests.patience import PATIENCE


class Ends:
    """A parent's end of the pipe, and a process that only notes its end."""

    def __init__(self) -> None:
        self.pipe, self.parent = os.pipe()
        self.code = 0
        self.sentence = ""
        self.ended = threading.Event()

    def end(self, code: int, sentence: str) -> None:
        self.code, self.sentence = code, sentence
        self.ended.set()

    def kill_parent(self) -> None:
        os.close(self.parent)


def listening(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    os.close(ends.pipe)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "sockets"
    folder.mkdir()
    # A worker that was killed has left this socket behind.
    listening(folder / "health-1.sock").close()
    monkeypatch.setenv(WORKERS_FOLDER, str(folder))
    monkeypatch.setenv(WORKER, "2")
    return folder


def test_a_worker_that_does_not_serve_yet_ends_with_its_parent(ends: Ends, folder: Path) -> None:
    lifeline = Lifeline(ends.pipe, ends.end)
    assert not lifeline.is_cut
    ends.kill_parent()
    assert ends.ended.wait(PATIENCE)
    assert lifeline.is_cut
    assert (ends.code, folder.exists()) == (1, False)
    assert "has ended before this worker served" in ends.sentence


def test_a_worker_that_serves_gets_its_time_to_drain(ends: Ends, folder: Path) -> None:
    lifeline = Lifeline(ends.pipe, ends.end)
    lifeline.serving(0.01)
    ends.kill_parent()
    assert ends.ended.wait(PATIENCE)
    assert (ends.code, folder.exists()) == (1, False)
    assert "did not stop within 0.01 s after the end of its parent" in ends.sentence


def test_a_worker_removes_the_folder_of_its_parent_only_if_the_parent_cannot(
    ends: Ends, folder: Path
) -> None:
    lifeline = Lifeline(ends.pipe, ends.end)
    lifeline.serving(0.0)
    lifeline.clean_up()
    assert folder.exists()
    ends.kill_parent()
    lifeline.clean_up()
    lifeline.clean_up()
    assert not folder.exists()
    assert ends.ended.wait(PATIENCE)


@pytest.mark.parametrize("is_serving", [False, True])
def test_the_folder_stays_while_another_worker_uses_it(
    ends: Ends, folder: Path, is_serving: bool
) -> None:
    own, other = folder / "health-2.sock", folder / "health-3.sock"
    lifeline = Lifeline(ends.pipe, ends.end)
    if is_serving:
        lifeline.serving(0.0)
    with listening(own), listening(other):
        ends.kill_parent()
        assert ends.ended.wait(PATIENCE)
        assert list(folder.iterdir()) == [other]
    lifeline.clean_up()
    assert not folder.exists()
