"""Workers own keys in the table of their parent: takeovers after kills, stopped workers, and killed parents."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import WebSocketConnection

from tests.integration.worker_servers import WorkersServer, is_worker
from tests.patience import PATIENCE, until, wait_until
from tests.websockets import open_websocket

WORKERS_ONLY = [2] if hasattr(socket, "SO_REUSEPORT") and os.uname().sysname == "Linux" else []


class Peer:
    """A client of one worker."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection
        self._refs = 0
        self.pid = 0
        self.node = ""

    async def ask(self, event: str, **payload: Any) -> Any:
        """Push an event, and return the response."""
        self._refs += 1
        ref = str(self._refs)
        await self._connection.send_message(json.dumps(["0", ref, "keys:a", event, payload]))
        while True:
            _, answered, _, event, answer = json.loads(await self._connection.get_message())
            if event == "phx_reply" and answered == ref:
                assert answer["status"] == "ok", answer
                return answer["response"]

    async def acquire(self, key: str) -> Any:
        return await self.ask("acquire", key=key)

    async def asked(self, event: str, holds: Callable[[Any], object], **payload: Any) -> Any:
        """Push an event again and again, and return the first response that is as it should be."""
        with trio.fail_after(PATIENCE):
            while True:
                answer = await self.ask(event, **payload)
                if holds(answer):
                    return answer
                await trio.sleep(0.001)


@contextmanager
def serving(folder: Path, workers: int, **environment: str) -> Iterator[WorkersServer]:
    target = "tests.integration.arbiter_app:endpoint"
    server = WorkersServer(folder, workers, target=target, environment=environment)
    try:
        server.serve()
        yield server
    finally:
        server.close()


def serving_pids(server: WorkersServer) -> list[int | None]:
    """Return the processes that serve."""
    return [each.pid for each in server.workers() if each.state == "serving"]


@asynccontextmanager
async def peers(server: WorkersServer) -> AsyncIterator[tuple[Peer, Peer]]:
    """One client of each worker. The system chooses a worker for each connection at random."""
    async with AsyncExitStack() as streams, trio.open_nursery() as nursery:
        found: dict[int, Peer] = {}
        with trio.fail_after(PATIENCE):
            while len(found) < 2:
                stream = await trio.open_tcp_stream("127.0.0.1", server.port)
                await streams.enter_async_context(stream)
                host = f"127.0.0.1:{server.port}"
                peer = Peer(await open_websocket(nursery, stream, host, timeout=PATIENCE))
                await peer.ask("phx_join")
                state = await peer.ask("state")
                assert state["arbiter"] == "workers"
                peer.pid, peer.node = state["pid"], state["node"]
                found.setdefault(peer.pid, peer)
        one, other = found.values()
        yield one, other
        nursery.cancel_scope.cancel()


@pytest.fixture(params=WORKERS_ONLY)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkersServer]:
    with serving(tmp_path, request.param) as server:
        yield server


async def test_the_keys_of_a_killed_worker_are_free_at_once_and_the_others_are_told(
    server: WorkersServer,
) -> None:
    async with peers(server) as (one, other):
        fence = (await one.acquire("42"))["fence"]
        assert (await other.acquire("42")) == {"owner": one.node}
        os.kill(one.pid, signal.SIGKILL)
        killed = time.monotonic()

        state = await other.asked("state", lambda state: state["lost"])
        ((node, at),) = state["lost"]
        assert node == one.node
        # Both clocks are that of the machine. The lease of the arbiter in Redis would last 10 s.
        assert at - killed < 5.0
        answer = await other.acquire("42")
        assert answer["fence"] > fence


async def test_a_stopped_worker_keeps_its_keys_until_it_is_killed(server: WorkersServer) -> None:
    async with peers(server) as (one, other):
        await one.acquire("42")
        os.kill(one.pid, signal.SIGSTOP)
        try:
            for _ in range(20):
                assert await other.acquire("42") == {"owner": one.node}
                await trio.sleep(0.02)
        finally:
            os.kill(one.pid, signal.SIGKILL)
        await other.asked("acquire", lambda answer: "fence" in answer, key="42")


@pytest.mark.parametrize("workers", WORKERS_ONLY)
async def test_a_worker_that_has_stopped_serving_keeps_its_keys_until_its_process_has_ended(
    tmp_path: Path, workers: int
) -> None:
    with serving(tmp_path, workers, LINGER="yes") as server:
        async with peers(server) as (one, other):
            await one.acquire("42")
            os.kill(one.pid, signal.SIGTERM)
            await until(lambda: one.pid not in serving_pids(server))
            # Its thread could still write. Nobody else gets the key before the parent has reaped it.
            for _ in range(50):
                assert await other.acquire("42") == {"owner": one.node}
                await trio.sleep(0.02)
            assert is_worker(one.pid)
            os.kill(one.pid, signal.SIGKILL)
            await other.asked("acquire", lambda answer: "fence" in answer, key="42")
        for pid in server.pids():
            if is_worker(pid):
                os.kill(pid, signal.SIGKILL)


async def test_many_requests_at_once_are_answered_and_the_report_counts_the_keys(
    server: WorkersServer,
) -> None:
    async with peers(server) as (one, other):
        await one.ask("acquire_many", count=5000)
        await other.acquire("42")
        counts = {each.pid: each.entities for each in server.workers()}
        assert counts == {one.pid: 5000, other.pid: 1}


@pytest.mark.parametrize("workers", WORKERS_ONLY)
async def test_the_leases_of_the_workers_end_with_their_parent(
    tmp_path: Path, workers: int
) -> None:
    # During the notice, the workers still serve their clients.
    with serving(tmp_path, workers, NOTICE="60") as server:
        async with peers(server) as (one, other):
            await one.acquire("42")
            server.send(signal.SIGKILL)
            server.wait()
            for peer in (one, other):
                state = await peer.asked("state", lambda state: state["problem"])
                assert state["problem"] == "the parent of the workers has ended"
            assert "the session has ended" in (await one.acquire("42"))["problem"]


@pytest.mark.parametrize("workers", WORKERS_ONLY)
async def test_a_new_parent_waits_until_the_processes_of_old_workers_have_ended(
    tmp_path: Path, workers: int
) -> None:
    with serving(tmp_path, workers, LINGER="yes") as server:
        old = server.pids()
        assert len(old) == workers
        server.send(signal.SIGKILL)
        server.wait()
        printed = len(server.output())
        server.start()
        # The old workers have drained and released their port, but their processes live.
        await until(lambda: "its workers still run" in server.output()[printed:], server.output)
        assert all(map(is_worker, old))
        assert len(server.pids()) == workers
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: "Serving on" in server.output()[printed:], server.output)
        # Their threads would keep these workers from ending in order.
        for pid in server.pids():
            if is_worker(pid):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(is_worker, old)))
