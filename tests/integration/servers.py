"""Examples in separate server processes, which end with the test."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.integration.forks import Program
from tests.patience import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]

_HANDED_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")
_ADDRESS = re.compile(r"https?://127\.0\.0\.1:(\d+)")


def free_port() -> int:
    """Return a free port outside the system's range of ephemeral ports.

    Port 0 would be one that it does. While a server is away, another program may then get its port. A client that
    tries to come back may even get it for its own end, and so be connected with itself.
    """
    first = int(_HANDED_OUT.read_text().split()[0]) if _HANDED_OUT.exists() else 32768
    # Above 10080, the last port that browsers refuse to connect to.
    for port in random.sample(range(11_000, first), 100):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue  # it is taken
        return port
    raise AssertionError(f"100 ports below {first} are all taken")


class Server:
    """An example that is served until it is stopped, killed or started again.

    The first start takes any `free_port`; later ones take the same port again.
    """

    def __init__(
        self,
        module: str,
        *,
        log: Path,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.module = module
        self._arguments = arguments
        self._environment = {**os.environ, **(environment or {})}
        self.port = 0
        self._log = log
        self._process: Program | None = None

    @property
    def pid(self) -> int:
        """Of the process that serves now."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/socket"

    def output(self) -> str:
        """Everything that was printed so far, by all starts."""
        return self._log.read_text() if self._log.exists() else ""

    def start(self) -> None:
        """Return once the address has been printed."""
        before = len(self.output())
        port = self.port or free_port()
        arguments = ("--port", str(port), *self._arguments)
        with self._log.open("ab") as log:
            self._process = process = Program(
                self.module, *arguments, stdout=log.fileno(), environment=self._environment
            )

        def served_or_ended() -> bool:
            return _ADDRESS.search(self.output(), before) is not None or process.poll() is not None

        wait_until(served_or_ended, self.output)
        found = _ADDRESS.search(self.output(), before)
        assert found is not None, f"{self.module} has ended: {self.output()}"
        self.port = int(found[1])

    def kill(self) -> None:
        """End it as a power cut would: no clean-up, no close frames."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)

    def stop(self) -> int:
        """End it in order, as its supervisor would, and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(PATIENCE)
        except TimeoutError:
            self.kill()
            raise AssertionError(f"{self.module} did not stop: {self.output()}") from None


@contextlib.contextmanager
def serving(
    module: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> Iterator[Server]:
    """Serve an example at a free port; its output goes to a file in the folder."""
    log = folder / f"{module}.log"
    server = Server(module, log=log, arguments=arguments, environment=environment)
    server.start()
    try:
        yield server
    finally:
        server.stop()
