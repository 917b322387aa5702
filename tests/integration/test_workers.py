"""Several workers serve one endpoint: rooms span them, and clients keep their channels through deaths and deploys."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.integration.servers import ROOT, free_port
from tests.integration.valkey import valkey
from tests.integration.worker_servers import (
    COMMAND,
    Member,
    WorkersServer,
    is_worker,
    serve_in,
    serving_with,
    settled,
)
from tests.patience import PATIENCE, until, wait_until

UPGRADE = (
    b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
ROLLING_CLIENTS = int(os.environ.get("ASHTREE_ROLLING_CLIENTS", "40" if DEEP else "20"))
"""The number of clients that talk while the server replaces its workers. For a run by hand, use 500."""

WORKERS_ONLY = [2] if hasattr(socket, "SO_REUSEPORT") and os.uname().sysname == "Linux" else []


@pytest.fixture(params=WORKERS_ONLY)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkersServer]:
    """A server with two workers."""
    with serving_with(tmp_path, request.param) as server:
        yield server


@pytest.fixture(params=WORKERS_ONLY, scope="module")
def quiet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkersServer]:
    """A server for tests that change nothing in it."""
    folder = tmp_path_factory.mktemp("workers")
    with serving_with(folder, request.param, environment={"MONITORED": "yes"}) as server:
        yield server


@pytest.fixture(params=WORKERS_ONLY, scope="module")
def lasting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkersServer]:
    """A server for tests that replace its workers and leave two workers that serve."""
    with serving_with(tmp_path_factory.mktemp("lasting"), request.param) as server:
        yield server


def wait_for_both(server: WorkersServer) -> None:
    wait_until(lambda: [each.state for each in server.workers()] == ["serving", "serving"])


@asynccontextmanager
async def members(
    server: WorkersServer, count: int, *, talks: bool = True
) -> AsyncIterator[list[Member]]:
    """Clients of one room that have all joined. Two or more clients are on two workers."""
    everybody: list[Member] = []

    async def come(number: int) -> None:
        for _ in range(number):
            everybody.append(Member(server.port, talks=talks))
            nursery.start_soon(everybody[-1].main)
        await until(lambda: all(each.where for each in everybody))

    async with trio.open_nursery() as nursery:
        await come(count)
        # The system chooses a worker for each connection at random, so it may choose the same one each time.
        while count > 1 and len({each.where["pid"] for each in everybody}) == 1:
            await come(1)
        yield everybody
        nursery.cancel_scope.cancel()


def of_worker(everybody: list[Member], pid: int) -> list[Member]:
    return [each for each in everybody if each.where["pid"] == pid]


async def all_hear(everybody: list[Member], speaker: Member, what: str) -> None:
    """Make one member send a message, and wait until all members have received it."""
    await until(lambda: all(each.is_in for each in everybody))
    await speaker.say(what)
    await until(lambda: all(what in each.heard for each in everybody))


# Rooms


async def test_a_room_spans_the_workers_and_everybody_hears_everything_once_and_in_order(
    quiet: WorkersServer,
) -> None:
    async with members(quiet, 12, talks=False) as everybody:
        assert {each.where["worker"] for each in everybody} == {"1", "2"}
        assert len({each.where["secret"] for each in everybody}) == 1, "they share a secret"
        for number in range(20):
            for speaker in everybody[:3]:
                await speaker.say([id(speaker), number])
        await until(lambda: all(len(each.heard) >= 60 for each in everybody))
        for each in everybody:
            assert len(each.heard) == 60
            for speaker in everybody[:3]:
                heard = [n for who, n in each.heard if who == id(speaker)]
                assert heard == list(range(20))


async def test_a_stopped_worker_delays_no_other_and_misses_nothing_when_it_goes_on(
    tmp_path: Path,
) -> None:
    with serving_with(tmp_path, 3) as server:
        async with members(server, 8, talks=False) as everybody:
            await all_hear(everybody, everybody[0], "hello")
            pid = everybody[0].where["pid"]
            others = [each for each in everybody if each.where["pid"] != pid]
            os.kill(pid, signal.SIGSTOP)
            # More than a socket of the system holds.
            said = [f"{number} {'x' * 20_000}" for number in range(50)]
            for what in said:
                await others[0].say(what)
            await until(lambda: all(each.heard == ["hello", *said] for each in others))
            assert everybody[0].heard == ["hello"]
            os.kill(pid, signal.SIGCONT)
            await until(lambda: all(each.heard == ["hello", *said] for each in everybody))
            assert all(not each.dropped for each in server.workers())


async def test_workers_of_an_endpoint_with_redis_meet_there_under_names_of_their_own(
    tmp_path: Path,
) -> None:
    with (
        valkey(tmp_path) as redis,
        serving_with(tmp_path, 2, environment={"REDIS_URL": redis.url}) as server,
    ):
        async with members(server, 8, talks=False) as everybody:
            assert {each.where["node"] for each in everybody} == {"app.1", "app.2"}
            await all_hear(everybody, everybody[0], "hello")
            assert all(each.heard == ["hello"] for each in everybody)
        assert [each.received for each in server.workers()] == [0, 0], (
            "not over sockets between the workers"
        )


async def test_a_killed_worker_is_replaced_and_the_clients_of_the_others_notice_nothing(
    lasting: WorkersServer,
) -> None:
    printed = len(lasting.output())
    restarts = sum(each.restarts for each in lasting.workers())
    async with members(lasting, 12) as everybody:
        victim = everybody[0].where["pid"]
        theirs = of_worker(everybody, victim)
        others = [each for each in everybody if each not in theirs]
        assert others
        os.kill(victim, signal.SIGKILL)
        await until(lambda: all(each.absences for each in theirs))
        for each in theirs:
            each.where = {}
            await each.ask()
        await until(lambda: all(each.where for each in theirs))
        await all_hear(everybody, theirs[0], "back again")
        assert all(not each.codes and not each.refused for each in others)
        assert all(not each.refused for each in theirs)
        assert all(len(each.absences) == 1 for each in theirs)
    wait_for_both(lasting)
    assert sum(each.restarts for each in lasting.workers()) == restarts + 1
    assert lasting.output()[printed:].count("was killed by SIGKILL") == 1


async def test_a_worker_that_somebody_stops_drains_while_another_takes_its_place(
    lasting: WorkersServer,
) -> None:
    printed = len(lasting.output())
    async with members(lasting, 12) as everybody:
        stopped = everybody[0].where["pid"]
        theirs = of_worker(everybody, stopped)
        os.kill(stopped, signal.SIGTERM)
        await until(lambda: all(each.absences for each in theirs))
        await all_hear(everybody, theirs[0], "back again")
        assert {code for each in theirs for code in each.codes} == {1012}
        assert all(not each.refused for each in everybody)
        assert all(len(each.absences) == (each in theirs) for each in everybody)
    assert "is stopping" in lasting.output()[printed:]
    await until(lambda: not is_worker(stopped))
    wait_for_both(lasting)


# Replacing


@pytest.mark.parametrize("count", [4 if DEEP else 2] if WORKERS_ONLY else [])
async def test_no_client_is_refused_or_stays_away_while_all_workers_are_replaced(
    tmp_path: Path, count: int
) -> None:
    with serving_with(tmp_path, count) as server:
        before = set(server.pids())
        async with trio.open_nursery() as nursery:
            pause = max(0.1, ROLLING_CLIENTS / 250)
            everybody = [
                Member(server.port, room=f"room:{number // 5}", pause=pause)
                for number in range(ROLLING_CLIENTS)
            ]
            for each in everybody:
                nursery.start_soon(each.main)
            # New clients also connect all the time.
            visits: list[bool] = []
            nursery.start_soon(visit, server, visits)
            await until(lambda: all(each.answered for each in everybody))
            started = trio.current_time()
            server.send(signal.SIGHUP)
            await until(lambda: f"replaced {count} workers" in server.output(), server.output)
            took = trio.current_time() - started
            for each in everybody:
                each.is_quiet = True
            await until(lambda: all(each.is_in for each in everybody))
            await until(lambda: all(each.where["pid"] not in before for each in everybody))
            # All clients are on new workers, and get the messages of the other clients again.
            for each in everybody:
                await each.say("after")
            await until(lambda: all(each.heard.count("after") >= 5 for each in everybody))
            nursery.cancel_scope.cancel()
        assert not any(map(is_worker, before))
        report = server.workers()
    absences = sorted(seconds for each in everybody for _, seconds in each.absences)
    print(
        f"\n{ROLLING_CLIENTS} clients, {count} workers: replaced in {took:.1f} s; {len(absences)} absences: median "
        f"{absences[len(absences) // 2]:.3f} s, longest {absences[-1]:.3f} s; {len(visits)} visits; said "
        f"{sum(each.said for each in everybody)}; clients of each worker {[each.connections for each in report]}"
    )
    assert all(visits)
    assert [each.refused for each in everybody] == [[]] * ROLLING_CLIENTS
    assert {code for each in everybody for code in each.codes} == {1012}
    # Each client reconnected at its first attempt every time.
    assert {attempts for each in everybody for attempts, _ in each.absences} == {1}
    assert all(each.absences for each in everybody)


async def visit(server: WorkersServer, visits: list[bool]) -> None:
    """Request a page again and again, each time over a new connection."""
    while True:
        with trio.fail_after(PATIENCE):
            stream = await trio.open_tcp_stream("127.0.0.1", server.port)
            async with stream:
                await stream.send_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
                answer = b"".join([chunk async for chunk in stream])
        visits.append(answer.startswith(b"HTTP/1.1 404"))
        await trio.sleep(0.02)


def test_systemd_learns_of_each_state_and_the_command_that_replaces_reports_failure(
    tmp_path: Path,
) -> None:
    if not WORKERS_ONLY:
        return
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(PATIENCE)

        def told() -> str:
            return manager.recv(10_000).decode()

        with serving_with(tmp_path, 1, environment={"NOTIFY_SOCKET": str(address)}) as server:
            replace = [
                *COMMAND,
                "workers",
                "--replace",
                "--health-socket",
                str(server.health_socket),
            ]
            assert told() == "READY=1\nSTATUS="
            (before,) = [each.pid for each in server.workers()]
            done = subprocess.run(replace, cwd=ROOT, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout == f"Replaced 1 worker of http://127.0.0.1:{server.port}.\n"
            (after,) = [each.pid for each in server.workers()]
            assert after != before
            assert told().startswith("RELOADING=1\nMONOTONIC_USEC=")
            assert told() == "READY=1\nSTATUS="
            server.broken.touch()
            done = subprocess.run(replace, cwd=ROOT, capture_output=True, text=True, check=False)
            server.broken.unlink()
            problem = "the replacement has ended, because worker 1 (place 1) exited with 1"
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.startswith(problem)
            assert [each.pid for each in server.workers()] == [after]
            assert told().startswith("RELOADING=1\n")
            assert told().startswith(f"READY=1\nSTATUS={problem}")
            server.send(signal.SIGTERM)
            assert told() == "STOPPING=1"
            assert server.wait() == 0


async def test_a_broken_application_does_not_replace_the_workers_that_serve(
    lasting: WorkersServer,
) -> None:
    printed = len(lasting.output())
    before = [each.pid for each in lasting.workers()]
    async with members(lasting, 4) as everybody:
        lasting.broken.touch()
        try:
            lasting.send(signal.SIGHUP)
            await until(lambda: "the replacement has ended" in lasting.output()[printed:])
        finally:
            lasting.broken.unlink()
        errors = lasting.output()[printed:].count("RuntimeError: the application is broken")
        assert errors == 1
        await all_hear(everybody, everybody[0], "still here")
        assert not any(each.absences for each in everybody)
    assert [each.pid for each in lasting.workers()] == before
    lasting.send(signal.SIGHUP)
    wait_until(lambda: "replaced 2 workers" in lasting.output()[printed:], lasting.output)
    assert not set(before) & {each.pid for each in lasting.workers()}
    assert settled(lasting)


# The parent


def test_the_parent_loads_nothing_of_the_application(quiet: WorkersServer) -> None:
    assert len(quiet.pids()) == 2
    assert quiet.pid not in quiet.pids()


async def test_workers_drain_and_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {"MONITORED": "yes", "TMPDIR": str(temporary), "NOTICE": "1"}
    with serving_with(tmp_path, 2, environment=environment) as server:
        pids = server.pids()
        async with members(server, 6) as everybody:
            server.send(signal.SIGKILL)
            server.wait()
            await until(lambda: server.output().count("the parent of the workers has ended") == 2)
            # During the notice, the workers still serve, but want no new clients.
            while await status_of_a_new_client(server, b"/health/ready") != b"503":
                pass
            assert await status_of_a_new_client(server, b"/health/workers") == b"503"
            await until(lambda: all(each.codes for each in everybody))
            assert {each.codes[0] for each in everybody} == {1012}
            await until(lambda: not any(map(is_worker, pids)))
        assert list(temporary.iterdir()) == []
        assert "Traceback" not in server.output()


def test_a_worker_that_imports_ends_with_its_parent(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    server = WorkersServer(tmp_path, 2, environment={"STUCK": "yes", "TMPDIR": str(temporary)})
    try:
        server.start()
        wait_until(server.pids, server.output)
        server.send(signal.SIGKILL)
        server.wait()
        wait_until(lambda: not any(map(is_worker, server.pids())), server.output)
        assert "it has ended before this worker served" in server.output()
        assert list(temporary.iterdir()) == []
    finally:
        server.close()


async def test_a_new_parent_waits_until_the_workers_of_a_killed_one_have_drained(
    tmp_path: Path,
) -> None:
    # The workers leave the internal port last.
    options = ("--internal-port", str(free_port()))
    with serving_with(tmp_path, 2, *options, environment={"NOTICE": "3"}) as server:
        old = server.pids()
        server.send(signal.SIGKILL)
        server.wait()
        printed = len(server.output())
        server.start()
        await until(lambda: "Serving on" in server.output()[printed:], server.output)
        assert not any(map(is_worker, old))
        assert f"port {server.port} is still in use" in server.output()[printed:]
        async with members(server, 4) as everybody:
            await all_hear(everybody, everybody[0], "hello again")


# Deep, because it repeats the steps of the tests of SIGTERM with the signal that test_quickstart.py sends.
@pytest.mark.deep
async def test_sigint_drains_all_workers(server: WorkersServer) -> None:
    async with members(server, 6) as everybody:
        server.send(signal.SIGINT)
        await until(lambda: all(each.codes for each in everybody))
        assert {each.codes[0] for each in everybody} == {1012}
    assert await trio.to_thread.run_sync(server.wait) == 0
    assert_nothing_is_left(server)


def assert_nothing_is_left(server: WorkersServer) -> None:
    assert not any(map(is_worker, server.pids()))
    assert not server.health_socket.exists()
    assert "Traceback" not in server.output()


async def test_a_signal_to_all_processes_at_once_drains_the_workers_too(
    server: WorkersServer,
) -> None:
    # systemd signals all processes of a unit, unless the unit has KillMode=mixed.
    async with members(server, 6) as everybody:
        for pid in server.pids():
            os.kill(pid, signal.SIGTERM)
        server.send(signal.SIGTERM)
        await until(lambda: all(each.codes for each in everybody))
        assert {each.codes[0] for each in everybody} == {1012}
    assert await trio.to_thread.run_sync(server.wait) == 0


async def test_sigterm_drains_all_workers_which_turn_new_clients_away(
    server: WorkersServer,
) -> None:
    async with members(server, 6) as everybody:
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            # This client never answers the closing frame, so its worker waits for the answer.
            slow.sendall(UPGRADE)
            assert slow.recv(12) == b"HTTP/1.1 101"
            server.send(signal.SIGTERM)
            while await status_of_a_new_client(server) != b"503":
                pass
        await until(lambda: all(each.codes for each in everybody))
        assert {each.codes[0] for each in everybody} == {1012}
    assert await trio.to_thread.run_sync(server.wait) == 0
    assert_nothing_is_left(server)


async def status_of_a_new_client(server: WorkersServer, path: bytes = b"/") -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", server.port)
    async with stream:
        await stream.send_all(b"GET %b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" % path)
        return (await stream.receive_some())[9:12]


async def test_no_connection_is_reset_while_the_workers_stop(server: WorkersServer) -> None:
    statuses: Counter[bytes] = Counter()
    refused = 0

    async def visit_until_the_end() -> None:
        nonlocal refused
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", server.port)
            except OSError:
                refused += 1
                return
            # A connection that the system resets raises here.
            statuses[await post(stream)] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(visit_until_the_end)
        await until(lambda: statuses[b"404"] > 20)
        server.send(signal.SIGTERM)
    assert set(statuses) <= {b"404", b"503"}, statuses
    assert refused == 6
    assert await trio.to_thread.run_sync(server.wait) == 0


async def post(stream: trio.SocketStream) -> bytes:
    """Send a POST, and return the status of the answer."""
    with trio.fail_after(PATIENCE):
        async with stream:
            await stream.send_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}")
            return bytes((await stream.receive_some())[9:12])


async def test_a_second_signal_ends_workers_that_do_not_stop(server: WorkersServer) -> None:
    async with members(server, 1, talks=False) as (member,):
        await member.push("busy")
        # The handler of this push blocks the worker, so the worker gives no answers.
        await until(lambda: sorted(each.answers for each in server.workers()) == [False, True])
        server.send(signal.SIGTERM)
        await until(lambda: sum(map(is_worker, server.pids())) == 1)
        server.send(signal.SIGINT)
        assert await trio.to_thread.run_sync(server.wait) == 128 + signal.SIGINT
    assert not any(map(is_worker, server.pids()))


# Health


def test_the_workers_command_shows_the_server_and_each_worker(quiet: WorkersServer) -> None:
    urllib_status(quiet)
    done = subprocess.run(
        [*COMMAND, "workers", "--health-socket", str(quiet.health_socket)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    lines = [line.rstrip() for line in done.stdout.splitlines() if line.strip()]
    assert lines[0].startswith(f"http://127.0.0.1:{quiet.port}, pid {quiet.pid}: serving, up ")
    rows = [line.split() for line in lines[2:]]
    assert [row[:2] for row in rows] == [["1", "1"], ["2", "2"]]
    assert sorted(int(row[2]) for row in rows) == sorted(quiet.pids())
    assert {row[3] for row in rows} == {"serving"}


def urllib_status(server: WorkersServer) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/")


def test_a_scrape_of_one_worker_has_the_figures_of_all(quiet: WorkersServer) -> None:
    text = (
        urllib.request.urlopen(f"http://127.0.0.1:{quiet.port}/metrics", timeout=PATIENCE)
        .read()
        .decode()
    )
    ids = {f"{each.id}" for each in quiet.workers()}
    assert set(re.findall(r'^ashtree_worker_up\{worker="(\d+)"\} 1.0$', text, re.MULTILINE)) == ids
    for worker in ids:
        assert f'process_cpu_seconds_total{{worker="{worker}"}}' in text
    ready = urllib.request.urlopen(f"http://127.0.0.1:{quiet.port}/health/ready", timeout=PATIENCE)
    answer = json.loads(ready.read())
    assert (ready.status, answer["status"]) == (200, "ready")
    assert answer["worker"] in ids
    every = urllib.request.urlopen(
        f"http://127.0.0.1:{quiet.port}/health/workers", timeout=PATIENCE
    )
    assert json.loads(every.read())["workers"] == dict.fromkeys(ids, "ready")


def internal_port(server: WorkersServer) -> int:
    wait_until(lambda: "the observer answer on" in server.output(), server.output)
    found = re.search(r"answer on http://127\.0\.0\.1:(\d+)$", server.output(), re.MULTILINE)
    assert found is not None
    return int(found[1])


async def asked(port: int, path: bytes) -> tuple[bytes, str]:
    """Send a request on a new connection, and return the status and the answer."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET %b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" % path)
        answer = b"".join([data async for data in stream])
        return answer[9:12], answer.decode()


async def test_the_workers_share_an_internal_port_through_a_replacement_and_a_drain(
    tmp_path: Path,
) -> None:
    environment = {"MONITORED": "yes", "NOTICE": "1"}
    options = ("--internal-port", "0")
    with serving_with(tmp_path, 2, *options, environment=environment) as server:
        port = await trio.to_thread.run_sync(internal_port, server)
        assert (await asked(server.port, b"/metrics"))[0] == b"404"
        status, text = await asked(port, b"/metrics")
        assert status == b"200"
        assert set(re.findall(r'^ashtree_worker_up\{worker="(\d)"\} 1.0', text, re.MULTILINE)) == {
            "1",
            "2",
        }
        server.send(signal.SIGHUP)
        await until(lambda: server.server().replacing)
        probes: Counter[bytes] = Counter()
        while not settled(server):
            probes[(await asked(port, b"/health/ready"))[0]] += 1
        # A probe never reaches a worker that leaves.
        assert set(probes) == {b"200"}
        # How many there are depends on the machine.
        assert probes.total() > 1
        async with members(server, 2):
            server.send(signal.SIGTERM)
            while (await asked(port, b"/health/ready"))[0] != b"503":
                pass
            assert (await asked(port, b"/health/live"))[0] == b"200"
            assert 'ashtree_draining{worker="' in (await asked(port, b"/metrics"))[1]
            assert await trio.to_thread.run_sync(server.wait) == 0
        assert "Traceback" not in server.output()


async def test_health_counts_clients_and_envelopes(quiet: WorkersServer) -> None:
    async with members(quiet, 6) as everybody:
        reports = await trio.to_thread.run_sync(quiet.workers)
        clients = Counter(each.where["worker"] for each in everybody)
        assert {str(each.id): each.connections for each in reports} == clients
        await until(lambda: all(each.received and each.sent for each in quiet.workers()))
        assert all(each.memory and each.cpu and not each.dropped for each in reports)


# Wrong inputs


BROKEN = "raise RuntimeError('no database here')\n"
STUCK = "import time\ntime.sleep(3600)\n"


MISTAKES = [
    (BROKEN, "app:endpoint", 1, "RuntimeError: no database here"),
    ("endpoint = 1\n", "app:endpoint", 2, "app.endpoint is not an Endpoint"),
    ("", "missing:endpoint", 2, "there is no module 'missing'"),
]


@pytest.mark.parametrize(("text", "target", "code", "said"), MISTAKES if WORKERS_ONLY else [])
def test_an_application_that_cannot_start_is_explained_once(
    tmp_path: Path, text: str, target: str, code: int, said: str
) -> None:
    (tmp_path / "app.py").write_text(text)
    done = serve_with_health(tmp_path, target, "--workers", "2")
    assert done.returncode == code, done.stderr
    assert done.stderr.count(said) == 1
    assert done.stdout == ""


@pytest.mark.parametrize("workers", ["2"] if WORKERS_ONLY else [])
def test_a_port_in_use_is_explained_once_and_starts_no_worker(tmp_path: Path, workers: str) -> None:
    (tmp_path / "app.py").write_text(BROKEN)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve_with_health(
            tmp_path, "app:endpoint", "--workers", workers, "--port", str(port)
        )
    assert done.returncode == 1
    assert done.stderr == (
        f"cannot listen on 127.0.0.1:{port}: the port is in use; stop the program that uses it, or choose another "
        "port\n"
    )


@pytest.mark.parametrize("workers", ["2"] if WORKERS_ONLY else [])
def test_an_application_that_takes_too_long_is_killed(tmp_path: Path, workers: str) -> None:
    (tmp_path / "app.py").write_text(STUCK)
    done = serve_with_health(tmp_path, "app:endpoint", "--workers", workers, "--start-timeout", "1")
    assert done.returncode == 1
    assert "worker 1 (place 1) did not start in time; killing it" in done.stderr


def test_a_worker_that_a_person_starts_says_how_to_start_it() -> None:
    done = subprocess.run(
        [*COMMAND[:1], "-m", "channels.cli.worker", "app:endpoint", "99"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert "start it with `ashtree serve MODULE:ENDPOINT --workers N`" in done.stderr


@pytest.mark.parametrize("workers", [(), *([("--workers", "1")] if WORKERS_ONLY else [])])
@pytest.mark.parametrize("module", ["broken", "missing", "fine"])
def test_with_json_the_reason_of_a_failed_start_is_a_line_of_the_log(
    tmp_path: Path, workers: tuple[str, ...], module: str
) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "fine.py").write_text(
        "from channels import Endpoint\nendpoint = Endpoint(sockets={})\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = serve_with_health(
            tmp_path, f"{module}:endpoint", "--log-format", "json", "--port", port, *workers
        )
    assert done.returncode > 0
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    reason = "in use" if workers or module == "fine" else module
    assert any(reason in line["message"] for line in lines), done.stderr
    assert {(line["level"], line["logger"]) for line in lines} == {("error", "ashtree")}


def test_with_json_the_address_is_a_line_of_json(tmp_path: Path) -> None:
    if not WORKERS_ONLY:
        return
    server = WorkersServer(tmp_path, 1, "--log-format", "json", "--log-level", "warning")
    try:
        server.serve()
        (line,) = [json.loads(line) for line in server.output().splitlines()]
        assert (
            line["message"]
            == f"Serving on http://127.0.0.1:{server.port} with 1 worker (Ctrl-C stops them)"
        )
        assert (line["level"], line["logger"]) == ("info", "ashtree")
    finally:
        server.close()


def serve_with_health(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    port = [] if "--port" in arguments else ["--port", "0"]
    return serve_in(folder, *arguments, *port, "--health-socket", str(folder / "health.sock"))
