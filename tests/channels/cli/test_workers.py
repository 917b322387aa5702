"""The options and commands for workers: wrong inputs, the table, and what the parent loads."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import trio
from rich.console import Console

from actors.text import printable
from channels.cli import command as ashtree
from channels.cli import workers as cli
from channels.cli.workers import count_workers, table_of
from channels.pubsub.workers import health
from channels.pubsub.workers.health import Report, ServerReport, WorkerReport, serve_health

# Over real sockets, which a virtual clock would run away from.
REAL_CLOCK = True

Run = Callable[..., tuple[int, str, str]]

REPORT: list[Report] = [
    ServerReport(
        address="http://127.0.0.1:4000",
        pid=4711,
        state="serving",
        workers=3,
        uptime=7200.0,
        restarts=2,
        replacing=False,
    ),
    WorkerReport(
        place=1,
        id=1,
        pid=4712,
        state="serving",
        uptime=7199.5,
        restarts=0,
        answers=True,
        connections=123,
        topics=7,
        memory=58_000_000,
        cpu=61.25,
        received=10,
        sent=20,
    ),
    WorkerReport(place=2, id=4, pid=4713, state="serving", uptime=3.0, restarts=0, dropped=99),
    WorkerReport(place=3, state="waiting", restarts=2, last_end="was killed by SIGKILL"),
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command, and return its exit code, its standard output and its standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ashtree", *arguments])
        with pytest.raises(SystemExit) as left:
            ashtree.main()
        out, err = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, out, err

    return call


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def shown(report: list[Report]) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(table_of(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_fits_into_80_columns_and_shows_what_is_wrong() -> None:
    lines = [line.rstrip() for line in shown(REPORT).splitlines()]
    assert [line for line in lines if line] == [
        "http://127.0.0.1:4000, pid 4711: serving, up 2 h",
        "place worker  pid state        up clients memory    CPU restarts dropped",
        "    1      1 4712 serving     2 h     123  58 MB 61.2 s        0       0",
        "    2      4 4713 no answer 3.0 s       -      -      -        0      99",
        "    3      -    - waiting       -       -      -      -        2       0",
        "Place 3: its last worker was killed by SIGKILL.",
    ]


def test_the_entities_of_each_worker_are_shown() -> None:
    workers = [
        WorkerReport(place=place, id=place, state="serving", restarts=0, entities=count)
        for place, count in ((1, 512), (2, 0), (3, 488))
    ]
    assert "Entities: 512 in worker 1, 488 in worker 3." in shown([REPORT[0], *workers])


def test_a_replacement_is_shown() -> None:
    assert isinstance(REPORT[0], ServerReport)
    server = ServerReport(
        address="http://[::1]:4000",
        pid=1,
        state="serving",
        workers=1,
        uptime=1e6,
        restarts=0,
        replacing=True,
    )
    assert "http://[::1]:4000, pid 1: replacing its workers, up 12 d" in shown([server])


@pytest.mark.parametrize("option", [["--json"], []])
async def test_the_command_shows_all_servers_of_the_user(
    run: Run, folder: Path, option: list[str]
) -> None:
    async def report() -> list[Report]:
        await trio.lowlevel.checkpoint()
        return REPORT

    (folder / "ashtree").mkdir(mode=0o700)
    (folder / "ashtree" / "stale.sock").touch()
    async with serve_health(health.path_for("127.0.0.1", 4000), report):
        code, out, err = await trio.to_thread.run_sync(run, "workers", *option)
        assert (code, err) == (0, "")
        if option:
            assert [json.loads(line)["type"] for line in out.splitlines()] == [
                "server",
                "worker",
                "worker",
                "worker",
            ]
        else:
            assert "pid 4711: serving" in out


async def test_replacing_the_workers_needs_the_name_of_one_of_several_servers(
    run: Run, folder: Path
) -> None:
    async def report() -> list[Report]:
        await trio.lowlevel.checkpoint()
        return REPORT

    (folder / "ashtree").mkdir(mode=0o700)
    one, two = (health.path_for("127.0.0.1", port) for port in (4000, 4001))
    async with serve_health(one, report), serve_health(two, report):
        code, out, err = await trio.to_thread.run_sync(run, "workers", "--replace")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"name the socket of one with --health-socket: {one}, {two}" in err


async def test_the_workers_of_a_server_that_stops_are_not_replaced(run: Run, folder: Path) -> None:
    async def report() -> list[Report]:
        await trio.lowlevel.checkpoint()
        return [msgspec.structs.replace(REPORT[0], state="stopping"), *REPORT[1:]]

    async with serve_health(folder / "one.sock", report):
        code, out, err = await trio.to_thread.run_sync(
            run, "workers", "--replace", "--health-socket", str(folder / "one.sock")
        )
    assert (code, out) == (1, "")
    assert "http://127.0.0.1:4000 is stopping; its workers cannot be replaced" in err


def test_without_a_server_there_is_one_sentence(run: Run, folder: Path) -> None:
    code, out, err = run("workers")
    assert (code, out) == (1, "")
    assert f"none answers in {folder}/ashtree" in err
    assert err.count("\n") == 1


def test_a_socket_without_a_server_is_one_sentence(run: Run, folder: Path) -> None:
    code, out, err = run("workers", "--health-socket", str(folder / "none.sock"))
    assert (code, out) == (1, "")
    assert "no server answers at the health socket" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--workers", "0"], "'0'; write a number from 1 to 512, or auto"),
        (["--workers", "-1"], "write a number from 1"),
        (["--workers", "513"], "write a number from 1 to 512"),
        (["--workers", "four"], "write a number from 1"),
        (["--workers", "9" * 5000], "write a number from 1 to 512"),
        (["--workers", "²"], "write a number from 1"),
        (["--workers"], "--workers"),
        (["--workers", "2", "--start-timeout", "0"], "--start-timeout"),
    ],
)
def test_a_wrong_option_is_one_sentence(run: Run, arguments: list[str], part: str) -> None:
    code, out, err = run("serve", "chat:endpoint", "--port", "0", *arguments)
    assert (code, out) == (2, "")
    assert part in err
    assert err.count("\n") == 1


def test_an_error_has_no_control_characters(run: Run) -> None:
    code, _, err = run("workers", "--health-socket", "/no/\x1b[2J\x9b31m")
    assert code == 1
    assert printable(err, lines=True) == err
    assert r"\x1b[2J" in err


def test_auto_is_the_number_of_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    monkeypatch.setattr(cli, "check_platform", lambda: None)
    assert count_workers("auto") == 3
    assert count_workers("17") == 17
