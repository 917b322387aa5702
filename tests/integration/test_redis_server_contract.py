"""The suite of tests/contracts/test_redis_servers.py, on a real Valkey server: what simulations run on is like it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from tests.contracts import test_redis_servers as contract
from tests.contracts.test_redis_servers import Start
from tests.integration.valkey import Valkey, valkey

# The tests only, and not their fixtures, which have a server in memory.
globals().update({name: each for name, each in vars(contract).items() if name.startswith("test_")})


class Real:
    """A server on a port."""

    def __init__(self, started: Valkey) -> None:
        self._started = started

    async def connect(self) -> trio.abc.Stream:
        # A small buffer from the beginning, so that what a client does not read soon waits in the server.
        sock = trio.socket.socket()
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 65536)
        await sock.connect(("127.0.0.1", self._started.port))
        return trio.SocketStream(sock)

    async def restart(self) -> None:
        await trio.to_thread.run_sync(self._started.kill)
        await trio.to_thread.run_sync(self._started.start)

    def pause(self) -> None:
        self._started.stop()

    def resume(self) -> None:
        self._started.cont()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    with valkey(tmp_path_factory.mktemp("valkey")) as started:
        yield Real(started)


@pytest.fixture
def server(shared: Real) -> Real:
    return shared


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        async def started(password: str | None = None, max_output_bytes: int | None = None) -> Real:
            config = {} if password is None else {"requirepass": password}
            if max_output_bytes is not None:
                limit = f"pubsub {max_output_bytes} {max_output_bytes} 0"
                config["client-output-buffer-limit"] = limit
            return Real(stack.enter_context(valkey(tmp_path, config)))

        yield started
