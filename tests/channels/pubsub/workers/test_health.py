"""The health socket: who can use it, what it answers, and what happens when it cannot be opened or read."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from channels.pubsub.workers.health import (
    HealthError,
    Report,
    ServerReport,
    WorkerReport,
    all_folders,
    default_folder,
    path_for,
    read_health,
    serve_health,
)
from tests.patience import PATIENCE

# Over real sockets, which a virtual clock would run away from.
REAL_CLOCK = True

REPORTS: list[Report] = [
    ServerReport(
        address="http://127.0.0.1:4000",
        pid=1,
        state="serving",
        workers=1,
        uptime=1.5,
        restarts=0,
        replacing=False,
    ),
    WorkerReport(place=1, state="serving", restarts=0, id=1, pid=2, answers=True),
]


async def report() -> Sequence[Report]:
    await trio.lowlevel.checkpoint()
    return REPORTS


async def test_a_client_gets_the_reports(tmp_path: Path) -> None:
    path = tmp_path / "health.sock"
    async with serve_health(path, report):
        for _ in range(3):
            assert await trio.to_thread.run_sync(read_health, path) == REPORTS


async def test_the_answer_is_a_line_of_json_for_each_report(tmp_path: Path) -> None:
    path = tmp_path / "health.sock"
    async with serve_health(path, report), await trio.open_unix_socket(path) as client:
        answer = b"".join([chunk async for chunk in client])
    lines = [json.loads(line) for line in answer.splitlines()]
    assert [line["type"] for line in lines] == ["server", "worker"]


async def test_only_its_user_can_connect_and_nothing_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "health.sock"
    async with serve_health(path, report):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_clients_beyond_the_bound_get_no_answer_and_the_others_theirs(tmp_path: Path) -> None:
    path = tmp_path / "health.sock"
    go_on = trio.Event()

    async def slow() -> Sequence[Report]:
        await go_on.wait()
        return REPORTS

    async with serve_health(path, slow):
        clients = [await trio.open_unix_socket(path) for _ in range(20)]
        answers: list[bytes] = []

        async def read(client: trio.SocketStream) -> None:
            try:
                answers.append(b"".join([chunk async for chunk in client]))
            except trio.BrokenResourceError:
                answers.append(b"")

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for client in clients:
                    nursery.start_soon(read, client)
                while len(answers) < 4:
                    await trio.lowlevel.checkpoint()
                go_on.set()
    assert [bool(each) for each in answers] == [False] * 4 + [True] * 16
    for client in clients:
        await client.aclose()


async def test_the_socket_of_a_killed_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "health.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    async with serve_health(path, report):
        assert await trio.to_thread.run_sync(read_health, path) == REPORTS


async def test_the_socket_of_a_running_server_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "health.sock"
    async with serve_health(path, report):
        with pytest.raises(HealthError, match="another server uses the health socket"):
            async with serve_health(path, report):
                pass
        assert await trio.to_thread.run_sync(read_health, path) == REPORTS


@pytest.mark.parametrize(
    ("name", "problem"),
    [("a" * 200, "too long"), ("missing/missing/health.sock", "No such file"), ("file", "in use")],
)
async def test_a_socket_that_cannot_be_opened_is_explained(
    tmp_path: Path, name: str, problem: str
) -> None:
    (tmp_path / "file").write_text("data")
    with pytest.raises(HealthError, match=problem) as caught:
        async with serve_health(tmp_path / name, report):
            pass
    assert "--health-socket" in str(caught.value)
    assert caught.value.path == tmp_path / name


def test_a_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    default_folder().symlink_to(tmp_path)
    with pytest.raises(HealthError, match="belongs to another user"):
        trio.run(_open, path_for("127.0.0.1", 4000))


async def _open(path: Path) -> None:
    async with serve_health(path, report):
        pass


def test_the_default_folder_is_that_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert path_for("::1", 4000) == tmp_path / "ashtree" / "::1:4000.sock"
    trio.run(_open, path_for("::1", 4000))
    assert stat.S_IMODE((tmp_path / "ashtree").stat().st_mode) == 0o700
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_folder().name.startswith("ashtree-")


def test_a_unit_of_systemd_has_its_sockets_in_its_own_folder_where_root_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    for name in ("chat", "news"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path / name}:/run/other")
        assert default_folder() == tmp_path / name / "ashtree"
        trio.run(_open, path_for("127.0.0.1", 4000))
        # A unit does not see the servers of other units.
        assert all_folders(tmp_path) == [default_folder()]
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    monkeypatch.setattr(os, "getuid", lambda: 0)
    chat, news = tmp_path / "chat/ashtree", tmp_path / "news/ashtree"
    assert all_folders(tmp_path) == [default_folder(), chat, news]
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert all_folders(tmp_path) == [default_folder()]


def test_a_missing_server_is_explained(tmp_path: Path) -> None:
    with pytest.raises(HealthError, match="no server answers at the health socket"):
        read_health(tmp_path / "health.sock")


async def test_an_answer_of_something_else_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "health.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.sendall(b"220 mail ready\r\n")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, answer)
            with pytest.raises(
                HealthError, match="is not `ashtree serve --workers`, or has another version"
            ):
                await trio.to_thread.run_sync(read_health, path)
